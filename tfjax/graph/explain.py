"""A pipeline's plan in words: its stages, the source, what was decided, and what each leaf becomes."""

from __future__ import annotations

from tfjax._tensorflow import tf
from tfjax.graph.element import Element, describe_spec
from tfjax.graph.fold import Functions
from tfjax.graph.indexed import IndexedPlan
from tfjax.graph.narrow import narrowed
from tfjax.graph.plan import Plan, origin_of
from tfjax.graph.settings import graph_settings
from tfjax.graph.stages import Chain, Filter, Map
from tfjax.spec import format_bytes


def explain(chain: Chain, plan: Plan, functions: Functions, *, narrow: bool) -> str:
    """The plan as text, one fact a line."""
    lines = [_kind(chain, plan), "stages:"]
    lines += [f"  {stage.describe()}" for stage in chain]
    lines += ["plan:", *(f"  {line}" for line in _decisions(chain, plan, functions))]
    lines += ["leaves:", *(f"  {line}" for line in _leaves(plan, narrow=narrow))]
    return "\n".join(lines)


def _kind(chain: Chain, plan: Plan) -> str:
    origin = origin_of(chain)
    if plan.kind == "indexed":
        return f"indexed: {origin.describe()} fetches any row, so order is exact and resuming costs nothing"
    return f"streaming: {origin.describe()} can only be read from its beginning"


def _decisions(chain: Chain, plan: Plan, functions: Functions) -> list[str]:
    out = [*plan.notes]
    if isinstance(plan, IndexedPlan):
        out = [*plan.rows.describe(), *out, *_counts(plan)]
    python = [f.name for s, f in functions.items() if isinstance(s, Map) and f.python]
    if python:
        out.append(f"Python in the graph: {', '.join(python)}; it holds the interpreter lock")
    if plan.is_batched:
        out += filter(None, (_widened(plan.element, i, chain, functions) for i in range(len(plan.element.specs))))
    settings = graph_settings(chain)
    calls = "AUTOTUNE" if settings.parallel_calls == tf.data.AUTOTUNE else settings.parallel_calls
    ahead = "AUTOTUNE" if settings.prefetch_batches == tf.data.AUTOTUNE else settings.prefetch_batches
    out.append(f"{calls} parallel calls, prefetch {ahead}, ram budget {format_bytes(settings.ram_budget_bytes)}")
    return out


def _widened(element: Element, leaf: int, chain: Chain, functions: Functions) -> str | None:
    """What it costs that an image which was uint8 is floats before batch."""
    path, spec = element.structure.paths[leaf], element.specs[leaf]
    if not (_is_image(spec) and spec.dtype.is_floating):
        return None
    read = {leaf}
    for stage in reversed([s for s in chain if isinstance(s, Map) and not isinstance(s, Filter)]):
        read = functions[stage].reads(read)
        given = [functions[stage].takes.specs[i] for i in read]
        if {spec.dtype for spec in given if _is_image(spec)} == {tf.uint8}:
            return (
                f"{path} becomes {spec.dtype.name} in {stage.describe()}, before batch: {spec.dtype.size} bytes a "
                "value to move instead of 1; uint8, and on_device.normalize in device_map, cost less"
            )
    return None


def _is_image(spec: tf.TypeSpec) -> bool:
    return isinstance(spec, tf.TensorSpec) and (spec.shape.rank or 0) >= 3


def _counts(plan: IndexedPlan) -> list[str]:
    batches, rows = plan.batches, plan.rows.length
    if batches.batch is None:
        return [f"{batches.count} examples an epoch"]
    out = f"{batches.count} batches an epoch from {rows} examples"
    left = batches.left_out(rows)
    tail = batches.tail(rows)
    out += f", {left} left out" if left else ""
    out += f", the last batch has {tail}" if tail else ""
    if batches.stack is None:
        return [out]
    short = batches.count % batches.depth
    shorter = f", the last of {short}" if short else ""
    return [out, f"{batches.steps} stacks of {batches.depth} batches{shorter}, each fetched at once"]


def _leaves(plan: Plan, *, narrow: bool) -> list[str]:
    out = []
    for i, (path, spec) in enumerate(plan.element.leaves()):
        dtype = narrowed(plan.element, i, narrow=narrow) if isinstance(spec, tf.TensorSpec) else None
        became = f", narrowed to {dtype.name} and checked" if dtype is not None and dtype != spec.dtype else ""
        host = ", kept on the host" if plan.element.on_host(i) else ""
        out.append(f"{path}: {describe_spec(spec)}{became}{host}")
    return out
