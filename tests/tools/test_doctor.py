"""`tfjax doctor`: its judgements as pure functions, and whole runs with everything, and with packages missing."""

import configparser
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import python_process
from tfjax.tools import cli
from tfjax.tools.doctor import as_text, devices, machine, packages
from tfjax.tools.doctor.finding import Finding, worst

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALL = {package.module: "9.9" for package in packages.PACKAGES} | {"jaxlib": "0.10.2", "keras": "3.15.1"}


def by_name(done):
    report = json.loads(done.stdout)  # one JSON object and nothing else
    assert {key for finding in report["findings"] for key in finding} == {"name", "status", "value", "fix"}
    return report, {finding["name"]: finding for finding in report["findings"]}


def test_json_of_a_sound_machine():
    pytest.importorskip("tensorflow")
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-m", "tfjax", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    report, found = by_name(done)
    assert done.returncode == 0, [f for f in report["findings"] if f["status"] == "error"]
    assert found["python"]["value"] == ".".join(map(str, sys.version_info[:3]))
    assert found["jax devices"]["value"] == {"cpu: cpu": 4}
    assert found["tensorflow devices"]["value"]["held"] == 0
    assert found["memory alignment"]["value"]["bytes"] >= 64
    for name in ("zero-copy", "zero-copy, 4 shards"):
        outcomes = found[name]["value"]
        assert set(outcomes) == set(devices._DTYPES)
        assert {dtype for dtype, outcome in outcomes.items() if outcome != "shared"} == {
            "int64",
            "uint64",
            "float64",
            "complex128",
        }
        assert outcomes["int64"] == "shared as int32"
    assert found["cores"]["value"]["usable"] == len(os.sched_getaffinity(0))
    assert 0 < found["memory"]["value"]["available_bytes"] <= found["memory"]["value"]["total_bytes"]
    assert found["index cache"]["value"]["path"].startswith(os.environ["XDG_CACHE_HOME"])


def test_as_lines(capsys):
    pytest.importorskip("tensorflow")
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok") and "jax devices" in line for line in lines)
    assert not any(line.startswith("ERROR") for line in lines)


def test_something_wrong_ends_with_1(monkeypatch, capsys):
    pytest.importorskip("keras")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert cli.main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "error"
    wrong = [finding for finding in report["findings"] if finding["status"] == "error"]
    assert [finding["name"] for finding in wrong] == ["keras backend"]
    assert "KERAS_BACKEND=jax" in wrong[0]["fix"]


def test_tfds_without_what_it_does_not_declare_fails(monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setitem(sys.modules, "importlib_resources", None)
    wrong = [finding for finding in packages.check_packages() if finding.status == "error"]
    assert [(finding.name, finding.fix) for finding in wrong] == [("tfds", "pip install 'tfjax[tfds]'")]


BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from tfjax.tools.cli import main
sys.exit(main(["doctor", {flag}]))
"""


@pytest.mark.parametrize(
    ("blocked", "extras"),
    [
        (("tensorflow", "keras", "flax", "rich"), ("tf", "keras", "flax", "cli")),
        (("tensorflow_datasets", "equinox", "haiku", "orbax", "grain"), ("tfds", "equinox", "haiku")),
    ],
)
def test_what_is_missing_is_named_and_does_not_fail(blocked, extras):
    done = python_process.run(BLOCK.format(blocked=blocked, flag='"--json"'))
    report, found = by_name(done)
    assert done.returncode == 0, report
    fixes = {finding["fix"] for finding in found.values() if finding["status"] == "missing"}
    assert {f"pip install 'tfjax[{extra}]'" for extra in extras} <= fixes
    assert ("zero-copy" in found) == ("tensorflow" not in blocked)


def test_without_rich_there_are_lines():
    done = python_process.run(BLOCK.format(blocked=("rich", "tensorflow"), flag=""))
    assert done.returncode == 0
    assert "pip install 'tfjax[tf]'" in done.stdout


RAISED = {
    "protobuf": ("tensorflow", "raise TypeError('Descriptors cannot be created directly.\\nmore')", "TypeError: Desc"),
    "a library": ("tensorflow", "raise OSError('libx.so.1: cannot open')", "OSError: libx.so.1: cannot open"),
    "no member": ("tensorflow", "from types import x", "ImportError: cannot import name"),
    "a part": ("tensorflow", "import google_absent", "ModuleNotFoundError: No module named 'google_absent'"),
    "another numpy": ("jax", "raise AttributeError('_ARRAY_API not found')", "AttributeError: _ARRAY_API not found"),
    "numpy": ("numpy", "raise ValueError('numpy.dtype size changed')", "ValueError: numpy.dtype size changed"),
    "jaxlib": ("jaxlib", "raise OSError('libjax_common.so: no')", "OSError: libjax_common.so: no"),
    "a parent": ("orbax", "raise RuntimeError('no orbax')", "RuntimeError: no orbax"),
}
# Compiled modules of JAX word what NumPy raises in their own way.
NAMES = {"tensorflow": "tensorflow devices", "numpy": "tensorflow devices", "orbax": "orbax.checkpoint"}


@pytest.mark.parametrize("name", RAISED)
def test_what_an_import_raises_is_a_finding(name, tmp_path):
    package, code, words = RAISED[name]
    for module, body in ((package, code), ("rich", "raise TypeError('no rich')")):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text(body)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tfjax", "doctor"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert "cli.py" not in done.stderr, "no traceback of ours; compiled modules print some of their own"
    report, found = by_name(done)
    assert (done.returncode, report["status"]) == (1, "error")
    finding = found[NAMES.get(package, "jax devices")]
    assert (finding["status"], finding["value"][: len(words)]) == ("error", words)
    assert "more" not in finding["value"] and finding["fix"]
    assert "cores" in found, "the rest is looked at"


# The judgements.


def test_all_is_well():
    assert worst(packages.combinations(ALL, "jax", None)) == "ok"


@pytest.mark.parametrize(
    ("changes", "backend", "in_file", "name", "status", "fix"),
    [
        ({"importlib_resources": None}, None, None, "tfds", "error", "tfjax[tfds]"),
        ({"tensorflow": None}, None, None, "tfds", "warning", "tfjax[tf]"),
        ({"keras": "3.6.0"}, None, None, "keras data", "error", "tfjax[keras]"),
        ({"keras": "2.15.0"}, None, None, "keras data", "error", "tfjax[keras]"),
        ({}, "tensorflow", None, "keras backend", "error", "KERAS_BACKEND=jax"),
        ({}, None, "torch", "keras backend", "warning", "KERAS_BACKEND=jax"),
        ({"jaxlib": "0.11.0"}, None, None, "jaxlib handoff", "warning", "nothing breaks"),
    ],
)
def test_combinations(changes, backend, in_file, name, status, fix):
    found = [f for f in packages.combinations({**ALL, **changes}, backend, in_file) if f.status != "ok"]
    assert [(f.name, f.status) for f in found] == [(name, status)]
    assert fix in found[0].fix


def test_a_keras_that_is_not_there_has_no_backend():
    assert worst(packages.combinations({**ALL, "keras": None}, "torch", "torch")) == "ok"


@pytest.mark.parametrize(
    ("version", "has_tensorflow", "status"),
    [((3, 10, 1), True, "error"), ((3, 11, 0), False, "ok"), ((3, 14, 0), False, "warning"), ((3, 14, 0), True, "ok")],
)
def test_python(version, has_tensorflow, status):
    assert packages.python(version, has_tensorflow=has_tensorflow).status == status


def test_requirements_that_are_not_met():
    pytest.importorskip("packaging")
    declared = {
        "tensorflow": ["protobuf<8.0.0,>=6.31.1", "numpy>=1.26", "absent>=1", "odd>9; sys_platform == 'plan9'"],
        "tfjax": ["numpy>=2.0", "keras>=3.12; extra == 'keras'", "absent>=1; extra == 'dev'"],
        "other": ["keras>=99; extra == 'test'"],
    }
    versions = {"Protobuf": "5.0", "numpy": "2.4", "keras": "3.10", "odd": "1"}
    found = packages.conflicts(declared, versions)
    assert [(f.status, f.value) for f in found] == [
        ("error", "tensorflow needs protobuf<8.0.0,>=6.31.1, and 5.0 is installed"),
        ("error", "tfjax needs keras>=3.12, and 3.10 is installed"),
    ]


def test_each_package_names_an_extra_that_there_is():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = set(settings["options.extras_require"])
    assert {package.extra for package in packages.PACKAGES} - {""} <= extras


@pytest.mark.parametrize(
    ("visible", "held", "status"),
    [({"GPU": 0}, {"GPU": 0}, "ok"), ({"GPU": 1}, {"GPU": 0}, "error"), ({"GPU": 0}, {"GPU": 2}, "error")],
)
def test_tensorflow_leaves_accelerators_alone(visible, held, status):
    finding = devices.accelerators({"GPU": 2}, visible, held)
    assert finding.status == status
    assert ("set_visible_devices([], 'GPU')" in finding.fix) == (status == "error")


@pytest.mark.parametrize(
    ("kinds", "flags", "nvidia", "status"),
    [
        ({"cpu: cpu": 1}, "", False, "ok"),
        ({"cpu: cpu": 1}, "", True, "warning"),
        ({"gpu: H200": 1}, "", True, "ok"),
        ({"cpu: cpu": 8}, "", False, "warning"),
        ({"cpu: cpu": 8}, "--xla_cpu_collective_call_terminate_timeout_seconds=600", False, "ok"),
    ],
)
def test_jax_devices(kinds, flags, nvidia, status):
    assert devices.devices_finding(kinds, 2, flags, nvidia=nvidia).status == status


def test_alignment_and_copies():
    assert devices.alignment(64).status == "ok"
    assert devices.alignment(16).status == "warning"
    finding = devices.zero_copy_finding("zero-copy", {"bool": "copied", "int8": "shared"})
    assert (finding.status, finding.fix.partition(":")[0]) == ("warning", "bool")


def test_cores():
    assert machine.cores(2, 4, None, None).value == {"usable": 2, "total": 4, "quota": None}
    assert machine.cores(64, 64, 2.0, (0, 8)) == Finding(
        "cores",
        "warning",
        {"usable": 64, "total": 64, "quota": 2.0, "tf_inter_op": 64, "tf_intra_op": 8},
        "TensorFlow and XLA start 64 threads for 2 cores: bind the process with taskset or cpuset",
    )


@pytest.mark.parametrize(
    ("given", "total", "available", "status"),
    [
        ((64, 32, None, None), 64, 32, "ok"),
        ((64, 32, 16, 4), 16, 12, "ok"),
        ((64, 8, 16, 4), 16, 8, "ok"),
        ((64, 32, 16, 16), 16, 0, "warning"),
        ((None, None, None, None), None, None, "ok"),
    ],
)
def test_memory(given, total, available, status):
    finding = machine.memory(*(None if x is None else x * 2**30 for x in given))
    expected = {"total_bytes": total, "available_bytes": available}
    assert finding.value == {k: None if v is None else v * 2**30 for k, v in expected.items()}
    assert finding.status == status


def test_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(bytes(1000))
    finding = machine.folder("cache", tmp_path)
    assert (finding.status, finding.value["bytes"]) == ("ok", 1000)
    assert machine.folder("cache", tmp_path / "not" / "there").value["bytes"] == 0
    assert machine.folder("cache", None).status == "warning"


def test_limits_of_a_group():
    assert machine.quota_cores("max 100000") is None
    assert machine.quota_cores("-1 100000") is None
    assert machine.quota_cores("50000 100000") == 0.5
    assert machine.meminfo("MemAvailable:  3 kB\nHugePages_Total: 0\n") == {"MemAvailable": 3072}


def test_text_of_a_value():
    assert as_text(None) == "-"
    assert as_text({"a": "x", "b": "x", "c": 1, "bytes": 2048}) == "a, b: x; c: 1; 2.0 KiB"
