"""The table in README.md, made of the JSON of the scripts: `python -m benchmarks.table`.

Everything between the two markers is replaced; what stands around them is written by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import OUT

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
ORDER = (
    *("handoff", "prefetch", "devices", "tree", "overlap", "transfer", "records", "mnist", "memory_epoch"),
    *("photos", "evaluation", "image_cache", "device_cache", "planning", "resume", "leaks"),
)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The JSON of every script that has been run, in the order of the claims."""
    found = [json.loads((folder / f"{name}.json").read_text()) for name in ORDER if (folder / f"{name}.json").is_file()]
    if not found:
        sys.exit(f"no results in {folder}: run `make bench` first")
    return found


def claims_table(results: list[dict[str, Any]]) -> list[str]:
    """One row a claim."""
    lines = ["| script | claim | median | 10 to 90 % | by CPU time | firm | stretch | met |", "|---" * 8 + "|"]
    for result in results:
        for claim in result["claims"]:
            sign = "≥" if claim["sense"] == "at least" else "≤"
            targets = ["" if claim[k] is None else f"{sign} {number(claim[k])}" for k in ("firm", "stretch")]
            span = f"{number(claim['low'])} to {number(claim['high'])}"
            cpu = "" if claim.get("cpu") is None else number(claim["cpu"])
            value = f"**{number(claim['value'])}** {claim['unit']}"
            cells = [result["name"], claim["what"], value, span, cpu, *targets, claim["met"]]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def figures_table(table: dict[str, Any]) -> list[str]:
    """One row a contender."""
    unit = table["unit"]
    lines = [f"**{table['title']}**", ""]
    lines += [
        f"| | us a {unit} | 10 to 90 % | {unit}s/s | CPU us a {unit} | peak MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in table["rows"]:
        name = f"*{row['name']}* (floor)" if row["floor"] else row["name"]
        span = f"{number(row['us_low'])} to {number(row['us_high'])}"
        figures = [number(row["us"]), span, number(row["per_s"]), number(row["cpu_us"]), number(row["peak_mib"])]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return [*lines, ""]


def details(result: dict[str, Any]) -> list[str]:
    """Everything that one script measured."""
    noise = result["noise"]
    busy = f"others used {noise['others_share']:.0%} of the cores meanwhile, load {noise['load_1m']}"
    lines = [f"### {result['name']}: {result['about']}", "", f"{result['rounds']} rounds; {busy}.", ""]
    for table in result["tables"]:
        lines += figures_table(table)
    lines += [f"- {what}: {value}" for what, value in result["facts"].items()]
    lines += [f"- not measured: {s['what']} ({s['reason']})" for s in result["skipped"]]
    return [*lines, ""]


def where(result: dict[str, Any]) -> str:
    """The machine and the versions."""
    machine, versions = result["machine"], result["versions"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, {machine['date']}. {libraries}."
    )


def number(value: float) -> str:
    """Three digits that mean something."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def main() -> None:
    """Rewrite the part of README.md between the markers."""
    results = read_results(OUT)
    lines = ["", where(results[0]), "", *claims_table(results), ""]
    for result in results:
        lines += details(result)
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        sys.exit(f"{README} lacks the markers {BEGIN} and {END}")
    README.write_text(before + BEGIN + "\n".join(lines) + END + after)
    print(f"{README}: {len(results)} scripts")


if __name__ == "__main__":
    main()
