"""normalize, cast and one_hot: what comes out, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tfjax
from tfjax import on_device

LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
MEAN, STD = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_normalize_is_the_formula_of_numpy(dtype):
    image = LEVELS.astype(dtype)
    out = jax.jit(on_device.normalize("image", MEAN, STD))({"image": image})["image"]
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, (image.astype(np.float64) - MEAN) / STD, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_normalize_rounds_to_half_precision_at_the_end(dtype):
    wide = on_device.normalize("image", MEAN, STD)({"image": LEVELS})["image"]
    out = on_device.normalize("image", MEAN, STD, dtype=dtype)({"image": LEVELS})["image"]
    assert out.dtype == dtype
    assert np.array_equal(out, wide.astype(dtype))


def test_normalize_takes_one_number_for_all_channels():
    out = on_device.normalize("x", 127.5, (127.5,))({"x": LEVELS})["x"]
    assert (float(out.min()), float(out.max())) == (-1, 1)


@pytest.mark.parametrize(
    ("mean", "std", "error", "said"),
    [
        (0, 0, ValueError, r"std is 0.0: it is above 0"),
        (0, [1, -1, 1], ValueError, r"std is \(1.0, -1.0, 1.0\): it is above 0"),
        (float("nan"), 1, ValueError, r"mean takes a finite number, or one a channel, given nan"),
        ([[1, 2, 3]], 1, ValueError, r"mean takes a finite number, or one a channel, given \[\[1"),
        ([], 1, ValueError, r"mean takes a finite number"),
        ("imagenet", 1, TypeError, r"mean takes a number, or one a channel, given 'imagenet'"),
    ],
)
def test_normalize_refuses_what_are_no_numbers(mean, std, error, said):
    with pytest.raises(error, match=said):
        on_device.normalize("image", mean, std)


def test_normalize_refuses_another_number_of_channels():
    with pytest.raises(ValueError, match=r"'image' has shape \(1, 16, 16, 1\), and mean and std are for 3 channels"):
        on_device.normalize("image", MEAN, STD)({"image": LEVELS[..., :1]})


@pytest.mark.parametrize("dtype", [bool, jnp.complex64])
def test_normalize_refuses_other_leaves(dtype):
    if dtype is bool:
        with pytest.raises(TypeError, match=r"'mask' is bool, and it takes integers or floats"):
            on_device.normalize("mask", 0, 1)({"mask": np.ones(3, bool)})
    with pytest.raises(TypeError, match=r"normalize takes a dtype of floats, such as 'bfloat16', given"):
        on_device.normalize("image", 0, 1, dtype=dtype)


def test_cast_leaves_all_but_floats_as_they_are():
    batch = {
        "image": np.ones((2, 4, 4, 3), np.float32),
        "raw": np.ones((2, 4, 4, 3), np.uint8),
        "label": np.arange(2, dtype=np.int32),
        "mask": np.ones(2, bool),
        "nested": [np.ones(2, np.float16)],
    }
    out = jax.jit(on_device.cast(jnp.bfloat16))(batch)
    assert jax.tree.map(lambda leaf: leaf.dtype.name, out) == {
        "image": "bfloat16",
        "raw": "uint8",
        "label": "int32",
        "mask": "bool",
        "nested": ["bfloat16"],
    }


def test_cast_by_key_changes_those_leaves_alone():
    batch = {"raw": np.arange(3, dtype=np.uint8), "x": np.ones(3, np.float32), "in": {"y": np.ones(3, np.float32)}}
    out = on_device.cast({"raw": "bfloat16", "in/y": "float16"})(batch)
    assert jax.tree.map(lambda leaf: leaf.dtype.name, out) == {
        "raw": "bfloat16",
        "x": "float32",
        "in": {"y": "float16"},
    }
    assert out["raw"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("policy", ["int8", "no such dtype", {"image": np.uint8}, None])
def test_cast_takes_floats_only(policy):
    with pytest.raises(TypeError, match=r"cast takes a dtype of floats, such as 'bfloat16', given"):
        on_device.cast(policy)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_one_hot_is_the_formula(smoothing):
    label = np.array([3, 0, 9, -1, 10])
    out = jax.jit(on_device.one_hot("label", 10, smoothing=smoothing))({"label": label})["label"]
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[:3], np.eye(10)[label[:3]] * (1 - smoothing) + smoothing / 10, atol=1e-7)
    assert not out[3:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_one_hot_takes_any_integers(dtype):
    out = on_device.one_hot("label", 300)({"label": np.array([[5], [100]], dtype)})["label"]
    assert out.shape == (2, 1, 300)
    assert out.argmax(-1).tolist() == [[5], [100]]


def test_one_hot_refuses_what_it_cannot_take():
    with pytest.raises(TypeError, match=r"one_hot: 'label' is float32, and labels are integers: leave one_hot out"):
        on_device.one_hot("label", 3)({"label": np.eye(3, dtype=np.float32)})
    with pytest.raises(ValueError, match=r"smoothing is 1.5: it is from 0 to 1"):
        on_device.one_hot("label", 3, smoothing=1.5)
    with pytest.raises(ValueError, match=r"num_classes takes an int from 1"):
        on_device.one_hot("label", 0)
    with pytest.raises(KeyError, match=r"one_hot: there is no 'label': the keys are \['x'\]"):
        on_device.one_hot("label", 3)({"x": 1})


def test_a_pipeline_names_the_error_where_it_is_planned():
    pipe = tfjax.from_arrays({"x": np.zeros((4, 8, 8, 3), np.uint8)}).batch(2)
    with pytest.raises(KeyError, match=r"normalize: there is no 'image': the keys are \['x'\]"):
        pipe.device_map(on_device.normalize("image", 0, 1)).spec  # noqa: B018
