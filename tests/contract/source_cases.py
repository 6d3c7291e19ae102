"""Every source of tfjax over the same rows, for the suite of `test_sources.py`.

A case opens its source in a folder of its own, over the rows it is given: files are written there where they are not
there yet. The expectation is in NumPy and knows nothing of the source.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import tfjax
from tests.oracle.split import Split
from tfjax._tensorflow import tf

N = 22
Rows = dict[str, np.ndarray]
FEATURES = {"i": tf.io.FixedLenFeature((), tf.int64), "x": tf.io.FixedLenFeature((3,), tf.float32)}
SPEC = {"i": tf.TensorSpec((), tf.int64), "x": tf.TensorSpec((3,), tf.float32)}


def rows(count: int = N) -> Rows:
    """Rows that are all different."""
    i = np.arange(count)
    return {"i": i, "x": (i[:, None] * 3 + np.arange(3)).astype(np.float32) / 7}


@dataclasses.dataclass(frozen=True)
class Case:
    """One source.

    Attributes:
        open: a pipeline of examples over some rows; files go to the folder.
        needs: the module without which it cannot be opened.
        files: a pattern of the files in the folder; empty where what is read is in memory.
        streams: whether rows come one after the other only.
        counted: whether it is known how many there are.
        ordered: whether rows come as they are given.
        named_by_code: whether other rows are another source by name only, as code is.
    """

    open: Callable[[pathlib.Path, Rows], "tfjax.Pipeline"]
    needs: str = "tensorflow"
    files: str = ""
    streams: bool = False
    counted: bool = True
    ordered: bool = True
    named_by_code: bool = False

    def require(self) -> None:
        """Skip where what the case needs is not installed."""
        pytest.importorskip(self.needs)


def examples(given: Rows) -> list[dict[str, Any]]:
    return [{key: values[k] for key, values in given.items()} for k in range(len(given["i"]))]


def serialized(given: Rows) -> list[bytes]:
    def one(e: dict[str, Any]) -> bytes:
        i = tf.train.Feature(int64_list=tf.train.Int64List(value=[e["i"]]))
        x = tf.train.Feature(float_list=tf.train.FloatList(value=e["x"]))
        made: bytes = tf.train.Example(features=tf.train.Features(feature={"i": i, "x": x})).SerializeToString()
        return made

    return [one(e) for e in examples(given)]


def parts(folder: Any, given: Rows) -> list[tuple[str, list[bytes]]]:
    """Paths of two files, and their records."""
    payloads = serialized(given)
    return [(f"{folder}/a", payloads[:9]), (f"{folder}/b", payloads[9:])]


def write_tfrecords(folder: Any, given: Rows, options: str = "") -> list[str]:
    written = parts(folder, given)
    for path, payloads in written:
        if not tf.io.gfile.exists(path):
            with tf.io.TFRecordWriter(path, options) as writer:
                for payload in payloads:
                    writer.write(payload)
    return [path for path, _ in written]


def tfrecords(how: str) -> Callable[[pathlib.Path, Rows], "tfjax.Pipeline"]:
    def opened(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
        return tfjax.from_records(write_tfrecords(folder, given), FEATURES).options(fetch=how)

    return opened


def gzip_records(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
    return tfjax.from_records(write_tfrecords(folder, given, "GZIP"), FEATURES)


def remote(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
    paths = write_tfrecords(f"ram://contract/{folder.name}-{len(given['i'])}", given)
    return tfjax.from_records(paths, FEATURES, memory_bytes=0)


def array_records(memory_bytes: int) -> Callable[[pathlib.Path, Rows], "tfjax.Pipeline"]:
    def opened(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
        from array_record.python.array_record_module import ArrayRecordWriter

        for path, payloads in parts(folder, given):
            if not pathlib.Path(path).exists():
                writer = ArrayRecordWriter(path, "group_size:1")
                for payload in payloads:
                    writer.write(payload)
                writer.close()
        return tfjax.from_records(f"{folder}/?", FEATURES, format="array_record", memory_bytes=memory_bytes)

    return opened


def prepared(file_format: str, **how: Any) -> Callable[[pathlib.Path, Rows], "tfjax.Pipeline"]:
    """A TFDS set of these rows, in their order."""

    def opened(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
        import tensorflow_datasets as tfds

        class ContractRows(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION: ClassVar[Any] = tfds.core.Version("1.0.0")
            name = "contract_rows"

            def _info(self) -> Any:
                features = {"i": np.int64, "x": tfds.features.Tensor(shape=(3,), dtype=np.float32)}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
                )

            def _split_generators(self, dl_manager: Any) -> Any:  # noqa: ARG002
                return {"train": self._generate_examples()}

            def _generate_examples(self) -> Any:
                yield from enumerate(examples(given))

        if not list(folder.iterdir()):
            tfds.disable_progress_bar()
            ContractRows(data_dir=str(folder), file_format=file_format).download_and_prepare()
        return tfjax.load("contract_rows", data_dir=folder, **how)

    return opened


class InNumpy:
    """A user's source in NumPy."""

    spec = SPEC

    def __init__(self, given: Rows) -> None:
        self.rows, self.identity = given, {"rows": len(given["i"])}

    def __len__(self) -> int:
        return len(self.rows["i"])

    def read(self, indices: np.ndarray) -> Rows:
        return {key: values[indices] for key, values in self.rows.items()}


class InGraph(InNumpy):
    """The same with TensorFlow ops."""

    def __init__(self, given: Rows) -> None:
        super().__init__(given)
        self.tensors = {key: tf.constant(values) for key, values in given.items()}

    def fetch(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        return {key: tf.gather(values, indices) for key, values in self.tensors.items()}


def grain_map(given: Rows) -> Any:
    import grain

    return grain.MapDataset.source(examples(given)).map(dict)


def among_others(given: Rows, where: np.ndarray, count: int) -> Rows:
    """`count` rows, of which those at `where` are the given ones, and the others are not."""
    out = {key: np.full((count, *values.shape[1:]), -1, values.dtype) for key, values in given.items()}
    for key, values in given.items():
        out[key][where] = values
    return out


def filtered(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
    count = len(given["i"])
    more = among_others(given, np.arange(count) * 2 + 1, 2 * count)
    return tfjax.from_records(write_tfrecords(folder, more), FEATURES).filter(lambda e: e["i"] >= 0)


def one_part(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":  # noqa: ARG001
    count = len(given["i"])
    split = Split((("ours", 0.5), ("other", 0.5)), "ours", 3)
    where = np.array(sorted(split.chosen([SimpleNamespace(index=k) for k in range(2 * count)])))
    more = among_others(given, where, 2 * count)
    return tfjax.from_source(InNumpy(more)).split({"ours": 0.5, "other": 0.5}, seed=3)["ours"]


def generated(given: Rows) -> "tfjax.Pipeline":
    def elements() -> Any:
        yield from examples(given)

    return tfjax.from_generator(elements, SPEC)


def write_loose(folder: pathlib.Path, given: Rows) -> list[pathlib.Path]:
    """One file a row, of the bytes of its `x`; those of an earlier call stay as they are."""
    paths = [folder / f"{i:03}.txt" for i in given["i"].tolist()]
    for path, x in zip(paths, given["x"], strict=True):
        if not path.exists():
            path.write_bytes(x.tobytes())
    return paths


def loose(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {"i": e["label"], "x": tf.ensure_shape(tf.io.decode_raw(e["text"], tf.float32), (3,))}


def files(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
    return tfjax.from_files(write_loose(folder, given), kind="text", label=given["i"]).map(loose)


def flat_folder(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
    table = {path.name: i for path, i in zip(write_loose(folder, given), given["i"].tolist(), strict=True)}
    return tfjax.from_folder(folder, "text", labels=table).map(loose)


def class_folders(folder: pathlib.Path, given: Rows) -> "tfjax.Pipeline":
    for i, x in zip(given["i"].tolist(), given["x"], strict=True):
        path = folder / f"class {i:03}" / "deep" / "one.txt"
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_bytes(x.tobytes())
    return tfjax.from_folder(folder, "text").map(loose)


ONE_GIB = 2**30
INDEXED = {
    "arrays": Case(lambda _, given: tfjax.from_arrays(given)),
    "examples": Case(lambda _, given: tfjax.from_examples(examples(given))),
    "tfrecord held": Case(tfrecords("held"), files="?"),
    "tfrecord mmap": Case(tfrecords("mmap"), files="?"),
    "tfrecord graph": Case(tfrecords("graph"), files="?"),
    "tfrecord remote": Case(remote),
    "array_record held": Case(array_records(ONE_GIB), "array_record", "?"),
    "array_record read": Case(array_records(0), "array_record", "?"),
    "tfds tfrecord": Case(prepared("tfrecord"), "tensorflow_datasets", "*/*/*.tfrecord*"),
    "tfds array_record": Case(
        prepared("array_record", cache=None, memory_bytes=0), "array_record", "*/*/*.array_record*"
    ),
    "from_files": Case(files, files="*.txt"),
    "from_folder, a table": Case(flat_folder, files="*.txt"),
    "from_folder, a class each": Case(class_folders, files="*/*/*.txt"),
    "from_source in NumPy": Case(lambda _, given: tfjax.from_source(InNumpy(given))),
    "from_source in the graph": Case(lambda _, given: tfjax.from_source(InGraph(given))),
    "from_grain": Case(lambda _, given: tfjax.from_grain(grain_map(given)), "grain"),
    "a filter of records": Case(filtered, files="?"),
    "a split of a source": Case(one_part),
    "a cache of a source": Case(lambda _, given: tfjax.from_source(InNumpy(given)).map(dict).cache("memory")),
}
STREAMS = {
    "from_tf": Case(lambda _, given: tfjax.from_tf(tf.data.Dataset.from_tensor_slices(given)), streams=True),
    "from_tf by checkpoint": Case(
        lambda _, given: tfjax.from_tf(
            tf.data.Dataset.from_tensor_slices(given).shuffle(5, seed=1), state="checkpoint"
        ),
        streams=True,
        ordered=False,
    ),
    "tfrecord gzip": Case(gzip_records, files="?", streams=True, counted=False),
    "from_generator": Case(lambda _, given: generated(given), streams=True, counted=False, named_by_code=True),
    "a Grain stream": Case(
        lambda _, given: tfjax.from_grain(grain_map(given).to_iter_dataset()),
        "grain",
        streams=True,
        counted=False,
        named_by_code=True,
    ),
}
