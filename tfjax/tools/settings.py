"""What `tfjax train` is asked to do, checked where argparse cannot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfjax.tools.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One call of `tfjax train`; the fields are its arguments.

    Args:
        name: of the dataset.
        frameworks: to train with, one after the other.
        epochs: passes over the training split.
        batch_size: examples in a batch.
        learning_rate: the first one; it falls to 0 along a cosine.
        seed: of the order and of the initial parameters.
        split_train: what is trained on, in TFDS's notation.
        split_test: what is evaluated after each epoch.
        data_dir: where the dataset is or is to be prepared; TFDS's own folder if None.
        out: folder of result.json and curves.png.
        checkpoint_dir: folder of the checkpoints, one folder a framework; none are kept if None.
        checkpoint_every: steps between two checkpoints; one is written after each epoch as well.
        resume: go on from the last checkpoint.
    """

    name: str
    frameworks: tuple[str, ...]
    out: Path
    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 5e-3
    seed: int = 0
    split_train: str = "train"
    split_test: str = "test"
    data_dir: str | None = None
    checkpoint_dir: Path | None = None
    checkpoint_every: int = 100
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.resume and self.checkpoint_dir is None:
            raise UserError("--resume without --checkpoint-dir: name the folder whose checkpoint to go on from")
        if not self.learning_rate > 0:
            raise UserError(f"--learning-rate {self.learning_rate} is not above 0")

    @property
    def training(self) -> dict[str, Any]:
        """What decides the parameters: a run is resumed with the same, or not at all."""
        names = ("name", "epochs", "batch_size", "learning_rate", "seed", "split_train", "split_test")
        return {name: getattr(self, name) for name in names}
