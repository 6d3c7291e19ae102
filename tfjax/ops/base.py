"""An op: a frozen value that is called with an example, and where it is random with a seed.

It is called with tensors of one example inside the graph, and as well outside of it:

    >>> import tensorflow as tf
    >>> from tfjax.ops.image.grayscale import Grayscale
    >>> Grayscale()({"image": tf.zeros((4, 4, 3), tf.uint8)})["image"].shape
    TensorShape([4, 4, 1])
"""

from __future__ import annotations

import abc
import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tfjax._naming import function_name
from tfjax._tensorflow import tf
from tfjax.ops.strength import varies

Example = Any


@dataclasses.dataclass(frozen=True)
class Op(abc.ABC):
    """What `apply` takes.

    Class attributes:
        random: whether it is called with a seed, int64 (2,), as every `tf.random.stateless_*` takes it.
        decodes: whether it reads what is stored, so that a failure means damaged data.
        strengths: the names of the fields that may be schedules or named values.
    """

    random: ClassVar[bool] = False
    decodes: ClassVar[bool] = False
    strengths: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def keys(self) -> tuple[str, ...]:
        """The paths of the leaves that it reads and writes, such as "image" or "objects/bbox"."""

    @abc.abstractmethod
    def __call__(self, example: Example, seed: tf.Tensor | None = None) -> Example:
        """The example with the op applied; the one that was given is left as it is."""

    @property
    def varying(self) -> Mapping[str, Any]:
        """The fields that are schedules or named values."""
        return {name: getattr(self, name) for name in self.strengths if varies(getattr(self, name))}

    def at(self, **numbers: tf.Tensor) -> Op:
        """The op with tensors in place of the fields that vary."""
        return dataclasses.replace(self, **numbers) if numbers else self

    def __repr__(self) -> str:
        """The call that makes it, less what is at its default."""
        shown = []
        positional = True
        for field in sorted(dataclasses.fields(self), key=lambda f: bool(f.kw_only)):
            value = getattr(self, field.name)
            if field.default is not dataclasses.MISSING and _same(value, field.default):
                positional = False
                continue
            positional = positional and not field.kw_only
            shown.append(_shown(value) if positional else f"{field.name}={_shown(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _refuse_varying(self) -> None:
        """Raise TypeError where a field that must be known beforehand is a schedule or a named value."""
        for field in dataclasses.fields(self):
            if field.name not in self.strengths and varies(getattr(self, field.name)):
                allowed = f"; {', '.join(self.strengths)} may" if self.strengths else ""
                raise TypeError(
                    f"{type(self).__name__}: {field.name} is {_shown(getattr(self, field.name))}, which may not vary "
                    f"with the step or by name: pass a constant{allowed}"
                )


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _shown(value: Any) -> str:
    if isinstance(value, tf.Tensor):
        return "Tensor"
    if callable(value):
        return function_name(value)
    return repr(value)


def leaf_at(example: Example, path: str) -> tf.Tensor:
    """The leaf of an example at a path of dictionary keys, such as "objects/bbox".

    Raises:
        KeyError: there is no such key.
        TypeError: the example, or what lies on the way, is no dictionary.
    """
    node = example
    for key in path.split("/"):
        if not isinstance(node, Mapping):
            raise TypeError(
                f"{path!r} names a key of a dict, and this is a {type(node).__name__}: return a dict in map"
            )
        if key not in node:
            raise KeyError(key)
        node = node[key]
    return node


def with_leaf(example: Example, path: str, leaf: Any) -> Example:
    """A copy of an example with another leaf at a path."""
    key, _, rest = path.partition("/")
    changed = copy.copy(example)
    changed[key] = with_leaf(example[key], rest, leaf) if rest else leaf
    return changed


def random_numbers(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Uniform float32 scalars in [0, 1), drawn together from a seed of shape (2,)."""
    return tf.unstack(tf.random.stateless_uniform((count,), seed))  # type: ignore[no-any-return]


def is_tensor(value: object) -> bool:
    """Whether a strength has been replaced by its number in the graph."""
    return isinstance(value, tf.Tensor)
