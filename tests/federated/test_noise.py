"""Noise of whole trainings: that it is in what is published, as much of it as planned, and in nothing for nothing."""

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Any

import numpy as np
import pytest
from tests.federation import table_of, task_of, train_federated
from tests.training import EVERY_KIND, draw_values

from veilboost.federated.forest import Forest, GrownTree
from veilboost.federated.local import LocalRows
from veilboost.federated.privacy import Budget
from veilboost.federated.questions import LABEL_BITS
from veilboost.federated.task import RATIO_BITS, FederatedTask, SizedTask
from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.parameters import Parameters

pytest.importorskip("dp_accounting", reason="dp-accounting comes with the federated extra")

ROWS = 60
FLAGS = tuple(Feature(name, Kind.FLAG) for name in ("first", "second"))


def sampled(**more: Any) -> SizedTask:
    """Every kind of column, of which a level may use 3 of 10."""
    given = {"n_estimators": 2, "max_depth": 2, "max_bin": 8, "base_score": 0.5, "colsample_bytree": 0.3, **more}
    task = task_of(EVERY_KIND, Parameters(**given), 2, privacy=Budget("row", 5.0, 1e-6))
    return task.with_rows({"client0": ROWS, "client1": ROWS})


def of_columns(task: FederatedTask, answer: np.ndarray) -> list[np.ndarray]:
    """A client's answer at a root, one array for each column."""
    sums = answer.view(np.int64).reshape(task.space.n_bins, task.vectors, 1)
    return np.split(sums, task.space.bin_starts[1:-1])


def roots(sized: SizedTask, values: np.ndarray, labels: np.ndarray) -> Iterator[list[np.ndarray]]:
    """What a client answers at the roots of two trees."""
    task = sized.task
    for tree in range(2):
        rows = LocalRows(task, "client0", table_of(task.features, values, labels))
        cuts = [np.linspace(-1, 1, task.cuts).astype(np.float32) for _ in task.numeric]
        stump = GrownTree([(None,), (None, None)], (0, 0, 0, 0))
        yield of_columns(task, rows.level_sums(Forest(cuts, (), [stump] * tree + [GrownTree()]), sized, tree, True))


@pytest.mark.parametrize(
    ("sampling", "counted"),
    [
        ({}, 3),
        ({"colsample_bytree": 1.0}, 10),
        ({"colsample_bytree": 0.5, "colsample_bylevel": 0.5}, 2),
        ({"colsample_bynode": 0.5}, 10),  # nodes of a level have different columns
    ],
)
def test_columns_that_clients_sum(sampling: dict[str, float], counted: int) -> None:
    """The sensitivity counts as many as have anything but zeros in an answer, and nodes are made up of these."""
    sized, rng = sampled(**sampling), np.random.default_rng(1)
    assert sized.protection is not None
    question = sized.protection.plan.of("level").sensitivity
    alone = sampled(colsample_bytree=0.1).protection
    assert alone is not None
    each = alone.plan.of("level").sensitivity.squared / 4.0**alone.bounds.gradient_bits
    assert question.squared / 4.0**sized.protection.bounds.gradient_bits == counted * each
    values = draw_values(EVERY_KIND, ROWS, rng)
    used = []
    for tree, columns in enumerate(roots(sized, values, (rng.random(ROWS) < 0.5).astype(float))):
        summed = [bool(column.any()) for column in columns]
        assert summed == sized.summed(tree, 0).tolist()
        assert sum(summed) == counted
        # All summed columns add up to the same node.
        whole = np.concatenate(columns)[sized.whole(tree, 0)].sum(axis=0)
        assert whole[1] > 0
        for column in (column for column, there in zip(columns, summed, strict=True) if there):
            np.testing.assert_array_equal(column.sum(axis=0), whole)
        used.append(summed)
    assert used[0] != used[1] or counted == 10


def test_neighbours_differ_by_no_more_than_the_bound() -> None:
    """Answers of a client with one row replaced: within the squared sensitivity, and close to it."""
    sized, rng = sampled(), np.random.default_rng(2)
    assert sized.protection is not None
    question = sized.protection.plan.of("level").sensitivity
    values, labels = draw_values(EVERY_KIND, ROWS, rng), np.zeros(ROWS)
    largest = 0.0
    for _ in range(30):
        other, changed = values.copy(), labels.copy()
        other[7], changed[7] = draw_values(EVERY_KIND, 1, rng)[0], 1.0
        for before, after in zip(roots(sized, values, labels), roots(sized, other, changed), strict=True):
            moved = (np.concatenate(before) - np.concatenate(after)).astype(float) ** 2
            squares = [float(part.unit_squared) for part in question.components]
            largest = max(largest, float((moved.sum(axis=(0, 2)) / squares).sum()))
    # At a root g is +-1/2, so a quarter of 4 in each column whose two bins are the same.
    assert 0.2 * float(question.squared) < largest <= float(question.squared)


def test_trees_use_permitted_columns_only() -> None:
    rng = np.random.default_rng(3)
    values = draw_values(EVERY_KIND, 400, rng)
    labels = (values[:, 0] > 0).astype(float)
    parameters = Parameters(n_estimators=6, max_depth=2, max_bin=8, colsample_bytree=0.3)
    task = task_of(EVERY_KIND, parameters, 2, privacy=Budget("row", 20.0, 1e-3))
    tables = [table_of(EVERY_KIND, values[part], labels[part]) for part in (slice(0, 150), slice(150, None))]
    trained = train_federated(task, tables)
    sized = task.with_rows({"client0": 150, "client1": 250})
    found = 0
    for number, tree in enumerate(trained.forests[0].trees):
        for level, splits in enumerate(tree.levels):
            features = {split.feature for split in splits if split is not None}
            assert features <= set(np.flatnonzero(sized.summed(number, level)).tolist())
            found += len(features)
    assert found > 2


def test_right_children_have_room_for_the_noise_of_two_columns() -> None:
    """Sums of the widest column and its noise stay below 2^30, with many categories too."""
    wide = Feature("wide", Kind.CATEGORICAL, tuple(f"level {number}" for number in range(500)))
    task = task_of((*FLAGS, wide), Parameters(max_depth=2, base_score=0.5), 2, privacy=Budget("row", 0.5, 1e-6))
    protection = task.with_rows({"client0": 30_000, "client1": 30_000}).protection
    assert protection is not None
    noise = protection.plan.of("level")
    spread = sqrt(2 * 2 * 500 * noise.variance("gradient"))  # two aggregators
    assert 60_000 * 2**protection.scales.gradient_bits + 8 * spread < 2**30


def implied_sums(weights: Sequence[int], parameters: Parameters, reg_lambda: float, hessian: float) -> np.ndarray:
    """Gradient sums from leaf weights."""
    values = np.array(weights) / 2.0**FRACTION_BITS
    return -values / parameters.learning_rate * (hessian + reg_lambda)


def two_leaves(aggregators: int, repeats: int, epsilon: float | None = 1.0) -> tuple[np.ndarray, np.ndarray, float]:
    """Gradient sums that the leaf weights of `repeats` trainings tell; the exact ones; sigma of one aggregator's noise.

    `reg_lambda` is so large that noise of hessians does not count, and there are so many rows that it makes no sum of
    hessians negative: such a leaf has no weight.
    """
    rows, ill = 600, 400
    values = np.array([[0, 0], [1, 1]] * (rows // 2), dtype=np.float32)
    labels = values[:, 0] * (np.arange(rows) < ill)
    parameters = Parameters(n_estimators=1, max_depth=1, base_score=0.5, reg_lambda=3000.0, min_child_weight=0.0)
    privacy = None if epsilon is None else Budget("row", epsilon, 1e-6)
    task = task_of(FLAGS, parameters, 2, leaf_sums=True, aggregators=aggregators, privacy=privacy)
    tables = [table_of(FLAGS, values[part], labels[part]) for part in (slice(0, 200), slice(200, None))]
    found = []
    for _ in range(repeats):
        (tree,) = train_federated(task, tables, aggregators=aggregators).forests[0].trees
        assert tree.weights is not None
        found.append(implied_sums(tree.weights, parameters, 3000.0, rows / 8))
    exact = np.array([rows / 4, rows / 4 - ill / 2])
    protection = task.with_rows({"client0": 200, "client1": 400}).protection
    if protection is None:
        return np.array(found), exact, 0.0
    assert protection.reg_lambda == 3000.0
    sigma = sqrt(protection.plan.of("leaves").variance("gradient")) / 2**protection.scales.gradient_bits
    return np.array(found), exact, sigma


def test_leaf_weights_of_equal_data_differ_with_a_budget_only() -> None:
    without, exact, _ = two_leaves(2, 2, None)
    assert (without[0] == without[1]).all()
    np.testing.assert_allclose(without[0], exact, rtol=1e-3)
    noisy, _, _ = two_leaves(2, 3)
    assert len(np.unique(noisy)) == noisy.size


@pytest.mark.parametrize("leaf_sums", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_all_aggregators_add_noise_to_every_question(leaf_sums: bool) -> None:
    """Many classes are many numbers of one training: the noise of labels, and of leaves or levels, in what it tells.

    The variance is that of four aggregators, not that of one: of 63 numbers it is below half of what it should be with
    a probability of 1e-4, and above twice of what one alone would make with 2e-5.
    """
    classes, rows, aggregators = 63, 400, 4
    bounds = (1.9, 8.0)
    values = np.array([[0], [1]] * (rows // 2), dtype=np.float32)
    labels = (np.arange(rows) // 2 % classes).astype(float)
    counts = np.array([np.bincount(labels[values[:, 0] == side].astype(int), minlength=classes) for side in (0, 1)])
    given = {"objective": "multi:softprob", "num_class": classes, "n_estimators": 1, "max_depth": 1}
    parameters = Parameters(**given, reg_lambda=5000.0, min_child_weight=0.0, reveal_gain=True)
    task = task_of(
        FLAGS[:1], parameters, 2, leaf_sums=leaf_sums, aggregators=aggregators, privacy=Budget("row", 20.0, 1e-3)
    )
    tables = [table_of(FLAGS[:1], values[part], labels[part]) for part in (slice(0, 100), slice(100, None))]
    forest = train_federated(task, tables, aggregators=aggregators).forests[0]
    protection = task.with_rows({"client0": 100, "client1": 300}).protection
    assert protection is not None
    plan, scales = protection.plan, protection.scales

    sigma = sqrt(plan.of("labels").variance("labels")) / 2**LABEL_BITS
    ratios = np.array(forest.ratios) / 2**RATIO_BITS * rows
    assert bounds[0] < (((ratios - counts.sum(axis=0)) / sigma) ** 2).mean() < bounds[1]

    # Of equal rows, gradients and hessians are those of the base score.
    margins = forest.base_margins(task)
    p = np.exp(margins - margins.max()) / np.exp(margins - margins.max()).sum()
    if leaf_sums:
        weights = [implied_sums(tree.weights or (), parameters, 5000.0, 0.0) for tree in forest.trees]
        noise = np.array(weights).T - (rows / 2 * p - counts)
        sigma = sqrt(plan.of("leaves").variance("gradient")) / 2**scales.gradient_bits
    else:  # the hessian sum of a root: two bins
        covers = np.array([tree.covers[0] for tree in forest.trees])
        noise = covers / task.unit.hessian - rows * 2 * p * (1 - p) / task.unit.hessian
        sigma = sqrt(2 * plan.of("level").variance("hessian")) / 2**scales.hessian_bits
    assert bounds[0] < ((noise / sigma) ** 2).mean() < bounds[1]


@pytest.mark.slow
@pytest.mark.parametrize("aggregators", [2, 3])
def test_published_weights_have_the_noise_of_all_aggregators(aggregators: int) -> None:
    """The variance of gradient sums is A sigma^2, within four standard deviations of its estimate of 400 numbers."""
    found, exact, sigma = two_leaves(aggregators, 200)
    ratio = float(((found - exact) ** 2).mean()) / sigma**2
    assert abs(ratio / aggregators - 1) < 4 * sqrt(2 / found.size)
    assert abs(float(np.corrcoef(found.T)[0, 1])) < 0.3  # leaves have noise of their own
    np.testing.assert_allclose(found.mean(axis=0), exact, atol=4 * sigma * sqrt(aggregators / len(found)))


@pytest.mark.parametrize(
    ("given", "label_range", "ratio", "expected"),
    [
        ({"objective": "reg:squarederror"}, (0.0, 100.0), 40.0, 100.0),
        ({"objective": "reg:squarederror"}, (0.0, 100.0), -3.0, 0.0),
        ({"objective": "count:poisson"}, (0.0, 20.0), 7.0, 20.0),
        ({"objective": "count:poisson"}, (0.0, 20.0), -7.0, 0.2),
        ({}, None, 1.7, 0.99),
        ({}, None, -0.2, 0.01),
        ({"scale_pos_weight": 2.0}, None, 9.0, 1 / (1 + np.exp(-2.0))),
        ({"scale_pos_weight": 2.0}, None, -9.0, 1 / (1 + np.exp(2.0))),
    ],
)
def test_noise_makes_no_impossible_base_score(
    given: dict[str, Any], label_range: tuple[float, float] | None, ratio: float, expected: float
) -> None:
    task = task_of(FLAGS, Parameters(**given), 2, label_range=label_range, privacy=Budget("row", 1.0, 1e-6))
    forest = Forest([], (round(ratio * 2**RATIO_BITS),))
    assert forest.base_score(task) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert np.isfinite(forest.base_margins(task)).all()


def test_noise_makes_no_impossible_class() -> None:
    parameters = Parameters(objective="multi:softprob", num_class=3)
    task = task_of(FLAGS, parameters, 2, privacy=Budget("row", 1.0, 1e-6))
    parts = np.log(np.array([1.0, 0.01, 0.5]))
    forest = Forest([], tuple(round(part * 2**RATIO_BITS) for part in (3.0, -4.0, 0.5)))
    np.testing.assert_allclose(forest.base_score(task), parts - parts.mean(), rtol=1e-5)


def test_cells_are_counted_of_the_rows_that_clients_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the unit "client" a large client goes on with a sample, also in columns without missing cells."""
    silent = lambda self: lambda kind, numbers: np.zeros((len(self.plan.of(kind).variances), numbers), dtype=np.uint64)  # noqa: E731
    monkeypatch.setattr("veilboost.federated.protection.Protection.adder", silent)
    features = (Feature("plain", Kind.CONTINUOUS), Feature("with gaps", Kind.CONTINUOUS, (), True))
    cells = np.random.default_rng(5).random(3000).astype(np.float32)
    values, labels = np.stack([cells, cells], axis=1), (cells > 0.8).astype(float)
    parameters = Parameters(n_estimators=1, max_depth=1, max_bin=8)
    task = task_of(features, parameters, 3, leaf_sums=True, privacy=Budget("client", 20.0, 1e-2))
    parts = (slice(0, 2600), slice(2600, 2800), slice(2800, None))
    trained = train_federated(task, [table_of(features, values[part], labels[part]) for part in parts])
    plain, with_gaps = trained.forests[0].edges or ()
    np.testing.assert_array_equal(plain, with_gaps)
    np.testing.assert_allclose(plain, np.arange(1, 8) / 8, atol=0.06)
