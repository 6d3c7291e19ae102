"""A resize that weighs many pixels and the crop that follows it, fused: only the window is computed."""

from __future__ import annotations

from tfjax.graph.rewrites.into_crop import Notes, moved_into_crops
from tfjax.graph.stages import Chain
from tfjax.ops.image.resize import ResizeOp
from tfjax.ops.image.resize_window import ResizeWindow, resizes_windows


def fuse_resize_and_crop(chain: Chain) -> tuple[Chain, Notes]:
    """The chain with each resize moved into the crop that is the next to touch its image; and what was done, or not."""
    return moved_into_crops(
        chain, ResizeOp, refusal=resizes_windows, fused=ResizeWindow, gain="only the window is computed"
    )
