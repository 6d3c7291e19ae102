"""Loose files by an explicit list: bytes and columns, what is refused, and files that change under a pipeline."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.sources.file_list import list_files
from tfjax.sources.loose_files import LooseFiles


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    """Six files of different sizes; file i has i + 1 bytes of value i."""
    made = [tmp_path / f"{i}.jpg" for i in range(6)]
    for i, path in enumerate(made):
        path.write_bytes(bytes([i] * (i + 1)))
    return made


def texts(paths: list[pathlib.Path]) -> list[str]:
    return [str(path) for path in paths]


def delivered(pipe: "tfjax.Pipeline", key: str = "image") -> list[bytes]:
    return [e[key].item() for e in pipe.keep_on_host(key).iterate()]


def lengths(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {"n": tf.strings.length(e["image"])}


# What comes out.


def test_the_members_of_a_source(paths: list[pathlib.Path]) -> None:
    labels = np.arange(6, dtype=np.uint8)
    source = LooseFiles(list_files("image", texts(paths)), "image", {"label": labels, "boxes": np.ones((6, 2, 4))})
    assert source.keys == ("boxes", "image", "label") and len(source) == 6
    assert source.spec == (tf.TensorSpec((2, 4), tf.float64), tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.uint8))
    raw = source.fetch(tf.constant([5, 0, 5], tf.int64))
    assert raw.leaves[1].numpy().tolist() == [b"\5" * 6, b"\0", b"\5" * 6]
    assert raw.leaves[2].numpy().tolist() == [5, 0, 5]
    assert raw.ok is not None and raw.ok.numpy().tolist() == [True] * 3
    assert source.locate(3) == repr(str(paths[3]))
    assert source.describe() == "6 files, 21 B, each read in the graph when it is needed"


def test_files_come_as_they_are_listed(paths: list[pathlib.Path]) -> None:
    chosen = [paths[4], str(paths[0]), paths[4]]
    assert delivered(tfjax.from_files(chosen)) == [b"\4" * 5, b"\0", b"\4" * 5]
    assert delivered(tfjax.from_files(np.array(texts(paths)))) == [path.read_bytes() for path in paths]


def test_a_relative_path_holds_when_the_folder_changes(
    paths: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(paths[0].parent)
    pipe = tfjax.from_files(["1.jpg"])
    monkeypatch.chdir("/")
    assert delivered(pipe) == [b"\1\1"]


def test_a_name_that_is_no_utf8(tmp_path: pathlib.Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    try:
        pathlib.Path(os.fsdecode(path)).write_bytes(b"abc")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert delivered(tfjax.from_files([os.fsdecode(path)])) == [b"abc"]


def test_remote_files() -> None:
    for name in "ab":
        tf.io.gfile.GFile(f"ram://loose/{name}.jpg", "wb").write(name * 3)
    pipe = tfjax.from_files(["ram://loose/b.jpg", "ram://loose/a.jpg"])
    assert delivered(pipe) == [b"bbb", b"aaa"]
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files do not exist: 'ram://loose/c\.jpg'"):
        tfjax.from_files(["ram://loose/b.jpg", "ram://loose/c.jpg"])


@pytest.mark.parametrize("kind", ["image", "audio", "text"])
def test_the_kind_is_the_key_of_the_bytes(kind: Any, paths: list[pathlib.Path]) -> None:
    pipe = tfjax.from_files(paths, kind=kind)
    assert set(pipe.spec) == {kind}
    assert delivered(pipe, kind)[1] == b"\1\1"


@pytest.mark.parametrize(
    "column",
    [
        [0, 1, 2, 3, 4, 5],
        np.arange(6, dtype=np.int8),
        jnp.arange(6),
        tf.range(6),
        np.arange(6) > 2,
        np.arange(12.0).reshape(6, 2),
        [[i, i] for i in range(6)],
    ],
    ids=["list", "numpy", "jax", "tensorflow", "bool", "rank 2", "nested list"],
)
def test_columns_of_numbers(column: Any, paths: list[pathlib.Path]) -> None:
    pipe = tfjax.from_files(paths, column=column).drop("image").shuffle(seed=1).batch(6)
    order = tfjax.from_files(paths, i=np.arange(6)).drop("image").shuffle(seed=1).batch(6).peek()["i"]
    np.testing.assert_array_equal(pipe.peek()["column"], np.asarray(column)[np.asarray(order)])


@pytest.mark.parametrize(
    "column", [["a", "b\0", "", "ü", "e", "f"], [b"a", b"b\0", b"", "ü".encode(), b"e", b"f"]], ids=["str", "bytes"]
)
def test_columns_of_text_keep_every_byte(column: Any, paths: list[pathlib.Path]) -> None:
    pipe = tfjax.from_files(paths, text=column).drop("image")
    assert delivered(pipe, "text") == [b"a", b"b\0", b"", "ü".encode(), b"e", b"f"]


def test_the_graph_holds_no_python(paths: list[pathlib.Path]) -> None:
    dataset = tfjax.from_files(paths, label=np.arange(6)).shuffle(seed=0).batch(3).to_tf()
    graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    kinds = {node.op for function in graph.library.function for node in function.node_def}
    assert {"MapDefun", "ReadFile"} <= kinds and not {kind for kind in kinds if "PyFunc" in kind}


def test_a_whole_run_over_photos(shared_data: pathlib.Path) -> None:
    photos = sorted((shared_data / "flowers").glob("*/*.jpg"))[::25]
    classes = sorted({p.parent.name for p in photos})
    labels = [classes.index(p.parent.name) for p in photos]

    def shape(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"shape": tf.shape(tf.io.decode_image(e["image"], expand_animations=False)), "label": e["label"]}

    batch = tfjax.from_files(photos, label=labels).map(shape).batch(len(photos)).peek()
    wanted = [tf.io.decode_jpeg(p.read_bytes()).shape.as_list() for p in photos]
    assert batch["shape"].tolist() == wanted and batch["label"].tolist() == labels


# Identity.


def source_of(pipe: "tfjax.Pipeline") -> LooseFiles:
    found = pipe._chain[0].source
    assert isinstance(found, LooseFiles)
    return found


def test_identity_is_names_sizes_and_columns(paths: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    def identity(given: list[pathlib.Path], **columns: Any) -> str:
        return json.dumps(source_of(tfjax.from_files(given, **columns)).identity)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copies = [elsewhere / path.name for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    one = identity(paths, label=range(6))
    assert one == identity(copies, label=np.arange(6)) and str(tmp_path) not in one
    others = [
        identity(paths),
        identity(paths, label=[0, 1, 2, 3, 4, 6]),
        identity(paths, other=range(6)),
        identity(paths[::-1], label=range(6)),
    ]
    copies[2].write_bytes(b"another size")
    others.append(identity(copies, label=range(6)))
    copies[2].rename(elsewhere / "2.png")
    others.append(identity([*copies[:2], elsewhere / "2.png", *copies[3:]], label=range(6)))
    assert len({one, *others}) == 7


def test_the_stamp_sees_times_and_columns(paths: list[pathlib.Path]) -> None:
    def stamp(**columns: Any) -> str:
        return source_of(tfjax.from_files(paths, **columns)).stamp()

    stamps = [stamp(), stamp(s=list("abcdef")), stamp(s=list("abcdeg"))]
    assert stamp() == stamps[0] and stamp(s=list("abcdef")) == stamps[1]
    os.utime(paths[3], ns=(1, 1))
    assert len({*stamps, stamp()}) == 4


def test_a_filter_sees_that_a_column_changed(paths: list[pathlib.Path]) -> None:
    kept = [tfjax.from_files(paths, label=x).filter(lambda e: e["label"] > 3) for x in (range(6), [0, 1, 4, 3, 4, 5])]
    assert [len(pipe) for pipe in kept] == [2, 3]


# Files that are not as they were.


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.unlink(), r"it was 4 bytes when it was listed and is gone: bring it back"),
        (lambda p: p.write_bytes(b"12"), r"it was 4 bytes when it was listed and is 2 bytes: make the pipeline anew"),
        (lambda p: p.write_bytes(b""), r"it was 4 bytes when it was listed and is 0 bytes"),
        (lambda p: (p.unlink(), p.mkdir()), r"it was 4 bytes when it was listed and is \d+ bytes"),
    ],
    ids=["gone", "shorter", "emptied", "a folder"],
)
def test_a_file_that_changes_during_a_run(
    spoil: Callable[[pathlib.Path], Any], said: str, paths: list[pathlib.Path]
) -> None:
    pipe = tfjax.from_files(paths).map(lengths).batch(3).options(prefetch_batches=1, parallel_calls=1)
    with pipe.iterate(epochs=100) as run:
        assert next(run)["n"].tolist() == [1, 2, 3]
        spoil(paths[3])
        with pytest.raises(tfjax.CorruptDataError, match=rf"reading failed on example 3 \('.*3\.jpg'\): {said}"):
            list(run)


def test_a_change_is_found_when_a_run_begins(paths: list[pathlib.Path]) -> None:
    pipe = tfjax.from_files(paths).map(lengths).batch(3)
    os.utime(paths[5], ns=(5, 5))
    with pytest.raises(tfjax.CorruptDataError, match=r"5\.jpg' changed while it was in use"):
        pipe.iterate()


def test_only_some_of_many_files_are_looked_at(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{i:03}.jpg" for i in range(350)]
    for path in paths:
        path.write_bytes(b"x")
    source = source_of(tfjax.from_files(paths))
    seen: list[str] = []
    monkeypatch.setattr("tfjax.sources.loose_files.require_unchanged", lambda path, *_: seen.append(path))
    source.check()
    assert len(seen) == len(set(seen)) == 100 and {seen[0], seen[-1]} == {str(paths[0]), str(paths[-1])}


def test_an_empty_file(paths: list[pathlib.Path]) -> None:
    paths[2].write_bytes(b"")
    pipe = tfjax.from_files(paths)
    assert "1 of them are unusable, and an error then: '2.jpg'" in pipe.explain()
    assert delivered(pipe.take(2)) == [b"\0", b"\1\1"]
    with pytest.raises(tfjax.CorruptDataError, match=r"reading failed on example 2 \('.*/2\.jpg'\): it is empty"):
        pipe.map(lengths).batch(6).peek()
    assert delivered(tfjax.from_files(paths, kind="text"), "text")[2] == b""


# What is refused.


@pytest.mark.parametrize("given", ["1.jpg", b"1.jpg", pathlib.Path("1.jpg"), 3, None, {"1.jpg": 1}, {"1.jpg"}], ids=str)
def test_paths_of_another_kind(given: Any) -> None:
    with pytest.raises(TypeError, match="from_files takes a list of paths, given"):
        tfjax.from_files(given)


@pytest.mark.parametrize("odd", [3, None, b"1.jpg"], ids=str)
def test_a_path_of_another_kind_among_them(odd: Any) -> None:
    with pytest.raises(TypeError, match=f"as text or os.PathLike, given {odd!r} among them"):
        tfjax.from_files(["1.jpg", odd])


def test_no_path() -> None:
    with pytest.raises(ValueError, match="the list of paths is empty"):
        tfjax.from_files([])


def test_images_that_are_not_decoded(paths: list[pathlib.Path]) -> None:
    with pytest.raises(tfjax.SpecError, match=r"or put tfjax\.image\.Decode\(\) before where it is an encoded image"):
        tfjax.from_files(paths).batch(2).peek()


def test_an_empty_path(paths: list[pathlib.Path]) -> None:
    with pytest.raises(ValueError, match="from_files: path 1 is empty: name a file"):
        tfjax.from_files([str(paths[0]), ""])


def test_missing_files_are_named(paths: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    missing = [tmp_path / f"no {i}" for i in range(3)]
    match = r"from_files: 4 of 10 files do not exist: '.*no 0', '.*no 1', '.*no 2' and 1 more: correct the paths"
    with pytest.raises(FileNotFoundError, match=match):
        tfjax.from_files([*paths, *missing, paths[0] / "below a file"])


def test_what_is_no_regular_file(paths: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(
        ValueError, match=r"2 of 8 files are folders, pipes or devices: '.*', '.*pipe\.jpg': name files"
    ):
        tfjax.from_files([*paths, tmp_path, tmp_path / "pipe.jpg"])


@pytest.mark.parametrize(
    ("column", "kind", "said"),
    [
        ([1, 2], ValueError, "column 'c' has 2 rows for 6 files: give one row a file"),
        (3, ValueError, "column 'c' is the scalar 3"),
        ([[1]] * 5 + [[1, 2]], ValueError, "column 'c' has rows of several shapes: pad them"),
        ([0, None, 2, 3, 4, 5], TypeError, "column 'c' holds None in row 1: fill it"),
        ([["a", "b"]] * 5 + [["a", None]], TypeError, "column 'c' holds None in row 5"),
        (["a"] * 5 + [1], TypeError, "column 'c' holds a int"),
        ({"a": 1}, TypeError, "column 'c' is a dict: pass an array or a list, with one row a file$"),
        (np.ma.masked_equal(np.arange(6), 2), TypeError, "column 'c' is a masked array"),
        (np.zeros(6, "datetime64[s]"), TypeError, "dtype datetime64"),
    ],
    ids=["length", "scalar", "ragged", "None", "None inside", "mixed", "dict", "masked", "dates"],
)
def test_a_column_that_fits_not(column: Any, kind: type[Exception], said: str, paths: list[pathlib.Path]) -> None:
    with pytest.raises(kind, match=said) as caught:
        tfjax.from_files(paths, c=column)
    assert str(caught.value).startswith("from_files: ")


def test_a_column_named_as_the_bytes(paths: list[pathlib.Path]) -> None:
    with pytest.raises(ValueError, match="'text' is the key of the files' bytes: give that column another name"):
        tfjax.from_files(paths, kind="text", text=range(6))
    assert tfjax.from_files(paths, kind="text", image=range(6)).drop("text")[4] == {"image": 4}


def test_another_kind(paths: list[pathlib.Path]) -> None:
    with pytest.raises(ValueError, match=r"from_files: kind='video': files are of one of the kinds 'image', 'audio'"):
        tfjax.from_files(paths, kind="video")  # type: ignore[arg-type]
