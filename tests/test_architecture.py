"""The laws of `tests/architecture/laws.py` hold for tfjax, and each fails on a package that breaks it."""

import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

import tfjax
from tests.architecture import laws

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAWS = (laws.flow, laws.libraries, laws.one_framework_a_file, laws.length, laws.no_assert)
# (law, file of a package named tfjax, its text, what the complaint says)
BROKEN = [
    (laws.flow, "sources/a.py", "import tfjax.graph.order", "a.py:1 imports tfjax.graph.order"),
    (laws.flow, "graph/a.py", "def f():\n    from ..bridge import tree", "a.py:2 imports tfjax.bridge.tree"),
    (laws.flow, "placement/a.py", "from tfjax import load", "may import only sources, ops, graph, bridge"),
    (laws.flow, "bridge/a.py", "from tfjax import pipeline", "imports tfjax.pipeline"),
    (laws.flow, "root.py", "from tfjax.frameworks import fit", "root.py:1 imports tfjax.frameworks.fit"),
    (laws.libraries, "sources/a.py", "import jax.numpy as jnp", "sources never imports JAX"),
    (laws.libraries, "graph/a.py", "def f():\n    from jax import tree", "graph never imports JAX"),
    (
        laws.libraries,
        "graph/a.py",
        "import importlib as i\ni.import_module('jax')",
        "graph never imports JAX",
    ),
    (
        laws.libraries,
        "placement/a.py",
        "from tfjax._tensorflow import tf",
        "placement never imports TensorFlow",
    ),
    (laws.libraries, "pipeline.py", "import jax\nfrom ._tensorflow import tf", "only bridge imports both"),
    (laws.libraries, "graph/a.py", "import tensorflow as tf", "use `from tfjax._tensorflow import tf`"),
    (laws.one_framework_a_file, "frameworks/a.py", "import flax.nnx\nimport equinox", "['equinox', 'flax']"),
    (laws.one_framework_a_file, "frameworks/in/a.py", "import keras\nimport haiku", "['haiku', 'keras']"),
    (
        laws.one_framework_a_file,
        "bridge/a.py",
        "def f():\n    import keras",
        "tfjax/bridge/a.py imports ['keras']",
    ),
    (laws.length, "graph/a.py", "\n" * 351, "351 lines, over 350"),
    (laws.no_assert, "graph/a.py", "def f(x):\n    assert x", "a.py:2: assert"),
]
KEPT = [
    ("graph/a.py", "from tfjax.sources import base\nfrom tfjax._tensorflow import tf\nfrom .. import root"),
    ("graph/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jax"),
    ("bridge/a.py", "import jax\nfrom tfjax._tensorflow import tf"),
    ("pipeline.py", "import jax\nfrom tfjax.bridge import tree"),
]
# Loads tfjax in a process of its own and says what came with it.
PROBE = """
import json, sys, threading
import tfjax
bridge = sys.modules.get("jax._src.xla_bridge")
print(json.dumps({
    "modules": sorted(sys.modules),
    "threads": [thread.name for thread in threading.enumerate()],
    "backend": bool(bridge and bridge.backends_are_initialized()),
}))
"""
NOT_AT_IMPORT = {"tensorflow", "tensorflow_datasets", "flax", "keras", "equinox", "haiku"}


def package_with(folder: pathlib.Path, file: str, text: str) -> pathlib.Path:
    """A package named tfjax with every folder of the flow, of which one file has the given text."""
    package = folder / "tfjax"
    for unit in laws.FLOW:
        (package / unit).mkdir(parents=True)
        (package / unit / "__init__.py").write_text('"""Empty."""\n')
    for module in ("__init__", "root", "pipeline", "_tensorflow"):
        (package / f"{module}.py").write_text("")
    (package / "sources" / "uses_root.py").write_text("from tfjax import root\n")
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text(text)
    return package


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_holds(law: Callable[[pathlib.Path], list[str]]):
    complaints = law(ROOT / "tfjax")
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(("law", "file", "text", "said"), BROKEN)
def test_law_can_fail(law, file, text, said, tmp_path):
    complaints = law(package_with(tmp_path, file, text))
    assert any(said in complaint for complaint in complaints), complaints


@pytest.mark.parametrize(("file", "text"), KEPT)
def test_laws_allow_what_they_should(file, text, tmp_path):
    package = package_with(tmp_path, file, text)
    assert not [complaint for law in LAWS for complaint in law(package)]


def loaded_by_import() -> dict:
    """What `import tfjax` brings into a fresh process."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_loads_no_framework_thread_or_backend():
    loaded = loaded_by_import()
    assert not NOT_AT_IMPORT & {name.partition(".")[0] for name in loaded["modules"]}
    assert loaded["threads"] == ["MainThread"]
    assert not loaded["backend"]


def documented_names() -> set[str]:
    """Names in the README's section "Public names": the first code span of each table row or list item."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Public names\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    assert section, 'README.md has no section "## Public names"'
    return set(re.findall(r"^(?:\| *|[-*] +)`(?:tfjax\.)?([A-Za-z]\w*)", section[1], re.MULTILINE))


def test_public_names_are_the_documented_ones():
    public = {name for name in tfjax.__all__ if not name.startswith("__")}
    documented = documented_names()
    assert public == documented, f"only public: {public - documented}; only in README: {documented - public}"


def test_dir_shows_the_public_names():
    assert set(tfjax.__all__) <= set(dir(tfjax))


def test_public_names_have_a_docstring_with_an_example():
    public = [name for name in tfjax.__all__ if not name.startswith("__")]
    without = [name for name in public if ">>> " not in (getattr(tfjax, name).__doc__ or "")]
    assert not without, f"no docstring with an example: {without}"
