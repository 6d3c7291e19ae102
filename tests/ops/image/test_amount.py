"""Amounts: the numbers between which is drawn, and those that are refused before and while the graph runs."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import pytest

from tfjax._tensorflow import tf
from tfjax.ops.image.amount import DIFFERENCE, FACTOR, TURN, Spread, require_strength, strength_of
from tfjax.ops.image.base import ImageOp
from tfjax.ops.strength import Value


@dataclasses.dataclass(frozen=True, repr=False)
class Some(ImageOp):
    """An op with one field."""

    strengths: ClassVar[tuple[str, ...]] = ("much",)
    much: Any

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:  # noqa: ARG002
        return image


def ends(spread: Spread, much: Any) -> list[float]:
    """What is drawn at both ends of the shares."""
    return [round(float(spread.draw(Some(much), "much", tf.constant(share))), 5) for share in (0.0, 1.0)]


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(
    ("spread", "much", "wanted"),
    [
        (FACTOR, 0.25, [0.75, 1.25]),
        (FACTOR, 3.0, [0, 4]),
        (FACTOR, 0.0, [1, 1]),
        (DIFFERENCE, 3.0, [-3, 3]),
        (TURN, 0.5, [-0.5, 0.5]),
    ],
)
def test_a_number_goes_to_both_sides(spread: Spread, much: float, wanted: list[float], as_tensor: bool) -> None:
    assert ends(spread, tf.constant(much) if as_tensor else much) == wanted


def test_a_pair_is_least_and_most() -> None:
    assert ends(FACTOR, (0.5, 3)) == [0.5, 3]
    assert ends(DIFFERENCE, (-7, -2)) == [-7, -2]
    assert ends(TURN, (0.0, 0.0)) == [0, 0]


@pytest.mark.parametrize("much", [1, 0.5, 0, (0.5, 2), [0.5, 2], Value("v", 9), lambda step: step, tf.constant(9.0)])
def test_amounts(much: Any) -> None:
    op = Some(much)
    FACTOR.require(op, "much")
    assert op.much == (0.5, 2) if isinstance(much, list | tuple) else op.much is much


@pytest.mark.parametrize("much", [-1, True, "1", None, np.nan, np.inf, (1,), (2, 1), (-1, 1), (1, np.nan), ("a", "b")])
def test_what_is_none(much: Any) -> None:
    with pytest.raises(ValueError, match=r"Some: much is .*: pass a number"):
        FACTOR.require(Some(much), "much")


def test_the_limit_is_said() -> None:
    with pytest.raises(ValueError, match="much is 31: pass a number from 0 to 30, a schedule or a Value"):
        require_strength(Some(31), "much", most=30)


def test_a_tensor_is_checked_when_the_graph_runs() -> None:
    fn = tf.function(lambda v: strength_of(Some(v), "much", most=30), autograph=False)
    assert [float(fn(tf.constant(v))) for v in (0.0, 7.5, 30.0)] == [0.0, 7.5, 30.0]
    for wrong in (-0.5, 30.5, np.nan, np.inf):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Some: much is .*: pass a number from 0 to 30"):
            fn(tf.constant(wrong, tf.float32))


def test_a_default_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"much is Value\('v', default=31\): pass a number from 0 to 30"):
        require_strength(Some(Value("v", default=31)), "much", most=30)
    with pytest.raises(ValueError, match=r"Value\('v', default=nan\): a default is finite"):
        Value("v", default=math.nan)
