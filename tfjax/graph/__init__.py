"""Stages to tf.data: order and seeds, per-example functions, batches, caches and options. Never imports JAX."""
