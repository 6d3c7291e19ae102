"""`tfjax info`: prepared, unprepared, not there; what it says of a leaf is what a batch of `load` holds."""

import json

import numpy as np
import pytest

import tfjax
from tfjax.tools import cli

tfds = pytest.importorskip("tensorflow_datasets")

from tests.sources import feature_rows as table  # noqa: E402
from tfjax.tools.info import examine  # noqa: E402


def told(capsys, *arguments):
    assert cli.main(["info", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_digits(digits_dir, capsys):
    found = told(capsys, "digits", "--data-dir", str(digits_dir))
    assert found["name"] == "digits/1.0.0"
    assert found["prepared"] is True
    assert {name: split["examples"] for name, split in found["splits"].items()} == {"train": 1438, "test": 359}
    assert all(split["bytes"] > 0 for split in found["splits"].values())
    assert found["supervised_keys"] == ["image", "label"]
    assert (found["file_format"], found["indexed"], found["examples"]) == ("tfrecord", True, 1438)
    assert found["decoded_bytes"] == 1438 * (8 * 8 + 8)
    assert found["cache"].startswith("automatic cache after decode")
    batches = {leaf["path"]: leaf["batch"] for leaf in found["leaves"]}
    assert batches == {"['image']": "uint8[batch,8,8,1]", "['label']": "int32[batch]"}
    batch = tfjax.load("digits", data_dir=digits_dir).batch(2).peek()
    assert {k: (v.dtype.name, v.shape[1:]) for k, v in batch.items()} == {
        "image": ("uint8", (8, 8, 1)),
        "label": ("int32", ()),
    }


def test_a_split(digits_dir, capsys):
    assert told(capsys, "digits", "--data-dir", str(digits_dir), "--split", "test[:10%]")["examples"] == 36


def test_as_text(digits_dir, capsys):
    assert cli.main(["info", "digits", "--data-dir", str(digits_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for begin in ("name", "prepared        yes", "split train     1,438 examples", "indexed         yes: tfrecord"):
        assert any(line.startswith(begin) for line in lines), begin
    assert any(line.endswith("uint8[8,8,1] -> uint8[batch,8,8,1]") for line in lines)


def test_an_unprepared_set_is_described_and_nothing_is_written(tmp_path, capsys):
    found = told(capsys, "cifar10", "--data-dir", str(tmp_path))
    assert found["prepared"] is False
    assert found["splits"] == {}
    assert f"tfjax.load('cifar10', data_dir={str(tmp_path)!r}) prepares it" in found["access"]
    assert found["indexed"] is None
    leaves = {leaf["path"]: leaf for leaf in found["leaves"]}
    assert leaves["['image']"]["batch"] == "uint8[batch,32,32,3]"
    assert leaves["['id']"]["host"] is True
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mnits"], "did you mean 'mnist'"),
        (["xquad/zz"], "It has the configs"),
        (["mnist/foo"], "BuilderConfig foo not found with version 3.0.1. It has no configs.\n"),
        ([""], "the name is empty: give a TFDS name"),
        (["a b"], "A name is as 'mnist'"),
        (["cifar10", "--split", "train"], "is not prepared, so that its splits are not known"),
    ],
)
def test_what_is_not_there(arguments, said, tmp_path, capsys):
    assert cli.main(["info", *arguments, "--data-dir", str(tmp_path)]) == cli.USAGE_ERROR
    caught = capsys.readouterr()
    assert caught.err.startswith("tfjax: ")
    assert said in caught.err
    assert caught.out == ""


def test_an_unknown_split(digits_dir, capsys):
    assert cli.main(["info", "digits", "--data-dir", str(digits_dir), "--split", "trian"]) == cli.USAGE_ERROR
    assert "The splits are 'train' (1438 examples)" in capsys.readouterr().err


@pytest.fixture
def features(tmp_path):
    """Calls `examine` for a dataset with one connector of the table."""
    tfds.disable_progress_bar()

    def call(text, values):
        row = table.Row(text, values)
        table.prepare(row, tmp_path)
        found = examine(row.name, data_dir=str(tmp_path))
        return found, {leaf["path"]: leaf for leaf in found.leaves}

    yield call
    tfds.enable_progress_bar()


def test_leaves_that_are_refused_say_so(features):
    for text, values, said in (
        ("Sequence(Sequence(np.int64))", [[[1]]] * 4, "to_tensor"),
        ("Dataset(np.int64)", [[1]] * 4, "get_single_element"),
        ("Sequence(np.int32)", [[1]] * 4, "static shape"),
    ):
        found, leaves = features(text, values)
        assert leaves["['x']"]["batch"] is None
        assert said in leaves["['x']"]["refusal"]
        assert leaves["['i']"]["batch"] == "int32[batch]"
        assert found.indexed
        assert found.decoded_bytes is None


def test_a_feature_that_tfds_cannot_decode(features):
    row = table.tensor_row("uint32", "bytes")
    found, leaves = features(row.text, row.values)
    assert found.indexed is False
    assert "TFDS cannot decode" in found.access
    assert leaves["['x']"]["example"] == "uint32[2]"


def test_64_bits_stay_where_jax_has_them(features):
    import jax

    with jax.enable_x64(True):
        _, leaves = features("Scalar(np.float64)", [np.float64(i) for i in range(4)])
    assert leaves["['x']"]["batch"] == "float64[batch]"


@pytest.mark.data
def test_real_sets(tfds_dir, capsys):
    found = told(capsys, "tf_flowers", "--data-dir", str(tfds_dir))
    leaves = {leaf["path"]: leaf for leaf in found["leaves"]}
    assert leaves["['image']"]["example"] == "uint8[None,None,3]"
    assert leaves["['image']"]["batch"] is None
    assert found["cache"].startswith("no automatic cache")
    assert told(capsys, "xquad/en", "--data-dir", str(tfds_dir))["split"] == "test"
