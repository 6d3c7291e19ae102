"""Files behind a URL, on TensorFlow's in-memory file system: found, indexed, read by offset in the graph, damaged."""

import gc
import pathlib
import re
import weakref

import jax
import numpy as np
import pytest

import tfjax
from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources import index as index_module
from tfjax.sources.index import index_file
from tfjax.sources.open_records import expand_paths

FEATURES = {"x": tf.io.FixedLenFeature((), tf.int64), "y": tf.io.FixedLenFeature((2,), tf.float32)}
WAYS = {"held": 2**30, "graph": 0}
PARTS, ROWS = 3, 7


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def example(i):
    x = tf.train.Feature(int64_list=tf.train.Int64List(value=[i]))
    y = tf.train.Feature(float_list=tf.train.FloatList(value=[i / 2, -i]))
    return tf.train.Example(features=tf.train.Features(feature={"x": x, "y": y})).SerializeToString()


def write(path, payloads):
    remove(path)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return str(path)


def remove(path):
    """This file system appends to a file that is there already."""
    if tf.io.gfile.exists(str(path)):
        tf.io.gfile.remove(str(path))


def alter(path, change):
    """Read a remote file, change its bytes, write it again."""
    with tf.io.gfile.GFile(path, "rb") as file:
        data = bytearray(file.read())
    data = change(data) or data
    remove(path)
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(bytes(data))


@pytest.fixture
def folder(request):
    """A folder of its own, in which no other test's files are."""
    return f"ram://{re.sub(r'[^a-z0-9]', '-', request.node.name)}"


@pytest.fixture
def files(folder):
    for part in range(PARTS):
        write(f"{folder}/part-{part}.tfrecord", [example(ROWS * part + i) for i in range(ROWS)])
    return folder


def opened(folder, how, **options):
    pipe = tfjax.from_records(f"{folder}/part-*.tfrecord", FEATURES, memory_bytes=WAYS[how])
    return pipe.options(**options) if options else pipe


def batches(pipe, **how):
    with pipe.iterate(**how) as run:
        return [jax.tree.map(np.asarray, b) for b in run]


def test_patterns_are_expanded_in_sorted_order(files):
    paths = [f"{files}/part-{i}.tfrecord" for i in range(PARTS)]
    assert expand_paths(f"{files}/part-*") == expand_paths(paths) == paths
    assert expand_paths([f"{files}/part-[12]*", paths[0]]) == [*paths[1:], paths[0]]
    for absent in (f"{files}/absent-*", f"{files}/absent", "ram://nowhere/*"):
        with pytest.raises(FileNotFoundError, match=f"no file matches '{re.escape(absent)}'"):
            expand_paths(absent)


@pytest.mark.parametrize("how", WAYS)
def test_batches_are_those_of_local_files(files, tmp_path, how):
    for part in range(PARTS):
        write(tmp_path / f"part-{part}.tfrecord", [example(ROWS * part + i) for i in range(ROWS)])
    pipe, local = opened(files, how), opened(tmp_path, "held")
    assert pipe._chain[0].source.records.how == how
    assert pipe._parts["source"] == local._parts["source"], "the same records, wherever they lie"
    got, want = (batches(p.shuffle(seed=4).batch(4, remainder="keep"), epochs=2) for p in (pipe, local))
    for a, b in zip(got, want, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert sorted(np.concatenate([b["x"] for b in got[: len(got) // 2]]).tolist()) == list(range(PARTS * ROWS))


@pytest.mark.parametrize("how", WAYS)
def test_a_state_of_local_files_resumes_on_remote_ones(files, tmp_path, how):
    for part in range(PARTS):
        write(tmp_path / f"part-{part}.tfrecord", [example(ROWS * part + i) for i in range(ROWS)])
    local, remote = (p.shuffle(seed=4).batch(4) for p in (opened(tmp_path, "held"), opened(files, how)))
    with local.iterate(epochs=2) as run:
        next(run)
        state, rest = run.state, [b["x"].tolist() for b in run]
    assert [b["x"].tolist() for b in batches(remote, epochs=2, state=state)] == rest


def test_other_ways_of_reading_a_remote_file(files):
    pipe = opened(files, "held").batch(5)
    for one in (pipe.options(fetch="graph"), pipe.options(fetch="held"), pipe.options(parallel_calls=3)):
        assert [b["x"].tolist() for b in batches(one)] == [b["x"].tolist() for b in batches(pipe)]
    with pytest.raises(ValueError, match=f"cannot map the remote file '{files}/part-0.tfrecord': use how='held' or"):
        pipe.options(fetch="mmap")


def test_the_graph_of_a_remote_file_holds_no_python(files, tmp_path):
    def calls_python(pipe):
        fetch = tf.function(lambda indices: pipe._chain[0].source.fetch(indices).leaves)
        traced = fetch.get_concrete_function(tf.TensorSpec((None,), tf.int64))
        return "PyFunc" in str(traced.graph.as_graph_def())

    assert not calls_python(opened(files, "graph")) and not calls_python(opened(files, "held"))
    write(tmp_path / "part-0.tfrecord", [example(0)])
    assert calls_python(opened(tmp_path, "graph")), "a local file that is not held is mapped"


def test_an_index_is_built_by_ranged_reads(folder, monkeypatch):
    lengths = [0, 1, 30, 5_000, 5, 0, 70_000, 3]
    path = write(f"{folder}/x", [bytes(n) for n in lengths])
    reads = []

    class Counting(index_module._RemoteHeaders):
        def __call__(self, at):
            before = self._start, len(self._block)
            out = super().__call__(at)
            if (self._start, len(self._block)) != before:
                reads.append(len(self._block))
            return out

    monkeypatch.setattr(index_module, "_REMOTE_BLOCK_BYTES", 64)
    monkeypatch.setattr(index_module, "_RemoteHeaders", Counting)
    assert index_file(path).lengths.tolist() == lengths
    assert len(reads) < len(lengths) and sum(reads) < 1_000, "headers alone, several to a read"


def test_without_a_time_of_modification_an_index_is_not_kept(folder):
    path = write(f"{folder}/x", [b"a", b"bcd"])
    assert tf.io.gfile.stat(path).mtime_nsec == 0
    assert index_file(path).lengths.tolist() == [1, 3]
    write(path, [b"abc", b"d"])
    assert index_file(path).lengths.tolist() == [3, 1]


def test_a_dropped_source_is_freed(files):
    pipe = opened(files, "graph").shuffle(seed=0).batch(4)
    pipe.peek()
    ref = weakref.ref(pipe._chain[0].source.records.files)
    del pipe
    gc.collect()
    assert ref() is None


# Damage.


def test_a_file_cut_off_is_named(files):
    path = f"{files}/part-1.tfrecord"
    alter(path, lambda data: data[:-3])
    with pytest.raises(CorruptDataError, match=f"'{path}' ends at byte .* inside the record that starts at byte"):
        opened(files, "graph")


def test_an_altered_length_is_named(files):
    path = f"{files}/part-1.tfrecord"
    alter(path, lambda data: data.__setitem__(0, data[0] ^ 1))
    with pytest.raises(CorruptDataError, match=f"'{path}': the record length at byte 0 fails its checksum"):
        opened(files, "graph")


def flip_third_payload(files):
    path = f"{files}/part-1.tfrecord"
    at = int(index_file(path).offsets[3])
    alter(path, lambda data: data.__setitem__(at + 5, data[at + 5] ^ 1))
    return path, at - 12


def test_an_altered_payload_is_named_by_the_reader_in_the_graph(files):
    pipe = opened(files, "graph").batch(4)
    path, at = flip_third_payload(files)
    with pytest.raises(
        CorruptDataError, match=rf"reading failed on example 10 \('{path}' at byte {at}\): corrupted record"
    ):
        batches(pipe)
    good = pipe.options(parallel_calls=1)
    with good.iterate() as run:
        assert [next(run)["x"].tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_an_altered_payload_is_named_when_the_records_are_held(files):
    pipe = opened(files, "held").batch(4)
    path, at = flip_third_payload(files)
    with pytest.raises(CorruptDataError, match=f"'{path}': the payload of the record at byte {at} .*checksum"):
        batches(pipe)


@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_changed_or_went_is_found_when_an_iterator_opens(files, how):
    pipe = opened(files, how).batch(4)
    batches(pipe)
    write(f"{files}/part-2.tfrecord", [example(1)])
    with pytest.raises(CorruptDataError, match=f"'{files}/part-2.tfrecord' changed while it was in use"):
        pipe.iterate()
    tf.io.gfile.remove(f"{files}/part-2.tfrecord")
    with pytest.raises(
        CorruptDataError, match=f"'{files}/part-2.tfrecord' was .* bytes when it was opened and is gone"
    ):
        pipe.iterate()


# TFDS.


def copied(local, remote):
    for path in pathlib.Path(local).rglob("*"):
        if path.is_file():
            with tf.io.gfile.GFile(f"{remote}/{path.relative_to(local)}", "wb") as file:
                file.write(path.read_bytes())


@pytest.fixture
def known_to_tfds(monkeypatch):
    """TFDS finds its files by epath, which has no scheme for TensorFlow's in-memory file system: it is told of it."""
    gpath = pytest.importorskip("etils.epath.gpath")
    register = pytest.importorskip("etils.epath.register")
    try:
        monkeypatch.setattr(gpath, "_URI_PREFIXES", (*gpath._URI_PREFIXES, "ram://"))
        monkeypatch.setattr(gpath, "_URI_SCHEMES", gpath._URI_SCHEMES | {"ram"})
        monkeypatch.setitem(gpath._URI_MAP_ROOT, "ram://", "/ram/")
        monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "ram", None)
        monkeypatch.setitem(register._URI_PREFIXES_TO_CLS, "ram://", gpath.PosixGPath)
    except AttributeError as error:
        pytest.skip(f"this epath cannot be told of another scheme: {error}")


@pytest.mark.usefixtures("known_to_tfds")
@pytest.mark.parametrize("how", WAYS)
def test_a_remote_data_dir_is_loaded(digits_dir, folder, how):
    copied(digits_dir, folder)
    local = tfjax.load("digits", split="test", data_dir=digits_dir)
    remote = tfjax.load("digits", split="test", data_dir=folder, download=False, memory_bytes=WAYS[how])
    source = remote._chain[0].source
    assert source.records.how == how and source.locate(0).startswith(f"'{folder}/digits/1.0.0/digits-test.tfrecord")
    assert remote._parts["source"] == local._parts["source"]
    for a, b in zip(remote.shuffle(0).batch(64).iterate(), local.shuffle(0).batch(64).iterate(), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_scheme_that_tfds_does_not_know_is_named(folder):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ValueError, match=f"data_dir is '{folder}', and TFDS reads no ram://: .*or from_records"):
        tfjax.load("digits", data_dir=folder)
