"""`tfjax doctor`: what is installed, what does not go together, and what this machine can do.

Each check is a function that returns a `Finding`; the judgements are pure functions of what was measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tfjax.spec import format_bytes
from tfjax.tools.doctor.finding import Finding, worst

HEADERS = ("", "what", "found", "fix")
_MARKS = {"ok": "ok", "warning": "warning", "error": "ERROR", "missing": "-"}
_COLOURS = {"ok": "", "warning": "yellow", "error": "bold red", "missing": "dim"}


def doctor(*, as_json: bool) -> int:
    """Look at everything and print it.

    Args:
        as_json: print one JSON object instead of a table.

    Returns:
        1 where something is wrong, else 0; warnings and missing options do not count.
    """
    findings = examine()
    status = worst(findings)
    if as_json:
        report = {"status": status, "findings": [asdict(finding) for finding in findings]}
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        _show(findings)
    return int(status == "error")


def examine() -> list[Finding]:
    """Every check, in the order of the report."""
    from tfjax.tools.doctor.devices import check_devices
    from tfjax.tools.doctor.machine import check_machine
    from tfjax.tools.doctor.packages import check_packages

    packages = check_packages()
    devices, threads = check_devices()
    return [*packages, *devices, *check_machine(threads)]


def as_text(value: Any) -> str:
    """A value of JSON in one line; what is equal is said once.

    >>> as_text({"bool": "shared", "int8": "shared", "free_bytes": 3 * 2**30})
    'bool, int8: shared; free 3.0 GiB'
    """
    if value is None:
        return "-"
    if not isinstance(value, Mapping):
        return str(value)
    groups: dict[str, list[str]] = {}
    for key, item in value.items():
        if key == "bytes" or key.endswith("_bytes"):
            size = "unknown" if item is None else format_bytes(item)
            groups[f"\0{key.removesuffix('bytes').rstrip('_')} {size}".replace("\0 ", "\0")] = []
        else:
            groups.setdefault(as_text(item), []).append(str(key))
    return "; ".join(f"{', '.join(keys)}: {text}" if keys else text[1:] for text, keys in groups.items())


def _show(findings: Sequence[Finding]) -> None:
    rows = [(_MARKS[f.status], f.name, as_text(f.value), f.fix) for f in findings]
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except Exception:  # noqa: BLE001 - a rich that does not work is as one that is not there
        _show_plainly(rows)
        return
    console = Console()
    if not console.is_terminal:
        _show_plainly(rows)
        return
    table = Table(header_style="bold")
    for header in HEADERS:
        table.add_column(header, overflow="fold")
    for finding, row in zip(findings, rows, strict=True):
        table.add_row(*map(escape, row), style=_COLOURS[finding.status])
    console.print(table)


def _show_plainly(rows: list[tuple[str, str, str, str]]) -> None:
    widths = [max(len(row[k]) for row in rows) for k in range(2)]
    for mark, name, found, fix in rows:
        line = f"{mark.ljust(widths[0])}  {name.ljust(widths[1])}  {found}"
        sys.stdout.write(line + (f"  -> {fix}" if fix else "") + "\n")
