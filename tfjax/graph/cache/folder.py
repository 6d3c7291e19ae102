"""The folder of a path cache, made whole or not at all.

Any number of processes of one machine fill it, and it is complete once it holds a manifest.

    fill.json        what the rows depend on, and since which start of the machine they are filled
    filled.npy       a flag a row
    00-image.npy     the rows of a leaf of a fixed size; entries.npy says where the others are
    rows-00000.tfrecord, ...
    manifest.json    the key again, and the size of each file: written last, once all of them are on the disk
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from tfjax.errors import CorruptDataError
from tfjax.graph.cache.fit import no_space, require_disk
from tfjax.graph.cache.npy import Descriptor, FileColumn, Layout, reserve
from tfjax.graph.cache.same import refuse_difference

_SESSION = "/proc/sys/kernel/random/boot_id"
_PROCESS = uuid.uuid4().hex
FILL, MANIFEST = "fill.json", "manifest.json"
_FORMAT = 1


class Folder:
    """An open cache folder.

    It is held by its descriptor: what is written goes there, also where the path is given to another folder meanwhile.
    """

    def __init__(self, path: str, layouts: Mapping[str, Layout]) -> None:
        """Open the folder at `path`.

        Raises:
            CorruptDataError: a file is missing, or not of the size that it had.
        """
        self.path, self._layouts = path, layouts
        self._own = Descriptor(os.open(path, os.O_RDONLY))
        self._descriptor = self._own.number
        self.is_final = MANIFEST in os.listdir(self._descriptor)
        if self.is_final:
            self._check_sizes()

    def open(self, name: str, flags: int) -> int:
        """The descriptor of a file in it."""
        return os.open(name, flags | os.O_CLOEXEC, 0o666, dir_fd=self._descriptor)

    def names(self) -> list[str]:
        """The files in it."""
        return sorted(os.listdir(self._descriptor))

    def size(self, name: str) -> int:
        """The bytes of one of them."""
        return os.stat(name, dir_fd=self._descriptor).st_size

    def column(self, name: str) -> FileColumn:
        """One of its arrays; it can be written to before there is a manifest."""
        try:
            file = self.open(name, os.O_RDONLY if self.is_final else os.O_RDWR)
        except FileNotFoundError as error:
            raise self._missing(name) from error
        return FileColumn(
            Descriptor(file), os.path.join(self.path, name), self._layouts[name], writable=not self.is_final
        )

    def finish(self) -> None:
        """Write all files to the disk, then the manifest that says that they are there."""
        described = self._read(FILL)
        data = [n for n in self.names() if n.endswith((".npy", ".tfrecord"))]
        try:
            described["files"] = {name: self._synced(name) for name in data}
        except OSError:
            os.unlink(FILL, dir_fd=self._descriptor)  # what was written may be lost, and nothing would tell
            raise
        name = f"{MANIFEST}.{uuid.uuid4().hex}.tmp"
        with open(name, "x", encoding="utf-8", opener=self.open) as file:
            json.dump(described, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, MANIFEST, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        os.fsync(self._descriptor)

    def _synced(self, name: str) -> int:
        descriptor = self.open(name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> dict[str, Any]:
        with open(name, "rb", opener=self.open) as file:
            return _parsed(os.path.join(self.path, name), file.read())

    def _check_sizes(self) -> None:
        """A file that is shorter than its map would end the process."""
        for name, size in self._read(MANIFEST)["files"].items():
            try:
                found = os.stat(name, dir_fd=self._descriptor).st_size
            except FileNotFoundError as error:
                raise self._missing(name) from error
            if found < size:  # two processes that fill it write some entries twice, and one may do so last
                raise CorruptDataError(
                    f"{os.path.join(self.path, name)!r} has {found} bytes, and its manifest says {size}: it was cut "
                    f"off; delete {self.path!r}, and the cache is filled anew"
                )

    def _missing(self, name: str) -> CorruptDataError:
        return CorruptDataError(
            f"{os.path.join(self.path, name)!r} is gone, and belongs to the cache: delete {self.path!r}, and it is "
            "filled anew"
        )


def open_folder(where: str, key: Mapping[str, Any], layouts: Mapping[str, Layout]) -> Folder:
    """Open a cache folder, or make one.

    Args:
        where: an absolute path.
        key: what the rows depend on, of JSON types.
        layouts: the arrays, by file name.

    Raises:
        ValueError: something else is there, or the cache of another pipeline.
        OSError: it does not fit on the disk, or may not be made or read.
        CorruptDataError: a file is damaged.
    """
    path = os.path.realpath(where)
    key = json.loads(json.dumps(key))
    found = _require_same(path, key)
    if found is None or not found["manifest"]:
        if found is None:
            require_disk(path, _bytes(layouts))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with _alone(path) as alone:
            if alone:
                _remove_leftovers(path)
            _see_to(path, key, layouts)
    return Folder(path, layouts)


def _see_to(path: str, key: Mapping[str, Any], layouts: Mapping[str, Layout]) -> None:
    """See that a folder is there whose marks may be trusted: a page that is written survives its process only."""
    while (found := _require_same(path, key)) is None or not _is_trusted(found):
        if found is not None:
            discarded = _temporary(path)
            os.rename(path, discarded)
            shutil.rmtree(discarded, ignore_errors=True)
        _make(path, key, layouts)


def _is_trusted(found: Mapping[str, Any]) -> bool:
    return bool(found["manifest"]) or found.get("session") == _session()


def _require_same(path: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    found = _described(path)
    if found is not None:
        refuse_difference(path, found["key"], key)
    return found


def _described(path: str) -> dict[str, Any] | None:
    """What the manifest of a folder says, or before there is one, the description of its fill; None of an empty one."""
    if os.path.isfile(path):
        raise ValueError(f"cache({path!r}): this is a file; give the path of a folder, which need not exist")
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return None
    if not names:
        return None
    for name in (MANIFEST, FILL):
        if name in names:
            with open(os.path.join(path, name), "rb") as file:
                return {"manifest": name == MANIFEST, **_parsed(file.name, file.read())}
    shown = ", ".join(map(repr, sorted(names)[:3]))
    raise ValueError(
        f"cache({path!r}): the folder holds {shown}, and is no cache: give the path of another, which need not exist"
    )


def _parsed(path: str, text: bytes) -> dict[str, Any]:
    try:
        read = json.loads(text)
        if read["format"] == _FORMAT and isinstance(read["key"], dict):
            return dict(read)
    except (ValueError, TypeError, KeyError):
        pass
    raise CorruptDataError(
        f"{path!r} is not the description of a cache of this version of tfjax: delete {os.path.dirname(path)!r}, and "
        "it is filled anew"
    )


def _session() -> str:
    """Which start of this machine this is; of this process, where the machine does not say."""
    try:
        with open(_SESSION, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return _PROCESS


def _temporary(path: str, which: str = "") -> str:
    """A name beside a folder that no other process uses, nor another machine that shares the disk."""
    parent, name = os.path.split(path)
    machine = hashlib.sha256(_session().encode()).hexdigest()[:16]
    return os.path.join(parent, f".{name}.{machine}.{which or uuid.uuid4().hex}.tmp")


def _remove_leftovers(path: str) -> None:
    """What processes of this machine left that were killed while they made or removed the folder."""
    for left in glob.glob(glob.escape(_temporary(path, "*")).replace("[*]", "*")):
        shutil.rmtree(left, ignore_errors=True)


def _bytes(layouts: Mapping[str, Layout]) -> int:
    return sum(layout.nbytes for layout in layouts.values())


def _make(path: str, key: Mapping[str, Any], layouts: Mapping[str, Layout]) -> None:
    """A folder of zeros, none of them marked; made under another name, which is removed where it cannot be."""
    made = _temporary(path)
    require_disk(path, _bytes(layouts))
    try:
        os.mkdir(made)
        for file, layout in layouts.items():
            reserve(os.path.join(made, file), layout)
        with open(os.path.join(made, FILL), "x", encoding="utf-8") as described:
            json.dump({"format": _FORMAT, "key": key, "session": _session()}, described)
        os.rename(made, path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return  # another process was first
        raise no_space(path, _bytes(layouts), error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Errors of the system that say what to do."""
    try:
        yield
    except PermissionError as error:
        raise PermissionError(
            error.errno, "cache: no permission to read or write there: give a path in a folder of your own", path
        ) from error
    except (NotADirectoryError, FileExistsError) as error:
        raise NotADirectoryError(
            errno.ENOTDIR, "cache: a part of the path is a file: give the path of a folder", path
        ) from error
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        raise OSError(
            error.errno, "cache: the file system is read-only: give a path on one that can be written to", path
        ) from error


@contextlib.contextmanager
def _alone(path: str) -> Iterator[bool]:
    """No other process of this machine makes or discards a folder beside this one meanwhile, if that can be."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            locked = True
        except OSError:  # a file system without locks: who renames first is taken
            locked = False
        yield locked
    finally:
        os.close(descriptor)
