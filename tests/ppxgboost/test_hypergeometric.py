"""The sampler is exact: the inequalities of its proof (in the module's docstring), and a twin made of fractions."""

import hashlib
import json
from collections.abc import Iterator
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import gmpy2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.ppxgboost.urns import REAL, coins_of

from veilboost.errors import InputError
from veilboost.ppxgboost import hypergeometric
from veilboost.ppxgboost.coins import Coins
from veilboost.ppxgboost.hypergeometric import HALVES, sample

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ope.json").read_text(encoding="utf-8"))
SCALE, WEIGHTS, STEPS = hypergeometric._SCALE, hypergeometric._WEIGHTS, hypergeometric._STEPS


def relative(population: int, marked: int, draws: int, origin: int, x: int) -> Fraction:
    """p(x) / p(origin), also where factorials are out of reach."""
    start, stop, ratio = min(origin, x), max(origin, x), Fraction(1)
    for y in range(start, stop):
        ratio *= Fraction((marked - y) * (draws - y), (y + 1) * (population - marked - draws + y + 1))
    return ratio if x >= origin else 1 / ratio


def block_of(width: int, k: int) -> int:
    return (k if k >= 0 else -1 - k) // width


def envelope(step: int) -> Fraction:
    return Fraction(WEIGHTS[min(step, STEPS)], SCALE << max(0, step - STEPS))


def small_parameters(largest: int) -> Iterator[tuple[int, int, int]]:
    for population in range(2, largest + 1):
        for marked in range(1, population // 2 + 1):
            for draws in range(1, population):
                yield population, marked, draws


# The inequalities of the proof, without rounding.


@pytest.mark.parametrize("larger", [(400, 200, 200), (3000, 1400, 1500), (3000, 60, 2000), (2**40, 900, 2**39)])
def test_envelope_holds_for_larger_numbers(larger: tuple[int, int, int]) -> None:
    check_envelope(*larger)


def test_envelope_holds_for_all_small_numbers() -> None:
    for parameters in small_parameters(22):
        check_envelope(*parameters)


def check_envelope(population: int, marked: int, draws: int) -> None:
    mode = (marked + 1) * (draws + 1) // (population + 2)
    square, unit = hypergeometric._least_square(population, marked, draws)
    width = hypergeometric._width(square, unit)
    assert width * (width - 1) * 64 * unit >= square > (width - 1) * (width - 2) * 64 * unit
    low, high = max(0, draws + marked - population), min(marked, draws)
    assert low <= mode <= high
    for direction in (range(mode, high), range(mode - 1, low - 1, -1)):
        ratio = Fraction(1)
        for y in direction:
            step = Fraction((marked - y) * (draws - y), (y + 1) * (population - marked - draws + y + 1))
            ratio, x = (ratio * step, y + 1) if y >= mode else (ratio / step, y)
            assert ratio <= 1  # it is the mode
            assert ratio <= envelope(block_of(width, x - mode))


def test_table_of_the_envelope() -> None:
    """An upper bound of the bell by directed rounding, within the numbers of 64 bits, and the same on every machine."""
    assert WEIGHTS[0] == SCALE
    with gmpy2.context(precision=300, round=gmpy2.RoundUp):
        for step, weight in enumerate(WEIGHTS):
            assert SCALE * gmpy2.exp(gmpy2.mpfr(-(step**2)) / 128) <= weight
    assert 2**64 - 2**10 < hypergeometric._ENDS[-1] <= 2**64
    octets = b"".join(weight.to_bytes(8, "big") for weight in (SCALE, *WEIGHTS))
    assert hashlib.sha256(octets).hexdigest() == VECTORS["envelope"]["sha256"]
    assert np.log(2) < 2 * STEPS / 128  # halving from the last block on stays above the bell


# Float64 bounds and the exact decision.


@st.composite
def points(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """N, M, n, mode and k, of all sizes; half of them as in encryption."""
    marked = draw(st.integers(1, 2 ** draw(st.integers(1, 32))))
    population = draw(st.integers(2 * marked, max(2 * marked, 2 ** draw(st.integers(2, 64)))))
    draws = (population + 1) // 2 if draw(st.booleans()) else draw(st.integers(1, population - 1))
    mode = (marked + 1) * (draws + 1) // (population + 2)
    low, high = max(0, draws + marked - population), min(marked, draws)
    width = hypergeometric._width(*hypergeometric._least_square(population, marked, draws))
    reach = STEPS * width - 1
    k = draw(st.integers(max(low - mode, -reach), min(high - mode, reach)))
    return population, marked, draws, mode, k


@settings(max_examples=400, deadline=None)
@given(point=points())
@example(point=(2**54 + 1, 1, 1, 0, 0))  # nothing is nearly certain
def test_float_bounds_are_right_far_below_the_margin(point: tuple[int, int, int, int, int]) -> None:
    """To a 1e-11, where 1e-9 is left to them."""
    population, marked, draws, mode, k = point
    if max(mode, mode + k) >= min(marked, draws):
        return
    square, unit = hypergeometric._least_square(population, marked, draws)
    rest = population - marked - draws
    slope = hypergeometric._slope(marked, draws, rest, mode)
    low, high = hypergeometric._bounds(population, marked, draws, mode, k, slope, unit / square)
    height = hypergeometric._HEIGHTS[block_of(hypergeometric._width(square, unit), k)]
    with gmpy2.context(precision=320):
        exact = gmpy2.mpfr(0)
        for first, sign in ((1, 1), (marked + 1, -1), (draws + 1, -1), (rest + 1, 1)):
            exact += gmpy2.lngamma(first + sign * mode) - gmpy2.lngamma(first + sign * (mode + k))
        chance = gmpy2.exp(exact) * height
        assert chance <= 1 + 1e-11
        assert low * height - 1e-11 <= chance
        assert chance <= high * height + 1e-11


def test_float_decides_nearly_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """At this size it is undecided less than once in 10^5 proposals."""
    asked = []
    exact = hypergeometric._is_accepted
    monkeypatch.setattr(hypergeometric, "_is_accepted", lambda *given: asked.append(1) or exact(*given))
    for number in range(3000):
        sample(2**54, 2**22, 2**53, coins_of(number))
    assert len(asked) < 3


@pytest.mark.parametrize(
    ("parameters", "count"),
    [(REAL, 200), ((2**33, 2**11, 2**32), 200), ((50_000, 20_000, 25_000), 100), ((2**90, 2**40, 2**89), 60)],
)
def test_the_exact_decision_is_the_fast_one(
    parameters: tuple[int, int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose float64 never decides gets the same numbers."""
    fast = [sample(*parameters, coins_of(number)) for number in range(count)]
    asked = []
    exact = hypergeometric._is_accepted
    monkeypatch.setattr(hypergeometric, "_is_accepted", lambda *given: asked.append(1) or exact(*given))
    monkeypatch.setattr(hypergeometric, "_bounds", lambda *given: (0.0, 1e9))
    assert [sample(*parameters, coins_of(number)) for number in range(count)] == fast
    assert len(asked) >= count


def twin(population: int, marked: int, draws: int, coins: Coins) -> int:
    """The sampler again, by fractions alone; marked at most half of the population."""
    halved = marked <= HALVES and abs(population - 2 * draws) <= 1
    mode = (marked + 1) * (draws + 1) // (population + 2)
    width = hypergeometric._width(*hypergeometric._least_square(population, marked, draws))
    chance = Fraction(1)
    for attempt in range(1, 10_000):
        if halved:
            drawn = coins.bits(64 + marked)
            first, x = drawn % 2**64, bin(drawn >> 64).count("1")
            top = (2 * draws - population + marked + 1) // 2
            weights = [Fraction(1, comb(marked, y)) for y in (top, x)]
            chance = relative(population, marked, draws, top, x) * weights[1] / weights[0]
        else:
            drawn = coins.bits(129)
            first, block = drawn % 2**64, drawn >> 65
            if block >= sum(WEIGHTS) + WEIGHTS[-1]:
                continue
            step = next((i for i in range(STEPS) if block < sum(WEIGHTS[: i + 1])), STEPS)
            step += coins.tails() if step == STEPS else 0
            k = step * width + coins.below(width)
            x = mode + k if drawn >> 64 & 1 else mode - 1 - k
            if not max(0, marked + draws - population) <= x <= min(marked, draws):
                continue
            chance = relative(population, marked, draws, mode, x) / envelope(step)
        assert chance <= 1
        branch, known = coins.branch(attempt), first
        for _ in range(10):
            known = known << 64 | branch.bits(64)
        if Fraction(known, 2**704) < chance:  # 704 bits: U is not known better, and so near it never comes
            return x
    raise AssertionError("nothing was accepted")


SMALL = [(2, 1, 1), (9, 4, 4), (32, 8, 16), (33, 16, 17), (64, 3, 5), (300, 40, 70), (2000, 1000, 1000)]
LARGE = [(2**41, 480, 2**40), (5001, 2200, 2500), (2**30, 3000, 2**29), (10**6, 30, 999_000), (4000, 1500, 100)]


@pytest.mark.parametrize("parameters", SMALL + LARGE)
def test_samples_are_those_of_a_twin_made_of_fractions(parameters: tuple[int, int, int]) -> None:
    numbers = range(40)
    assert [sample(*parameters, coins_of(i)) for i in numbers] == [twin(*parameters, coins_of(i)) for i in numbers]


# Edges and known answers.


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [((0, 0, 0), 0), ((5, 0, 3), 0), ((5, 3, 0), 0), ((5, 5, 3), 3), ((5, 3, 5), 3), ((2**64, 2**64, 2**63), 2**63)],
)
def test_certain_numbers(parameters: tuple[int, int, int], expected: int) -> None:
    assert sample(*parameters, coins_of(0)) == expected


def test_nearly_certain_numbers() -> None:
    assert [sample(2**128, 1, 1, coins_of(number)) for number in range(20)] == [0] * 20
    assert [sample(2**64, 2**32, 2**64 - 1, coins_of(number)) for number in range(3)] == [2**32] * 3


def test_population_is_bounded() -> None:
    with pytest.raises(InputError, match=r"2\^128"):
        sample(2**128 + 1, 1, 1, coins_of(0))
    with pytest.raises(InputError, match=r"2\^128"):
        sample(-1, 0, 0, coins_of(0))


@pytest.mark.parametrize("parameters", [(5, 6, 3), (5, 3, 6), (5, -1, 3), (5, 3, -1)])
def test_numbers_out_of_range(parameters: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="must be from 0 to"):
        sample(*parameters, coins_of(0))


@pytest.mark.parametrize("case", VECTORS["samples"])
def test_known_answers(case: dict[str, Any]) -> None:
    coins = Coins(bytes.fromhex(case["key"]), bytes.fromhex(case["context"]))
    assert sample(int(case["population"]), int(case["marked"]), int(case["draws"]), coins) == int(case["sample"])


@pytest.mark.parametrize("case", [case for case in VECTORS["samples"] if case["undecided"]])
def test_known_answers_which_float64_does_not_decide(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """For other implementations, which should meet their slow paths in a test, not first in use."""
    asked = []
    for name in ("_is_accepted", "_is_below"):
        exact = getattr(hypergeometric, name)
        monkeypatch.setattr(hypergeometric, name, lambda *given, exact=exact: asked.append(1) or exact(*given))
    test_known_answers(case)
    assert asked
