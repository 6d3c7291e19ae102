"""Leaves of text, which encoded images are until they are decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfjax._chain import ChainNode


def text_at(pipe: ChainNode, path: str) -> Any:
    """The spec of the leaf at a path such as "photos/front", of one example; None where it is no text or not there."""
    keyed = "".join(f"[{key!r}]" for key in path.split("/"))
    spec = dict(pipe._element.leaves()).get(keyed)
    return spec if getattr(spec, "dtype", None) == "string" else None
