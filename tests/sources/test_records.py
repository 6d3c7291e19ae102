"""Records by index: three ways to fetch, the same bytes; damage named; nothing left behind."""

import dataclasses
import gc
import os
import pathlib
import re
import tempfile
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sources.record_slices import assert_rows, draw_indices, draw_slices, rows
from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError, SpecError
from tfjax.sources import _record_files
from tfjax.sources.open_records import expand_paths, open_records
from tfjax.sources.reading import with_records
from tfjax.sources.records import ParsedRecords, Records, Slice, choose_how

WAYS = ("held", "mmap", "graph")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path, payloads):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return str(path)


def flip(path, at):
    """Alter one byte, as if a disk had; size and modification time stay."""
    before = os.stat(path)
    data = bytearray(pathlib.Path(path).read_bytes())
    data[at] ^= 1
    pathlib.Path(path).write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "ten.tfrecord", [str(i).encode() * i for i in range(10)])


@settings(max_examples=15)  # each builds three graphs
@given(st.data())
def test_three_ways_to_the_same_bytes(data):
    with tempfile.TemporaryDirectory() as folder:
        slices, expected = draw_slices(data, folder, write)
        records = Records(slices)
        assert len(records) == len(expected)
        indices = draw_indices(data, len(expected))
        assert_rows(lambda how: dataclasses.replace(records, how=how), WAYS, expected, indices)


@pytest.mark.parametrize("how", WAYS)
def test_specs_and_static_shapes(path, how):
    records = Records([Slice(path)], how=how)
    assert records.spec == (tf.TensorSpec((), tf.string),)
    spec = tf.data.Dataset.from_tensors(tf.range(3, dtype=tf.int64)).map(records.fetch).element_spec
    assert spec.leaves[0].shape == (3,)


@pytest.mark.parametrize("how", ("held", "graph"))
def test_a_remote_file_is_read_without_a_map(how):
    path = write("ram://records/x", [b"a", b"bc", b""])
    records = dataclasses.replace(Records([Slice(path)], how="graph"), how=how)
    assert rows(records, [2, 1, 0])[0] == [b"", b"bc", b"a"]
    with pytest.raises(ValueError, match="cannot map the remote file 'ram://records/x': use how='held' or"):
        dataclasses.replace(records, how="mmap")
    assert choose_how(records, 0) == "graph"


def test_how_is_chosen_by_size(path):
    records = Records([Slice(path)])
    assert choose_how(records, records.files.held_bytes) == "held"
    assert choose_how(records, records.files.held_bytes - 1) == "mmap"
    with pytest.raises(ValueError, match="how='disk': tfrecord files are fetched by one of held, mmap, graph"):
        Records([Slice(path)], how="disk")


def test_replaced_values_share_what_is_loaded(path):
    records = Records([Slice(path)])
    held = dataclasses.replace(records, how="held")
    again = with_records(held, verify_payload=True)
    assert held.files is records.files is again.files
    assert held.files.held() is again.files.held()
    assert len(dataclasses.replace(records, slices=[Slice(path, 4)])) == 6
    with pytest.raises(TypeError, match="for record files, and this source is list"):
        with_records([], how="held")


def test_the_held_tensor_is_loaded_once_and_not_before_it_is_fetched(path, monkeypatch):
    loads, load = [], _record_files.RecordFiles._load
    monkeypatch.setattr(_record_files.RecordFiles, "_load", lambda self: (loads.append(1), load(self))[1])
    records = Records([Slice(path)], how="held")
    assert not loads
    threads = [threading.Thread(target=records.files.held) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(records, [3])[0] == [b"333"]
    assert len(loads) == 1


@pytest.mark.parametrize("how", WAYS)
def test_nothing_is_left_of_a_dropped_source(path, how):
    def leave():
        records = Records([Slice(path)], how=how)
        pipeline = tf.data.Dataset.range(2).batch(2).map(records.fetch)
        list(pipeline)
        files = records.files
        kept = [records, files, files._maps._files.get(path), files._held]
        return [weakref.ref(x) for x in kept if x is not None]

    refs = leave()
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)
    assert path not in pathlib.Path("/proc/self/maps").read_text()


def test_more_files_than_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(_record_files, "_MAX_MAPS", 3)
    records = Records([Slice(write(tmp_path / f"{i}", [b"%d" % i])) for i in range(10)])
    order = np.random.default_rng(0).integers(0, 10, 100)
    assert rows(records, order)[0] == [b"%d" % i for i in order]
    assert len(records.files._maps) == 3


# Damage.


def test_an_altered_payload_is_named_when_the_records_are_held(path):
    records = Records([Slice(path, 2)], how="held")
    at = records.files._offsets[5]
    flip(path, at)
    with pytest.raises(
        CorruptDataError, match=rf"{re.escape(path)}.*record at byte {at - 12} \(7 bytes\) fails its checksum"
    ):
        records.fetch(tf.constant([0], tf.int64))


def test_an_altered_payload_is_a_flag_on_the_mmap_path_where_asked(path):
    records = Records([Slice(path)], verify_payload=True)
    flip(path, records.files._offsets[5])
    got, ok = rows(records, [4, 5, 6, 5])
    assert got == [b"4444", b"", b"666666", b""]
    assert ok == [True, False, True, False]
    assert records.locate(5) == f"{path!r} at byte {records.files._offsets[5] - 12}"
    assert rows(with_records(records, verify_payload=False), [5])[1] == [True]


def test_an_altered_payload_checksum_is_seen(path):
    records = Records([Slice(path)], verify_payload=True)
    flip(path, records.files._offsets[0])  # record 0 is empty: its first byte is its checksum's
    assert rows(records, [0, 1]) == ([b"", b"1"], [False, True])


def test_landmine_4_one_bad_record_costs_no_other(path):
    records = Records([Slice(path)], how="graph")
    flip(path, records.files._offsets[5])
    assert rows(records, [9, 4, 6])[0] == [b"9" * 9, b"4444", b"666666"]
    with pytest.raises(tf.errors.DataLossError, match="corrupted record"):
        rows(records, [5])


def test_landmine_4_a_file_cut_between_two_records_is_held_against_its_count(path):
    end = Records([Slice(path)]).files._offsets[7] - 12
    os.truncate(path, end)
    assert len(Records([Slice(path)])) == 7
    with pytest.raises(CorruptDataError, match=rf"holds 7 records up to its end at byte {end}, its metadata.*10"):
        Records([Slice(path, total=10)])
    with pytest.raises(CorruptDataError, match="holds 7 records, too few to skip 5 and take 5"):
        Records([Slice(path, 5, 5)])


def test_landmine_4_a_file_cut_inside_a_header_is_refused(path):
    start = Records([Slice(path)]).files._offsets[7] - 12
    os.truncate(path, start + 9)
    with pytest.raises(CorruptDataError, match=f"inside the record that starts at byte {start}"):
        Records([Slice(path)])


def test_landmine_4_a_missing_file_is_an_error_and_no_loop(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent' does not exist"):
        Records([Slice(str(tmp_path / "absent"))])


def test_a_file_changed_in_use_is_found_when_an_iterator_opens(path):
    records = Records([Slice(path)])
    records.check()
    size = os.path.getsize(path)
    os.truncate(path, size - 1)
    with pytest.raises(CorruptDataError, match=f"{re.escape(path)}.*it was {size} bytes.*it is {size - 1} bytes"):
        records.check()
    os.remove(path)
    with pytest.raises(CorruptDataError, match=f"was {size} bytes when it was opened and is gone"):
        records.check()


def test_a_file_replaced_by_one_of_the_same_size_is_found_too(path):
    records = Records([Slice(path)])
    os.utime(path, ns=(5, 5))
    with pytest.raises(CorruptDataError, match=r"changed while it was in use.*modified at 5 ns"):
        records.check()


def test_a_file_changed_before_it_is_held_is_named(path):
    records = Records([Slice(path)], how="held")
    os.truncate(path, os.path.getsize(path) - 1)
    with pytest.raises(CorruptDataError, match="changed while it was in use"):
        records.fetch(tf.constant([0], tf.int64))


def test_identity_holds_no_path_and_tells_contents_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, copy = (Records([Slice(write(tmp_path / d / "x", [b"1", b"22"]))]) for d in "ab")
    other = Records([Slice(write(tmp_path / "a" / "y", [b"11", b"2"]))])
    assert first.identity == copy.identity
    assert first.identity != other.identity
    assert str(tmp_path) not in str(first.identity)
    assert {"num_examples": 2, "bytes": 3}.items() <= first.identity.items()


# Examples.

FEATURES = {
    "b": tf.io.FixedLenFeature((2,), tf.int64),
    "a": tf.io.FixedLenFeature((), tf.string),
    "c": tf.io.FixedLenFeature((1, 2), tf.float32),
}


def example(i):
    feature = {
        "a": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"%d" % i])),
        "b": tf.train.Feature(int64_list=tf.train.Int64List(value=[i, -i])),
        "c": tf.train.Feature(float_list=tf.train.FloatList(value=[i / 2, 0])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture
def examples(tmp_path):
    return write(tmp_path / "examples-0", [example(i) for i in range(6)])


@pytest.mark.parametrize("how", WAYS)
def test_features_of_fixed_shape_are_parsed_a_batch_at_a_time(examples, how):
    parsed = ParsedRecords(Records([Slice(examples)], how=how), FEATURES, {"b": tf.int16})
    assert parsed.keys == ("a", "b", "c")
    assert parsed.spec == (
        tf.TensorSpec((), tf.string),
        tf.TensorSpec((2,), tf.int16),
        tf.TensorSpec((1, 2), tf.float32),
    )
    raw = parsed.fetch(tf.constant([4, 1], tf.int64))
    assert [leaf.numpy().tolist() for leaf in raw.leaves] == [
        [b"4", b"1"],
        [[4, -4], [1, -1]],
        [[[2.0, 0.0]], [[0.5, 0.0]]],
    ]
    assert [leaf.shape[1:] for leaf in raw.leaves] == [spec.shape for spec in parsed.spec]


def test_a_bad_record_does_not_fail_the_parse_of_its_batch(examples):
    parsed = ParsedRecords(Records([Slice(examples)], verify_payload=True), FEATURES)
    flip(examples, parsed.records.files._offsets[2])
    raw = parsed.fetch(tf.range(4, dtype=tf.int64))
    assert raw.ok.numpy().tolist() == [True, True, False, True]
    assert raw.leaves[0].numpy().tolist() == [b"0", b"1", b"", b"3"]
    assert parsed.locate(2) == parsed.records.locate(2)


def test_features_of_varying_length_have_no_batched_parse(examples):
    with pytest.raises(TypeError, match=r"features \['d'\] are not tf.io.FixedLenFeature"):
        ParsedRecords(Records([Slice(examples)]), {**FEATURES, "d": tf.io.VarLenFeature(tf.int64)})


def test_open_records_reads_what_its_pattern_names_in_sorted_order(tmp_path, examples):
    write(tmp_path / "examples-1", [example(i) for i in range(6, 9)])
    opened = open_records(f"{tmp_path}/examples-*", FEATURES)
    assert isinstance(opened.source, ParsedRecords)
    assert opened.source.records.how == "held"
    raw = opened.source.fetch(tf.range(9, dtype=tf.int64))
    decoded = opened.decode(*[leaf[8] for leaf in raw.leaves])
    assert decoded.pop("a").numpy() == b"8"
    assert {k: v.numpy().tolist() for k, v in decoded.items()} == {"b": [8, -8], "c": [[4.0, 0.0]]}
    assert expand_paths([examples, examples]) == [examples, examples]


def test_open_records_parses_varying_features_example_by_example(examples):
    features = {"b": tf.io.FixedLenSequenceFeature((), tf.int64, allow_missing=True)}
    opened = open_records(examples, features, memory_bytes=0)
    assert isinstance(opened.source, Records)
    assert opened.source.how == "mmap"
    (row,) = opened.source.fetch(tf.constant([3], tf.int64)).leaves
    assert opened.decode(row[0])["b"].numpy().tolist() == [3, -3]


def test_open_records_refuses_what_cannot_be_read(tmp_path, examples):
    with pytest.raises(KeyError, match=r"feature 'z' is not in the record in .*which has \['a', 'b', 'c'\]"):
        open_records(examples, {"z": tf.io.FixedLenFeature((), tf.int64)})
    assert open_records(examples, {"z": tf.io.FixedLenFeature((), tf.int64, default_value=1)})
    with pytest.raises(FileNotFoundError, match=r"no file matches '.*/absent-\*': correct"):
        open_records(f"{tmp_path}/absent-*", FEATURES)
    with pytest.raises(FileNotFoundError, match="paths is empty"):
        open_records([], FEATURES)
    with pytest.raises(ValueError, match="features is empty"):
        open_records(examples, {})
    with pytest.raises(TypeError, match="features is a list: pass a dict"):
        open_records(examples, ["a"])
    with pytest.raises(TypeError, match=r"is no serialized tf.train.Example"):
        open_records(write(tmp_path / "x", [b"\xff\xff"]), FEATURES)
    for absent in (None, b"x", [b"x"], 3):
        with pytest.raises(TypeError, match=r"takes paths as text or os\.PathLike, one or several; given"):
            open_records(absent, FEATURES)
    with pytest.raises(ValueError, match="takes local paths, given 'gs://b/x'"):
        open_records("gs://b/x", FEATURES, format="array_record")


def test_open_records_tells_an_array_record_file(tmp_path):
    module = pytest.importorskip("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(tmp_path / "x"), "group_size:1")
    writer.write(example(0))
    writer.close()
    with pytest.raises(CorruptDataError, match=r"is an ArrayRecord file, .*give format='array_record'"):
        open_records(tmp_path / "x", FEATURES)


@pytest.mark.parametrize(
    "wrong",
    [
        tf.io.FixedLenFeature((2,), tf.float32),
        tf.io.FixedLenFeature((3,), tf.int64),
        tf.io.VarLenFeature(tf.string),
    ],
)
def test_features_that_differ_from_whole_records_are_to_blame(examples, wrong):
    with pytest.raises(SpecError, match=r"at byte 0: feature 'b' is not stored as `features` says \(.*correct its"):
        open_records(examples, {**FEATURES, "b": wrong})


@pytest.mark.parametrize("memory_bytes", [0, 2**30])
def test_a_later_record_that_is_whole_and_another_that_is_not(tmp_path, memory_bytes):
    b = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2, 3]))
    odd = tf.train.Example(features=tf.train.Features(feature={"b": b})).SerializeToString()
    path = write(tmp_path / "x", [example(0), odd])
    features = {"b": FEATURES["b"]}
    with pytest.raises(SpecError, match="feature 'b' is not stored"):
        open_records(path, features, memory_bytes=memory_bytes).source.fetch(tf.constant([1], tf.int64))
    flip(path, os.path.getsize(path) - 5)
    with pytest.raises(CorruptDataError, match="checksum"):
        open_records(path, features, memory_bytes=memory_bytes).source.fetch(tf.constant([1], tf.int64))
