"""The stages of a pipeline: what the user asked for, one frozen value each. Imports nothing but the standard library.

Two stages are equal only if they are the same object: caches and kept-index lists belong to a stage value, and every
pipeline derived from it shares them.

    >>> Shuffle(seed=3).describe()
    'shuffle(seed=3)'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Remainder = Literal["drop", "pad", "keep", "error"]


def function_name(fn: Callable[..., Any]) -> str:
    """Module and qualified name of a user's function; for a callable object, those of its class."""
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{named.__module__}.{named.__qualname__}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """One step of a chain."""

    def describe(self) -> str:
        """The call that made this stage, as `explain` shows it and the fingerprint hashes it."""
        shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
        return f"{type(self).__name__.lower()}({shown})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Origin(Stage):
    """Where examples come from: an indexed source, or a tf.data.Dataset that can only be streamed."""

    name: str
    source: Any = field(repr=False)
    structure: Any = field(repr=False)
    info: Any = field(default=None, repr=False)
    auto_cache: bool = field(default=False, repr=False)

    def describe(self) -> str:
        """The call that made the source."""
        return self.name


@dataclass(frozen=True, eq=False, kw_only=True)
class Seed(Stage):
    """The seed of every random op of the pipeline."""

    n: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Shuffle(Stage):
    """A permutation of all rows, another one each epoch."""

    seed: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ShuffleWindow(Stage):
    """Each row drawn from the next `buffer_size` ones, in another order each epoch."""

    buffer_size: int
    seed: int

    def describe(self) -> str:
        """Size and seed."""
        return f"shuffle_window(buffer_size={self.buffer_size}, seed={self.seed})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Take(Stage):
    """The first n rows; after `batch`, the first n batches of each epoch."""

    n: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Skip(Stage):
    """All but the first n rows; after `batch`, all but the first n batches of each epoch."""

    n: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Split(Stage):
    """One named part of the rows, chosen by a hash of their index."""

    fractions: tuple[tuple[str, float], ...]
    part: str
    seed: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Map(Stage):
    """A deterministic function of one example."""

    fn: Callable[..., Any] = field(repr=False)
    version: str | None = None
    name: str | None = field(default=None, repr=False)
    decodes: bool = field(default=False, repr=False)  # what is stored: a failure means damaged data

    def describe(self) -> str:
        """Name and version of the function."""
        version = "" if self.version is None else f", version={self.version!r}"
        return self.name or f"{type(self).__name__.lower()}({function_name(self.fn)}{version})"


@dataclass(frozen=True, eq=False, kw_only=True)
class RandomMap(Map):
    """A function of one example and a seed, int64 of shape (2,)."""

    def describe(self) -> str:
        """Name and version of the function."""
        return super().describe().replace("randommap", "random_map")


@dataclass(frozen=True, eq=False, kw_only=True)
class Filter(Map):
    """A predicate of one example."""


@dataclass(frozen=True, eq=False, kw_only=True)
class KeepOnHost(Stage):
    """Top-level keys whose leaves are delivered as NumPy arrays."""

    keys: tuple[str, ...]

    def describe(self) -> str:
        """The keys."""
        return f"keep_on_host({', '.join(map(repr, self.keys))})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Cache(Stage):
    """Rows kept once computed."""

    where: Literal["memory"]
    automatic: bool = field(default=False, repr=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch(Stage):
    """A global batch of `size` rows."""

    size: int
    remainder: Remainder


@dataclass(frozen=True, eq=False, kw_only=True)
class Options(Stage):
    """How the graph is run; never what it yields."""

    parallel_calls: int | None = None
    prefetch_batches: int | None = None
    ram_budget_bytes: int | None = None
    caches: bool | None = None
    tf_options: Any = field(default=None, repr=False)

    def describe(self) -> str:
        """What was given."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return f"options({', '.join(f'{k}={v!r}' if k != 'tf_options' else k for k, v in given.items())})"


@dataclass(frozen=True, eq=False, kw_only=True)
class DeviceMap(Stage):
    """A jitted function of a placed batch."""

    fn: Callable[..., Any] = field(repr=False)

    def describe(self) -> str:
        """Name of the function."""
        return f"device_map({function_name(self.fn)})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Place(Stage):
    """Where batches are put, and how many are held ready."""

    where: Any
    prefetch: int

    def describe(self) -> str:
        """Where batches go."""
        name = "place_per_device" if self.where.per_device else "place"
        return f"{name}({self.where}, prefetch={self.prefetch})"


Chain = tuple[Stage, ...]
DEFAULT_PREFETCH = 2  # batches, where `place` does not say
ORDER_STAGES = (Shuffle, Take, Skip, Split)
NAMES: Mapping[type[Stage], str] = {
    RandomMap: "random_map",
    DeviceMap: "device_map",
    KeepOnHost: "keep_on_host",
    ShuffleWindow: "shuffle_window",
}


def stage_name(stage: Stage) -> str:
    """The name of the method that made a stage."""
    if isinstance(stage, Map) and stage.name is not None:
        return stage.name.split("(")[0]
    return NAMES.get(type(stage), type(stage).__name__.lower())
