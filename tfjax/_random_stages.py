"""Which stages make a pipeline give other batches in another epoch, and the refusal of them where that misleads."""

from __future__ import annotations

from typing import Any

from tfjax.graph import stages as st

_RANDOM = (st.Shuffle, st.ShuffleWindow, st.RandomMap, st.RandomDeviceMap)


def random_stages(pipe: Any) -> list[st.Stage]:
    """The stages of a pipeline that shuffle or draw random numbers, in the order written.

    Example:
        >>> import numpy as np, tfjax
        >>> [stage.describe() for stage in random_stages(tfjax.from_arrays(np.arange(4)).shuffle(seed=0).batch(2))]
        ['shuffle(seed=0)']
    """
    return [stage for stage in pipe._chain if isinstance(stage, _RANDOM)]


def require_deterministic(pipe: Any, what: str) -> None:
    """Refuse a pipeline with random stages for a measurement that is to see the same examples each time.

    Args:
        pipe: a pipeline.
        what: what is given it, such as "evaluate", named in the message; it takes `allow_random=True`.

    Raises:
        ValueError: a stage shuffles or draws random numbers; the message names each.

    Example:
        >>> import numpy as np, tfjax
        >>> require_deterministic(tfjax.from_arrays(np.arange(4)).shuffle(seed=0).batch(2), "evaluate")
        Traceback (most recent call last):
        ValueError: evaluate is given a pipeline with shuffle(seed=0), so what it measures is that of one random ...
    """
    if found := random_stages(pipe):
        raise ValueError(
            f"{what} is given a pipeline with {', '.join(stage.describe() for stage in found)}, so what it measures "
            "is that of one random order or draw: leave the stage out of the pipeline that is measured, or pass "
            "allow_random=True"
        )
