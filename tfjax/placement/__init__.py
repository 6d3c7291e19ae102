"""From host pytrees to sharded jax.Arrays, prefetched. Never imports TensorFlow."""
