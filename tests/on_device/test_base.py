"""What all functions of `tfjax.on_device` share: they are values, find a leaf by its key, and say what they miss."""

import collections

import jax
import numpy as np
import pytest

import tfjax
from tfjax import on_device

KEY = jax.random.key(0)
IMAGES = np.zeros((4, 8, 8, 3), np.uint8)
ROWS = {"image": IMAGES, "label": np.eye(4, dtype=np.float32)}
MADE = {
    "normalize": lambda: on_device.normalize("image", [1, 2, 3], np.ones(3), dtype="bfloat16"),
    "cast": lambda: on_device.cast({"image": "float16"}),
    "one_hot": lambda: on_device.one_hot("label", 4),
    "random_flip": lambda: on_device.random_flip("image", vertical=True),
    "random_crop": lambda: on_device.random_crop("image", 4, padding=1),
    "brightness": lambda: on_device.brightness("image", 32),
    "contrast": lambda: on_device.contrast("image", 0.5, 1.5),
    "mixup": lambda: on_device.mixup("image", "label", alpha=0.2),
    "cutmix": lambda: on_device.cutmix("image", "label", alpha=1),
}
OF_IMAGES = ["random_flip", "random_crop", "brightness", "contrast"]
DRAWING = [*OF_IMAGES, "mixup", "cutmix"]


def test_every_public_function_is_made_here():
    assert sorted(MADE) == sorted(on_device.__all__)


@pytest.mark.parametrize("name", MADE)
def test_equal_arguments_make_equal_functions(name):
    one, two = MADE[name](), MADE[name]()
    assert one == two
    assert hash(one) == hash(two)
    assert repr(one).startswith(f"{name}(")
    assert eval(repr(one), vars(on_device)) == one  # the call that makes it
    with pytest.raises(AttributeError, match="cannot assign"):
        setattr(one, next(iter(vars(one))), "other")


def test_other_arguments_make_another_function():
    assert on_device.random_crop("image", 4) != on_device.random_crop("image", 5)
    assert on_device.random_flip("image") != on_device.random_flip("photo")
    assert on_device.mixup("image", "label", 1) != on_device.cutmix("image", "label", 1)


@pytest.mark.parametrize("name", DRAWING)
def test_what_is_not_named_is_handed_on(name):
    other = np.arange(4)
    batch = collections.OrderedDict(other=other, **ROWS)
    out = MADE[name]()(batch, KEY)
    assert type(out) is collections.OrderedDict
    assert list(out) == ["other", "image", "label"]
    assert out["other"] is other
    assert batch["image"] is IMAGES


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_leaf_may_be_inside_of_dictionaries(name):
    fn = MADE[name]()
    flat = fn({"image": IMAGES}, KEY)["image"]
    deep = type(fn)(*["inputs/image", *list(vars(fn).values())[1:]])({"inputs": {"image": IMAGES, "n": 1}}, KEY)
    assert deep["inputs"]["n"] == 1
    assert np.array_equal(deep["inputs"]["image"], flat)


@pytest.mark.parametrize("name", DRAWING)
def test_a_missing_key_shows_those_that_are_there(name):
    with pytest.raises(KeyError, match=rf"{name}: there is no 'image': the keys are \['label', 'photo'\]"):
        MADE[name]()({"photo": IMAGES, "label": ROWS["label"]}, KEY)


@pytest.mark.parametrize("name", ["normalize", "cast"])
def test_a_missing_key_of_device_map_too(name):
    with pytest.raises(KeyError, match=rf"{name}: there is no 'image': the keys are \['photo'\]"):
        MADE[name]()({"photo": IMAGES})


@pytest.mark.parametrize("name", DRAWING)
def test_a_batch_that_is_no_dictionary_is_refused(name):
    with pytest.raises(TypeError, match=rf"{name}: 'image' is the key of a dict, and this is a tuple: return a dict"):
        MADE[name]()((IMAGES, ROWS["label"]), KEY)


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("shape", [(8, 8), (2, 4, 8, 8, 3)])
def test_a_leaf_of_another_rank_is_refused(name, shape):
    with pytest.raises(TypeError, match=rf"{name}: 'image' has shape \({shape[0]}, .* takes \(batch, height"):
        MADE[name]()({**ROWS, "image": np.zeros(shape, np.uint8)}, KEY)


@pytest.mark.parametrize("name", ["brightness", "contrast", "mixup", "cutmix"])
def test_pixels_of_other_integers_are_refused(name):
    with pytest.raises(TypeError, match=rf"{name}: 'image' is int32, and it takes uint8 or floats: .*cast\(.*'image'"):
        MADE[name]()({**ROWS, "image": IMAGES.astype(np.int32)}, KEY)


@pytest.mark.parametrize("call", [on_device.random_flip, lambda key: on_device.mixup(key, "label", 1)])
@pytest.mark.parametrize("key", ["", None, 3])
def test_a_key_is_text(call, key):
    with pytest.raises(TypeError, match=r"takes the key of a leaf, such as 'image', given"):
        call(key)


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32", "float64"])
def test_the_dtype_stays_with_64_bits_on_and_off(name, dtype):
    image = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3))
    found = []
    for wide in (False, True):
        if dtype == "float64" and not wide:
            continue
        with jax.enable_x64(wide):
            batch = {**ROWS, "image": jax.numpy.asarray(image.astype(dtype))}
            out = MADE[name]()(batch, KEY)
            assert out["image"].dtype == dtype
            assert out["label"].dtype == np.float32
            found.append(np.asarray(out["image"]))
    assert np.array_equal(found[0], found[-1])


def test_all_compose_in_a_pipeline():
    pipe = tfjax.from_arrays({"image": IMAGES, "label": np.arange(4)}).batch(2)
    pipe = pipe.device_map(on_device.one_hot("label", 4)).device_map(on_device.normalize("image", 0, 1))
    pipe = pipe.device_map(on_device.cast("bfloat16"))
    assert {key: (leaf.shape, leaf.dtype.name) for key, leaf in pipe.peek().items()} == {
        "image": ((2, 8, 8, 3), "bfloat16"),
        "label": ((2, 4), "bfloat16"),
    }
