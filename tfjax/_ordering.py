"""The methods that say which rows there are and in which order; each returns a new pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from tfjax._arguments import require_count, require_seed, require_shares
from tfjax._chain import ChainNode
from tfjax._memory import physical_bytes
from tfjax.graph import stages as st
from tfjax.spec import format_bytes

_SLOT_BYTES = 24  # what the op allocates for each place of its buffer


class Ordering(ChainNode):
    """Seeds, and the choice and order of rows."""

    def seed(self, n: int) -> Self:
        """Seed every random op of the pipeline; 0 where it is not called.

        Args:
            n: any int that fits 64 bits.

        Example:
            >>> import numpy as np, tfjax
            >>> tfjax.from_arrays(np.arange(3)).seed(7)
            Pipeline(from_arrays(3 rows) -> seed(n=7))
        """
        return self._append(st.Seed(n=require_seed("seed", n)))

    def shuffle(self, seed: int) -> Self:
        """Put all rows in a new order each epoch: a permutation drawn from (seed, epoch), in constant memory.

        Args:
            seed: any int that fits 64 bits.

        Raises:
            ValueError: the pipeline is shuffled already, or batched, or streams.

        Example:
            >>> import numpy as np, tfjax
            >>> [int(x) for x in tfjax.from_arrays(np.arange(5)).shuffle(seed=1)]
            [0, 2, 4, 3, 1]
        """
        self._require_indexed("shuffle", "shuffle_window(buffer_size, seed), which holds that many examples in memory")
        return self._append(st.Shuffle(seed=require_seed("shuffle", seed)))

    def shuffle_window(self, buffer_size: int, seed: int) -> Self:
        """Shuffle what can only be streamed: each example is drawn from the next `buffer_size` ones.

        The order is drawn from (seed, epoch), so that it is another one each epoch and the same in every run. It
        mixes within the window only: an example moves forward by less than `buffer_size` places.

        Args:
            buffer_size: examples held in memory, as many times the bytes of one. Where the number of examples is not
                known, TensorFlow takes 24 bytes for each at once.
            seed: any int that fits 64 bits.

        Raises:
            ValueError: the pipeline is indexed, batched, or shuffled already, or the buffer is larger than the memory.

        Example:
            >>> import tensorflow as tf, tfjax
            >>> pipe = tfjax.from_tf(tf.data.Dataset.range(6)).shuffle_window(3, seed=0)
            >>> sorted(int(x) for x in pipe)
            [0, 1, 2, 3, 4, 5]
        """
        if hasattr(getattr(self._chain[0], "source", None), "fetch"):
            raise ValueError(
                "shuffle_window is for what can only be streamed, and this pipeline is indexed: use shuffle(seed), "
                "which reaches every row and holds none in memory"
            )
        size = require_count("shuffle_window: buffer_size", buffer_size, least=1)
        slots, memory = size * _SLOT_BYTES, physical_bytes()
        if memory is not None and slots > memory and self._plan.steps_per_epoch is None:
            raise ValueError(
                f"shuffle_window: buffer_size={size} takes {format_bytes(slots)} before the first example comes, and "
                f"this machine has {format_bytes(memory)}: give at most the number of examples, which is not known here"
            )
        return self._append(st.ShuffleWindow(buffer_size=size, seed=require_seed("shuffle_window", seed)))

    def take(self, n: int) -> Self:
        """Keep the first n: examples before `shuffle`, of each epoch's order after it, batches or stacks after those.

        Args:
            n: how many; fewer if there are fewer.

        Example:
            >>> import numpy as np, tfjax
            >>> len(tfjax.from_arrays(np.arange(5)).take(3))
            3
        """
        return self._append(st.Take(n=require_count("take", n, least=1)))

    def skip(self, n: int) -> Self:
        """Leave out the first n; what they are is as in `take`.

        Args:
            n: how many.

        Example:
            >>> import numpy as np, tfjax
            >>> len(tfjax.from_arrays(np.arange(5)).skip(3))
            2
        """
        return self._append(st.Skip(n=require_count("skip", n, least=0)))

    def split(self, fractions: Mapping[str, float], seed: int) -> dict[str, Self]:
        """Cut the rows into named parts by a hash of their index, so that no row is in two parts.

        Args:
            fractions: name to share of the rows, each above 0 and together at most 1. Sizes are exact: the rows are
                cut at the rounded cumulative fractions.
            seed: another seed gives other parts.

        Returns:
            One Pipeline a name; each keeps its rows in their order.

        Raises:
            ValueError: after `shuffle`, or fractions that are no shares.

        Example:
            >>> import numpy as np, tfjax
            >>> parts = tfjax.from_arrays(np.arange(10)).split({"train": 0.8, "val": 0.2}, seed=0)
            >>> {name: len(part) for name, part in parts.items()}
            {'train': 8, 'val': 2}
        """
        self._require_indexed("split", "take and skip of a stream whose order is fixed")
        shares = require_shares("split", fractions)
        stages = {n: st.Split(fractions=shares, part=n, seed=require_seed("split", seed)) for n in fractions}
        return {name: self._append(stage) for name, stage in stages.items()}
