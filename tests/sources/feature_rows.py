"""The connectors of TFDS as rows of a table: each is written, loaded, compared, and rendered for docs/features.md.

    python -m tests.sources.feature_rows    # writes docs/features.md

A connector, and what makes an array of it in `map`, are given as the text that the table shows, and evaluated.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import re
import tempfile
import wave
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

import tfjax
from tfjax._tensorflow import tf
from tfjax.graph.element import describe_spec

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "features.md"
EXAMPLES, BATCH = 4, 2


class Celsius(tfds.features.FeatureConnector):
    """A connector of one's own: kelvin in the file, degrees Celsius in the example."""

    def get_tensor_info(self):
        return tfds.features.TensorInfo(shape=(), dtype=np.float32)

    def encode_example(self, example_data):
        return np.float32(example_data + 273)

    def decode_example(self, tfexample_data):
        return tfexample_data - 273

    def decode_example_np(self, example_data):
        return example_data - 273

    def to_json_content(self):
        return {}

    @classmethod
    def from_json_content(cls, value):  # noqa: ARG003
        return cls()


@dataclasses.dataclass(frozen=True)
class Row:
    """One connector.

    Args:
        text: the connector, as written in `_info`.
        values: what a builder yields for it, one an example.
        expected: what an example holds, where that is not the value itself.
        fix: of an example `x`, what `map` returns so that it can be batched.
        lossy: the value cannot be had back.
    """

    text: str
    values: Sequence[Any]
    expected: Callable[[Any], Any] | None = None
    fix: str | None = None
    lossy: bool = False

    @property
    def feature(self) -> Any:
        return eval(self.text, {"np": np, "tf": tf, "Celsius": Celsius, **vars(tfds.features)})

    @property
    def name(self) -> str:
        """A name for the builder."""
        return "f_" + re.sub(r"\W+", "_", self.text).strip("_").lower()

    @property
    def classes(self) -> set[str]:
        return set(re.findall(r"\b([A-Z]\w+)\(", self.text))

    @property
    def fixed(self) -> Callable[[Any], Any]:
        return eval(f"lambda x: {self.fix}", {"tf": tf})


def _numbers(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).integers(0, 250, shape).astype(dtype)


def _images(*shape: int, dtype: Any = np.uint8) -> list[np.ndarray]:
    return [_numbers(shape, dtype, seed) for seed in range(EXAMPLES)]


def _growing(*shape: int, dtype: Any = np.uint8, least: int = 0) -> list[np.ndarray]:
    return [_numbers((i + least, *shape), dtype, i) for i in range(EXAMPLES)]


def _wave(samples: np.ndarray) -> Any:
    """A WAV file of int16 samples, (n,) or (n, channels)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(samples.astype("<i2").tobytes())
    return WaveFile(file.getvalue())


class WaveFile(io.BytesIO):
    """A file object that can be read by every preparation of a row."""

    def read(self, size: int | None = -1) -> bytes:
        if size in (None, -1):
            self.seek(0)
        return super().read(size)


def _samples(wave_file: WaveFile) -> np.ndarray:
    with wave.open(io.BytesIO(wave_file.getvalue())) as file:
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return read if file.getnchannels() == 1 else read.reshape(-1, file.getnchannels())


def _encode(value: Any) -> Any:
    """Text as the bytes that TensorFlow has; sequences of dicts as dicts of sequences."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        return {k: _encode(v) for k, v in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {k: _encode([item[k] for item in value]) for k in value[0]}
    return [_encode(v) for v in value] if isinstance(value, list) else value


def _least(dtype: Any) -> Callable[[Any], Any]:
    """What TFDS puts where an optional value is missing."""
    return lambda value: dtype(np.iinfo(dtype).min) if value is None else value


TEXTS = ["one", "zwölf", "", "four words of text"]
BOX = tfds.features.BBox(ymin=0.1, xmin=0.2, ymax=0.3, xmax=0.4)
GROWING_LISTS = [list(range(i)) for i in range(EXAMPLES)]
NESTED = [[[1] * k for k in range(i)] for i in range(EXAMPLES)]
PAIRS = [[{"a": i + j, "b": j / 2} for j in range(2)] for i in range(EXAMPLES)]
GROWING_PAIRS = [[{"a": i + j, "b": j / 2} for j in range(i)] for i in range(EXAMPLES)]

IMAGES = (
    Row("Image(shape=(4, 5, 3))", _images(4, 5, 3)),
    Row("Image(shape=(4, 5, 4), encoding_format='png')", _images(4, 5, 4)),
    Row("Image(shape=(8, 8, 3), encoding_format='jpeg')", _images(8, 8, 3), lossy=True),
    Row("Image(shape=(4, 5, 1), dtype=np.uint16)", [300 * x for x in _images(4, 5, 1, dtype=np.uint16)]),
    Row("Image(shape=(4, 5, 1), dtype=np.float32)", [x / np.float32(7) for x in _images(4, 5, 1, dtype=np.float32)]),
    Row("Image()", _growing(5, 3, least=2), fix="tf.cast(tf.image.resize(x, (4, 4)), x.dtype)"),
    Row("LabeledImage(labels=3, shape=(4, 5, 1))", [x % 3 for x in _images(4, 5, 1)]),
    Row("Video(shape=(3, 4, 5, 3))", _images(3, 4, 5, 3)),
    Row("Video(shape=(2, 4, 5, 1), dtype=np.uint16)", [300 * x for x in _images(2, 4, 5, 1, dtype=np.uint16)]),
    Row("Video(shape=(None, 4, 5, 3))", _growing(4, 5, 3, least=2), fix="tf.ensure_shape(x[:2], (2, 4, 5, 3))"),
    Row("Sequence(Image(shape=(4, 5, 3)), length=2)", _images(2, 4, 5, 3)),
    Row("BBoxFeature()", [BOX] * EXAMPLES, expected=lambda box: np.array([*box], np.float32)),
)
SOUND = (
    Row("Audio(shape=(6,), dtype=np.float32)", [x / np.float32(250) for x in _images(6, dtype=np.float32)]),
    Row(
        "Audio()",
        _growing(dtype=np.int64, least=1),
        fix="tf.ensure_shape(tf.pad(x, [[0, 8]])[:8], (8,))",
    ),
    Row(
        "Audio(file_format='wav', shape=(6, 2), dtype=np.int16, encoding='zlib')",
        [_wave(x) for x in _images(6, 2, dtype=np.int16)],
        expected=_samples,
    ),
    Row(
        "Audio(file_format='wav', shape=(6,), dtype=np.int16, lazy_decode=True)",
        [_wave(x) for x in _images(6, dtype=np.int16)],
        expected=_samples,
    ),
)
TEXT = (
    Row("Text()", TEXTS, expected=_encode),
    Row("Sequence(Text(), length=2)", [[text, "b"] for text in TEXTS], expected=_encode),
    Row("Translation(['en', 'fr'])", [{"en": t, "fr": t + "!"} for t in TEXTS], expected=_encode),
    Row(
        "TranslationVariableLanguages(['en', 'fr'])",
        [{"en": "a", "fr": ["b", "c"]}, {"fr": "x"}] * 2,
        expected=lambda value: (
            {"language": [b"en", b"fr", b"fr"], "translation": [b"a", b"b", b"c"]}
            if "en" in value
            else {"language": [b"fr"], "translation": [b"x"]}
        ),
        fix="{k: tf.ensure_shape(tf.pad(v, [[0, 3]])[:3], (3,)) for k, v in x.items()}",
    ),
    Row("ClassLabel(names=['no', 'yes'])", ["no", "yes", 1, 0], expected=lambda v: {"no": 0, "yes": 1}.get(v, v)),
)
SEQUENCES = (
    Row("Sequence(np.int32, length=3)", [[i, 2, 3] for i in range(EXAMPLES)]),
    Row("Sequence(np.int32)", GROWING_LISTS, fix="tf.ensure_shape(tf.pad(x, [[0, 3]])[:3], (3,))"),
    Row("Sequence({'a': np.int32, 'b': np.float32}, length=2)", PAIRS, expected=_encode),
    Row(
        "Sequence({'a': np.int64, 'b': np.float64})",
        GROWING_PAIRS,
        expected=lambda value: _encode(value) or {"a": [], "b": []},
        fix="{k: tf.ensure_shape(tf.pad(v, [[0, 3]])[:3], (3,)) for k, v in x.items()}",
    ),
    Row("Sequence(BBoxFeature(), length=1)", [[BOX]] * EXAMPLES, expected=lambda b: np.array([[*b[0]]], np.float32)),
    Row("Sequence(ClassLabel(num_classes=3), length=2)", [[i % 3, 1] for i in range(EXAMPLES)]),
    Row(
        "Sequence(Tensor(shape=(2,), dtype=np.float32, encoding='zlib'))",
        _growing(2, dtype=np.float32),
        fix="tf.ensure_shape(tf.pad(x, [[0, 3], [0, 0]])[:3], (3, 2))",
    ),
    Row("Sequence(Sequence(np.int64))", NESTED, fix="x.to_tensor(shape=(3, 3))"),
    Row(
        "Sequence({'a': Sequence(np.int32), 'b': np.int32})",
        [[{"a": [7] * j, "b": j} for j in range(i)] for i in range(EXAMPLES)],
        expected=lambda value: _encode(value) or {"a": [], "b": []},
        fix="{'a': x['a'].to_tensor(shape=(3, 3)), 'b': tf.ensure_shape(tf.pad(x['b'], [[0, 3]])[:3], (3,))}",
    ),
    Row("Sequence(Sequence(np.int64, length=2), length=3)", [[[i, 2]] * 3 for i in range(EXAMPLES)]),
    Row(
        "Dataset({'a': np.int32})",
        [[{"a": i + j} for j in range(2 + i)] for i in range(EXAMPLES)],
        fix="x.take(2).batch(2, drop_remainder=True).get_single_element()",
    ),
    Row(
        "Dataset(np.int64)",
        [list(range(i)) for i in range(EXAMPLES)],
        fix="tf.ensure_shape(tf.pad(x.batch(3).reduce(tf.zeros(0, tf.int64), lambda _, y: y), [[0, 3]])[:3], 3)",
    ),
)
OTHERS = (
    Row("Scalar(np.uint8)", [0, 1, 2, 255]),
    Row("Scalar(np.int32, optional=True)", [1, None, 3, None], expected=_least(np.int32)),
    Row("Scalar(np.bool_, optional=True)", [True, None, False, None], expected=bool),
    Row("Tensor(shape=(), dtype=np.str_, optional=True)", ["a", None, "c", None], expected=lambda v: _encode(v or "")),
    Row("Tensor(shape=(2,), dtype=np.int32, encoding='bytes', optional=True)", [[1, 2], None] * 2),
    Row("Scalar(np.int64, optional=True)", [1, None, 3, None], expected=_least(np.int64), fix="tf.maximum(x, -1)"),
    Row(
        "Tensor(shape=(None, 2), dtype=np.float32)",
        _growing(2, dtype=np.float32),
        fix="tf.ensure_shape(tf.pad(x, [[0, 3], [0, 0]])[:3], (3, 2))",
    ),
    Row(
        "Tensor(shape=(None, None), dtype=np.int16, encoding='zlib')",
        _growing(3, dtype=np.int16, least=1),
        fix="tf.ensure_shape(x[:1, :2], (1, 2))",
    ),
    Row("FeaturesDict({'a': {'b': np.int32}, 'c': Scalar(np.bool_)})", [{"a": {"b": i}, "c": i > 1} for i in range(4)]),
    Row("Celsius()", [0.0, 10.0, 20.0, 30.0]),
)
GROUPS = {
    "Images, video and boxes": IMAGES,
    "Audio": SOUND,
    "Text and labels": TEXT,
    "Sequences and datasets": SEQUENCES,
    "Scalars, tensors and dictionaries": OTHERS,
}
DTYPES = {
    "bool_": [0, 1],
    **{
        name: [np.iinfo(name).min, np.iinfo(name).max]
        for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")
    },
    "int64": [-(2**31), 2**31 - 1],
    "uint64": [0, 2**32 - 1],
    **{name: [-1.5, 96.0] for name in ("float16", "float32", "float64", "complex64", "complex128", "bfloat16")},
    "str_": ["a", "ö"],
}
ENCODINGS = ("none", "bytes", "zlib")


def tensor_row(dtype: str, encoding: str) -> Row:
    """A tensor of two numbers of a dtype."""
    where = "tf" if dtype == "bfloat16" else "np"
    text = f"Tensor(shape=(2,), dtype={where}.{dtype}, encoding={encoding!r})"
    kind = getattr({"tf": tf, "np": np}[where], dtype)
    native = kind.as_numpy_dtype if where == "tf" else kind
    if dtype == "str_":
        return Row(text, [DTYPES[dtype]] * EXAMPLES, expected=_encode)
    values = [np.array(DTYPES[dtype][:: 1 - 2 * (i % 2)]).astype(native) for i in range(EXAMPLES)]
    return Row(text, values)


class OneRow(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Four examples of one row in `x`, numbered in `i`."""

    VERSION = tfds.core.Version("1.0.0")
    row: Row

    def _info(self):
        features = {"x": self.row.feature, "i": np.int64}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):  # noqa: ARG002
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, value in enumerate(self.row.values):
            yield i, {"x": value, "i": i}

    def _log_download_bytes(self):
        """Nothing is downloaded."""

    def _log_download_done(self):
        """Nothing is downloaded."""


def prepare(row: Row, folder: pathlib.Path) -> None:
    """Write the dataset of a row."""
    kind = type("RowBuilder", (OneRow,), {"row": row, "name": row.name}, skip_registration=True)
    kind(data_dir=str(folder)).download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


def load(row: Row, folder: pathlib.Path) -> tfjax.Pipeline:
    """The row's dataset as a pipeline, with strings kept on the host as a user would keep them."""
    pipe = tfjax.load(row.name, data_dir=str(folder))
    is_text = any(getattr(spec, "dtype", None) == tf.string for spec in x_specs(pipe))
    return pipe.keep_on_host("x") if is_text else pipe


def x_specs(pipe: tfjax.Pipeline) -> list[Any]:
    return [spec for path, spec in pipe._element.leaves() if path.startswith("['x']")]


def map_x(pipe: tfjax.Pipeline, fn: Callable[[Any], Any]) -> tfjax.Pipeline:
    return pipe.map(lambda e: {"x": fn(e["x"]), "i": e["i"]})


def refusal(row: Row, folder: pathlib.Path) -> str | None:
    """What is said where the row cannot be batched as it is; None where it can."""
    try:
        pipe = load(row, folder)
        pipe.batch(BATCH)
        list(pipe)
    except tfjax.SpecError as error:
        return str(error)
    return None


def line(row: Row, folder: pathlib.Path) -> str:
    """The row as a line of the document."""
    said, connector = refusal(row, folder), f"`{row.text}`"
    try:
        pipe = load(row, folder)
    except tfjax.SpecError:
        return _cells(connector, "refused", "refused", said or "")
    if said is None:
        return _cells(connector, _specs(pipe), _delivered(pipe), "")
    fixed = f" `{row.fix}` gives {_delivered(map_x(pipe, row.fixed))}." if row.fix else ""
    return _cells(connector, _specs(pipe), "refused", f"{said}.{fixed}")


def _specs(pipe: tfjax.Pipeline) -> str:
    return _leaves([(p, describe_spec(s)) for p, s in pipe._element.leaves()])


def _delivered(pipe: tfjax.Pipeline) -> str:
    from tfjax.bridge.leaf import leaves_of
    from tfjax.spec import format_spec

    leaves = leaves_of(pipe.batch(BATCH)._plan)
    return _leaves(
        [(f.path, "bytes, on the host" if f.dtype == object else format_spec(f.shape, f.dtype.name)) for f in leaves]
    )


def _leaves(pairs: list[tuple[str, str]]) -> str:
    own = [(path.removeprefix("['x']"), text) for path, text in pairs if path.startswith("['x']")]
    return ", ".join(f"`{path}: {text}`" if path else f"`{text}`" for path, text in own)


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def dtype_line(dtype: str, folder: pathlib.Path) -> str:
    """A dtype as a line of the document: one cell an encoding."""
    cells = []
    for encoding in ENCODINGS:
        row = tensor_row(dtype, encoding)
        try:
            prepare(row, folder)
        except (ValueError, NotImplementedError):
            cells.append("TFDS cannot write it")
            continue
        can = refusal(row, folder) is None
        cells.append(_delivered(load(row, folder)) if can else "TFDS cannot decode it")
    return _cells(f"`{dtype}`", *cells)


HEAD = f"""# What becomes of each TFDS feature

What an example of `tfjax.load` holds for each connector of `tfds.features`, and what `batch({BATCH})` makes of it.
Every line of the tables is tested: the connector is written by a builder, loaded, shuffled, batched, and compared value
by value with `tfds.as_numpy(tfds.load(...))`. `python -m tests.sources.feature_rows` writes this page.

- A shape and a dtype are written `uint8[4,5,3]`; None is a dimension that differs from example to example.
- 64-bit leaves become 32 bits, as JAX has them, and a value that does not fit is an error; with `jax_enable_x64` they
  stay.
- Text is delivered as NumPy object arrays of `bytes`, after `keep_on_host("x")`; without it, it is refused:
  `['x'] is a string, which JAX has no dtype for: use drop('x') or keep_on_host('x'), encode it as integers, or put
  tfjax.image.Decode() before where it is an encoded image`.
- `Celsius` is a connector of one's own, a subclass of `FeatureConnector` with a `decode_example` of TensorFlow ops.
- A leaf named "refused" is delivered as one example where that is an array, and refused by `batch`; the last column has
  the message, and what to return for it from `map`.
- `decoders=` is what it is for `tfds.load`: `SkipDecoding()` hands on what is stored, `PartialDecoding` leaves features
  out.
- `Video` and `Audio` may be written from files. TFDS then calls ffmpeg (any video; audio other than WAV), which must be
  on PATH where the dataset is prepared; for `Audio(lazy_decode=True)`, which Python decodes, where it is read as well.
- A missing value of an optional feature is the least value of its dtype, False, or "", as TFDS stores it.
"""


def render() -> str:
    """The document."""
    folder = pathlib.Path(tempfile.mkdtemp())
    out = [HEAD]
    for title, rows in GROUPS.items():
        out += [f"## {title}\n", _cells("connector", "an example", f"batch({BATCH})", "why not, and the fix")]
        out.append("|---|---|---|---|")
        for row in rows:
            prepare(row, folder)
            out.append(line(row, folder))
        out.append("")
    out += ["## Tensors of two numbers, by dtype and encoding\n", _cells("dtype", *map(repr, ENCODINGS))]
    out.append("|---|---|---|---|")
    out += [dtype_line(dtype, folder) for dtype in DTYPES]
    return "\n".join(out) + "\n"


def write() -> None:
    """Write the document."""
    tfds.disable_progress_bar()
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    from tests.sources import feature_rows  # under the name by which TFDS finds Celsius again

    feature_rows.write()
