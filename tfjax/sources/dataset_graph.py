"""What a tf.data graph is made of, read off its GraphDef: buffers, stateful ops, shuffles, a hash of its structure.

>>> dataset = tf.data.Dataset.range(100).shuffle(10, seed=1).batch(5)
>>> graph = dataset_graph(dataset)
>>> graph.buffers()
[('shuffle(10)', 80)]
>>> graph.reshuffles
True
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tfjax._tensorflow import tf

# A GraphDef holds every tensor of the graph; what is larger is not copied only to be looked at.
MOST_BYTES = 64 * 2**20
_IGNORE_STATE = 1  # tf.data's ExternalStatePolicy
_SHUFFLES = {"ShuffleDataset": 1, "ShuffleDatasetV2": 1, "ShuffleDatasetV3": 1, "ShuffleAndRepeatDataset": 1}
_TUNED = {"PrefetchDataset": "prefetch", "ParallelMapDatasetV2": "parallel map", "ParallelBatchDataset": "batch"}
_GENERATOR = "ShuffleDatasetV3/SeedGenerator"
_SMALL = 64
_BYTES = [bytes([n]) for n in range(256)]
_NAMES_OF_A_PROCESS = ("metadata", "token", "shared_name", "container", "config_proto", "config")


def dataset_graph(dataset: tf.data.Dataset) -> DatasetGraph | None:
    """The graph of a dataset; None where it cannot be written down, or is larger than it is worth."""
    if _tensor_bytes(dataset) > MOST_BYTES:
        return None
    try:
        written = tf.raw_ops.DatasetToGraphV2(
            input_dataset=dataset._variant_tensor, external_state_policy=_IGNORE_STATE, strip_device_assignment=True
        ).numpy()
    except tf.errors.OpError:
        return None
    return DatasetGraph(tf.compat.v1.GraphDef.FromString(written), dataset)


@dataclass(frozen=True, eq=False)
class DatasetGraph:
    """The GraphDef of a dataset, and the dataset, which keeps alive what the graph points to."""

    definition: Any
    dataset: tf.data.Dataset

    @cached_property
    def _nodes(self) -> dict[str, Any]:
        return {node.name: node for node in self.definition.node}

    @cached_property
    def _functions(self) -> dict[str, Any]:
        return {f.signature.name: f for f in self.definition.library.function}

    @property
    def reshuffles(self) -> bool:
        """Whether a shuffle draws another order each time that an iterator is made."""
        return any(n.op == "ShuffleDatasetV3" and n.attr["reshuffle_each_iteration"].b for n in self.definition.node)

    @property
    def is_unseeded(self) -> bool:
        """Whether a shuffle of the graph takes its seed from chance."""
        return any(self._is_unseeded(n) for n in self.definition.node)

    def _is_unseeded(self, node: Any) -> bool:
        return node.op in _SHUFFLES and [self._number(node.input[i]) for i in (2, 3)] == [0, 0]

    @property
    def reads_what_changes(self) -> bool:
        """Whether it reads a variable or mutable table, of whose value the GraphDef holds a copy."""
        return any(n.op == "VarHandleOp" or "MutableHashTable" in n.op for n in self.definition.node)

    def ops(self) -> set[str]:
        """The types of the ops in its functions, and of its datasets."""
        found = {node.op for function in self.definition.library.function for node in function.node_def}
        return found | {node.op for node in self.definition.node if "Dataset" in node.op}

    def buffers(self) -> list[tuple[str, int | None]]:
        """What a checkpoint of an iterator holds: a name, and bytes; None where they are not known."""
        found: list[tuple[str, int | None]] = []
        for node in self.definition.node:
            if node.op not in _SHUFFLES and node.op not in _TUNED and node.op != "CacheDatasetV2":
                continue
            row = _element_bytes(node)
            if node.op in _SHUFFLES:
                size = self._number(node.input[_SHUFFLES[node.op]])
                found.append((f"shuffle({size})", None if row is None or size is None else row * size))
            elif node.op == "CacheDatasetV2" and self._text(node.input[1]) == b"":
                found.append(("cache() of every element", None))
            elif node.op in _TUNED:
                count = self._number(node.input[1 if node.op == "PrefetchDataset" else -1])
                name = f"{_TUNED[node.op]}({'tuned' if count == -1 else count})"
                found.append((name, None if row is None or count in (None, -1) else row * count))
        if any(node.op in _SHUFFLES for f in self.definition.library.function for node in f.node_def):
            found.append(("shuffles inside interleave or flat_map", None))
        return found

    def epochs(self, entropy: int) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """The dataset of any epoch, whose shuffles depend on the epoch alone and not on who iterated before.

        TensorFlow's own generator of seeds lives beside the graph: it goes on from iterator to iterator, and a
        checkpoint between two epochs does not hold it. Epoch 0 has the first order of the dataset.

        Args:
            entropy: seeds the shuffles that have no seed; 0: each iterator has another order.
        """
        pieces, seeds = self._around_seeds(entropy)
        if not seeds:  # nothing depends on the epoch, and TensorFlow would fold the rebuilt graph, which it cannot
            return lambda _: self.dataset
        spec = self.dataset.element_spec

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            words = [tf.bitcast(_seed_word(*seed, number), tf.uint8) for seed in seeds]
            texts = [tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(w, tf.int32))) for w in words]
            between = itertools.zip_longest(pieces, texts)
            written = tf.strings.join([part for pair in between for part in pair if part is not None])
            return tf.data.experimental.from_variant(tf.raw_ops.DatasetFromGraph(graph_def=written), spec)

        return epoch

    def _around_seeds(self, entropy: int) -> tuple[list[bytes], list[tuple[int, bool]]]:
        """The GraphDef in pieces, and for each gap the (seed, whether epoch 0 keeps it) whose 8 bytes belong there."""
        definition = type(self.definition)()
        definition.CopyFrom(self.definition)
        nodes = {node.name: node for node in definition.node}
        seeds: dict[bytes, tuple[int, bool]] = {}
        for node in definition.node:
            if _is_generator(node):
                node.op = "DummySeedGenerator"
                node.attr.clear()
        for number, node in enumerate(self.definition.node):
            unseeded = self._is_unseeded(node)
            if node.op != "ShuffleDatasetV3" or (unseeded and not entropy):
                continue
            if not (unseeded or node.attr["reshuffle_each_iteration"].b):
                continue
            second = node.input[3].split(":")[0]
            begun = _hash(entropy, number) if unseeded else self._number(second) or 0
            gap = hashlib.sha256(f"tfjax seed {number}".encode()).digest()[:8]
            seeds[gap] = begun, not unseeded
            tensor = nodes[second].attr["value"].tensor
            tensor.ClearField("int64_val")
            tensor.tensor_content = gap
        written = definition.SerializeToString()
        at = sorted((written.index(gap), gap) for gap in seeds)
        ends = [0, *(i + 8 for i, _ in at)]
        pieces = [written[a:b] for a, b in zip(ends, [*(i for i, _ in at), len(written)], strict=True)]
        return pieces, [seeds[gap] for _, gap in at]

    @cached_property
    def digest(self) -> str:
        """A hash of op types, attributes and small numbers, the same in every process; texts are not part of it."""
        return self._hash_node(self.definition.node[-1].name, {})[:16]

    def _hash_node(self, name: str, seen: dict[str, str]) -> str:
        name = name.lstrip("^").split(":")[0]
        if name not in seen:
            node = self._nodes[name]
            inputs = [self._hash_node(i, seen) for i in node.input]
            seen[name] = _sha([*self._hash_op(node), *inputs])
        return seen[name]

    def _hash_op(self, node: Any) -> list[str]:
        if node.op == "Const":
            return ["Const", _constant(node)]
        named = sorted((k, v) for k, v in node.attr.items() if not k.startswith("_") and k not in _NAMES_OF_A_PROCESS)
        return [node.op, *(f"{k}={self._hash_attribute(v)}" for k, v in named)]

    def _hash_attribute(self, value: Any) -> str:
        functions = [value.func] if value.HasField("func") else list(value.list.func)
        if not functions:
            return value.SerializeToString(deterministic=True).hex()  # type: ignore[no-any-return]
        bodies = [self._functions[f.name].node_def for f in functions if f.name in self._functions]
        return _sha(sorted(_sha(self._hash_op(node)) for body in bodies for node in body))

    def _number(self, name: str) -> int | None:
        node = self._nodes.get(name.split(":")[0])
        if node is None or node.op != "Const":
            return None
        value = tf.make_ndarray(node.attr["value"].tensor)
        return int(value) if value.size == 1 and value.dtype.kind in "iub" else None

    def _text(self, name: str) -> bytes | None:
        node = self._nodes.get(name.split(":")[0])
        values = node.attr["value"].tensor.string_val if node is not None and node.op == "Const" else []
        return bytes(values[0]) if len(values) == 1 else None


def _is_generator(node: Any) -> bool:
    if node.op != "Const" or node.attr["dtype"].type != tf.resource.as_datatype_enum:
        return False
    return any(h.name.startswith(_GENERATOR) for h in node.attr["value"].tensor.resource_handle_val)


def _constant(node: Any) -> str:
    dtype = tf.as_dtype(node.attr["dtype"].type)
    shape = node.attr["value"].tensor.tensor_shape.SerializeToString().hex()
    if dtype in (tf.string, tf.resource, tf.variant):
        return f"{dtype.name} {shape}"
    value = tf.make_ndarray(node.attr["value"].tensor)
    return f"{dtype.name} {value.tolist() if value.size <= _SMALL else shape}"


def _element_bytes(node: Any) -> int | None:
    """Bytes of one element that a dataset op yields; None where a leaf has no fixed size."""
    total = 0
    for kind, shape in zip(node.attr["output_types"].list.type, node.attr["output_shapes"].list.shape, strict=True):
        dtype, dims = tf.as_dtype(kind), tf.TensorShape(shape)
        if dtype in (tf.string, tf.variant, tf.resource) or not dims.is_fully_defined():
            return None
        total += dtype.size * dims.num_elements()
    return total


def _tensor_bytes(dataset: Any) -> int:
    """Bytes of the tensors that a dataset was made of, as far as its Python objects tell."""
    total, waiting = 0, [dataset]
    while waiting:
        node = waiting.pop()
        tensors = getattr(node, "_tensors", ())
        total += sum(_bytes(t) for t in tensors if isinstance(t, tf.Tensor))
        try:
            waiting += node._inputs()
        except (AttributeError, NotImplementedError):
            continue
    return total


def _bytes(tensor: tf.Tensor) -> int:
    return 0 if tensor.dtype.size is None else tensor.dtype.size * (tensor.shape.num_elements() or 0)


def _hash(*words: int) -> int:
    """63 bits drawn from some numbers, above 0: two seeds of 0 would mean chance."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "little") >> 1 | 1


def _seed_word(begun: int, keep_first: bool, epoch: tf.Tensor) -> tf.Tensor:
    """The seed of an epoch, int64, inside the graph."""
    drawn = tf.random.stateless_uniform((), [begun, epoch], None, None, tf.int64)
    return tf.where(epoch == 0, tf.constant(begun, tf.int64), drawn | 1) if keep_first else drawn | 1


def _sha(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
