"""The frameworks, each with its networks; a test that asks for one runs over all five."""

from collections.abc import Iterator

import jax
import pytest

from tests.frameworks.cases import LIBRARIES, Case, case


@pytest.fixture(autouse=True, scope="module")
def quick_compilation() -> Iterator[None]:
    """XLA without most of its optimisations, as each step runs a few times only.

    Such programs compute other bits, so that none may be left to tests that compare with another process.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture(params=LIBRARIES)
def plain(request) -> Case:
    """A network without state or chance."""
    pytest.importorskip(LIBRARIES[request.param])
    return case(request.param)


@pytest.fixture(params=LIBRARIES)
def full(request) -> Case:
    """A network with batch statistics and dropout."""
    pytest.importorskip(LIBRARIES[request.param])
    return case(request.param, full=True)


@pytest.fixture(params=[*LIBRARIES, "equinox ema"])
def every_full(request) -> Case:
    """The same, and the other kind of batch statistics that Equinox has."""
    name, *mode = request.param.split()
    pytest.importorskip(LIBRARIES[name])
    return case(name, full=True, **({"mode": mode[0]} if mode else {}))
