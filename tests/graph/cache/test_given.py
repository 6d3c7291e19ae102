"""What `cache` is given, and where it may stand."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.errors import SpecError
from tfjax.ops.base import Op
from tfjax.ops.strength import Value


def numbers() -> "tfjax.Pipeline":
    return tfjax.from_arrays({"x": np.arange(3)})


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        (None, TypeError, r"cache\(None\): give 'memory', 'device' or the path of a folder"),
        (3, TypeError, r"cache\(3\): give 'memory'"),
        ("", ValueError, r"cache\(''\): give 'memory'"),
        (b"/tmp/x", ValueError, "give 'memory', 'device' or the path"),
        ("Memory", ValueError, r"cache\('Memory'\): write 'memory', or './Memory' for a folder of that name"),
        ("MEMORY", ValueError, "write 'memory'"),
        ("Device", ValueError, "write 'device'"),
        ("gs://bucket/cache", ValueError, "gs://bucket/cache.*on a local disk"),
    ],
    ids=repr,
)
def test_where(where: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        numbers().cache(where)


def test_a_path_is_that_of_the_moment(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipe = numbers().cache(pathlib.Path("here"))
    monkeypatch.chdir("/")
    assert repr(pipe).endswith(f"cache({str(tmp_path / 'here')!r}))")
    pipe.peek()
    assert os.listdir(tmp_path) == ["here"]


def test_the_limit_and_the_compression() -> None:
    with pytest.raises(TypeError, match=r"limit_bytes takes an int, given '1 GB'"):
        numbers().cache("memory", limit_bytes="1 GB")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit_bytes takes an int from 1"):
        numbers().cache("memory", limit_bytes=0)
    with pytest.raises(ValueError, match="compression='gzip': choose 'zlib' or None"):
        numbers().cache("/nowhere", compression="gzip")
    for where in ("memory", "/nowhere"):
        with pytest.raises(ValueError, match=r"compression='zlib' is for strings.*\['x'\]: int64\[\]"):
            numbers().cache(where, compression="zlib")
    assert not os.path.exists("/nowhere")


def test_leaves_that_cannot_be_kept() -> None:
    ragged = numbers().map(lambda e: {"r": tf.ragged.range([e["x"], 2])})
    sparse = numbers().map(lambda e: {"s": tf.sparse.from_dense([e["x"]])})
    for pipe, fix in ((ragged, "to_tensor"), (sparse, "to_dense")):
        with pytest.raises(SpecError, match=rf"holds tensors, but \['[rs]'\] is .*{fix}"):
            pipe.cache("/nowhere")
    with pytest.raises(SpecError, match="give the path of a folder"):
        tfjax.from_arrays({"s": np.array(["a", "b"])}).cache("memory")
    with pytest.raises(SpecError, match=r"or put tfjax\.image\.Decode\(\) before where it is an encoded image"):
        tfjax.from_arrays({"image": np.array(["a", "b"])}).cache("memory")


@dataclasses.dataclass(frozen=True)
class Scaled(Op):
    """A deterministic op whose strength may follow the step."""

    by: Any = 1.0
    strengths = ("by",)
    keys = ("x",)

    def __call__(self, example: Any, seed: Any = None) -> Any:  # noqa: ARG002
        return {"x": tf.cast(example["x"], tf.float32) * self.by}


def test_what_changes_is_refused_by_the_name_of_the_first() -> None:
    image = tfjax.from_arrays({"image": np.zeros((3, 4, 4, 3), np.uint8)})
    random = image.apply(tfjax.image.RandomFlip(), tfjax.image.RandomCrop(2))
    with pytest.raises(ValueError, match=r"cache comes after RandomFlip\(\): .*put cache before RandomFlip$"):
        random.cache("memory")
    for strength in (Value("by", default=2), lambda step: tf.cast(step, tf.float32)):
        varying = numbers().apply(Scaled(strength))
        with pytest.raises(ValueError, match=r"cache comes after Scaled\(.*same every epoch; put cache before Scaled"):
            varying.cache("/nowhere")
        with pytest.raises(ValueError, match="put filter before Scaled"):
            varying.filter(lambda e: e["x"] > 0)
    assert [float(e["x"]) for e in numbers().apply(Scaled(2.0)).cache("memory")] == [0, 2, 4]


def test_an_automatic_cache_stands_before_what_changes(digits_dir: pathlib.Path) -> None:
    pipe = tfjax.load("digits", split="train[:9]", data_dir=str(digits_dir)).map(lambda e: {"x": e["label"]})
    varying = pipe.apply(Scaled(lambda step: tf.cast(step, tf.float32) + 1)).batch(3)
    assert "automatic cache after map(" in varying.explain()
    epochs = [[b["x"].tolist() for b in varying.iterate(epochs=2)] for _ in range(2)]
    labels = [b["x"].tolist() for b in pipe.batch(3).iterate(epochs=2)]
    assert epochs[0] == epochs[1] == [[x * (step + 1) for x in row] for step, row in enumerate(labels)]
