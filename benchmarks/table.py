"""The table in README.md, made of the JSON of the scripts: `python -m benchmarks.table`.

Between the two markers the rows and the section of each script that has JSON are replaced, and those of the others
stay as they are; what stands around the markers is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import OUT

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
ORDER = (
    *("handoff", "prefetch", "devices", "tree", "overlap", "transfer", "records", "mnist", "memory_epoch"),
    *("photos", "evaluation", "image_cache", "device_cache", "scan", "fit", "keras", "planning", "resume", "leaks"),
)

HEADER = ("| script | claim | median | 10 to 90 % | by CPU time | firm | stretch | met |", "|---" * 8 + "|")


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The JSON of every script that has been run, in the order of the claims."""
    found = [json.loads((folder / f"{name}.json").read_text()) for name in ORDER if (folder / f"{name}.json").is_file()]
    if not found:
        sys.exit(f"no results in {folder}: run `make bench` first")
    return found


def claim_rows(result: dict[str, Any]) -> list[str]:
    """One row a claim."""
    lines = []
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


def rows_there(block: str) -> dict[str, list[str]]:
    """The claims of each script that a block of figures has."""
    there: dict[str, list[str]] = {}
    for line in block.splitlines():
        name = line.removeprefix("| ").partition(" | ")[0]
        if line.startswith("| ") and name in ORDER:
            there.setdefault(name, []).append(line)
    return there


def sections_there(block: str) -> dict[str, str]:
    """The section of each script that a block of figures has."""
    sections = re.split(r"^(?=### )", block, flags=re.MULTILINE)[1:]
    return {text.removeprefix("### ").partition(":")[0]: text.strip() for text in sections}


def figures(results: list[dict[str, Any]], block: str) -> str:
    """A block of figures with those of `results` in place of what it had of the same scripts."""
    rows = rows_there(block) | {result["name"]: claim_rows(result) for result in results}
    sections = sections_there(block) | {r["name"]: "\n".join(details(r)).strip() for r in results}
    names = [name for name in ORDER if name in sections]
    table = "\n".join([*HEADER, *(row for name in names for row in rows.get(name, []))])
    return "\n" + "\n\n".join([where(results[-1]), table, *(sections[name] for name in names)]) + "\n"


def main() -> None:
    """Rewrite the part of README.md between the markers."""
    results = read_results(OUT)
    before, _, rest = README.read_text().partition(BEGIN)
    block, _, after = rest.partition(END)
    if not after:
        sys.exit(f"{README} lacks the markers {BEGIN} and {END}")
    README.write_text(before + BEGIN + figures(results, block) + END + after)
    print(f"{README}: {', '.join(result['name'] for result in results)}")


if __name__ == "__main__":
    main()
