"""Which packages are there, in which versions, and which do not go together; none of them is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfjax.tools.doctor.finding import Finding, failed

_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-rocm", "tensorflow-macos", "tf-nightly")
_LEAST_PYTHON, _LAST_PYTHON_OF_TENSORFLOW = (3, 11), (3, 13)  # the latter of TensorFlow 2.21
_LEAST_KERAS = (3, 7)  # the first whose `fit` takes a DataAdapter as it is


@dataclass(frozen=True)
class Package:
    """A package that tfjax uses.

    Args:
        module: what is imported.
        names: distributions that it comes in.
        extra: of tfjax, that installs it; empty where tfjax requires it.
    """

    module: str
    names: tuple[str, ...]
    extra: str = ""


PACKAGES = (
    Package("jax", ("jax",)),
    Package("jaxlib", ("jaxlib",)),
    Package("numpy", ("numpy",)),
    Package("tensorflow", _TENSORFLOWS, "tf"),
    Package("tensorflow_datasets", ("tensorflow-datasets", "tfds-nightly"), "tfds"),
    Package("importlib_resources", ("importlib_resources",), "tfds"),
    Package("keras", ("keras", "keras-nightly"), "keras"),
    Package("flax", ("flax",), "flax"),
    Package("equinox", ("equinox",), "equinox"),
    Package("haiku", ("dm-haiku",), "haiku"),
    Package("optax", ("optax",), "flax"),
    Package("orbax.checkpoint", ("orbax-checkpoint",), "flax"),
    Package("grain", ("grain",), "grain"),
    Package("array_record", ("array_record",), "array_record"),
    Package("sklearn", ("scikit-learn",), "digits"),
    Package("rich", ("rich",), "cli"),
    Package("matplotlib", ("matplotlib",), "cli"),
)


def check_packages() -> list[Finding]:
    """Everything about packages."""
    versions: dict[str, str | None] = {}
    found = []
    for package in PACKAGES:
        try:
            versions[package.module] = installed(package)
            found.append(package_finding(package, versions[package.module]))
        except Exception as error:  # noqa: BLE001 - to find what is inside of a package, Python imports that
            fix = f"pip install --force-reinstall {package.names[0]}"
            versions[package.module] = None
            found.append(failed(package.module, error, fix))
    return [
        python(sys.version_info[:3], has_tensorflow=versions["tensorflow"] is not None),
        *found,
        *combinations(versions, os.environ.get("KERAS_BACKEND"), keras_file_backend()),
        *conflicts(*_requirements()),
        *twice([name for name in _TENSORFLOWS if _version(name) is not None]),
    ]


def installed(package: Package) -> str | None:
    """The version of a package; "unknown" where its files tell none, None where it cannot be imported."""
    try:
        spec = importlib.util.find_spec(package.module)
    except (ModuleNotFoundError, ValueError):
        return None
    if spec is None:
        return None
    return next(filter(None, map(_version, package.names)), "unknown")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def python(version: Sequence[int], *, has_tensorflow: bool) -> Finding:
    """Whether Python is one for which tfjax and TensorFlow are made.

    >>> python((3, 14, 0), has_tensorflow=False).status
    'warning'
    """
    text = ".".join(map(str, version))
    if tuple(version[:2]) < _LEAST_PYTHON:
        return Finding("python", "error", text, "use Python 3.11 or later")
    if tuple(version[:2]) > _LAST_PYTHON_OF_TENSORFLOW and not has_tensorflow:
        return Finding("python", "warning", text, "TensorFlow 2.21 has wheels for Python up to 3.13: use that, or none")
    return Finding("python", "ok", text)


def package_finding(package: Package, version: str | None) -> Finding:
    """Whether a package is there."""
    if version is not None:
        return Finding(package.module, "ok", version)
    if not package.extra:
        return Finding(package.module, "error", None, "pip install tfjax")
    return Finding(package.module, "missing", None, f"pip install 'tfjax[{package.extra}]'")


def combinations(
    versions: Mapping[str, str | None], keras_backend: str | None, keras_file: str | None
) -> list[Finding]:
    """What does not work together, though each package lets pip install it.

    Args:
        versions: by module; None for what is not there.
        keras_backend: the environment's KERAS_BACKEND.
        keras_file: the backend that Keras's settings file names.
    """
    found = []
    if versions.get("tensorflow_datasets") and not versions.get("importlib_resources"):
        found.append(_tfds_without_resources())
    if versions.get("tensorflow_datasets") and not versions.get("tensorflow"):
        found.append(Finding("tfds", "warning", "without tensorflow", "pip install 'tfjax[tf]': load reads through it"))
    keras = versions.get("keras")
    if keras:
        found += _keras(keras, keras_backend, keras_file)
    jaxlib = versions.get("jaxlib")
    if jaxlib:
        found.append(jaxlib_finding(jaxlib))
    return found


def _tfds_without_resources() -> Finding:
    what = "without importlib_resources, which it needs and does not declare"
    return Finding("tfds", "error", what, "pip install 'tfjax[tfds]'")


def _keras(version: str, backend: str | None, in_file: str | None) -> list[Finding]:
    found = []
    if _numbers(version) < _LEAST_KERAS:
        what = f"{version} takes no data adapter in fit, so to_keras does not work"
        found.append(Finding("keras data", "error", what, "pip install 'tfjax[keras]'"))
    if backend not in (None, "jax"):
        fix = "set KERAS_BACKEND=jax: to_keras hands over jax.Arrays"
        found.append(Finding("keras backend", "error", backend, fix))
    elif backend is None and in_file not in (None, "jax"):
        fix = "set KERAS_BACKEND=jax, or import tfjax.frameworks.keras before keras"
        found.append(Finding("keras backend", "warning", f"{in_file} in its settings file", fix))
    return found


def keras_file_backend() -> str | None:
    """The backend in Keras's settings file, if there is one."""
    home = pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path("~/.keras").expanduser())
    try:
        settings = json.loads((home / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    backend = settings.get("backend") if isinstance(settings, dict) else None
    return backend if isinstance(backend, str) else None


def jaxlib_finding(version: str) -> Finding:
    """Whether jaxlib's private functions are those that the handoff was tested with."""
    from tfjax._jaxlib import TESTED

    if version.startswith(TESTED):
        return Finding("jaxlib handoff", "ok", "its own import of tensors")
    fix = f"nothing breaks; jaxlib {' or '.join(f'{v}*' for v in TESTED)} hands a leaf over about 10 us sooner"
    return Finding("jaxlib handoff", "warning", f"jaxlib {version} is not tested: the public import is used", fix)


def twice(names: Sequence[str]) -> list[Finding]:
    """Distributions that write the same files.

    >>> [finding.status for finding in twice(["tensorflow", "tensorflow-cpu"])]
    ['warning']
    """
    if len(names) < 2:
        return []
    fix = f"uninstall all of them and install one: pip uninstall {' '.join(names)}"
    return [Finding("tensorflow twice", "warning", ", ".join(names), fix)]


def _requirements() -> tuple[dict[str, list[str]], dict[str, str]]:
    """What tfjax and its packages declare, by distribution, and the versions of all that they name."""
    names = ["tfjax", *(name for package in PACKAGES for name in package.names)]
    declared = {name: importlib.metadata.requires(name) or [] for name in names if _version(name) is not None}
    return declared, {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}


def conflicts(declared: Mapping[str, Sequence[str]], versions: Mapping[str, str]) -> list[Finding]:
    """Installed versions outside of what a package declares that it works with, as `pip check` finds them.

    Args:
        declared: requirements by distribution; those of tfjax's extras hold for what is installed.
        versions: of installed distributions, by name.
    """
    try:
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name
    except ImportError:
        return [Finding("requirements", "missing", "not checked", "pip install packaging")]
    known = {canonicalize_name(name): version for name, version in versions.items()}
    found = []
    for name, lines in declared.items():
        for requirement in map(Requirement, lines):
            version = known.get(canonicalize_name(requirement.name))
            extra = requirement.marker is not None and "extra" in str(requirement.marker)
            applies = requirement.marker is None or (name == "tfjax" if extra else requirement.marker.evaluate())
            if applies and version and not requirement.specifier.contains(version, prereleases=True):
                needs = f"{requirement.name}{requirement.specifier}"
                what = f"{name} needs {needs}, and {version} is installed"
                found.append(Finding("requirements", "error", what, f"pip install '{needs}'"))
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
