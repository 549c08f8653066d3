"""Scoring models route every row as XGBoost does, and predict what it predicts.

Margins agree to 1e-6, not to the last bit: with the booster dart XGBoost adds a tree to the base score before it takes
the difference times the tree's weight.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from veilboost.trees.scoring import ScoringModel
from veilboost.trees.scoring_file import read_scoring_model

xgboost = pytest.importorskip("xgboost")

Float32 = npt.NDArray[np.float32]

TYPES = ["float", "float", "float", "int", "c", "c", "float"]
LEVELS = {4: 3, 5: 40}
LABELS = {
    "positive": (
        *("reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror"),
        *("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"),
    ),
    "two": (
        *("binary:logistic", "reg:logistic", "binary:logitraw", "binary:hinge"),
        *("rank:pairwise", "rank:ndcg", "rank:map"),
    ),
}
OBJECTIVES = [*LABELS["positive"], *LABELS["two"], "reg:linear"]
FOREST: dict[str, Any] = {"num_parallel_tree": 3, "subsample": 0.6, "colsample_bynode": 0.5}


def table(rows: int = 300, seed: int = 0) -> Float32:
    """Numbers of all sizes, ties, categories one against the rest and in sets; 15 % are missing."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.normal(size=rows),
        1.7e18 + rng.normal(size=rows) * 3e15,  # nanoseconds since 1970
        rng.integers(-40, 40, rows) * 1e-45,  # denormals and both zeros
        rng.integers(-3, 4, rows),
        *(rng.integers(0, n, rows) for n in LEVELS.values()),
        rng.normal(size=rows) * 1e30,
    ]
    values = np.column_stack(columns).astype(np.float32)
    values[:, 0:4][rng.random((rows, 4)) < 0.02] = -0.0
    values[rng.random(values.shape) < 0.15] = np.nan
    return values


def labels_for(values: Float32, kind: str, seed: int = 1) -> Float32:
    rng = np.random.default_rng(seed)
    x = np.nan_to_num(values.astype(np.float64))
    score = (
        x[:, 0]
        + (x[:, 1] > 1.7e18)
        - 2.0 * (x[:, 2] > 1e-45)
        + 0.3 * x[:, 3]
        + (x[:, 4] == 1)
        + np.sin(x[:, 5])
        + (x[:, 6] > 0) * np.isnan(values[:, 0])
        + rng.normal(size=len(x)) * 0.3
    )
    if kind == "positive":
        return np.exp(score / 2).astype(np.float32)
    if kind == "classes":
        return np.digitize(score, [-0.5, 0.5, 1.5]).astype(np.float32)
    return (score > 0.5).astype(np.float32)


def matrix(values: Float32, label: Float32 | None = None) -> "xgboost.DMatrix":
    return xgboost.DMatrix(values, label, feature_types=TYPES, enable_categorical=True, nthread=1)


def trained(objective: str, rounds: int = 4, label: Float32 | None = None, **given: Any) -> "xgboost.Booster":
    values = table()
    if label is None:
        several = objective.startswith("multi")
        label = labels_for(values, "classes" if several else "two" if objective in LABELS["two"] else "positive")
        given = {"num_class": 4, **given} if several else given
    rows = matrix(values, label)
    if objective.startswith("rank"):
        rows.set_group([100, 200])
    if objective == "survival:aft":
        rows = matrix(values)
        rows.set_float_info("label_lower_bound", label)
        rows.set_float_info("label_upper_bound", label)
    parameters = {"objective": objective, "max_depth": 4, "max_cat_to_onehot": 5, "verbosity": 0, "nthread": 1, **given}
    return xgboost.train(parameters, rows, rounds)


def trees_of(booster: "xgboost.Booster") -> list[dict[str, Any]]:
    learner = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    trees: list[dict[str, Any]] = learner.get("gbtree", learner)["model"]["trees"]
    return trees


def rows_at_thresholds(booster: "xgboost.Booster", seed: int = 2) -> Float32:
    """Rows made of every threshold, the floats next to it, and values that were never seen."""
    rng = np.random.default_rng(seed)
    seen: list[set[float]] = [{-0.0, 0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1.7e18} for _ in TYPES]
    for tree in trees_of(booster):
        for left, feature, threshold in zip(
            tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True
        ):
            if left != -1 and TYPES[feature] != "c" and np.isfinite(threshold):
                exact = np.float32(threshold)
                seen[feature] |= {float(np.nextafter(exact, np.float32(to))) for to in (-np.inf, np.inf)}
                seen[feature].add(float(exact))
    values = np.column_stack([rng.choice(sorted(found), 600) for found in seen])
    for column, levels in LEVELS.items():
        values[:, column] = rng.choice([*range(levels), levels, levels + 1, 10_000, 2**24 - 1, 2**24, -1], 600)
    values[rng.random(values.shape) < 0.15] = np.nan
    return values.astype(np.float32)


def renumbered(tree: dict[str, Any]) -> npt.NDArray[np.int32]:
    """Our number of each of XGBoost's nodes: breadth first, without nodes that pruning left behind."""
    order, numbers = [0], np.full(len(tree["left_children"]), -1, dtype=np.int32)
    for node in order:
        if tree["left_children"][node] != -1:
            order += [tree["left_children"][node], tree["right_children"][node]]
    numbers[order] = np.arange(len(order))
    return numbers


def assert_same_margins(ours: Float32, theirs: Float32) -> None:
    theirs = theirs.reshape(ours.shape)
    assert np.all(np.abs(ours - theirs) <= 1e-6 * np.maximum(1, np.abs(theirs)))


def assert_scores_as(booster: "xgboost.Booster", *tables: Float32) -> ScoringModel:
    """All rounds, from .ubj and from .json: leaves, margins and predictions."""
    model = read_scoring_model(bytes(booster.save_raw("ubj")), (0, 0))
    again = read_scoring_model(booster.save_raw("json"), (0, 0))
    for values in tables or (table(seed=5), rows_at_thresholds(booster)):
        rows = matrix(values) if values.shape[1] == len(TYPES) else xgboost.DMatrix(values, nthread=1)
        if model.trees:
            leaves = booster.predict(rows, pred_leaf=True).reshape(len(values), -1).astype(np.int64)
            expected = np.column_stack([renumbered(tree)[leaves[:, at]] for at, tree in enumerate(trees_of(booster))])
            assert np.array_equal(model.leaf_index(values), expected)
        margins = model.predict_margin(values)
        assert margins.dtype == np.float32 and margins.shape == (len(values), model.outputs)
        assert_same_margins(margins, booster.predict(rows, output_margin=True))
        theirs, ours = booster.predict(rows), model.predict(values)
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        if model.objective == "binary:hinge":  # steps where margins are 0 but for rounding
            theirs, ours = (np.where(np.abs(margins[:, 0]) < 1e-6, 0, found) for found in (theirs, ours))
        assert ours == pytest.approx(theirs, rel=3e-6, abs=1e-6)
        assert np.array_equal(again.predict_margin(values), margins)
    return model


@pytest.mark.parametrize("base_score", [None, 0.3])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_of_one_output(objective: str, base_score: float | None) -> None:
    model = assert_scores_as(trained(objective, **({} if base_score is None else {"base_score": base_score})))
    assert model.outputs == 1
    assert model.objective == objective.replace("reg:linear", "reg:squarederror")


@pytest.mark.parametrize("forest", [{}, FOREST])
@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
@pytest.mark.parametrize("base_score", [None, 0.3, [0.1, -0.2, 0.3, 2.0]])
def test_several_classes(objective: str, forest: dict[str, Any], base_score: object) -> None:
    given = {} if base_score is None else {"base_score": base_score}
    model = assert_scores_as(trained(objective, 3, **forest, **given))
    assert model.outputs == 4
    assert len(model.trees) == 3 * 4 * forest.get("num_parallel_tree", 1)


def test_a_single_class() -> None:
    assert_scores_as(trained("multi:softprob", 2, label=np.zeros(300, dtype=np.float32), num_class=1))


@pytest.mark.parametrize("alphas", [0.4, [0.1, 0.5, 0.9]])
def test_quantiles(alphas: object) -> None:
    model = assert_scores_as(trained("reg:quantileerror", quantile_alpha=alphas))
    assert model.outputs == len(np.atleast_1d(alphas))


@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logistic"])
def test_several_targets(objective: str) -> None:
    label = np.column_stack([labels_for(table(), "two", seed) for seed in (1, 2)])
    assert assert_scores_as(trained(objective, label=label, **FOREST)).outputs == 2


@pytest.mark.parametrize(
    "given",
    [
        FOREST,
        {"grow_policy": "lossguide", "max_leaves": 17, "max_depth": 0},
        {"tree_method": "approx", "gamma": 1.0},
        {"max_cat_to_onehot": 100},
        {"max_cat_to_onehot": 1, "max_cat_threshold": 2},
        {"base_score": 1e-7},  # XGBoost moves it to 1e-6
        {"max_depth": 1},
    ],
)
def test_ways_to_grow(given: dict[str, Any]) -> None:
    assert_scores_as(trained("binary:logistic", 6, **given))


def test_sets_of_categories_and_both_default_directions_are_met() -> None:
    """The cases above are what they should be."""
    model = assert_scores_as(trained("binary:logistic", 8))
    assert max(int(np.diff(tree.categories.starts).max()) for tree in model.trees) > 1
    assert any(1 in np.diff(tree.categories.starts) for tree in model.trees)
    inner = np.concatenate([tree.default_left[~tree.leaf] for tree in model.trees])
    assert inner.any() and not inner.all()
    used = np.unique(np.concatenate([tree.feature[~tree.leaf] for tree in model.trees]))
    assert used.tolist() == list(range(len(TYPES)))


@pytest.mark.parametrize("normalize_type", ["tree", "forest"])
@pytest.mark.parametrize("rate_drop", [0.1, 0.8])
@pytest.mark.parametrize(
    ("objective", "base_score"), [("reg:squarederror", 1000.0), ("binary:logistic", 0.3), ("multi:softprob", None)]
)
def test_dart(objective: str, base_score: float | None, rate_drop: float, normalize_type: str) -> None:
    given = {} if base_score is None else {"base_score": base_score}
    label = labels_for(table(), "two") if objective == "binary:logistic" else None
    booster = trained(
        objective, 8, label, booster="dart", rate_drop=rate_drop, normalize_type=normalize_type, one_drop=1, **given
    )
    assert_scores_as(booster)


def test_pruned_nodes_and_trees_of_one_leaf() -> None:
    values = table()[:, [0, 3]]
    rows = xgboost.DMatrix(values, labels_for(table(), "positive"))
    for gamma in (4.0, 1e9):
        booster = xgboost.train({"tree_method": "exact", "max_depth": 5, "gamma": gamma, "nthread": 1}, rows, 4)
        model = assert_scores_as(booster, values, np.full((3, 2), np.nan, dtype=np.float32))
        assert all(tree.n_nodes == 1 for tree in model.trees) == (gamma == 1e9)


@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logistic", "count:poisson", "multi:softprob"])
@pytest.mark.parametrize("base_score", [None, 0.3])
def test_no_trees(objective: str, base_score: float | None) -> None:
    """XGBoost takes the base score of a model that awaits its estimate for a margin, and a given one for a score."""
    given = {} if base_score is None else {"base_score": base_score}
    label = None if objective == "multi:softprob" else labels_for(table(), "two")
    assert_scores_as(trained(objective, 0, label, **given), table(seed=5))


def test_infinite_thresholds() -> None:
    """XGBoost's last cut of a column of very large numbers is infinity."""
    values = (np.random.default_rng(0).normal(size=(200, 1)) * 1e38).astype(np.float32)
    values[:60] = np.nan
    booster = xgboost.train({"max_depth": 2, "nthread": 1}, xgboost.DMatrix(values, np.isnan(values[:, 0]) * 5.0), 2)
    model = assert_scores_as(booster, values)
    assert np.inf in model.trees[0].threshold


def test_an_objective_given_as_a_function() -> None:
    """XGBoost keeps no trace of it: it predicts by the name that the parameters have."""
    values, label = table(), labels_for(table(), "two")

    def half(margins: Float32, rows: "xgboost.DMatrix") -> tuple[Float32, Float32]:
        return margins - rows.get_label(), np.full_like(margins, 2)

    for objective in ({}, {"objective": "binary:logistic"}):
        assert_scores_as(xgboost.train({"max_depth": 3, "nthread": 1, **objective}, matrix(values, label), 3, obj=half))
