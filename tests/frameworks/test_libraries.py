"""Which library each framework's file imports, and what is said of one that is not there."""

import importlib
import sys

import pytest

from tests import python_process
from tests.frameworks.cases import LIBRARIES


def test_each_imports_its_own_library_alone():
    """In this order, as Haiku itself imports Flax where that is installed."""
    code = f"""
import importlib, sys
libraries = {LIBRARIES!r}
for name in ("equinox", "keras", "linen", "nnx", "haiku"):
    before = set(sys.modules)
    importlib.import_module(f"tfjax.frameworks.{{name}}")
    new = (set(sys.modules) - before) & {{*libraries.values(), "tensorflow", "torch"}}
    assert new <= {{libraries[name]}}, (name, new)
"""
    done = python_process.run(code, timeout_s=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_names_the_extra(name, monkeypatch):
    library = LIBRARIES[name]
    for module in [m for m in sys.modules if m.startswith("tfjax.frameworks.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"tfjax\.frameworks\.{name} needs .*pip install 'tfjax\[{library}\]'"):
        importlib.import_module(f"tfjax.frameworks.{name}")
