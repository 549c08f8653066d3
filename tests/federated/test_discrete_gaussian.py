"""The sampler against the exact law, with controls that must fail; its decisions against fractions.

All keys are fixed, so nothing here fails by chance; thresholds say how often a correct sampler would fail under fresh
keys.
"""

import ast
from collections.abc import Iterable
from fractions import Fraction
from math import exp
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from veilboost.errors import InputError
from veilboost.federated import discrete_gaussian
from veilboost.federated.discrete_gaussian import bernoulli_exp, discrete_laplace, fresh_stream, is_below, sample
from veilboost.mpc.prg import Stream

#: A correct sampler is below it once in a million keys.
DOUBT = 1e-6

#: sigma^2; the law has few values, or a width that the tests can count out.
SMALL = [
    Fraction(1, 100),
    Fraction(1, 4),
    Fraction(1),
    Fraction(10, 3),
    Fraction(9, 2),
    Fraction(1000, 7),
    Fraction(400),
]


def stream_of(number: int) -> Stream:
    return Stream(bytes(32), number)


def law(weights: Iterable[float]) -> npt.NDArray[np.float64]:
    values = np.array(list(weights))
    return values / values.sum()


def p_value(samples: npt.NDArray[np.int64], chances: npt.NDArray[np.float64]) -> float:
    """Chi-square of samples from -reach to reach, cells of fewer than 8 expected merged with their neighbours."""
    reach = len(chances) // 2
    assert np.abs(samples).max() <= reach
    counts = np.bincount(samples + reach, minlength=len(chances))
    observed, expected = [0.0], [0.0]
    for count, chance in zip(counts.tolist(), (chances * len(samples)).tolist(), strict=True):
        observed[-1], expected[-1] = observed[-1] + count, expected[-1] + chance
        if expected[-1] >= 8:
            observed.append(0.0)
            expected.append(0.0)
    for cells in (observed, expected):
        cells[-2:] = [sum(cells[-2:])]
    if len(observed) == 1:
        return 1.0
    return float(stats.chisquare(observed, np.array(expected) * (sum(observed) / sum(expected))).pvalue)


def gaussian_law(variance: Fraction) -> npt.NDArray[np.float64]:
    reach = int(12 * float(variance) ** 0.5) + 12
    return law(exp(-(x * x) / (2 * float(variance))) for x in range(-reach, reach + 1))


@pytest.mark.parametrize("variance", SMALL)
def test_frequencies_are_the_laws(variance: Fraction) -> None:
    assert p_value(sample(variance, 200_000, stream_of(1)), gaussian_law(variance)) > DOUBT


def test_chi_square_notices_a_variance_that_is_two_percent_off() -> None:
    samples = sample(Fraction(9, 2), 200_000, stream_of(2))
    assert p_value(samples, gaussian_law(Fraction(9, 2) * Fraction(102, 100))) < DOUBT


def test_chi_square_notices_a_rounded_normal_number() -> None:
    normal = np.random.default_rng(0).normal(0, 1, 200_000)
    assert p_value(np.rint(normal).astype(np.int64), gaussian_law(Fraction(1))) < DOUBT


def test_chi_square_notices_missing_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discrete_gaussian, "_is_gaussian", lambda y, *given: np.ones(len(y), dtype=np.bool_))
    chances = gaussian_law(Fraction(9, 2))
    samples = sample(Fraction(9, 2), 20_000, stream_of(3))
    assert p_value(samples[np.abs(samples) <= len(chances) // 2], chances) < DOUBT


@pytest.mark.parametrize("scale", [1, 2, 7, 40])
def test_laplace_frequencies_are_the_laws(scale: int) -> None:
    chances = law(exp(-abs(x) / scale) for x in range(-40 * scale, 40 * scale + 1))
    assert p_value(discrete_laplace(scale, 100_000, stream_of(4)), chances) > DOUBT
    if scale > 1:
        assert p_value(discrete_laplace(scale - max(1, scale // 6), 100_000, stream_of(4)), chances) < DOUBT


@pytest.mark.parametrize("variance", [Fraction(10**6), Fraction(2**80), Fraction(3 * 2**92 + 1, 5), Fraction(2**70, 3)])
def test_large_sigma(variance: Fraction) -> None:
    """Moments, distance from the normal law (of which the exact one is within 1e-4), and uniform low bits."""
    count = 100_000
    samples = sample(variance, count, stream_of(5))
    normal = samples / float(variance) ** 0.5
    limit = stats.norm.isf(DOUBT / 2)
    assert abs(normal.mean()) * count**0.5 < limit
    assert abs((normal**2).mean() - 1) * (count / 2) ** 0.5 < limit
    assert abs((normal**4).mean() - 3) * (count / 96) ** 0.5 < limit
    assert stats.kstest(normal, "norm").pvalue > DOUBT
    assert stats.kstest(normal * 1.06, "norm").pvalue < DOUBT  # control
    assert stats.chisquare(np.bincount(samples % 64, minlength=64)).pvalue > DOUBT


@pytest.mark.parametrize(
    ("numerator", "denominator"), [(0, 3), (1, 10**30), (1, 3), (2**80 - 1, 2**80), (4, 5), (10**40, 10**40 + 1)]
)
def test_exponential_bits(numerator: int, denominator: int) -> None:
    count = 100_000
    digits = np.full(count, (numerator << 64) // denominator, dtype=np.uint64)
    ones = int(bernoulli_exp(digits, [numerator] * count, denominator, stream_of(6)).sum())
    chance = exp(-(numerator / denominator))
    assert stats.binomtest(ones, count, chance).pvalue > DOUBT
    if 0 < chance < 0.9:
        assert stats.binomtest(ones, count, chance * 1.03).pvalue < DOUBT


class Written(Stream):
    """A stream of given words."""

    def __init__(self, words: list[int]) -> None:
        self.left = words

    def words(self, *shape: int) -> npt.NDArray[np.uint64]:
        (count,) = shape
        taken, self.left = self.left[:count], self.left[count:]
        return np.array(taken, dtype=np.uint64)


@pytest.mark.parametrize("chance", [Fraction(1, 3), Fraction(5, 7), Fraction(1, 2), Fraction(2**130 - 1, 2**130 + 9)])
def test_ties_are_decided_by_further_digits(chance: Fraction) -> None:
    """U agrees with a / b in 64 and in 128 digits and then differs: the decision is that of U as a fraction."""
    words = [(chance.numerator << 64 * part) // chance.denominator % 2**64 for part in (1, 2, 3)]
    digits = np.array([words[0]], dtype=np.uint64)
    decisions = set()
    for agreeing in (0, 1, 2):
        for step in (-1, 1):
            last = words[agreeing] + step
            if not 0 <= last < 2**64:
                continue
            drawn = [*words[:agreeing], last]
            u = sum(Fraction(word, 2 ** (64 * (place + 1))) for place, word in enumerate(drawn))
            stream = Written([*drawn, 0, 0])
            (below,) = is_below(digits, lambda index: (chance.numerator, chance.denominator), stream)
            assert below == (u < chance)
            assert len(stream.left) >= 2  # no more is drawn than it takes
            decisions.add(bool(below))
    assert decisions == {False, True}


def test_equality_in_all_digits_is_not_below() -> None:
    stream = Written([2**63, 7])
    assert not is_below(np.array([2**63], dtype=np.uint64), lambda index: (1, 2), stream)[0]
    assert stream.left == [7]


def test_the_module_never_rounds() -> None:
    """No division but that of whole numbers, no literal with a point, no function of real numbers."""
    tree = ast.parse(Path(discrete_gaussian.__file__).read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    assert not [node for node in nodes if isinstance(node, ast.Div)]
    assert not [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, float)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not names & {"float", "float64", "float32", "exp", "log", "sqrt", "random"}
    assert "isqrt" in names


def test_same_key_same_samples_fresh_keys_differ() -> None:
    assert np.array_equal(sample(Fraction(10**6), 50, stream_of(8)), sample(Fraction(10**6), 50, stream_of(8)))
    assert not np.array_equal(sample(Fraction(10**6), 50, fresh_stream()), sample(Fraction(10**6), 50, fresh_stream()))


def test_shapes() -> None:
    assert sample(Fraction(2), 0, stream_of(9)).shape == (0,)
    assert sample(Fraction(2), 300_000, stream_of(9)).shape == (300_000,)  # more than one batch
    assert sample(Fraction(2), 7, stream_of(9)).dtype == np.int64


@pytest.mark.parametrize("variance", [Fraction(0), Fraction(-1), Fraction(2**94), Fraction(2**95)])
def test_refusals(variance: Fraction) -> None:
    with pytest.raises(InputError, match="variance of noise"):
        sample(variance, 1, stream_of(10))
