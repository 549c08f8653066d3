"""Cuts: the order of float32 as whole numbers, the laws of the search, and the search on shares."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.network import execute, secret
from tests.strategies import FEW, QUICK

from veilboost.errors import ProtocolError
from veilboost.federated.edges import (
    EDGES,
    LEAST_EQUAL,
    STEPS,
    EdgeSearch,
    count_below,
    decide,
    from_keys,
    note_edges,
    to_keys,
)
from veilboost.mpc.session import Session

LARGEST = float(np.finfo(np.float32).max)
SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, -1.1754942e-38, LARGEST, -LARGEST, 1.0, -1.0, 3e38]

floats = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(SPECIAL))
keys = st.integers(0, 2**32 - 1)
#: Different values, and how many cells each has.
columns = st.lists(st.tuples(floats, st.integers(1, 12)), max_size=25)


def cells_of(column: list[tuple[float, int]]) -> np.ndarray:
    return np.array([value for value, count in column for _ in range(count)], dtype=np.float32)


def search_in_the_clear(ordered: np.ndarray, cuts: int) -> EdgeSearch:
    search, n = EdgeSearch(1, cuts), len(ordered)
    while not search.finished:
        counts = count_below(ordered, search.thresholds[0])
        search.advance(*verdicts(counts, n, cuts))
    return search


def verdicts(counts: np.ndarray, n: int, cuts: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether ranks are too low, and too high, shape (1, cuts): beyond half a bin, and beyond five cells."""
    number, bins = np.arange(1, cuts + 1), cuts + 1
    distance = 2 * bins * counts - 2 * number * n
    room = np.maximum(n, LEAST_EQUAL * bins)
    return (distance < -room)[np.newaxis], (distance > room)[np.newaxis]


@QUICK
@given(st.lists(floats, min_size=2))
def test_keys_have_the_order_of_numbers_and_lead_back(given: list[float]) -> None:
    values = np.array(given, dtype=np.float32)
    found = to_keys(values)
    assert np.array_equal(found[:, None] < found, values[:, None] < values)
    assert np.array_equal(found[:, None] == found, values[:, None] == values)
    back = from_keys(found)
    assert np.array_equal(back, values) and not np.signbit(back[values == 0]).any()


@QUICK
@given(st.lists(floats, min_size=1), st.lists(keys, min_size=1))
@example(
    [-LARGEST, LARGEST, 0.0], [0, 1, 0x007FFFFF, 0x00800000, 0x7FFFFFFF, 0x80000000, 0xFF7FFFFF, 0xFF800000, 2**32 - 1]
)
def test_a_cut_is_the_threshold(given: list[float], thresholds: list[int]) -> None:
    """x < cut exactly where the key of x is below, but for thresholds above all cells, whose cut is no more."""
    values, chosen = np.array(given, dtype=np.float32), np.array(thresholds, dtype=np.uint32)
    cuts = from_keys(chosen)
    assert np.isfinite(cuts).all()
    below = to_keys(values)[:, None] < chosen
    above_all = chosen > to_keys(np.array([LARGEST], dtype=np.float32))[0]
    assert np.array_equal((values[:, None] < cuts)[:, ~above_all], below[:, ~above_all])
    assert (cuts[above_all] == LARGEST).all()


@QUICK
@given(columns, st.integers(1, 20))
@example([], 7)
@example([(5.0, 40)], 7)
@example([(LARGEST, 3), (-LARGEST, 3)], 5)
@example([(-0.0, 10), (0.0, 10), (1e-45, 10)], 3)
def test_laws_of_the_search(column: list[tuple[float, int]], cuts: int) -> None:
    cells = cells_of(column)
    ordered = np.sort(to_keys(cells))
    search = search_in_the_clear(ordered, cuts)
    (edges,) = search.edges()
    n, bins = len(cells), cuts + 1
    assert edges.dtype == np.float32 and np.isfinite(edges).all()
    assert len(edges) <= cuts
    assert (np.diff(edges) > 0).all()
    for number, (low, found) in enumerate(zip(search.low[0], search.found[0], strict=True), start=1):
        rank = int((ordered < low).sum())
        if found:
            assert abs(2 * bins * rank - 2 * number * n) <= max(
                n, LEAST_EQUAL * bins
            )  # within half a bin or five cells
            continue
        after = int((ordered <= low).sum())
        assert 2 * bins * rank < (2 * number - 1) * n and 2 * bins * after > (2 * number + 1) * n
        assert after - rank > LEAST_EQUAL
    for value in np.unique(cells):
        equal = (cells == value).sum()
        if (
            equal * bins > 2 * n
            and equal * bins > n + LEAST_EQUAL * bins
            and value < np.nextafter(np.float32(LARGEST), np.float32(0))
        ):
            (larger,) = [np.nextafter(value, np.float32(np.inf))]
            assert larger in edges  # so that what has more than two bins' cells is apart from all above
    if n == 0:
        assert edges.tolist() == [0.0]


@QUICK
@given(columns, st.integers(1, 20))
@example([(1.5, 3), (2.5, 2), (7.25, 200)], 7)
def test_the_cut_of_each_quantile_tells_all_that_the_steps_do(column: list[tuple[float, int]], cuts: int) -> None:
    ordered = np.sort(to_keys(cells_of(column)))
    search, replayed = search_in_the_clear(ordered, cuts), EdgeSearch(1, cuts)
    while not replayed.finished:
        thresholds = replayed.thresholds
        bit = np.uint32(1 << (STEPS - 1 - replayed.step))
        last = search.found & (search.low == thresholds)  # the bits behind it are zero
        below = ((search.low & bit) != 0) & ~last
        told = verdicts(count_below(ordered, thresholds[0]), len(ordered), cuts)
        open_ones = ~replayed.found
        assert np.array_equal(told[0][open_ones], below[open_ones])
        assert np.array_equal(told[1][open_ones], (~below & ~last)[open_ones])
        replayed.advance(*told)


@QUICK
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32 - 1))
@example(20, 63, 0)
def test_no_value_of_few_cells_becomes_known(count: int, cuts: int, seed: int) -> None:
    """A rare measurement has fewer cells than bins. A cut just above a cell, with all bits of it, would tell it."""
    rng = np.random.default_rng(seed)
    cells = np.repeat(rng.normal(100, 20, count), rng.integers(1, LEAST_EQUAL + 1, count)).astype(np.float32)
    search = search_in_the_clear(np.sort(to_keys(cells)), cuts)
    assert search.found.all()
    many = np.repeat(np.float32(7.125), LEAST_EQUAL * 4)
    assert not search_in_the_clear(np.sort(to_keys(many)), 3).found[0, 1]  # so that the test could fail


@QUICK
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=20, max_size=60, unique=True), st.integers(1, 7))
def test_no_bin_has_more_than_twice_its_part_or_ten_cells_more_where_all_differ(values: list[float], cuts: int) -> None:
    cells = np.array(values, dtype=np.float32)
    (edges,) = search_in_the_clear(np.sort(to_keys(cells)), cuts).edges()
    bins = np.bincount(np.searchsorted(edges, cells, side="right"), minlength=len(edges) + 1)
    part = len(cells) / (cuts + 1)
    assert bins.max() <= part + max(part, LEAST_EQUAL) + 1


def test_of_few_values_all_are_separated() -> None:
    cells = np.repeat(np.arange(6), 50).astype(np.float32)
    (edges,) = search_in_the_clear(np.sort(to_keys(cells)), 31).edges()
    assert len(np.unique(np.searchsorted(edges, cells, side="right"))) == 6


@FEW
@given(st.lists(st.lists(st.tuples(floats, st.integers(1, 12)), max_size=9), min_size=1, max_size=3), st.integers(1, 5))
def test_search_on_shares_is_that_in_the_clear(given: list[list[tuple[float, int]]], cuts: int) -> None:
    ordered = [np.sort(to_keys(cells_of(column))) for column in given]
    steps = 5

    def program(session: Session) -> Any:
        session.exact = True
        search = EdgeSearch(len(ordered), cuts)
        note_edges(session, len(ordered), cuts, 1)
        for _ in range(steps):
            counts = [count_below(keys, row) for keys, row in zip(ordered, search.thresholds, strict=True)]
            decide(
                session, secret(session, np.stack(counts)), secret(session, [len(keys) for keys in ordered], 1), search
            )
        return search

    outcome = execute(program)
    for search in outcome.results:
        assert search.step == steps
        for row, keys in enumerate(ordered):
            expected = EdgeSearch(1, cuts)
            for _ in range(steps):
                expected.advance(*verdicts(count_below(keys, expected.thresholds[0]), len(keys), cuts))
            assert np.array_equal(search.low[row], expected.low[0])
            assert np.array_equal(search.found[row], expected.found[0])
    for session in (*outcome.sessions, outcome.dealer):
        assert [(entry.value, entry.shape) for entry in session.ledger] == [(EDGES, (len(ordered), cuts))]


@QUICK
@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, STEPS - 1), st.randoms())
def test_the_state_of_a_search_leads_back(columns: int, cuts: int, step: int, random: Any) -> None:
    search = EdgeSearch(columns, cuts, step)
    search.low = np.array([random.randrange(2**32) for _ in range(columns * cuts)], dtype=np.uint32)
    search.low = search.low.reshape(columns, cuts)
    search.found = np.array([random.random() < 0.5 for _ in range(columns * cuts)]).reshape(columns, cuts)
    again = EdgeSearch.from_json(search.to_json(), columns, cuts)
    assert again.step == step
    assert np.array_equal(again.low, search.low) and np.array_equal(again.found, search.found)
    assert np.array_equal(again.thresholds, search.thresholds)
    for other in ((columns + 1, cuts), (columns, cuts + 9)):
        with pytest.raises(ProtocolError):
            EdgeSearch.from_json(search.to_json(), *other)


SEARCH = EdgeSearch(2, 3).to_json()
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=4
)


@QUICK
@given(st.sampled_from(["step", "low", "found"]), anything)
@example("step", STEPS)
@example("step", True)
@example("found", "")
@example("low", "00" * 23)
def test_damaged_state_is_refused(name: str, value: Any) -> None:
    fields = {**SEARCH, name: value}
    try:
        search = EdgeSearch.from_json(fields, 2, 3)
    except ProtocolError:
        return
    assert search.low.shape == search.found.shape == (2, 3) and 0 <= search.step < STEPS


def test_cuts_of_few_cells_tell_none_of_them() -> None:
    """As many bins as cells, or more: whoever knows the cuts knows no cell, only every tenth or so to a few bits."""
    cells = (np.random.default_rng(3).normal(size=60) * 1000).astype(np.float32)
    for cuts in (15, 63, 255):
        (edges,) = search_in_the_clear(np.sort(to_keys(cells)), cuts).edges()
        assert len(edges) <= 14
        assert not np.isin(edges, cells).any()
        assert not np.isin(np.nextafter(edges, np.float32(-np.inf)), cells).any()


def test_a_second_turn_finds_the_quantiles_of_the_rest() -> None:
    """Of a column of mostly zeros the first turn leaves most cuts unused."""
    rng = np.random.default_rng(5)
    cells = np.concatenate([np.zeros(9000), rng.lognormal(3, 1, 1000)]).astype(np.float32)
    keys, cuts = np.sort(to_keys(cells)), 31
    first = search_in_the_clear(keys, cuts)
    second = first.again()
    assert second.targets[0] == cuts - len(first.edges()[0])
    assert second.heavy[0].tolist() == to_keys(np.zeros(1, dtype=np.float32)).tolist()
    light = keys[~np.isin(keys, second.heavy[0])]
    while not second.finished:
        counts = count_below(light, second.thresholds[0])
        second.advance(*_verdicts(second, counts, light))
    (edges,) = second.edges()
    assert set(first.edges()[0]) <= set(edges.tolist()) and len(edges) <= cuts
    bins = np.bincount(np.searchsorted(edges, cells[cells > 0], side="right"))
    assert len(first.edges()[0]) < 8 and bins.max() <= 100


def _verdicts(search: EdgeSearch, counts: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the quantiles that are searched; any for the others."""
    used = int(search.targets[0])
    below, above = verdicts(counts[:used], len(light), used)
    rest = np.zeros((1, search.cuts - used), dtype=bool)
    return np.concatenate([below, rest], axis=1), np.concatenate([above, rest], axis=1)
