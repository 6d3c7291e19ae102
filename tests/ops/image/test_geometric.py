"""What holds for every op that moves pixels: boxes and masks follow, and shapes, dtypes and other leaves are kept."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

import tfjax
from tests.ops.image import moved
from tests.ops.image.encoded import encoded
from tfjax import image
from tfjax._tensorflow import tf

FOLLOW = {"boxes": "objects/bbox", "masks": "mask"}
# COCO's masks number 91 kinds of things of which its boxes number 80: what is left out, up to each kind.
LEFT_OUT = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def following(op):
    return dataclasses.replace(op, **FOLLOW)


@st.composite
def scenes(draw):
    height, width = draw(st.integers(8, 70)), draw(st.integers(8, 70))
    y0, x0 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    y1, x1 = draw(st.integers(y0 + 1, height)), draw(st.integers(x0 + 1, width))
    return moved.scene(height, width, (y0, x0, y1, x1))


def assert_box_is_hull(box, mask, within):
    """The box and the marked pixels end at the same places, give or take `within` pixels."""
    found, box = moved.hull(mask), moved.pixels(box, mask)
    if found is None:  # less than a pixel may fall between two
        assert min(box[2] - box[0], box[3] - box[1]) <= within, box
    else:
        np.testing.assert_allclose(box, found, atol=within)


@pytest.mark.parametrize("op", [*moved.SIZED, *moved.OTHERS], ids=repr)
@settings(max_examples=30)
@given(example=scenes(), number=st.integers(0, 1000))
def test_boxes_and_masks_follow_the_image(op, example, number):
    out = following(op)(example, moved.seed(number))
    mask, box = out["mask"].numpy(), out["objects"]["bbox"].numpy()
    assert mask.shape == out["image"].shape[:2]
    assert set(np.unique(mask)) <= {0, 7}
    assert_box_is_hull(box[0], mask, within=1.001)
    inner, outer = (mask > 0), out["image"].numpy()[..., 0] > 110
    # The image mixes pixels at the edge of the rectangle, which the mask does not.
    assert (moved.hull(inner & ~outer) is None) or np.mean(inner != outer) < 0.2


@pytest.mark.parametrize("op", moved.TURNED, ids=repr)
@pytest.mark.parametrize("number", range(8))
def test_boxes_and_masks_follow_a_turn(op, number):
    constant = dataclasses.replace(following(op), fill_mode="constant")
    example = moved.scene(60, 60, (24, 20, 36, 41))  # which stays inside, however it is turned
    out = constant(example, moved.seed(number))
    assert_box_is_hull(out["objects"]["bbox"].numpy()[0], out["mask"].numpy(), within=1.5)
    example = moved.scene(40, 60, (0, 5, 30, 41))  # whose corners are cut off
    out = constant(example, moved.seed(number))
    mask = out["mask"].numpy()
    box, found = moved.pixels(out["objects"]["bbox"].numpy()[0], mask), moved.hull(mask)
    assert (box[:2] <= np.add(found[:2], 1)).all() and (box[2:] >= np.subtract(found[2:], 1)).all()
    assert (box >= 0).all() and (box <= [40, 60, 40, 60]).all()


@pytest.mark.parametrize("op", moved.OPS, ids=repr)
@pytest.mark.parametrize("number", range(2))
def test_eager_and_graph_agree(op, number):
    example = moved.scene(37, 53, (4, 9, 20, 40))
    example = {**tf.nest.map_structure(tf.convert_to_tensor, example), "image": tf.constant(moved.noise(37, 53))}
    eager = tf.nest.map_structure(lambda t: t.numpy(), following(op)(example, moved.seed(number)))
    graph = moved.in_graph(following(op), example, number)
    np.testing.assert_allclose(graph["objects"].pop("bbox"), eager["objects"].pop("bbox"), atol=1e-6)
    tf.nest.map_structure(np.testing.assert_array_equal, graph, eager)


@pytest.mark.parametrize("op", moved.OPS, ids=repr)
def test_what_was_given_is_left_as_it_is(op):
    example = tf.nest.map_structure(tf.convert_to_tensor, moved.scene(37, 53, (4, 9, 20, 40)))
    before = tf.nest.map_structure(lambda t: t.numpy(), example)
    out = following(op)(example, moved.seed(0))
    tf.nest.map_structure(np.testing.assert_array_equal, tf.nest.map_structure(lambda t: t.numpy(), example), before)
    assert out["name"] is example["name"] and out["objects"]["label"] is example["objects"]["label"]


def test_a_sized_op_makes_shapes_static():
    examples = [
        {f"{i}": encoded(moved.noise(30 + n, 45 - n), "PNG") for i in range(len(moved.SIZED))} for n in range(4)
    ]
    keyed = [dataclasses.replace(op, key=f"{i}") for i, op in enumerate(moved.SIZED)]
    pipe = tfjax.from_examples(examples).apply(*(image.Decode(key=op.key) for op in keyed), *keyed)
    spec, batch = pipe.spec, pipe.batch(4).peek()
    for op in keyed:
        size = op.size if isinstance(op.size, tuple) else (op.size, op.size)
        assert spec[op.key].shape == (*size, 3)
        assert batch[op.key].shape == (4, *size, 3)


@pytest.mark.parametrize("op", moved.SIZED, ids=repr)
@pytest.mark.parametrize("channels", [1, 2, 4, None])
def test_channels_are_kept(op, channels):
    fn = tf.function(lambda pixels: op.image(pixels, moved.seed(0)), autograph=False)
    out = fn.get_concrete_function(tf.TensorSpec((None, None, channels), tf.uint8)).output_shapes
    size = op.size if isinstance(op.size, tuple) else (op.size, op.size)
    assert out.as_list() == [*size, channels]


@pytest.mark.parametrize("op", [*moved.OTHERS, *moved.TURNED], ids=repr)
def test_static_shapes_stay_static(op):
    arrays = {"image": np.zeros((2, 24, 24, 3), np.uint8), "mask": np.zeros((2, 24, 24), np.int32)}
    pipe = tfjax.from_arrays(arrays).apply(dataclasses.replace(op, masks="mask"))
    assert pipe.spec["image"].shape == pipe[0]["image"].shape
    assert pipe.spec["mask"].shape == pipe[0]["mask"].shape == pipe[0]["image"].shape[:2]


@pytest.mark.parametrize("op", moved.OPS, ids=repr)
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float16", "float32", "float64", "bfloat16"])
def test_dtypes_are_kept(op, dtype):
    values = moved.noise(31, 45)
    given = tf.cast(values, dtype)
    expected = op({"image": values}, moved.seed(1))["image"].numpy().astype(np.float64)
    out = moved.in_graph(op, {"image": given}, 1)["image"]
    assert out.dtype == given.dtype
    assert np.abs(out.astype(np.float64).clip(0, 255) - expected).max() <= 1 + 255 / 256  # bfloat16 has 8 bits


@pytest.mark.parametrize("op", moved.OPS, ids=repr)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float32"])
def test_masks_of_every_dtype_and_rank(op, dtype):
    flat = tf.cast(moved.noise(31, 45, 1)[..., 0] % 2, dtype)
    deep = tf.stack([flat, tf.zeros_like(flat)], -1)
    example = {"image": moved.noise(31, 45), "flat": flat, "deep": deep}
    out = moved.in_graph(dataclasses.replace(op, masks=("flat", "deep")), example, 2)
    assert out["flat"].dtype == out["deep"].dtype == flat.dtype.as_numpy_dtype
    assert out["flat"].shape == out["image"].shape[:2] and out["deep"].shape == (*out["flat"].shape, 2)
    np.testing.assert_array_equal(out["flat"], out["deep"][..., 0])
    assert not out["deep"][..., 1].any() and out["flat"].any()


@pytest.mark.parametrize("op", moved.OPS, ids=repr)
def test_boxes_keep_their_number_and_become_float32(op):
    boxes = np.array([[0, 0, 0, 0], [0.1, 0.2, 0.9, 0.8], [0.5, 0.5, 0.5, 0.9]])
    example = {"image": moved.noise(31, 45), "a": boxes, "none": np.zeros((0, 4), np.float32)}
    out = moved.in_graph(dataclasses.replace(op, boxes=("a", "none")), example, 3)
    assert out["a"].dtype == out["none"].dtype == np.float32
    assert out["a"].shape == (3, 4) and out["none"].shape == (0, 4)
    assert not out["a"][0].any()
    assert not out["a"][2].any()  # no area, before as after
    assert (out["a"] >= 0).all() and (out["a"] <= 1).all()


def test_a_mask_of_another_size_is_refused():
    op = image.CenterCrop(4, masks="mask")
    example = {"image": np.zeros((10, 12, 3), np.uint8), "mask": np.zeros((5, 6), np.uint8)}
    said = "the mask 'mask' is 5 x 6 and the image 10 x 12: let masks='mask' follow what changed the size"
    with pytest.raises(ValueError, match=said):
        op(example)
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        moved.in_graph(op, example, 0)


@pytest.mark.parametrize("mask", [np.zeros(5), np.zeros((1, 10, 12, 1))])
def test_a_mask_of_another_rank_is_refused(mask):
    with pytest.raises(TypeError, match=r"'m' is float64 of shape .*reshape it in map"):
        image.RandomFlip(masks="m")({"image": np.zeros((10, 12, 3), np.uint8), "m": mask}, moved.seed(0))


@pytest.mark.parametrize("boxes", [np.zeros((2, 4), np.int64), np.zeros((2, 5), np.float32), np.float32(1)])
def test_what_are_no_boxes_is_refused(boxes):
    with pytest.raises(TypeError, match=r"'b' is .*boxes are floats \(boxes, 4\)"):
        image.CenterCrop(4, boxes="b")({"image": np.zeros((10, 12, 3), np.uint8), "b": boxes})


@pytest.mark.parametrize("paths", [3, ["a", 3], ("a", 3), "", ("",)])
@pytest.mark.parametrize("name", ["boxes", "masks"])
def test_keys_are_strings(name, paths):
    with pytest.raises(TypeError, match=f"RandomFlip: {name} is .*pass a key, or a tuple of keys"):
        image.RandomFlip(**{name: paths})


def test_a_missing_key_is_named():
    with pytest.raises(KeyError, match="bbox"):
        image.RandomFlip(boxes="objects/bbox")({"image": np.zeros((2, 2, 1), np.uint8), "objects": {}}, moved.seed(0))


def test_keys_are_those_that_are_touched():
    assert image.CenterCrop(4, key="x", boxes=("a", "b/c"), masks="m").keys == ("x", "a", "b/c", "m")


@pytest.fixture(scope="module")
def coco(shared_data):
    """Photos of COCO with a mask: a pixel's kind of thing, and boxes (y0, x0, y1, x1) with theirs."""
    folder = shared_data / "coco_captions"
    found = []
    for entry in json.loads((folder / "captions.json").read_text())["images"]:
        path = folder / "semantic_masks" / entry["file_name"].replace(".jpg", ".png")
        if not path.exists() or "cxcywh" not in entry["objects"][0]:
            continue
        middle = np.float32([o["cxcywh"] for o in entry["objects"]])
        half = middle[:, [3, 2]] / 2
        kinds = [o["category_id"] + 1 for o in entry["objects"]]
        for number in LEFT_OUT:
            kinds = [k + (k >= number) for k in kinds]
        found.append(
            {
                "image": tf.io.decode_jpeg((folder / "images" / entry["file_name"]).read_bytes(), channels=3),
                "objects": {
                    "bbox": np.concatenate([middle[:, [1, 0]] - half, middle[:, [1, 0]] + half], 1).clip(0, 1),
                    "label": np.int64(kinds),
                },
                "mask": tf.io.decode_png(path.read_bytes(), channels=1),
            }
        )
    return found


def outside(example):
    """Shares of the pixels of each kind that has boxes which lie outside of all of them, by more than two pixels."""
    mask = np.asarray(example["mask"])[..., 0]
    rows, columns = np.indices(mask.shape) + 0.5
    shares = {}
    for kind in np.unique(np.asarray(example["objects"]["label"])):
        pixels = mask == kind
        boxes = np.asarray(example["objects"]["bbox"])[np.asarray(example["objects"]["label"]) == kind]
        covered = np.zeros_like(pixels)
        for y0, x0, y1, x1 in moved.pixels(boxes[boxes.any(1)], mask):
            covered |= (rows > y0 - 2) & (rows < y1 + 2) & (columns > x0 - 2) & (columns < x1 + 2)
        shares[int(kind)] = (pixels & ~covered).sum() / max(pixels.sum(), 1)
    return shares


@pytest.mark.parametrize("op", moved.OPS, ids=repr)
def test_boxes_and_masks_of_photos_follow(coco, op):
    assert len(coco) > 20
    changed = {"size": 224} if hasattr(op, "size") else {}
    if isinstance(op, image.RandomRotate):
        changed["fill_mode"] = "constant"  # or things are seen twice
    for number, example in enumerate(coco):
        out = dataclasses.replace(following(op), **changed)(example, moved.seed(number))
        before, after = outside(example), outside(out)
        for kind, share in after.items():
            if before[kind] < 0.001:  # annotated alike
                assert share < 0.02, (number, kind)
    assert any(share < 0.001 for example in coco for share in outside(example).values())


@pytest.mark.parametrize("wrong", [(0, 0, 480, 640), (-2, 0, 1, 1), (0, np.nan, 1, 1)])
@pytest.mark.parametrize("op", moved.OPS, ids=repr)
def test_boxes_that_are_no_shares_fail_in_the_graph(op, wrong):
    example = {"image": moved.noise(31, 45), "b": np.float32([(0, 0, 1, 1), wrong])}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"'b' has values from .*: divide by height and width in"):
        moved.in_graph(dataclasses.replace(op, boxes="b"), example, 0)


@pytest.mark.parametrize("names", [{"boxes": ("a", "a")}, {"masks": "image"}, {"boxes": "a", "masks": ("b", "a")}])
def test_a_leaf_is_moved_once(names):
    with pytest.raises(ValueError, match=r"RandomFlip: '(a|image)' is named twice"):
        image.RandomFlip(**names)


@pytest.mark.parametrize("op", [image.Resize(8), image.ResizeShortSide(8), image.RandomResizedCrop(8)], ids=repr)
def test_what_cannot_be_weighed_is_named(op):
    with pytest.raises(TypeError, match=r"\(8\): 'image' is bool, which is resized by method='nearest' only"):
        op({"image": np.ones((9, 9, 1), bool)}, moved.seed(0))
