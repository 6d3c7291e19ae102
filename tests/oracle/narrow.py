"""64-bit leaves as they are delivered to a device."""

import numpy as np

NARROWED = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}


def narrow(leaf: np.ndarray) -> np.ndarray:
    """The leaf in 32 bits (complex: 64); no integer changes, and no finite number becomes infinite."""
    leaf = np.asarray(leaf)
    with np.errstate(over="ignore"):
        small = leaf.astype(NARROWED.get(leaf.dtype.name, leaf.dtype))
    if leaf.dtype.name not in NARROWED:
        return small
    lost = small != leaf if leaf.dtype.kind in "iu" else np.isfinite(small) != np.isfinite(leaf)
    if lost.any():
        raise ValueError(f"{leaf[lost]} ({leaf.dtype}) do not fit {small.dtype}")
    return small
