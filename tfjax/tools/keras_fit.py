"""The same run with Keras: its own `fit`, over `to_keras`."""

from typing import Any

from tfjax.frameworks import _keras_fit
from tfjax.state import State
from tfjax.tools.history import History
from tfjax.tools.job import Job


def run(job: Job) -> tuple[Any, History]:
    """Train, from the last checkpoint where there is one; the trained parameters and the curves."""
    model = _keras_fit.classifier(
        job.module.small_cnn(job.data.num_classes),
        job.data.train.spec,
        seed=job.settings.seed,
        learning_rate=job.settings.learning_rate,
        steps=job.steps,
    )
    saved = job.checkpoints.restore(_keras_fit.values(model))
    if saved:
        _keras_fit.assign(model, saved.state)
    history = job.begin(saved)
    step = saved.step if saved else 0
    if saved and step % job.steps_per_epoch:
        _fit(job, model, history, step, state=State.from_json(saved.position))  # the rest of an epoch
        step += job.steps_per_epoch - step % job.steps_per_epoch
    if step < job.steps:
        _fit(job, model, history, step)
    return _keras_fit.trainable(model), history


def _fit(job: Job, model: Any, history: History, done: int, *, state: State | None = None) -> None:
    """Fit to the end of the epoch that `state` stands in, or from the boundary `done` to the run's end."""
    first = done // job.steps_per_epoch
    last = first + 1 if state else job.settings.epochs
    where = {"state": state} if state else {"start_epoch": first}
    train = job.data.train.to_keras(x="image", y="label", **where)
    test = job.data.test.to_keras(x="image", y="label")
    # Keras logs the mean loss since its epoch began: a step's own loss is the difference of two sums.
    loss_sum = 0.0
    step, trained = done, 0  # of the run, of the epoch at hand

    def after_step(batch: int, logs: Any) -> None:
        nonlocal loss_sum, step, trained
        step, trained = step + 1, batch + 1
        previous, loss_sum = (loss_sum if batch else 0.0), float(logs["loss"]) * trained
        job.after_step(history, step, loss_sum - previous, train.wait_s)
        if step % job.settings.checkpoint_every == 0 and step % job.steps_per_epoch:
            job.save(history, step, _keras_fit.values(model), train.state_after(trained).to_json())

    def after_epoch(_: int, logs: Any) -> None:
        job.after_epoch(history, step, accuracy=logs["val_accuracy"], loss=logs["val_cross_entropy"])
        job.save(history, step, _keras_fit.values(model), train.state_after(trained).to_json())

    hooks = _keras_fit.hooks(on_train_batch_end=after_step, on_epoch_end=after_epoch)
    model.fit(train, initial_epoch=first, epochs=last, validation_data=test, callbacks=[hooks], verbose=0)
