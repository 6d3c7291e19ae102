"""A random flip that is drawn in the graph and applied on an accelerator, where mirroring costs nothing.

On a CPU it stays in the loop, where it costs 20 us a photo of 224 by 224, less than in a batch or under jit.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tfjax._tensorflow import tf
from tfjax.graph.carried import Carried
from tfjax.graph.functions import SEED_SPEC
from tfjax.graph.moment import Moment
from tfjax.graph.order import epoch_words, row_seeds
from tfjax.graph.stages import ORDER_STAGES, Chain, KeepOnHost, Map, Options, RandomMap, Seed
from tfjax.ops.image.flip import RandomFlip

_PASSES = (*ORDER_STAGES, Seed, Options, KeepOnHost)


@dataclass(frozen=True)
class LateFlip:
    """A flip that is left to the devices.

    Attributes:
        op: what it does.
        seed: the pipeline's.
        ordinal: which of the chain's random ops it is.
    """

    op: RandomFlip
    seed: int
    ordinal: int

    @property
    def carried(self) -> Carried:
        """The leaf that says which rows it flips: 1 for top and bottom, and 2 for left and right."""
        return Carried(f"what {self.op!r} decides", by_row=True, words=1)

    def decisions(self, moment: Moment, index: tf.Tensor) -> tf.Tensor:
        """For each row, uint32 (n,).

        Args:
            moment: its epoch counts.
            index: int64 (n,), the identity of each row in its source.
        """
        (seeds,) = row_seeds(epoch_words(self.seed, moment.epoch, [self.ordinal]), index)

        def one(seed: tf.Tensor) -> tf.Tensor:
            drawn = self.op.draw(tf.zeros((2,), tf.int32), seed)
            bits = [tf.cast(b, tf.int32) * 2**i for i, b in enumerate(drawn) if b is not None]
            return tf.add_n(bits)

        fn = tf.function(one, autograph=False).get_concrete_function(SEED_SPEC)
        (bits,) = tf.raw_ops.MapDefun(
            arguments=[seeds],
            captured_inputs=fn.captured_inputs,
            output_types=[tf.int32],
            output_shapes=[tf.TensorShape(())],
            f=fn,
        )
        bits.set_shape(index.shape)
        return tf.cast(bits, tf.uint32)


def leave_flips(chain: Chain, seed: int) -> tuple[Chain, list[LateFlip], list[str]]:
    """The chain without the flips that nothing before `batch` looks at, these, and what was done.

    Args:
        chain: the stages before `batch`.
        seed: the pipeline's, which may be said after it.
    """
    flips: list[LateFlip] = []
    for stage in _last_to_touch(chain):
        ordinal = sum(isinstance(s, RandomMap) for s in chain[: chain.index(stage)])
        flips.append(LateFlip(stage.op, seed, ordinal))
        # It stays, without effect, as those after it are counted from it.
        still = dataclasses.replace(stage, fn=lambda example, _: example, name=f"{stage.describe()} on the devices")
        chain = tuple(still if s is stage else s for s in chain)
    return chain, flips, [f"{flip.op!r} is drawn in the graph, and applied on the devices" for flip in flips]


def _last_to_touch(chain: Chain) -> list[Map]:
    """The flips after which no stage touches the image."""
    found: list[Map] = []
    on_host = {key for s in chain if isinstance(s, KeepOnHost) for key in s.keys}
    touched: set[str] = set()
    for stage in reversed(chain):
        if isinstance(stage, _PASSES):
            continue
        if not isinstance(stage, Map) or stage.op is None:
            break
        op = stage.op
        moves = op.key.split("/")[0] not in on_host if isinstance(op, RandomFlip) else False
        if moves and op.keys == (op.key,) and op.key not in touched:
            found.append(stage)
        touched.update(op.keys)
    return found
