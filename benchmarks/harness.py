"""Contenders measured in turn, A B C C B A ..., and the claims drawn from them.

It holds the measuring and the JSON; what is measured stands in each `bench_*.py`, machine and memory in `machine.py`.

    bench = Bench("numbers", "what is measured", quick=True)
    table = bench.measure("sums", [Contender("tfjax", open_ours), Contender("peer", open_peer)], unit="batch")
    bench.claim_faster("sums", table, "tfjax", "peer", firm=2.0, stretch=3.0)
    bench.write()
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine

ROUNDS, QUICK_ROUNDS = 9, 2
# On a machine that others use, a round waits for a quiet moment, and the quietest of more rounds are kept.
PATIENCE_S, MOST_ROUNDS = 2.0, 1.5
IDLE_PATIENCE_S = 0.5
OUT = Path("runs/bench")

Timed = Callable[[], int]


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Args:
        name: as the tables show it.
        open: called before each sample, untimed; returns the function that is timed, which returns how many items it
            delivered. Where an iterator goes on from sample to sample, `open` takes some items first, so that what its
            threads made ready in between is not counted as made in no time.
        floor: whether this is what the hardware or a C library alone can do.
    """

    name: str
    open: Callable[[], Timed]
    floor: bool = False


@dataclass(frozen=True)
class Sample:
    """One timed call: seconds of the clock and of the CPU (all threads and children), items, and memory in MiB."""

    seconds: float
    cpu_s: float
    items: int
    peak_mib: float

    @property
    def per_item_us(self) -> float:
        """Microseconds an item."""
        return self.seconds / self.items * 1e6


Table = dict[str, list[Sample]]
Round = tuple[float, dict[str, Sample]]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A figure against its targets.

    Args:
        what: what is claimed.
        value: the median.
        low: the 10th percentile over the rounds.
        high: the 90th.
        unit: "x", "us", "ms", "%", ...
        sense: "at least" or "at most".
        firm: the target.
        stretch: the better one, if there is one.
        cpu: for a ratio, the same of CPU seconds: other processes on the machine change it less.
    """

    what: str
    value: float
    low: float
    high: float
    unit: str
    sense: str
    firm: float | None
    stretch: float | None
    cpu: float | None = None

    @property
    def met(self) -> str:
        """The best target that the median reaches: "stretch", "firm", "missed", or "reported" where there is none."""
        sign = 1 if self.sense == "at least" else -1
        if self.stretch is not None and sign * self.value >= sign * self.stretch:
            return "stretch"
        if self.firm is None:
            return "reported" if self.stretch is None else "missed"
        return "firm" if sign * self.value >= sign * self.firm else "missed"


class Bench:
    """Everything that one script measures, printed as it comes and written as one JSON."""

    def __init__(self, name: str, about: str, *, quick: bool) -> None:
        """Begin.

        Args:
            name: of the JSON file.
            about: one line for the tables.
            quick: a pass that only shows that the script runs; its figures are kept apart.
        """
        self.name, self.about, self.quick = name, about, quick
        self.tables: list[dict[str, Any]] = []
        self.claims: list[Claim] = []
        self.skipped: list[dict[str, str]] = []
        self.facts: dict[str, Any] = {}
        self._noise = machine.Noise()
        print(f"# {name}: {about}{' (quick: the figures mean nothing)' if quick else ''}", flush=True)

    @property
    def rounds(self) -> int:
        """How often each contender is measured."""
        return QUICK_ROUNDS if self.quick else ROUNDS

    def size(self, full: int, quick: int) -> int:
        """One of two sizes."""
        return quick if self.quick else full

    def measure(self, title: str, contenders: Sequence[Contender], *, unit: str, rounds: int | None = None) -> Table:
        """Measure contenders in turn, forwards and backwards, after one pass that is thrown away.

        Where other processes keep the machine busy, up to half as many rounds more are measured, and those where they
        took least are kept, whatever their figures.

        Args:
            title: of the table.
            contenders: each is opened and timed once a round.
            unit: what an item is: "batch", "example", "record".
            rounds: how often; the script's own number where it is not given.
        """
        wanted = rounds or self.rounds
        kept = _quietest(self._rounds(contenders, wanted), wanted)
        table = {c.name: [samples[c.name] for _, samples in kept] for c in contenders}
        noise = max(share for share, _ in kept)
        rows = [_row(c, table[c.name]) for c in contenders]
        self.tables.append({"title": title, "unit": unit, "rounds": wanted, "others_share": noise, "rows": rows})
        _show(self.tables[-1])
        return table

    def _rounds(self, contenders: Sequence[Contender], wanted: int) -> list[Round]:
        found: list[Round] = []
        most = wanted if self.quick else round(wanted * MOST_ROUNDS)
        for number in range(-1, most):
            machine.wait_until_quiet(0 if self.quick else PATIENCE_S)
            noise = machine.Noise()
            turn = contenders if number % 2 else reversed(contenders)
            samples = {c.name: _sample(c) for c in turn}
            if number >= 0:
                found.append((noise.others_share(), samples))
            if sum(share < machine.QUIET for share, _ in found) >= wanted:
                break
        return found

    def skip(self, what: str, reason: str) -> None:
        """Record a contender that is not there."""
        self.skipped.append({"what": what, "reason": reason})
        print(f"  skipped {what}: {reason}", flush=True)

    def fact(self, what: str, value: Any) -> None:
        """Record a figure beside the tables."""
        self.facts[what] = value
        print(f"  {what}: {value}", flush=True)

    def claim_faster(
        self, what: str, table: Table, ours: str, peer: str, *, firm: float | None, stretch: float | None = None
    ) -> None:
        """Claim that `ours` takes so many times less time an item than `peer`, round by round."""
        values, cpu = ratios(table, peer, ours), cpu_ratio(table, peer, ours)
        self.claim(f"{what}: faster than {peer}", values, "x", "at least", firm, stretch, cpu)

    def claim_within(
        self, what: str, table: Table, ours: str, floor: str, *, firm: float | None, stretch: float | None = None
    ) -> None:
        """Claim that `ours` takes at most so many times the time of `floor`, round by round."""
        values, cpu = ratios(table, ours, floor), cpu_ratio(table, ours, floor)
        self.claim(f"{what}: time over {floor}", values, "x", "at most", firm, stretch, cpu)

    def claim_cheaper(
        self, what: str, table: Table, ours: str, peer: str, *, firm: float | None, stretch: float | None = None
    ) -> None:
        """Claim that `ours` takes so many times less CPU time an item than `peer`, round by round."""
        self.claim(f"{what}: less CPU time than {peer}", cpu_ratios(table, peer, ours), "x", "at least", firm, stretch)

    def claim(
        self,
        what: str,
        values: Sequence[float],
        unit: str,
        sense: str,
        firm: float | None,
        stretch: float | None = None,
        cpu: float | None = None,
    ) -> None:
        """Hold the median of some values against targets."""
        low, value, high = spread(values)
        claim = Claim(
            what=what, value=value, low=low, high=high, unit=unit, sense=sense, firm=firm, stretch=stretch, cpu=cpu
        )
        self.claims.append(claim)
        by_cpu = "" if cpu is None else f", {cpu:.3g} by CPU time"
        figures = f"{value:.3g} {unit} ({low:.3g} to {high:.3g}{by_cpu})"
        print(f"  => {what}: {figures}; {sense} {firm} / {stretch}: {claim.met}", flush=True)

    def _noise_so_far(self) -> dict[str, float]:
        share, seconds = round(self._noise.others_share(), 3), round(self._noise.elapsed_s, 1)
        return {"others_share": share, "load_1m": round(os.getloadavg()[0], 2), "seconds": seconds}

    def write(self) -> Path:
        """Write the JSON, and return its path."""
        folder = OUT / "quick" if self.quick else OUT
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        claims = [{**asdict(c), "met": c.met} for c in self.claims]
        measured = {"tables": self.tables, "claims": claims, "facts": self.facts, "skipped": self.skipped}
        about = {"name": self.name, "about": self.about, "quick": self.quick, "rounds": self.rounds}
        where = {"machine": machine.describe(), "versions": machine.versions(), "noise": self._noise_so_far()}
        path.write_text(json.dumps({**about, **where, **measured}, indent=1) + "\n")
        print(f"  written to {path}", flush=True)
        return path


def ratios(table: Table, over: str, under: str) -> list[float]:
    """Time an item of one contender over that of another, round by round."""
    return [a.per_item_us / b.per_item_us for a, b in zip(table[over], table[under], strict=True)]


def cpu_ratios(table: Table, over: str, under: str) -> list[float]:
    """CPU time an item of one contender, threads and workers counted, over that of another, round by round."""
    return [(a.cpu_s / a.items) / (b.cpu_s / b.items) for a, b in zip(table[over], table[under], strict=True)]


def cpu_ratio(table: Table, over: str, under: str) -> float | None:
    """The medians' ratio of CPU time an item; None where the clock is too coarse to say."""
    a, b = (statistics.median(s.cpu_s / s.items for s in table[name]) for name in (over, under))
    return a / b if b else None


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The 10th percentile, the median and the 90th percentile."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return ordered[round(last * 0.1)], statistics.median(ordered), ordered[round(last * 0.9)]


def arguments(about: str | None, **options: Any) -> argparse.Namespace:
    """The command line of a script: `--quick`, and what it asks for beside it (name to default)."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, to show that it runs")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, type=type(default) if default else str)
    return parser.parse_args()


def require_equal(what: str, ours: Any, theirs: Any) -> None:
    """End the script where two contenders do not deliver the same."""
    if ours != theirs:
        sys.exit(f"{what} differ before they are timed: {ours} and {theirs}")


def _sample(contender: Contender) -> Sample:
    gc.collect()
    machine.wait_until_idle(IDLE_PATIENCE_S)
    timed = contender.open()
    peak = machine.Peak()
    cpu, began = machine.cpu_s(), time.perf_counter()
    items = timed()
    seconds = time.perf_counter() - began
    cpu_s = machine.cpu_s() - cpu
    sample = Sample(seconds, cpu_s, items, peak.mib())
    del timed
    return sample


def _quietest(rounds: list[Round], wanted: int) -> list[Round]:
    """The rounds in which others used least, in the order in which they were measured."""
    limit = sorted(share for share, _ in rounds)[:wanted][-1]
    return [found for found in rounds if found[0] <= limit][:wanted]


def _row(contender: Contender, samples: Sequence[Sample]) -> dict[str, Any]:
    low, median, high = spread([s.per_item_us for s in samples])
    return {
        "name": contender.name,
        "floor": contender.floor,
        "us": median,
        "us_low": low,
        "us_high": high,
        "per_s": 1e6 / median,
        "cpu_us": statistics.median(s.cpu_s / s.items * 1e6 for s in samples),
        "peak_mib": max(s.peak_mib for s in samples),
        "samples_us": [s.per_item_us for s in samples],
    }


def _show(table: dict[str, Any]) -> None:
    unit = table["unit"]
    print(f"  {table['title']} (others used up to {table['others_share']:.0%} of the machine)")
    print(f"  {'':44s} {'us/' + unit:>12s} {'10 to 90 %':>21s} {'per s':>12s} {'CPU us':>10s} MiB")
    for row in table["rows"]:
        name = row["name"] + (" (floor)" if row["floor"] else "")
        low_high = f"{row['us_low']:.2f} to {row['us_high']:.2f}"
        figures = (
            f"{row['us']:12.2f} {low_high:>21s} {row['per_s']:12,.0f} {row['cpu_us']:10.2f} {row['peak_mib']:,.0f}"
        )
        print(f"  {name:44s} {figures}", flush=True)
