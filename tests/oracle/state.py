"""Global steps: which element of which epoch a step delivers, and where a run ends."""

from collections.abc import Iterator

from .chain import Chain
from .tree import Tree


def run(chain: Chain, total: int, *, start_epoch: int = 0, begin: int = 0) -> Iterator[Tree]:
    """The elements of the steps from `begin` to `total`, both counted from `start_epoch`."""
    per_epoch, epochs = len(chain), {}
    for step in range(begin, total):
        number = start_epoch + step // per_epoch
        if number not in epochs:
            epochs = {number: chain.epoch(number)}
        yield epochs[number][step % per_epoch]


def end_of_epoch(step: int, per_epoch: int) -> int:
    """Where a run ends that is given a state alone: with its epoch, or with the next one at a boundary."""
    return (step // per_epoch + 1) * per_epoch
