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

from tfjax._naming import function_name

Remainder = Literal["drop", "pad", "keep", "error"]
StackRemainder = Literal["keep", "drop", "error"]


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
    undecoded: Callable[[str], Any] | None = field(default=None, repr=False)  # the same with one image as it is stored

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
    """The first n rows; after `batch` the first n batches of each epoch, after `stack` the first n stacks."""

    n: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Skip(Stage):
    """All but the first n rows; after `batch` or `stack`, all but the first n batches or stacks of each epoch."""

    n: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Split(Stage):
    """One named part of the rows, chosen by a hash of their index."""

    fractions: tuple[tuple[str, float], ...]
    part: str
    seed: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Map(Stage):
    """A deterministic function of one example; `apply` makes one of an op."""

    fn: Callable[..., Any] = field(repr=False)
    version: str | None = None
    name: str | None = field(default=None, repr=False)
    decodes: bool = field(default=False, repr=False)  # what is stored: a failure means damaged data
    op: Any = field(default=None, repr=False)
    strengths: tuple[Any, ...] = field(default=(), repr=False)  # numbers of the moment, given after the seed

    @property
    def varies(self) -> bool:
        """Whether it makes another thing of an example in another epoch, at another step or in another run."""
        return bool(self.strengths)

    def describe(self) -> str:
        """Name and version of the function."""
        version = "" if self.version is None else f", version={self.version!r}"
        return self.name or f"{type(self).__name__.lower()}({function_name(self.fn)}{version})"


@dataclass(frozen=True, eq=False, kw_only=True)
class RandomMap(Map):
    """A function of one example and a seed, int64 of shape (2,)."""

    @property
    def varies(self) -> bool:
        """See `Map`."""
        return True

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
    """Rows kept once computed: in memory, or in the folder at an absolute path."""

    where: str
    limit_bytes: int | None = None
    compression: str | None = None

    @property
    def path(self) -> str | None:
        """The folder."""
        return None if self.where == "memory" else self.where

    def describe(self) -> str:
        """What was given."""
        rest = {"limit_bytes": self.limit_bytes, "compression": self.compression}
        given = "".join(f", {name}={value!r}" for name, value in rest.items() if value is not None)
        return f"cache({self.where!r}{given})"


@dataclass(frozen=True, eq=False, kw_only=True)
class DeviceCache(Stage):
    """Rows held as arrays on the devices that batches are placed on."""

    limit_bytes: int | None = None

    def describe(self) -> str:
        """The call."""
        return f"cache('device'{'' if self.limit_bytes is None else f', limit_bytes={self.limit_bytes}'})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch(Stage):
    """A global batch of `size` rows."""

    size: int
    remainder: Remainder


@dataclass(frozen=True, eq=False, kw_only=True)
class Stack(Stage):
    """k batches as one element."""

    k: int
    remainder: StackRemainder


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
class RandomDeviceMap(DeviceMap):
    """A jitted function of a placed batch, or of each of its examples, and a key."""

    per_example: bool = False

    def describe(self) -> str:
        """Name of the function, and what it is called with."""
        return f"random_device_map({function_name(self.fn)}{', per_example=True' if self.per_example else ''})"


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


def pipeline_seed(chain: Chain) -> int:
    """The seed of the random ops."""
    return next((s.n for s in reversed(chain) if isinstance(s, Seed)), 0)


DEFAULT_PREFETCH = 2  # batches, where `place` does not say
ORDER_STAGES = (Shuffle, Take, Skip, Split)
NAMES: Mapping[type[Stage], str] = {
    RandomMap: "random_map",
    DeviceMap: "device_map",
    RandomDeviceMap: "random_device_map",
    DeviceCache: "cache",
    KeepOnHost: "keep_on_host",
    ShuffleWindow: "shuffle_window",
}


def stage_name(stage: Stage) -> str:
    """The name of the method that made a stage."""
    if isinstance(stage, Map) and stage.name is not None:
        return stage.name.split("(")[0]
    return NAMES.get(type(stage), type(stage).__name__.lower())


# How a graph is run, where batches go and what is kept of it never change a batch.
_WITHOUT_EFFECT = (Origin, Seed, Options, Cache, DeviceCache, Place, KeepOnHost)


def named_stages(chain: Chain) -> dict[str, Stage]:
    """The stages that make a batch what it is, by number and name, such as "2 map"."""
    kept = [s for s in chain if not isinstance(s, _WITHOUT_EFFECT)]
    return {f"{i} {stage_name(s)}": s for i, s in enumerate(kept, 1)}
