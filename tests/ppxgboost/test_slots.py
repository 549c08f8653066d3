"""Margins as integers in slots."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from veilboost.ppxgboost import slots

SUMS = st.integers(-(2**63) + 1, 2**63 - 1)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(SUMS, min_size=1, max_size=47))
def test_packed_numbers_come_back(numbers: list[int]) -> None:
    assert list(slots.unpack(slots.pack(numbers), len(numbers))) == numbers


@given(st.lists(st.lists(st.integers(-(2**58), 2**58), min_size=3, max_size=3), min_size=1, max_size=30))
def test_sums_of_packed_numbers_are_sums_in_every_slot(rows: list[list[int]]) -> None:
    total = sum(slots.pack(row) for row in rows)
    assert list(slots.unpack(total, 3)) == [sum(column) for column in zip(*rows, strict=True)]


@given(st.lists(FLOATS, min_size=1, max_size=50))
def test_sums_fit_and_are_exact_to_the_scale(values: list[float]) -> None:
    largest = math.fsum(abs(value) for value in values)
    exponent = slots.choose_exponent(largest)
    numbers = [slots.to_fixed(value, exponent) for value in values]
    total = sum(numbers)
    assert abs(total) < 2**63 and sum(map(abs, numbers)) < 2**63
    exact = sum(map(Fraction, values), Fraction(0))
    assert (
        abs(Fraction(total) / Fraction(2) ** exponent - exact) <= len(values) * Fraction(1, 2) / Fraction(2) ** exponent
    )
    assert abs(slots.to_real(total, exponent) - float(exact)) <= 1e-15 * max(largest, 1e-300) * len(values)


def test_extremes() -> None:
    for value in (0.0, float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)):
        exponent = slots.choose_exponent(value)
        assert slots.to_real(slots.to_fixed(value, exponent), exponent) == value
        assert slots.to_real(slots.to_fixed(-value, exponent), exponent) == -value


def test_how_many_slots_a_key_has() -> None:
    assert slots.slots_of(3070) == 47
