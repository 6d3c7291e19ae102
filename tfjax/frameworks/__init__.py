"""One module a framework: `linen`, `nnx`, `equinox`, `haiku`, `keras`. Import the one you use.

Each imports its own library only, and has the same functions: `small_cnn`, `create_state`,
`train_step`, `eval_step`, `to_model`. This package imports none of them.
"""
