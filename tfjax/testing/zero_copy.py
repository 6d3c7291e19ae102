"""Whether a batch reaches its devices without a copy on the host."""

from __future__ import annotations

from tfjax.pipeline import Pipeline
from tfjax.testing._checks import require_pipeline


def assert_zero_copy(pipe: Pipeline) -> None:
    """Every leaf of the first batch that goes to CPU devices lies in TensorFlow's own memory there.

    Read off the memory addresses of the placed batch, as `copy_report()` does; what `device_map` makes of it is new
    memory and not looked at. Leaves that are kept on the host are not either: strings become Python objects there.

    Args:
        pipe: any pipeline that yields something.

    Raises:
        AssertionError: a leaf was copied, or went to an accelerator, or all are kept on the host; shows the report.
        ValueError: an epoch yields nothing.
        TypeError: no Pipeline.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"x": np.zeros((8, 3), np.float32)}).batch(8)
        >>> tfjax.testing.assert_zero_copy(pipe)
    """
    require_pipeline("assert_zero_copy", pipe, "copy_report")
    report = pipe.copy_report()
    if all(leaf.outcome == "host" for leaf in report.leaves):
        raise AssertionError(f"no leaf goes to a device: all are kept on the host\n\n{report}")
    odd = [leaf for leaf in report.leaves if leaf.outcome not in ("shared", "host")]
    if not odd:
        return
    copied = ", ".join(leaf.path for leaf in odd if leaf.outcome != "transferred")
    said = [f"{copied}: copied on the host"] if copied else []
    if moved := ", ".join(leaf.path for leaf in odd if leaf.outcome == "transferred"):
        said.append(f"{moved}: transferred; zero-copy holds on the host only, an accelerator needs one transfer")
    raise AssertionError("\n".join([*said, "", str(report)]))
