"""The machine: what it is, how much CPU and memory a measurement took, and how busy others kept it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

import psutil

_LIBRARIES = (
    *("tfjax", "jax", "jaxlib", "tensorflow-cpu", "tensorflow", "tensorflow-datasets", "numpy", "flax", "keras"),
    *("grain", "array_record", "torch", "pillow", "simplejpeg", "opencv-python-headless", "nvidia-dali-cuda130"),
)
_PROCESS = psutil.Process()
QUIET = 0.1


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def versions() -> dict[str, str]:
    """The libraries that are installed."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def cpu_s() -> float:
    """CPU seconds of this process and of its living children."""
    total = time.process_time()
    for child in _PROCESS.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            total += times.user + times.system
    return total


def rss_mib() -> float:
    """Resident memory now, in MiB."""
    return float(_PROCESS.memory_info().rss) / 2**20


class Peak:
    """The highest resident memory since it was made, over what was there then.

    Linux forgets its high-water mark when 5 is written to /proc/self/clear_refs; where that is not allowed or there is
    no /proc, it is what is resident at the end.
    """

    def __init__(self) -> None:
        """Begin."""
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._begin = rss_mib()

    def mib(self) -> float:
        """MiB over the beginning."""
        highest = rss_mib()
        with contextlib.suppress(OSError):
            lines = Path("/proc/self/status").read_text().splitlines()
            highest = max(highest, *(float(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")))
        return max(highest - self._begin, 0.0)


class Noise:
    """How much of the machine other processes use."""

    def __init__(self) -> None:
        """Begin."""
        self._began, self._cpu, self._busy = time.perf_counter(), cpu_s(), _busy_s()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    def others_share(self) -> float:
        """The share of all cores that others used since the beginning, 0 to 1, to 10 ms of CPU time."""
        others = max(_busy_s() - self._busy - (cpu_s() - self._cpu), 0.0)
        return others / self.elapsed_s / (os.cpu_count() or 1)


def wait_until_quiet(patience_s: float) -> None:
    """Wait until others use under a tenth of the machine for 0.2 s, but no longer than `patience_s`."""
    end = time.perf_counter() + patience_s
    while time.perf_counter() < end:
        noise = Noise()
        time.sleep(0.2)
        if noise.others_share() < QUIET:
            return


def wait_until_idle(patience_s: float) -> None:
    """Wait until this process has been at rest for 50 ms: what one contender left in its threads is no other's."""
    end = time.perf_counter() + patience_s
    while time.perf_counter() < end:
        cpu, pause_s = cpu_s(), 0.05
        time.sleep(pause_s)
        if cpu_s() - cpu < QUIET * pause_s:
            return


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
