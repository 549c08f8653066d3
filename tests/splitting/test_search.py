"""Which candidate splits a node, and when none does."""

from typing import Any

import numpy as np
import pytest
from tests.network import run, secret, secret_bits

from veilboost.mpc.session import Session
from veilboost.splitting import search
from veilboost.splitting.scales import Scales, choose_scales
from veilboost.splitting.search import (
    Candidates,
    conjunction_of,
    find_splits,
    interleave,
    open_root,
    repeat_bits,
    repeat_each,
    spread_bits,
)
from veilboost.trees.exact_splits import score
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
    missing: Any = None,
    second: Any = None,
    permitted: Any = None,
    numbers: Any = None,
    gain_unit: float = 1.0,
    owners: int = 2,
    scales: Scales = SCALES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Choice, left sums, gain (real) and alive for real sums of (gradient, hessian[, rows]).

    `missing` are real hessian sums, shape (nodes, columns).
    """
    units = np.array([2**scales.gradient_bits, 2**scales.hessian_bits, 1][: len(left)])
    left_sums = np.rint(np.asarray(left, dtype=float) * units[:, None, None]).astype(np.int64)
    node_sums = np.rint(np.asarray(node, dtype=float) * units[:, None]).astype(np.int64)
    absent = None if missing is None else np.rint(np.asarray(missing, dtype=float) * units[1]).astype(np.int64)
    n_nodes, count = left_sums.shape[1:]

    def program(session: Session) -> Any:
        candidates = Candidates(
            secret(session, left_sums),
            np.arange(count) if numbers is None else np.asarray(numbers),
            valid=None if valid is None else secret_bits(session, valid, 1),
            missing=None if absent is None else secret(session, absent, 1),
            second=np.full(count, -1) if second is None else np.asarray(second),
            permitted=permitted,
        )
        lives = secret_bits(session, np.ones(n_nodes) if alive is None else alive)
        standing = open_root(session, secret(session, node_sums), lives, parameters, scales)
        found = find_splits(session, candidates, standing, parameters, scales, gain_unit)
        return found.choice, found.children.sums, found.gain, found.alive, found.children.alive

    choice, sums, gain, lives, children_alive = run(program, owners)
    assert np.array_equal(sums[:, 0::2] + sums[:, 1::2], node_sums)
    assert np.array_equal(children_alive, np.repeat(lives, 2))
    return choice, sums[:, 0::2] / units[:, None], gain / 2.0 ** (scales.gradient_bits + scales.weight_bits), lives


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


@pytest.mark.parametrize("parameters", [PLAIN, Parameters(reg_lambda=2.0), Parameters(reg_lambda=1.0, reg_alpha=0.5)])
@pytest.mark.parametrize("count", [30, 333])
def test_every_node_has_its_own_winner(count: int, parameters: Parameters) -> None:
    rng = np.random.default_rng(count)
    nodes = 16
    hessian = rng.uniform(2, 20, (nodes, count))
    gradient = rng.normal(size=(nodes, count)) * 3
    node = np.stack([rng.normal(size=nodes), np.full(nodes, 25.0)])
    choice, left, gain, alive = split(np.stack([gradient, hessian]), node, parameters)
    exact = score(gradient, hessian, parameters) + score(node[0][:, None] - gradient, 25 - hessian, parameters)
    exact = exact - score(node[0], 25.0, parameters)[:, None]
    best = exact.argmax(axis=1)
    assert (choice - 1 == best).all()
    assert np.abs(left[0] - gradient[np.arange(nodes), best]).max() < 1e-5
    assert np.abs(gain - exact.max(axis=1)).max() < 1e-3
    assert alive.all()


def test_children_stand_as_if_they_were_opened_themselves() -> None:
    """Weight, score and factor of both children of a split node, and of a node that is passed through."""
    node = np.array([[0.0, 4.0], [10.0, 10.0]])
    left_sums = np.concatenate([MIDDLE, MIDDLE], axis=1)
    parameters = Parameters(reg_lambda=1.0)
    units = np.array([G, H])[:, None]

    def program(session: Session) -> Any:
        standing = open_root(session, secret(session, node * units), secret_bits(session, [1, 0]), parameters, SCALES)
        candidates = Candidates(secret(session, left_sums * units[:, None]), np.arange(5))
        children = find_splits(session, candidates, standing, parameters, SCALES).children
        again = open_root(session, children.sums, children.alive, parameters, SCALES)
        return [[side.sums, side.weight, side.score, side.factor, side.alive] for side in (children, again)]

    found, opened = run(program)
    assert found[0].tolist() == [[-5 * G, 5 * G, 0, 4 * G], [5 * H, 5 * H, 0, 10 * H]]
    assert found[4].tolist() == [1, 1, 0, 0]
    whole = [0, 1, 3]  # the left child of a node that does not split is empty: nothing of it counts
    for kept, anew in zip(found[1:4], opened[1:4], strict=True):
        assert np.abs(kept / np.where(anew == 0, 1, anew) - 1)[whole].max() < 2.0**-20
    assert found[1][2] == found[2][2] == found[3][2] == 0
    exact = np.array([-5 / 6, 5 / 6, 0, 4 / 11])
    assert np.abs(found[1] / 2.0**SCALES.weight_bits - exact).max() < 1e-6


@pytest.mark.parametrize(("least", "weighs"), [(0.0, True), (10.0, True), (10.1, False)])
def test_a_root_below_the_least_hessian_weighs_nothing(least: float, weighs: bool) -> None:
    parameters = PLAIN.model_copy(update={"min_child_weight": least})
    sums = np.array([[5 * G], [10 * H]])
    weight = run(
        lambda s: open_root(s, secret(s, sums), secret_bits(s, [1]), parameters, SCALES).weight,
    )
    assert (weight[0] != 0) == weighs
    assert abs(weight[0] / 2.0**SCALES.weight_bits - 0.5 * weighs) < 1e-6


SLIGHTLY_MORE = 5 + 8 / 2.0**SCALES.hessian_bits


@pytest.mark.parametrize(
    ("least", "expected"),
    # Candidate 2, the best, has a hessian of 5 on both sides.
    [(0.0, 3), (1.0, 3), (5.0, 3), (SLIGHTLY_MORE, 3), (5.1, 0), (1000.0, 0)],
)
def test_min_child_weight_tolerates_rounding_only(least: float, expected: int) -> None:
    """Eight units are within four standard deviations of the rounding, 0.1 is not."""
    assert SCALES.least_hessian(SLIGHTLY_MORE) <= 5 * H < SCALES.least_hessian(5.1)
    assert split(MIDDLE, NODE, PLAIN.model_copy(update={"min_child_weight": least}))[0].tolist() == [expected]


@pytest.mark.parametrize("reg_lambda", [0.0, 1.0])
def test_an_empty_side_never_wins(reg_lambda: float) -> None:
    empty = np.array([[[0.0, -4.0, -4.0]], [[0.0, 10.0, 4.0]]])
    plain = PLAIN.model_copy(update={"reg_lambda": reg_lambda})
    for least in (0.0, 1.0):
        choice, *_ = split(empty, [[-4.0], [10.0]], plain.model_copy(update={"min_child_weight": least}))
        assert choice.tolist() == [3]
    only_empty = empty[:, :, :2]
    choice, left, gain, alive = split(only_empty, [[-4.0], [10.0]], plain.model_copy(update={"min_child_weight": 0.0}))
    assert choice.tolist() == [0] and not left.any() and not gain.any() and not alive.any()


@pytest.mark.parametrize("reg_lambda", [0.0, 1.0])
def test_an_empty_node_does_not_split(reg_lambda: float) -> None:
    parameters = Parameters(min_child_weight=0.0, reg_lambda=reg_lambda)
    choice, left, gain, alive = split(np.zeros((2, 3, 4)), np.zeros((2, 3)), parameters)
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


@pytest.mark.parametrize("owners", [2, 3])
@pytest.mark.parametrize("parameters", [PLAIN, PLAIN.model_copy(update={"reg_alpha": 1e-6})])
def test_the_second_direction_wins_only_where_rows_are_missing(parameters: Parameters, owners: int) -> None:
    """Two columns in three nodes. The second direction of each is better by far, and so is that of the better column.

    No row of column 0 is missing in node 0, none of column 1 in node 1, none at all in node 2.
    """
    nodes = 3
    gradient = np.tile([-2.0, -4.0, -2.5, -4.5], (nodes, 1))  # column 0, its second; column 1, its second
    left = np.stack([gradient, np.full_like(gradient, 5.0)])
    node = np.array([[0.0] * nodes, [10.0] * nodes])
    missing = [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    second = [-1, 0, -1, 1]
    for _ in range(3):
        choice, *_ = split(left, node, parameters, missing=missing, second=second, owners=owners)
        assert choice.tolist() == [4, 2, 3]
    least = 1 / H  # one unit of hessian is enough to be there
    choice, *_ = split(left, node, parameters, missing=np.full((nodes, 2), least), second=second)
    assert choice.tolist() == [4, 4, 4]


def test_a_second_direction_that_is_worse_or_equal_changes_nothing() -> None:
    """Of a node without missing rows of the column, both directions have the same sums: the first must win, always."""
    rng = np.random.default_rng(3)
    nodes, cuts = 40, 12
    gradient, hessian = rng.normal(size=(nodes, cuts)) * 3, rng.uniform(2, 20, (nodes, cuts))
    node = np.stack([np.zeros(nodes), np.full(nodes, 25.0)])
    both = np.concatenate([np.stack([gradient, hessian])] * 2, axis=2)
    second = np.repeat([-1, 0], cuts)
    for missing in (0.0, 3.0):
        # With missing rows, the second direction has another gradient; here a smaller one.
        both[0, :, cuts:] = gradient * (0.99 if missing else 1.0)
        choice, *_ = split(both, node, missing=np.full((nodes, 1), missing), second=second)
        assert (choice > 0).all() and (choice <= cuts).all()
    both[0, :, cuts:] = gradient * 1.01
    choice, *_ = split(both, node, missing=np.full((nodes, 1), 3.0), second=second)
    assert (choice > cuts).all()


@pytest.mark.parametrize("batch", [7, 64])
def test_batches_do_not_matter(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    left = np.stack([rng.normal(size=(3, 70)), rng.uniform(2, 8, (3, 70))])
    node = np.array([[0.1, -0.2, 0.3], [10.0] * 3])
    given: dict[str, Any] = {
        "valid": rng.random(70) < 0.5,
        "permitted": rng.random((3, 70)) < 0.7,
        "missing": rng.integers(0, 2, (3, 4)),
        "second": rng.integers(-1, 4, 70),
    }
    whole = split(left, node, **given)
    monkeypatch.setattr(search, "_BATCH", batch)
    parts = split(left, node, **given)
    assert whole[0].all()
    assert np.array_equal(whole[0], parts[0])
    assert np.array_equal(whole[1], parts[1])


#: Fewest bits: a million rows.
COARSE = choose_scales(10**6, 1.0, 0.25, 0.0)


@pytest.mark.parametrize("units", [1, 3, 100])
def test_sides_of_a_few_units_of_hessian(units: int) -> None:
    """Without least hessian and lambda, a side of one unit may win, with a gain that XGBoost has, too."""
    parameters = Parameters(min_child_weight=0.0, reg_lambda=0.0)
    side = units / 2.0**COARSE.hessian_bits
    node = np.array([[0.0], [1000.0]])
    left = np.array([[[0.5, 8.0, 0.5]], [[0.0, 500.0, side]]])
    choice, sums, gain, alive = split(left, node, parameters, scales=COARSE)
    assert choice.tolist() == [3] and alive.tolist() == [1]
    assert sums.tolist() == [[0.5], [side]]
    exact = 0.25 / side + 0.25 / (1000 - side)
    assert abs(gain[0] - exact) < 1e-6 * exact + 1e-4


def test_tiny_gains_of_a_million_rows() -> None:
    """From a gain of 2e-6 on, a valid candidate splits its node, also after invalid ones; below 1e-6 none does."""
    node = np.array([[0.0], [250_000.0]])
    for gradient, splits in ((0.4, 1), (0.2, 0)):
        left = np.array([[[3.0, gradient, 5.0]], [[10.0, 125_000.0, 0.0]]])
        gain = 4 * gradient**2 / 250_000
        assert gain > 2e-6 if splits else gain < 1e-6
        choice, *_ = split(left, node, Parameters(reg_lambda=0.0), valid=[0, 1, 1], scales=COARSE)
        assert choice.tolist() == [2 * splits]


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


def test_bits_of_nodes_and_columns_are_spread_over_candidates() -> None:
    rng = np.random.default_rng(4)
    present = rng.random((6, 11)) < 0.5
    columns = rng.integers(-1, 11, 90)

    def program(session: Session) -> Any:
        plane = secret_bits(session, present.reshape(-1), 1)
        return spread_bits(plane, columns, 6), repeat_each(plane, 3)

    spread, repeated = run(program, 3)
    wanted = np.where(columns < 0, True, present[:, np.maximum(columns, 0)])
    assert np.array_equal(spread.reshape(6, 90), wanted)
    assert np.array_equal(repeated, np.repeat(present.reshape(-1), 3))


def test_children_take_turns() -> None:
    left = np.arange(6).reshape(2, 3)
    found = run(lambda s: interleave(secret(s, left), secret(s, left + 10)))
    assert found.tolist() == [[0, 10, 1, 11, 2, 12], [3, 13, 4, 14, 5, 15]]
