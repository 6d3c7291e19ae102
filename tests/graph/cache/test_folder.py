"""The folder of a cache: whose it is, and what is refused, begun anew or gone on with."""

import errno
import json
import os
import pathlib
import resource
import shutil
import stat
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests.graph.cache.counted import cache_of, counted, stats, values, wait_whole
from tests.graph.cache.test_disk import FEATURES, write_records
from tfjax.errors import CorruptDataError
from tfjax.graph.cache import fit, folder

Example = dict[str, tf.Tensor]


def whole(path: pathlib.Path, rows: int = 8) -> dict[str, Any]:
    """A complete cache, and what its manifest says."""
    values(counted(path, rows)[0].batch(8))
    wait_whole(path)
    return json.loads((path / "manifest.json").read_text())


def partial(path: pathlib.Path, rows: int = 40) -> None:
    """A cache with rows 0 and 1, and nobody who fills it."""
    values(counted(path, rows)[0].take(2).batch(2))


def change(path: pathlib.Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def untouched(path: pathlib.Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in path.rglob("*"))


# Whose it is.


def double(e: Example) -> Example:
    return {"x": e["x"] * 2}


def triple(e: Example) -> Example:
    return {"x": e["x"] * 3}


def numbers(**arrays: Any) -> "tfjax.Pipeline":
    return tfjax.from_arrays(arrays or {"x": np.arange(20)})


OTHERS: dict[str, tuple[Callable[[], "tfjax.Pipeline"], str]] = {
    "another function": (lambda: numbers().map(triple), r"`1 map` \(here map\(.*triple\), there map\(.*double\)\)"),
    "another version": (lambda: numbers().map(double, version="2"), r"`1 map` \(here map\(.*version='2'\)"),
    "one stage more": (lambda: numbers().map(double).map(double), r"`2 map` \(here map\(.*double\), there none\)"),
    "one stage less": (lambda: numbers(), r"`1 map` \(here none, there map\(.*double\)\)"),
    "other values": (lambda: numbers(x=np.arange(20) + (np.arange(20) == 4)).map(double), "values of the source's arr"),
    "other rows": (lambda: numbers(x=np.arange(21)).map(double), r"`rows` \(here 21, there 20\)"),
    "a part": (lambda: numbers().map(double).split({"a": 0.5}, 0)["a"], r"`2 split` \(here split\(.*, there none\)"),
    "another dtype": (lambda: numbers(x=np.arange(20.0)).map(double), r"`elements` \(here \[\[.*float64"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_that_of_another_pipeline(name: str, tmp_path: pathlib.Path) -> None:
    stats(numbers().map(double).cache(tmp_path / "c").batch(4).take(3))
    before = untouched(tmp_path)
    other, said = OTHERS[name]
    match = rf"(?s)the cache in '{tmp_path}/c' was made by another pipeline: they differ in .*{said}.*another path, or"
    with pytest.raises(ValueError, match=match):
        other().cache(tmp_path / "c").iterate()
    assert untouched(tmp_path) == before


def by_code(tmp_path: pathlib.Path, text: str) -> "tfjax.Pipeline":
    """A pipeline with a function `changing` that has this body."""
    scope: dict[str, Any] = {"__name__": "users", "tf": tf}
    exec(compile(f"def changing(e):\n    return {text}", "users.py", "exec"), scope)
    return numbers().map(tf.autograph.experimental.do_not_convert(scope["changing"])).cache(tmp_path / "c")


def test_a_function_whose_code_changed_where_no_probe_looks(tmp_path: pathlib.Path) -> None:
    scopes: list[dict[str, Any]] = []
    for text in ("e['x'] * 2", "e['x'] * 2 + tf.cast(e['x'] == 4, tf.int64)"):
        scope: dict[str, Any] = {"__name__": "users", "tf": tf}
        exec(compile(f"changing = lambda e: {{'x': {text}}}", "users.py", "exec"), scope)
        scopes.append(scope)
    first, second = (numbers().map(s["changing"]).cache(tmp_path / "c") for s in scopes)
    assert values(first.batch(20))[0]["x"][4] == 8
    with pytest.raises(ValueError, match=r"differ in the code of `1 map`\. Give"):
        second.iterate()


def test_what_no_code_tells_is_seen_in_examples(tmp_path: pathlib.Path) -> None:
    def added(table: np.ndarray) -> "tfjax.Pipeline":
        return numbers().map(lambda e: {"x": e["x"] + tf.constant(table)}).cache(tmp_path / "c")

    values(added(np.array(1)).batch(20))
    assert values(added(np.array(1)).batch(20))[0]["x"][:3] == [1, 2, 3]
    with pytest.raises(ValueError, match="differ in some examples: the data, a closure, a table or a decoder changed"):
        added(np.array(2)).iterate()


def test_files_are_known_by_name_size_and_time(tmp_path: pathlib.Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    source = tmp_path / "here" / "x.tfrecord"
    values(write_records(source, range(20)).cache(tmp_path / "c").batch(20))
    moved = shutil.copy2(source, tmp_path / "there" / "x.tfrecord")
    pipe = tfjax.from_records(moved, FEATURES, memory_bytes=0).cache(tmp_path / "c")
    assert stats(pipe.batch(5)) == (20, 0)
    os.utime(source, ns=(1, 1))
    said = r"differ in the names, sizes or times of the source's files\. Give"
    with pytest.raises(ValueError, match=said):
        tfjax.from_records(source, FEATURES).cache(tmp_path / "c").iterate()
    with pytest.raises(ValueError, match=said):
        write_records(source, range(20, 40)).cache(tmp_path / "c").iterate()


def test_code_of_another_python_is_not_compared(tmp_path: pathlib.Path) -> None:
    made = numbers().map(double)
    values(made.cache(tmp_path / "c").batch(20))
    wait_whole(tmp_path / "c")
    key = json.loads((tmp_path / "c" / "manifest.json").read_text())["key"]
    assert key["python"] == list(sys.version_info[:2])
    key["the code of 1 map"] = "other"
    change(tmp_path / "c" / "manifest.json", key=key)
    with pytest.raises(ValueError, match=r"the code of `1 map`"):
        made.cache(tmp_path / "c").iterate()
    change(tmp_path / "c" / "manifest.json", key={**key, "python": [3, 99]})
    assert stats(made.cache(tmp_path / "c").batch(5)) == (20, 0)


# What is there.


def test_what_is_no_cache_is_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("more of it")
    before = untouched(tmp_path)
    for name, said in (
        ("folder", "holds 'thesis.txt', and is no cache"),
        ("file", "this is a file; give the path of a"),
    ):
        with pytest.raises(ValueError, match=rf"cache\('{tmp_path}/{name}'\): .*{said}"):
            counted(tmp_path / name)[0].iterate()
    with pytest.raises(NotADirectoryError, match="a part of the path is a file"):
        counted(tmp_path / "file" / "c")[0].iterate()
    assert untouched(tmp_path) == before


def test_an_empty_folder_and_folders_that_are_not_there(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    os.symlink(tmp_path / "empty", tmp_path / "link")
    for path in ("link", "a/b/c"):
        whole(tmp_path / path)
    assert "manifest.json" in os.listdir(tmp_path / "empty") and os.path.islink(tmp_path / "link")
    assert stat.S_IMODE((tmp_path / "a/b/c").stat().st_mode) == stat.S_IMODE((tmp_path / "a/b").stat().st_mode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match="no permission to read or write there: give a path in a folder of your"):
        counted(tmp_path / "c")[0].iterate()


def test_permission_is_explained(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(folder.os, "mkdir", refuse)
    with pytest.raises(PermissionError, match=rf"no permission to read or write there: .*'{tmp_path}/c'"):
        counted(tmp_path / "c")[0].iterate()
    assert os.listdir(tmp_path) == []


def test_a_read_only_file_system(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(folder.os, "mkdir", refuse)
    with pytest.raises(OSError, match=rf"file system is read-only: give a path on one .*: '{tmp_path}/c'$") as raised:
        counted(tmp_path / "c")[0].iterate()
    assert raised.value.errno == errno.EROFS


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("name", ["00-x.npy", "filled.npy"])
def test_a_file_that_is_cut_off_or_gone(complete: bool, name: str, tmp_path: pathlib.Path) -> None:
    make = whole if complete else partial
    rows = 8 if complete else 40
    make(tmp_path / "c")
    file = tmp_path / "c" / name
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(CorruptDataError, match=rf"'{file}' has \d+ bytes, and .*cut off.*delete .*filled anew"):
        counted(tmp_path / "c", rows)[0].iterate()
    file.unlink()
    with pytest.raises(CorruptDataError, match=rf"'{file}' is gone, .*: delete '{tmp_path}/c', and it is filled anew"):
        counted(tmp_path / "c", rows)[0].iterate()
    shutil.rmtree(tmp_path / "c")
    whole(tmp_path / "c")


def test_a_file_of_another_shape(tmp_path: pathlib.Path) -> None:
    whole(tmp_path / "c")
    np.save(tmp_path / "c" / "00-x.npy", np.arange(8, dtype=np.float64))
    with pytest.raises(CorruptDataError, match=r"00-x.npy'.*replaced; delete"):
        counted(tmp_path / "c")[0].iterate()


@pytest.mark.parametrize("text", [b"{", b"[1]", b'{"format": 2, "key": {}}', b'{"format": 1}', b"", b"\xff\xfe\xfa"])
def test_a_damaged_manifest(text: bytes, tmp_path: pathlib.Path) -> None:
    whole(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").write_bytes(text)
    said = rf"manifest.json' is not the description of a cache of this version.*: delete '{tmp_path}/c', and it is"
    with pytest.raises(CorruptDataError, match=said):
        counted(tmp_path / "c")[0].iterate()


# A disk that is full.


def refused(tmp_path: pathlib.Path, said: str) -> OSError:
    pipe, fn = counted(tmp_path / "a" / "c", 4096)
    with pytest.raises(OSError, match=said) as raised:
        pipe.batch(8).iterate()
    assert not fn.rows
    assert [p.name for p in tmp_path.rglob("*") if p.name != "a"] == []
    return raised.value


def test_no_room_on_the_disk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 9000, 9000))
    error = refused(tmp_path, r"rows take 36.0 KiB more, and 8.8 KiB are free.*limit_bytes=.*/a/c'")
    assert error.errno == errno.ENOSPC
    limited, _ = counted(tmp_path / "a" / "c", 1000, limit_bytes=4000)
    assert len(values(limited.batch(8))) == 125


def test_a_disk_that_is_full_when_room_is_reserved(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert refused(tmp_path, r"rows take 36.0 KiB more, and .* are free").errno == errno.ENOSPC


def test_a_file_that_may_not_be_so_large(tmp_path: pathlib.Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        assert refused(tmp_path, r"rows take 36.0 KiB more").errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_room_is_reserved(tmp_path: pathlib.Path) -> None:
    partial(tmp_path / "c", 100_000)
    found = (tmp_path / "c" / "00-x.npy").stat()
    assert found.st_blocks * 512 >= found.st_size == 800_128


# A fill that was left.


def test_a_fill_of_before_the_machine_was_restarted_begins_anew(tmp_path: pathlib.Path) -> None:
    partial(tmp_path / "c")
    pipe, _ = counted(tmp_path / "c", 40)
    assert stats(pipe.take(4).batch(4)) == (2, 2), "this start of the machine: what is marked is there"
    change(tmp_path / "c" / "fill.json", session="another start")
    inode = (tmp_path / "c").stat().st_ino
    pipe, _ = counted(tmp_path / "c", 40)
    assert stats(pipe.batch(4)) == (0, 40)
    assert (tmp_path / "c").stat().st_ino != inode and os.listdir(tmp_path) == ["c"]
    wait_whole(tmp_path / "c")
    change(tmp_path / "c" / "manifest.json", session="another start")
    assert stats(counted(tmp_path / "c", 40)[0].batch(4)) == (40, 0), "what is whole is on the disk"


def test_another_pipeline_is_refused_whenever_the_fill_began(tmp_path: pathlib.Path) -> None:
    partial(tmp_path / "c")
    change(tmp_path / "c" / "fill.json", session="another start")
    with pytest.raises(ValueError, match="another pipeline"):
        counted(tmp_path / "c", 41)[0].iterate()


def test_a_machine_that_does_not_say_when_it_started(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_SESSION", tmp_path / "none")
    partial(tmp_path / "c")
    assert stats(counted(tmp_path / "c", 40)[0].take(4).batch(4)) == (2, 2), "this process"
    monkeypatch.setattr(folder, "_PROCESS", "another")
    assert stats(counted(tmp_path / "c", 40)[0].take(4).batch(4)) == (0, 4), "another process"


def test_a_process_that_goes_on_with_a_fill_that_was_begun_anew(tmp_path: pathlib.Path) -> None:
    """It fills what nobody has any more, and marks nothing of the other's as whole."""
    old, _ = counted(tmp_path / "c", 40)
    stats(old.take(2).batch(2))
    change(tmp_path / "c" / "fill.json", session="another start")
    new, _ = counted(tmp_path / "c", 40)
    stats(new.take(3).batch(3))
    assert stats(old.batch(8)) == (2, 38)
    for thread in [t for t in __import__("threading").enumerate() if t.name == "tfjax cache"]:
        thread.join()
    assert "manifest.json" not in os.listdir(tmp_path / "c")
    assert stats(new.batch(8)) == (3, 37)
    wait_whole(tmp_path / "c")


def test_a_fill_that_was_left_before_its_manifest(tmp_path: pathlib.Path) -> None:
    whole(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").unlink()
    assert stats(counted(tmp_path / "c")[0].batch(8)) == (8, 0)
    wait_whole(tmp_path / "c")


def test_what_a_killed_process_left_beside_it_is_removed(tmp_path: pathlib.Path) -> None:
    left, other = pathlib.Path(folder._temporary(str(tmp_path / "c"))), tmp_path / ".c.mine.tmp"
    left.mkdir(), other.mkdir()
    (left / "00-x.npy").write_bytes(b"")
    whole(tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == [".c.mine.tmp", "c"]


def test_a_folder_that_is_deleted_while_it_fills(tmp_path: pathlib.Path) -> None:
    pipe, _ = counted(tmp_path / "c", 40)
    stats(pipe.take(2).batch(2))
    shutil.rmtree(tmp_path / "c")
    assert values(pipe.batch(40)) == [{"x": list(range(0, 400, 10))}]
    assert os.listdir(tmp_path) == []


def without_locks(*_: Any) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_another_process_that_is_first(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks, where two make the folder at once: the second takes that of the first."""
    real = os.rename

    def late(made: str, path: str, **how: Any) -> None:
        if how or not os.path.exists(made):
            return real(made, path, **how)
        monkeypatch.setattr(folder.os, "rename", real)
        partial(tmp_path / "c")
        return real(made, path)

    with monkeypatch.context() as patched:
        patched.setattr(folder.fcntl, "flock", without_locks)
        patched.setattr(folder.os, "rename", late)
        pipe, _ = counted(tmp_path / "c", 40)
        assert stats(pipe.take(4).batch(4)) == (2, 2)
    assert os.listdir(tmp_path) == ["c"]


def test_a_disk_that_cannot_be_written_to_at_the_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(folder.os, "fsync", fails)
        pipe, _ = counted(tmp_path / "c")
        opened = pipe._plan
        opened.check()
        with pytest.raises(OSError, match="Input/output error"):
            cache_of(pipe)._folder.finish()  # type: ignore[attr-defined]
    del opened
    with pytest.raises(ValueError, match="is no cache"):
        counted(tmp_path / "c")[0].iterate()
