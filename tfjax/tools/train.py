"""`tfjax train`: a small CNN in one framework or all five on the same pipeline, and how they did."""

import importlib
import json
import time
from dataclasses import asdict
from typing import Any

import optax
from rich.console import Console

from tfjax.tools import data, plot, table
from tfjax.tools.errors import UserError, refused_input
from tfjax.tools.result import Result, parameters_sha256
from tfjax.tools.settings import TrainSettings
from tfjax.training import Callback, Checkpoints, Run, classification, cross_entropy, fit
from tfjax.training.meter import Meter
from tfjax.training.progress import reporter

KEPT = 2  # checkpoints


def train(settings: TrainSettings) -> list[Result]:
    """Train, evaluate, print the table, and write `result.json` and `curves.png` into `settings.out`.

    Raises:
        UserError: the input was refused; the text says why.
    """
    console = Console()
    with refused_input(ImportError, ValueError, KeyError, TypeError, OSError):
        settings.out.mkdir(parents=True, exist_ok=True)
        modules = {name: importlib.import_module(f"tfjax.frameworks.{name}") for name in settings.frameworks}
        pipelines = data.load(
            settings.name,
            splits=(settings.split_train, settings.split_test),
            batch_size=settings.batch_size,
            seed=settings.seed,
            data_dir=settings.data_dir,
        )
    with refused_input(OSError):
        results = [_run(name, module, pipelines, settings, console) for name, module in modules.items()]
        table.show(results, console)
        _write(settings, results, console)
    return results


def _run(framework: str, module: Any, pipelines: data.Data, settings: TrainSettings, console: Console) -> Result:
    began = time.perf_counter()
    steps = settings.epochs * len(pipelines.train)
    optimizer = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, steps))
    model = module.small_cnn(pipelines.num_classes)
    state = module.create_state(model, optimizer, pipelines.train.spec, settings.seed)
    measured = _Measured()
    try:
        state, history = fit(
            module.train_step(cross_entropy()),
            state,
            pipelines.train,
            epochs=settings.epochs,
            evaluate=(module.eval_step(classification()), pipelines.test),
            callbacks=[measured],
            checkpoint_dir=_checkpoints(framework, settings),
            progress=reporter(framework, console),
        )
    except FileExistsError as error:
        raise UserError(f"{error}: add --resume, or name another --checkpoint-dir") from error
    tested = history.evaluations[-1]
    return Result(
        framework=framework,
        test_accuracy=tested["accuracy"],
        test_loss=tested["loss"],
        steps=steps,
        examples_per_s=measured.meter.rate,
        waiting=measured.meter.waiting,
        seconds=time.perf_counter() - began,
        parameters_sha256=parameters_sha256(state.params),
        history=history.to_json(),
    )


def _checkpoints(framework: str, settings: TrainSettings) -> Checkpoints | None:
    if settings.checkpoint_dir is None:
        return None
    return Checkpoints(
        settings.checkpoint_dir / framework,
        every=settings.checkpoint_every,
        keep=KEPT,
        resume=settings.resume,
        settings={"framework": framework, **settings.training},
    )


class _Measured(Callback):
    """Keeps the meter of a run."""

    meter = Meter()

    def on_begin(self, run: Run) -> None:
        """The run's."""
        self.meter = run.meter


def _write(settings: TrainSettings, results: list[Result], console: Console) -> None:
    record = {"training": settings.training, "results": [asdict(result) for result in results]}
    written = settings.out / "result.json"
    written.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    picture = settings.out / "curves.png"
    plot.save(results, picture, title=f"{settings.name}: {settings.epochs} epochs, batch {settings.batch_size}")
    console.out(f"curves: {picture}   figures: {written}", highlight=False)
