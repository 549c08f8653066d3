"""Fractions are compared as their exact cross products are, at the bounds of all ranges too."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.network import run, secret
from tests.strategies import FEW, Ints, integers, owners

from veilboost.mpc.protocols.fractions import (
    DENOMINATOR_BITS,
    LIMB_BITS,
    compare_fractions,
    fraction_scores,
    limbs,
    numerator_of,
)
from veilboost.mpc.session import Session

LARGEST = 2**60 - 1
#: Slightly more than 2^30: see the bounds of `compare_fractions`.
LARGEST_DENOMINATOR = 2**DENOMINATOR_BITS + 2**10

#: Cross products that differ by less may be taken for equal.
RESOLUTION = 2**28

NUMERATORS = sorted(
    {0, 1, 2, 3, LARGEST, LARGEST - 1}
    | {(k << LIMB_BITS) + step for k in (0, 1, 2, 2**28, 2**29 - 1) for step in (0, 1, 2**30, 2**31 - 1)}
)
DENOMINATORS = [1, 2, 3, 2**12, 2**29, 2**30 - 1, 2**30, 2**30 + 26, LARGEST_DENOMINATOR]


def losers(numerators: Ints, denominators: Ints, count: int = 2) -> np.ndarray:
    """[i loses to j] for all pairs of players, shape (pairs, games); arguments have shape (players, games)."""

    def program(session: Session) -> Any:
        upper, lower = limbs(session, secret(session, numerators))
        scores = fraction_scores(upper, lower, secret(session, denominators, 1))
        planes, anchored = compare_fractions(session, scores)
        return planes, anchored.value

    found, players = run(program, count)
    assert np.array_equal((players[0] << LIMB_BITS) + players[1], numerators)
    assert np.array_equal(players[2], denominators)
    return np.asarray(found, dtype=bool)


def check(numerators: Ints, denominators: Ints, count: int = 2) -> None:
    """Whoever loses has the smaller fraction, and whoever is smaller by more than the resolution loses."""
    found = losers(numerators, denominators, count)
    for pair, (i, j) in enumerate(combinations(range(len(numerators)), 2)):
        products = [
            int(e) * int(d)
            for e, d in zip(
                np.concatenate([numerators[i], numerators[j]]),
                np.concatenate([denominators[j], denominators[i]]),
                strict=True,
            )
        ]
        games = numerators.shape[1]
        behind = np.array(products[games:], dtype=object) - np.array(products[:games], dtype=object)
        assert (behind[found[pair]] > 0).all()
        assert (behind[~found[pair]] < RESOLUTION).all()


@FEW
@given(count=owners, value=integers(0, LARGEST))
def test_limbs(count: int, value: Ints) -> None:
    for _ in range(4):
        (upper, lower), whole = run(lambda s: halves(s, value), count)
        assert (upper >= 0).all() and (upper <= 2**29).all()
        assert (np.abs(lower) <= 2**31).all()
        assert np.array_equal((upper << LIMB_BITS) + lower, value)
        assert np.array_equal(whole, value)


def halves(session: Session, value: Ints) -> Any:
    upper, lower = limbs(session, secret(session, value))
    return (upper, lower), numerator_of(fraction_scores(upper, lower, lower))


def test_limbs_of_every_edge() -> None:
    value = np.repeat(np.array(NUMERATORS), 50)
    (upper, lower), _ = run(lambda s: halves(s, value), 3)
    assert (upper >= 0).all() and (upper <= 2**29).all() and (np.abs(lower) < 2**31).all()
    assert np.array_equal((upper << LIMB_BITS) + lower, value)
    assert (lower < 0).any() and (lower > 0).any()  # rounded both ways


@pytest.mark.parametrize("count", [2, 3])
def test_all_pairs_of_edges(count: int) -> None:
    fractions = np.array([(e, d) for e in NUMERATORS for d in DENOMINATORS])
    first, second = (side.ravel() for side in np.meshgrid(*[np.arange(len(fractions))] * 2))
    check(fractions[[first, second], 0], fractions[[first, second], 1], count)


@FEW
@given(count=owners, players=st.integers(2, 6), data=st.data())
def test_several_players(count: int, players: int, data: st.DataObject) -> None:
    size = 7 * players
    numerators = data.draw(integers(0, LARGEST, st.just(size))) >> data.draw(integers(0, 60, st.just(size)))
    denominators = data.draw(integers(1, LARGEST_DENOMINATOR, st.just(size)))
    check(numerators.reshape(players, 7), denominators.reshape(players, 7), count)


def test_neighbouring_fractions() -> None:
    """Numerators or denominators one unit apart, which the resolution tells apart where products are large."""
    rng = np.random.default_rng(0)
    numerators = rng.integers(1, LARGEST, 4000) >> rng.integers(0, 60, 4000)
    denominators = rng.integers(2, LARGEST_DENOMINATOR, 4000) >> rng.integers(0, 28, 4000)
    numerators, denominators = np.maximum(numerators, 1), np.maximum(denominators, 1)
    above = rng.integers(0, 2, (2, 4000))
    players = np.stack([numerators, numerators + above[0]]), np.stack([denominators, denominators + above[1]])
    check(*players)
    check(players[0][::-1], players[1][::-1], 3)


def test_equal_fractions_never_lose() -> None:
    """A tie is the earlier one's: copies of a player, and multiples of a fraction."""
    rng = np.random.default_rng(1)
    numerators, denominators = rng.integers(0, 2**57, 3000) >> rng.integers(0, 57, 3000), rng.integers(1, 2**27, 3000)
    for factor in (1, 2, 7):
        players = np.stack([numerators, factor * numerators]), np.stack([denominators, factor * denominators])
        assert not losers(*players).any()
        assert not losers(players[0][::-1], players[1][::-1]).any()


def test_a_difference_below_the_resolution_is_rounded_without_bias() -> None:
    """A later player that is ahead by x * 2^28 wins with the probability x."""
    size = 20_000
    for numerator, denominator in ((1, 2**27), (3, 2**26), (1, 2**20)):
        wins = losers(np.array([[0] * size, [numerator] * size]), np.full((2, size), denominator)).mean()
        expected = numerator * denominator / RESOLUTION
        assert abs(wins - expected) < 6 * np.sqrt(expected / size) + 1e-9


def test_nothing_never_beats_something() -> None:
    """0 / 2^30, the score of invalid candidates, loses to any valid one later on, but for a numerator of 0."""
    numerators = np.array([1, 2, 3, 100, LARGEST])
    denominators = np.array([[2**30 + 26], [2**30], [2**20], [1]]) * np.ones(5, dtype=np.int64)
    invalid = np.zeros_like(denominators), np.full_like(denominators, 2**30)
    several = np.broadcast_to(numerators, denominators.shape)
    before = losers(np.stack([invalid[0], several]).reshape(2, -1), np.stack([invalid[1], denominators]).reshape(2, -1))
    after = losers(np.stack([several, invalid[0]]).reshape(2, -1), np.stack([denominators, invalid[1]]).reshape(2, -1))
    assert before.all() and not after.any()
