"""Every connector of TFDS: what is delivered equals what TFDS yields and what was written, or it is refused clearly."""

import inspect
import re
import warnings

import jax
import numpy as np
import pytest

import tfjax
from tfjax._tensorflow import tf

tfds = pytest.importorskip("tensorflow_datasets")

from tests.sources import feature_rows as table  # noqa: E402

ROWS = [row for rows in table.GROUPS.values() for row in rows]
TENSORS = [table.tensor_row(dtype, encoding) for dtype in table.DTYPES for encoding in table.ENCODINGS]
# Public names of tfds.features that are no connectors: values, documentation, the base class.
NO_CONNECTORS = {"BBox", "DocArg", "Documentation", "Encoding", "FeatureConnector", "TensorInfo"}
# Of pydub, by which TFDS reads sound files, when it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Couldn't find ffmpeg:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning"),
]
pytestmark = pytest.mark.usefixtures("quiet_tfds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


def reference(row, folder):
    """What TFDS yields, example by example, in the order of writing; nested datasets are lists."""
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = tfds.load(row.name, split="train", data_dir=str(folder), read_config=config)
    rows = [plain(example["x"]) for example in tfds.as_numpy(dataset)]
    assert len(rows) == table.EXAMPLES
    return rows


def plain(value):
    """Lists and arrays in place of datasets and ragged tensors."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, tf.RaggedTensor):
        return value.to_list()
    if isinstance(value, np.ndarray | np.generic | bytes):
        return value
    return [plain(item) for item in value]


def assert_equal(ours, theirs):
    """The same values in the same structure; ours may be narrower."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_equal(ours[key], theirs[key])
        return
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if theirs.dtype.kind in "SO":  # bytes, of which NumPy makes either
        assert ours.tolist() == theirs.tolist()
        return
    assert ours.dtype == jax.dtypes.canonicalize_dtype(theirs.dtype)
    np.testing.assert_array_equal(ours, theirs.astype(ours.dtype))


def assert_written(theirs, row):
    """TFDS's own examples are what was written, so that both cannot be wrong in the same way."""
    for value, example in zip(row.values, theirs, strict=True):
        expected = row.expected(value) if row.expected else value
        leaves, _ = jax.tree.flatten(expected, is_leaf=lambda x: isinstance(x, list))
        given, _ = jax.tree.flatten(example, is_leaf=lambda x: isinstance(x, list))
        if row.text.startswith("Dataset({"):
            leaves, given = [expected], [example]
        assert len(leaves) == len(given)
        for a, b in zip(leaves, given, strict=True):
            if isinstance(a, list) and isinstance(b, list):
                assert a == b
            else:
                np.testing.assert_array_equal(np.asarray(b).astype(np.asarray(a).dtype), a)


def assert_delivers(pipe, theirs):
    """As examples in order, and as shuffled batches, where every row stands by its number."""
    batches = list(pipe.shuffle(seed=1).batch(table.BATCH).iterate())
    seen = []
    for batch in batches:
        for k, i in enumerate(batch["i"].tolist()):
            assert_equal(jax.tree.map(lambda leaf, k=k: leaf[k], batch["x"]), theirs[i])
            seen.append(i)
    assert sorted(seen) == list(range(table.EXAMPLES))
    with pipe.iterate() as examples:
        for i, example in enumerate(examples):
            assert_equal(example["x"], theirs[i])


def assert_static(pipe):
    """The spec, read without data, is what a batch has."""
    pipe = pipe.batch(table.BATCH)
    spec, batch = pipe.spec, pipe.peek()
    told = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(spec, is_leaf=lambda x: hasattr(x, "shape"))]
    assert told == [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.text)
def test_connector(row, folder):
    if "file_format" in row.text:
        pytest.importorskip("pydub")
    table.prepare(row, folder)
    assert table.line(row, folder) in table.DOCUMENT.read_text().splitlines(), "python -m tests.sources.feature_rows"
    said = table.refusal(row, folder)
    if said and "TFDS cannot decode" in said:
        with pytest.raises((TypeError, ValueError)):  # nor can TFDS
            reference(row, folder)
        return
    theirs, pipe = reference(row, folder), table.load(row, folder)
    if not row.lossy:
        assert_written(theirs, row)
    if said is None:
        assert_delivers(pipe, theirs)
        assert_static(pipe)
        return
    assert "['x']" in said, "the leaf is named"
    if all(isinstance(spec, tf.TensorSpec) for spec in table.x_specs(pipe)) and "narrows" not in said:
        with pipe.iterate() as examples:
            for i, example in enumerate(examples):
                assert_equal(example["x"], theirs[i])


@pytest.mark.parametrize("row", [row for row in ROWS if row.fix], ids=lambda row: row.text)
def test_fix(row, folder):
    """What the table says to return from map makes batches, of the values that it computes outside of a pipeline."""
    table.prepare(row, folder)
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = tfds.load(row.name, split="train", data_dir=str(folder), read_config=config)
    theirs = [tf.nest.map_structure(lambda t: t.numpy(), row.fixed(example["x"])) for example in dataset]
    pipe = table.map_x(table.load(row, folder), row.fixed)
    assert_delivers(pipe, theirs)
    assert_static(pipe)


@pytest.mark.parametrize("row", TENSORS, ids=lambda row: row.text)
def test_tensor(row, folder):
    try:
        table.prepare(row, folder)
    except (ValueError, NotImplementedError) as error:
        assert re.search("does not support|Unsupported value", str(error))
        return
    if table.refusal(row, folder) is not None:
        assert "uint32" in row.text
        with pytest.raises(TypeError, match="uint32 not in list"):
            reference(row, folder)
        return
    theirs = reference(row, folder)
    assert_written(theirs, row)
    assert_delivers(table.load(row, folder), theirs)
    assert_static(table.load(row, folder))


@pytest.mark.parametrize("dtype", table.DTYPES)
def test_the_document_has_the_dtype(dtype, folder):
    lines = table.DOCUMENT.read_text().splitlines()
    assert table.dtype_line(dtype, folder) in lines, "python -m tests.sources.feature_rows"


def test_the_document_has_these_rows_and_no_other():
    text = table.DOCUMENT.read_text()
    assert text.startswith(table.HEAD)
    listed = re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)
    assert listed == [row.text for row in ROWS] + list(table.DTYPES)


def test_no_connector_is_missing():
    public = {name for name in vars(tfds.features) if inspect.isclass(getattr(tfds.features, name))}
    connectors = {n for n in public if issubclass(getattr(tfds.features, n), tfds.features.FeatureConnector)}
    covered = {name for row in ROWS + TENSORS for name in row.classes}
    assert connectors - {"FeatureConnector"} <= covered
    assert set(tfds.features.__all__) <= covered | NO_CONNECTORS


def test_uint32_of_bytes_can_be_had_through_skip_decoding(folder):
    row = table.tensor_row("uint32", "bytes")
    table.prepare(row, folder)
    with pytest.raises(tfjax.SpecError, match=r"\['x'\] is Tensor.*TFDS cannot decode.*SkipDecoding.*'i': True"):
        tfjax.load(row.name, data_dir=folder).batch(2)
    pipe = tfjax.load(row.name, data_dir=folder, decoders={"x": tfds.decode.SkipDecoding()})
    pipe = table.map_x(pipe, lambda x: tf.ensure_shape(tf.bitcast(tf.io.decode_raw(x, tf.int32), tf.uint32), (2,)))
    assert_delivers(pipe, row.values)
    rest = tfjax.load(row.name, data_dir=folder, decoders=tfds.decode.PartialDecoding({"i": True}))
    assert rest.batch(4).peek()["i"].tolist() == [0, 1, 2, 3]


def test_a_library_that_decoding_needs_is_named(folder):
    pytest.importorskip("pydub")
    text = "Audio(file_format='flac', shape=(None,), dtype=np.int32, lazy_decode=True)"
    row = table.Row(text, [table._wave(np.arange(6))] * table.EXAMPLES)
    table.prepare(row, folder)
    try:
        import tensorflow_io  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r"\['x'\] is Audio.*cannot decode.*install 'tensorflow_io'"):
            tfjax.load(row.name, data_dir=folder).batch(2)


def test_a_video_file_without_ffmpeg_names_it(tmp_path, monkeypatch):
    row = table.Row("Video()", [b"no video"])
    kind = type("VideoBuilder", (table.OneRow,), {"row": row, "name": "one_video"}, skip_registration=True)
    monkeypatch.setattr(tfds, "builder", lambda _, **kwargs: kind(**kwargs))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match=r"feature 'x' is decoded by ffmpeg, which is not on PATH. Install ffm"):
        tfjax.load("one_video", data_dir=tmp_path)


def test_an_example_that_cannot_be_encoded_is_not_printed_whole(tmp_path, monkeypatch):
    row = table.Row("Tensor(shape=(2,), dtype=np.int32)", [np.full(1000, 7, np.int32)])
    kind = type("WrongBuilder", (table.OneRow,), {"row": row, "name": "wrong"}, skip_registration=True)
    monkeypatch.setattr(tfds, "builder", lambda _, **kwargs: kind(**kwargs))
    with pytest.raises(FileNotFoundError, match=r"preparing it failed with .*\(1000,\)") as caught:
        tfjax.load("wrong", data_dir=tmp_path)
    assert "7, 7" not in str(caught.value).replace(" ", ", ")


def test_strings_are_refused_by_name(folder):
    row = table.TEXT[0]
    table.prepare(row, folder)
    with pytest.raises(tfjax.SpecError, match=r"\['x'\] is a string.*drop\('x'\) or keep_on_host\('x'\)"):
        tfjax.load(row.name, data_dir=folder).batch(2).peek()


def test_64_bits_are_kept_where_jax_has_them(folder):
    row = table.tensor_row("int64", "none")
    table.prepare(row, folder)
    with jax.enable_x64(True):
        batch = tfjax.load(row.name, data_dir=folder).batch(4).peek()
    assert batch["x"].dtype == np.int64
    np.testing.assert_array_equal(batch["x"], np.stack(row.values))


def test_a_missing_float64_is_minus_infinity_as_in_tfds(folder):
    row = table.Row("Scalar(np.float64, optional=True)", [1.5, None, 3.0, None])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # TFDS casts the least float64 to float32
        table.prepare(row, folder)
        theirs = reference(row, folder)
        assert_delivers(table.load(row, folder), theirs)
    assert theirs[1] == -np.inf
