"""Codes of float32 numbers keep their order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from veilboost.ppxgboost.order_codes import missing_codes, to_codes, with_missing

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=True, allow_subnormal=True)


def code(value: float) -> int:
    return int(to_codes(np.array([value], dtype=np.float32))[0])


@given(FLOATS, FLOATS)
def test_codes_are_ordered_as_the_numbers(one: float, other: float) -> None:
    assert (code(one) < code(other)) == (np.float32(one) < np.float32(other))
    assert (code(one) == code(other)) == (np.float32(one) == np.float32(other))


@given(FLOATS)
def test_neighbours_have_neighbouring_codes(value: float) -> None:
    with np.errstate(all="ignore"):
        above = np.nextafter(np.float32(value), np.float32(np.inf))
    if np.isfinite(value) and value not in (0.0, -float(np.finfo(np.float32).smallest_subnormal)):
        assert code(float(above)) == code(value) + 1


def test_all_floats_of_a_byte_pattern_are_ordered() -> None:
    bits = np.arange(0, 2**32, 65537, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = np.sort(values[~np.isnan(values)])
    codes = to_codes(values).astype(np.int64)
    steps = np.diff(values.astype(np.float64), prepend=-np.inf)[1:]
    np.testing.assert_array_equal(np.diff(codes) > 0, steps > 0)


def test_zeros_are_equal_and_denormals_are_not() -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    assert code(0.0) == code(-0.0)
    assert code(-tiny) < code(0.0) < code(tiny)


@given(st.lists(FLOATS, min_size=1, max_size=20), st.booleans())
def test_missing_values_lie_beyond_all_thresholds_and_are_drawn_anew(thresholds: list[float], below: bool) -> None:
    cuts = to_codes(np.array(thresholds, dtype=np.float32))
    first, last = missing_codes(cuts, below)
    assert 0 <= first <= last < 2**32
    values = np.full(64, np.nan, dtype=np.float32)
    values[::8] = 1.5
    codes = with_missing(values, first, last)
    assert codes.dtype == np.uint32
    np.testing.assert_array_equal(codes[::8], to_codes(values[::8]))
    drawn = codes[np.isnan(values)].astype(np.int64)
    assert first <= drawn.min() and drawn.max() <= last
    assert drawn.max() < cuts.min() if below else drawn.min() > cuts.max()
    assert last - first < 1000 or len(np.unique(drawn)) > 40


def test_missing_codes_reach_about_as_far_as_thresholds_are_apart() -> None:
    cuts = np.array([1000, 1100, 1300, 1300], dtype=np.uint32)
    assert missing_codes(cuts, below=True) == (850, 999)
    assert missing_codes(cuts, below=False) == (1301, 1450)
