"""The plan of a chain: indexed where its source can fetch by index, streaming otherwise."""

from __future__ import annotations

from collections.abc import Callable

from tfjax.graph.element import Element
from tfjax.graph.fold import Functions
from tfjax.graph.indexed import IndexedPlan
from tfjax.graph.plan import Plan, origin_of
from tfjax.graph.stages import Chain
from tfjax.graph.stream import StreamPlan
from tfjax.sources.stream import Stream


def make_plan(chain: Chain, functions: Functions, element: Element, *, accelerated: Callable[[], bool]) -> Plan:
    """Plan a chain whose last stage yields `element`.

    Args:
        chain: the stages.
        functions: the traced function of each.
        element: what they yield.
        accelerated: whether batches go to an accelerator.

    Raises:
        SpecError: a leaf cannot be batched.
    """
    streams = isinstance(origin_of(chain).source, Stream)
    if streams:
        return StreamPlan(chain, functions, element)
    return IndexedPlan(chain, functions, element, accelerated=accelerated)
