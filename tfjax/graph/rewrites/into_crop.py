"""Moving an op into the crop that is the next to touch its image: what the rules for decode and resize share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tfjax.graph.stages import ORDER_STAGES, Chain, KeepOnHost, Map, Options, Seed, Stage
from tfjax.ops.image.crop import CropOp

_PASSES = (*ORDER_STAGES, Seed, Options, KeepOnHost)
Notes = list[str]


def moved_into_crops(
    chain: Chain,
    kind: type,
    *,
    refusal: Callable[[Any, CropOp], str | None],
    fused: Callable[[Any, CropOp], Callable[..., Any]],
    gain: str,
) -> tuple[Chain, Notes]:
    """The chain with ops of a kind moved into crops, and what was done, or why not.

    Args:
        chain: the stages.
        kind: of the ops that are moved.
        refusal: why an op and a crop cannot be one; None where they can.
        fused: the function of both.
        gain: for `explain`.
    """
    notes: Notes = []
    for stage in [s for s in chain if isinstance(s, Map) and isinstance(s.op, kind)]:
        crop, between = _next(chain, stage)
        if crop is None:
            continue
        reason = f"{between.describe()} comes between" if between else refusal(stage.op, crop.op)
        if reason is None:
            name = f"{stage.describe()} with {crop.describe()}"
            one = dataclasses.replace(
                crop, fn=fused(stage.op, crop.op), name=name, decodes=stage.decodes or crop.decodes
            )
            chain = tuple(one if s is crop else s for s in chain if s is not stage)
            notes.append(f"{stage.describe()} is fused with {crop.describe()}: {gain}")
        else:
            notes.append(f"{stage.describe()} is not fused with {crop.describe()}: {reason}")
    return chain, notes


def _next(chain: Chain, moved: Map) -> tuple[Map | None, Stage | None]:
    """The next crop of the image that an op makes, and the first stage between them that touches it, or may."""
    between: Stage | None = None
    for stage in chain[chain.index(moved) + 1 :]:
        op = stage.op if isinstance(stage, Map) else None
        if isinstance(stage, Map) and isinstance(op, CropOp) and op.key == moved.op.key:
            return stage, between
        if not isinstance(stage, _PASSES) and (op is None or set(moved.op.keys) & set(op.keys)):
            between = between or stage
    return None, None
