"""What happened to each leaf of a batch on its way to the devices, read off its memory addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfjax.bridge.leaf import Leaf, leaves_of
from tfjax.bridge.reader import read
from tfjax.bridge.tensor import as_view, narrows
from tfjax.delivery import Delivery
from tfjax.graph.plan import Run
from tfjax.placement.prefetch import Direct
from tfjax.spec import format_spec

_ALIGNMENT = 64


@dataclass(frozen=True)
class LeafReport:
    """One leaf.

    Args:
        path: its key path.
        spec: shape and dtype as delivered.
        outcome: "shared", "copied", "transferred" (to an accelerator), "gathered" (from a device cache) or "host".
        why: the reason where it was copied, and what it was narrowed from.
    """

    path: str
    spec: str
    outcome: str
    why: str

    def __str__(self) -> str:
        """The leaf in one line."""
        return f"{self.path}: {self.spec}, {self.outcome}{f' ({self.why})' if self.why else ''}"


@dataclass(frozen=True)
class CopyReport:
    """Every leaf of a batch; `str` gives one line a leaf."""

    leaves: tuple[LeafReport, ...]

    def __str__(self) -> str:
        """One line a leaf."""
        return "\n".join(map(str, self.leaves))


def copy_report(plan: Any, delivery: Delivery) -> CopyReport:
    """Read the first batch of epoch 0 and compare where its bytes lie before and after.

    What `device_map` makes of the batch afterwards is new memory, and not part of the report.
    """
    empty = "copy_report looks at the first batch, and an epoch of this pipeline has none"
    if plan.steps_per_epoch == 0:
        raise ValueError(empty)
    if plan.held is not None:
        specs = [(leaf, format_spec(leaf.shape, leaf.dtype.name)) for leaf in leaves_of(plan)]
        return CopyReport(tuple(LeafReport(leaf.path, s, "gathered", "on the devices") for leaf, s in specs))
    keep = [_same] * len(delivery.converters)
    plan.check()
    items = Direct(read(plan, Run(start_epoch=0, start=0, stop=1, epochs=1), keep, narrow=narrows()))
    tensors = next(items, None)
    items.close()
    if tensors is None:
        raise ValueError(empty)
    placed = delivery.place([convert(t) for convert, t in zip(delivery.converters, tensors, strict=True)])
    # What is carried beside them comes last, and is no part of the report.
    return CopyReport(tuple(_leaf(*x) for x in zip(leaves_of(plan), tensors, placed, strict=False)))


def _same(tensor: Any) -> Any:
    return tensor


def _leaf(leaf: Leaf, tensor: Any, placed: Any) -> LeafReport:
    outcome, why = _outcome(leaf, tensor, placed)
    narrowed = f"narrowed from {leaf.was} in the graph" if leaf.was else ""
    spec = format_spec(placed.shape, leaf.dtype.name)
    return LeafReport(leaf.path, spec, outcome, "; ".join(filter(None, (why, narrowed))))


def _outcome(leaf: Leaf, tensor: Any, placed: Any) -> tuple[str, str]:
    if leaf.on_host:
        copied = leaf.dtype == np.dtype(object)
        return "host", "strings become Python bytes" if copied else "shared"
    if placed.size == 0:
        return "shared", "empty"
    shards = placed.addressable_shards
    if shards[0].device.platform != "cpu":
        return "transferred", f"to {len(shards)} {shards[0].device.platform} device(s)"
    view = as_view(tensor)
    begin, end = view.ctypes.data, view.ctypes.data + view.nbytes
    shared = [begin <= s.data.unsafe_buffer_pointer() < end for s in shards]
    if all(shared):
        return "shared", "" if len(shards) == 1 else f"{len(shards)} of {len(shards)} shards"
    if leaf.stacked and len(shards) > 1:
        return "copied", f"{len(shards) - sum(shared)} of {len(shards)} shards; each has rows of every batch of a stack"
    stride = shards[0].data.nbytes
    why = f"shards of {stride} bytes do not start on {_ALIGNMENT}" if stride % _ALIGNMENT else "copied by JAX"
    return "copied", f"{len(shards) - sum(shared)} of {len(shards)} shards; {why}"
