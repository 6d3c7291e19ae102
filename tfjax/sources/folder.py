"""The labels of the files of a folder: the names of its subfolders, or a table.

>>> import pathlib, tempfile
>>> from tfjax.sources.folder import open_folder
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> sizes = [(folder / name).write_bytes(b"...") for name in ("1.png", "2.png", "3.PNG")]
>>> source, info = open_folder(folder, "image", labels={"1.png": "rose", "2.png": "daisy", "3.PNG": "rose"}, ignore=[])
>>> len(source), info.classes, info.counts
(3, ('daisy', 'rose'), {'daisy': 1, 'rose': 2})
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfjax.sources.file_list import SUFFIXES, FileList, Kind, Walked, first_few, walk_folder
from tfjax.sources.index import is_remote
from tfjax.sources.loose_files import LooseFiles

Labels = Mapping[str, str] | Mapping[str, int]


@dataclass(frozen=True)
class FolderInfo:
    """What `from_folder` found.

    Attributes:
        classes: the name of each label, in the order of the labels; empty where a table gives numbers.
        counts: files of each class by its name, or of each number of a table.
        unusable: files that are counted and raise CorruptDataError when they are used: of another kind, or empty.
        ignored: files and folders that were left out, as hidden ones or by `ignore`.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, int] | Mapping[int, int]
    unusable: int
    ignored: int


def open_folder(
    path: str | os.PathLike[str], kind: Kind, *, labels: Labels | None, ignore: Sequence[str]
) -> tuple[LooseFiles, FolderInfo]:
    """A source of the files of a folder with an int64 `label` each; see `tfjax.from_folder`."""
    given = os.fspath(path)
    if not given:
        raise ValueError("from_folder: the path is empty: give that of a folder, '.' for this one")
    if is_remote(given):
        raise ValueError(
            f"from_folder walks local folders, given {given!r}: pass its files, as tf.io.gfile.glob finds them, to "
            "from_files"
        )
    folder = os.path.join(os.getcwd(), given)
    if not os.path.exists(folder):
        raise FileNotFoundError(f"from_folder: {given!r} does not exist: correct the path")
    if not os.path.isdir(folder):
        raise ValueError(f"from_folder: {given!r} is a file: pass a folder, or use from_files")
    found = walk_folder(folder, kind, ignore=ignore)
    where = f"from_folder: {given!r}"
    _require_any(where, found, kind)
    if labels is None:
        classes = _class_folders(where, found)
        names: Sequence[Any] = [name.partition("/")[0] for name in found.files.names]
    else:
        names = _from_table(where, found.files, labels)
        classes = tuple(sorted({n for n in names if isinstance(n, str)}))
    numbers = {name: number for number, name in enumerate(classes)}
    counted = Counter(names)
    info = FolderInfo(
        classes=classes,
        counts={name: counted[name] for name in classes or sorted(counted)},
        unusable=len(found.files.unusable),
        ignored=found.ignored,
    )
    column = np.array([numbers.get(n, n) for n in names], np.int64)
    return LooseFiles(found.files, kind, {"label": column}), info


def _require_any(where: str, found: Walked, kind: Kind) -> None:
    files = found.files
    if not files.names:
        left_out = f"; {found.ignored} files and folders are left out, hidden or by ignore=" if found.ignored else ""
        raise ValueError(f"{where} holds no file{left_out}: correct the path, or fill it")
    if len(files.unusable) == len(files.names):
        raise ValueError(
            f"{where} has {len(files.names)} files ({first_few(files.names)}), and none that can be used: those of "
            f"kind={kind!r} end in {', '.join(SUFFIXES[kind])}, and are not empty"
        )


def _class_folders(where: str, found: Walked) -> tuple[str, ...]:
    """The names of the folders that all files lie in; one that is empty keeps its place among the labels."""
    outside = [name for name in found.files.names if "/" not in name]
    if not found.folders:
        raise ValueError(
            f"{where} has no subfolder, so {first_few(outside)} have no class: give labels= a dict of file name to "
            "label, or use from_files(paths) for files without labels"
        )
    if outside:
        raise ValueError(
            f"{where}: {len(outside)} of {len(found.files.names)} files lie in no class folder: {first_few(outside)}: "
            "move them into one, leave them out with ignore=, or give labels= a dict of file name "
            "to label"
        )
    return tuple(found.folders)


def _from_table(where: str, files: FileList, labels: Labels) -> Sequence[Any]:
    if not isinstance(labels, Mapping):
        raise TypeError(f"{where}: labels is a {type(labels).__name__}: pass a dict of file name to label")
    missing = [name for name in files.names if name not in labels]
    if missing:
        raise ValueError(
            f"{where}: labels names no label of {len(missing)} of {len(files.names)} files: {first_few(missing)}: add "
            "them by their path relative to the folder, or leave them out with ignore="
        )
    beyond = sorted(map(str, labels.keys() - set(files.names)))
    if beyond:
        raise ValueError(
            f"{where}: labels names files that are not there: {first_few(beyond)}: take them out of the "
            "dict, or bring them back"
        )
    return _of_one_kind(where, [labels[name] for name in files.names])


def _of_one_kind(where: str, values: Sequence[Any]) -> Sequence[Any]:
    if all(isinstance(v, str) for v in values):
        return values
    for value in values:
        if not _is_number(value):
            raise TypeError(
                f"{where}: labels holds {value!r}: labels are all names, or all whole numbers of 64 bits; for others "
                "use from_files(paths, label=...)"
            )
    return [int(v) for v in values]


def _is_number(value: Any) -> bool:
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_whole and -(2**63) <= int(value) < 2**63
