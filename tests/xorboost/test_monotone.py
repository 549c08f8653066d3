"""Monotone constraints on shares: the oracle's trees, and predictions that follow the constraints."""

from typing import Any

import numpy as np
import pytest
from tests.training import CLASSES, EVERY_KIND, Table, draw_table
from tests.xorboost.test_parity import agree

from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import parameters_from

CONSTRAINTS = {"continuous": 1, "discrete": -1, "flag": 1, "discrete with gaps": -1, "continuous with gaps": 0}


def check_order(model: Ensemble, table: Table) -> None:
    """No prediction goes the wrong way, not even by rounding; empty cells are not compared with others."""
    names = [feature.name for feature in table.features]
    for name, sign in CONSTRAINTS.items():
        column = table.values[:, names.index(name)]
        values = np.unique(column[~np.isnan(column)])
        moved = np.repeat(table.values[:40, None], len(values), axis=1)
        moved[:, :, names.index(name)] = values
        for tree in range(len(model.trees)):
            leaves = model.leaf_index(moved.reshape(-1, len(names)))[:, tree].reshape(40, -1)
            weights = model.trees[tree].weight[leaves]
            assert (sign * np.diff(weights, axis=1) >= 0).all(), name


@pytest.mark.parametrize(
    ("objective", "more"),
    [
        ("binary:logistic", {}),
        ("binary:logistic", {"max_delta_step": 0.3, "reg_alpha": 0.4}),
        ("binary:logistic", {"min_rows_per_leaf": 8, "subsample": 0.8, "colsample_bynode": 0.7}),
        ("reg:squarederror", {}),
        ("reg:squarederror", {"reg_lambda": 0.0, "learning_rate": 1.0}),
        ("multi:softprob", {}),
        ("count:poisson", {}),
    ],
    ids=str,
)
def test_constraints_hold(objective: str, more: dict[str, Any]) -> None:
    table = draw_table(EVERY_KIND, 400, 2, objective, np.random.default_rng(3))
    given = {"objective": objective, "n_estimators": 2, "max_depth": 4, "max_bin": 16} | more
    if objective == "multi:softprob":
        given["num_class"] = CLASSES
    model = agree(table, parameters_from(given | {"monotone_constraints": CONSTRAINTS}), 2)
    check_order(model, table)
    used = {model.features[f].name for tree in model.trees for f in tree.feature[~tree.leaf]}
    assert len(used & CONSTRAINTS.keys()) > 1


def test_without_constraints_they_would_not_hold() -> None:
    table = draw_table(EVERY_KIND, 400, 2, "binary:logistic", np.random.default_rng(3))
    model = agree(table, parameters_from({"n_estimators": 2, "max_depth": 4, "max_bin": 16}), 2)
    with pytest.raises(AssertionError):
        check_order(model, table)
