"""Softplus, log of a sum of exponentials and the capped exponential over the whole line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.laws.test_curves import REALS, fixed
from tests.network import run, secret

from veilboost.mpc.protocols.sigmoid import BOUND, FRACTION_BITS
from veilboost.mpc.protocols.softplus import capped_exponential, log_sum_exp, softplus

UNIT = 2.0**FRACTION_BITS


@pytest.mark.parametrize("owners", [2, 3, 5])
def test_softplus(owners: int) -> None:
    result = run(lambda s: softplus(s, secret(s, fixed(REALS))), owners) / UNIT
    assert np.abs(result - np.logaddexp(0, REALS)).max() < 1e-5
    inside = np.abs(REALS) < BOUND - 1
    assert np.abs(result - np.logaddexp(0, REALS))[inside].max() < 1e-6


def test_softplus_at_the_ends_of_its_domain() -> None:
    ends = np.array([2.0**37 - 1, -(2.0**37) + 1])
    result = run(lambda s: softplus(s, secret(s, fixed(ends))))
    assert result.tolist() == [int(fixed(ends)[0]), 0]


@pytest.mark.parametrize("owners", [2, 3])
def test_capped_exponential(owners: int) -> None:
    reals = np.concatenate([REALS, np.linspace(-26, 1, 5001)])
    result = run(lambda s: capped_exponential(s, secret(s, fixed(reals))), owners) / UNIT
    exact = np.exp(np.minimum(reals, 0))
    assert (np.abs(result - exact) <= 2e-6 * np.sqrt(exact) + 2.0**-23).all()
    assert (result[reals < -24.001] == 0).all()
    assert (result[reals >= 0] == 1).all()


@pytest.mark.parametrize("classes", [2, 3, 7, 63])
@pytest.mark.parametrize("owners", [2, 3])
def test_log_sum_exp(classes: int, owners: int) -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal(size=(150, classes)) * 4
    scores[:20] *= 1e6
    scores[20:25] = 3.25  # all equal: the sum is as large as can be
    scores[25:30] = -1e7
    scores[30, 0], scores[31, -1] = 1e8, -1e8
    scores[32:40] = -12.1
    scores[32:40, 0] = 0
    largest = scores.max(axis=1)
    exact = largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1))
    result = run(lambda s: log_sum_exp(s, secret(s, fixed(scores))), owners) / UNIT
    assert np.abs(result - exact).max() < 2e-5


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(-1000, 1000), min_size=1, max_size=40))
def test_softplus_less_its_reflection_is_its_argument(values: list[float]) -> None:
    reals = fixed(np.array(values)) / UNIT
    both = run(lambda s: softplus(s, secret(s, fixed(np.concatenate([reals, -reals]))))) / UNIT
    assert np.abs(both[: len(values)] - both[len(values) :] - reals).max() < 2e-5


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(-20, 20), min_size=2, max_size=9), shift=st.floats(-1000, 1000))
def test_log_sum_exp_moves_with_its_arguments(values: list[float], shift: float) -> None:
    rows = np.array([values, [value + shift for value in values]])
    first, second = run(lambda s: log_sum_exp(s, secret(s, fixed(rows)))) / UNIT
    assert abs(second - first - shift) < 4e-5
