"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "error", "missing"]


@dataclass(frozen=True)
class Finding:
    """What was found.

    Args:
        name: what was looked at.
        status: "error" is something that does not work; "missing" is an optional part that is not installed.
        value: what is there, of JSON's types.
        fix: what to do; empty where nothing is to be done.
    """

    name: str
    status: Status
    value: Any
    fix: str = ""


def worst(findings: Sequence[Finding]) -> Literal["ok", "warning", "error"]:
    """The status of all of them; what is missing is optional.

    >>> worst([Finding("a", "ok", 1), Finding("b", "missing", None, "pip install b")])
    'ok'
    """
    found = {finding.status for finding in findings}
    return "error" if "error" in found else "warning" if "warning" in found else "ok"


def failed(name: str, error: BaseException, fix: str) -> Finding:
    r"""What raised, where it was only looked at.

    >>> failed("jax", OSError("libjax.so: cannot open\nmore"), "reinstall it").value
    'OSError: libjax.so: cannot open'
    """
    while error.__cause__ is not None:  # a compiled module says no more than that it did not start
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return Finding(name, "error", f"{type(error).__name__}: {lines[0] if lines else ''}", fix)
