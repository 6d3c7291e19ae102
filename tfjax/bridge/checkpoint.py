"""What a checkpoint of a streaming run holds, as bytes that are checked before TensorFlow is shown any of them.

>>> made = Checkpoint(iterator=b"abc", pending=(), read=3, epochs_ended=0, in_epoch=3, entropy=1, dtypes=("int32",))
>>> Checkpoint.unpack(made.pack()) == made
True
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tfjax.errors import StateMismatchError

_MAGIC = b"tfjax checkpoint 1\n"
_DIGEST_BYTES = 32
_LENGTH_BYTES = 8
_NUMBERS = ("read", "epochs_ended", "in_epoch", "entropy")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The position of a graph's iterator.

    Args:
        iterator: TensorFlow's checkpoint.
        pending: the leaves of each step that was read and not delivered, as serialized tensors.
        read: the next step that the iterator yields.
        epochs_ended: epochs whose end was read, where the graph marks it.
        in_epoch: steps read of the epoch after those.
        entropy: what the graph's shuffles without a seed were seeded with.
        dtypes: of the leaves as the graph yields them.
    """

    iterator: bytes
    pending: tuple[tuple[bytes, ...], ...]
    read: int
    epochs_ended: int
    in_epoch: int
    entropy: int
    dtypes: tuple[str, ...]

    def pack(self) -> bytes:
        """All of it, led by a digest."""
        parts = [self.iterator, *(leaf for step in self.pending for leaf in step)]
        header = {name: getattr(self, name) for name in _NUMBERS}
        header |= {"dtypes": self.dtypes, "bytes": [len(p) for p in parts]}
        text = json.dumps(header, separators=(",", ":")).encode()
        body = b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *parts])
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def unpack(cls, packed: bytes) -> Checkpoint:
        """Read what `pack` wrote.

        Raises:
            StateMismatchError: the bytes are no checkpoint, or not all of one, or were altered.
        """
        at = len(_MAGIC)
        if packed[:at] != _MAGIC:
            raise StateMismatchError(f"the state's checkpoint begins with {packed[:at]!r}: it is none of this version")
        digest, body = packed[at : at + _DIGEST_BYTES], packed[at + _DIGEST_BYTES :]
        if hashlib.sha256(body).digest() != digest:
            raise StateMismatchError(
                f"the state's checkpoint of {len(packed)} bytes was cut off or altered: its digest is another one"
            )
        begin = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "little")
        header: dict[str, Any] = json.loads(body[_LENGTH_BYTES:begin])
        parts = []
        for length in header["bytes"]:
            parts.append(body[begin : begin + length])
            begin += length
        dtypes, leaves = tuple(header["dtypes"]), parts[1:]
        width = len(dtypes)
        pending = tuple(tuple(leaves[i : i + width]) for i in range(0, len(leaves), width))
        numbers = {name: header[name] for name in _NUMBERS}
        return cls(iterator=parts[0], pending=pending, dtypes=dtypes, **numbers)
