"""Memory that others may write to, and masks, wherever arrays come into the library."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax._memory import aligned_copy, is_immutable, unshared

MASKED = np.ma.masked_array(np.arange(4.0), mask=[True, False, True, False])


@pytest.mark.parametrize(
    "give",
    [
        lambda x: tfjax.from_arrays({"x": x}),
        lambda x: tfjax.from_examples([{"x": x}]),
        lambda x: tfjax.to_tensor({"x": x}),
        lambda x: next(tfjax.prefetch_to_device([{"x": x}], size=0)),
    ],
    ids=["from_arrays", "from_examples", "to_tensor", "prefetch_to_device"],
)
def test_a_mask_is_not_lost(give: Any) -> None:
    with pytest.raises(TypeError, match=r"is a masked array, and its mask would be lost: give array.filled"):
        give(MASKED)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128", object])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 5)])
def test_a_copy_is_equal_aligned_and_read_only(dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape, dtype=int))).reshape(shape).astype(dtype)
    copy = aligned_copy(array)
    np.testing.assert_array_equal(copy, array)
    assert copy.dtype == array.dtype and is_immutable(copy)
    assert copy.dtype == object or copy.ctypes.data % 64 == 0 or copy.size == 0
    assert unshared(copy) is copy or copy.dtype == object


def refilled(shape: tuple[int, ...]) -> np.ndarray:
    """Writable memory that starts on 64 bytes, which TensorFlow shares when it gets it from Python."""
    size = int(np.prod(shape)) * 4
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


class Refilling:
    """A source of one's own that fills the same array each time."""

    spec = tf.TensorSpec((64,), tf.float32)
    identity = {"name": "refilling"}  # noqa: RUF012

    def __len__(self) -> int:
        return 6

    def read(self, indices: np.ndarray) -> np.ndarray:
        if not hasattr(self, "memory") or len(self.memory) != len(indices):
            self.memory = refilled((len(indices), 64))
        self.memory[:] = indices[:, None]
        return self.memory


def numbers_in_one_array() -> Any:
    memory = refilled((64,))
    for i in range(6):
        memory[:] = i
        yield memory


class TestRefilledMemory:
    """What a Python source fills again is never seen in a batch that was read before."""

    def check(self, pipe: "tfjax.Pipeline") -> None:
        batches = list(pipe.iterate())
        assert [np.unique(b).tolist() for b in batches] == [[0, 1], [2, 3], [4, 5]]

    def test_of_a_generator(self) -> None:
        self.check(tfjax.from_generator(numbers_in_one_array, tf.TensorSpec((64,), tf.float32)).batch(2))

    def test_of_a_generator_of_batches(self) -> None:
        def batches() -> Any:
            memory = refilled((2, 64))
            for i in range(3):
                memory[0], memory[1] = 2 * i, 2 * i + 1
                yield memory

        self.check(tfjax.from_generator(batches, tf.TensorSpec((None, 64), tf.float32), batched=True))

    def test_of_a_source(self) -> None:
        self.check(tfjax.from_source(Refilling()).batch(2))

    def test_of_grain(self) -> None:
        grain = pytest.importorskip("grain")
        memory = refilled((64,))

        def fill(i: int) -> np.ndarray:
            memory[:] = i
            return memory

        # One batch at a time: the function itself is not made for several threads.
        self.check(tfjax.from_grain(grain.MapDataset.range(6).map(fill)).batch(2).options(parallel_calls=1))
