"""Records compressed with gzip: streamed, counted, and damage of every kind is said with the file's name."""

import gzip
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

import tfjax
from tfjax.errors import CorruptDataError
from tfjax.sources.gzip_records import is_gzip

X = {"x": tf.io.FixedLenFeature((), tf.int64)}


def records(begin: int, end: int, folder: pathlib.Path) -> bytes:
    """Records 0 to n as a plain file holds them."""
    path = folder / "plain.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(begin, end):
            value = tf.train.Feature(int64_list=tf.train.Int64List(value=[i]))
            text = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a" * (i % 50)]))
            features = tf.train.Features(feature={"x": value, "text": text})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path.read_bytes()


def starts(raw: bytes) -> list[int]:
    """Where each record begins."""
    found, at = [], 0
    while at < len(raw):
        found.append(at)
        at += int.from_bytes(raw[at : at + 8], "little") + 16
    return found


def pipe_of(folder: pathlib.Path, *contents: bytes) -> "tfjax.Pipeline":
    paths = [folder / f"part-{n}.gz" for n in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return tfjax.from_records(paths, X)


def xs(pipe: Any) -> list[int]:
    return [x for batch in pipe for x in batch["x"].tolist()]


def test_gzip_is_recognised_and_streams(tmp_path: pathlib.Path) -> None:
    raw = records(0, 150, tmp_path)
    pipe = pipe_of(tmp_path, gzip.compress(raw)).batch(7)
    assert xs(pipe) == list(range(150))
    assert xs(pipe.iterate(epochs=2)) == [*range(150)] * 2
    text = pipe.explain()
    assert text.startswith("streaming:")
    assert "part-0.gz' is compressed with gzip: a record is reached through all those before it" in text


@pytest.mark.parametrize("name", ["by TensorFlow", "two members", "plain files between", "stored", "an empty file"])
def test_what_gzip_files_may_look_like(name: str, tmp_path: pathlib.Path) -> None:
    one, two = records(0, 70, tmp_path), records(70, 100, tmp_path)
    if name == "by TensorFlow":
        path = tmp_path / "written.gz"
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for record in tf.data.TFRecordDataset(str(tmp_path / "plain.tfrecord")).as_numpy_iterator():
                writer.write(record)
        assert xs(tfjax.from_records(path, X).batch(9)) == list(range(70, 100))
        return
    files = {
        "two members": [gzip.compress(one) + gzip.compress(two)],
        "plain files between": [gzip.compress(one[: starts(one)[9]]), one[starts(one)[9] :], gzip.compress(two)],
        "stored": [gzip.compress(one, compresslevel=0), gzip.compress(two, compresslevel=0)],
        "an empty file": [gzip.compress(b""), gzip.compress(one + two)],
    }[name]
    assert xs(pipe_of(tmp_path, *files).batch(9)) == list(range(100))


def flushed(raw: bytes, end: int) -> bytes:
    """Gzip up to a byte, as a writer that was killed leaves it after a flush."""
    writer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return writer.compress(raw[:end]) + writer.flush(zlib.Z_FULL_FLUSH)


def altered(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "cut off in the middle": lambda raw: gzip.compress(raw)[: len(gzip.compress(raw)) // 2],
    "without its end": lambda raw: gzip.compress(raw)[:-8],
    "cut off between two records": lambda raw: flushed(raw, starts(raw)[100]),
    "cut off in a header": lambda raw: flushed(raw, starts(raw)[100] + 5),
    "whole, of records cut off in a header": lambda raw: gzip.compress(raw[: starts(raw)[100] + 5]),
    "whole, of records cut off in a payload": lambda raw: gzip.compress(raw[: starts(raw)[100] + 20]),
    "a bit flipped": lambda raw: altered(gzip.compress(raw), len(gzip.compress(raw)) // 2),
    "a bit of a record flipped": lambda raw: gzip.compress(altered(raw, starts(raw)[100] + 14)),
    "a wrong checksum": lambda raw: altered(gzip.compress(raw), len(gzip.compress(raw)) - 7),
    "garbage behind it": lambda raw: gzip.compress(raw) + b"garbage" * 9,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_landmine_4_damage_is_an_error_that_names_the_file(name: str, tmp_path: pathlib.Path) -> None:
    raw, after = records(0, 150, tmp_path), records(150, 200, tmp_path)
    got: list[int] = []
    with pytest.raises(CorruptDataError, match=r"part-1\.gz': record \d+, at decompressed byte \d+,"):
        for batch in pipe_of(tmp_path, gzip.compress(after), DAMAGED[name](raw), gzip.compress(after)).batch(5):
            got += batch["x"].tolist()
    assert got == [*range(150, 200), *range(150)][: len(got)]
    assert len(got) >= 50


def test_a_damaged_first_file_is_said_at_once(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CorruptDataError, match=r"part-0\.gz': record 0"):
        pipe_of(tmp_path, gzip.compress(records(0, 9, tmp_path))[:14])


def test_a_file_that_changed_or_is_gone(tmp_path: pathlib.Path) -> None:
    raw = records(0, 20, tmp_path)
    pipe = pipe_of(tmp_path, gzip.compress(raw)).batch(5)
    (tmp_path / "part-0.gz").write_bytes(gzip.compress(raw + raw))
    with pytest.raises(CorruptDataError, match=r"part-0\.gz' changed while it was in use"):
        pipe.iterate()
    (tmp_path / "part-0.gz").unlink()
    with pytest.raises(CorruptDataError, match=r"part-0\.gz' is gone"):
        pipe.iterate()


def test_replay_and_the_identity_of_files(tmp_path: pathlib.Path) -> None:
    raw = records(0, 60, tmp_path)
    pipe = pipe_of(tmp_path, gzip.compress(raw)).shuffle_window(20, seed=1).batch(8)
    whole = xs(pipe.iterate(epochs=2))
    with pipe.iterate(epochs=2) as batches:
        seen = [x for _ in range(9) for x in next(batches)["x"].tolist()]
        state = batches.state.to_json()
    assert seen + xs(pipe.iterate(epochs=2, state=state)) == whole
    other = tmp_path / "elsewhere"
    other.mkdir()
    moved = pipe_of(other, gzip.compress(raw)).shuffle_window(20, seed=1).batch(8)
    assert seen + xs(moved.iterate(epochs=2, state=state)) == whole
    longer = pipe_of(other, gzip.compress(raw + raw)).shuffle_window(20, seed=1).batch(8)
    with pytest.raises(tfjax.StateMismatchError, match="source"):
        longer.iterate(epochs=2, state=state)


def test_a_missing_feature_is_said_with_those_there_are(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(records(0, 3, tmp_path)))
    with pytest.raises(KeyError, match=r"'y' is not in the record in .*x\.gz.*'text', 'x'"):
        tfjax.from_records(path, {"y": tf.io.FixedLenFeature((), tf.int64)})


def test_a_plain_file_that_begins_like_gzip(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tricky.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\0" * 0x088B1F)
    assert path.read_bytes()[:3] == b"\x1f\x8b\x08"
    assert not is_gzip(str(path))


def test_an_empty_file_is_as_an_empty_one_without_compression(tmp_path: pathlib.Path) -> None:
    pipe = pipe_of(tmp_path, gzip.compress(b""))
    assert len(pipe) == 0
    with pytest.raises(ValueError, match="nothing to iterate over"):
        pipe.iterate()
    raw = gzip.compress(records(0, 3, tmp_path))
    assert xs(pipe_of(tmp_path, gzip.compress(b""), raw).batch(3)) == [0, 1, 2]


def test_other_compression_and_a_length_that_is_not_known(tmp_path: pathlib.Path) -> None:
    raw = records(0, 3, tmp_path)
    with pytest.raises(CorruptDataError, match=r"begins like zlib data, .*only those of gzip are read"):
        pipe_of(tmp_path, zlib.compress(raw))
    with pytest.raises(TypeError, match=r"not known: use iterate\(steps=...\)$"):
        len(pipe_of(tmp_path, gzip.compress(raw)))


def test_what_needs_an_index_is_refused(tmp_path: pathlib.Path) -> None:
    pipe = pipe_of(tmp_path, gzip.compress(records(0, 3, tmp_path)))
    with pytest.raises(ValueError, match=r"from_records\(.*\) streams: use shuffle_window"):
        pipe.shuffle(seed=0)
