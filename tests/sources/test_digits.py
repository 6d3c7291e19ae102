"""The built-in dataset: what is in it, and how it comes to disk."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("tensorflow_datasets")

from tfjax._tensorflow import tf
from tfjax.sources.tfds import open_tfds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits")
    open_tfds("digits", data_dir=path)
    return path


def examples(opened):
    raw = opened.source.fetch(tf.range(len(opened.source), dtype=tf.int64))
    rows = tf.data.Dataset.from_tensor_slices(tuple(raw.leaves)).map(opened.decode)
    return list(rows.as_numpy_iterator())


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_fifth_of_scikit_learns_digits_is_for_test(folder, split):
    from sklearn.datasets import load_digits

    digits, numbers = load_digits(), np.arange(1797)
    chosen = numbers[(numbers % 5 == 4) == (split == "test")]
    got = examples(open_tfds("digits", split, data_dir=folder, as_supervised=True))
    assert len(got) == {"train": 1438, "test": 359}[split]
    np.testing.assert_array_equal(np.stack([x for x, _ in got])[..., 0], digits.images[chosen])
    np.testing.assert_array_equal([y for _, y in got], digits.target[chosen])
    assert got[0][0].dtype == np.uint8 and got[0][0].shape == (8, 8, 1)
    assert np.stack([x for x, _ in got]).max() == 16


def test_info_names_classes_and_sizes(folder):
    info = open_tfds("digits:1.0.0", data_dir=folder).info
    assert info.full_name == "digits/1.0.0"
    assert info.features["label"].num_classes == 10
    assert info.supervised_keys == ("image", "label")
    assert {k: v.num_examples for k, v in info.splits.items()} == {"train": 1438, "test": 359}


PREPARE = """
import sys, warnings
warnings.simplefilter("error")
from tfjax.sources.tfds import open_tfds
print(len(open_tfds("digits", "all", data_dir=sys.argv[1]).source))
"""


def test_two_processes_prepare_at_once_without_network_or_noise(tmp_path):
    offline = {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }  # nothing listens there
    environment = {**os.environ, **offline, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=100) for process in both]
    assert [out.strip() for out, _ in said] == ["1797", "1797"], said
    for _, errors in said:  # TensorFlow's own start-up lines come before any log level is read
        assert not [line for line in errors.splitlines() if "absl" in line and "InitializeLog" not in line]
        assert "it/s" not in errors and "splits" not in errors
    assert [p.name for p in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_it_is_not_prepared_where_that_is_not_wanted(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'digits/1.0.0' is not prepared in .*and download=False"):
        open_tfds("digits", data_dir=tmp_path, download=False)


def test_missing_scikit_learn_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"scikit-learn.*pip install 'tfjax\[digits\]'"):
        open_tfds("digits", data_dir=tmp_path)


def test_once_prepared_it_needs_no_scikit_learn(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert len(open_tfds("digits", data_dir=folder).source) == 1438
