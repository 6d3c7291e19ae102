"""The offset index: any record lengths, every kind of damage, the cache folder."""

import gzip
import os
import pathlib
import re
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources import index as index_module
from tfjax.sources.disk import cache_folder
from tfjax.sources.index import FRAME_BYTES, HEADER_BYTES, index_file, masked_crc

PAYLOADS = st.lists(st.binary(max_size=40), min_size=1, max_size=8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path, payloads):
    """By TensorFlow's own writer."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return str(path)


def encoded(payloads):
    with tempfile.TemporaryDirectory() as folder:
        return pathlib.Path(write(f"{folder}/x", payloads)).read_bytes()


def index_bytes(data):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/x.tfrecord"
        pathlib.Path(path).write_bytes(data)
        return index_file(path, cache=False)


def starts(payloads):
    """The byte where each record starts, and the end of the file."""
    return np.cumsum([0, *(len(p) + FRAME_BYTES for p in payloads)]).tolist()


@given(st.lists(st.binary(max_size=300), max_size=12))
def test_every_record_is_found(payloads):
    data = encoded(payloads)
    index = index_bytes(data)
    found = [data[o : o + n] for o, n in zip(index.offsets, index.lengths, strict=True)]
    assert found == payloads
    assert len(index) == len(payloads)
    assert index.size_bytes == len(data)
    assert index.offsets.nbytes + index.lengths.nbytes == 16 * len(payloads)


@given(PAYLOADS, st.data())
def test_a_file_cut_anywhere_is_refused_or_ends_between_two_records(payloads, data):
    whole = encoded(payloads)
    cut = data.draw(st.integers(0, len(whole) - 1))
    at = [s for s in starts(payloads) if s <= cut]
    if cut == at[-1]:  # landmine 4: nothing in the file itself can tell; counts do, see test_records
        assert len(index_bytes(whole[:cut])) == len(at) - 1
    else:
        with pytest.raises(CorruptDataError, match=f"ends at byte {cut}, inside the record .* at byte {at[-1]}:"):
            index_bytes(whole[:cut])


@given(PAYLOADS, st.data())
def test_an_altered_header_is_refused_with_its_offset(payloads, data):
    whole = bytearray(encoded(payloads))
    record = data.draw(st.integers(0, len(payloads) - 1))
    at = starts(payloads)[record]
    whole[at + data.draw(st.integers(0, HEADER_BYTES - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptDataError, match=rf"x\.tfrecord.*byte {at}[ )]"):
        index_bytes(bytes(whole))


@given(PAYLOADS.filter(any), st.data())
def test_an_altered_payload_leaves_the_index_as_it_is(payloads, data):
    whole = bytearray(encoded(payloads))
    before = index_bytes(bytes(whole))
    record = data.draw(st.sampled_from([i for i, p in enumerate(payloads) if p]))
    whole[before.offsets[record]] ^= 255
    after = index_bytes(bytes(whole))
    np.testing.assert_array_equal(after.offsets, before.offsets)
    np.testing.assert_array_equal(after.lengths, before.lengths)


@given(st.binary(max_size=64))
def test_the_checksum_is_the_one_tensorflow_writes(payload):
    assert encoded([payload])[-4:] == masked_crc(payload).to_bytes(4, "little")


def test_a_missing_file_is_named(tmp_path):
    path = str(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=f"{re.escape(path)}.*does not exist: correct the path"):
        index_file(path)
    with pytest.raises(FileNotFoundError, match="ram://absent/x"):
        index_file("ram://absent/x")


def test_a_compressed_file_is_told_apart(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(encoded([b"abc"])))
    with pytest.raises(CorruptDataError, match=r"gzip-compressed.*write it uncompressed"):
        index_file(path)


def test_some_other_file_is_refused(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("no record at all, but long enough")
    with pytest.raises(CorruptDataError, match=r"byte 0 fails its checksum.*is no TFRecord file"):
        index_file(path)


def test_a_remote_file_is_indexed_like_a_local_one(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "_REMOTE_BLOCK_BYTES", 50)
    payloads = [bytes(n) for n in (0, 1, 30, 200, 5, 0, 70)]
    local, remote = index_file(write(tmp_path / "x", payloads)), index_file(write("ram://index/x", payloads))
    np.testing.assert_array_equal(local.offsets, remote.offsets)
    np.testing.assert_array_equal(local.lengths, remote.lengths)
    with tf.io.gfile.GFile("ram://index/y", "wb") as file:
        file.write(encoded(payloads)[:-1])
    with pytest.raises(CorruptDataError, match="'ram://index/y' ends at byte"):
        index_file("ram://index/y")


def forbid_walk(monkeypatch):
    def walk(*_):
        raise RuntimeError("walked")

    monkeypatch.setattr(index_module, "_walk", walk)


def test_the_second_index_comes_from_the_cache(tmp_path, monkeypatch):
    path = write(tmp_path / "x", [b"a", b"bcd"])
    first = index_file(path)
    forbid_walk(monkeypatch)
    second = index_file(path)
    np.testing.assert_array_equal(first.offsets, second.offsets)
    np.testing.assert_array_equal(first.lengths, second.lengths)
    with pytest.raises(RuntimeError, match="walked"):
        index_file(path, cache=False)


def test_a_changed_file_is_indexed_anew_and_its_old_entry_dropped(tmp_path):
    path = write(tmp_path / "x", [b"a"])
    index_file(path)
    write(path, [b"a", b"b"])
    assert len(index_file(path)) == 2
    os.utime(path, ns=(1, 1))
    assert len(index_file(path)) == 2
    assert len(list(cache_folder("index").iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY garbage", "cut", "another file's"])
def test_a_damaged_cache_entry_is_built_again(tmp_path, damage):
    path = write(tmp_path / "x", [b"a", b"bcd"])
    whole = index_file(path)
    (entry,) = cache_folder("index").iterdir()
    if damage == "cut":
        entry.write_bytes(entry.read_bytes()[:-9])
    elif damage == "another file's":
        np.save(entry, np.array([[12], [9]]))
    else:
        entry.write_bytes(damage)
    np.testing.assert_array_equal(index_file(path).offsets, whole.offsets)
    np.testing.assert_array_equal(np.load(entry)[0], whole.offsets)


def test_a_cache_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(index_file(write(tmp_path / "x", [b"a"]))) == 1


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def replace(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", replace)
    assert len(index_file(write(tmp_path / "x", [b"a"]))) == 1
    assert list(cache_folder("index").iterdir()) == []
