"""The plan of a chain: indexed where its source can fetch by index, streaming otherwise."""

from __future__ import annotations

from tfjax.graph.element import Element
from tfjax.graph.fold import Functions
from tfjax.graph.indexed import IndexedPlan
from tfjax.graph.plan import Plan, origin_of
from tfjax.graph.stages import Chain
from tfjax.graph.stream import StreamPlan
from tfjax.sources.stream import Stream


def make_plan(chain: Chain, functions: Functions, element: Element) -> Plan:
    """Plan a chain whose last stage yields `element`.

    Raises:
        SpecError: a leaf cannot be batched.
    """
    streams = isinstance(origin_of(chain).source, Stream)
    return StreamPlan(chain, functions, element) if streams else IndexedPlan(chain, functions, element)
