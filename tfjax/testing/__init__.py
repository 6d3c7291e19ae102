"""Helpers for tests of your own pipelines: exact resuming, zero-copy, and sources that are made up or fail.

Each check raises AssertionError with what differs, so that it serves under pytest, unittest or alone.

>>> import numpy as np, tfjax
>>> from tfjax.testing import assert_resumes_anywhere, assert_zero_copy, fake_source
>>> pipe = fake_source({"x": np.zeros(16, np.float32)}, length=10).shuffle(seed=0).batch(4)
>>> assert_resumes_anywhere(pipe, epochs=2)
>>> assert_zero_copy(pipe)
"""

from tfjax.testing.exact import exact as exact
from tfjax.testing.fake import fake_source as fake_source
from tfjax.testing.resume import assert_resumes_anywhere as assert_resumes_anywhere
from tfjax.testing.zero_copy import assert_zero_copy as assert_zero_copy

__all__ = ["assert_resumes_anywhere", "assert_zero_copy", "exact", "fake_source"]
