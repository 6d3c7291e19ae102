"""`Pipeline.show` and `tfjax show`: what is found, what is drawn, and what is refused."""

import dataclasses
import io
import json
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("matplotlib")

import jax
from matplotlib.image import imread

import tfjax
from tests.ops.image.encoded import encoded
from tfjax import image, on_device
from tfjax.sources.folder import FolderInfo
from tfjax.tools import cli
from tfjax.tools.show import Given, Picture
from tfjax.tools.show.draw import COLOURS
from tfjax.tools.show.parts import find_parts, panels
from tfjax.tools.show.pixels import displayed
from tfjax.tools.show.rows import first_rows

RED, GREEN, BLUE = (np.full((40, 60, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
PHOTOS = {"image": np.stack([RED, GREEN, BLUE]), "label": np.array([0, 1, 2])}
NAMED = FolderInfo(classes=("red", "green", "blue"), counts={}, unusable=0, ignored=0)


def with_info(pipe, info):
    return type(pipe)(dataclasses.replace(pipe._stage, info=info))


def shown(pipe, n=16, **given):
    """What is drawn of each example."""
    rows = first_rows(pipe, n, given.get("image"))
    return panels(rows, find_parts(rows[0], pipe.info, Given(**given)), pipe.info)


def pixels(picture):
    """The PNG as 8 bits a channel."""
    return (imread(io.BytesIO(picture.png))[..., :3] * 255).round().astype(int)


def share(picture, colour):
    """How much of the picture has a colour."""
    return (np.abs(pixels(picture) - colour).max(-1) <= 2).mean()


def rgb(colour):
    return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]


class TestPicture:
    def test_a_notebook_shows_it_and_it_is_saved(self, tmp_path):
        picture = tfjax.from_arrays(PHOTOS).show(3)
        assert picture._repr_png_() == picture.png
        assert picture.png.startswith(b"\x89PNG")
        assert repr(picture) == "Picture(shown=3)"
        picture.save(tmp_path / "new" / "a.png")
        assert (tmp_path / "new" / "a.png").read_bytes() == picture.png

    def test_only_as_a_png(self, tmp_path):
        with pytest.raises(ValueError, match=r"the picture is a PNG, given .*a\.jpg'.*ends in \.png"):
            Picture(b"", 0).save(tmp_path / "a.jpg")

    def test_every_image_is_in_it(self):
        picture = tfjax.from_arrays(PHOTOS).show()
        for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
            assert 0.1 < share(picture, colour) < 0.3
        assert picture.shown == 3

    def test_of_n_the_first(self):
        picture = tfjax.from_arrays(PHOTOS).show(1)
        assert picture.shown == 1
        assert share(picture, (255, 0, 0)) > 0.5
        assert share(picture, (0, 255, 0)) == 0

    @pytest.mark.parametrize("n", [1, 2, 7, 30])
    @pytest.mark.parametrize("shape", [(8, 8, 1), (300, 20, 3), (20, 300, 4), (1, 1, 3)])
    def test_any_number_of_any_shape(self, n, shape):
        picture = tfjax.from_arrays({"image": np.zeros((30, *shape), np.uint8)}).show(n)
        height, width = pixels(picture).shape[:2]
        assert picture.shown == n
        assert 50 < height < 2000
        assert 50 < width <= 1250

    def test_texts_of_any_kind_are_drawn_as_they_are(self):
        """Neither a formula nor a letter that the font lacks is a failure."""
        texts = ["$x^2", "100 % \\frac", "好 👍", "", "a " * 500]
        examples = [{"image": RED, "label": text, "caption": np.array([text, "b"], object)} for text in texts]
        assert tfjax.from_examples(examples).show().shown == 5


class TestRows:
    def test_before_and_after_batch(self):
        pipe = tfjax.from_arrays(PHOTOS)
        titles = [panel.title for panel in shown(pipe)]
        assert titles == ["0", "1", "2"]
        assert [panel.title for panel in shown(pipe.batch(2))] == ["0", "1"]
        assert [panel.title for panel in shown(pipe.batch(3), 2)] == ["0", "1"]

    def test_padded_rows_are_left_out(self):
        assert len(shown(tfjax.from_arrays(PHOTOS).batch(8, remainder="pad"))) == 3

    def test_placed_batches(self):
        mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
        pipe = tfjax.from_arrays({name: np.concatenate([leaf, leaf]) for name, leaf in PHOTOS.items()}).batch(4)
        for placed in (pipe.place(mesh, "data"), pipe.place_per_device(jax.devices()[:2])):
            assert [panel.title for panel in shown(placed)] == ["0", "1", "2", "0"]

    def test_what_the_training_loop_gets(self):
        """Device functions are in it, and what was normalised is stretched to its range."""
        pipe = tfjax.from_arrays(PHOTOS).batch(3).device_map(on_device.normalize("image", 100, 50))
        for panel, given in zip(shown(pipe), PHOTOS["image"], strict=True):
            np.testing.assert_allclose(panel.image, given / 255, atol=1e-5)

    def test_encoded_images_are_decoded(self):
        pipe = tfjax.from_examples([{"image": encoded(RED, "PNG"), "label": 1}])
        np.testing.assert_array_equal(shown(pipe)[0].image, RED / 255)
        other = tfjax.from_examples([{"views": {"left": encoded(RED, "PNG")}}])
        np.testing.assert_array_equal(shown(other, image="views/left")[0].image, RED / 255)

    def test_leaves_that_are_no_arrays_are_passed_over(self):
        import tensorflow as tf

        pipe = tfjax.from_arrays(PHOTOS).map(lambda e: {**e, "words": tf.strings.split(["a b", "c"])})
        assert len(shown(pipe)) == 3

    def test_examples_that_are_no_dict(self, digits_dir):
        assert len(shown(tfjax.from_arrays(PHOTOS["image"]))) == 3
        digits = tfjax.load("digits", data_dir=digits_dir, as_supervised=True)
        assert [panel.title for panel in shown(digits, 3)] == ["0", "1", "2"]

    def test_streams(self):
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices(PHOTOS)
        assert len(shown(tfjax.from_tf(dataset))) == 3
        assert len(shown(tfjax.from_tf(dataset.repeat()), 5)) == 5
        assert len(shown(tfjax.from_tf(dataset.batch(2)))) == 2

    def test_damaged_data_is_named(self, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"no photo")
        with pytest.raises(tfjax.CorruptDataError, match=r"broken\.jpg"):
            tfjax.from_files([tmp_path / "broken.jpg"]).show()


class TestLabels:
    def test_names_of_a_folder(self):
        pipe = with_info(tfjax.from_arrays(PHOTOS), NAMED)
        assert [panel.title for panel in shown(pipe)] == ["red", "green", "blue"]

    def test_names_of_tfds(self, tfds_dir):
        flowers = tfjax.load("tf_flowers", data_dir=tfds_dir)
        names = flowers.info.features["label"].names
        expected = [names[int(example["label"])] for example in flowers.select("label").take(4)]
        assert [panel.title for panel in shown(flowers, 4)] == expected

    def test_a_number_beyond_the_names_is_itself(self):
        pipe = with_info(tfjax.from_arrays({**PHOTOS, "label": np.array([-1, 1, 3])}), NAMED)
        assert [panel.title for panel in shown(pipe)] == ["-1", "green", "3"]

    def test_shares_of_classes(self):
        shares = np.array([[0, 1, 0], [0.7, 0.3, 0], [0.02, 0.02, 0.96]], np.float32)
        pipe = with_info(tfjax.from_arrays({**PHOTOS, "label": shares}), NAMED)
        assert [panel.title for panel in shown(pipe)] == ["green", "red 0.70, green 0.30", "blue"]

    def test_texts_and_numbers(self):
        assert [p.title for p in shown(tfjax.from_arrays({**PHOTOS, "label": np.array(["a", "b", "ü"])}))] == [
            "a",
            "b",
            "ü",
        ]
        assert shown(tfjax.from_arrays({**PHOTOS, "label": np.array([0.5, 1, 2])}))[0].title == "0.5"

    def test_another_leaf(self):
        pipe = tfjax.from_arrays({**PHOTOS, "year": np.array([1990, 1991, 1992])})
        assert [panel.title for panel in shown(pipe, label="year")] == ["1990", "1991", "1992"]


class TestBoxes:
    BOXES = np.array([[0.25, 0.5, 0.75, 1.0], [0, 0, 0, 0]], np.float32)

    def pipe(self, **more):
        return tfjax.from_examples(
            [{"image": np.zeros((100, 200, 3), np.uint8), "objects": {"bbox": self.BOXES, **more}}]
        )

    def test_they_are_found_and_drawn_where_they_are(self):
        picture = self.pipe().show()
        at = np.argwhere(np.abs(pixels(picture) - rgb(COLOURS[0])).max(-1) <= 2)
        black = np.argwhere(np.abs(pixels(picture)).max(-1) <= 2)
        low, high = black.min(0), black.max(0)
        inside = (at - low) / (high - low)
        np.testing.assert_allclose([*inside.min(0), *inside.max(0)], [0.25, 0.5, 0.75, 1], atol=0.03)

    def test_their_labels_name_and_colour_them(self):
        panel = shown(self.pipe(label=np.array([7, 3])))[0]
        assert list(panel.names) == ["7", "3"]
        assert list(panel.colours) == [1, 0]
        panel = shown(self.pipe(label=np.array(["dog", "cat"], object)))[0]
        assert list(panel.names) == ["dog", "cat"]

    def test_none_at_all(self):
        example = {"image": RED, "objects": {"bbox": np.zeros((0, 4), np.float32), "label": np.zeros(0, np.int64)}}
        assert tfjax.from_examples([example]).show().shown == 1

    def test_another_leaf_in_a_batch(self):
        pipe = tfjax.from_arrays({"image": PHOTOS["image"], "places": np.stack([self.BOXES] * 3)}).batch(3)
        np.testing.assert_array_equal(shown(pipe, boxes="places")[0].boxes, self.BOXES)
        assert len(shown(pipe)[0].boxes) == 0

    def test_they_follow_a_flip(self):
        pipe = self.pipe().apply(image.RandomFlip(boxes="objects/bbox"))
        found = {tuple(shown(pipe.seed(n))[0].boxes[0]) for n in range(8)}
        assert found == {(0.25, 0.5, 0.75, 1.0), (0.25, 0.0, 0.75, 0.5)}


class TestMasksAndCaptions:
    def test_a_mask_is_laid_over_the_image(self):
        mask = np.zeros((40, 60, 1), np.uint8)
        mask[:20] = 1
        pipe = tfjax.from_examples([{"image": RED * 0, "segmentation_mask": mask}])
        assert shown(pipe)[0].mask.sum() == 20 * 60
        half = (np.array(rgb(COLOURS[1])) / 2).astype(int)
        assert 0.3 < share(pipe.show(), half) < 0.5

    def test_the_mask_of_padding_is_none(self):
        assert shown(tfjax.from_arrays(PHOTOS).batch(4, remainder="pad"))[0].mask is None

    def test_the_first_caption(self):
        texts = {"text": np.array(["a photo", "another"], object)}
        assert shown(tfjax.from_examples([{"image": RED, "captions": texts}]))[0].caption == "a photo"
        assert shown(tfjax.from_examples([{"image": RED, "story": "once"}]), caption="story")[0].caption == "once"
        kept = tfjax.from_arrays({**PHOTOS, "caption": np.array(["a", "b", "c"])}).keep_on_host("caption").batch(3)
        assert [panel.caption for panel in shown(kept)] == ["a", "b", "c"]

    def test_coco(self, shared_data):
        folder = shared_data / "coco_captions"
        entries = json.loads((folder / "captions.json").read_text())["images"]
        entries = [entry for entry in entries if entry["objects"] and "bbox" in entry["objects"][0]][:4]
        examples = []
        for entry in entries:
            x, y, width, height = np.array([o["bbox"] for o in entry["objects"]]).T
            boxes = np.stack([y, x, y + height, x + width], 1) / ([entry["height"], entry["width"]] * 2)
            examples.append(
                {
                    "image": next(folder.glob(f"images/**/{entry['file_name']}")).read_bytes(),
                    "objects": {
                        "bbox": boxes.astype(np.float32),
                        "label": np.array([o["category"] for o in entry["objects"]], object),
                    },
                    "captions": {"text": np.array(entry["captions"], object)},
                }
            )
        pipe = tfjax.from_examples(examples)
        for panel, entry in zip(shown(pipe), entries, strict=True):
            assert panel.image.shape == (entry["height"], entry["width"], 3)
            assert panel.caption == entry["captions"][0]
            assert list(panel.names) == [o["category"] for o in entry["objects"]]
        assert pipe.show().shown == 4


class TestPixels:
    def test_bytes_and_unit_floats_are_left_as_they_are(self):
        dark = np.array([[[10, 20, 30]]], np.uint8)
        np.testing.assert_allclose(displayed([dark])[0], dark / 255)
        np.testing.assert_allclose(displayed([dark.astype(np.uint16) * 257])[0], dark / 255)
        np.testing.assert_allclose(displayed([dark / 255])[0], dark / 255)
        np.testing.assert_allclose(displayed([dark.astype(np.float32)])[0], dark / 255)

    def test_what_was_normalised_is_stretched_together_by_channel(self):
        first, second = np.array([[[-2.0, 0, 5]]]), np.array([[[2.0, 1, 7]]])
        middle = np.array([[[0, 0.25, 6]]])
        np.testing.assert_allclose(
            displayed([first, middle, second]), [[[[0, 0, 0]]], [[[0.5, 0.25, 0.5]]], [[[1, 1, 1]]]]
        )

    def test_grey_loses_its_last_dimension(self):
        assert displayed([np.zeros((3, 4, 1), np.uint8)])[0].shape == (3, 4)
        assert displayed([np.zeros((3, 4), bool)])[0].shape == (3, 4)

    def test_what_is_no_number_is_dark(self):
        image = np.array([[[np.nan], [np.inf], [1.0], [-1.0]]])
        assert displayed([image])[0].tolist() == [[0.5, 0.5, 1, 0]]


@pytest.mark.parametrize(
    ("arrays", "options", "error", "said"),
    [
        ({"x": np.zeros((3, 4))}, {}, tfjax.SpecError, r"no leaf is an image.*there are 'x' float64\[4\]: decode it"),
        ({"text": np.array(["a", "b"])}, {}, tfjax.SpecError, r"no leaf is an image.*there are 'text' object\[\]"),
        (PHOTOS, {"n": 0}, ValueError, r"show: n takes an int from 1 to 2\*\*62, given 0"),
        (PHOTOS, {"n": 1.5}, TypeError, r"show: n takes an int, given 1.5"),
        (PHOTOS, {"label": "name"}, KeyError, r"no leaf 'name' for label=: there are 'image', 'label'"),
        (PHOTOS, {"image": "label"}, tfjax.SpecError, r"image='label' is int64 of shape \(\): an image is \(height"),
        (PHOTOS, {"boxes": "label"}, tfjax.SpecError, r"boxes='label' .*: boxes are \(boxes, 4\) of ymin, xmin"),
        (PHOTOS, {"masks": "label"}, tfjax.SpecError, r"masks='label' .*: a mask has the height and width"),
        (PHOTOS, {"caption": "label"}, tfjax.SpecError, r"caption='label' .*: a caption is a text"),
        ({name: leaf[:0] for name, leaf in PHOTOS.items()}, {}, ValueError, "has nothing to iterate over"),
    ],
)
def test_refused(arrays, options, error, said):
    with pytest.raises(error, match=said):
        tfjax.from_arrays(arrays).show(**options)


def test_a_missing_drawing_library_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "tfjax.tools.show.draw", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'tfjax\[cli\]'"):
        tfjax.from_arrays(PHOTOS).show()


class TestCommand:
    def test_writes_a_picture_and_says_where(self, digits_dir, tmp_path, capsys):
        out = tmp_path / "new" / "digits.png"
        assert cli.main(["show", "digits", "--data-dir", str(digits_dir), "--count", "5", "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"5 examples of digits train: {out}\n"
        assert imread(out).shape[-1] == 4

    def test_the_usual_place(self, digits_dir, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert cli.main(["show", "digits", "--data-dir", str(digits_dir), "--split", "test[:3]"]) == 0
        assert capsys.readouterr().out == "3 examples of digits test[:3]: runs/digits/show.png\n"
        assert (tmp_path / "runs/digits/show.png").stat().st_size > 1000

    def test_photos(self, tfds_dir, tmp_path):
        out = tmp_path / "flowers.png"
        assert cli.main(["show", "tf_flowers", "--data-dir", str(tfds_dir), "--count", "9", "--out", str(out)]) == 0
        assert out.stat().st_size > 100_000

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["xquad/en", "--split", "test"], "no leaf is an image"),
            (["mnist", "--split", "validation"], "validation"),
            (["mnist", "--out", "a.jpg"], "ends in .png"),
            (["mnits"], "mnist"),
        ],
    )
    def test_refuses_in_one_line(self, tfds_dir, capsys, arguments, said):
        assert cli.main(["show", *arguments, "--data-dir", str(tfds_dir)]) == cli.USAGE_ERROR
        err = capsys.readouterr().err
        assert err.startswith("tfjax: ")
        assert said in err
        assert "Traceback" not in err

    def test_a_count_below_one(self, capsys):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["show", "digits", "--count", "0"])
        assert "'0' is no whole number" in capsys.readouterr().err
