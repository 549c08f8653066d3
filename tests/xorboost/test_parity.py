"""Training on shares against the plaintext oracle on the same bins.

The oracle's audit replays the received model in exact arithmetic: at every node the split must save at least 0.999 of
what the best one saves, and a node without split must have none that is worth it; weights must be exact to 1e-3. Whole
trees are compared only where no two candidates are that close, because then either may win.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training import EVERY_KIND, Table, draw_table, levels, train_on_shares

from veilboost.errors import InputError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters
from veilboost.trees.reference import audit
from veilboost.trees.reference import train as train_in_the_clear

LOGISTIC, SQUARED = "binary:logistic", "reg:squarederror"
OBJECTIVES = (LOGISTIC, SQUARED)


def faults(model: Ensemble, table: Table, parameters: Parameters) -> list[Any]:
    """Nodes of a model that the oracle does not agree with."""
    task = table.task(parameters)
    unit = task.unit.half_width
    # A side whose hessian is within rounding of min_child_weight may be allowed or not.
    least_units = task.scales.hessian(parameters.min_child_weight)
    tolerance = (8 + 8 * np.sqrt(least_units)) / 2.0**task.scales.hessian_bits + 1e-5
    if task.scales.exact_hessians:
        tolerance = 0.0
    # How far the logistic function on shares is off; of other gradients, their rounding.
    off = 1e-4 if parameters.objective == LOGISTIC else 1e-5 * unit
    least = max(parameters.gamma, 1e-6)
    found: list[Any] = []
    columns, weights = table.columns(parameters.max_bin), table.weights
    for node in audit(model, columns, table.labels, parameters, tolerance, off, weights):
        slack = 1e-3 * max(node.best_gain, 0.0) + 1e-5 * unit**2  # the latter is what gains near zero are rounded by
        if node.splits:
            good = node.chosen_gain >= max(node.best_gain, least) - slack
        else:
            good = not np.isfinite(node.best_gain) or node.best_gain <= least + slack
        if node.stated_weight is not None and node.exact_weight is not None:
            good &= abs(node.stated_weight - node.exact_weight) <= 1e-3 * abs(node.exact_weight) + 1e-5 * unit
        if not good:
            found.append(node)
    return found


def same_shape(left: Ensemble, right: Ensemble) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) and a.categories.same_as(b.categories)
        for a, b in zip(left.trees, right.trees, strict=True)
        for name in ("feature", "threshold", "default_left", "left")
    )


def agree(table: Table, parameters: Parameters, owners: int) -> Ensemble:
    """Train both ways and compare; the model trained on shares."""
    model, _ = train_on_shares(table, parameters, owners)
    oracle = train_in_the_clear(table.columns(parameters.max_bin), table.labels, parameters, table.weights)
    unit = table.task(parameters).unit.half_width
    assert len(model.trees) == parameters.n_trees
    np.testing.assert_allclose(model.base_score, oracle.base_score, rtol=2e-5, atol=2e-5 * unit)
    assert faults(model, table, parameters) == []
    if same_shape(model, oracle):
        margins, expected = model.predict_margin(table.values), oracle.predict_margin(table.values)
        assert np.abs(margins - expected).max() <= 1e-3 * unit
    return model


@pytest.mark.parametrize("words", [1, 1500])
def test_few_nodes_at_a_time(words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One node a step, or three: what bounds memory changes no tree."""
    monkeypatch.setattr("veilboost.xorboost.grow._WORDS_AT_ONCE", words)
    table = draw_table(EVERY_KIND, 500, 2, LOGISTIC, np.random.default_rng(7))
    agree(table, Parameters(objective=LOGISTIC, n_estimators=2, max_depth=4, max_bin=8), 2)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("owners", [2, 3, pytest.param(5, marks=pytest.mark.slow), 8])
def test_all_kinds_of_columns(owners: int, objective: str) -> None:
    table = draw_table(EVERY_KIND, 400, owners, objective, np.random.default_rng(owners))
    model = agree(table, Parameters(objective=objective, n_estimators=3, max_depth=4, max_bin=16), owners)
    assert sum(len(set(tree.feature[~tree.leaf].tolist())) for tree in model.trees) > 4


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("feature", EVERY_KIND, ids=lambda feature: feature.name.replace(" ", "-"))
def test_each_kind_of_column_alone(feature: Feature, objective: str) -> None:
    table = draw_table([feature], 120, 2, objective, np.random.default_rng(7), label_owner=1)
    agree(table, Parameters(objective=objective, n_estimators=2, max_depth=3, max_bin=8), 2)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_columns_that_say_nothing(objective: str) -> None:
    """Constant columns, columns that are missing altogether, and a category that nobody has."""
    table = draw_table(EVERY_KIND, 80, 2, objective, np.random.default_rng(8))
    values = table.values.copy()
    for number, feature in enumerate(EVERY_KIND):
        values[:, number] = np.nan if feature.missing else 1.0
    nothing = replace(table, values=values)
    model = agree(nothing, Parameters(objective=objective, n_estimators=2, max_depth=2, max_bin=8), 2)
    assert all(tree.n_nodes == 1 for tree in model.trees)
    values[:, 8] = np.arange(80) % 4 + 2
    values[::3, 3] = np.arange(27) % 2
    agree(replace(table, values=values), Parameters(objective=objective, n_estimators=2, max_depth=3, max_bin=8), 2)


@pytest.mark.parametrize("threshold", [1, 2, 9, 10, 65])
def test_sets_of_categories_or_one_against_the_rest(threshold: int) -> None:
    """Columns on both sides of `max_cat_to_onehot`, and of the most levels that are partitioned."""
    features = [
        *EVERY_KIND[6:],
        Feature("two words", Kind.CATEGORICAL, levels(40), True),
        Feature("most that are partitioned", Kind.CATEGORICAL, levels(64), True),
        Feature("too many", Kind.CATEGORICAL, levels(65), True),
        Feature("two", Kind.CATEGORICAL, levels(2)),
    ]
    table = draw_table(features, 900, 2, SQUARED, np.random.default_rng(threshold))
    parameters = Parameters(objective=SQUARED, n_estimators=2, max_depth=4, max_bin=8, max_cat_to_onehot=threshold)
    model = agree(table, parameters, 2)
    largest = {feature.name: 0 for feature in features}
    for tree in model.trees:
        for node in np.flatnonzero(~tree.leaf):
            name = features[tree.feature[node]].name
            largest[name] = max(largest[name], len(tree.categories[node]))
    assert largest["too many"] <= 1
    assert (largest["most that are partitioned"] > 1) == (threshold <= 64)
    assert largest["many levels"] <= 1 or threshold <= 9


def test_a_category_without_alternative() -> None:
    features = [
        Feature("only", Kind.CATEGORICAL, levels(1)),
        Feature("only or none", Kind.CATEGORICAL, levels(1), True),
    ]
    table = draw_table([*features, EVERY_KIND[0]], 60, 3, LOGISTIC, np.random.default_rng(9))
    agree(table, Parameters(n_estimators=2, max_depth=2, max_bin=8), 3)
    agree(
        draw_table(features[:1], 60, 2, SQUARED, np.random.default_rng(9)),
        Parameters(objective=SQUARED, n_estimators=1),
        2,
    )


PARAMETERS: Sequence[dict[str, Any]] = (
    {"reg_lambda": 0.0},
    {"reg_lambda": 100.0},
    {"reg_alpha": 2.0},
    {"reg_alpha": 1000.0},
    {"gamma": 1.5},
    {"min_child_weight": 0.0},
    {"min_child_weight": 20.0},
    {"max_delta_step": 0.4},
    {"max_delta_step": 0.2, "reg_alpha": 1.0},
    {"subsample": 0.5, "seed": 3},
    {"colsample_bytree": 0.4, "seed": 4},
    {"colsample_bylevel": 0.4, "seed": 5},
    {"colsample_bynode": 0.3, "seed": 6},
    {"colsample_bytree": 0.7, "colsample_bylevel": 0.7, "colsample_bynode": 0.7, "subsample": 0.8},
    {"base_score": 0.3},
    {"learning_rate": 1.0},
    {"max_depth": 1},
    {"max_bin": 2},
    {"max_bin": 64},
    {"min_rows_per_leaf": 25},
    {"min_rows_per_leaf": 25, "subsample": 0.6},
    {"reveal_gain": True},
)


#: Each set of parameters with one objective; with the other one when there is time.
BOTH = [
    pytest.param(changed, objective, marks=[pytest.mark.slow] if (place + second) % 2 else [])
    for place, changed in enumerate(PARAMETERS)
    for second, objective in enumerate(OBJECTIVES)
]


@pytest.mark.parametrize(("changed", "objective"), BOTH, ids=str)
def test_parameters(changed: dict[str, Any], objective: str) -> None:
    given_parameters = {"objective": objective, "n_estimators": 2, "max_depth": 3, "max_bin": 12, **changed}
    features = [EVERY_KIND[number] for number in (9, 1, 5, 2, 6)]
    table = draw_table(features, 250, 2, objective, np.random.default_rng(10))
    agree(table, Parameters(**given_parameters), 2)


@pytest.mark.parametrize("rows", [19, 20])
def test_a_root_of_too_few_rows_has_no_weight(rows: int) -> None:
    table = draw_table(EVERY_KIND[:2], rows, 2, LOGISTIC, np.random.default_rng(13))
    given_parameters = {"objective": LOGISTIC, "n_estimators": 2, "max_depth": 2, "base_score": 0.2}
    model = agree(table, Parameters(**given_parameters, min_rows_per_leaf=20), 2)
    assert [tree.n_nodes for tree in model.trees] == [1, 1]
    assert all((abs(tree.weight[0]) > 0.01) == (rows == 20) for tree in model.trees)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gains_and_covers_where_they_are_revealed(objective: str) -> None:
    table = draw_table(EVERY_KIND, 250, 2, objective, np.random.default_rng(11))
    parameters = Parameters(objective=objective, n_estimators=2, max_depth=3, max_bin=12, reveal_gain=True)
    model = agree(table, parameters, 2)
    unit = table.task(parameters).unit.half_width
    for node in audit(model, table.columns(12), table.labels, parameters):
        tree = model.trees[node.tree]
        assert abs(tree.gain[node.node] - node.chosen_gain) <= 1e-3 * node.chosen_gain + 1e-4 * unit**2
        if node.splits:
            children = tree.cover[tree.left[node.node]] + tree.cover[tree.right[node.node]]
            assert np.isclose(tree.cover[node.node], children, rtol=1e-6)
        if objective == SQUARED:
            assert np.isclose(tree.cover[node.node], node.rows, rtol=1e-6)
    if objective == LOGISTIC:  # before the first tree every row has p = 1/2
        assert np.isclose(model.trees[0].cover[0], 250 / 4, rtol=1e-4)
    hidden, _ = train_on_shares(table, parameters.model_copy(update={"reveal_gain": False}), 2)
    assert all(not tree.gain.any() and not tree.cover.any() for tree in hidden.trees)


@pytest.mark.parametrize("depth", [5, 6, 7, 8])
def test_deep_trees(depth: int) -> None:
    """Levels of 16 to 128 nodes: table entries of two, four and eight bytes, and two passes of them."""
    table = draw_table(EVERY_KIND[:4], 500, 2, SQUARED, np.random.default_rng(depth))
    parameters = Parameters(objective=SQUARED, n_estimators=1, max_depth=depth, max_bin=32, reg_lambda=0.0)
    model = agree(table, parameters, 2)
    assert model.trees[0].depths.max() == depth


@pytest.mark.parametrize("label_owner", [0, 1, 2])
def test_owners_of_nothing_but_labels_and_of_nothing_at_all(label_owner: int) -> None:
    table = draw_table(EVERY_KIND[:4], 150, 3, LOGISTIC, np.random.default_rng(12), label_owner=label_owner)
    table = replace(table, owners=(1, 1, 1, 1))
    agree(table, Parameters(n_estimators=2, max_depth=3, max_bin=8), 3)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("rows", [2, 3, 5, 10])
def test_tiny_tables(rows: int, objective: str) -> None:
    table = draw_table(EVERY_KIND, rows, 2, objective, np.random.default_rng(rows))
    for least in (0.0, 1.0):
        parameters = Parameters(
            objective=objective, n_estimators=2, max_depth=2, max_bin=4, min_child_weight=least, reg_lambda=0.1
        )
        agree(table, parameters, 2)


@pytest.mark.parametrize(
    ("label", "bounds"), [(3.0, (0.0, 10.0)), (0.0, (0.0, 1.0)), (500.0, (0.0, 500.0)), (-2.0, (-3.0, -1.0))]
)
def test_regression_on_a_constant(label: float, bounds: tuple[float, float]) -> None:
    table = draw_table(EVERY_KIND[:5], 100, 2, SQUARED, np.random.default_rng(13))
    table = replace(table, labels=np.full(100, label), label_range=bounds)
    model, _ = train_on_shares(table, Parameters(objective=SQUARED, n_estimators=3, max_depth=3, max_bin=8), 2)
    assert np.abs(model.predict_margin(table.values) - label).max() < 1e-4 * (bounds[1] - bounds[0])


@pytest.mark.parametrize("bounds", [(0.0, 1e6), (-1e-3, 1e-3), (1e5, 1.01e5)])
def test_regression_in_other_units(bounds: tuple[float, float]) -> None:
    table = draw_table(EVERY_KIND[:5], 150, 2, SQUARED, np.random.default_rng(14))
    low, high = bounds
    scaled = replace(table, labels=low + table.labels / 100 * (high - low), label_range=bounds)
    parameters = Parameters(objective=SQUARED, n_estimators=2, max_depth=3, max_bin=8)
    agree(scaled, parameters, 2)


@pytest.mark.parametrize("base_score", [0.0, 100.0, -1000.0])
@pytest.mark.parametrize("reg_alpha", [0.0, 5.0])
def test_a_base_score_far_from_the_labels(base_score: float, reg_alpha: float) -> None:
    """Residuals beyond what labels alone could leave need a coarser scale."""
    table = draw_table(EVERY_KIND[:4], 519, 2, SQUARED, np.random.default_rng(15))  # no spare room in the scale
    table = replace(table, labels=table.labels + 100, label_range=(100.0, 200.0))
    parameters = Parameters(
        objective=SQUARED, n_estimators=3, max_depth=3, max_bin=16, base_score=base_score, reg_alpha=reg_alpha
    )
    agree(table, parameters, 2)


def test_a_base_score_too_far_from_the_labels_is_refused() -> None:
    table = draw_table(EVERY_KIND[:1], 100, 2, SQUARED, np.random.default_rng(16))
    with pytest.raises(InputError, match="base_score near the labels"):
        _ = table.task(Parameters(objective=SQUARED, base_score=1e9)).scales


@pytest.mark.parametrize(("rows", "positive"), [(5, 2), (10, 1), (10, 9), (64, 32), (1000, 1)])
def test_the_first_prediction_is_exact(rows: int, positive: int) -> None:
    table = draw_table(EVERY_KIND[:1], rows, 2, LOGISTIC, np.random.default_rng(17))
    table = replace(table, labels=(np.arange(rows) < positive).astype(np.float64))
    for _ in range(3):
        model, _ = train_on_shares(table, Parameters(n_estimators=1, max_depth=1, max_bin=2), 2)
        assert abs(model.base_score - positive / rows) < 2e-5


@pytest.mark.parametrize("analyst", ["owner0", "owner2"])
def test_an_owner_may_be_the_analyst(analyst: str) -> None:
    table = draw_table(EVERY_KIND, 80, 3, LOGISTIC, np.random.default_rng(18))
    parameters = Parameters(n_estimators=2, max_depth=2, max_bin=8)
    model, outcome = train_on_shares(table, parameters, 3, analyst=analyst)
    assert faults(model, table, parameters) == []
    assert sum(result is not None for result in outcome.results) == 1


@st.composite
def trainings(draw: st.DrawFn) -> tuple[Table, Parameters, int]:
    owners = draw(st.sampled_from([2, 2, 3, 5]))
    objective = draw(st.sampled_from(OBJECTIVES))
    features = draw(st.lists(st.sampled_from(EVERY_KIND), min_size=1, max_size=8, unique=True))
    rows = draw(st.sampled_from([2, 3, 9, 40, 63, 64, 65, 130, 300]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    table = draw_table(features, rows, owners, objective, rng, label_owner=draw(st.integers(0, owners - 1)))
    some = st.sampled_from
    parameters = Parameters(
        objective=objective,
        n_estimators=2,
        max_depth=draw(st.integers(1, 5)),
        max_bin=draw(some([2, 3, 4, 16, 40])),
        learning_rate=draw(some([0.3, 1.0])),
        reg_lambda=draw(some([1.0, 0.0, 5.0])),
        reg_alpha=draw(some([0.0, 0.0, 2.0])),
        gamma=draw(some([0.0, 0.0, 1.0])),
        min_child_weight=draw(some([1.0, 0.0, 3.0])),
        max_delta_step=draw(some([0.0, 0.0, 0.5])),
        subsample=draw(some([1.0, 1.0, 0.6])),
        colsample_bytree=draw(some([1.0, 0.5])),
        colsample_bylevel=draw(some([1.0, 0.6])),
        colsample_bynode=draw(some([1.0, 0.5])),
        base_score=draw(some([None, None, 0.3])),
        min_rows_per_leaf=draw(some([0, 0, 10])),
        max_cat_to_onehot=draw(some([4, 1, 100])),
        monotone_constraints=draw(some([{}, {}, {feature.name: 1 for feature in features if not feature.categorical}])),
        seed=draw(some([1, 2, 3])),
        reveal_gain=draw(st.booleans()),
    )
    return table, parameters, owners


@settings(max_examples=6, deadline=None)
@given(training=trainings())
def test_any_combination(training: tuple[Table, Parameters, int]) -> None:
    agree(*training)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(training=trainings())
def test_many_combinations(training: tuple[Table, Parameters, int]) -> None:
    agree(*training)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_larger_table(objective: str) -> None:
    table = draw_table(EVERY_KIND, 20_000, 3, objective, np.random.default_rng(19))
    agree(table, Parameters(objective=objective, n_estimators=4, max_depth=6, max_bin=64), 3)
