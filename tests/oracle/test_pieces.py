"""The oracle by itself: its hash, its splits and remainders, and that its comparison can fail."""

import numpy as np
import pytest

from tests import oracle
from tests.oracle.hashing import mix
from tests.oracle.remainder import groups
from tests.oracle.strategies import FRACTIONS


def test_hash_agrees_with_published_splitmix64() -> None:
    assert oracle.hash64(0) == 0xE220A8397B1DCDAF  # the first output for seed 0
    assert mix(2 * 0x9E3779B97F4A7C15 % 2**64) == 0x6E789E6AA1B965F4  # and the second
    assert oracle.hash64(-1) == oracle.hash64(2**64 - 1) != oracle.hash64(1)


@pytest.mark.parametrize("fractions", FRACTIONS)
@pytest.mark.parametrize("n", [0, 1, 7, 10, 99])
def test_parts_of_a_split_cover_all_rows_once(fractions: tuple[tuple[str, float], ...], n: int) -> None:
    source = oracle.Arrays(list(range(n)))
    parts = [oracle.Chain(source, (oracle.Split(fractions, name, 3),)).raw(0) for name, _ in fractions]
    assert sorted(int(x) for part in parts for x in part) == list(range(n))
    assert all(abs(len(part) - n * share) <= 1 for part, (_, share) in zip(parts, fractions, strict=True))
    assert all(part == sorted(part) for part in parts)


def test_remainders() -> None:
    rows = oracle.Arrays(list(range(5))).rows()
    sizes = {policy: [len(part) for part in groups(rows, 2, policy)] for policy in ("drop", "keep", "pad")}
    assert sizes == {"drop": [2, 2], "keep": [2, 2, 1], "pad": [2, 2, 2]}
    with pytest.raises(ValueError, match="remainder of 1"):
        groups(rows, 2, "error")


@pytest.mark.parametrize("fault", [1, 1.0, True, np.int32(2), np.ones(1, np.int32)])
def test_comparison_sees_a_difference(fault: object) -> None:
    with pytest.raises(AssertionError, match="element/x"):
        oracle.check_same({"x": fault}, {"x": np.int32(1)})
