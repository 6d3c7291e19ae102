"""Datasets by their TFDS name: the examples of `tfds.load` in its order, and all that may not be there."""

import os
import pathlib
import re
import socket
import sys
from typing import ClassVar

import numpy as np
import pytest

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources.records import ParsedRecords, Records
from tfjax.sources.tfds import _format, open_tfds

tfds = pytest.importorskip("tensorflow_datasets")
pytestmark = pytest.mark.usefixtures("quiet_tfds")


class Shards(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Nested, ragged and narrow features over several files a split; no data needed."""

    VERSION = tfds.core.Version("1.2.3")
    name = "shards"

    def _info(self):
        features = {
            "id": np.int64,
            "small": tfds.features.Tensor(shape=(2,), dtype=np.uint8),
            "deep": {"flag": np.bool_, "real": np.float64, "text": tfds.features.Text()},
        }
        if self.builder_config and self.builder_config.name == "ragged":
            features["row"] = tfds.features.Sequence(np.int32)
            features["rows"] = tfds.features.Sequence({"inner": tfds.features.Sequence(tfds.features.Text())})
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("deep", "id")
        )

    def _split_generators(self, dl_manager):  # noqa: ARG002
        return {"train": self._generate_examples(30), "test": self._generate_examples(7)}

    def _generate_examples(self, count):
        for i in range(count):
            deep = {"flag": i % 2 == 0, "real": i / 4, "text": f"text {i}"}
            example = {"id": i, "small": [i, 2], "deep": deep}
            if self.builder_config and self.builder_config.name == "ragged":
                example["row"] = list(range(i % 4))
                example["rows"] = [{"inner": ["x"] * j} for j in range(i % 3)]
            yield i, example


class Ragged(Shards, skip_registration=True):
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="ragged", version="1.2.3")]
    name = "shards_ragged"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both builders, four files in each train split."""
    path = tmp_path_factory.mktemp("tfds")
    for builder in (Shards, Ragged):
        config = tfds.download.DownloadConfig(num_shards=4, try_download_gcs=False)
        builder(data_dir=str(path)).download_and_prepare(download_config=config)
    return path


def decoded(opened):
    """What a graph yields: one fetch, and `decode` an example."""
    raw = opened.source.fetch(tf.range(len(opened.source), dtype=tf.int64))
    return tf.data.Dataset.from_tensor_slices(tuple(raw.leaves)).map(opened.decode)


def reference(name, split, data_dir, **kwargs):
    # Interleaving of files is TFDS's way to read fast; by index, files come one after the other.
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return tfds.load(name, split=split, data_dir=str(data_dir), read_config=config, **kwargs)


def assert_same(ours, theirs):
    assert ours.element_spec == theirs.element_spec
    count = 0
    for mine, other in zip(ours, theirs, strict=True):
        tf.nest.assert_same_structure(mine, other, expand_composites=True)
        for a, b in zip(tf.nest.flatten(mine, True), tf.nest.flatten(other, True), strict=True):
            np.testing.assert_array_equal(a, b)
        count += 1
    return count


SPLITS = (
    "train",
    "train[:80%]",
    "train[33%:66%]",
    "train[5:-5]",
    "train[-3:]",
    "train+test",
    "test+train[:4]+train[2:9]",
    "train[1shard]",
    "train[2shard:]",
    "all",
)


@pytest.mark.parametrize("split", SPLITS)
def test_split_algebra_selects_what_tfds_selects_in_its_order(folder, split):
    opened = open_tfds("shards", split, data_dir=folder)
    theirs = reference("shards", split, folder)
    assert assert_same(decoded(opened), theirs) == len(opened.source) == len(theirs)


def test_read_instructions_are_splits_too(folder):
    for split in (
        *tfds.even_splits("train", 3),
        tfds.core.ReadInstruction("train", to=10, unit="%"),
        tfds.Split.TEST,
    ):
        assert_same(decoded(open_tfds("shards", split, data_dir=folder)), reference("shards", split, folder))


@pytest.mark.parametrize("memory_bytes", [0, 2**30])
@pytest.mark.parametrize("name", ["shards", "shards_ragged"])
def test_nested_and_ragged_features(folder, name, memory_bytes):
    opened = open_tfds(name, data_dir=folder, memory_bytes=memory_bytes)
    records = opened.source if name == "shards_ragged" else opened.source.records
    assert isinstance(records, Records)
    assert records.how == ("held" if memory_bytes else "mmap")
    assert assert_same(decoded(opened), reference(name, "train", folder)) == 30


def test_fixed_features_are_parsed_and_cast_a_batch_at_a_time(folder):
    source = open_tfds("shards", data_dir=folder).source
    assert isinstance(source, ParsedRecords)
    assert source.keys == ("deep/flag", "deep/real", "deep/text", "id", "small")
    assert [s.dtype for s in source.spec] == [tf.bool, tf.float64, tf.string, tf.int64, tf.uint8]
    assert source.spec[-1].shape == (2,)


def test_identity_holds_names_and_counts_but_no_path(folder):
    opened = open_tfds("shards_ragged", "train[:50%]", data_dir=folder)
    size = opened.source.identity["bytes"]
    assert opened.source.identity == {
        "name": "shards_ragged",
        "config": "ragged",
        "version": "1.2.3",
        "split": "train[:50%]",
        "num_examples": 15,
        "bytes": size,
    }
    assert size > 0


def test_as_supervised_is_the_tuple_that_tfds_yields(folder):
    ours = decoded(open_tfds("shards", data_dir=folder, as_supervised=True))
    assert_same(ours, reference("shards", "train", folder, as_supervised=True))


def test_partial_decoding_reads_only_the_features_it_names(folder):
    decoders = tfds.decode.PartialDecoding({"id": True, "deep": {"text"}})
    opened = open_tfds("shards", data_dir=folder, decoders=decoders)
    assert opened.source.keys == ("deep/text", "id")
    assert_same(decoded(opened), reference("shards", "train", folder, decoders=decoders))
    row = {"row": True}
    ours = open_tfds("shards_ragged", data_dir=folder, decoders=tfds.decode.PartialDecoding(row))
    theirs = reference("shards_ragged", "train", folder, decoders=tfds.decode.PartialDecoding(row))
    assert_same(decoded(ours), theirs)


# Real files.

DATA_SPLITS = (
    ("mnist", "test[:40]+train[7:20]"),
    ("tf_flowers", "train[:3%]"),
    ("clinc_oos", "test[10%:11%]+validation_oos"),
    ("xquad/en", "test[:60]"),
)


@pytest.mark.data
@pytest.mark.parametrize(("name", "split"), DATA_SPLITS)
def test_real_datasets_equal_tfds(tfds_dir, name, split):
    theirs = reference(name, split, tfds_dir)
    for memory_bytes in (0, 2**30):
        opened = open_tfds(name, split, data_dir=tfds_dir, memory_bytes=memory_bytes)
        assert assert_same(decoded(opened), theirs) == len(opened.source) == len(theirs)


@pytest.mark.data
def test_skip_decoding_leaves_images_encoded(tfds_dir):
    decoders = {"image": tfds.decode.SkipDecoding()}
    ours = decoded(open_tfds("tf_flowers", "train[:5]", data_dir=tfds_dir, decoders=decoders))
    assert ours.element_spec["image"] == tf.TensorSpec((), tf.string)
    assert_same(ours, reference("tf_flowers", "train[:5]", tfds_dir, decoders=decoders))


# What is not there.


def test_an_unknown_name_suggests_close_ones(tmp_path):
    with pytest.raises(ValueError, match=r"no TFDS dataset 'mnits', and data_dir .*: did you mean 'mnist'"):
        open_tfds("mnits", data_dir=tmp_path)
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        open_tfds("digit", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"tfds.list_builders\(\) lists those there are"):
        open_tfds("qqqqqqqqqq", data_dir=tmp_path)
    with pytest.raises(TypeError, match="name is a int: pass a TFDS name"):
        open_tfds(3)


def test_an_unknown_config_or_version_names_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"'xquad/zz'.*zz not found.*It has the configs \['ar', .*'en'"):
        open_tfds("xquad/zz", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"dataset 'mnist:9.9.9': .*cannot be loaded at version 9.9.9, only: 3.0.1"):
        open_tfds("mnist:9.9.9", data_dir=tmp_path)


def test_without_download_an_unprepared_dataset_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"'mnist/3.0.1' is not prepared in '{tmp_path}.*and download=False"):
        open_tfds("mnist", data_dir=tmp_path, download=False)


def test_without_network_an_unprepared_dataset_is_refused_at_once(tmp_path, monkeypatch):
    def getaddrinfo(*_, **__):
        raise socket.gaierror("Name or service not known")

    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(FileNotFoundError, match=r"no network to download it \(host 'www.cs.toronto.edu'.*data_dir="):
        open_tfds("cifar10", data_dir=tmp_path)


def test_a_failed_preparation_says_why(tmp_path, monkeypatch):
    class Broken(Shards, skip_registration=True):
        name = "broken"

        def _split_generators(self, dl_manager):  # noqa: ARG002
            raise ConnectionError("the cable is out")

    monkeypatch.setattr(tfds, "builder", lambda _, **kwargs: Broken(**kwargs))
    with pytest.raises(FileNotFoundError, match=r"preparing it failed with ConnectionError: the cable is out. Pass"):
        open_tfds("broken", data_dir=tmp_path)


def test_another_process_may_prepare_first(tmp_path, monkeypatch):
    class Late(Shards, skip_registration=True):
        name = "shards"

        def download_and_prepare(self, **_):
            Shards(data_dir=self._data_dir_root).download_and_prepare()
            raise OSError("Directory not empty")

    monkeypatch.setattr(tfds, "builder", lambda _, **kwargs: Late(**kwargs))
    assert len(open_tfds("shards", data_dir=tmp_path).source) == 30


@pytest.mark.parametrize("split", ["valid", "train[:x]", "train[:300%]", "train[90:]", "train[", "all[:3]"])
def test_a_wrong_split_lists_those_there_are(folder, split):
    there = r"The splits are 'train' \(30 examples\), 'test' \(7 examples\)"
    with pytest.raises(ValueError, match=rf"split '{re.escape(split)}' of shards/1.2.3: .*{there}"):
        open_tfds("shards", split, data_dir=folder)


@pytest.mark.parametrize("split", ["train[:0]", "train[9:3]"])
def test_an_empty_split_is_refused(folder, split):
    with pytest.raises(ValueError, match="selects no example; the splits are 'train'"):
        open_tfds("shards", split, data_dir=folder)


@pytest.mark.parametrize("split", [None, ["train", "test"], {"a": "train"}])
def test_several_splits_are_refused(folder, split):
    with pytest.raises(TypeError, match=r"pass one, as 'train\[:80%\]' or"):
        open_tfds("shards", split, data_dir=folder)


def test_as_supervised_without_supervised_keys_is_refused(tmp_path):
    tfds.testing.DummyMnist(data_dir=str(tmp_path)).download_and_prepare()
    assert len(open_tfds("dummy_mnist", "test", data_dir=tmp_path).source) == 20
    with pytest.raises(ValueError, match=r"names no supervised keys: .* from the features \['image', 'label'\]"):
        open_tfds("dummy_mnist", data_dir=tmp_path, as_supervised=True)


def test_a_format_without_an_index_is_named(tmp_path):
    builder = Shards(data_dir=str(tmp_path), file_format="riegeli")
    with pytest.raises(TypeError, match=r"shards/1.2.3 in .* is stored as 'riegeli'.*as 'tfrecord' or 'array_record'"):
        _format(builder)


@pytest.mark.parametrize("missing", ["importlib_resources", "tensorflow_datasets"])
def test_a_missing_library_names_the_extra(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"{missing}.*pip install 'tfjax\[tfds\]'"):
        open_tfds("mnist")


# Damaged files.


@pytest.fixture
def damaged(tmp_path):
    """A dataset of its own, and the file of its test split."""
    Shards(data_dir=str(tmp_path)).download_and_prepare()
    (path,) = pathlib.Path(tmp_path).glob("shards/*/*-test.*")
    return tmp_path, path


def test_a_missing_record_file_is_named(damaged):
    folder, path = damaged
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(path))}.*does not exist"):
        open_tfds("shards", "test", data_dir=folder)
    assert len(open_tfds("shards", "train", data_dir=folder).source) == 30


def test_a_file_cut_between_records_is_held_against_the_metadata(damaged):
    folder, path = damaged
    source = open_tfds("shards", "test", data_dir=folder).source
    os.truncate(path, source.records.files._offsets[-1] - 12)
    for split in ("test", "test[:2]"):
        with pytest.raises(CorruptDataError, match=f"{re.escape(str(path))}.*holds 6 records .* metadata says 7"):
            open_tfds("shards", split, data_dir=folder)


def test_a_file_cut_inside_a_record_is_named(damaged):
    folder, path = damaged
    os.truncate(path, path.stat().st_size - 3)
    with pytest.raises(CorruptDataError, match=f"{re.escape(str(path))}' ends at byte .*inside the record"):
        open_tfds("shards", "test", data_dir=folder)


def test_a_file_changed_after_it_was_opened_is_named(damaged):
    folder, path = damaged
    source = open_tfds("shards", "test", data_dir=folder).source
    os.utime(path, ns=(7, 7))
    with pytest.raises(CorruptDataError, match=f"{re.escape(str(path))}' changed while it was in use"):
        source.check()
