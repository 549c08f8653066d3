"""Which candidate splits a node, and when none does."""

from typing import Any

import numpy as np
import pytest
from tests.network import run, secret, secret_bits

from veilboost.mpc.session import Session
from veilboost.splitting import search
from veilboost.splitting.scales import WEIGHT_BITS, choose_scales
from veilboost.splitting.search import Candidates, conjunction_of, find_splits, repeat_bits
from veilboost.trees.parameters import Parameters

ROWS = 1000
SCALES = choose_scales(ROWS, 2.0, 1.0, 1.0)
G, H = 2**SCALES.gradient_bits, 2**SCALES.hessian_bits
PLAIN = Parameters(objective="reg:squarederror", reg_lambda=0.0, min_child_weight=1.0)


def split(
    left: Any,
    node: Any,
    parameters: Parameters = PLAIN,
    *,
    alive: Any = None,
    valid: Any = None,
    permitted: Any = None,
    handicapped: Any = None,
    numbers: Any = None,
    gain_unit: float = 1.0,
    owners: int = 2,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Choice, left sums, gain (real) and alive for real sums of (gradient, hessian[, rows])."""
    units = np.array([G, H, 1][: len(left)])
    left_sums = np.rint(np.asarray(left, dtype=float) * units[:, None, None]).astype(np.int64)
    node_sums = np.rint(np.asarray(node, dtype=float) * units[:, None]).astype(np.int64)
    n_nodes, count = left_sums.shape[1:]

    def program(session: Session) -> Any:
        candidates = Candidates(
            secret(session, left_sums),
            np.arange(count) if numbers is None else np.asarray(numbers),
            np.zeros(count, dtype=np.bool_) if handicapped is None else np.asarray(handicapped),
            None if valid is None else secret_bits(session, valid, 1),
            permitted,
        )
        lives = secret_bits(session, np.ones(n_nodes) if alive is None else alive)
        node = secret(session, node_sums)
        found = find_splits(session, candidates, node, lives, parameters, SCALES, gain_unit)
        return found.choice, found.left, found.gain, found.alive

    choice, sums, gain, lives = run(program, owners)
    return choice, sums / units[:, None], gain / 2.0 ** (SCALES.gradient_bits + WEIGHT_BITS), lives


# One node of 10 rows with gradients -1 (five times) and 1: a perfect split in the middle saves 10.
MIDDLE = np.array([[[-1.0, -3, -5, -3, -1]], [[1.0, 3, 5, 7, 9]]])
NODE = np.array([[0.0], [10.0]])


@pytest.mark.parametrize("owners", [2, 3, 5])
def test_the_winner_carries_its_sums_and_its_gain(owners: int) -> None:
    choice, left, gain, alive = split(MIDDLE, NODE, owners=owners, numbers=[7, 8, 40, 3, 2])
    assert choice.tolist() == [41]
    assert left.tolist() == [[-5.0], [5.0]]
    assert abs(gain[0] - 10) < 1e-4
    assert alive.tolist() == [1]


def test_of_equal_candidates_one_wins() -> None:
    """Which one is up to the rounding of the scores, which is random; its sums are the same anyway."""
    tripled = np.concatenate([MIDDLE[:, :, 2:3]] * 3, axis=2)
    for _ in range(5):
        choice, left, _, alive = split(tripled, NODE)
        assert choice[0] in (1, 2, 3)
        assert left.tolist() == [[-5.0], [5.0]] and alive.tolist() == [1]


def test_every_node_has_its_own_winner() -> None:
    rng = np.random.default_rng(0)
    nodes, count = 16, 30
    hessian = rng.uniform(2, 20, (nodes, count))
    gradient = rng.normal(size=(nodes, count)) * 3
    node = np.stack([rng.normal(size=nodes), np.full(nodes, 25.0)])
    choice, left, gain, alive = split(np.stack([gradient, hessian]), node)
    exact = gradient**2 / hessian + (node[0][:, None] - gradient) ** 2 / (25 - hessian) - node[0][:, None] ** 2 / 25
    best = exact.argmax(axis=1)
    assert (choice - 1 == best).all()
    assert np.abs(left[0] - gradient[np.arange(nodes), best]).max() < 1e-5
    assert np.abs(gain - exact.max(axis=1)).max() < 1e-3
    assert alive.all()


@pytest.mark.parametrize(
    ("least", "expected"),
    # Candidate 2, the best, has a hessian of 5 on both sides.
    [(0.0, 3), (1.0, 3), (5.0, 3), (5.0001, 3), (5.1, 0), (1000.0, 0)],
)
def test_min_child_weight_tolerates_rounding_only(least: float, expected: int) -> None:
    """5.0001 is within four standard deviations of the rounding, 5.1 is not."""
    assert SCALES.least_hessian(5.0001) <= 5 * H < SCALES.least_hessian(5.1)
    assert split(MIDDLE, NODE, PLAIN.model_copy(update={"min_child_weight": least}))[0].tolist() == [expected]


def test_an_empty_side_never_wins() -> None:
    empty = np.array([[[0.0, -4.0, -4.0]], [[0.0, 10.0, 4.0]]])
    for least in (0.0, 1.0):
        choice, *_ = split(empty, [[-4.0], [10.0]], PLAIN.model_copy(update={"min_child_weight": least}))
        assert choice.tolist() == [3]
    only_empty = empty[:, :, :2]
    choice, left, gain, alive = split(only_empty, [[-4.0], [10.0]], PLAIN.model_copy(update={"min_child_weight": 0.0}))
    assert choice.tolist() == [0] and not left.any() and not gain.any() and not alive.any()


def test_an_empty_node_does_not_split() -> None:
    choice, left, gain, alive = split(np.zeros((2, 3, 4)), np.zeros((2, 3)), Parameters(min_child_weight=0.0))
    assert not choice.any() and not left.any() and not gain.any() and not alive.any()


@pytest.mark.parametrize(("least", "expected"), [(0, 3), (4, 3), (5, 2), (9, 0)])
def test_min_rows_per_leaf(least: int, expected: int) -> None:
    rows = np.array([[[1.0, 5, 4, 7, 9]]])
    total = np.array([[10.0]])
    parameters = PLAIN.model_copy(update={"min_rows_per_leaf": least})
    choice, left, *_ = split(np.concatenate([MIDDLE, rows]), np.concatenate([NODE, total]), parameters)
    assert choice.tolist() == [expected]
    assert left.shape == (3, 1)


@pytest.mark.parametrize(
    ("gamma", "unit", "splits"), [(9.99, 1.0, 1), (10.01, 1.0, 0), (39.9, 0.25, 1), (40.1, 0.25, 0)]
)
def test_gamma_in_the_unit_of_the_label(gamma: float, unit: float, splits: int) -> None:
    choice, left, gain, alive = split(MIDDLE, NODE, PLAIN.model_copy(update={"gamma": gamma}), gain_unit=unit)
    assert alive.tolist() == [splits]
    if not splits:
        assert not choice.any() and not left.any() and not gain.any()


def test_nothing_to_gain_is_no_split() -> None:
    flat = np.stack([MIDDLE[1] * 0.5, MIDDLE[1]])
    for _ in range(8):
        assert split(flat, [[5.0], [10.0]])[3].tolist() == [0]
        assert split(flat * [[[0.0]], [[1.0]]], [[0.0], [10.0]])[3].tolist() == [0]


def test_a_node_below_an_unsplit_one_does_not_split() -> None:
    twice = np.concatenate([MIDDLE, MIDDLE], axis=1)
    choice, left, gain, alive = split(twice, np.concatenate([NODE, NODE], axis=1), alive=[0, 1])
    assert choice.tolist() == [0, 3]
    assert alive.tolist() == [0, 1]
    assert left[:, 0].tolist() == [0, 0] and gain[0] == 0


def test_invalid_candidates_do_not_win() -> None:
    assert split(MIDDLE, NODE, valid=[1, 1, 0, 1, 1])[0][0] in (2, 4)  # their gains are equal
    assert split(MIDDLE, NODE, valid=[0] * 5)[0].tolist() == [0]


def test_candidates_that_a_node_may_not_use_do_not_win() -> None:
    twice = np.concatenate([MIDDLE, MIDDLE], axis=1)
    permitted = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 1]], dtype=np.bool_)
    choice, *_ = split(twice, np.concatenate([NODE, NODE], axis=1), permitted=permitted)
    assert choice.tolist() == [2, 5]
    assert split(MIDDLE, NODE, permitted=np.zeros((1, 5), dtype=np.bool_))[0].tolist() == [0]


def test_of_equal_candidates_the_one_that_is_not_handicapped_wins() -> None:
    doubled = np.concatenate([MIDDLE[:, :, 2:3]] * 2, axis=2)
    assert split(doubled, NODE, handicapped=[True, False])[0].tolist() == [2]


@pytest.mark.parametrize("batch", [7, 64])
def test_batches_do_not_matter(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    left = np.stack([rng.normal(size=(3, 70)), rng.uniform(2, 8, (3, 70))])
    node = np.array([[0.1, -0.2, 0.3], [10.0] * 3])
    valid = rng.random(70) < 0.5
    permitted = rng.random((3, 70)) < 0.7
    whole = split(left, node, valid=valid, permitted=permitted)
    monkeypatch.setattr(search, "_BATCH", batch)
    parts = split(left, node, valid=valid, permitted=permitted)
    assert whole[0].all()
    assert np.array_equal(whole[0], parts[0])
    assert np.array_equal(whole[1], parts[1])


def test_conditions_are_combined() -> None:
    rng = np.random.default_rng(2)
    bits = rng.random((5, 130)) < 0.8

    def program(session: Session) -> Any:
        planes = [secret_bits(session, plane, number % 2) for number, plane in enumerate(bits)]
        repeated = repeat_bits(planes[0], slice(3, 101), 3)
        return [*(conjunction_of(session, planes[:count]) for count in range(1, 6)), repeated]

    *combined, repeated = run(program)
    for count, plane in enumerate(combined, start=1):
        assert np.array_equal(plane, bits[:count].all(axis=0))
    assert np.array_equal(repeated, np.tile(bits[0][3:101], 3))
