"""Which files there are, with the size and the modification time of each: as they are named, or found in a folder.

>>> import pathlib, tempfile
>>> from tfjax.sources.file_list import walk_folder
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> for name in ("roses/1.jpg", "roses/notes.txt", "daisy/1.jpg"):
...     (folder / name).parent.mkdir(exist_ok=True)
...     size = (folder / name).write_bytes(b"...")
>>> found = walk_folder(str(folder), "image", ignore=["*.txt"])
>>> found.files.names, found.folders, found.ignored
(('daisy/1.jpg', 'roses/1.jpg'), ('daisy', 'roses'), 1)
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from tfjax.sources.index import is_remote, stat_file

Kind = Literal["image", "audio", "text"]
SUFFIXES: Mapping[Kind, tuple[str, ...]] = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"),
    "audio": (".wav", ".flac", ".ogg", ".mp3"),
    "text": (".txt",),
}
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class FileList:
    """Files as they were when they were listed.

    Attributes:
        paths: absolute paths, or URLs.
        names: what tells them apart wherever they lie; no absolute paths.
        size_bytes: int64 (files,).
        mtime_ns: int64 (files,), their modification times in nanoseconds.
        unusable: why a file that is listed cannot be used, by its number.
    """

    paths: Sequence[str]
    names: Sequence[str]
    size_bytes: np.ndarray
    mtime_ns: np.ndarray
    unusable: Mapping[int, str]


class Walked(NamedTuple):
    """What a folder holds: files, the names of its own folders, and how many files and folders were left out."""

    files: FileList
    folders: Sequence[str]
    ignored: int


class _Facts(NamedTuple):
    """Size and modification time of a file; not regular: a folder, a pipe, a device or a link to nothing."""

    size_bytes: int = 0
    mtime_ns: int = 0
    is_regular: bool = False


def list_files(kind: Kind, paths: Sequence[str]) -> FileList:
    """Look up files by their paths.

    Raises:
        FileNotFoundError: some do not exist; names the first few.
        ValueError: some are folders, pipes or devices.

    Example:
        >>> list_files("image", ["/nowhere/a.jpg", "/nowhere/b.jpg"])
        Traceback (most recent call last):
        FileNotFoundError: from_files: 2 of 2 files do not exist: '/nowhere/a.jpg', '/nowhere/b.jpg': correct the paths
    """
    full = [path if is_remote(path) else os.path.join(os.getcwd(), path) for path in paths]
    found = list(map(_look_up, full))
    _refuse(paths, [f is None for f in found], FileNotFoundError, "do not exist: {}: correct the paths")
    facts = [f for f in found if f is not None]
    irregular = "are folders, pipes or devices: {}: name files, or use from_folder"
    _refuse(paths, [not f.is_regular for f in facts], ValueError, irregular)
    return _listed(full, [os.path.basename(path) for path in full], facts, kind, by_suffix=False)


def walk_folder(folder: str, kind: Kind, *, ignore: Sequence[str]) -> Walked:
    """Find all files below a folder, in the order of their relative paths; links are followed.

    Args:
        folder: an absolute path.
        kind: files whose suffix is of another kind are listed as unusable.
        ignore: patterns of names of files and folders to leave out, beside those that begin with a dot.

    Raises:
        ValueError: a link leads back to a folder that it lies in.
    """
    is_ignored = re.compile("|".join(map(fnmatch.translate, (".*", *ignore)))).match
    files: list[tuple[str, _Facts]] = []
    folders: list[str] = []
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    ignored = 0
    while waiting:
        prefix, above = waiting.pop()
        inside = (*above, _known_as(folder, prefix, above))
        with os.scandir(os.path.join(folder, prefix)) as entries:
            for entry in entries:
                name = prefix + entry.name
                if is_ignored(entry.name):
                    ignored += 1
                elif os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():
                    waiting.append((f"{name}/", inside))
                    folders += [] if prefix else [name]
                else:
                    files.append((name, _facts(entry)))
    files.sort()
    names = tuple(name for name, _ in files)
    paths = [os.path.join(folder, name) for name in names]
    listed = _listed(paths, names, [facts for _, facts in files], kind, by_suffix=True)
    return Walked(listed, tuple(sorted(folders)), ignored)


def _known_as(folder: str, prefix: str, above: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """What a folder is known by, whatever link led to it."""
    found = os.stat(os.path.join(folder, prefix))
    known = (found.st_dev, found.st_ino)
    if known in above:
        parts = prefix.rstrip("/").split("/")
        links = [p for i, p in enumerate(parts, 1) if os.path.islink(os.path.join(folder, *parts[:i]))]
        raise ValueError(
            f"from_folder: {'/'.join(parts)!r} in {folder!r} leads back to a folder that it lies in: remove the link, "
            f"or leave it out with ignore={(links or parts)[-1]!r}"
        )
    return known


def _listed(
    paths: Sequence[str], names: Sequence[str], facts: Sequence[_Facts], kind: Kind, *, by_suffix: bool
) -> FileList:
    suffixes = SUFFIXES[kind] if by_suffix else ("",)
    reasons = (_why(name, of, kind, suffixes) for name, of in zip(names, facts, strict=True))
    unusable = {i: reason for i, reason in enumerate(reasons) if reason}
    sizes, mtimes = np.array([of[:2] for of in facts], np.int64).reshape(-1, 2).T.copy()
    return FileList(paths, names, sizes, mtimes, unusable)


def _why(name: str, facts: _Facts, kind: Kind, suffixes: tuple[str, ...]) -> str:
    """Why a file cannot be used; empty where it can."""
    if not facts.is_regular:
        return f"it is a pipe, a device or a link to nothing: leave it out with ignore={os.path.basename(name)!r}"
    if not name.lower().endswith(suffixes):
        suffix = os.path.splitext(name)[1]
        pattern = f"*{suffix}" if suffix else os.path.basename(name)
        return f"its suffix is that of no {kind} ({', '.join(suffixes)}): leave it out with ignore={pattern!r}"
    return (
        "" if facts.size_bytes or kind == "text" else "it is empty: write it anew, or leave it out"
    )  # an empty text is a text


def _look_up(path: str) -> _Facts | None:
    """None of what does not exist."""
    try:
        if is_remote(path):
            return _Facts(*stat_file(path), is_regular=True)
        return _regular(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _facts(entry: os.DirEntry[str]) -> _Facts:
    try:
        return _regular(entry.stat())
    except OSError:  # a link to nothing, or to itself
        return _Facts()


def _regular(found: os.stat_result) -> _Facts:
    return _Facts(found.st_size, found.st_mtime_ns, True) if stat.S_ISREG(found.st_mode) else _Facts()


def _refuse(paths: Sequence[str], wrong: Sequence[bool], kind: Callable[[str], Exception], rule: str) -> None:
    odd = [path for path, is_wrong in zip(paths, wrong, strict=True) if is_wrong]
    if odd:
        raise kind(f"from_files: {len(odd)} of {len(paths)} files {rule.format(first_few(odd))}")


def first_few(names: Sequence[str]) -> str:
    """The first few of some names for a message.

    >>> first_few(list("abcde"))
    "'a', 'b', 'c' and 2 more"
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
