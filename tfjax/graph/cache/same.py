"""Whether a cache that is there is that of this pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a value that says nothing to a reader stands for.
_MEANING = {
    "files": "the names, sizes or times of the source's files",
    "values": "the values of the source's arrays",
}
_CODE = "the code of "


def refuse_difference(path: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise ValueError where the key of a cache is not that of the rows that are asked for, naming what differs.

    >>> refuse_difference("/photos", {"rows": 3, "1 map": "map(f)"}, {"rows": 3, "1 map": "map(g)"})
    Traceback (most recent call last):
    ValueError: the cache in '/photos' was made by another pipeline: they differ in `1 map` (here map(g), there
        map(f)). Give another path, or delete it
    """
    names = [n for n in dict.fromkeys([*here, *there]) if _differ(n, there, here)]
    if "files" in names and "source" in names:
        names.remove("source")  # what it is known by differs with its files
    if names:
        raise other_pipeline(path, "; ".join(_shown(name, there, here) for name in names))


def other_pipeline(path: str, what: str) -> ValueError:
    """The error that says what differs."""
    return ValueError(
        f"the cache in {path!r} was made by another pipeline: they differ in {what}. Give another path, or delete it"
    )


def _differ(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    if name == "python" or (name.startswith(_CODE) and there.get("python") != here.get("python")):
        return False  # another interpreter compiles the same function to other code
    return there.get(name) != here.get(name)


def _shown(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    if name in _MEANING:
        return _MEANING[name]
    if name.startswith(_CODE):
        return f"{_CODE}`{name.removeprefix(_CODE)}`"
    return f"`{name}` (here {here.get(name, 'none')}, there {there.get(name, 'none')})"
