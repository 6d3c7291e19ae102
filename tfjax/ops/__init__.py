"""What is done to an example inside the graph: frozen dataclasses of TensorFlow ops."""
