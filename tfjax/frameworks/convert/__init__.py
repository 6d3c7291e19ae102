"""Parameters from one framework to another: Dense, Conv, ConvTranspose, Embed, norms, attention, GRU and LSTM cells.

`transfer(source, target)` takes two models, each a `Model` of `linen`, `nnx`, `equinox`, `haiku` or `keras` in this
package; import those that you use. `pairs` says which layer goes where, and `model.read()` what layers there are.

>>> import jax, jax.numpy as jnp
>>> from flax import linen as nn, nnx as flax_nnx
>>> from tfjax.frameworks.convert import linen, nnx, transfer
>>> x, module = jnp.ones((1, 3)), nn.Dense(2)
>>> variables = module.init(jax.random.key(0), x)
>>> layer = transfer(linen.Model(module, variables, (x,)), nnx.Model(flax_nnx.Linear(3, 2, rngs=flax_nnx.Rngs(0))))
>>> jnp.allclose(layer(x), module.apply(variables, x)).item()
True
"""

from tfjax.frameworks.convert._layer import Layer as Layer
from tfjax.frameworks.convert._layer import Model as Model
from tfjax.frameworks.convert._transfer import pairs as pairs
from tfjax.frameworks.convert._transfer import transfer as transfer
