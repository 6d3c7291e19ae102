"""`tfjax train`: a small CNN in one framework or all five on the same pipeline, and how they did."""

import importlib
import json
import time
from contextlib import closing
from dataclasses import asdict
from typing import Any

from rich.console import Console

from tfjax.tools import data, plot, progress, table
from tfjax.tools.checkpoint import Checkpoints, parameters_sha256
from tfjax.tools.errors import refused_input
from tfjax.tools.history import Meter, Result
from tfjax.tools.job import Job
from tfjax.tools.settings import TrainSettings


def train(settings: TrainSettings) -> list[Result]:
    """Train, evaluate, print the table, and write `result.json` and `curves.png` into `settings.out`.

    Raises:
        UserError: the input was refused; the text says why.
    """
    console = Console()
    with refused_input(ImportError, ValueError, KeyError, TypeError, OSError):
        modules = {name: importlib.import_module(f"tfjax.frameworks.{name}") for name in settings.frameworks}
        pipelines = data.load(
            settings.name,
            splits=(settings.split_train, settings.split_test),
            batch_size=settings.batch_size,
            seed=settings.seed,
            data_dir=settings.data_dir,
        )
    with progress.report(console) as report, refused_input():
        results = [_run(name, module, pipelines, settings, report) for name, module in modules.items()]
    table.show(results, console)
    _write(settings, results, console)
    return results


def _run(framework: str, module: Any, pipelines: data.Data, settings: TrainSettings, report: Any) -> Result:
    directory = settings.checkpoint_dir and settings.checkpoint_dir / framework
    training = {"framework": framework, **settings.training}
    began = time.perf_counter()
    with closing(Checkpoints(directory, training=training, resume=settings.resume)) as checkpoints:
        job = Job(
            framework=framework,
            module=module,
            data=pipelines,
            settings=settings,
            checkpoints=checkpoints,
            report=report,
            meter=Meter(),
        )
        loop = importlib.import_module(f"tfjax.tools.{'keras_fit' if framework == 'keras' else 'steps'}")
        parameters, history = loop.run(job)
    tested = history.test[-1]
    return Result(
        framework=framework,
        test_accuracy=tested["accuracy"],
        test_loss=tested["loss"],
        steps=job.steps,
        examples_per_s=job.meter.rate,
        waiting=job.meter.waiting,
        seconds=time.perf_counter() - began,
        parameters_sha256=parameters_sha256(parameters),
        history=asdict(history),
    )


def _write(settings: TrainSettings, results: list[Result], console: Console) -> None:
    settings.out.mkdir(parents=True, exist_ok=True)
    record = {"training": settings.training, "results": [asdict(result) for result in results]}
    written = settings.out / "result.json"
    written.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    picture = settings.out / "curves.png"
    plot.save(results, picture, title=f"{settings.name}: {settings.epochs} epochs, batch {settings.batch_size}")
    console.out(f"curves: {picture}   figures: {written}", highlight=False)
