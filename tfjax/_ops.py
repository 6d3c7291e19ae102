"""From ops to stages: what `Pipeline.apply` appends for each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tfjax._tensorflow import tf
from tfjax.graph import stages as st
from tfjax.graph.element import Element
from tfjax.graph.functions import trace
from tfjax.ops.base import Op, leaf_at, with_leaf
from tfjax.ops.image.decode import Decode
from tfjax.ops.strength import Value, require_schedule

if TYPE_CHECKING:
    from tfjax._chain import ChainNode

    P = TypeVar("P", bound=ChainNode)


def applied(pipe: P, ops: Sequence[Any]) -> P:
    """The pipeline with a stage for each op; see `Pipeline.apply`."""
    for op in ops:
        if not isinstance(op, Op):
            raise TypeError(f"apply takes ops such as tfjax.image.RandomFlip(), given {op!r}{_hint(op)}")
        if not all(isinstance(s, Value) for s in op.varying.values()):
            pipe._require_indexed(f"{op!r}, whose strength follows the global step,", "a Value and iterate(values=)")
        _require_strengths(pipe, op)
        stage = stage_of(op)
        if isinstance(op, Decode):
            stage = _keeping_size(stage, op, pipe._element)
            pipe = _as_stored(pipe, op)
        pipe = pipe._append(stage)
        pipe._functions  # noqa: B018 - traced now, so that what is wrong with it is said where it was written
    return pipe


def _hint(given: Any) -> str:
    """What was meant by something that is no op."""
    if isinstance(given, type) and issubclass(given, Op):
        return f": call it, as in {given.__name__}()"
    if isinstance(given, list | tuple):
        return ": pass them one by one, as in apply(*ops)"
    return "; map takes functions" if callable(given) else ""


def _require_strengths(pipe: ChainNode, op: Op) -> None:
    """Raise where a schedule does not run inside the graph, or a name has two defaults."""
    defaults = {
        s.name: s.default
        for stage in pipe._chain
        if isinstance(stage, st.Map)
        for s in stage.strengths
        if isinstance(s, Value)
    }
    for name, strength in op.varying.items():
        if not isinstance(strength, Value):
            require_schedule(f"{type(op).__name__}: {name}", strength)
        elif defaults.setdefault(strength.name, strength.default) != strength.default:
            raise ValueError(
                f"{op!r}: {name} is {strength!r}, which has the default {defaults[strength.name]!r} elsewhere in the "
                "pipeline: pass one Value to both, or another name"
            )


def _as_stored(pipe: P, op: Decode) -> P:
    """The pipeline with an image as it is stored, where its source decodes it and no stage has touched it since.

    Raises:
        TypeError: one has.
    """
    origin, leaf = pipe._chain[0], _leaf(pipe._element, op.key)
    if not isinstance(origin, st.Origin) or origin.undecoded is None or leaf is None:
        return pipe
    if pipe._element.specs[leaf] == tf.TensorSpec((), tf.string):
        return pipe
    decode, *rest = pipe._chain[1:]
    for stage in reversed(rest):
        leaf = _handed_on(pipe, stage, leaf)
        if leaf is None:
            raise TypeError(
                f"{op!r}: {op.key!r} is decoded already, for {stage.describe()}: "
                f"put {op!r} before that, or leave it out"
            )
    stored = pipe._functions[decode].element.structure.paths[leaf]
    try:
        again: P = origin.undecoded("/".join(re.findall(r"\['?(.+?)'?\]", stored)))
    except KeyError:
        return pipe
    again = again._with_reading_of(pipe)
    for stage in rest:
        # Other values: what is kept for a stage is of the rows that it was given.
        again = again._append(dataclasses.replace(stage))
    return again


def _handed_on(pipe: ChainNode, stage: st.Stage, leaf: int) -> int | None:
    """The leaf that a stage is given and hands on; None where it does more with it, be it to look at its shape."""
    if not isinstance(stage, st.Map):
        return None if isinstance(stage, st.Cache) else leaf
    function = pipe._functions[stage]
    given = function.untouched(leaf)
    if given is None:
        return None
    specs = list(function.takes.specs)
    specs[given] = tf.TensorSpec(None, tf.string)
    try:
        blind = trace(stage, dataclasses.replace(function.takes, specs=tuple(specs)))
    except Exception:  # noqa: BLE001 - the user's code, which has been traced with an image
        return None
    before, after = ([pair for i, pair in enumerate(f.element.leaves()) if i != leaf] for f in (function, blind))
    return given if before == after and blind.untouched(leaf) == given else None


def _keeping_size(stage: st.Map, decode: Decode, element: Element) -> st.Map:
    """The stage of a decode, which gives an image the height and width that it has by its spec until then."""
    leaf = _leaf(element, decode.key)
    spec = None if leaf is None else element.specs[leaf]
    is_same_size = decode.frames == "first" and not decode.orient and decode.min_short_side is None
    if not (isinstance(spec, tf.TensorSpec) and spec.shape.rank == 3 and is_same_size):
        return stage
    shape = (*spec.shape[:2], decode.channels)

    def fn(example: Any) -> Any:
        out = stage.fn(example)
        return with_leaf(out, decode.key, tf.ensure_shape(leaf_at(out, decode.key), shape))

    return dataclasses.replace(stage, fn=fn)


def _leaf(element: Element, key: str) -> int | None:
    """The number of the leaf at a path such as "image" or "photos/front"; None where there is none."""
    path = "".join(f"[{part!r}]" for part in key.split("/"))
    return element.structure.paths.index(path) if path in element.structure.paths else None


def stage_of(op: Op) -> st.Map:
    """The stage of an op; what varies with the moment is given to it as numbers, in the order of its fields."""
    varying = op.varying

    def fn(example: Any, *given: Any) -> Any:
        seed, numbers = (given[0], given[1:]) if op.random else (None, given)
        return op.at(**dict(zip(varying, numbers, strict=True)))(example, seed)

    kind = st.RandomMap if op.random else st.Map
    return kind(fn=fn, name=repr(op), decodes=op.decodes, op=op, strengths=tuple(varying.values()))
