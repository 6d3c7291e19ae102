"""What tells one pipeline from another, part by part; and a digest of its first example."""

from __future__ import annotations

from typing import Any

from tfjax._tensorflow import tf
from tfjax.graph.element import describe_spec
from tfjax.graph.indexed import IndexedPlan
from tfjax.graph.key import digest
from tfjax.graph.moment import Moment
from tfjax.graph.order import golden_permutation
from tfjax.graph.plan import Plan, origin_of
from tfjax.graph.rows import FAILURES
from tfjax.graph.stages import Chain, named_stages, pipeline_seed


def parts(chain: Chain, plan: Plan) -> dict[str, Any]:
    """Named values of JSON types that together identify the batches of a pipeline.

    User functions are known by module and qualified name, and by the `version` given to `map`.
    """
    origin = origin_of(chain)
    spec = {path: describe_spec(s) for path, s in plan.element.leaves()}
    named = {
        "source": origin.source.identity,
        "spec": spec,
        "seed": pipeline_seed(chain),
        "permutation": golden_permutation(),
    }
    return {**named, **{name: stage.describe() for name, stage in named_stages(chain).items()}}


def probe(plan: Plan) -> str:
    """A digest of the first example of epoch 0, which sees closures, tables and decoders; empty for a stream."""
    plan = plan.on_host
    if not isinstance(plan, IndexedPlan) or plan.rows.length == 0:
        return ""
    plan.check()
    try:
        return digest(plan.rows.fetch(Moment.start(), tf.zeros((1,), tf.int64)).leaves)[:8]
    except FAILURES:  # what fails is said when it is delivered
        return ""
