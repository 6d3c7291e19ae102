"""Any iterable of pytrees, prefetched to devices; needs JAX and NumPy only."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from tfjax.errors import SpecError
from tfjax.placement.context import CarriedContext
from tfjax.placement.host import Host
from tfjax.placement.prefetch import made_ahead
from tfjax.placement.put import Putter
from tfjax.placement.specs import target
from tfjax.placement.target import Target, check_cut
from tfjax.spec import format_spec

_Spec = tuple[tuple[int, ...], Any]


def prefetch_to_device(iterable: Iterable[Any], sharding: Any = None, *, size: int = 2) -> DeviceIterator:
    """Put what an iterable yields on devices ahead of time.

    Takes any iterable of pytrees: lists, generators, Grain, a torch `DataLoader`, `tfds.as_numpy`, a tfjax pipeline.
    Its leaves are NumPy arrays, numbers, jax.Arrays, or what exports DLPack. On CPU devices a read-only array is shared
    and not copied; one that can be written to is copied once, so that an iterable may fill the same array again.
    Where a sharding spans processes, each process gives its own part of a global batch. For `jax.pmap`, leaves of shape
    (devices, ...) go where `NamedSharding(Mesh(jax.local_devices(), ("device",)), PartitionSpec("device"))` says.

    Args:
        iterable: it is advanced on a thread of its own, or on the caller's where `size` is 0.
        sharding: a device, a `jax.sharding.Sharding`, a PartitionSpec over the mesh of `jax.set_mesh`, or a pytree
            prefix of these; where it is not given, JAX's default device, and jax.Arrays stay where they are. A sharding
            cuts the leading dimensions of each leaf; scalars are replicated.
        size: batches held ready on their devices, beside the one that was delivered; 0: none, in the same order and
            with the same errors.

    Returns:
        An iterator with `close()`, also a context manager that closes it. What the iterable raises comes in its place.

    Raises:
        TypeError: no iterable, or a device count as second argument, as Flax's function of this name took it.
        SpecError: while iterating: a leaf whose dtype, rank or inner shape changes, or that JAX has no dtype for, or a
            64-bit value that does not fit 32 bits.
        PlacementError: a leaf cannot be cut as its sharding says.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> batches = ({"x": np.full((2, 3), i, np.float32)} for i in range(4))
        >>> [float(b["x"].sum()) for b in tfjax.prefetch_to_device(batches, jax.devices()[0])]
        [0.0, 6.0, 12.0, 18.0]
    """
    if isinstance(sharding, bool | int):
        raise TypeError(
            f"prefetch_to_device(iterable, {sharding!r}): the second argument is a sharding; write "
            f"prefetch_to_device(iterable, sharding, size={int(sharding)})"
        )
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"prefetch_to_device: size is {size!r}: pass an int")
    if size < 0:
        raise ValueError(f"prefetch_to_device: size is {size}: pass 0 or more")
    kind = type(iterable)
    if kind.__module__.partition(".")[0] == "tensorflow" and hasattr(iterable, "element_spec"):
        raise TypeError(f"prefetch_to_device: a {kind.__name__} of TensorFlow: use tfjax.from_tf(dataset).place(...)")
    if not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
        raise TypeError(f"prefetch_to_device takes an iterable of pytrees, given a {kind.__name__}")
    return DeviceIterator(iterable, target(sharding, call="prefetch_to_device"), size=int(size))


class DeviceIterator(Iterator[Any]):
    """Batches on their devices; also a context manager, which closes it."""

    def __init__(self, iterable: Iterable[Any], where: Target, *, size: int) -> None:
        """Start; see `prefetch_to_device`."""
        self._closed = False
        open_items = functools.partial(_placed, iterable, where)
        self._items = made_ahead(open_items, size=size, context=CarriedContext())

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: the iterable has ended.
            ValueError: the iterator was closed.
            Exception: what the iterable raised.
        """
        if self._closed:
            raise ValueError("this iterator is closed: call prefetch_to_device again")
        return next(self._items)

    def close(self) -> None:
        """Stop, and drop what was read ahead; a second call does nothing."""
        self._closed = True
        self._items.close()

    def __enter__(self) -> DeviceIterator:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def _placed(iterable: Iterable[Any], where: Target) -> Iterator[Any]:
    placer, items = None, None
    for number in itertools.count():
        try:
            items = iter(iterable) if items is None else items
            tree = next(items)
        except StopIteration:
            return
        except Exception as error:
            error.add_note(f"raised by the iterable given to prefetch_to_device, when asked for item {number}")
            raise
        placer = Placer(tree, where) if placer is None else placer
        # Neither the tree nor the batch have a name here while the batch waits to be taken: it would keep them alive.
        held = [tree]
        del tree
        yield placer(number, held.pop())


class Placer:
    """Pytrees of one structure to their devices."""

    def __init__(self, tree: Any, where: Target) -> None:
        """Work out from the first tree where each leaf goes.

        Raises:
            PlacementError: a spec names no leaf, or is longer than the rank of its leaf.
        """
        pairs, treedef = jax.tree_util.tree_flatten_with_path(tree)
        self._treedef: Any = treedef
        self._paths = [jax.tree_util.keystr(path) or "the batch" for path, _ in pairs]
        if not pairs:
            raise SpecError(f"prefetch_to_device: the first item is {tree!r}, which has no leaf")
        self._host = [Host(path) for path in self._paths]
        leaves = self._on_host([leaf for _, leaf in pairs], 0)
        self._first = self._specs = [_spec(leaf) for leaf in leaves]
        self._shardings = where.shardings([leaf.ndim for leaf in leaves], self._paths)
        self._put = Putter(self._shardings, committed=where.committed)
        self._check_cuts(leaves, 0)

    def __call__(self, number: int, tree: Any) -> Any:
        """The tree of jax.Arrays for item `number`."""
        leaves, treedef = jax.tree_util.tree_flatten(tree)
        if treedef != self._treedef:
            raise SpecError(
                f"item {number} has the structure {treedef}, and item 0 {self._treedef}: yield one structure"
            )
        leaves = self._on_host(leaves, number)
        specs = [_spec(leaf) for leaf in leaves]
        if specs != self._specs:
            self._check(specs, number)
            self._check_cuts(leaves, number)
            self._specs = specs
        return self._treedef.unflatten(self._put(leaves))

    def _on_host(self, leaves: list[Any], number: int) -> list[Any]:
        try:
            return [host(leaf) for host, leaf in zip(self._host, leaves, strict=True)]
        except (SpecError, TypeError) as error:
            raise type(error)(f"item {number}: {error}") from error.__cause__

    def _check(self, specs: list[_Spec], number: int) -> None:
        for path, (shape, dtype), (first, was) in zip(self._paths, specs, self._first, strict=True):
            if dtype != was or len(shape) != len(first) or shape[1:] != first[1:]:
                raise SpecError(
                    f"{path} is {format_spec(shape, str(dtype))} in item {number}, and was "
                    f"{format_spec(first, str(was))} in item 0: only the leading dimension may change"
                )

    def _check_cuts(self, leaves: list[Any], number: int) -> None:
        for path, leaf, sharding in zip(self._paths, leaves, self._shardings, strict=True):
            if sharding.is_fully_addressable:
                check_cut(f"item {number}: {path}", leaf.shape, sharding)


def _spec(leaf: Any) -> _Spec:
    return leaf.shape, leaf.dtype
