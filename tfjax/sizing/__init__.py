"""How much memory a step takes, and which batch size fits: by what XLA compiles first, by a run second."""
