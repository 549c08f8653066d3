"""Every objective on shares against the oracle: classes, counts, sample weights, rows held back."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.grids import GridTable, train_on_grid
from tests.network import run
from tests.training import CLASSES, EVERY_KIND, draw_table, train_on_shares
from tests.xorboost.test_parity import agree

from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.trees.objective import LEAST_PRIOR, to_prediction
from veilboost.trees.parameters import Parameters, parameters_from
from veilboost.xorboost.objectives.base import share_labels, share_weights
from veilboost.xorboost.objectives.choose import objective_of

SOFTPROB, POISSON = "multi:softprob", "count:poisson"


def parameters_for(objective: str, **more: Any) -> Parameters:
    given: dict[str, Any] = {"objective": objective, "n_estimators": 2, "max_depth": 3, "max_bin": 16} | more
    if objective == SOFTPROB:
        given["num_class"] = CLASSES
    return parameters_from(given)


@pytest.mark.parametrize("owners", [2, 3])
@pytest.mark.parametrize("objective", [SOFTPROB, POISSON])
def test_classes_and_counts(objective: str, owners: int) -> None:
    table = draw_table(EVERY_KIND, 300, owners, objective, np.random.default_rng(owners))
    model = agree(table, parameters_for(objective), owners)
    predicted = model.predict(table.values)
    if objective == SOFTPROB:
        assert predicted.shape == (300, CLASSES)
        assert np.mean(predicted.argmax(axis=1) == table.labels) > 0.6
    else:
        assert np.corrcoef(predicted, table.labels)[0, 1] > 0.4


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror", SOFTPROB, POISSON])
def test_sample_weights(objective: str) -> None:
    rng = np.random.default_rng(4)
    table = draw_table(EVERY_KIND[:6], 300, 2, objective, rng).weighted(1, rng, 3.0)
    agree(table, parameters_for(objective), 2)


def test_weight_of_the_positive_class() -> None:
    table = draw_table(EVERY_KIND[:6], 300, 2, "binary:logistic", np.random.default_rng(5))
    for ratio in (0.2, 7.0):
        agree(table, parameters_for("binary:logistic", scale_pos_weight=ratio), 2)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("positive", "rows"), [(0, 60), (60, 60), (0, 5000), (5000, 5000), (1, 60), (59, 60)])
def test_first_margin_of_classes_without_rows(positive: int, rows: int, weighted: bool) -> None:
    """A class without rows counts as a millionth: the first margin has the sign of the other one."""
    labels = (np.arange(rows) < positive).astype(float)
    weight = 0.75 if weighted else 1.0
    objective = objective_of(Parameters(), None, (0.0, 1.0) if weighted else None)

    def program(session: Session) -> Shared:
        weights = share_weights(session, 1, np.full(rows, weight), rows, 1.0) if weighted else None
        return objective.estimate(session, share_labels(session, 0, labels, rows, objective), weights)

    (margin,) = run(program) / 2.0**24
    part = np.clip(positive / rows, LEAST_PRIOR, 1 - LEAST_PRIOR)
    assert margin == pytest.approx(np.log(part / (1 - part)), abs=1e-4)


def loss_of(metric: str, predicted: Any, labels: Any) -> float:
    """As XGBoost defines it, of plain predictions."""
    if metric == "rmse":
        return float(np.sqrt(np.mean((predicted - labels) ** 2)))
    if metric == "error":
        return float(np.mean((predicted > 0.5) != labels))
    if metric == "logloss":
        return float(-np.mean(np.log(np.where(labels == 1, predicted, 1 - predicted))))
    return float(-np.mean(np.log(predicted[np.arange(len(labels)), labels.astype(int)])))


@pytest.mark.parametrize(
    ("objective", "metric"),
    [
        ("binary:logistic", "logloss"),
        ("binary:logistic", "error"),
        ("reg:squarederror", "rmse"),
        (SOFTPROB, "mlogloss"),
    ],
)
def test_rows_held_back(objective: str, metric: str) -> None:
    """The disclosed metric of the best round is that of the model that the analyst keeps."""
    table = draw_table(EVERY_KIND, 300, 2, objective, np.random.default_rng(6))
    parameters = parameters_for(
        objective, n_estimators=6, max_depth=4, early_stopping_rounds=2, eval_metric=metric, validation_fraction=0.3
    )
    model, outcome = train_on_shares(table, parameters, 2)
    assert "validation metric of every round" in [entry.value for entry in outcome.sessions[0].ledger]
    assert model.metrics is not None
    ((name, found),) = model.metrics["validation"].items()
    assert (name, len(found)) == (metric, 6)
    held_back = table.task(parameters).held_back
    predicted = to_prediction(parameters.objective, model.predict_margin(table.values[held_back]))
    expected = loss_of(metric, predicted, table.labels[held_back])
    best = len(model.trees) // parameters.outputs - 1
    # Averages have 13 fraction bits (rmse: 20 of the squared range, here 100), and are off by less than two units.
    assert found[best] == pytest.approx(expected, abs=2e-3 if metric == "rmse" else 4e-4)
    assert found[best] == min(found[: best + 1])


@pytest.mark.parametrize("objective", [SOFTPROB, POISSON])
def test_rows_of_several_owners(objective: str) -> None:
    """Labels and weights lie with the owner of each block."""
    drawn = draw_table(EVERY_KIND, 300, 2, objective, np.random.default_rng(7))
    table = GridTable(
        drawn.features, drawn.values, ((0, 1),) * len(EVERY_KIND), (120, 180), drawn.labels, (0, 1), drawn.label_range
    )
    parameters = parameters_for(objective, n_estimators=3)
    together, _ = train_on_grid(table, parameters, 2)
    alone, _ = train_on_shares(replace(drawn, owners=tuple(n % 2 for n in range(len(EVERY_KIND)))), parameters, 2)
    first, second = together.predict(drawn.values), alone.predict(drawn.values)
    assert np.corrcoef(first.reshape(-1), second.reshape(-1))[0, 1] > 0.95
