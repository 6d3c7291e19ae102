"""A user's function of one example, traced once: its spec as tf.data would infer it, and what it may not contain."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.graph.element import Element, describe_spec
from tfjax.graph.moment import Moment
from tfjax.graph.stages import Filter, Map, RandomMap
from tfjax.ops.strength import number_at
from tfjax.spec import Structure

RANDOM_OPS = frozenset(
    """RandomUniform RandomUniformInt RandomStandardNormal TruncatedNormal ParameterizedTruncatedNormal RandomGamma
    RandomPoisson RandomPoissonV2 RandomShuffle Multinomial RngReadAndSkip RngSkip StatefulUniform StatefulUniformInt
    StatefulUniformFullInt StatefulStandardNormal StatefulStandardNormalV2 StatefulTruncatedNormal
    StatefulRandomBinomial RandomCrop SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
    FixedUnigramCandidateSampler LogUniformCandidateSampler UniformCandidateSampler LearnedUnigramCandidateSampler
    AllCandidateSampler RandomDataset RandomDatasetV2 AnonymousSeedGenerator AnonymousRandomSeedGenerator""".split()
)
WRITES = (
    "Assign",
    "Scatter",
    "ResourceApply",
    "ResourceSparseApply",
    "LookupTableInsert",
    "LookupTableRemove",
)
_RESOURCE_SCATTER = "ResourceScatter"
PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
# Stateful for TensorFlow, but of no consequence where nobody reads what they return; functions are looked into.
WITHOUT_EFFECT = frozenset(
    """Placeholder VarHandleOp ReadVariableOp ResourceGather HashTableV2 MutableHashTableV2 LookupTableFindV2
    LookupTableSizeV2 If While Case StatefulPartitionedCall""".split()
)
SEED_SPEC = tf.TensorSpec((2,), tf.int64)


@dataclass(frozen=True, eq=False)
class Function:
    """A stage's function over flat leaves; a random one takes a seed after them, and one that varies its numbers."""

    name: str
    concrete: Any
    takes: Element
    element: Element
    random: bool
    is_predicate: bool
    strengths: tuple[Any, ...]
    decodes: bool
    python: bool
    has_effects: bool
    has_composites: bool

    def numbers(self, moment: Moment) -> list[tf.Tensor]:
        """What its strengths are at a moment, each a float32 scalar."""
        return [number_at(s, moment.step, moment.values) for s in self.strengths]

    def __call__(
        self, leaves: Sequence[tf.Tensor], seed: tf.Tensor | None = None, numbers: Sequence[tf.Tensor] = ()
    ) -> list[tf.Tensor]:
        """Apply it to the leaves of one example."""
        return list(self.concrete(*self._arguments(leaves, seed, numbers)))

    def inline(
        self, leaves: Sequence[tf.Tensor], seed: tf.Tensor | None = None, numbers: Sequence[tf.Tensor] = ()
    ) -> list[tf.Tensor]:
        """The same as ops of the graph that is being traced, where what nobody reads is pruned one by one."""
        if self.has_effects or self.has_composites or tf.executing_eagerly():
            return self(leaves, seed, numbers)
        graph = self.concrete.graph
        # An identity brings a tensor of the graph around this one into it.
        here = [*map(tf.identity, numbers)]
        given = [*self._arguments(leaves, seed, here), *map(tf.identity, self.concrete.captured_inputs)]
        definition, replaced = graph.as_graph_def(), {t.op.name for t in graph.inputs}
        kept = [node for node in definition.node if node.name not in replaced]
        del definition.node[:]
        definition.node.extend(kept)
        used = {name.lstrip("^").split(":")[0] for node in kept for name in node.input}
        feeds = {t.name: v for t, v in zip(graph.inputs, given, strict=True) if t.op.name in used}
        names = [t.name for t in self.concrete.outputs]
        return list(tf.graph_util.import_graph_def(definition, input_map=feeds, return_elements=names, name="fn"))

    def _arguments(
        self, leaves: Sequence[tf.Tensor], seed: tf.Tensor | None, numbers: Sequence[tf.Tensor]
    ) -> list[Any]:
        return [*leaves, *([seed] if self.random else []), *numbers]

    def passes_through(self) -> dict[int, int]:
        """Output leaf to input leaf, where the function hands a leaf on as it came."""
        if self.has_composites:
            return {}  # ragged leaves are several tensors each
        inputs = {id(t): i for i, t in enumerate(self.concrete.graph.inputs[: len(self.takes.specs)])}
        found = {}
        for out, tensor in enumerate(self.concrete.outputs):
            source = tensor
            while source.op.type == "Identity":
                source = source.op.inputs[0]
            if id(source) in inputs:
                found[out] = inputs[id(source)]
        return found

    def untouched(self, output: int) -> int | None:
        """The input leaf that an output leaf is, where nothing else is computed from it; None otherwise.

        A predicate's one output stands for all of its element, which it hands on.
        """
        passes = self.passes_through()
        if self.is_predicate:
            return None if output in self.reads([0]) else output
        computed = set(range(len(self.element.specs))) - passes.keys()
        leaf = passes.get(output)
        return None if leaf in self.reads(computed) else leaf

    def reads(self, outputs: Iterable[int]) -> set[int]:
        """The input leaves that some output leaves are computed from."""
        if self.has_effects or self.has_composites:
            return set(range(len(self.takes.specs)))
        inputs = {id(t.op): i for i, t in enumerate(self.concrete.graph.inputs[: len(self.takes.specs)])}
        waiting, seen, found = [self.concrete.outputs[o].op for o in outputs], set(), set()
        while waiting:
            op = waiting.pop()
            if id(op) in seen:
                continue
            seen.add(id(op))
            if id(op) in inputs:
                found.add(inputs[id(op)])
            waiting += [t.op for t in op.inputs] + list(op.control_inputs)
        return found


def trace(stage: Map, element: Element) -> Function:
    """Trace a stage's function on symbolic leaves of `element`.

    Raises:
        TypeError: the function calls JAX, or returns something that is no tensor.
        ValueError: it holds a stateful random op, or an op that writes a variable or table.
    """
    structures: list[Structure] = []
    autograph = tf.__internal__.autograph
    ours = stage.op is not None or (stage.name is not None and not stage.decodes)
    fn = stage.fn if ours else autograph.tf_convert(stage.fn, autograph.control_status_ctx())

    def flat(*leaves: tf.Tensor) -> list[tf.Tensor]:
        count = len(element.specs)
        example = element.structure.unflatten(leaves[:count])
        returned = _call(stage, fn, (example, *leaves[count:]))
        # As Dataset.map has it: a list is a tuple at the top, and a tensor further down.
        out, structure = element.structure.flatten(tuple(returned) if isinstance(returned, list) else returned)
        if not out:
            raise SpecError(f"{stage.describe()} returns no leaf: return at least one tensor")
        structures.append(structure)
        return [_to_tensor(stage, leaf, path) for leaf, path in zip(out, structure.paths, strict=True)]

    numbers = [tf.TensorSpec((), tf.float32)] * len(stage.strengths)
    specs = [*element.specs, *([SEED_SPEC] if isinstance(stage, RandomMap) else []), *numbers]
    concrete = tf.function(flat, autograph=False).get_concrete_function(*specs)
    operations = list(operations_of(concrete.graph))
    refuse_state(stage.describe(), operations)
    out_specs = tuple(tf.type_spec_from_value(t) for t in concrete.structured_outputs)
    out = Element(out_specs, structures[-1], element.host_keys & set(filter(None, structures[-1].keys)))
    if isinstance(stage, Filter):
        _require_boolean(stage, out)
    flat_specs = (*element.specs, *out.specs)
    return Function(
        name=stage.describe(),
        concrete=concrete,
        takes=element,
        element=out,
        random=isinstance(stage, RandomMap),
        is_predicate=isinstance(stage, Filter),
        strengths=stage.strengths,
        decodes=stage.decodes,
        python=any(op.type in PYTHON_OPS for op in operations),
        has_effects=any(op.op_def.is_stateful and op.type not in WITHOUT_EFFECT for op in operations),
        has_composites=not all(isinstance(s, tf.TensorSpec) for s in flat_specs),
    )


def _call(stage: Map, fn: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return fn(*arguments)
    except Exception as error:
        if _raised_by_jax(error):
            raise TypeError(
                f"{stage.describe()} calls JAX on a symbolic tensor: graph functions use TensorFlow ops; "
                "put JAX functions of a batch into device_map"
            ) from error
        if isinstance(error, TypeError) and "positional argument" in str(error):
            takes = "one example and a seed" if isinstance(stage, RandomMap) else "one example"
            raise TypeError(
                f"{stage.describe()} is called with {takes}, here {_kind(arguments[0])}, and takes other arguments: "
                "unpack the example inside the function"
            ) from error
        if isinstance(error, KeyError) and error.args and isinstance(arguments[0], dict):
            named = re.search(r"KeyError: (.+)", str(error))  # AutoGraph puts a traceback into the argument
            key = named[1].strip('"\\') if named else repr(error.args[0])
            keys = ", ".join(map(repr, arguments[0]))
            raise KeyError(f"{stage.describe()}: no key {key}; the keys are {keys}") from error
        raise


def _kind(example: Any) -> str:
    return f"a {type(example).__name__}" + (f" of {len(example)}" if isinstance(example, tuple) else "")


def _raised_by_jax(error: BaseException | None) -> bool:
    """Whether JAX is in the traceback; JAX and AutoGraph each hide frames, which they keep elsewhere."""
    while error is not None:
        frames = [str(f.f_globals.get("__name__")) for f, _ in traceback.walk_tb(error.__traceback__)]
        hidden = getattr(getattr(error, "ag_error_metadata", None), "translated_stack", ())
        if any(name.split(".")[0] in ("jax", "jaxlib") for name in frames):
            return True
        if any(f"{os.sep}jax{os.sep}" in frame.filename for frame in hidden):
            return True
        error = error.__cause__ or error.__context__
    return False


def _to_tensor(stage: Map, leaf: Any, path: str) -> Any:
    if isinstance(leaf, tf.RaggedTensor | tf.SparseTensor | tf.data.Dataset):
        return leaf  # a later function may make it dense; `batch` refuses what is left
    try:
        return tf.convert_to_tensor(leaf)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{stage.describe()} returns {type(leaf).__name__} at {path}, which is no tensor: return a structure of "
            "tensors, numbers or strings"
        ) from error


def operations_of(graph: Any) -> Iterable[Any]:
    """Every op of a traced graph and of the functions that it calls."""
    yield from graph.get_operations()
    for function in graph._functions.values():  # the only list of a FuncGraph's library
        inner = getattr(function, "graph", None)
        yield from inner.get_operations() if inner is not None else ()


def refuse_state(what: str, operations: Iterable[Any]) -> None:
    """Raise ValueError where one of the ops of `what` is random by a state, or writes one."""
    for op in operations:
        if op.type in RANDOM_OPS:
            raise ValueError(
                f"{what} holds the stateful random op {op.type} ({op.name}), which cannot be repeated or "
                "resumed: use random_map(fn) with fn(example, seed) and tf.random.stateless_*"
            )
        writes = op.type.startswith(WRITES) and any(t.dtype == tf.resource for t in op.inputs)
        if writes or op.type.startswith(_RESOURCE_SCATTER):
            raise ValueError(
                f"{what} holds {op.type} ({op.name}), which writes a variable or table: a graph that is "
                "run in parallel and resumed may only read; compute the value before, or in the train step"
            )


def _require_boolean(stage: Map, out: Element) -> None:
    spec = out.specs[0] if len(out.specs) == 1 else None
    if not (isinstance(spec, tf.TensorSpec) and spec.dtype == tf.bool and spec.shape.rank == 0):
        shown = ", ".join(describe_spec(s) for s in out.specs)
        raise TypeError(f"{stage.describe()} returns {shown}: a predicate returns one boolean scalar")
