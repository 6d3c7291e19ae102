"""ArrayRecord files, loose and as TFDS writes them: the rows of TFRecord files, and every kind of damage."""

import dataclasses
import gc
import os
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import weakref
from typing import ClassVar

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfjax
from tests.sources.record_slices import assert_rows, draw_indices, draw_slices, rows
from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources import array_record
from tfjax.sources.open_records import open_records
from tfjax.sources.records import ParsedRecords, Records, Slice, choose_how, open_slices

module = pytest.importorskip("array_record.python.array_record_module")
pytestmark = pytest.mark.usefixtures("quiet_tfds")
WAYS = ("held", "read")
FEATURES = {"x": tf.io.FixedLenFeature((), tf.int64), "s": tf.io.FixedLenFeature((), tf.string)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path, payloads, options="group_size:1"):
    writer = module.ArrayRecordWriter(str(path), options)
    for payload in payloads:
        writer.write(payload)
    writer.close()
    return str(path)


def example(i):
    x = tf.train.Feature(int64_list=tf.train.Int64List(value=[i]))
    s = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"%d" % i * (i % 7)]))
    return tf.train.Example(features=tf.train.Features(feature={"x": x, "s": s})).SerializeToString()


def records(*paths, how="read"):
    return Records([p if isinstance(p, Slice) else Slice(p) for p in paths], how=how, format="array_record")


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "ten.array_record", [str(i).encode() * i for i in range(10)])


@settings(max_examples=12)  # each writes files of 128 KiB and builds two graphs
@given(st.data())
def test_both_ways_to_the_same_bytes(data):
    options = data.draw(st.sampled_from(["group_size:1", "group_size:3", "group_size:1,uncompressed"]))
    with tempfile.TemporaryDirectory() as folder:
        slices, expected = draw_slices(data, folder, lambda path, payloads: write(path, payloads, options))
        source = records(*slices)
        assert len(source) == len(expected)
        assert source.files.payload_bytes == sum(map(len, expected)), "exact where all are sampled"
        indices = draw_indices(data, len(expected))
        assert_rows(lambda how: dataclasses.replace(source, how=how), WAYS, expected, indices)


@pytest.mark.parametrize("how", WAYS)
def test_specs_and_static_shapes(path, how):
    source = records(path, how=how)
    assert source.spec == (tf.TensorSpec((), tf.string),)
    spec = tf.data.Dataset.from_tensors(tf.range(3, dtype=tf.int64)).map(source.fetch).element_spec
    assert spec.leaves[0].shape == (3,)


def test_how_is_chosen_by_size(path):
    source = records(path)
    assert choose_how(source, source.files.held_bytes) == "held"
    assert choose_how(source, source.files.held_bytes - 1) == "read"
    assert open_slices([Slice(path)], "array_record", 0).how == "read"
    for how in ("mmap", "graph"):
        with pytest.raises(ValueError, match=f"how='{how}': array_record files are fetched by one of held, read"):
            records(path, how=how)


def test_the_bytes_of_many_records_are_estimated(tmp_path):
    many = write(tmp_path / "many", [bytes(100) for _ in range(1000)] + [bytes(300) for _ in range(1000)])
    assert abs(records(many).files.payload_bytes - 400_000) < 8_000


def test_rows_of_many_files_by_several_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(array_record, "_MAX_READERS", 3)
    source = records(*(write(tmp_path / f"{i}", [b"%d" % (10 * i + k) for k in range(10)]) for i in range(6)))
    wrong = []

    def work(seed):
        for _ in range(10):
            order = np.random.default_rng(seed).integers(0, 60, 100)
            got, ok = source.read(order)
            if got.tolist() != [b"%d" % i for i in order] or not ok.all():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(source.files._readers) == 3


@pytest.mark.parametrize("how", WAYS)
def test_nothing_is_left_of_a_dropped_source(path, how):
    def leave():
        source = records(path, how=how)
        list(tf.data.Dataset.range(2).batch(2).map(source.fetch))
        return [weakref.ref(x) for x in (source, source.files, source.files._held) if x is not None]

    def descriptors():
        return [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)]

    refs = leave()
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)
    assert path not in descriptors()


def _is_link(fd):
    return os.path.islink(f"/proc/self/fd/{fd}")


# Damage.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("whole") / "x"
    return pathlib.Path(write(path, [rng.bytes(400) for _ in range(300)])).read_bytes()


@settings(max_examples=30)
@given(st.data())
def test_landmine_4_a_file_cut_anywhere_is_refused(whole, data):
    edges = [n + d for n in range(65536, len(whole), 65536) for d in (-1, 0, 1)]
    cut = data.draw(st.sampled_from([0, 1, *edges]) | st.integers(0, len(whole) - 1))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "cut"
        path.write_bytes(whole[:cut])
        assert module.ArrayRecordReader(str(path)).num_records() == 0, "and the reader says nothing"
        with pytest.raises(CorruptDataError, match=rf"{re.escape(str(path))}' is no whole ArrayRecord file \(.+\)"):
            records(str(path))


def test_some_other_file_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"something else " * 10_000)
    with pytest.raises(CorruptDataError, match="is no whole ArrayRecord file"):
        records(str(path))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example(1))
    with pytest.raises(CorruptDataError, match="is no whole ArrayRecord file"):
        tfjax.from_records(path, FEATURES, format="array_record")


def test_a_whole_file_of_no_record_holds_none(tmp_path):
    assert len(records(write(tmp_path / "x", []))) == 0


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent' does not exist: correct the path"):
        records(str(tmp_path / "absent"))


def test_counts_are_held_against_the_metadata(path):
    with pytest.raises(CorruptDataError, match=r"holds 10 records .* its metadata says 11"):
        records(Slice(path, total=11))
    with pytest.raises(CorruptDataError, match="holds 10 records, too few to skip 5 and take 6"):
        records(Slice(path, 5, 6))


def flip(path, found):
    """Alter a byte of what is stored uncompressed; size and modification time stay."""
    before, data = os.stat(path), bytearray(pathlib.Path(path).read_bytes())
    data[data.index(found)] ^= 1
    pathlib.Path(path).write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def plain(tmp_path):
    payloads = [b"record number %d" % i for i in range(10)]
    return write(tmp_path / "plain", payloads, "group_size:1,uncompressed")


def test_an_altered_record_is_a_flag_and_costs_no_other(plain):
    source = records(plain)
    flip(plain, b"record number 5")
    got, ok = rows(source, [4, 5, 6, 5])
    assert got == [b"record number 4", b"", b"record number 6", b""]
    assert ok == [True, False, True, False]
    assert source.locate(5) == f"{plain!r}, record 5"
    assert records(Slice(plain, 2), Slice(plain)).locate(9) == f"{plain!r}, record 1"


def test_an_altered_record_is_named_when_the_records_are_held(plain):
    source = records(Slice(plain, 2), how="held")
    flip(plain, b"record number 5")
    with pytest.raises(CorruptDataError, match=rf"{re.escape(plain)}': record 5 cannot be read \(.*hash mismatch"):
        source.fetch(tf.constant([0], tf.int64))


def test_an_altered_record_is_named_by_the_pipeline(tmp_path):
    path = write(tmp_path / "x", [example(i) for i in range(100)], "group_size:1,uncompressed")
    pipe = tfjax.from_records(path, FEATURES, format="array_record", memory_bytes=0).drop("s")
    flip(path, example(60)[-12:])
    with pytest.raises(CorruptDataError, match=rf"reading failed on example 60 \('{re.escape(path)}', record 60\)"):
        list(pipe.shuffle(seed=0).batch(10))


def test_a_file_changed_in_use_is_found_when_an_iterator_opens(path):
    source = records(path)
    source.check()
    os.utime(path, ns=(5, 5))
    with pytest.raises(CorruptDataError, match=r"changed while it was in use.*modified at 5 ns"):
        source.check()
    os.remove(path)
    with pytest.raises(CorruptDataError, match="when it was opened and is gone"):
        source.check()


def test_a_remote_path_is_refused_with_the_fix():
    with tf.io.gfile.GFile("ram://array/x", "wb") as file:
        file.write(b"x")
    with pytest.raises(
        ValueError, match=r"takes local paths, given 'ram://array/x': copy the file, or write TFRecords"
    ):
        tfjax.from_records("ram://array/x", FEATURES, format="array_record")


def test_a_missing_reader_names_the_extra(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    with pytest.raises(ImportError, match=r"array_record package.*pip install 'tfjax\[array_record\]'"):
        records(path)


def test_identity_holds_no_path_and_tells_contents_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, copy = (records(write(tmp_path / d / "x", [b"1", b"22"])) for d in "ab")
    packed = records(write(tmp_path / "b" / "x", [b"1", b"22"], "group_size:2"))
    other = records(write(tmp_path / "a" / "x", [b"11", b"2"]))
    assert first.identity == copy.identity == packed.identity, "however it is compressed"
    assert first.identity != other.identity
    assert str(tmp_path) not in str(first.identity)
    assert {"num_examples": 2, "bytes": 3, "format": "array_record"}.items() <= first.identity.items()


# The pipeline.


@pytest.fixture
def both(tmp_path):
    """The same examples in files of both formats."""
    for part in range(3):
        payloads = [example(10 * part + i) for i in range(10)]
        write(tmp_path / f"x-{part}.array_record", payloads)
        with tf.io.TFRecordWriter(str(tmp_path / f"x-{part}.tfrecord")) as writer:
            for payload in payloads:
                writer.write(payload)
    return tmp_path


def batches(pipe, **how):
    with pipe.iterate(**how) as run:
        return [jax.tree.map(lambda a: np.asarray(a).tolist(), b) for b in run]


@pytest.mark.parametrize("memory_bytes", [0, 2**30])
@pytest.mark.parametrize("features", [FEATURES, {**FEATURES, "x": tf.io.FixedLenSequenceFeature((), tf.int64, True)}])
def test_batches_are_those_of_tfrecords(both, memory_bytes, features):
    def build(format):
        pipe = tfjax.from_records(both / f"*.{format}", features, format=format, memory_bytes=memory_bytes)
        pipe = pipe.map(lambda e: {**e, "x": tf.reshape(e["x"], ())}).keep_on_host("s")
        return pipe.shuffle(seed=3).batch(7, remainder="keep")

    ours, theirs = build("array_record"), build("tfrecord")
    assert batches(ours, epochs=2) == batches(theirs, epochs=2)
    source = ours._chain[0].source
    how = (source.records if isinstance(source, ParsedRecords) else source).how
    assert how == ("held" if memory_bytes else "read")
    assert ("ArrayRecord's reader" in ours.explain()) == (memory_bytes == 0)


def test_options_say_how_records_are_read(both):
    pipe = tfjax.from_records(both / "*.array_record", FEATURES, format="array_record").drop("s").batch(10)
    assert batches(pipe.options(fetch="read")) == batches(pipe.options(fetch="held")) == batches(pipe)
    with pytest.raises(ValueError, match="how='mmap': array_record files are fetched by one of held, read"):
        pipe.options(fetch="mmap")
    with pytest.raises(
        TypeError, match="verify_payload is for TFRecord files: the reader of ArrayRecord always checks"
    ):
        pipe.options(verify_payload=True)


def test_a_format_that_there_is_not(both):
    with pytest.raises(ValueError, match="format='parquet': record files are 'tfrecord' or 'array_record'"):
        open_records(both / "*", FEATURES, format="parquet")


# TFDS.

tfds = pytest.importorskip("tensorflow_datasets")


class Letters(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Fixed and varying features over several files; no data needed."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name=n) for n in ("fixed", "varying")]
    name = "letters"

    def _info(self):
        features = {"id": np.int64, "image": tfds.features.Image(shape=(4, 4, 3)), "text": tfds.features.Text()}
        if self.builder_config.name == "varying":
            features["row"] = tfds.features.Sequence(np.int32)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):  # noqa: ARG002
        return {"train": self._generate_examples(40), "test": self._generate_examples(9)}

    def _generate_examples(self, count):
        for i in range(count):
            e = {"id": i, "image": np.full((4, 4, 3), i, np.uint8), "text": "x" * (i % 5)}
            yield i, {**e, **({"row": list(range(i % 4))} if self.builder_config.name == "varying" else {})}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same set prepared in both formats, four files in each train split."""
    made = {}
    for format in ("tfrecord", "array_record"):
        made[format] = tmp_path_factory.mktemp(format)
        config = tfds.download.DownloadConfig(num_shards=4, try_download_gcs=False)
        for name in ("fixed", "varying"):
            builder = Letters(config=name, data_dir=str(made[format]), file_format=format)
            builder.download_and_prepare(download_config=config)
    return made


def as_host(element):
    return {k: np.asarray(v).tolist() for k, v in element.items()}


@pytest.mark.parametrize("memory_bytes", [0, 2**30])
@pytest.mark.parametrize("config", ["fixed", "varying"])
@pytest.mark.parametrize("split", ["train", "train[25%:]+test", "train[2shard]"])
def test_load_yields_what_it_yields_of_tfrecords(folders, config, split, memory_bytes):
    def build(format):
        pipe = tfjax.load(f"letters/{config}", split, data_dir=folders[format], memory_bytes=memory_bytes)
        return pipe.keep_on_host("text").shuffle(seed=1)

    ours, theirs = build("array_record"), build("tfrecord")
    got, want = ([as_host(e) for e in pipe.iterate(epochs=2)] for pipe in (ours, theirs))
    assert got == want and len(got) == 2 * len(ours)
    assert ours.info.file_format.value == "array_record"


def test_load_yields_what_as_data_source_reads(folders):
    builder = tfds.builder("letters/fixed", data_dir=str(folders["array_record"]))
    source = builder.as_data_source("train")
    pipe = tfjax.load("letters/fixed", data_dir=folders["array_record"]).keep_on_host("text")
    assert len(pipe) == len(source)
    for i in (0, 7, 39):
        wanted = source[i]
        np.testing.assert_array_equal(pipe[i]["image"], wanted["image"])
        assert (int(pipe[i]["id"]), pipe[i]["text"].item()) == (int(wanted["id"]), wanted["text"])


def test_digits_may_be_prepared_as_array_records(digits_dir, tmp_path):
    kwargs = {"file_format": "array_record"}
    ours = tfjax.load("digits", data_dir=tmp_path, builder_kwargs=kwargs)
    assert [p.name for p in tmp_path.glob("digits/*/*-train*")] == ["digits-train.array_record-00000-of-00001"]
    again = tfjax.load("digits", data_dir=tmp_path)  # as it was prepared
    theirs = tfjax.load("digits", data_dir=digits_dir)
    for pipe in (ours, again):
        for a, b in zip(pipe.shuffle(0).batch(100).iterate(), theirs.shuffle(0).batch(100).iterate(), strict=True):
            jax.tree.map(np.testing.assert_array_equal, a, b)
    with pytest.raises(ValueError, match="File format is already set"):
        tfjax.load("digits", data_dir=digits_dir, builder_kwargs=kwargs)


def test_of_two_formats_in_one_folder_the_main_one_is_read(folders, tmp_path):
    target = tmp_path / "both"
    shutil.copytree(folders["tfrecord"], target)
    for file in folders["array_record"].glob("letters/fixed/*/*.array_record-*"):
        shutil.copy(file, target / file.relative_to(folders["array_record"]))
    (info,) = target.glob("letters/fixed/*/dataset_info.json")
    info.write_text(info.read_text().replace("{", '{"alternativeFileFormats": ["array_record"],', 1))
    pipe = tfjax.load("letters/fixed", data_dir=target)
    assert {f.value for f in pipe.info.available_file_formats()} == {"tfrecord", "array_record"}
    assert pipe.info.file_format.value == "tfrecord" and len(pipe) == 40


def test_identity_holds_names_counts_and_format_but_no_path(folders):
    identity = tfjax.load("letters/fixed", "test", data_dir=folders["array_record"])._parts["source"]
    size = identity["bytes"]
    names = {"name": "letters", "config": "fixed", "version": "1.0.0", "split": "test"}
    assert identity == {**names, "format": "array_record", "num_examples": 9, "bytes": size} and size > 0


def test_landmine_4_a_cut_file_of_tfds_is_named(folders, tmp_path):
    shutil.copytree(folders["array_record"], tmp_path / "cut")
    (path, *_) = sorted((tmp_path / "cut").glob("letters/fixed/*/*-train.*"))
    os.truncate(path, path.stat().st_size - 65536)
    with pytest.raises(CorruptDataError, match=f"{re.escape(str(path))}' is no whole ArrayRecord file"):
        tfjax.load("letters/fixed", data_dir=tmp_path / "cut")
    write(path, [example(1)])
    with pytest.raises(CorruptDataError, match=f"{re.escape(str(path))}' holds 1 records .* its metadata says"):
        tfjax.load("letters/fixed", data_dir=tmp_path / "cut")
