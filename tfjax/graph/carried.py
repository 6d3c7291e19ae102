"""Leaves that travel to the devices beside a batch, for its device functions, and are not delivered.

They are uint32, as JAX has them, whatever its settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfjax._tensorflow import tf
from tfjax.graph.hashing import hash64_tf
from tfjax.graph.moment import Moment
from tfjax.graph.order import epoch_words
from tfjax.graph.stages import Chain, RandomDeviceMap, RandomMap, pipeline_seed


@dataclass(frozen=True)
class Carried:
    """One of these leaves.

    Attributes:
        name: for messages.
        by_row: whether dimension 0 is that of the batch, so that it is sharded as that is; else every device has it.
        words: 2 for a key, of shape (batch, 2) or (2,); 1 for one number a row, of shape (batch,).
    """

    name: str
    by_row: bool
    words: int = 2


class DeviceKeys:
    """The keys of the random device functions: hash64(seed, epoch, op) with the row's index, or the batch's number."""

    def __init__(self, chain: Chain) -> None:
        """Number the random functions of a chain, those of the graph first."""
        self._seed = pipeline_seed(chain)
        self._stages = [s for s in chain if isinstance(s, RandomDeviceMap)]
        self._first = sum(isinstance(s, RandomMap) for s in chain)
        self.carried = tuple(Carried(f"the key of {s.describe()}", s.per_example) for s in self._stages)

    @property
    def by_row(self) -> bool:
        """Whether some need the identity of each row."""
        return any(leaf.by_row for leaf in self.carried)

    def __call__(self, moment: Moment, number: tf.Tensor, index: tf.Tensor | None) -> list[tf.Tensor]:
        """The leaves.

        Args:
            moment: its epoch counts.
            number: int64 scalar, which batch of its epoch it is.
            index: int64 (batch,), the identity of each row in its source; None where no leaf is by row.
        """
        if not self.carried:
            return []
        ops = range(self._first, self._first + len(self._stages))
        words = tf.unstack(epoch_words(self._seed, moment.epoch, ops))
        return [self._key(word, leaf, number, index) for word, leaf in zip(words, self.carried, strict=True)]

    def _key(self, word: tf.Tensor, leaf: Carried, number: tf.Tensor, index: tf.Tensor | None) -> tf.Tensor:
        what = index if leaf.by_row and index is not None else number
        return tf.bitcast(hash64_tf(word, what), tf.uint32)
