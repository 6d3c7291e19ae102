"""The plan of a chain: indexed where its source can fetch by index, streaming otherwise."""

from __future__ import annotations

from tfjax.graph.fold import Functions
from tfjax.graph.indexed import IndexedPlan
from tfjax.graph.plan import Plan, origin_of
from tfjax.graph.stages import Chain
from tfjax.graph.stream import StreamPlan
from tfjax.sources.foreign import Foreign


def make_plan(chain: Chain, functions: Functions) -> Plan:
    """Plan a chain.

    Raises:
        SpecError: a leaf cannot be batched or delivered.
        ValueError: an epoch would have no batch.
    """
    streams = isinstance(origin_of(chain).source, Foreign)
    return StreamPlan(chain, functions) if streams else IndexedPlan(chain, functions)
