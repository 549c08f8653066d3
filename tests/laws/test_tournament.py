"""The best of many, of numbers and of fractions, however many play at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.network import execute, run, secret
from tests.strategies import FEW, Ints, integers, owners

from veilboost.mpc.protocols import argmax as module
from veilboost.mpc.protocols.argmax import argmax, compare_numbers, group_size, tournament
from veilboost.mpc.protocols.fractions import compare_fractions, fraction_scores, limbs, numerator_of
from veilboost.mpc.session import Session
from veilboost.mpc.shares import stack

#: Comparisons at once: pairs throughout, groups of four or so, everybody against everybody.
budgets = st.sampled_from([0, 60, 1 << 13])

#: Fractions whose cross products are equal or more than the resolution apart; some are written in two ways.
FAR_APART = [
    (0, 2**30), (0, 2**20), (2**30, 2**29), (2**31, 2**30), (3 * 2**31, 2**30), (2**40, 2**20), (2**50, 2**30),
    (2**59 + 2**31, 2**30), (2**60 - 1, 2**30), (2**59, 2**20), (2**36 - 2**4, 2**25), (2**36, 2**25), (2**37, 2**26),
]  # fmt: skip


@contextmanager
def at_once(comparisons: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_COMPARISONS_AT_ONCE", comparisons)
        yield


def best_fractions(numerators: Ints, denominators: Ints, count: int = 2) -> tuple[Ints, Ints, Ints]:
    """Numerator, denominator and place of the winner of each row."""
    places = np.tile(np.arange(1, numerators.shape[1] + 1), (len(numerators), 1))

    def program(session: Session) -> Any:
        scores = fraction_scores(*limbs(session, secret(session, numerators)), secret(session, denominators, 1))
        best, carried = tournament(session, compare_fractions, scores, stack([secret(session, places)]))
        assert carried is not None
        return numerator_of(best), best[2], carried[0]

    numerator, denominator, place = run(program, count)
    return numerator, denominator, place - 1


@FEW
@given(
    count=owners,
    rows=st.integers(1, 5),
    candidates=st.integers(1, 60),
    comparisons=budgets,
    high=st.sampled_from([1, 3, 2**31, 2**62 - 1]),
    data=st.data(),
)
def test_argmax_prefers_the_earlier_of_equals(
    count: int, rows: int, candidates: int, comparisons: int, high: int, data: st.DataObject
) -> None:
    size = rows * candidates
    scores = data.draw(integers(-high, high, st.just(size))).reshape(rows, candidates)
    payload = data.draw(integers(size=st.just(size))).reshape(rows, candidates)
    places = np.tile(np.arange(candidates), (rows, 1))
    with at_once(comparisons):
        best, place, carried = run(
            lambda s: argmax(s, secret(s, scores), secret(s, places, 1), secret(s, payload)), count
        )
    wanted = scores.argmax(axis=1)
    assert np.array_equal(place, wanted)
    assert np.array_equal(best, scores.max(axis=1))
    assert np.array_equal(carried, payload[np.arange(rows), wanted])


def test_argmax_without_payload() -> None:
    scores = np.random.default_rng(0).integers(-(2**62), 2**62, (3, 50))
    (best,) = run(lambda s: argmax(s, secret(s, scores)), 3)
    assert np.array_equal(best, scores.max(axis=1))

    def program(session: Session) -> Any:
        winner, nothing = tournament(session, compare_numbers, stack([secret(session, scores)]), None)
        assert nothing is None
        return winner

    assert np.array_equal(run(program)[0], scores.max(axis=1))


@pytest.mark.parametrize("comparisons", [0, 300, 1 << 13])
def test_every_number_of_candidates(comparisons: int) -> None:
    """The best stands first, last, or anywhere, so that groups filled up with copies of the last one are tried."""
    rng = np.random.default_rng(comparisons)
    for candidates in range(1, 56):
        scores = rng.permuted(np.tile(np.arange(candidates), (4, 1)), axis=1)
        scores[0], scores[1] = np.arange(candidates), np.arange(candidates)[::-1]
        places = np.tile(np.arange(candidates), (4, 1))
        with at_once(comparisons):
            best, place = run(lambda s, a=scores, b=places: argmax(s, secret(s, a), secret(s, b)))
        assert (best == candidates - 1).all()
        assert np.array_equal(place, scores.argmax(axis=1))


@FEW
@given(count=owners, rows=st.integers(1, 5), candidates=st.integers(1, 60), comparisons=budgets, data=st.data())
def test_tournament_of_fractions(count: int, rows: int, candidates: int, comparisons: int, data: st.DataObject) -> None:
    """As exact fractions have it, the earlier of equals first."""
    chosen = data.draw(integers(0, len(FAR_APART) - 1, st.just(rows * candidates))).reshape(rows, candidates)
    numerators, denominators = (np.array(FAR_APART)[chosen, part] for part in (0, 1))
    exact = np.array([Fraction(*fraction) for fraction in FAR_APART], dtype=object)[chosen]
    with at_once(comparisons):
        numerator, denominator, place = best_fractions(numerators, denominators, count)
    wanted = [row.tolist().index(max(row)) for row in exact]
    assert place.tolist() == wanted
    assert np.array_equal(numerator, numerators[np.arange(rows), wanted])
    assert np.array_equal(denominator, denominators[np.arange(rows), wanted])


@pytest.mark.parametrize("comparisons", [0, 1 << 13])
@pytest.mark.parametrize(("rows", "candidates"), [(1, 300), (16, 130), (2000, 7)])
def test_many_fractions(rows: int, candidates: int, comparisons: int) -> None:
    """Any numerators and denominators: of two fractions this large the resolution is below 2^-30."""
    rng = np.random.default_rng(rows)
    numerators = rng.integers(2**50, 2**60, (rows, candidates))
    denominators = rng.integers(2**18, 2**30, (rows, candidates))
    with at_once(comparisons):
        _, _, place = best_fractions(numerators, denominators)
    ratio = numerators / denominators
    assert (ratio[np.arange(rows), place] >= ratio.max(axis=1) * (1 - 1e-9)).all()


#: Fractions that differ by less than the resolution or little more, so that they may beat each other in a circle.
CLOSE = [(2**19, 2**9), (2**14, 2**14), (4, 2**27), (2**18, 2**12)]


@pytest.mark.parametrize("candidates", [3, 5, 8, 24])
@pytest.mark.parametrize(("numerator", "denominator"), CLOSE)
def test_somebody_wins_among_close_fractions(numerator: int, denominator: int, candidates: int) -> None:
    """A winner is one of the players, whole, even where everybody is beaten by somebody."""
    rng = np.random.default_rng(numerator + candidates)
    rows = 300
    numerators = rng.integers(1, numerator + 1, (rows, candidates))
    denominators = rng.integers(denominator // 2, denominator + 1, (rows, candidates))
    numerator_found, denominator_found, place = best_fractions(numerators, denominators)
    assert (place >= 0).all() and (place < candidates).all()
    assert np.array_equal(numerator_found, numerators[np.arange(rows), place])
    assert np.array_equal(denominator_found, denominators[np.arange(rows), place])


@pytest.mark.parametrize("place", [0, 1, 17, 39])
def test_a_clear_winner_beats_close_ones_anywhere(place: int) -> None:
    """Whatever happens in groups of players that are hard to tell apart."""
    rng = np.random.default_rng(place)
    rows, candidates = 64, 40
    numerators = rng.integers(1, 2**19, (rows, candidates))
    denominators = rng.integers(2**8, 2**9, (rows, candidates))
    numerators[:, place], denominators[:, place] = 2**50, 2**29
    assert (best_fractions(numerators, denominators)[2] == place).all()


@pytest.mark.parametrize("flipped", range(8))
def test_whoever_plays_in_a_circle_one_moves_on(flipped: int) -> None:
    """All outcomes of a group of three, at three owners: the first that loses to no later one, with its payload."""
    wins = [bool(flipped >> pair & 1) for pair in range(3)]  # of 0 and 1, 0 and 2, 1 and 2: whether the earlier loses
    expected = 0 if not wins[0] and not wins[1] else 1 if not wins[2] else 2

    def contest(session: Session, players: Any) -> Any:
        planes, _ = compare_numbers(session, players)  # 5 < 6 < 7: the earlier one always loses
        return planes ^ np.array([[0 if lost else 2**64 - 1] for lost in wins], dtype=np.uint64), None

    def program(session: Session) -> Any:
        payload = stack([secret(session, np.array([[50, 60, 70]]))])
        return tournament(session, contest, stack([secret(session, np.array([[5, 6, 7]]))]), payload)

    best, carried = run(program, 3)
    assert best.tolist() == [[5 + expected]] and carried.tolist() == [[50 + 10 * expected]]


@pytest.mark.parametrize("place", [0, 1, 3, 5])
def test_nothing_never_wins_among_close_fractions(place: int) -> None:
    """A numerator of zero, an invalid candidate's, beside some that may beat each other in a circle."""
    rows = 400
    numerators = np.tile([4, 4, 4, 4, 4], (rows, 1))
    denominators = np.tile([2**27, 2**27 - 2**24, 2**27 - 2**25, 2**27 - 2**23, 2**27 - 2**22], (rows, 1))
    numerators = np.insert(numerators, place, 0, axis=1)
    denominators = np.insert(denominators, place, 2**30 - 1, axis=1)
    for comparisons in (0, 400 * 6, 1 << 13):
        with at_once(comparisons):
            assert (best_fractions(numerators, denominators)[2] != place).all()


@pytest.mark.parametrize("rows", [1, 2, 8, 64, 500, 8192, 10_000])
def test_group_sizes(rows: int) -> None:
    """Larger groups where there are few comparisons; never more of these than allowed, but for pairs."""
    sizes = [group_size(rows, candidates) for candidates in range(2, 2000)]
    for candidates, size in enumerate(sizes, start=2):
        groups = -(-candidates // size)
        assert 2 <= size <= min(24, candidates)
        assert size == 2 or rows * groups * size * (size - 1) // 2 <= 1 << 13
        assert groups * size - candidates < size  # the last group has at least one candidate of its own
    assert sizes[0] == 2
    if rows == 1:
        assert sizes[22] == 24 and sizes[23] < 24


@pytest.mark.parametrize(("candidates", "rounds"), [(1, 0), (2, 5), (5, 7), (11, 9), (24, 11)])
def test_rounds_of_numbers(candidates: int, rounds: int) -> None:
    """A comparison, who loses to no later one and who is the first of them (four at a time), a selection."""
    scores = np.zeros((1, candidates), dtype=np.int64)
    outcome = execute(lambda s: argmax(s, s.constant(scores.view(np.uint64))), 3)
    assert outcome.sessions[0].rounds == rounds
