"""How strong a random op is: a number, a function of the global step, or a number named in `iterate(values=)`.

>>> Value("magnitude", default=9)
Value('magnitude', default=9)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tfjax._naming import function_name
from tfjax._tensorflow import tf

Schedule = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True, repr=False)
class Value:
    """A number that a run is given by `iterate(values={name: number})`, and that a state remembers.

    Args:
        name: its name; ops may share one.
        default: what it is where a run is not given it, e.g. in `peek()`.

    Example:
        >>> import numpy as np, tfjax
        >>> image = np.full((1, 2, 2, 3), 100, np.uint8)
        >>> add = tfjax.image.RandomBrightness(tfjax.image.Value("light", default=0))
        >>> pipe = tfjax.from_arrays({"image": image}).apply(add).batch(1)
        >>> bool((pipe.peek()["image"] == 100).all())
        True
        >>> bool((next(pipe.iterate(values={"light": 50}))["image"] == 100).all())
        False
    """

    name: str
    default: float

    def __post_init__(self) -> None:
        """Refuse what is no name, or no number, and hold NumPy's numbers as Python's."""
        object.__setattr__(self, "default", plain(self.default))
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"Value({self.name!r}): a name is a string, as in Value('magnitude', default=9)")
        if not is_number(self.default):
            raise TypeError(f"Value({self.name!r}, default={self.default!r}): a default is a number")
        if not math.isfinite(self.default):
            raise ValueError(f"Value({self.name!r}, default={self.default!r}): a default is finite")

    def __repr__(self) -> str:
        """The call."""
        return f"Value({self.name!r}, default={self.default!r})"


Strength = float | Schedule | Value


def is_number(value: object) -> bool:
    """Whether a value is an int or a float, which a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(value: object) -> object:
    """NumPy's numbers as Python's, and lists as what can be hashed."""
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value


def varies(value: object) -> bool:
    """Whether a strength is known only when the graph runs."""
    return isinstance(value, Value) or callable(value)


def number_at(strength: Value | Schedule, step: tf.Tensor, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """A strength at a moment, float32: a scalar, or one for each of several steps.

    Raises:
        TypeError: a schedule returns no scalar.
    """
    if isinstance(strength, Value):
        return values.get(strength.name, tf.constant(strength.default, tf.float32))
    if step.shape.rank:
        signature = tf.TensorSpec((), tf.float32)
        return tf.map_fn(lambda one: number_at(strength, one, values), step, fn_output_signature=signature)
    returned = strength(step)
    number = None if returned is None else tf.convert_to_tensor(returned)
    if number is None or number.shape.rank != 0 or not (number.dtype.is_integer or number.dtype.is_floating):
        raise TypeError(f"it returns {returned!r}, which is no scalar number")
    return tf.cast(number, tf.float32)


def require_schedule(what: str, schedule: Schedule) -> None:
    """Trace a schedule as the graph does.

    Raises:
        TypeError: it raises, whatever it is, or returns no scalar.
    """
    fn = tf.function(lambda step: number_at(schedule, step, {}), autograph=False)
    try:
        fn.get_concrete_function(tf.TensorSpec((), tf.int64))
    except Exception as error:
        said = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")  # TensorFlow's advice is of other cases
        raise TypeError(
            f"{what}: the schedule {function_name(schedule)} is called with an int64 tf.Tensor inside the graph and "
            f"raised {type(error).__name__}: {said}: use TensorFlow ops (tf.minimum, tf.where), and return a scalar; "
            "an optax schedule runs outside: give its number through a Value"
        ) from error
