"""Examples that are made up, and that can be made to fail: for tests of what comes after the source."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfjax._arguments import MOST, require_count
from tfjax.bridge.tree import flatten_arrays
from tfjax.pipeline import Pipeline

if TYPE_CHECKING:
    from tfjax._tensorflow import tf
    from tfjax.sources.base import Raw, Source

_LENGTHS = 8


def fake_source(
    specs: Any,
    *,
    length: int,
    seed: int = 0,
    unreadable: Collection[int] = (),
    failing: Collection[int] = (),
    slow: Mapping[int, float] | None = None,
) -> Pipeline:
    """An indexed pipeline of made-up examples, a function of `seed` and index alone, held in memory.

    Floats are drawn from the normal distribution, integers from 0 to 127, strings are of 0 to 7 hexadecimal digits.
    What fails or waits is not in the fingerprint: a state taken before a bad example resumes with a source that is
    whole.

    Args:
        specs: a pytree of anything with `shape` and `dtype`: `jax.ShapeDtypeStruct`, `tf.TensorSpec`, arrays. A
            dimension of None varies from 0 to 7; dtype `str` or `tf.string` gives strings.
        length: how many examples.
        seed: other examples.
        unreadable: indices that are reported as damaged, one by one.
        failing: indices whose batch cannot be read: fetching it raises OSError.
        slow: seconds to wait before a batch that holds an index; the longest of those in it.

    Returns:
        A Pipeline, as from any other source. Reading a bad example raises `CorruptDataError`, which names it.

    Raises:
        ValueError: an index outside of the source, no leaf, `length` below 1, or a wait below 0.
        TypeError: a leaf without shape and dtype, or faults that are no indices, or `slow` no dict.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> specs = {"image": jax.ShapeDtypeStruct((28, 28), np.uint8), "text": jax.ShapeDtypeStruct((), str)}
        >>> pipe = tfjax.testing.fake_source(specs, length=100, unreadable=[7]).keep_on_host("text").batch(4)
        >>> [batch["image"].shape for batch in pipe.take(1)]
        [(4, 28, 28)]
        >>> for batch in pipe: pass
        Traceback (most recent call last):
        tfjax.errors.CorruptDataError: reading failed on example 7 (of fake_source): the stored record is damaged
    """
    from tfjax.opening.memory import from_examples  # loads TensorFlow, which nothing else here needs

    length, seed = require_count("fake_source: length", length, least=1), require_count("seed", seed, least=0)
    bad, broken, slow = _indices("unreadable", unreadable), _indices("failing", failing), _waits(slow)
    if outside := [i for i in (*bad, *broken, *slow) if not 0 <= i < length]:
        raise ValueError(f"fake_source: index {outside[0]} is outside of the {length} examples")
    leaves, structure = flatten_arrays(specs)
    for path, leaf in zip(structure.paths, leaves, strict=True):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(f"fake_source: {path} is {leaf!r}: give a jax.ShapeDtypeStruct or a tf.TensorSpec")
    rows = [structure.unflatten([_value(x, seed, n, i) for n, x in enumerate(leaves)]) for i in range(length)]
    origin, *stages = from_examples(rows)._chain
    faults = _Faults(bad, broken, slow)
    source = _Faulty(origin.source, seed, faults)  # type: ignore[attr-defined]
    pipe = Pipeline(dataclasses.replace(origin, name=f"fake_source({length} examples, seed={seed})", source=source))  # type: ignore[call-arg]
    for stage in stages:
        pipe = pipe._append(stage)
    return pipe


def _indices(name: str, given: Any) -> frozenset[int]:
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise TypeError(f"fake_source: {name} takes indices, such as {name}=[3], given {given!r}")
    return frozenset(require_count(f"fake_source: {name}", i, least=-MOST) for i in given)


def _waits(given: Any) -> dict[int, float]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"fake_source: slow takes a dict of index to seconds, such as {{3: 0.1}}, given {given!r}")
    waits: dict[int, float] = dict(given or {})
    _indices("slow", waits)
    for index, seconds in waits.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float | np.number):
            raise TypeError(f"fake_source: slow takes seconds, given {index!r}: {seconds!r}")
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"fake_source: slow takes seconds of 0 or more, given {index!r}: {seconds!r}")
    return {int(index): float(seconds) for index, seconds in waits.items()}


def _value(spec: Any, seed: int, leaf: int, index: int) -> Any:
    rng = np.random.default_rng((seed, leaf, index))
    # Lengths follow each other, so that no two neighbours are of one shape.
    shape = [(seed + index + d) % _LENGTHS if n is None else int(n) for d, n in enumerate(spec.shape)]
    dtype = np.dtype(getattr(spec.dtype, "as_numpy_dtype", spec.dtype))
    if dtype.kind in "SUO":
        words = np.frompyfunc(lambda n: rng.bytes(_LENGTHS).hex()[:n].encode(), 1, 1)
        return np.asarray(words(rng.integers(0, _LENGTHS, shape)), object)
    if dtype.kind in "biu":
        return rng.integers(0, 2 if dtype.kind == "b" else 128, shape).astype(dtype)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if dtype.kind == "c" else values).astype(dtype)


@dataclasses.dataclass(frozen=True)
class _Faults:
    """What goes wrong, by index."""

    unreadable: frozenset[int]
    failing: frozenset[int]
    slow: dict[int, float]

    def __bool__(self) -> bool:
        return bool(self.unreadable or self.failing or self.slow)

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Whether each can be read; waits, and raises, as asked."""
        asked = indices.tolist()
        time.sleep(max((self.slow.get(i, 0.0) for i in asked), default=0.0))
        if broken := [i for i in asked if i in self.failing]:
            raise OSError(f"fake_source was asked to fail on example {broken[0]}")
        return indices, np.array([i not in self.unreadable for i in asked], bool)


class _Faulty:
    """A source in memory, some of whose examples are slow or cannot be read."""

    def __init__(self, rows: Source, seed: int, faults: _Faults) -> None:
        self._rows, self._seed, self._faults = rows, seed, faults

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def spec(self) -> tuple[tf.TypeSpec, ...]:
        return self._rows.spec

    @property
    def identity(self) -> dict[str, Any]:
        return {**self._rows.identity, "seed": self._seed}

    def fetch(self, indices: tf.Tensor) -> Raw:
        """The rows; only where something is to go wrong does the graph call Python."""
        from tfjax.sources.base import Raw
        from tfjax.sources.python import fetch_rows, register

        leaves = self._rows.fetch(indices).leaves
        if not self._faults:
            return Raw(leaves)
        # `numpy_function` makes another thing of a single result, so the indices come back too.
        _, ok = fetch_rows(register(self._faults), indices, [indices.dtype])
        return Raw(leaves, ok)

    def describe(self) -> str:
        return self._rows.describe()

    def locate(self, index: int) -> str:  # noqa: ARG002
        return "of fake_source"

    def stamp(self) -> None:
        """Nothing is stored."""

    def check(self) -> None:
        """Nothing is stored."""
