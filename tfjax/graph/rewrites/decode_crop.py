"""A decode and the crop that follows it, fused: of a JPEG only the window is decoded."""

from __future__ import annotations

from tfjax.graph.rewrites.into_crop import Notes, moved_into_crops
from tfjax.graph.stages import Chain
from tfjax.ops.image.decode import Decode
from tfjax.ops.image.decode_window import DecodeWindow, decodes_windows


def fuse_decode_and_crop(chain: Chain) -> tuple[Chain, Notes]:
    """The chain with each decode moved into the crop that is the next to touch its image; and what was done, or not."""
    return moved_into_crops(
        chain,
        Decode,
        refusal=lambda decode, _: decodes_windows(decode),
        fused=DecodeWindow,
        gain="of a JPEG only the window is decoded",
    )
