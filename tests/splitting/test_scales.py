import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import QUICK

from veilboost.errors import InputError
from veilboost.mpc.protocols.pack import HIGH_BITS
from veilboost.splitting.scales import Scales, choose_scales


@QUICK
@given(
    rows=st.integers(1, 600_000),
    largest_gradient=st.floats(0.5, 20),
    largest_hessian=st.floats(0.25, 1),
    reg_lambda=st.floats(0, 1000),
)
def test_sums_over_all_rows_fit(rows: int, largest_gradient: float, largest_hessian: float, reg_lambda: float) -> None:
    scales = choose_scales(rows, largest_gradient, largest_hessian, reg_lambda)
    # The rounding of every row adds at most one unit; see the limits in mpc/protocols/pack.py and divide.py.
    assert rows * largest_gradient * 2**scales.gradient_bits + math.sqrt(rows) <= 0.99 * 2**HIGH_BITS
    assert (rows * largest_hessian + 2 * reg_lambda) * 2**scales.hessian_bits + math.sqrt(rows) < 2**30
    assert 6 <= scales.gradient_bits <= 24 and 6 <= scales.hessian_bits <= 24
    # One bit more would not fit, unless the bits end at those of the margins.
    if scales.gradient_bits < 24:
        assert rows * largest_gradient * 2 ** (scales.gradient_bits + 1) > 0.98 * 2**HIGH_BITS
    if scales.hessian_bits < 24:
        assert (rows * largest_hessian + 2 * reg_lambda) * 2 ** (scales.hessian_bits + 1) > 0.98 * 2**30


def test_known_scales() -> None:
    assert choose_scales(25_000, 1.0, 0.25, 1.0) == Scales(15, 17)
    assert choose_scales(10**6, 1.0, 0.25, 1.0) == Scales(10, 12)
    assert choose_scales(10, 1.0, 0.25, 1.0) == Scales(24, 24)
    assert choose_scales(10, 2.0, 1.0, 1.0, exact_hessians=True) == Scales(24, 24, True)


@pytest.mark.parametrize(("rows", "reg_lambda"), [(10**8, 1.0), (100, 1e9)])
def test_what_does_not_fit_is_refused(rows: int, reg_lambda: float) -> None:
    with pytest.raises(InputError, match="use fewer rows, a smaller reg_lambda"):
        choose_scales(rows, 1.0, 0.25, reg_lambda)


@QUICK
@given(rows=st.integers(1, 10**6), least=st.floats(0, 100))
def test_least_hessian_tolerates_rounding_and_nothing_more(rows: int, least: float) -> None:
    scales = choose_scales(rows, 1.0, 0.25, 1.0)
    units = scales.least_hessian(least)
    assert units >= 1  # an empty side never counts
    assert units <= max(1, scales.hessian(least) - 4 - 4 * math.sqrt(least))
    assert units >= scales.hessian(least) - 13 - 4 * math.sqrt(least)


def test_four_rows_that_are_nearly_undecided_are_not_enough() -> None:
    """XGBoost refuses them by min_child_weight = 1; of 10,000 rows and fewer the difference can be told."""
    for rows in (100, 1000, 10_000):
        scales = choose_scales(rows, 1.0, 0.25, 1.0)
        assert scales.hessian(4 * 0.49 * 0.51) < scales.least_hessian(1.0) <= scales.hessian(4 * 0.25) - 4


def test_exact_hessians_need_no_tolerance() -> None:
    scales = choose_scales(10**6, 2.0, 1.0, 1.0, exact_hessians=True)
    assert scales.least_hessian(5.0) == scales.hessian(5.0)
