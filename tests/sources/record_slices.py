"""Parts of record files of any format, drawn by hypothesis, and what a graph reads of them."""

from hypothesis import strategies as st

from tfjax._tensorflow import tf
from tfjax.sources.records import Slice


def rows(source, indices):
    """What a graph of this source yields, one batch."""
    (raw,) = tf.data.Dataset.from_tensors(tf.constant(indices, tf.int64)).map(source.fetch)
    ok = [True] * len(indices) if raw.ok is None else raw.ok.numpy().tolist()
    return raw.leaves[0].numpy().tolist(), ok


def draw_slices(data, folder, write):
    """Parts of some files that `write(path, payloads)` makes, and the payloads that they hold."""
    files = data.draw(st.lists(st.lists(st.binary(max_size=300), max_size=5), min_size=1, max_size=3))
    slices, expected = [], []
    for i, payloads in enumerate(files):
        skip = data.draw(st.integers(0, len(payloads)))
        take = data.draw(st.none() | st.integers(0, len(payloads) - skip))
        slices.append(Slice(write(f"{folder}/{i}", payloads), skip, take, len(payloads)))
        expected += payloads[skip:] if take is None else payloads[skip : skip + take]
    return slices, expected


def draw_indices(data, count):
    """Up to 8 indices of so many records, in any order."""
    return data.draw(st.lists(st.integers(0, count - 1), max_size=8)) if count else []


def assert_rows(source, ways, expected, indices):
    """Each way to fetch yields the same bytes."""
    for how in ways:
        got, ok = rows(source(how), indices)
        assert got == [expected[i] for i in indices], how
        assert ok == [True] * len(indices)
