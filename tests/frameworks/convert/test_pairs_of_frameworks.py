"""Outputs agree within 1e-5 after a transfer, for every ordered pair of frameworks and every kind of layer."""

import functools
import itertools

import numpy as np
import pytest

from tests.frameworks.convert.layers import KINDS, NAMES, Config, filled, fresh

PAIRS = list(itertools.permutations(NAMES, 2))
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def config_of(kind):
    return Config(inputs=4, groups=2) if kind == "group_norm" else Config()


@functools.cache
def source(framework, kind):
    """A layer with random values, and its outputs; computed once for the pairs that begin with it."""
    # nnx has no bias inside the product with r, and the others can do without.
    case = filled(framework, kind, config_of(kind), without=("hidden_bias",))
    return case, case.outputs()


@functools.cache
def target(framework, kind):
    return fresh(framework, kind, config_of(kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gru"])
@pytest.mark.parametrize(("of", "to"), PAIRS)
def test_outputs_agree(of, to, kind):
    case, expected = source(of, kind)
    np.testing.assert_allclose(target(to, kind).received(case).outputs(), expected, **TOLERANCE)


@pytest.mark.parametrize(("of", "to"), [pair for pair in PAIRS if "haiku" not in pair])
def test_outputs_of_a_gru_agree(of, to):
    case, expected = source(of, "gru")
    np.testing.assert_allclose(target(to, "gru").received(case).outputs(), expected, **TOLERANCE)


@pytest.mark.parametrize(("of", "to"), list(itertools.permutations(("linen", "equinox", "keras"), 2)))
def test_a_gru_keeps_the_bias_inside_the_product(of, to):
    case = filled(of, "gru", Config())
    np.testing.assert_allclose(fresh(to, "gru", Config()).received(case).outputs(), case.outputs(), **TOLERANCE)


@pytest.mark.parametrize(("of", "to"), [("haiku", "keras"), ("keras", "haiku")])
def test_a_gru_of_haiku_is_one_of_keras_that_resets_before(of, to):
    config = Config(reset="before")
    case = filled(of, "gru", config)
    np.testing.assert_allclose(fresh(to, "gru", config).received(case).outputs(), case.outputs(), **TOLERANCE)


@pytest.mark.parametrize("other", ["linen", "nnx", "equinox", "keras"])
def test_a_gru_of_haiku_is_no_other(other):
    haiku, case = fresh("haiku", "gru", Config()), fresh(other, "gru", Config())
    with pytest.raises(ValueError, match="reset is after in the target and before in the source"):
        case.received(haiku)
    with pytest.raises(ValueError, match="reset is before in the target and after in the source"):
        haiku.received(case)


@pytest.mark.parametrize("of", ["linen", "equinox", "keras"])
def test_a_gru_of_nnx_has_no_bias_inside_the_product(of):
    with pytest.raises(ValueError, match="the target has no hidden_bias, and that of the source is not 0 everywhere"):
        fresh("nnx", "gru", Config()).received(filled(of, "gru", Config()))
