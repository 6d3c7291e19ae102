"""The digest of a run's parameters."""

import jax.numpy as jnp

from tfjax.tools.result import parameters_sha256


def test_the_digest_sees_bits_shapes_and_dtypes():
    zeros = jnp.zeros((2, 3))
    same = [parameters_sha256({"w": zeros}), parameters_sha256([jnp.zeros((2, 3))])]
    others = [zeros.at[0, 0].set(-0.0), zeros.reshape(3, 2), jnp.zeros((2, 3), jnp.int32)]
    assert same[0] == same[1]
    assert len({same[0], *(parameters_sha256(other) for other in others)}) == 4
