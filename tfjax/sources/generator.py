"""A Python function that returns an iterator for each epoch; the graph pulls its elements one by one.

A generator is closed when its epoch is over, also where a `take` ends it early, and when its run is closed or dropped.
"""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfjax._memory import native, refuse_mask
from tfjax._tensorflow import tf
from tfjax.errors import SpecError, TfjaxError
from tfjax.sources.python import pull_error, pulled_rows, register
from tfjax.sources.stream import Opened, Stream, refuse_scalars, shape_of
from tfjax.spec import format_like, format_spec

_KINDS = "biufc"
_no_autograph = tf.autograph.experimental.do_not_convert
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Generated(Stream):
    """A streaming source over a Python function."""

    def __init__(
        self,
        function: Callable[..., Any],
        specs: Sequence[tf.TensorSpec],
        paths: Sequence[str],
        flatten: Callable[[Any], Sequence[Any]],
        *,
        name: str,
        batched: bool,
    ) -> None:
        """Hold a function.

        Args:
            function: returns an iterable; given the number of the epoch where it requires one argument.
            specs: for each leaf of what the iterable yields.
            paths: a key path for each.
            flatten: an element to its leaves; ValueError where its structure is another one.
            name: for messages.
            batched: whether elements are batches.

        Raises:
            SpecError: the rank of a leaf is not known, or it is a scalar and elements are batches.
            TypeError: the function requires more than one argument.
        """
        if unknown := [p for p, s in zip(paths, specs, strict=True) if s.shape.rank is None]:
            raise SpecError(f"from_generator: the rank of {unknown[0]} is not known: give None for single dimensions")
        self.name, self.batched = name, batched
        self._reader = _Elements(specs, paths, flatten)
        self._function, self._takes_epoch = function, _requires_one(function)
        if batched:
            refuse_scalars([shape_of(s) for s in specs], paths, "from_generator")
        leading = {s.shape[0] for s in specs} if batched else set()
        self.rows_of_a_batch = next(iter(leading)) if len(leading) == 1 else None
        self.spec = tuple(tf.TensorSpec(s.shape[1:], s.dtype) if batched else s for s in specs)

    @property
    def identity(self) -> dict[str, Any]:
        """Name and specs: code is known by its name."""
        return {"function": self.name, "specs": [repr(s) for s in self.spec], "batched": self.batched}

    @property
    def notes(self) -> list[str]:
        """Python at run time."""
        return [f"Python at run time: {self.name} is pulled one element at a time, and holds the interpreter lock"]

    def open(self, entropy: int) -> Opened:  # noqa: ARG002
        """The graph, and the session that it pulls from."""
        session = _Session(self._function, self._reader, self.name, takes_epoch=self._takes_epoch)
        handle, specs = register(session), self._reader.specs

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            return pulled_rows(handle, number, specs).take_while(_no_autograph(lambda more, *_: more))

        return Opened(epoch, lambda _, *leaves: leaves, is_flat=False, owner=session)

    def diagnose(self, error: Exception) -> Exception | None:
        """What the function, or the check of an element, raised."""
        raised = pull_error(str(error))
        if raised is None or isinstance(raised, Exception):
            return raised
        # An exit of the interpreter, or Ctrl-C, in the thread that makes batches.
        return TfjaxError(f"{self.name} raised {type(raised).__name__}{f': {raised}' if str(raised) else ''}")


class _Elements:
    """The check of an element against its specs."""

    def __init__(
        self, specs: Sequence[tf.TensorSpec], paths: Sequence[str], flatten: Callable[[Any], Sequence[Any]]
    ) -> None:
        self.specs, self._paths, self._flatten = tuple(specs), tuple(paths), flatten
        self._dtypes = [object if s.dtype == tf.string else s.dtype.as_numpy_dtype for s in specs]
        self.filler = [
            np.full([n or 0 for n in s.shape], b"" if s.dtype == tf.string else 0, dtype)
            for s, dtype in zip(specs, self._dtypes, strict=True)
        ]

    def read(self, element: Any) -> list[np.ndarray]:
        """The leaves of an element.

        Raises:
            ValueError: a structure, shape or dtype that is not that of the specs.
        """
        leaves = self._flatten(element)
        return [self._leaf(*x) for x in zip(leaves, self.specs, self._dtypes, self._paths, strict=True)]

    def _leaf(self, value: Any, spec: tf.TensorSpec, dtype: Any, path: str) -> np.ndarray:
        refuse_mask(value, path)
        array = _text(value) if spec.dtype == tf.string else _number(value, dtype)
        if array is None or array.dtype != dtype or not spec.shape.is_compatible_with(array.shape):
            given = np.asarray(value) if array is None else array
            kind = "string" if spec.dtype == tf.string and array is not None else given.dtype.name
            number = isinstance(value, int | float | complex) and not hasattr(value, "dtype")
            fit = f", which {value!r} does not fit" if number and array is not None else ""
            raise ValueError(f"{path} is {format_spec(given.shape, kind)}, and the spec says {format_like(spec)}{fit}")
        return array


def _number(value: Any, dtype: Any) -> np.ndarray:
    """An array; numbers and lists of Python, which have no dtype of their own, take the one that is asked for."""
    array = native(np.asarray(value))
    if array.dtype == dtype or hasattr(value, "dtype") or array.dtype.kind not in "biufc":
        return array
    given, wanted = (_KINDS.find(np.dtype(d).kind) for d in (array.dtype, dtype))
    if given > wanted >= 0:  # a fraction is no int, and a complex number no float
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if array.dtype.kind in "iu":
        fits = np.array_equal(cast.astype(array.dtype), array)
    else:
        fits = np.array_equal(np.isfinite(cast), np.isfinite(array))
    return cast if fits else array


def _text(value: Any) -> np.ndarray | None:
    """An array of bytes as objects, because NumPy's own byte strings lose zeros at their end; None for no text."""
    array = np.array(value, object) if isinstance(value, str | bytes) else np.asarray(value)
    array = array.astype(object)
    if not all(isinstance(x, str | bytes) for x in array.flat):
        return None
    encoded = np.empty(array.shape, object)
    for at, x in np.ndenumerate(array):
        encoded[at] = x.encode() if isinstance(x, str) else x
    return encoded


class _Session:
    """The iterators of one run, by number."""

    def __init__(self, function: Callable[..., Any], reader: _Elements, name: str, *, takes_epoch: bool) -> None:
        self._function, self._reader, self._name, self._takes_epoch = function, reader, name, takes_epoch
        self.error: BaseException | None = None
        self._last: Any = None
        self._numbers = itertools.count()
        self._live = _Running()
        weakref.finalize(self, self._live.close)

    def start(self, epoch: int) -> int:
        """See `Pullable`."""
        if self._live.closed:  # at the end of the process, while the graph reads on into the next epoch
            raise TfjaxError(f"{self._name} was closed: the process ends")
        try:
            returned = self._function(epoch) if self._takes_epoch else self._function()
        except Exception as error:
            raise self._failed(f"when it was called for epoch {epoch}", error) from error
        if returned is self._last and isinstance(returned, Iterator):
            raise TfjaxError(
                f"{self._name} returned the iterator of an earlier epoch again: return a new one at each call"
            )
        try:
            items = iter(returned)
        except TypeError as error:
            given = type(returned).__name__
            raise TypeError(
                f"{self._name} returned a {given}: return an iterable of elements, or yield them"
            ) from error
        number, self._last = next(self._numbers), returned
        self._live[number] = _Live(items, epoch)
        return number

    def pull(self, number: int) -> tuple[bool, Sequence[np.ndarray]]:
        """See `Pullable`."""
        live = self._live.get(number)
        if live is None:  # closed at the end of the process, while the graph still reads ahead
            return False, self._reader.filler
        try:
            element = next(live.items)
        except StopIteration:
            self._live.pop(number, None)
            return False, self._reader.filler
        except Exception as error:
            raise self._failed(f"at element {live.count} of epoch {live.epoch}", error) from error
        try:
            leaves = self._reader.read(element)
        except (TypeError, ValueError) as error:
            raise SpecError(f"{self._name}, element {live.count} of epoch {live.epoch}: {error}") from error
        live.count += 1
        return True, leaves

    def finish(self, number: int) -> None:
        """See `Pullable`."""
        live = self._live.pop(number, None)
        if live is not None:
            _close(live.items)

    def _failed(self, where: str, error: Exception) -> TfjaxError:
        return TfjaxError(f"{self._name} raised {type(error).__name__} {where}: {error}")


class _Live:
    """One iterator, and how far it is."""

    def __init__(self, items: Iterator[Any], epoch: int) -> None:
        self.items, self.epoch, self.count = items, epoch, 0


class _Running(dict[int, _Live]):
    """The iterators that are not at their end, by number."""

    closed = False

    def close(self) -> None:
        """Close all of them; none is to be started after."""
        self.closed = True
        while self:
            _, one = self.popitem()
            _close(one.items)


def _close(items: Iterator[Any]) -> None:
    """Close a generator, so that its `finally` blocks run now; other iterators have nothing to close."""
    if inspect.isgenerator(items) and not items.gi_running:
        items.close()


def _requires_one(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return False
    required = [p for p in parameters if p.default is p.empty and p.kind in _POSITIONAL]
    if len(required) > 1:
        raise TypeError(
            f"from_generator: {function!r} requires {len(required)} arguments: it is called with none, or with the "
            "number of the epoch; bind the others with functools.partial"
        )
    return len(required) == 1
