"""The position of an iterator, and the fingerprint of the pipeline that it belongs to.

>>> state = State(step=7, start_epoch=0, parts=("source:1f2e3d4c",), values={}, versions={}, probe="")
>>> State.from_json(state.to_json()) == state
True
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tfjax.errors import StateMismatchError

FORMAT = 1
_HASH_LENGTH = 8
_MOST_PARTS = 32
_MOST_STEPS = 2**62


@dataclass(frozen=True, kw_only=True)
class State:
    """Where an iterator stands: batches delivered since the start of `start_epoch`.

    It is JSON of under 1 KB, and resumes in the same time at any step; that of a streaming pipeline is resumed by
    replay, or holds a checkpoint and is as large as `size_bytes` says.

    Args:
        step: batches delivered, counted from the start of epoch `start_epoch`.
        start_epoch: the epoch that the run began with.
        parts: the fingerprint, one `name:hash` for the source, its spec, the seeds and each stage.
        values: named numbers given to `iterate(values=)`.
        versions: library versions, which are warned about only.
        probe: a digest of the first example, which is warned about only.
        checkpoint: where the graph of `from_tf(..., state="checkpoint")` stands, base64 in JSON; None for any other.

    Example:
        >>> State.from_json('{"format": 1, "step": 3}').step
        Traceback (most recent call last):
        tfjax.errors.StateMismatchError: this is no tfjax state: 'start_epoch' is missing
    """

    step: int
    start_epoch: int
    parts: tuple[str, ...]
    values: Mapping[str, float]
    versions: Mapping[str, str]
    probe: str
    checkpoint: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what no iterator can have written."""
        if not (0 <= self.step <= _MOST_STEPS and 0 <= self.start_epoch <= _MOST_STEPS):
            raise StateMismatchError(f"this is no tfjax state: step {self.step}, start epoch {self.start_epoch}")

    def to_json(self) -> str:
        """The state as one line of JSON."""
        fields = {"format": FORMAT, **asdict(self)}
        held = fields.pop("checkpoint")
        fields |= {} if held is None else {"checkpoint": base64.b64encode(held).decode("ascii")}
        return json.dumps(fields, separators=(",", ":"))

    @property
    def size_bytes(self) -> int:
        """Bytes of `to_json()`: under 1 KB, but for a checkpoint.

        Example:
            >>> import numpy as np, tfjax
            >>> tfjax.from_arrays(np.arange(6)).batch(2).iterate().state.size_bytes < 1024
            True
        """
        if self.checkpoint is None:
            return len(self.to_json())
        return len(replace(self, checkpoint=b"").to_json()) + 4 * -(-len(self.checkpoint) // 3)

    @classmethod
    def from_json(cls, text: str) -> State:
        """Read what `to_json` wrote.

        Raises:
            StateMismatchError: the text is no state, or of another format version.
        """
        try:
            read = json.loads(text)
        except (TypeError, ValueError) as error:
            raise StateMismatchError(f"this is no tfjax state: {str(text)[:40]!r} is no JSON ({error})") from error
        if not isinstance(read, dict) or "format" not in read:
            raise StateMismatchError(f"this is no tfjax state: {str(text)[:40]!r}")
        if read["format"] != FORMAT:
            raise StateMismatchError(
                f"state format {read['format']!r} is not {FORMAT}, which this version of tfjax reads"
            )
        return cls._from_fields(read)

    @classmethod
    def _from_fields(cls, read: dict[str, Any]) -> State:
        kinds = {
            "step": int,
            "start_epoch": int,
            "parts": list,
            "values": dict,
            "versions": dict,
            "probe": str,
        }
        for name, kind in kinds.items():
            if name not in read:
                raise StateMismatchError(f"this is no tfjax state: {name!r} is missing")
            if not isinstance(read[name], kind) or isinstance(read[name], bool):
                raise StateMismatchError(f"this is no tfjax state: {name!r} is {read[name]!r}")
        if not all(isinstance(part, str) and ":" in part for part in read["parts"]):
            raise StateMismatchError(f"this is no tfjax state: 'parts' is {read['parts']!r}")
        named = {name: read[name] for name in kinds if name != "parts"}
        return cls(**named, parts=tuple(read["parts"]), checkpoint=_decoded(read.get("checkpoint")))


def _decoded(text: Any) -> bytes | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, binascii.Error) as error:
        raise StateMismatchError(f"this is no tfjax state: 'checkpoint' is no base64 ({error})") from error


def short_hash(value: Any) -> str:
    """Eight hexadecimal digits over a value of JSON types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_HASH_LENGTH]


def fingerprint(named: Mapping[str, Any]) -> tuple[str, ...]:
    """One `name:hash` for each named value; the stages of a very long chain share one hash, to stay under 1 KB."""
    parts = {name: short_hash(value) for name, value in named.items()}
    if len(parts) > _MOST_PARTS:
        names = list(parts)
        kept = {name: parts[name] for name in names[: _MOST_PARTS - 1]}
        parts = {**kept, "the rest": short_hash([parts[n] for n in names[_MOST_PARTS - 1 :]])}
    return tuple(f"{name}:{digest}" for name, digest in parts.items())


def check_same(state: State, parts: tuple[str, ...], described: Mapping[str, Any]) -> None:
    """Raise StateMismatchError where a state belongs to another pipeline, naming the parts that differ."""
    theirs, ours = (dict(p.rsplit(":", 1) for p in x) for x in (state.parts, parts))
    if theirs == ours:
        return
    names = [n for n in dict.fromkeys([*ours, *theirs]) if ours.get(n) != theirs.get(n)]
    shown = [f"{n} (here {described[n]})" if n in described else f"{n} (not here)" for n in names]
    raise StateMismatchError(
        f"the state belongs to another pipeline: they differ in {'; '.join(shown)}. Resume with the pipeline that the "
        "state came from, or start anew without state="
    )


def warn_differences(state: State, versions: Mapping[str, str], probe: str) -> None:
    """Warn where versions or the first example differ, which the fingerprint does not see."""
    other = {k: (v, versions[k]) for k, v in state.versions.items() if k in versions and versions[k] != v}
    if other:
        shown = ", ".join(f"{name} {then} then, {now} now" for name, (then, now) in other.items())
        warnings.warn(f"the state was made with other versions: {shown}; batches may differ", stacklevel=3)
    if state.probe and probe and state.probe != probe:
        warnings.warn(
            "the first example is not what it was when the state was made: data, a closure, a table or a decoder "
            "changed; batches will differ",
            stacklevel=3,
        )
