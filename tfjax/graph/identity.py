"""What tells one pipeline from another, part by part; and a digest of its first example."""

from __future__ import annotations

from typing import Any

from tfjax._tensorflow import tf
from tfjax.graph.element import describe_spec
from tfjax.graph.fold import pipeline_seed
from tfjax.graph.indexed import IndexedPlan
from tfjax.graph.kept import digest
from tfjax.graph.order import golden_permutation
from tfjax.graph.plan import Plan, origin_of
from tfjax.graph.rows import FAILURES
from tfjax.graph.stages import Cache, Chain, KeepOnHost, Options, Origin, Place, Seed, stage_name

# How a graph is run, where batches go and what is kept of it never change a batch.
_WITHOUT_EFFECT = (Origin, Seed, Options, Cache, Place, KeepOnHost)


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
    kept = [s for s in chain if not isinstance(s, _WITHOUT_EFFECT)]
    return {**named, **{f"{i} {stage_name(s)}": s.describe() for i, s in enumerate(kept, 1)}}


def probe(plan: Plan) -> str:
    """A digest of the first example of epoch 0, which sees closures, tables and decoders; empty for a stream."""
    if not isinstance(plan, IndexedPlan) or plan.rows.length == 0:
        return ""
    plan.check()
    try:
        return digest(plan.rows.fetch(tf.constant(0, tf.int64), tf.zeros((1,), tf.int64)).leaves)[:8]
    except FAILURES:  # what fails is said when it is delivered
        return ""
