"""Parameters that are allowed but far from what anybody needs: public bounds stay within the ring, gains too."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.network import run, secret
from tests.strategies import QUICK

from veilboost.errors import InputError
from veilboost.mpc.session import Session
from veilboost.splitting.gain import _clamp, _clamp_count, at_least
from veilboost.splitting.scales import WEIGHT_BITS, choose_scales
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.objectives.choose import objective_of

HUGE = [1e30, 1e100, 1e300, 1.7e308, math.inf]


@QUICK
@given(rows=st.integers(1, 500_000), score=st.floats(1, 2.0**16), reg_lambda=st.floats(0, 100))
def test_gains_fit_whatever_the_first_scores_are(rows: int, score: float, reg_lambda: float) -> None:
    """A gain is at most rows * score; in fixed point it must stay below 2^62, and no bit is given away."""
    scales = choose_scales(rows, 1.0, 0.25, reg_lambda, largest_score=score)
    largest = rows * score * 2.0 ** (scales.gradient_bits + scales.weight_bits)
    assert largest < 2.0**61
    assert 10 <= scales.weight_bits <= WEIGHT_BITS
    if scales.weight_bits < WEIGHT_BITS and scales.gradient_bits < 24:
        assert largest > 2.0**58


@pytest.mark.parametrize(
    ("base_score", "bits"), [(None, 26), (0.5, 26), (0.04, 26), (0.02, 25), (1e-3, 21), (0.999, 21), (1e-4, 17)]
)
def test_fewer_weight_bits_for_an_extreme_base_score(base_score: float | None, bits: int) -> None:
    parameters = Parameters(base_score=base_score)
    assert objective_of(parameters, None, None).scales(300).weight_bits == bits


def test_base_scores_that_quotients_have_no_room_for_are_refused() -> None:
    """The first G / H would exceed 2^16, and leaves would have any weight."""
    for base_score in (1.6e-5, 0.99998):
        assert objective_of(Parameters(base_score=base_score), None, None).scales(300).weight_bits == 15
    for base_score in (1.5e-5, 1e-30, 1e-40, 1 - 1e-7):
        with pytest.raises(
            InputError, match=r"base_score = \S+ is too near 0 or 1: give a number from 1.6e-05 to 0.99998"
        ):
            objective_of(Parameters(base_score=base_score), None, None).scales(300)
    counts = Parameters(objective="count:poisson", base_score=0.5)
    assert objective_of(counts, (0.0, 3e4), None).scales(300).weight_bits == 15
    with pytest.raises(InputError, match=r"base_score = 0.5 is too far below the upper bound of label_range: give 15 "):
        objective_of(counts, (0.0, 1e6), None).scales(300)


def test_labels_that_float32_does_not_tell_apart_are_refused() -> None:
    squared = Parameters(objective="reg:squarederror")
    assert objective_of(squared, (2e6, 2e6 + 0.5), None).scales(300).gradient_bits > 10
    with pytest.raises(
        InputError, match=r"no number between 2000000.05 and 2000000.06: subtract an offset from the label"
    ):
        objective_of(squared, (2000000.05, 2000000.06), None)


def test_numbers_at_the_end_of_floating_point_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^300 rows with reg_lambda = 1e\+308 exceed the fixed-point range"):
        objective_of(Parameters(reg_lambda=1e308), None, None).scales(300)
    counts = Parameters(objective="count:poisson")
    with pytest.raises(
        InputError, match=r"label_range: bounds of counts lie between 0 and 1e\+09, and the upper one is"
    ):
        objective_of(counts, (0.0, 1e-310), None)
    message = r"^300 rows with reg_lambda = 1 and the upper bound 1e-09 of weights or counts exceed the fixed-point"
    with pytest.raises(InputError, match=message):
        objective_of(Parameters(), None, (0.0, 1e-9)).scales(300)


@pytest.mark.parametrize("bound", HUGE)
def test_public_bounds_are_clamped(bound: float) -> None:
    assert (_clamp(bound), _clamp(-bound)) == (1 << 61, -(1 << 61))
    assert (_clamp_count(bound), _clamp_count(-bound)) == (1 << 30, 0)
    assert _clamp(5.0) == _clamp_count(5.0) == 5
    if math.isfinite(bound):
        assert (_clamp(int(bound)), _clamp_count(int(bound))) == (1 << 61, 1 << 30)


@pytest.mark.parametrize("bound", HUGE)
def test_no_sum_reaches_a_huge_bound(bound: float) -> None:
    sums = np.array([-(1 << 60), -1, 0, 1, 1 << 60])
    counts = np.array([0, 1, 5, 1 << 20, (1 << 30) - 1])

    def program(session: Session) -> object:
        x, n = secret(session, sums), secret(session, counts)
        # Bounds may be larger than what the ring holds.
        return [*at_least(session, (x, bound), (x, -bound)), *at_least(session, (n, bound), (n, 5), counts=True)]  # type: ignore[arg-type]

    above, not_below, enough, five = run(program)
    assert above.tolist() == [0] * 5 and not_below.tolist() == [1] * 5
    assert enough.tolist() == [0] * 5
    assert five.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("least", [1e9, 1e30, 1e300, 1.7e308])
@pytest.mark.parametrize("exact", [False, True])
def test_a_huge_min_child_weight_is_a_number(least: float, exact: bool) -> None:
    scales = choose_scales(1000, 1.0, 0.25, 1.0, exact_hessians=exact)
    assert scales.least_hessian(least) > 1 << 30  # more than any sum of hessians
    assert scales.hessian(least) <= 1 << 62
