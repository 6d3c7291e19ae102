"""A folder of files: classes and labels, what is left out, what is counted and raises, and what is refused."""

import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.sources.folder import FolderInfo

Put = Callable[..., pathlib.Path]


@pytest.fixture
def put(tmp_path: pathlib.Path) -> Put:
    """Write files below a folder, each of its own name."""

    def written(*names: str) -> pathlib.Path:
        folder = tmp_path / "data"
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return folder

    return written


def rows(pipe: "tfjax.Pipeline", key: str = "image") -> list[tuple[str, int]]:
    return [(e[key].item().decode(), int(e["label"])) for e in pipe.keep_on_host(key).iterate()]


# Classes.


def test_a_class_per_subfolder(put: Put) -> None:
    folder = put("tulips/2.jpg", "roses/b.jpg", "roses/a.jpg", "daisy/1.jpg")
    pipe = tfjax.from_folder(folder)
    assert rows(pipe) == [("daisy/1.jpg", 0), ("roses/a.jpg", 1), ("roses/b.jpg", 1), ("tulips/2.jpg", 2)]
    assert pipe.info == FolderInfo(("daisy", "roses", "tulips"), {"daisy": 1, "roses": 2, "tulips": 1}, 0, 0)
    assert pipe.shuffle(seed=0).batch(2).info is pipe.info
    assert pipe.spec["label"] == jax.ShapeDtypeStruct((), np.int32)
    assert "label']: int64[]" in pipe.explain() and f"from_folder('{folder}')" in pipe.explain()


def test_files_below_a_class_belong_to_it(put: Put) -> None:
    folder = put("b/x/y/1.jpg", "b/0.jpg", "a/z/2.jpg")
    assert rows(tfjax.from_folder(folder)) == [("a/z/2.jpg", 0), ("b/0.jpg", 1), ("b/x/y/1.jpg", 1)]


def test_an_empty_class_keeps_its_label(put: Put) -> None:
    folder = put("a/1.jpg", "c/2.jpg")
    (folder / "b").mkdir()
    pipe = tfjax.from_folder(folder)
    assert pipe.info.classes == ("a", "b", "c") and pipe.info.counts["b"] == 0
    assert [label for _, label in rows(pipe)] == [0, 2]


def test_every_order_of_the_folder_is_the_same_pipeline(put: Put, tmp_path: pathlib.Path) -> None:
    names = [f"{c}/{i}.jpg" for c in "ab-" for i in range(20)]
    folder = put(*names)
    other = tmp_path / "other"
    for name in reversed(names):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, other / name)
    one, two = (tfjax.from_folder(path) for path in (folder, other))
    assert rows(one) == rows(two) and [name for name, _ in rows(one)] == sorted(names)
    assert one._parts["source"] == two._parts["source"]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("image", ["1.jpg", "2.JPEG", "3.Png", "4.webp", "5.gif", "6.bmp"]),
        ("audio", ["1.wav", "2.FLAC", "3.ogg", "4.mp3"]),
        ("text", ["1.txt", "2.TXT"]),
    ],
)
def test_the_suffixes_of_each_kind(kind: Any, names: list[str], put: Put) -> None:
    folder = put(*(f"a/{name}" for name in names), "a/9.other")
    pipe = tfjax.from_folder(folder, kind)
    assert pipe.info.unusable == 1 and len(pipe) == len(names) + 1
    assert rows(pipe.take(len(names)), kind) == [(f"a/{name}", 0) for name in names]


def test_photos(shared_data: pathlib.Path) -> None:
    pipe = tfjax.from_folder(shared_data / "flowers", ignore="README.md")
    assert pipe.info.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert sum(pipe.info.counts.values()) == len(pipe) == 250 and pipe.info.unusable == 0

    def decode(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = tf.io.decode_image(e["image"], channels=3, expand_animations=False)
        return {"image": tf.image.resize_with_crop_or_pad(image, 64, 64), "label": e["label"]}

    pipe = pipe.shuffle(seed=0).take(16)
    batch = pipe.map(decode).batch(16).peek()
    assert batch["image"].shape == (16, 64, 64, 3)
    folders = {path.read_bytes(): path.parent.name for path in (shared_data / "flowers").glob("*/*.jpg")}
    names = [folders[e["image"].item()] for e in pipe.keep_on_host("image").iterate()]
    assert [pipe.info.classes[n] for n in batch["label"].tolist()] == names


def test_an_empty_path() -> None:
    with pytest.raises(ValueError, match="from_folder: the path is empty"):
        tfjax.from_folder("")


# A table.


def test_a_table_of_names(put: Put) -> None:
    folder = put("3.jpg", "1.jpg", "deep/2.jpg")
    pipe = tfjax.from_folder(folder, labels={"1.jpg": "rose", "3.jpg": "daisy", "deep/2.jpg": "rose"})
    assert rows(pipe) == [("1.jpg", 1), ("3.jpg", 0), ("deep/2.jpg", 1)]
    assert pipe.info.classes == ("daisy", "rose") and pipe.info.counts == {"daisy": 1, "rose": 2}


def test_a_table_of_numbers(put: Put) -> None:
    folder = put("a.jpg", "b.jpg", "c.jpg")
    pipe = tfjax.from_folder(folder, labels={"a.jpg": np.int16(7), "b.jpg": -1, "c.jpg": 7})
    assert [label for _, label in rows(pipe)] == [7, -1, 7]
    assert pipe.info.classes == () and pipe.info.counts == {-1: 1, 7: 2}


@pytest.mark.parametrize(
    ("labels", "kind", "said"),
    [
        ({"a.jpg": "x"}, ValueError, r"labels names no label of 1 of 2 files: 'b\.jpg': add them"),
        ({}, ValueError, r"labels names no label of 2 of 2 files: 'a\.jpg', 'b\.jpg'"),
        (
            {"a.jpg": 1, "b.jpg": 2, "z.jpg": 3},
            ValueError,
            r"labels names files that are not there: 'z\.jpg': take them out",
        ),
        ({"a.jpg": 1, "b.jpg": "x"}, TypeError, "labels holds 'x': labels are all names, or all whole numbers"),
        ({"a.jpg": 1, "b.jpg": True}, TypeError, "labels holds True"),
        ({"a.jpg": 1, "b.jpg": 0.5}, TypeError, r"labels holds 0\.5: .* use from_files\(paths, label=...\)"),
        ({"a.jpg": 1, "b.jpg": 2**63}, TypeError, f"labels holds {2**63}.* of 64 bits"),
        ([1, 2], TypeError, "labels is a list: pass a dict of file name to label"),
    ],
    ids=str,
)
def test_a_table_that_does_not_fit(labels: Any, kind: type[Exception], said: str, put: Put) -> None:
    with pytest.raises(kind, match=said):
        tfjax.from_folder(put("a.jpg", "b.jpg"), labels=labels)


# What is left out, and what raises.


def test_hidden_and_ignored_names(put: Put) -> None:
    folder = put("a/1.jpg", "a/.DS_Store", ".git/x.jpg", "a/n.txt", "notes.txt", "__MACOSX/a/1.jpg", "b/Thumbs.db")
    pipe = tfjax.from_folder(folder, ignore=["*.txt", "Thumbs.db", "__MAC*"])
    assert rows(pipe) == [("a/1.jpg", 0)] and pipe.info.classes == ("a", "b")
    assert pipe.info.ignored == 6
    assert rows(tfjax.from_folder(put("a/n.TXT"), ignore=("*.[tT][xX][tT]", "Thumbs.db", "__MACOSX"))) == rows(pipe)


@pytest.mark.parametrize(
    ("ignore", "kind", "said"),
    [
        ("a/*.txt", ValueError, r"ignore='a/\*\.txt': a pattern is matched with the name"),
        ("", ValueError, "ignore=''"),
        (3, TypeError, "ignore takes a pattern as text or a list of them, given 3"),
        ([b"*.txt"], TypeError, "ignore takes a pattern as text"),
        (None, TypeError, "given None"),
    ],
    ids=str,
)
def test_patterns_of_another_kind(ignore: Any, kind: type[Exception], said: str, put: Put) -> None:
    with pytest.raises(kind, match=said):
        tfjax.from_folder(put("a/1.jpg"), ignore=ignore)


def test_what_cannot_be_used_is_counted_and_raises_with_its_path(put: Put) -> None:
    folder = put("a/1.jpg", "a/README", "a/notes.txt", "b/1.jpg")
    (folder / "b" / "empty.png").touch()
    (folder / "b" / "gone.jpg").symlink_to("nowhere")
    (folder / "b" / "itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(folder / "b" / "pipe.jpg")
    pipe = tfjax.from_folder(folder)
    assert len(pipe) == 8 and pipe.info.unusable == 6 and pipe.info.counts == {"a": 3, "b": 5}
    text = "8 files, 33 B, each read in the graph when it is needed; 6 of them are unusable, and an error then: "
    assert text + "'a/README', 'a/notes.txt', 'b/empty.png' and 3 more" in pipe.explain()
    shown = pipe.keep_on_host("image")
    assert shown[0]["image"].item() == b"a/1.jpg" and shown[3]["image"].item() == b"b/1.jpg"
    for i, name, said in (
        (1, "a/README", r"its suffix is that of no image \(\.jpg, .*\): leave it out with ignore='README'"),
        (2, "a/notes.txt", r"its suffix is that of no image .*: leave it out with ignore='\*\.txt'"),
        (4, "b/empty.png", "it is empty"),
        (5, "b/gone.jpg", r"it is a pipe, a device or a link to nothing: leave it out with ignore='gone\.jpg'"),
        (6, "b/itself.jpg", ".* a link to nothing"),
        (7, "b/pipe.jpg", "it is a pipe"),
    ):
        with pytest.raises(tfjax.CorruptDataError, match=rf"reading failed on example {i} \('.*/{name}'\): {said}"):
            shown[i]
    with pytest.raises(tfjax.CorruptDataError, match="reading failed on example 1 "):
        pipe.map(lambda e: {"n": tf.strings.length(e["image"])}).batch(8).peek()


# Links.


def test_links_are_followed(put: Put, tmp_path: pathlib.Path) -> None:
    folder = put("a/1.jpg", "b/2.jpg")
    away = tmp_path / "away"
    away.mkdir()
    (away / "3.jpg").write_text("away/3.jpg")
    (folder / "c").symlink_to(away)
    (folder / "a" / "4.jpg").symlink_to(away / "3.jpg")
    assert rows(tfjax.from_folder(folder)) == [("a/1.jpg", 0), ("away/3.jpg", 0), ("b/2.jpg", 1), ("away/3.jpg", 2)]
    (tmp_path / "link").symlink_to(folder)
    assert rows(tfjax.from_folder(tmp_path / "link")) == rows(tfjax.from_folder(folder))


@pytest.mark.parametrize("to", ["..", ".", "../.."])
def test_a_link_that_leads_back_is_refused(to: str, put: Put) -> None:
    folder = put("a/1.jpg")
    (folder / "a" / "loop").symlink_to(to)
    match = r"'a/loop(/data)?' in '.*' leads back to a folder that it lies in: .*, or .* with ignore='loop'"
    with pytest.raises(ValueError, match=match):
        tfjax.from_folder(folder)
    assert rows(tfjax.from_folder(folder, ignore="loop")) == [("a/1.jpg", 0)]


# What is no folder of examples.


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "holds no file: correct the path, or fill it"),
        ([".hidden/1.jpg", "x.md"], "holds no file; 2 files and folders are left out, hidden or by ignore="),
        (
            ["1.jpg", "2.jpg"],
            r"has no subfolder, so '1\.jpg', '2\.jpg' have no class: give labels= .* from_files\(paths\)",
        ),
        (
            ["a/1.jpg", "x.jpg", "README.txt"],
            r"2 of 3 files lie in no class folder: 'README\.txt', 'x\.jpg': move them into one, leave them out",
        ),
        (
            ["a/1.wav", "b/2.csv"],
            r"has 2 files \('a/1\.wav', 'b/2\.csv'\), and none that can be used: those of kind='image'",
        ),
    ],
    ids=["empty", "all left out", "flat", "files beside the classes", "none of the kind"],
)
def test_a_folder_without_examples(names: list[str], said: str, put: Put) -> None:
    folder = put(*names)
    folder.mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=rf"from_folder: '{folder}'.* {said}"):
        tfjax.from_folder(folder, ignore="*.md")


def test_what_is_no_folder(put: Put) -> None:
    folder = put("a/1.jpg")
    with pytest.raises(FileNotFoundError, match=r"from_folder: '.*nowhere' does not exist: correct the path"):
        tfjax.from_folder(folder / "nowhere")
    with pytest.raises(ValueError, match=r"'.*1\.jpg' is a file: pass a folder, or use from_files"):
        tfjax.from_folder(folder / "a" / "1.jpg")
    with pytest.raises(ValueError, match=r"walks local folders, given 'gs://bucket/photos'"):
        tfjax.from_folder("gs://bucket/photos")
    with pytest.raises(TypeError, match=r"takes the path of a folder, given \['a'\]: use from_files"):
        tfjax.from_folder(["a"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="from_folder: kind='video'"):
        tfjax.from_folder(folder, "video")  # type: ignore[arg-type]
