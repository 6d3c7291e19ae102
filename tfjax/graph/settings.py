"""How a graph is run: tf.data.Options and the few numbers beside them, merged from the `options` stages."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tfjax._tensorflow import tf
from tfjax.graph.stages import Chain, Options

_RAM_BUDGET_BYTES = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """The last value given for each setting."""

    parallel_calls: int = tf.data.AUTOTUNE
    prefetch_batches: int = tf.data.AUTOTUNE
    ram_budget_bytes: int = _RAM_BUDGET_BYTES
    caches: bool = True
    tf_options: tf.data.Options | None = None

    def apply(self, dataset: tf.data.Dataset, *, rewrite: bool = True) -> tf.data.Dataset:
        """Prefetch at the end of the graph, and set its options.

        Args:
            dataset: the graph.
            rewrite: let tf.data look for rewrites, which takes 40 ms when an iterator is made.
        """
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = rewrite
        options.autotune.ram_budget = self.ram_budget_bytes
        if self.tf_options is not None:
            options = options.merge(self.tf_options)
        options.deterministic = True
        return dataset.prefetch(self.prefetch_batches).with_options(options)


def graph_settings(chain: Chain) -> GraphSettings:
    """Merge the options of a chain; the last one given holds."""
    given = {}
    for stage in chain:
        if isinstance(stage, Options):
            given.update({f.name: v for f in fields(stage) if (v := getattr(stage, f.name)) is not None})
    return GraphSettings(**given)


def check_tf_options(options: tf.data.Options) -> None:
    """Raise where an option would change the order of batches, or is no tf.data.Options at all."""
    if not isinstance(options, tf.data.Options):
        raise TypeError(f"options: tf_options is a {type(options).__name__}: pass a tf.data.Options")
    if options.deterministic is False or options.experimental_deterministic is False:
        raise ValueError("options: deterministic=False contradicts the order that the seed fixes: leave it out")
    if options.autotune.ram_budget is not None:
        raise ValueError("options: tf_options sets autotune.ram_budget: pass ram_budget_bytes= instead")
    if options.experimental_slack:
        raise ValueError("options: experimental_slack=True needs a prefetch that tfjax owns: leave it out")
