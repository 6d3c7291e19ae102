"""Hypothesis strategies for sources: random structures, dtypes and shapes, filled with random values."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from .source import Arrays, Examples, Source
from .tree import Tree, map_tree

WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
REAL = ("float16", "bfloat16", "float32", "float64")
DTYPES = ("bool", *WHOLE, *REAL, "complex64")
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan)


class Pair(NamedTuple):
    """An element that is a NamedTuple."""

    left: Tree
    right: Tree


@dataclass(frozen=True)
class Leaf:
    """Shape and dtype of one leaf of an example."""

    dtype: str
    shape: tuple[int, ...]

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """A random value that fits 32 bits."""
        if self.dtype == "text":
            words = [self.word(rng) for _ in range(math.prod(self.shape))]
            return np.array(words, object).reshape(self.shape)
        if self.dtype == "tokens":
            return rng.integers(0, 100, rng.integers(5)).astype(np.int32)
        if self.dtype in WHOLE:
            return self.whole(rng)
        usual = rng.normal(size=self.shape)
        values = np.where(rng.random(self.shape) < 0.2, rng.choice(SPECIAL, self.shape), usual)
        if self.dtype == "complex64":
            return np.asarray(values + 1j * rng.normal(size=self.shape)).astype(np.complex64)
        return np.asarray(values > 0 if self.dtype == "bool" else values).astype(
            ml_dtypes.bfloat16 if self.dtype == "bfloat16" else self.dtype
        )

    def word(self, rng: np.random.Generator) -> bytes:
        """Up to five bytes, the last of which may be zero."""
        return b"word"[: rng.integers(5)] + b"\x00" * rng.integers(2)

    def whole(self, rng: np.random.Generator) -> np.ndarray:
        """Random integers, no wider than the dtype they are narrowed to."""
        bounds = np.iinfo(self.dtype.replace("64", "32"))
        return np.asarray(rng.integers(bounds.min, bounds.max, self.shape, endpoint=True)).astype(self.dtype)


shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
plain_leaves = st.builds(Leaf, st.sampled_from(DTYPES), shapes)
structures = st.recursive(
    plain_leaves,
    lambda parts: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), parts, min_size=1, max_size=3),
        st.builds(lambda x, y: OrderedDict(z=x, a=y), parts, parts),
        st.tuples(parts, parts),
        st.builds(Pair, parts, parts),
    ),
    max_leaves=5,
)
others = st.dictionaries(st.just("a"), plain_leaves)
text = others.map(lambda rest: rest | {"text": Leaf("text", ())})
texts = others.map(lambda rest: rest | {"text": Leaf("text", (2,))})
images = others.map(lambda rest: rest | {"image": Leaf("uint8", (4, 5, 3))})
tokens = others.map(lambda rest: rest | {"tokens": Leaf("tokens", ())})


@st.composite
def sources(draw: st.DrawFn, sizes: Sequence[int]) -> Source:
    """As many examples of one random structure as one of `sizes` says."""
    kind = draw(st.sampled_from([Arrays, Examples]))
    spec = draw(st.one_of(*[structures] * 5, images, text, texts if kind is Arrays else tokens))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return kind([map_tree(lambda leaf: leaf.sample(rng), spec) for _ in range(draw(st.sampled_from(sizes)))])
