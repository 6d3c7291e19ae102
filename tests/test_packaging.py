"""The metadata: no extra but `tf` and `all` reaches TensorFlow, and what is installed is what setup.cfg says.

The proof walks the requirements of the installed distributions, for this machine and for others by their
markers. It needs no network; `make extras-dry-run` asks pip itself.
"""

import configparser
import pathlib
from importlib import metadata

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
EXTRAS = {name: text.split("\n") for name, text in CONFIG["options.extras_require"].items()}
WITH_TENSORFLOW = {"tf", "all"}
LINUX = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
}
ARM = {**LINUX, "platform_machine": "aarch64"}
MAC = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"}


def is_tensorflow(name: str) -> bool:
    """Whether a distribution is TensorFlow under one of its names; tensorflow-datasets is not."""
    variants = {f"tensorflow-{v}" for v in ("cpu", "gpu", "intel", "macos", "rocm", "aarch64", "cpu-aws")}
    return name == "tensorflow" or name in variants or name.startswith("tf-nightly")


def requirements_of(name: str) -> list[Requirement] | None:
    """What a distribution requires: tfjax by setup.cfg, others as installed; None for one that is absent."""
    if name == "tfjax":
        lines = CONFIG["options"]["install_requires"].split("\n")
        base = [Requirement(line) for line in lines if line]
        return base + [_with_extra(line, extra) for extra, lines in EXTRAS.items() for line in lines if line]
    try:
        return [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return None


def _with_extra(line: str, extra: str) -> Requirement:
    """A line of an extra in setup.cfg, as it stands in the metadata of a wheel."""
    head, _, marker = line.partition(";")
    condition = f'extra == "{extra}"'
    return Requirement(f"{head}; ({marker}) and {condition}" if marker else f"{head}; {condition}")


def reached(extra: str, machine: dict[str, str]) -> dict[str, str]:
    """Every distribution that tfjax[extra] pulls in on a machine, with the one that asked for it."""
    asked_by, waiting, seen = {}, [("tfjax", frozenset({extra}))], set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        environments = [{**default_environment(), **machine, "extra": e} for e in (extras or {""})]
        for requirement in requirements_of(name) or []:
            if not requirement.marker or any(requirement.marker.evaluate(e) for e in environments):
                child = canonicalize_name(requirement.name)
                asked_by.setdefault(child, name)
                waiting.append((child, frozenset(requirement.extras)))
    return asked_by


def test_extras_are_the_documented_ones():
    assert set(EXTRAS) == {
        "tf",
        "tfds",
        "flax",
        "equinox",
        "haiku",
        "keras",
        "digits",
        "array_record",
        "grain",
        "cli",
        "all",
        "dev",
    }


def test_all_is_the_union_of_the_others():
    everything = reached("all", LINUX)
    for extra in set(EXTRAS) - {"all", "dev"}:
        missing = set(reached(extra, LINUX)) - set(everything)
        assert not missing, f"tfjax[all] lacks {missing} of tfjax[{extra}]"


@pytest.mark.parametrize("machine", [LINUX, ARM, MAC], ids=["linux-x86_64", "linux-aarch64", "mac-arm64"])
@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_only_tf_and_all_reach_tensorflow(extra, machine):
    asked_by = reached(extra, machine)
    found = {name: by for name, by in asked_by.items() if is_tensorflow(name)}
    if extra in WITH_TENSORFLOW:
        assert set(found) == {"tensorflow-cpu" if machine == LINUX else "tensorflow"}
    else:
        assert not found, f"tfjax[{extra}] reaches TensorFlow: {found}"


@pytest.mark.parametrize("extra", sorted(set(EXTRAS) - WITH_TENSORFLOW))
def test_the_walk_saw_every_requirement(extra):
    absent = {name for name in reached(extra, {}) if name != "tfjax" and requirements_of(name) is None}
    if absent:
        pytest.skip(f"tfjax[{extra}] is not installed whole, the proof ends at {sorted(absent)}")


def test_the_walk_can_find_tensorflow(monkeypatch):
    monkeypatch.setitem(EXTRAS, "flax", ["tensorflow-datasets[tensorflow]"])
    assert is_tensorflow("tensorflow") and "tensorflow" in reached("flax", LINUX)


@pytest.mark.parametrize("extra", ["flax", "equinox", "haiku", "keras"])
def test_frameworks_bring_optax_and_orbax(extra):
    assert {"optax", "orbax-checkpoint"} <= set(reached(extra, LINUX))


def test_tfds_brings_importlib_resources():
    assert "importlib-resources" in reached("tfds", LINUX)


def test_installed_metadata_is_that_of_setup_cfg():
    try:
        installed = metadata.distribution("tfjax")
    except metadata.PackageNotFoundError:
        pytest.skip("tfjax is not installed: pip install -e .")
    assert installed.version == CONFIG["metadata"]["version"]
    assert {canonicalize_name(e) for e in installed.metadata.get_all("Provides-Extra")} == set(
        map(canonicalize_name, EXTRAS)
    )
    scripts = {entry.name: entry.value for entry in installed.entry_points if entry.group == "console_scripts"}
    assert scripts == {"tfjax": "tfjax.tools.cli:main"}


def test_constraints_pin_every_requirement():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("#")}
    direct = {canonicalize_name(r.name) for r in requirements_of("tfjax") if r.name != "tfjax"}
    assert not direct - pins, f"constraints.txt does not pin {sorted(direct - pins)}"


def test_constraints_name_no_path_or_host():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert not [line for line in pins if "@" in line or "/" in line]
