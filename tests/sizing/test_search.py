"""The search for the largest size: exact where what a size takes is a line, within the limit whatever it is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfjax.sizing.search import Sizes, largest


def all_of(sizes: Sizes, up_to: int) -> list[int]:
    return sorted({sizes.at_most(n) for n in range(up_to + 1)} - {0})


@given(parts=st.integers(1, 9), multiple_of=st.integers(1, 12), most=st.integers(1, 300))
def test_sizes_divide_and_are_multiples(parts: int, multiple_of: int, most: int) -> None:
    for size in all_of(Sizes(parts=parts, multiple_of=multiple_of, most=most), 400):
        rows, left = divmod(size, parts)
        assert left == 0 and size <= most
        assert rows % multiple_of == 0 or (rows < multiple_of and rows.bit_count() == 1)


def test_the_smallest_size_is_a_row_on_each_part() -> None:
    sizes = Sizes(parts=3, multiple_of=8, most=None)
    assert all_of(sizes, 60) == [3, 6, 12, 24, 48]
    assert sizes.below(48) == 24 and sizes.below(3) == 0


@given(
    fixed=st.integers(0, 10**6),
    slope=st.integers(1, 10**4),
    limit=st.integers(1, 10**7),
    start=st.integers(1, 2000),
    parts=st.sampled_from([1, 2, 8]),
)
def test_a_line_is_found_exactly_by_few_measurements(
    fixed: int, slope: int, limit: int, start: int, parts: int
) -> None:
    sizes, measured = Sizes(parts=parts, multiple_of=8, most=5000), []

    def measure(size: int) -> float:
        measured.append(size)
        return fixed + slope * size

    found = largest(measure, limit, sizes, start)
    assert found == max((n for n in all_of(sizes, 5000) if fixed + slope * n <= limit), default=0)
    assert len(measured) == len(set(measured)) <= 5


@given(
    steps=st.lists(st.integers(0, 100), min_size=64, max_size=64),
    limit=st.integers(1, 3000),
    start=st.integers(1, 64),
    unknown_from=st.integers(1, 65),
)
def test_what_is_found_fits_whatever_the_curve(steps: list[int], limit: int, start: int, unknown_from: int) -> None:
    taken = [sum(steps[: n + 1]) if n < unknown_from else math.inf for n in range(65)]
    sizes = Sizes(parts=1, multiple_of=1, most=64)
    found = largest(lambda n: taken[n], limit, sizes, start)
    assert bool(found) == (taken[1] <= limit)
    assert not found or taken[found] <= limit


def test_without_a_bound_it_ends() -> None:
    assert largest(lambda _: 1.0, 2, Sizes(parts=1, multiple_of=8, most=None), start=8) >= 1024


def test_a_line_is_told_before_it_is_measured() -> None:
    expected = {}
    largest(
        lambda n: 10 + 2 * n,
        1000,
        Sizes(parts=1, multiple_of=1, most=None),
        start=16,
        expected=lambda n, b: expected.update({n: b}),
    )
    assert list(expected) == [16, 32, 495]
    assert expected[16] is None and expected[495] == pytest.approx(1000)
