"""What was found out about memory, as values that print as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfjax.spec import format_bytes


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What training takes, in bytes; `str` gives one line a group.

    Args:
        batch_size: rows of a batch, over all devices.
        device: on each device, by what they are for.
        devices: how many there are.
        host: on the host, by what they are for, at most.
        advice: what would take less.
    """

    batch_size: int
    device: Mapping[str, int]
    devices: int
    host: Mapping[str, int]
    advice: Sequence[str] = ()

    @property
    def device_bytes(self) -> int:
        """On each device."""
        return sum(self.device.values())

    @property
    def host_bytes(self) -> int:
        """On the host, at most."""
        return sum(self.host.values())

    def __str__(self) -> str:
        """One line a group."""
        where = "the device" if self.devices == 1 else f"each of {self.devices} devices"
        lines = [f"memory of {where}, batches of {self.batch_size}:", *_table(self.device, self.device_bytes)]
        lines += ["memory of the host, at most:", *_table(self.host, self.host_bytes)]
        return "\n".join([*lines, *(f"advice: {line}" for line in self.advice)])


def _table(groups: Mapping[str, int], total: int) -> list[str]:
    rows = [*groups.items(), ("together", total)]
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {format_bytes(size):>10}  {size / total if total else 0:>4.0%}" for name, size in rows]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One size that was looked at.

    Args:
        size: rows of a batch, over all devices.
        predicted: bytes on each device that smaller and larger sizes let expect; None of the first ones.
        compiled: bytes on each device by the compiled step; None where XLA found while compiling that it does not fit.
        fits: whether these are within the limit.
        trial: "ran", "out of memory", or empty where it was not run.
    """

    size: int
    predicted: int | None
    compiled: int | None
    fits: bool
    trial: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchSize:
    """The batch size that was found: an int wherever one is taken, such as `pipe.batch(found)`; `str` gives the tables.

    Args:
        batch_size: rows of a batch, over all devices.
        limit_bytes: what may be taken of each device.
        limited_by: what keeps it from being larger.
        attempts: the sizes that were looked at, in order.
        budget: what this size takes.
        notes: what was left out, and why.
    """

    batch_size: int
    limit_bytes: int
    limited_by: str
    attempts: Sequence[Attempt] = field(repr=False)
    budget: Budget = field(repr=False)
    notes: Sequence[str] = field(default=(), repr=False)

    def __index__(self) -> int:
        """The batch size."""
        return self.batch_size

    def __int__(self) -> int:
        """The batch size."""
        return self.batch_size

    def __str__(self) -> str:
        """The sizes that were looked at, and the budget of the one that was found."""
        used = f"{format_bytes(self.budget.device_bytes)} of {format_bytes(self.limit_bytes)}"
        lines = [f"batch size {self.batch_size}, limited by {self.limited_by}: {used}"]
        lines.append(f"  {'size':>8}  {'predicted':>10}  {'compiled':>10}  {'fits':<4}  trial")
        for attempt in self.attempts:
            predicted = "" if attempt.predicted is None else format_bytes(attempt.predicted)
            size = "too much" if attempt.compiled is None else format_bytes(attempt.compiled)
            fits = "yes" if attempt.fits else "no"
            lines.append(f"  {attempt.size:>8}  {predicted:>10}  {size:>10}  {fits:<4}  {attempt.trial}".rstrip())
        return "\n".join([*lines, *self.notes, str(self.budget)])
