"""What the command line needs of Keras to train by `fit`: a compiled model, its values, a callback."""

from collections.abc import Callable
from typing import Any

import jax

from tfjax.frameworks._batch import beside_batches
from tfjax.frameworks._keras_backend import keras
from tfjax.frameworks.keras import build


def classifier(
    model: Callable[[], Any], spec: Any, *, seed: int, learning_rate: float, steps: int, x: str = "image"
) -> Any:
    """A built and compiled classifier whose outputs are logits, for integer labels.

    Args:
        model: a function to a model.
        spec: a pipeline's `spec`.
        seed: of the initial parameters.
        learning_rate: Adam's first one; it falls to 0 along a cosine.
        steps: after which it is 0.
        x: the key of the model's inputs.
    """
    built = build(model, spec, seed, x=x)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    built.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[  # weighted, or the repeated rows of a padded batch would count
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
        ],
    )
    built.optimizer.build(built.trainable_variables)
    assign(built, beside_batches(values(built), spec))
    return built


def hooks(**functions: Callable[..., None]) -> Any:
    """A callback of functions, named as Keras names its hooks: `on_train_batch_end=`, and so on."""
    return keras.callbacks.LambdaCallback(**functions)


def values(model: Any) -> list[jax.Array]:
    """What training changes: the variables of model and optimizer, also in the middle of an epoch."""
    model.jax_state_sync()
    return [variable.value for variable in _variables(model)]


def assign(model: Any, arrays: list[jax.Array]) -> None:
    """Set what `values` gave."""
    for variable, array in zip(_variables(model), arrays, strict=True):
        variable.assign(array)


def trainable(model: Any) -> list[jax.Array]:
    """The trained parameters."""
    return [variable.value for variable in model.trainable_variables]


def _variables(model: Any) -> list[Any]:
    return [*model.trainable_variables, *model.non_trainable_variables, *model.optimizer.variables]
