"""Reciprocals, quotients and logarithms against the bounds that their docstrings state."""

import numpy as np
import pytest
from tests.network import run, secret

from veilboost.mpc.protocols.divide import divide, logarithm, reciprocal

#: All small divisors, all powers of two and their neighbours, and many at random on a logarithmic scale.
POWERS = (1 << np.arange(30))[:, None] + np.array([-1, 0, 1])
RANDOM = np.random.default_rng(3)
DIVISORS = np.unique(
    np.concatenate(
        [np.arange(1, 300), POWERS.ravel(), np.exp(RANDOM.uniform(0, np.log(2**30 - 1), 3000)).astype(np.int64)]
    )
)
DIVISORS = DIVISORS[(DIVISORS > 0) & (DIVISORS < 2**30)]


@pytest.mark.parametrize("owners", [2, 3, 5])
def test_reciprocal(owners: int) -> None:
    inverse, power = run(lambda s: reciprocal(s, secret(s, DIVISORS)), owners)
    normal = DIVISORS * power
    assert (normal >= 2**29).all() and (normal < 2**30).all()
    assert (power & (power - 1) == 0).all()
    assert np.abs(inverse / (2.0**60 / normal) - 1).max() < 2.0**-28
    assert (inverse >= 2**30 - 8).all() and (inverse <= 2**31 + 8).all()


def test_reciprocal_of_large_divisors() -> None:
    """More elements than merge four at a time. The ranking of splits relies on the bound: see splitting/gain.py."""
    divisors = np.random.default_rng(6).integers(2**29, 2**30, 200_000)
    inverse, power = run(lambda s: reciprocal(s, secret(s, divisors)))
    assert (power == 1).all()
    excess = (divisors * inverse - 2**60) / 2.0**29  # exact: below 2^62
    assert np.abs(excess).max() < 12


def test_reciprocal_of_zero_has_no_power() -> None:
    _, power = run(lambda s: reciprocal(s, secret(s, [0, 5])))
    assert power.tolist() == [0, 1 << 27]


@pytest.mark.parametrize(("fraction_bits", "quotient_bits"), [(10, 32), (28, 16), (16, 31), (40, 19)])
def test_divide(fraction_bits: int, quotient_bits: int) -> None:
    limit = int(0.99 * 2**31)
    rng = np.random.default_rng(4)
    numerators = rng.integers(-limit, limit, DIVISORS.size)
    numerators[::5] = np.rint(np.sign(numerators[::5]) * np.exp(rng.uniform(0, np.log(limit), numerators[::5].size)))
    numerators[:4] = limit, -limit, 0, 1
    largest = 2.0**quotient_bits
    numerators = np.clip(numerators, -DIVISORS * largest * 0.99, DIVISORS * largest * 0.99).astype(np.int64)
    result = run(lambda s: divide(s, secret(s, numerators, 1), secret(s, DIVISORS), fraction_bits, quotient_bits))
    exact = numerators / DIVISORS
    error = np.abs(result / 2.0**fraction_bits - exact)
    bound = np.abs(exact) * 2.0**-27 + 2.0 ** (quotient_bits - 30) / DIVISORS + 2.0**-fraction_bits
    assert (error <= bound).all()


def test_divide_broadcasts() -> None:
    numerators = np.array([[3, -9, 12], [10, 0, -5]])
    result = run(lambda s: divide(s, secret(s, numerators), secret(s, [[3], [5]]), 16), 3)
    assert np.abs(result / 2.0**16 - numerators / np.array([[3], [5]])).max() <= 2.0**-15


@pytest.mark.parametrize("owners", [2, 5])
def test_logarithm(owners: int) -> None:
    result = run(lambda s: logarithm(s, secret(s, DIVISORS), 24), owners)
    assert np.abs(result / 2.0**24 - np.log(DIVISORS / 2.0**30)).max() < 1.2e-5
