"""Federated training against the plaintext oracle on the pooled rows, with the same cuts.

The oracle's audit replays the model in exact arithmetic, as for training on shares. The clients compute gradients in
the clear, so that all that differs is their rounding to fixed point and the split search on shares.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.federation import Trained, table_of, task_of, train_federated
from tests.training import CLASSES, EVERY_KIND, Table, draw_table
from tests.xorboost.test_parity import same_shape

from veilboost.federated.forest import Forest
from veilboost.federated.task import FederatedTask
from veilboost.tables.binning import BinnedColumn
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters
from veilboost.trees.reference import NodeAudit, audit
from veilboost.trees.reference import train as train_in_the_clear

OBJECTIVES = ("binary:logistic", "reg:squarederror", "multi:softprob", "count:poisson")


def pooled_columns(task: FederatedTask, forest: Forest, values: np.ndarray) -> list[BinnedColumn]:
    """All clients' rows in the bins of the federation."""
    columns = []
    for number, (feature, plan) in enumerate(zip(task.features, task.space.plans, strict=True)):
        column = values[:, number]
        cuts = np.full(plan.n_candidates, np.finfo(np.float32).max, dtype=np.float32)
        bins = np.full(len(column), plan.n_bins, dtype=np.uint16)
        present = ~np.isnan(column)
        if feature.categorical:
            bins[present] = column[present].astype(np.uint16)
            cuts[:] = 0
        else:
            own = forest.cuts_of(task, number)
            cuts[: len(own)] = own
            bins[present] = np.searchsorted(own, column[present] + np.float32(0), side="right")
        # The oracle numbers the categories of a partitioned column as one against the rest.
        plan = replace(plan, n_candidates=plan.n_bins) if feature.categorical else plan
        columns.append(
            BinnedColumn(
                feature, plan, bins, np.resize(cuts, plan.n_candidates), np.ones(plan.n_candidates, dtype=bool)
            )
        )
    return columns


def split_rows(table: Table, clients: int, seed: int = 0) -> list[Any]:
    """The rows dealt out to clients, unevenly; as clients' tables."""
    rng = np.random.default_rng(seed)
    owner = rng.choice(clients, len(table.labels), p=np.arange(1, clients + 1) / sum(range(1, clients + 1)))
    return [
        table_of(
            table.features,
            table.values[owner == client],
            table.labels[owner == client],
            None if table.weights is None else table.weights[owner == client],
        )
        for client in range(clients)
    ]


def judged(task: FederatedTask, forest: Forest, model: Ensemble, table: Table) -> list[tuple[NodeAudit, bool, bool]]:
    """Nodes of a model, and whether the oracle agrees with their splits and with their weights."""
    unit, rows = task.unit.half_width, len(table.labels)
    scales = task.with_rows({"all": rows}).scales
    least_units = scales.hessian(task.parameters.min_child_weight)
    tolerance = (8 + 8 * np.sqrt(least_units)) / 2.0**scales.hessian_bits + 1e-5
    tolerance = 0.0 if scales.exact_hessians else tolerance * task.unit.hessian
    off = 1e-6 * unit * task.unit.hessian
    least = max(task.parameters.gamma, 1e-6)
    columns = pooled_columns(task, forest, table.values)
    found = []
    for node in audit(model, columns, table.labels, task.parameters, tolerance, off, table.weights):
        slack = 1e-3 * max(node.best_gain, 0.0) + 1e-5 * task.unit.gain
        if node.splits:
            good = node.chosen_gain >= max(node.best_gain, least) - slack
        else:
            good = not np.isfinite(node.best_gain) or node.best_gain <= least + slack
        right = True
        if node.stated_weight is not None and node.exact_weight is not None:
            right = abs(node.stated_weight - node.exact_weight) <= 1e-3 * abs(node.exact_weight) + 1e-5 * unit
        found.append((node, bool(good), bool(right)))
    return found


def faults(task: FederatedTask, forest: Forest, model: Ensemble, table: Table) -> list[NodeAudit]:
    """Nodes of a model that the oracle does not agree with."""
    return [node for node, good, right in judged(task, forest, model, table) if not (good and right)]


def agree(table: Table, parameters: Parameters, clients: int = 3, **more: Any) -> tuple[Trained, Ensemble]:
    """Train both ways and compare; the model of the federation."""
    task = task_of(table.features, parameters, clients, label_range=table.label_range, weight_range=table.weight_range)
    trained = train_federated(task, split_rows(table, clients), **more)
    forest = trained.forests[0]
    assert all(other.to_bytes() == forest.to_bytes() for other in trained.forests)
    assert all(client.done and client.forest.to_bytes() == forest.to_bytes() for client in trained.clients.values())
    model = forest.to_ensemble(task)
    oracle = train_in_the_clear(pooled_columns(task, forest, table.values), table.labels, parameters, table.weights)
    np.testing.assert_allclose(model.base_score, oracle.base_score, rtol=1e-6, atol=1e-6 * task.unit.half_width)
    assert faults(task, forest, model, table) == []
    if same_shape(model, oracle):
        margins, expected = model.predict_margin(table.values), oracle.predict_margin(table.values)
        assert np.abs(margins - expected).max() <= 1e-3 * task.unit.half_width
    return trained, model


def draw(objective: str, rows: int, seed: int, features: Sequence[Any] = EVERY_KIND) -> Table:
    return draw_table(features, rows, 1, objective, np.random.default_rng(seed))


def parameters_of(objective: str, **more: Any) -> Parameters:
    classes = {"num_class": CLASSES} if objective == "multi:softprob" else {}
    return Parameters(**{"objective": objective, "n_estimators": 2, "max_depth": 3, "max_bin": 16, **classes, **more})


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_kinds_of_columns(objective: str) -> None:
    classes = objective == "multi:softprob"  # three trees in a round
    _, model = agree(draw(objective, 250, 1), parameters_of(objective, n_estimators=1 if classes else 2, max_bin=8))
    assert sum(len(set(tree.feature[~tree.leaf].tolist())) for tree in model.trees) > 3


def test_everything_at_once() -> None:
    table = draw("binary:logistic", 300, 2).weighted(0, np.random.default_rng(2), high=3.0)
    more = {"colsample_bytree": 0.9, "colsample_bynode": 0.8, "seed": 5, "min_rows_per_leaf": 10, "base_score": 0.4}
    more |= {"reg_alpha": 0.2, "reg_lambda": 2.0, "gamma": 0.1, "min_child_weight": 2.0, "scale_pos_weight": 2.0}
    constraints = {"continuous": 1, "discrete with gaps": -1}
    parameters = parameters_of("binary:logistic", max_bin=8, reveal_gain=True, monotone_constraints=constraints, **more)
    _, model = agree(table, parameters)
    assert all(tree.n_nodes > 1 for tree in model.trees)


@pytest.mark.parametrize(
    "feature",
    [
        pytest.param(feature, marks=() if number in (1, 5, 9) else pytest.mark.slow)
        for number, feature in enumerate(EVERY_KIND)
    ],
    ids=lambda feature: feature.name.replace(" ", "-"),
)
def test_each_kind_of_column_alone(feature: Any) -> None:
    agree(draw("binary:logistic", 150, 3, [feature]), parameters_of("binary:logistic", max_bin=8), 2)


@pytest.mark.parametrize("max_bin", [255, 256, 257, pytest.param(1024, marks=pytest.mark.slow)])
def test_as_many_bins_as_a_byte_counts_and_more(max_bin: int) -> None:
    """256 is the default. Bins are bytes while they and that for missing cells, in columns that have any, are 256."""
    names = ("continuous", "flag")
    features = [feature for feature in EVERY_KIND if feature.name in names]
    assert len(features) == 2 and not any(feature.missing for feature in features)
    parameters = parameters_of("binary:logistic", max_depth=2, max_bin=max_bin)
    for chosen in (features, [replace(features[0], missing=True), features[1]]):
        agree(draw("binary:logistic", 600, 6, chosen), parameters, 2)


def quick(*more: dict[str, Any]) -> list[Any]:
    """Cases of the quick tests; those after the first two are for the slow ones."""
    return [pytest.param(one, marks=() if number < 2 else pytest.mark.slow) for number, one in enumerate(more)]


@pytest.mark.parametrize(
    "more",
    quick(
        {"max_delta_step": 0.3},
        {"max_cat_to_onehot": 100},
        {"reg_alpha": 0.5, "reg_lambda": 3.0, "gamma": 0.2, "min_child_weight": 4.0},
        {"scale_pos_weight": 3.0},
        {"base_score": 0.3},
        {"min_rows_per_leaf": 30},
        {"colsample_bytree": 0.7, "colsample_bylevel": 0.8, "colsample_bynode": 0.8, "seed": 5},
        {"monotone_constraints": {"continuous": 1, "discrete with gaps": -1}},
        {"reveal_gain": True},
    ),
    ids=lambda more: next(iter(more)),
)
def test_parameters(more: dict[str, Any]) -> None:
    _, model = agree(draw("binary:logistic", 400, 4), parameters_of("binary:logistic", **more))
    assert any(tree.n_nodes > 1 for tree in model.trees)


@pytest.mark.parametrize(
    "objective", [OBJECTIVES[1], *(pytest.param(OBJECTIVES[at], marks=pytest.mark.slow) for at in (0, 2, 3))]
)
def test_sample_weights(objective: str) -> None:
    table = draw(objective, 300, 5).weighted(0, np.random.default_rng(6), high=4.0)
    agree(table, parameters_of(objective))


def test_however_the_rows_are_dealt_out() -> None:
    """The same model bit for bit with one client, with four, with other aggregators: sums are sums of integers."""
    table = draw("binary:logistic", 250, 7, EVERY_KIND[1::2])
    parameters = parameters_of("binary:logistic", max_bin=8)
    models = []
    for clients, aggregators, seed in ((1, 2, 0), (4, 2, 1), (4, 3, 2)):
        task = task_of(table.features, parameters, clients, min_clients=1)
        trained = train_federated(task, split_rows(table, clients, seed), aggregators=aggregators)
        models.append(trained.forests[0].to_bytes())
    assert models[0] == models[1] == models[2]


def test_the_same_trees_as_xgboost() -> None:
    """On columns of few values, whose cuts separate all of them, where no two gains are close."""
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(8)
    values = rng.integers(0, 12, (3000, 4)).astype(np.float32)
    labels = rng.random(3000) < 1 / (1 + np.exp(-(values[:, 0] - 6) * 0.5 + (values[:, 1] > 4) - 0.2 * values[:, 2]))
    features = [replace(EVERY_KIND[2], name=f"x{number}") for number in range(4)]
    table = Table(tuple(features), values, (0,) * 4, labels.astype(float), 0)
    parameters = parameters_of("binary:logistic", n_estimators=3, max_bin=32)
    _, model = agree(table, parameters, 2)
    matrix = xgboost.DMatrix(values, label=labels)
    given = {"objective": "binary:logistic", "max_depth": 3, "tree_method": "hist", "max_bin": 32}
    expected = xgboost.train(given, matrix, 3).predict(matrix, output_margin=True)
    assert np.abs(model.predict_margin(values) - expected).max() < 1e-4
