"""The rows that a filter keeps: listed once for a stage, and for files on disk once for all processes."""

from __future__ import annotations

import hashlib
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tfjax._tensorflow import tf
from tfjax.graph.code import code_hash
from tfjax.graph.element import describe_spec
from tfjax.graph.order import golden_permutation
from tfjax.graph.plan import origin_of
from tfjax.graph.rows import FAILURES, Rows, failure_error
from tfjax.graph.stages import Cache, Chain, Map, Options, Stage
from tfjax.sources.disk import cache_folder, load_array, save_array

_ROWS_AT_A_TIME = 1024
_PROBES = 8
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
    def step(start: tf.Tensor) -> tf.Tensor:
        positions = tf.range(start, tf.minimum(start + _ROWS_AT_A_TIME, asked.length), dtype=tf.int64)
        keep = asked.fetch(tf.constant(0, tf.int64), positions).leaves[0]
        return tf.boolean_mask(positions, keep)

    step = tf.autograph.experimental.do_not_convert(step)
    starts = tf.data.Dataset.range(0, asked.length, _ROWS_AT_A_TIME)
    parts: list[np.ndarray] = []
    try:
        parts.extend(part.numpy() for part in starts.map(step, num_parallel_calls=tf.data.AUTOTUNE))
    except tf.errors.OpError as error:
        raise _diagnose(asked, chain, len(parts) * _ROWS_AT_A_TIME) or error from error
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _diagnose(asked: Rows, chain: Chain, start: int) -> Exception | None:
    epoch = tf.constant(0, tf.int64)
    for position in range(start, min(start + _ROWS_AT_A_TIME, asked.length)):
        at = tf.constant([position], tf.int64)
        failure = asked.diagnose(epoch, at)
        if failure is not None:
            return failure_error(failure, int(asked.index(epoch, at)[0]), origin_of(chain).source)
    return None


def _key(chain: Chain, before: Rows) -> str | None:
    """What the list depends on; None where it cannot be told for sure, or nothing is stored in files."""
    origin = origin_of(chain)
    stamp = origin.source.stamp()
    stages = [s for s in chain[1:] if not isinstance(s, Cache | Options)]
    hashes = [code_hash(s.fn) for s in stages if isinstance(s, Map) and s.name is None]
    if stamp is None or None in hashes or before.length == 0:
        return None
    described = [s.describe() for s in stages]
    spec = [(path, describe_spec(s)) for path, s in before.element.leaves()]
    versions = (tf.__version__, sys.version_info[:2])
    facts = (stamp, origin.source.identity, spec, hashes, golden_permutation(), versions, _probes(before))
    names = (origin.describe(), described)
    where, state = (hashlib.sha256(repr(x).encode()).hexdigest()[:32] for x in (names, (names, facts)))
    return f"{where}-{state}"


def _probes(rows: Rows) -> Sequence[str]:
    out = []
    for position in np.linspace(0, rows.length - 1, _PROBES).astype(np.int64):
        try:
            out.append(digest(rows.fetch(tf.constant(0, tf.int64), tf.constant([position])).leaves))
        except FAILURES:  # the predicate may not read what fails; if it does, that is said when it is asked
            out.append("failed")
    return out


def digest(leaves: Sequence[tf.Tensor]) -> str:
    """A digest of the values of some leaves."""
    made = hashlib.sha256()
    for leaf in leaves:
        value = leaf.to_tensor() if isinstance(leaf, tf.RaggedTensor) else leaf
        made.update(tf.io.serialize_tensor(value).numpy())
    return made.hexdigest()
