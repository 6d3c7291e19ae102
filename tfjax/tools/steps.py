"""The training loop for linen, nnx, Equinox and Haiku: steps of `tfjax.frameworks` over a pipeline."""

from typing import Any

import jax
import numpy as np
import optax

from tfjax.state import State
from tfjax.tools.history import History
from tfjax.tools.job import Job


def cross_entropy(predict: Any, batch: Any) -> jax.Array:
    """The loss of each example: (batch,)."""
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])
    return losses


def metrics(predict: Any, batch: Any) -> dict[str, jax.Array]:
    """What is summed over the test split, for each example: (batch,) each."""
    logits = predict(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return {"accuracy": logits.argmax(-1) == batch["label"], "loss": loss}


def run(job: Job) -> tuple[Any, History]:
    """Train, from the last checkpoint where there is one; the trained parameters and the curves."""
    module, data = job.module, job.data
    optimizer = optax.adam(optax.cosine_decay_schedule(job.settings.learning_rate, job.steps))
    state = module.create_state(module.small_cnn(data.num_classes), optimizer, data.train.spec, job.settings.seed)
    train_step, eval_step = module.train_step(cross_entropy), module.eval_step(metrics)
    saved = job.checkpoints.restore(state)
    position = None
    if saved:
        state, position = saved.state, State.from_json(saved.position)
    history = job.begin(saved)
    behind: list[jax.Array] = []  # losses not read yet: to read one is to wait for its step, so it is done a step late
    with data.train.iterate(epochs=job.settings.epochs, state=position) as batches:
        for batch in batches:
            state, measured = train_step(state, batch)
            behind.append(measured["loss"])
            step = batches.step
            ends_epoch = step % job.steps_per_epoch == 0
            stops = ends_epoch or step % job.settings.checkpoint_every == 0
            while len(behind) > (0 if stops else 1):
                loss = float(behind.pop(0))
                job.after_step(history, step - len(behind), loss, batches.stats.wait_s)
            if ends_epoch:
                job.after_epoch(history, step, **evaluate(eval_step, state, data.test))
            if stops:
                job.save(history, step, state, batches.state.to_json())
    return module.parameters(state), history


def evaluate(eval_step: Any, state: Any, pipe: Any) -> dict[str, float]:
    """The mean of each metric over every example of the pipeline, once."""
    with pipe.iterate() as batches:
        sums = jax.device_get([eval_step(state, batch) for batch in batches])
    totals = {name: float(np.sum([s[name] for s in sums], dtype=np.float64)) for name in sums[0]}
    count = totals.pop("count")
    return {name: total / count for name, total in totals.items()}
