"""`Decode` over a dataset of TFDS: in place of its own decoding, where it is the first to touch the image."""

import numpy as np
import pytest

import tfjax
from tfjax import image
from tfjax._tensorflow import tf
from tfjax.testing import exact

tfds = pytest.importorskip("tensorflow_datasets")
pytestmark = pytest.mark.usefixtures("quiet_tfds")

CROP = image.RandomCrop(16, padding=4)


@pytest.fixture
def flowers(tfds_dir):
    return tfjax.load("tf_flowers", split="train[:12]", data_dir=tfds_dir)


@pytest.fixture
def mnist(tfds_dir):
    return tfjax.load("mnist", split="test[:40]", data_dir=tfds_dir)


def of_tfds(name, split, folder, **how):
    """The examples that TFDS yields, in the order of writing."""
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return list(tfds.as_numpy(tfds.load(name, split=split, data_dir=str(folder), read_config=config, **how)))


def assert_same(ours, theirs):
    """The same elements, in the same order; integers of ours may be narrower."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def same_runs(one, other):
    """Two pipelines yield the same bits over two epochs."""
    exact(list(one.iterate(epochs=2)), list(other.iterate(epochs=2)))


# Decode in place of what load does.


def test_a_jpeg_is_decoded_as_the_op_says(flowers, tfds_dir):
    stored = of_tfds("tf_flowers", "train[:12]", tfds_dir, decoders={"image": tfds.decode.SkipDecoding()})
    decoded = [tf.io.decode_jpeg(e["image"], channels=3, fancy_upscaling=False) for e in stored]
    pipe = flowers.apply(image.Decode())
    assert pipe.spec["image"].shape == (None, None, 3) and pipe.spec["image"].dtype == np.uint8
    assert_same(pipe, [{**e, "image": pixels} for e, pixels in zip(stored, decoded, strict=True)])
    grey = [tf.image.rgb_to_grayscale(pixels) for pixels in decoded]
    assert_same(flowers.apply(image.Decode(1)), [{**e, "image": g} for e, g in zip(stored, grey, strict=True)])


def test_a_jpeg_has_the_bits_of_tfds_with_fancy_upscaling(flowers, tfds_dir):
    theirs = of_tfds("tf_flowers", "train[:12]", tfds_dir)
    assert_same(flowers.apply(image.Decode(fancy_upscaling=True)), theirs)
    for ours, other in zip(flowers.apply(image.Decode()), theirs, strict=True):
        assert np.abs(ours["image"].astype(int) - other["image"]).mean() < 0.01


def test_a_png_has_the_bits_of_tfds_and_its_size(mnist, tfds_dir):
    pipe = mnist.apply(image.Decode(channels=1))
    assert pipe.spec == mnist.spec and pipe.info.name == "mnist"
    assert_same(pipe, of_tfds("mnist", "test[:40]", tfds_dir))
    assert pipe.batch(8).peek()["image"].shape == (8, 28, 28, 1)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (28, 28, 3)),
        ({"dtype": "uint16"}, (28, 28, 3)),
        ({"orient": True}, (None, None, 3)),
        ({"min_short_side": 8}, (None, None, 3)),
        ({"frames": "all"}, (None, None, None, 3)),
    ],
    ids=str,
)
def test_a_size_is_known_where_the_op_does_not_change_it(mnist, options, shape):
    pipe = mnist.apply(image.Decode(**options))
    assert pipe.spec["image"].shape == shape
    assert pipe.peek()["image"].shape[-3:] == (28, 28, 3)


def test_it_is_fused_with_a_crop(flowers):
    def plain(example):
        return example

    pipe = flowers.shuffle(0).apply(image.Decode(), CROP)
    kept = flowers.shuffle(0).apply(image.Decode()).map(plain).apply(CROP)
    assert "Decode() is fused with RandomCrop(16, 4)" in pipe.explain()
    assert "is fused" not in kept.explain()
    same_runs(pipe.batch(5), kept.batch(5))


def test_what_was_loaded_is_left_as_it_is(flowers):
    before = flowers.explain()
    flowers.apply(image.Decode(channels=1))
    assert flowers.explain() == before and flowers.spec["image"].shape == (None, None, 3)


# Stages that come before it, and do not look at the image.

BEFORE = {
    "order": lambda pipe: pipe.seed(3).shuffle(1).take(8),
    "a part": lambda pipe: pipe.split({"a": 0.5, "b": 0.5}, seed=0)["b"].skip(1),
    "a filter on the label": lambda pipe: pipe.filter(lambda e: e["label"] > 1),
    "another leaf": lambda pipe: pipe.map(lambda e: {**e, "label": e["label"] + 1, "even": e["label"] % 2 == 0}),
    "a random leaf": lambda pipe: pipe.random_map(lambda e, seed: {**e, "r": tf.random.stateless_uniform((), seed)}),
    "an op on the label": lambda pipe: pipe.apply(image.OneHot(5)),
    "select": lambda pipe: pipe.select("image"),
    "on the host": lambda pipe: pipe.keep_on_host("label").options(parallel_calls=2),
}


@pytest.mark.parametrize("name", BEFORE)
def test_stages_that_do_not_look_at_the_image_may_come_first(flowers, name):
    stages = BEFORE[name]
    same_runs(stages(flowers).apply(image.Decode(1)), stages(flowers.apply(image.Decode(1))))


def test_an_image_may_have_another_key_by_then(flowers):
    def renamed(example):
        return {"number": example["label"], "views": {"photo": example["image"]}}

    first = flowers.map(renamed).apply(image.Decode(1, key="views/photo"))
    after = flowers.apply(image.Decode(1)).map(renamed)
    for one, other in zip(first, after, strict=True):
        assert np.array_equal(one["views"]["photo"], other["views"]["photo"]) and one["number"] == other["number"]


def brighter(example):
    return {**example, "image": tf.image.adjust_brightness(example["image"], 0.1)}


def is_light(example):
    return tf.reduce_mean(tf.cast(example["image"], tf.float32)) > 100


def with_copy(example):
    return {**example, "first": example["image"]}


def with_size(example):
    return {**example, "size": tf.size(example["image"])}


def with_height(example):
    return {**example, "height": example["image"].shape[0]}


def like_image(example):
    return {**example, "label": tf.cast(example["label"], example["image"].dtype)}


TOUCHES = {
    r"map\(.*brighter\)": lambda pipe, _: pipe.map(brighter),
    r"filter\(.*is_light\)": lambda pipe, _: pipe.filter(is_light),
    r"map\(.*with_copy\)": lambda pipe, _: pipe.map(with_copy),
    r"map\(.*with_size\)": lambda pipe, _: pipe.map(with_size),
    r"map\(.*with_height\)": lambda pipe, _: pipe.map(with_height),
    r"map\(.*like_image\)": lambda pipe, _: pipe.map(like_image),
    r"RandomFlip\(\)": lambda pipe, _: pipe.apply(image.RandomFlip()),
    r"Decode\(1\)": lambda pipe, _: pipe.apply(image.Decode(1)),
    r"cache\('memory'\)": lambda pipe, _: pipe.cache("memory"),
    r"cache\('.*/kept'\)": lambda pipe, folder: pipe.cache(folder / "kept"),
}


@pytest.mark.parametrize("stage", TOUCHES)
def test_after_a_stage_that_does_more_with_the_image_it_is_refused(mnist, tmp_path, stage):
    touched = TOUCHES[stage](mnist, tmp_path).shuffle(0)
    said = rf"Decode\(\): 'image' is decoded already, for {stage}: put Decode\(\) before that, or leave it out"
    with pytest.raises(TypeError, match=said):
        touched.apply(image.Decode())


def test_a_key_that_is_not_there_lists_those_that_are(flowers):
    with pytest.raises(KeyError, match=r"Decode\(key='photo'\): no key 'photo'; the keys are 'image', 'label'"):
        flowers.apply(image.Decode(key="photo"))
    with pytest.raises(KeyError, match="no key 'image'; the keys are 'label'"):
        flowers.drop("image").apply(image.Decode())


# What load was given.


def test_decoders_that_skip_the_image_hand_its_bytes_to_the_op(flowers, tfds_dir):
    skip = {"image": tfds.decode.SkipDecoding()}
    pipe = tfjax.load("tf_flowers", split="train[:12]", data_dir=tfds_dir, decoders=skip)
    same_runs(pipe.apply(image.Decode(1)), flowers.apply(image.Decode(1)))


def test_a_decoder_of_ones_own_is_not_replaced(tfds_dir):
    @tfds.decode.make_decoder()
    def small(stored, feature):
        return feature.decode_example(stored)[:8, :8]

    pipe = tfjax.load("tf_flowers", split="train[:12]", data_dir=tfds_dir, decoders={"image": small()})
    with pytest.raises(TypeError, match=r"Decode\(\): 'image' is uint8 .*leave Decode out where it is decoded already"):
        pipe.apply(image.Decode())


def test_decoders_of_other_features_are_kept(mnist, tfds_dir):
    @tfds.decode.make_decoder(output_dtype=tf.int64)
    def next_digit(stored, feature):
        return feature.decode_example(stored) + 1

    pipe = tfjax.load("mnist", split="test[:40]", data_dir=tfds_dir, decoders={"label": next_digit()})
    found = [e["label"] for e in pipe.apply(image.Decode(1))]
    assert found == [e["label"] + 1 for e in mnist]


def test_partial_decoding_stays_partial(flowers, views, tfds_dir):
    decoders = tfds.decode.PartialDecoding({"image": True})
    pipe = tfjax.load("tf_flowers", split="train[:12]", data_dir=tfds_dir, decoders=decoders)
    same_runs(pipe.apply(image.Decode(1)), flowers.select("image").apply(image.Decode(1)))

    skip = {"photos": {"left": tfds.decode.SkipDecoding()}}
    decoders = tfds.decode.PartialDecoding({"photos": {"left", "right"}, "number": True}, skip)
    pipe = tfjax.load("views", data_dir=views, decoders=decoders).apply(image.Decode(key="photos/right"))
    assert list(pipe.spec) == ["number", "photos"] and pipe.spec["photos"]["right"].shape == (None, None, 3)
    assert pipe.keep_on_host("photos").peek()["photos"]["left"].item().startswith(b"\x89PNG")


def test_supervised_tuples_need_a_key(flowers, tfds_dir):
    pairs = tfjax.load("tf_flowers", split="train[:12]", data_dir=tfds_dir, as_supervised=True)
    with pytest.raises(TypeError, match="'image' names a key of a dict, and this is a tuple: return a dict in map"):
        pairs.apply(image.Decode())
    named = pairs.map(lambda pair: {"image": pair[0], "label": pair[1]})
    same_runs(named.apply(image.Decode(1)), flowers.apply(image.Decode(1)))


# Features of other kinds.


class Views(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images below other keys, several to an example, and of floats."""

    VERSION = tfds.core.Version("1.0.0")
    name = "views"

    def _info(self):
        photo = tfds.features.Image(shape=(6, 8, 3), encoding_format="png")
        features = {
            "photos": {"left": photo, "right": tfds.features.Image(encoding_format="png")},
            "depth": tfds.features.Image(shape=(6, 8, 1), dtype=np.float32),
            "frames": tfds.features.Sequence(photo),
            "number": np.int64,
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=(("number", "photos"), "depth")
        )

    def _split_generators(self, dl_manager):  # noqa: ARG002
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        rng = np.random.default_rng(0)
        for i in range(3):
            left, right, *frames = rng.integers(0, 256, (4, 6, 8, 3), np.uint8)
            depth = rng.random((6, 8, 1), np.float32)
            yield i, {"photos": {"left": left, "right": right}, "depth": depth, "frames": frames, "number": i}


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """A data_dir that has them."""
    folder = tmp_path_factory.mktemp("views")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    Views(data_dir=str(folder)).download_and_prepare(download_config=config)
    return folder


def test_an_image_below_other_keys(views):
    pipe = tfjax.load("views", data_dir=views)
    left = pipe.apply(image.Decode(4, key="photos/left"))
    assert left.spec["photos"]["left"].shape == (6, 8, 4)
    assert left.spec["photos"]["right"].shape == (None, None, 3)
    both = left.apply(image.Decode(4, key="photos/right"))
    for plain, one, two in zip(pipe, left, both, strict=True):
        photos = plain["photos"]
        assert np.array_equal(one["photos"]["left"][..., :3], photos["left"])
        assert np.array_equal(one["photos"]["right"], photos["right"])
        assert np.array_equal(two["photos"]["right"][..., :3], photos["right"])
        assert np.array_equal(two["depth"], plain["depth"]) and np.array_equal(two["frames"], plain["frames"])


def test_nested_supervised_keys(views):
    pairs = tfjax.load("views", data_dir=views, as_supervised=True)
    pipe = pairs.map(lambda pair: {"image": pair[0][1]["left"], "depth": pair[1]}).apply(image.Decode(4))
    assert pipe.spec["image"].shape == (6, 8, 4)
    for one, plain in zip(pipe, tfjax.load("views", data_dir=views), strict=True):
        assert np.array_equal(one["image"][..., :3], plain["photos"]["left"])


@pytest.mark.parametrize("key", ["depth", "frames", "number"])
def test_what_is_stored_in_another_way_is_refused(views, key):
    with pytest.raises(TypeError, match=rf"'{key}' is .*, which is no encoded image: leave Decode out"):
        tfjax.load("views", data_dir=views).apply(image.Decode(key=key))
