"""Frequencies of the sampler against the exact law, with controls that must fail.

All keys are fixed, so nothing here fails by chance; thresholds say how often a correct sampler would fail under
fresh keys.
"""

from collections import Counter
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import stats
from tests.ppxgboost.urns import REAL, coins_of, law

from veilboost.ppxgboost import hypergeometric
from veilboost.ppxgboost.hypergeometric import sample

#: A correct sampler is below it once in a million keys.
DOUBT = 1e-6


def test_the_law_is_the_hypergeometric_one() -> None:
    for population, marked, draws in [(2, 1, 1), (9, 4, 3), (30, 20, 25), (200, 90, 70)]:
        for x, chance in law(population, marked, draws).items():
            exact = Fraction(comb(marked, x) * comb(population - marked, draws - x), comb(population, draws))
            assert chance == float(exact)


def p_value(parameters: tuple[int, int, int], count: int) -> float:
    """Chi-square against the exact law, cells of fewer than 8 expected samples merged with their neighbours."""
    counts = Counter(sample(*parameters, coins_of(number)) for number in range(count))
    assert set(counts) <= set(law(*parameters))
    observed, expected = [0.0], [0.0]
    for x, chance in law(*parameters).items():
        observed[-1], expected[-1] = observed[-1] + counts[x], expected[-1] + count * chance
        if expected[-1] >= 8:
            observed.append(0.0)
            expected.append(0.0)
    for cells in (observed, expected):
        cells[-2:] = [sum(cells[-2:])]
    return float(stats.chisquare(observed, np.array(expected) * (sum(observed) / sum(expected))).pvalue)


CHI_SQUARE = {
    "halves": [(10, 4, 5), (32, 8, 16), (33, 20, 17), (200, 100, 100), (5000, 900, 2500), (2**20, 64, 2**19)],
    "blocks": [(6000, 2500, 3000), (20_000, 5000, 10_000), (8, 3, 2), (50, 20, 11), (700, 30, 333), (400, 390, 60)],
}


@pytest.mark.parametrize("parameters", CHI_SQUARE["halves"] + CHI_SQUARE["blocks"])
def test_frequencies_are_the_laws(parameters: tuple[int, int, int]) -> None:
    assert p_value(parameters, 10_000) > DOUBT


def test_chi_square_notices_missing_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: every proposal kept, which bends the law by 4 % at most places."""
    monkeypatch.setattr(hypergeometric, "_bounds", lambda *given: (1e9, 1e9))
    assert p_value((20_000, 5000, 10_000), 4000) < DOUBT


def test_chi_square_notices_binomial_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: drawing with replacement."""
    monkeypatch.setattr(hypergeometric, "_is_below", lambda *given: True)
    assert p_value((200, 100, 100), 4000) < DOUBT


@pytest.mark.parametrize("parameters", [REAL, (2**50, 2**18, 2**49), (2**45 - 1, 2**13 + 3, 2**44)])
def test_law_at_the_sizes_of_encryption(parameters: tuple[int, int, int]) -> None:
    """Mean, variance and distance from the normal law, of which the exact one is within 1e-4 here; low bits uniform."""
    population, marked, draws = parameters
    count = 40_000
    samples = np.array([sample(*parameters, coins_of(number)) for number in range(count)])
    mean = Fraction(marked * draws, population)
    variance = mean * (1 - Fraction(marked, population)) * Fraction(population - draws, population - 1)
    normal = (samples - float(mean)) / float(variance) ** 0.5
    assert abs(normal.mean()) * count**0.5 < stats.norm.isf(DOUBT / 2)
    assert abs((normal**2).mean() - 1) * (count / 2) ** 0.5 < stats.norm.isf(DOUBT / 2)
    # A place is spread over its width, so that the law is continuous.
    spread = np.array([coins_of(number + count).bits(32) for number in range(count)]) / 2**32 - 0.5
    assert stats.kstest(normal + spread / float(variance) ** 0.5, "norm").pvalue > DOUBT
    assert stats.chisquare(np.bincount(samples % 16, minlength=16)).pvalue > DOUBT
