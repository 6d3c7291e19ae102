"""The same code in two JAX processes of one device each, joined over loopback."""

import contextlib
import socket
import subprocess

from tests.python_process import start

_HEAD = """
import os
os.environ["XLA_FLAGS"] = ""
import sys, warnings
import jax, numpy as np, jax.numpy as jnp, tfjax
from jax.sharding import NamedSharding, PartitionSpec as P
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize("127.0.0.1:{port}", 2, {index})
"""


def run_two(code: str, *, timeout_s: float = 90) -> list[str]:
    """What each of the two prints; both have ended when this returns."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    processes = [start(_HEAD.format(port=port, index=i) + code) for i in range(2)]
    try:
        done = [p.communicate(timeout=timeout_s) for p in processes]
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still running after {timeout_s} s") from None
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    for process, (out, err) in zip(processes, done, strict=True):
        assert process.returncode == 0, f"{out}\n{err}"
    return ["".join(x for x in out.splitlines(True) if not x.startswith("[Gloo]")) for out, _ in done]
