"""Checkpoints: what is written is what is read, and a folder of another run is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("orbax.checkpoint")

from tfjax.tools.checkpoint import Checkpoints, parameters_sha256
from tfjax.tools.errors import UserError

TRAINING = {"name": "digits", "epochs": 3, "learning_rate": 2e-3}
HISTORY = {"loss": [[0.5, 1.25]], "pending": [0.1]}


def state(value):
    """Arrays of several kinds, one of them empty, beside what is no array."""
    return {
        "w": jnp.full((3, 4), value, jnp.float32),
        "half": jnp.full((5,), value, jnp.bfloat16),
        "step": jnp.int32(value),
        "none": jnp.zeros((0, 2)),
        "activation": jax.nn.relu,
    }


def test_round_trip(tmp_path):
    written = Checkpoints(tmp_path / "run", training=TRAINING, resume=False)
    written.save(7, state(1.1), position="{}", history=HISTORY)
    written.save(9, state(2.3), position='{"step":9}', history=HISTORY)
    written.close()
    read = Checkpoints(tmp_path / "run", training=TRAINING, resume=True)
    saved = read.restore(state(0.0))
    read.close()
    assert (saved.step, saved.position, saved.history) == (9, '{"step":9}', HISTORY)
    assert saved.state["activation"] is jax.nn.relu
    arrays = [name for name, leaf in state(0).items() if isinstance(leaf, jax.Array)]
    for name in arrays:
        assert saved.state[name].dtype == state(0.0)[name].dtype
        np.testing.assert_array_equal(saved.state[name], state(2.3)[name])


def test_without_a_folder_nothing_is_kept():
    none = Checkpoints(None, training=TRAINING, resume=False)
    none.save(1, state(1.0), position="{}", history=HISTORY)
    assert not none.kept
    assert none.restore(state(0.0)) is None
    none.close()


def test_resuming_from_an_empty_folder_starts_anew(tmp_path):
    empty = Checkpoints(tmp_path, training=TRAINING, resume=True)
    assert empty.restore(state(0.0)) is None
    empty.close()


def test_another_run_is_refused(tmp_path):
    written = Checkpoints(tmp_path, training=TRAINING, resume=False)
    written.save(7, state(1.0), position="{}", history=HISTORY)
    written.close()
    with pytest.raises(UserError, match=r"holds a run at step 7: add --resume"):
        Checkpoints(tmp_path, training=TRAINING, resume=False)
    other = Checkpoints(tmp_path, training={**TRAINING, "epochs": 5}, resume=True)
    with pytest.raises(UserError, match=r"made with epochs 3, now 5: resume with what it was made with"):
        other.restore(state(0.0))
    other.close()


def test_the_digest_sees_bits_shapes_and_dtypes():
    zeros = jnp.zeros((2, 3))
    same = [parameters_sha256({"w": zeros}), parameters_sha256([jnp.zeros((2, 3))])]
    others = [zeros.at[0, 0].set(-0.0), zeros.reshape(3, 2), jnp.zeros((2, 3), jnp.int32)]
    assert same[0] == same[1]
    assert len({same[0], *(parameters_sha256(other) for other in others)}) == 4
