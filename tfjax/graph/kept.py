"""The rows that a filter keeps: listed once for a stage, and for files on disk once for all processes."""

from __future__ import annotations

import hashlib
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfjax._tensorflow import tf
from tfjax.graph.key import prefix_key, probes, some_of
from tfjax.graph.moment import Moment
from tfjax.graph.plan import origin_of
from tfjax.graph.rows import Mapped, Rows, failure_error
from tfjax.graph.stages import Chain, Stage, named_stages
from tfjax.sources.disk import cache_folder, load_array, save_array

_ROWS_AT_A_TIME = 1024
_of_stage: weakref.WeakKeyDictionary[Stage, np.ndarray] = weakref.WeakKeyDictionary()


def kept_rows(chain: Chain, asked: Rows, before: Rows) -> np.ndarray:
    """The rows for which the predicate of the last stage holds, int64.

    Args:
        chain: the stages up to the filter.
        asked: rows of one boolean leaf. Only what the predicate reads is computed: the rest of the graph has no
            consumer and is pruned.
        before: the same rows before the filter, some of which are probed.
    """
    origin_of(chain).source.check()
    key = _key(chain, before)
    path = None if key is None else _path(key)
    rows = None if path is None else load_array(path)
    if rows is None or rows.ndim != 1 or rows.dtype != np.int64:
        rows = _list(asked, chain)
        if path is not None:
            origin_of(chain).source.check()  # or the rows of another file would be kept for this one
            save_array(path, rows, drop=f"{path.name[:33]}*.npy")
    return rows


def remembered(stage: Stage, choose: Callable[[], np.ndarray]) -> np.ndarray:
    """The rows that a stage chooses, worked out once for all pipelines that hold the stage."""
    if stage not in _of_stage:
        _of_stage[stage] = choose()
    return _of_stage[stage]


def _path(key: str) -> Path | None:
    try:
        return cache_folder("kept") / f"{key}.npy"
    except RuntimeError:  # no home folder is known
        return None


def _list(asked: Rows, chain: Chain) -> np.ndarray:
    # A label that is held in memory says what it says, whether its file can be read or not.
    columns: frozenset[int] = getattr(origin_of(chain).source, "columns", frozenset())
    reads_files = not isinstance(asked, Mapped) or not asked.loop.reads <= columns

    def step(start: tf.Tensor) -> tf.Tensor:
        positions = tf.range(start, tf.minimum(start + _ROWS_AT_A_TIME, asked.length), dtype=tf.int64)
        got = asked.fetch(Moment.start(), positions)
        if got.ok is None or not reads_files:
            return tf.boolean_mask(positions, got.leaves[0])
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(got.ok), ["unreadable example"])]):
            return tf.boolean_mask(positions, got.leaves[0])

    step = tf.autograph.experimental.do_not_convert(step)
    starts = tf.data.Dataset.range(0, asked.length, _ROWS_AT_A_TIME)
    parts: list[np.ndarray] = []
    try:
        parts.extend(part.numpy() for part in starts.map(step, num_parallel_calls=tf.data.AUTOTUNE))
    except tf.errors.OpError as error:
        raise _diagnose(asked, chain, len(parts) * _ROWS_AT_A_TIME) or error from error
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _diagnose(asked: Rows, chain: Chain, start: int) -> Exception | None:
    moment = Moment.start()
    for position in range(start, min(start + _ROWS_AT_A_TIME, asked.length)):
        at = tf.constant([position], tf.int64)
        failure = asked.diagnose(moment, at)
        if failure is not None:
            return failure_error(failure, int(asked.index(moment, at)[0]), origin_of(chain).source)
    return None


def _key(chain: Chain, before: Rows) -> str | None:
    """What the list depends on; None where it cannot be told for sure, or nothing is stored in files."""
    named = prefix_key(chain, before.element, before.length)
    if None in named.values() or before.length == 0:
        return None
    stages = [origin_of(chain).describe(), *(s.describe() for s in named_stages(chain).values())]
    versions = (tf.__version__, np.__version__, sys.version)
    facts = (stages, named, versions, probes(before, some_of(range(before.length))))
    where, state = (hashlib.sha256(repr(x).encode()).hexdigest()[:32] for x in (stages, facts))
    return f"{where}-{state}"
