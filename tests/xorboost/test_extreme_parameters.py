"""Trainings with parameters at the ends of their ranges: as XGBoost would grow them, or nothing at all."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.training import EVERY_KIND, Table, draw_table, train_on_shares
from tests.xorboost.test_parity import LOGISTIC, OBJECTIVES, SQUARED, agree

from veilboost.splitting import units
from veilboost.splitting.scales import Scales
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters
from veilboost.trees.reference import audit


def some_table(objective: str) -> Table:
    return draw_table([EVERY_KIND[n] for n in (0, 3, 5, 7)], 300, 2, objective, np.random.default_rng(0))


def leaves(model: Ensemble) -> np.ndarray:
    return np.concatenate([tree.weight[tree.leaf] for tree in model.trees])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["gamma", "min_child_weight", "reg_alpha", "min_rows_per_leaf"])
def test_nothing_splits_beyond_a_huge_bound(name: str, objective: str) -> None:
    """Bounds no sum can reach, up to the largest float, are as good as infinite; they do not wrap round the ring."""
    table = some_table(objective)
    for bound in (1e15, 1.7e308) if name != "min_rows_per_leaf" else (10**15, 10**30):
        parameters: Any = {"objective": objective, "n_estimators": 2, "max_depth": 3, "max_bin": 12, name: bound}
        model, _ = train_on_shares(table, Parameters(**parameters), 2)
        assert [tree.n_nodes for tree in model.trees] == [1, 1], bound
        if name in ("min_child_weight", "reg_alpha"):
            assert not leaves(model).any()


@pytest.mark.parametrize(
    ("changed", "objective"),
    [
        ({"max_delta_step": 1e300}, LOGISTIC),
        ({"max_delta_step": 1.7e308}, SQUARED),
        ({"reg_alpha": 1e-300}, LOGISTIC),
        ({"gamma": 1e-300, "min_child_weight": 1e-300}, SQUARED),
        ({"reg_lambda": 1e-300}, LOGISTIC),
        ({"learning_rate": 1e-4}, SQUARED),
    ],
    ids=str,
)
def test_bounds_without_effect(changed: dict[str, float], objective: str) -> None:
    given: Any = {"objective": objective, "n_estimators": 2, "max_depth": 3, "max_bin": 12, **changed}
    model = agree(some_table(objective), Parameters(**given), 2)
    assert all(tree.n_nodes > 4 for tree in model.trees)


def test_no_step_at_all() -> None:
    given: Any = {"n_estimators": 2, "max_depth": 3, "max_bin": 12, "max_delta_step": 1e-300}
    model = agree(some_table(LOGISTIC), Parameters(**given), 2)
    assert not leaves(model).any()


@pytest.mark.parametrize(
    ("bounds", "changed"),
    [
        ((-1e30, 1e30), {}),
        ((-1e30, 1e30), {"max_delta_step": 1e300, "gamma": 1e300}),
        ((9.99e29, 1e30), {"reg_alpha": 1e-3}),
        ((0.0, 1e-30), {"reg_alpha": 1e-3}),
        ((-1e-30, 1e-30), {"max_delta_step": 1e300, "gamma": 1e300}),
    ],
    ids=str,
)
def test_labels_in_the_largest_and_smallest_units(bounds: tuple[float, float], changed: dict[str, float]) -> None:
    """What `label_range` still allows: parameters are scaled by it, and may leave the range of floats on the way."""
    table = draw_table(EVERY_KIND[:4], 150, 2, SQUARED, np.random.default_rng(14))
    low, high = bounds
    table = replace(table, labels=low + table.labels / 100 * (high - low), label_range=bounds)
    given: Any = {"objective": SQUARED, "n_estimators": 1, "max_depth": 2, "max_bin": 8, **changed}
    model, _ = train_on_shares(table, Parameters(**given), 2)
    assert np.isfinite(leaves(model)).all()
    predicted = model.predict_margin(table.values)
    assert (np.abs(predicted - (low + high) / 2) <= 1.2 * (high - low)).all()


def missed_splits(base_score: float) -> int:
    """Nodes that should split and do not, or choose less than nine tenths of the best gain."""
    table = some_table(LOGISTIC)
    given: Any = {"n_estimators": 1, "max_depth": 3, "max_bin": 12, "reg_lambda": 0.0, "min_child_weight": 0.0}
    parameters = Parameters(base_score=base_score, **given)
    model, _ = train_on_shares(table, parameters, 2)
    missed = 0
    for node in audit(model, table.columns(12), table.labels, parameters):
        best = node.best_gain if np.isfinite(node.best_gain) else 0.0
        missed += best > 1.0 and not (node.splits and node.chosen_gain >= 0.9 * best)
    return missed


@pytest.mark.parametrize("base_score", [0.01, 1e-3, 1e-4, 0.999, 0.9999])
def test_gains_after_an_extreme_base_score_do_not_overflow(base_score: float) -> None:
    """Rows of the other class have G^2 / H near 1 / p each."""
    assert missed_splits(base_score) == 0


def test_an_overflow_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all bits that weights have otherwise, the same gains do not fit."""
    choose = units.choose_scales

    def all_bits(*bounds: Any, **more: Any) -> Scales:
        return replace(choose(*bounds, **more), weight_bits=26)

    monkeypatch.setattr(units, "choose_scales", all_bits)
    assert missed_splits(1e-4) > 0
