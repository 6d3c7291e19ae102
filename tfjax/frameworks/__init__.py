"""One module a framework: `linen`, `nnx`, `equinox`, `haiku`, `keras`. Import the one you use.

Each imports its own library only, and has the same functions: `small_cnn`, `create_state`, `parameters`,
`train_step`, `eval_step`. This package imports none of them.
"""
