"""How TensorFlow is brought in: lazily, with its accelerators hidden, and with a clear error where it is missing."""

import importlib
from typing import Any

import pytest

from tests import python_process
from tfjax._settings import Settings, configure


def visible(monkeypatch: pytest.MonkeyPatch, *, initialised: bool) -> list[str]:
    """Run the hiding against a TensorFlow that has accelerators."""
    import tensorflow as tf

    from tfjax import _tensorflow

    shown = {"GPU": ["GPU:0", "GPU:1"], "TPU": ["TPU:0"]}

    def hide(devices: list[str], kind: str) -> None:
        if initialised:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        shown[kind] = devices

    monkeypatch.setattr(tf.config, "set_visible_devices", hide)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: shown[kind])
    _tensorflow._hide_accelerators()
    return shown["GPU"] + shown["TPU"]


def test_accelerators_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible(monkeypatch, initialised=False) == []


def test_where_it_is_too_late_the_user_is_told_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(RuntimeWarning) as told:
        assert len(visible(monkeypatch, initialised=True)) == 3
    texts = [str(w.message) for w in told]
    assert len(texts) == 2
    assert all("set_visible_devices([], " in t and "earlier" in t for t in texts)
    assert "2 GPU device(s)" in texts[0] and "1 TPU device(s)" in texts[1]


def test_none_is_visible_here() -> None:
    import tensorflow as tf

    importlib.import_module("tfjax._tensorflow")
    assert [d for kind in ("GPU", "TPU") for d in tf.config.get_visible_devices(kind)] == []


@pytest.mark.parametrize("given", [None, 1, "no"], ids=repr)
def test_configure_takes_true_or_false(given: Any) -> None:
    with pytest.raises(TypeError, match=r"hide_tf_devices is .*True or False"):
        configure(hide_tf_devices=given)


def test_configure_after_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("tfjax._tensorflow")
    monkeypatch.setattr("tfjax._settings.settings", Settings())
    configure(hide_tf_devices=True)  # what holds already
    with pytest.raises(RuntimeError, match=r"hide_tf_devices=False\) came after .* True: call it before"):
        configure(hide_tf_devices=False)


FAKE = """
    import sys, types

    class Config:
        calls = []
        def set_visible_devices(self, devices, kind): self.calls.append(kind)
        def get_visible_devices(self, kind): return []

    fake = types.ModuleType("tensorflow")
    fake.config = Config()
    sys.modules["tensorflow"] = fake
    import tfjax
"""


def test_configure_before_first_use() -> None:
    done = python_process.run(
        FAKE
        + """
    tfjax.configure(hide_tf_devices=False)
    import tfjax._tensorflow
    print(Config.calls)
    """
    )
    assert done.stdout == "[]\n", done.stderr
    done = python_process.run(
        FAKE
        + """
    import tfjax._tensorflow
    print(Config.calls)
    """
    )
    assert done.stdout == "['GPU', 'TPU']\n", done.stderr


MISSING = """
    import sys
    sys.modules["tensorflow"] = None  # an import of it raises ImportError
    import numpy as np, tfjax
    for use in (lambda: tfjax.from_arrays(np.arange(3)), lambda: tfjax.load("digits"), lambda: tfjax.from_tf(None),
                lambda: tfjax.from_examples([1]), lambda: tfjax.from_records("x", {}), lambda: tfjax.to_jax(1)):
        try:
            use()
        except ImportError as error:
            print(error)
    from tfjax.placement.prefetch import Prefetcher
    print(list(Prefetcher(lambda: iter("ab"), size=1)))
"""


def test_without_tensorflow_the_error_names_the_extra() -> None:
    done = python_process.run(MISSING)
    *errors, last = done.stdout.splitlines()
    assert len(errors) == 6, done.stdout + done.stderr
    assert all("needs TensorFlow" in e and "pip install 'tfjax[tf]'" in e for e in errors)
    assert last == "['a', 'b']"


def test_importing_tfjax_imports_nothing_else() -> None:
    done = python_process.run("""
        import sys, threading, tfjax
        heavy = {"tensorflow", "tensorflow_datasets", "flax", "keras", "equinox", "haiku", "torch"} & set(sys.modules)
        print(sorted(heavy), threading.active_count(), tfjax.Pipeline.__name__)
    """)
    assert done.stdout == "[] 1 Pipeline\n", done.stderr
