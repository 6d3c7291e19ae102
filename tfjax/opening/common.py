"""What several kinds of sources share when they become a Pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tfjax._tensorflow import tf
from tfjax.graph.stages import Map, Origin
from tfjax.pipeline import Pipeline

Path = str | os.PathLike[str]


def decoded(
    name: str, opened: Any, *, auto_cache: bool, undecoded: Callable[[str], Pipeline] | None = None
) -> Pipeline:
    """A source of stored examples, and the function that decodes one."""
    decode: Callable[..., Any] = opened.decode
    raw = raw_rows(name, opened.source, info=opened.info, auto_cache=auto_cache, undecoded=undecoded)
    # Decoding holds no Python `if` or `for` over tensors, and AutoGraph would wrap its errors.
    fn = tf.autograph.experimental.do_not_convert(lambda leaves: decode(*leaves))
    return raw._append(Map(fn=fn, name="decode", decodes=True))


def raw_rows(name: str, source: Any, **more: Any) -> Pipeline:
    """A source whose examples are the tuple of its leaves."""
    from tfjax.bridge.tree import flatten

    _, structure = flatten(tuple(range(len(source.spec))))
    return Pipeline(Origin(name=name, source=source, structure=structure, **more))
