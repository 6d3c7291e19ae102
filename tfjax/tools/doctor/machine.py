"""Cores, threads, memory and disk; limits of a control group count, as containers set them."""

from __future__ import annotations

import os
import pathlib
import shutil
import time

from tfjax.sources.disk import cache_folder
from tfjax.tools.doctor.finding import Finding

_GROUPS = pathlib.Path("/sys/fs/cgroup")
_LOW_BYTES = 2**30
_LOOK_S = 2.0  # a data folder may hold millions of files


def check_machine(tf_threads: tuple[int, int] | None) -> list[Finding]:
    """Cores, memory and the folders that grow.

    Args:
        tf_threads: TensorFlow's inter-op and intra-op threads, 0 for its default; None where it is not there.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    folders = [("index cache", _own_cache("index")), ("kept-list cache", _own_cache("kept"))]
    folders.append(("tfds data", tfds_folder(os.environ.get("TFDS_DATA_DIR"))))
    return [
        cores(affinity, os.cpu_count() or 1, _group_cores(), tf_threads),
        memory(*_memory()),
        *(folder(name, path) for name, path in folders),
    ]


def cores(usable: int, total: int, quota: float | None, tf_threads: tuple[int, int] | None) -> Finding:
    """How many cores this process may use.

    Args:
        usable: cores that the process is bound to.
        total: cores of the machine.
        quota: cores' worth of time that the control group allows; None for no limit.
        tf_threads: TensorFlow's inter-op and intra-op threads, 0 for its default: one a usable core.
    """
    value = {"usable": usable, "total": total, "quota": quota}
    if tf_threads is not None:
        value |= {"tf_inter_op": tf_threads[0] or usable, "tf_intra_op": tf_threads[1] or usable}
    if quota is not None and quota < usable / 2:
        fix = f"TensorFlow and XLA start {usable} threads for {quota:g} cores: bind the process with taskset or cpuset"
        return Finding("cores", "warning", value, fix)
    return Finding("cores", "ok", value)


def memory(total: int | None, available: int | None, limit: int | None, used: int | None) -> Finding:
    """How much memory this process may use; bytes, None for what is not known.

    Args:
        total: of the machine.
        available: of the machine, without swapping.
        limit: of the control group.
        used: by the control group, without what can be reclaimed.
    """
    limits = [x for x in (total, limit) if x is not None]
    free = [x for x in (available, None if limit is None else limit - (used or 0)) if x is not None]
    value = {"total_bytes": min(limits, default=None), "available_bytes": max(min(free), 0) if free else None}
    low = value["available_bytes"] is not None and value["available_bytes"] < _LOW_BYTES
    fix = "less than 1 GiB: lower load(memory_bytes=) and options(ram_budget_bytes=)" if low else ""
    return Finding("memory", "warning" if low else "ok", value, fix)


def available_bytes() -> int | None:
    """Memory that this process may still take, within the limit of its control group; None where it is not known."""
    return memory(*_memory()).value["available_bytes"]  # type: ignore[no-any-return]


def folder(name: str, path: pathlib.Path | None) -> Finding:
    """How large a folder is, and how much room is left there."""
    if path is None:
        return Finding(name, "warning", None, "no home folder is known: set XDG_CACHE_HOME")
    there = next(p for p in (path, *path.parents) if p.exists())
    size, complete = _size(path)
    value = {"path": str(path), "bytes": size, "free_bytes": shutil.disk_usage(there).free}
    value |= {} if complete else {"counted": "in part, as it holds many files"}
    if not os.access(there, os.W_OK):
        return Finding(name, "warning", value, f"{str(there)!r} cannot be written: name another folder")
    return Finding(name, "ok", value)


def tfds_folder(named: str | None) -> pathlib.Path:
    """Where TFDS keeps its datasets."""
    return pathlib.Path(named or "~/tensorflow_datasets").expanduser()


def _own_cache(kind: str) -> pathlib.Path | None:
    try:
        return cache_folder(kind)
    except RuntimeError:
        return None


def _size(path: pathlib.Path) -> tuple[int, bool]:
    total, end = 0, time.monotonic() + _LOOK_S
    for parent, _, names in os.walk(path):
        if time.monotonic() > end:
            return total, False
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total, True


def _memory() -> tuple[int | None, int | None, int | None, int | None]:
    pages = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = meminfo(_read(pathlib.Path("/proc/meminfo"))).get("MemAvailable")
    limit = min((n for n in map(_number, _of_group("memory.max", "memory/memory.limit_in_bytes")) if n), default=None)
    used = next((n for n in map(_number, _of_group("memory.current", "memory/memory.usage_in_bytes")) if n), None)
    reclaimable = _stat("inactive_file")
    if limit is not None and pages is not None and limit >= pages:
        limit = None  # version 1 writes a huge number for no limit
    return pages, available, limit, None if used is None else max(used - reclaimable, 0)


def meminfo(text: str) -> dict[str, int]:
    """Bytes by name, of /proc/meminfo.

    >>> meminfo("MemTotal:       16 kB")
    {'MemTotal': 16384}
    """
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


def quota_cores(text: str) -> float | None:
    """Cores' worth of time, of a control group's cpu.max.

    >>> quota_cores("150000 100000"), quota_cores("max 100000")
    (1.5, None)
    """
    parts = text.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[1]) == 0:
        return None
    return int(parts[0]) / int(parts[1])


def _group_cores() -> float | None:
    quotas = [q for q in map(quota_cores, _of_group("cpu.max", "")) if q is not None]
    old = f"{_read(_GROUPS / 'cpu/cpu.cfs_quota_us').strip()} {_read(_GROUPS / 'cpu/cpu.cfs_period_us').strip()}"
    return min([*quotas, *filter(None, [quota_cores(old)])], default=None)


def _of_group(name: str, old: str) -> list[str]:
    """A file of the process's control group and of those around it, from the inside; of version 1, of the root."""
    line = next((x for x in _read(pathlib.Path("/proc/self/cgroup")).splitlines() if x.startswith("0::")), "0::/")
    inner = _GROUPS / line.removeprefix("0::").lstrip("/")
    around = [p for p in (inner, *inner.parents) if p == _GROUPS or _GROUPS in p.parents]
    texts = [_read(p / name) for p in around] + ([_read(_GROUPS / old)] if old else [])
    return [text for text in texts if text]


def _stat(name: str) -> int:
    lines = (line.split() for text in _of_group("memory.stat", "")[:1] for line in text.splitlines())
    return next((int(row[1]) for row in lines if row[0] == name), 0)


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
