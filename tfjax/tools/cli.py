"""The command line: `tfjax train`, `show`, `info`, `doctor`. It loads TensorFlow and JAX once it runs a command.

>>> from tfjax.tools.cli import main
>>> main(["train", "digits", "--resume"])
2
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tfjax import __version__

FRAMEWORKS = ("linen", "nnx", "equinox", "haiku", "keras")
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
USAGE_ERROR = 2  # as argparse has it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those of the process where None.

    Returns:
        The exit code: 0, 1 where `doctor` finds something wrong, 2 for input that was refused (the reason is on
        stderr), 130 after Ctrl-C, 143 after SIGTERM where checkpoints are kept.
    """
    options = _parser().parse_args(arguments)
    from tfjax.tools.errors import UserError

    hint = " (the same command with --resume goes on)" if getattr(options, "checkpoint_dir", None) else ""
    try:
        return int(options.run(options) or 0)
    except UserError as e:
        return _say(f"tfjax: {e}", USAGE_ERROR)
    except SystemExit as e:  # of a run that keeps checkpoints, which SIGTERM ended
        return _say(f"tfjax: terminated{hint}", int(e.code or 0))
    except KeyboardInterrupt:
        return _say(f"tfjax: interrupted{hint}", INTERRUPTED)


def _doctor(options: argparse.Namespace) -> int:
    from tfjax.tools.doctor import doctor

    return doctor(as_json=options.json)


def _info(options: argparse.Namespace) -> None:
    from tfjax.tools.info import info

    info(options.name, data_dir=options.data_dir, split=options.split, as_json=options.json)


def _show(options: argparse.Namespace) -> None:
    from tfjax.tools.show.command import write_picture

    write_picture(
        options.name,
        split=options.split,
        data_dir=options.data_dir,
        count=options.count,
        out=options.out or Path("runs") / Path(options.name).name / "show.png",
    )


def _train(options: argparse.Namespace) -> None:
    # TensorFlow may import Keras before its own file of frameworks does, which then finds another backend.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from tfjax.tools.errors import UserError
    from tfjax.tools.settings import TrainSettings

    try:
        from tfjax.tools.train import train
    except ImportError as e:
        raise UserError(f"`tfjax train` needs {e.name!r}: pip install 'tfjax[cli]'") from e
    frameworks = FRAMEWORKS if options.framework == "all" else (options.framework,)
    given = {name: value for name, value in vars(options).items() if name not in ("command", "framework", "run")}
    out = given.pop("out") or Path("runs") / Path(options.name).name
    train(TrainSettings(**given, out=out, frameworks=frameworks))


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(prog="tfjax", description="TFDS names in, sharded jax.Array batches out.")
    parser.add_argument("--version", action="version", version=f"tfjax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="what is installed, what does not go together, what this machine can do",
        description="Look at versions, devices, memory and caches. Ends with 1 where something is wrong.",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=_doctor)
    info = commands.add_parser(
        "info",
        help="what a dataset holds, and what load makes of it",
        description="Describe a TFDS dataset, prepared or not; nothing is downloaded.",
    )
    info.add_argument("name", help="a TFDS name, such as mnist or xquad/en")
    info.add_argument("--data-dir", default=None, help="where the dataset is prepared")
    info.add_argument("--split", default=None, help="in TFDS's notation; train, or the first one, if not given")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)
    show = commands.add_parser(
        "show",
        help="a picture of the first examples of a dataset of images",
        description="Draw the first examples of a TFDS dataset with labels, boxes and captions into a PNG.",
        formatter_class=defaults,
    )
    show.set_defaults(run=_show)
    show.add_argument("name", help="a TFDS name; digits is built in and needs no network")
    show.add_argument("--split", default="train", help="in TFDS's notation, such as train[:10%%]")
    show.add_argument("--data-dir", default=None, help="where the dataset is, or is to be, prepared")
    show.add_argument("--count", type=_positive, default=16, help="how many examples")
    show.add_argument("--out", type=Path, default=None, help="the PNG; runs/NAME/show.png if not given")
    train = commands.add_parser(
        "train",
        help="train a small CNN on a dataset of images and labels",
        description="Train a small CNN on a TFDS dataset with `image` and `label`, evaluate it, plot it.",
        formatter_class=defaults,
    )
    train.set_defaults(run=_train)
    train.add_argument("name", help="a TFDS name; digits is built in and needs no network")
    train.add_argument("--framework", default="linen", choices=(*FRAMEWORKS, "all"), help="what to train with")
    train.add_argument("--epochs", type=_positive, default=5, help="passes over the training split")
    train.add_argument("--batch-size", type=_positive, default=128, help="examples in a batch")
    train.add_argument("--learning-rate", type=float, default=5e-3, help="Adam's first one, cosine decay to 0")
    train.add_argument("--seed", type=int, default=0, help="of the order and of the initial parameters")
    train.add_argument("--split-train", default="train", help="in TFDS's notation, such as train[:80%%]")
    train.add_argument("--split-test", default="test", help="the split that is evaluated after each epoch")
    train.add_argument("--data-dir", default=None, help="where the dataset is, or is to be, prepared")
    train.add_argument("--checkpoint-dir", type=Path, default=None, help="keep checkpoints here")
    train.add_argument("--checkpoint-every", type=_positive, default=100, help="steps between two checkpoints")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    train.add_argument("--out", type=Path, default=None, help="for result.json and curves.png; runs/NAME if not given")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)
