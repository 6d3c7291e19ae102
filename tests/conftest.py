"""What every test stands on: 8 CPU devices, real data by fixture, no thread left behind."""

import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
TFDS_NAMES = ("mnist", "clinc_oos", "xquad/en", "tf_flowers")

# Read by JAX, Keras and TensorFlow when they start, so set before anything imports them. The rendezvous of 8
# virtual devices can take longer than XLA's 40 s on a loaded machine, and XLA then aborts the process.
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=8",
    "--xla_cpu_collective_call_terminate_timeout_seconds=600",
)
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *XLA_FLAGS)).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
# Nothing is written to the user's home: neither prepared datasets nor offset indexes.
os.environ.setdefault("TFDS_DATA_DIR", str(ROOT / "runs" / "tfds"))
os.environ["XDG_CACHE_HOME"] = str(ROOT / "runs" / "cache")

# A shell that starts this in the background has it ignore Ctrl-C, and so every process that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so that a failure comes again; HYPOTHESIS_PROFILE=explore draws new ones.
SLOW_START = [HealthCheck.too_slow]
settings.register_profile("fixed", deadline=None, derandomize=True, suppress_health_check=SLOW_START)
settings.register_profile("explore", deadline=None, print_blob=True, suppress_health_check=SLOW_START)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the real files as `data`, so that the marker cannot be forgotten."""
    for item in items:
        if {"shared_data", "tfds_dir"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.data)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests, with the reason, where JAX was not asked for a GPU."""
    if item.get_closest_marker("gpu") and "cuda" not in os.environ["JAX_PLATFORMS"]:
        pytest.skip("needs a GPU: JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu")


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail a test that leaves a running non-daemon thread: it would keep the process from ending."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and not t.daemon]
    for thread in left:
        thread.join(timeout=5)
    names = [t.name for t in left if t.is_alive()]
    if names:
        pytest.fail(f"non-daemon threads left behind: {names}: close what started them")


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real files beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data: {os.path.relpath(SHARED_DATA, ROOT)} does not exist")
    return SHARED_DATA


def _prepare_tfds(script: pathlib.Path, target: pathlib.Path) -> None:
    """Prepare the datasets beside `target`, then rename: nothing half-made is taken for whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(dir=target.parent))
    try:
        command = [sys.executable, str(script), str(scratch), *TFDS_NAMES]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise RuntimeError(f"{script.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        shutil.rmtree(scratch / "downloads", ignore_errors=True)
        try:
            scratch.rename(target)
        except OSError:  # another run was first
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="module")
def quiet_tfds() -> Iterator[None]:
    """TFDS without its progress bars."""
    tfds = pytest.importorskip("tensorflow_datasets")
    tfds.disable_progress_bar()
    yield
    tfds.enable_progress_bar()


@pytest.fixture(scope="session")
def tfds_dir(shared_data: pathlib.Path, pytestconfig: pytest.Config) -> pathlib.Path:
    """A TFDS data_dir in pytest's cache folder: mnist, clinc_oos, xquad/en, tf_flowers (250 photos)."""
    pytest.importorskip("tensorflow_datasets")
    script = shared_data / "prepare_tfds.py"
    if not script.is_file():
        pytest.skip(f"no real data: {os.path.relpath(script, ROOT)} does not exist")
    from importlib.metadata import version

    key = "\n".join((script.read_text(), *TFDS_NAMES, version("tensorflow-datasets")))
    cache = pytestconfig.cache.mkdir("tfjax-tfds")
    target = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not target.is_dir():
        _prepare_tfds(script, target)
    return target


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A TFDS data_dir that holds the built-in `digits`, prepared."""
    pytest.importorskip("sklearn")
    pytest.importorskip("tensorflow_datasets")
    import tfjax

    path = tmp_path_factory.mktemp("digits")
    tfjax.load("digits", split="train", data_dir=str(path))
    return path
