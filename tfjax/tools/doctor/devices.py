"""JAX's devices, whether TensorFlow leaves them alone, and what goes from one to the other without a copy."""

from __future__ import annotations

import os
import pathlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tfjax.tools.doctor.finding import Finding, failed

_ALIGNMENT = 64
_NVIDIA = pathlib.Path("/proc/driver/nvidia/version")
_RENDEZVOUS = "--xla_cpu_collective_call_terminate_timeout_seconds"
_INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DTYPES = (*_INTEGERS, "float16", "bfloat16", "float32", "float64", "complex64", "complex128")


def check_devices() -> tuple[list[Finding], tuple[int, int] | None]:
    """Everything about devices, and TensorFlow's inter-op and intra-op threads, None where it is not there."""
    found = jax_devices()
    try:
        from tfjax.bridge.probe import tensorflow_facts

        facts = tensorflow_facts()
    except Exception as error:  # noqa: BLE001 - whatever an import raises is what is wrong here
        return [*found, _without_tensorflow(error)], None
    found += [accelerators(facts.physical, facts.visible, facts.logical), alignment(facts.alignment)]
    if all(f.status != "error" for f in found):
        found += zero_copy()
    return found, (facts.inter_op, facts.intra_op)


def _without_tensorflow(error: Exception) -> Finding:
    raised = error.__cause__ or error  # `tfjax._tensorflow` words an ImportError
    if isinstance(raised, ModuleNotFoundError) and raised.name == "tensorflow":
        return Finding("tensorflow devices", "missing", str(error), "pip install 'tfjax[tf]'")
    fix = "python -c 'import tensorflow' shows where: pip install --force-reinstall 'tfjax[tf]' fits its parts together"
    return failed("tensorflow devices", raised, fix)


def jax_devices() -> list[Finding]:
    """JAX's devices; an error where its backend does not start."""
    try:
        import jax

        devices = jax.local_devices()
    except Exception as error:  # noqa: BLE001 - as above
        fix = "set JAX_PLATFORMS to a platform that is there, or install jax for this one"
        return [failed("jax devices", error, fix)]
    kinds = Counter(f"{d.platform}: {d.device_kind}" for d in devices)
    found = [devices_finding(kinds, os.cpu_count() or 1, os.environ.get("XLA_FLAGS", ""), nvidia=_NVIDIA.exists())]
    try:
        jax.local_devices(backend="cpu")
    except RuntimeError:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        fix = f"set JAX_PLATFORMS={platforms},cpu: batches are handed over on the host first"
        found.append(Finding("jax on the host", "error", f"JAX_PLATFORMS={platforms} leaves out cpu", fix))
    return found


def devices_finding(kinds: Mapping[str, int], cores: int, xla_flags: str, *, nvidia: bool) -> Finding:
    """What to say of JAX's devices.

    Args:
        kinds: how many there are, by platform and kind.
        cores: of the machine.
        xla_flags: the environment's XLA_FLAGS.
        nvidia: whether the machine has NVIDIA's driver.
    """
    cpus = sum(n for kind, n in kinds.items() if kind.startswith("cpu"))
    value = dict(kinds)
    if nvidia and cpus == sum(kinds.values()):
        fix = "the machine has an NVIDIA GPU: pip install 'jax[cuda13]' (or cuda12), and leave JAX_PLATFORMS alone"
        return Finding("jax devices", "warning", value, fix)
    if cpus > max(cores, 1) and _RENDEZVOUS not in xla_flags:
        fix = f"training on more CPU devices than cores may abort XLA after 40 s: add {_RENDEZVOUS}=600 to XLA_FLAGS"
        return Finding("jax devices", "warning", value, fix)
    return Finding("jax devices", "ok", value)


def accelerators(physical: Mapping[str, int], visible: Mapping[str, int], logical: Mapping[str, int]) -> Finding:
    """Whether TensorFlow leaves the accelerators to JAX.

    Args:
        physical: accelerators that TensorFlow finds, by kind.
        visible: those that it may use.
        logical: those that it holds.
    """
    value = {"physical": sum(physical.values()), "visible": sum(visible.values()), "held": sum(logical.values())}
    if value["visible"] or value["held"]:
        fix = "make the first pipeline, or call tf.config.set_visible_devices([], 'GPU'), before TensorFlow's first op"
        return Finding("tensorflow devices", "error", value, fix)
    return Finding("tensorflow devices", "ok", value)


def alignment(measured: int) -> Finding:
    """Whether TensorFlow's tensors begin where JAX can share them."""
    value = {"bytes": measured, "needed": _ALIGNMENT}
    if measured < _ALIGNMENT:
        return Finding(
            "memory alignment", "warning", value, "JAX copies what it cannot share: use TensorFlow's own build"
        )
    return Finding("memory alignment", "ok", value)


def zero_copy() -> list[Finding]:
    """What becomes of a batch of every dtype, read off its addresses: on one CPU device, and on all of them."""
    try:
        import jax
        import numpy as np
        from jax.sharding import Mesh

        cpus = jax.local_devices(backend="cpu")
        one = _outcomes(len(cpus), cpus[0])
        several = _outcomes(len(cpus), Mesh(np.array(cpus), ("data",))) if len(cpus) > 1 else {}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong here
        return [failed("zero-copy", error, "run it in Python: tfjax.from_arrays(...).copy_report()")]
    found = [zero_copy_finding("zero-copy", one)]
    return [*found, zero_copy_finding(f"zero-copy, {len(cpus)} shards", several)] if several else found


def zero_copy_finding(name: str, outcomes: Mapping[str, str]) -> Finding:
    """What to say of outcomes by dtype, each "shared" or "copied"; a narrowed dtype is one that the graph casts.

    >>> zero_copy_finding("zero-copy", {"bool": "shared", "int64": "shared as int32"}).status
    'ok'
    """
    copied = [dtype for dtype, outcome in outcomes.items() if outcome.startswith("copied")]
    fix = f"{', '.join(copied)}: a copy a batch on the host; the values are right" if copied else ""
    return Finding(name, "warning" if copied else "ok", dict(outcomes), fix)


def _outcomes(shards: int, *where: Any) -> dict[str, str]:
    import jax.numpy as jnp
    import numpy as np

    import tfjax

    rows = _ALIGNMENT * shards  # each shard begins on 64 bytes, whatever the dtype
    arrays = {dtype: np.zeros((rows, 2), jnp.dtype(dtype)) for dtype in _DTYPES}
    report = tfjax.from_arrays(arrays).batch(rows).place(*where).copy_report()
    return {leaf.path[2:-2]: _outcome(leaf) for leaf in report.leaves}


def _outcome(leaf: Any) -> str:
    narrowed = f" as {leaf.spec.partition('[')[0]}" if "narrowed" in leaf.why else ""
    return f"{leaf.outcome}{narrowed}"
