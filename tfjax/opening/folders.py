"""Loose files: an explicit list, or a folder of classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tfjax.graph.stages import Origin
from tfjax.opening.common import Path
from tfjax.pipeline import Pipeline

if TYPE_CHECKING:
    from tfjax.sources.loose_files import LooseFiles


def from_files(paths: Sequence[Path], *, kind: Literal["image", "audio", "text"] = "image", **columns: Any) -> Pipeline:
    """Examples from loose files, each the encoded bytes of one file, beside labels or any other columns.

    Files are listed here and read when they are needed, in the graph. Whether the bytes are an image is seen when they
    are decoded.

    Args:
        paths: files, local or remote ("gs://..."), in the order of the examples; the same one may come twice.
        kind: "image", "audio" or "text": the key of the bytes. An empty file of images or audio raises
            CorruptDataError when it is used.
        **columns: array-likes of shape (files, ...), of numbers or strings: row i goes with file i. Any name but
            "paths", "kind" and the key of the bytes.

    Returns:
        A pipeline of {kind: bytes as a scalar string, column: its row, ...}.

    Raises:
        FileNotFoundError: files do not exist; names the first few.
        ValueError: no path, an empty one, a folder among them, or a column of another length.
        TypeError: paths are no sequence of strings or `os.PathLike`, or a column holds Python objects.
        CorruptDataError: while iterating: a file is empty, gone, or of another size than it was; names it. The times
            of modification of up to 100 files, evenly spread, are looked at whenever a run begins.

    Example:
        >>> import pathlib, tempfile, tensorflow as tf, tfjax
        >>> paths = [pathlib.Path(tempfile.mkdtemp()) / f"{i}.png" for i in range(3)]
        >>> for i, path in enumerate(paths):
        ...     size = path.write_bytes(tf.io.encode_png(tf.fill((4, 4, 3), tf.cast(i, tf.uint8))).numpy())
        >>> pipe = tfjax.from_files(paths, label=[7, 8, 9])
        >>> pipe = pipe.map(lambda e: {**e, "image": tf.io.decode_png(e["image"], channels=3)})
        >>> int(pipe[2]["label"]), int(pipe[2]["image"].max())
        (9, 2)
    """
    from tfjax.sources.file_list import list_files
    from tfjax.sources.loose_files import LooseFiles

    _require_kind("from_files", kind)
    source = LooseFiles(list_files(kind, _texts(paths)), kind, columns)
    return _opened(f"from_files({len(source)} files)", source)


def from_folder(
    path: Path,
    kind: Literal["image", "audio", "text"] = "image",
    *,
    labels: Mapping[str, str] | Mapping[str, int] | None = None,
    ignore: str | Sequence[str] = (),
) -> Pipeline:
    """Examples from the files of a folder with a subfolder for each class, or with a dict of labels.

    Files come in the order of their paths relative to the folder, and the labels are those of the class names in sorted
    order; links are followed. What is no image by its suffix (.jpg, .jpeg, .png, .webp, .gif, .bmp in any case; .wav,
    .flac, .ogg, .mp3 for audio; .txt for text) is not passed over: it is an example whose use raises
    CorruptDataError. Only names that begin with a dot are.

    Args:
        path: a local folder. Each of its subfolders is a class, with all files below it; an empty one keeps its
            label, with a count of 0, so that labels do not move.
        kind: "image", "audio" or "text": which files, and the key of their bytes.
        labels: a dict from each file's path relative to the folder, with "/" between its parts, to a class name or an
            int. The folder may then be flat, and subfolders are no classes.
        ignore: a pattern such as "*.txt", or several, of the names of files and folders to leave out.

    Returns:
        A pipeline of {kind: bytes as a scalar string, "label": int64}, whose `info` has `classes` (the names in the
        order of their labels), `counts` (files of each), `unusable` and `ignored` (how many).

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is a file, or holds none of that kind; files lie in no class folder and there are no `labels`;
            `labels` lacks a file, or names one that is not there; a link leads back into itself. Names the first few.
        TypeError: a label is no name and no whole number, or a pattern no string.
        CorruptDataError: while iterating: a file is of another kind, empty, gone, or of another size than it was.

    Example:
        >>> import pathlib, tempfile, tfjax
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("tulips/1.jpg", "roses/1.jpg", "roses/2.jpg", "roses/notes.txt"):
        ...     (folder / name).parent.mkdir(exist_ok=True)
        ...     size = (folder / name).write_bytes(b"...")
        >>> pipe = tfjax.from_folder(folder, ignore="*.txt")
        >>> pipe.info.classes, pipe.info.counts, [int(e["label"]) for e in pipe.select("label")]
        (('roses', 'tulips'), {'roses': 2, 'tulips': 1}, [0, 0, 1])
    """
    from tfjax.sources.folder import open_folder

    _require_kind("from_folder", kind)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"from_folder takes the path of a folder, given {path!r}: use from_files for a list of files")
    source, info = open_folder(path, kind, labels=labels, ignore=_patterns(ignore))
    return _opened(f"from_folder({os.fspath(path)!r})", source, info)


def _opened(name: str, source: LooseFiles, info: Any = None) -> Pipeline:
    from tfjax.bridge.tree import flatten

    _, structure = flatten(dict.fromkeys(source.keys, 0))
    return Pipeline(Origin(name=name, source=source, structure=structure, info=info))


def _require_kind(who: str, kind: str) -> None:
    from tfjax.sources.file_list import SUFFIXES

    if kind not in SUFFIXES:
        raise ValueError(f"{who}: kind={kind!r}: files are of one of the kinds {', '.join(map(repr, SUFFIXES))}")


def _texts(paths: Any) -> list[str]:
    """Paths as text, of what has an order."""
    if isinstance(paths, str | bytes | os.PathLike):
        raise TypeError(
            f"from_files takes a list of paths, given {paths!r}: pass [path], sorted(glob.glob(pattern)), or use "
            "from_folder"
        )
    if not isinstance(paths, Iterable) or isinstance(paths, Mapping | set | frozenset):
        raise TypeError(f"from_files takes a list of paths, given a {type(paths).__name__}: pass sorted(...) of it")
    given = list(paths)
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"from_files takes paths as text or os.PathLike, given {path!r} among them")
    if not given:
        raise ValueError("from_files: the list of paths is empty: pass at least one")
    texts = [os.fspath(p) for p in given]
    if "" in texts:
        raise ValueError(f"from_files: path {texts.index('')} is empty: name a file")
    return texts


def _patterns(ignore: Any) -> list[str]:
    patterns = [ignore] if isinstance(ignore, str) else ignore
    if not isinstance(patterns, Sequence) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"from_folder: ignore takes a pattern as text or a list of them, given {ignore!r}")
    for pattern in patterns:
        if "/" in pattern or not pattern:
            raise ValueError(
                f"from_folder: ignore={pattern!r}: a pattern is matched with the name of a file or a folder, without "
                "what it lies in, as '*.txt'"
            )
    return list(patterns)
