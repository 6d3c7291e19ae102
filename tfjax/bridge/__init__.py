"""From TensorFlow's memory to JAX's: one tensor, one tree, one iterator. The only room that imports both."""
