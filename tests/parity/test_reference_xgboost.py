"""The oracle grows the trees that XGBoost's `hist` grows.

XGBoost is fed bin numbers instead of values: so few distinct integers make every integer a bin of its own, and both
sides have the same cuts. Its gradients and its gains are float32, ours float64. So where the gains of two candidates
agree within float32 rounding of the sums behind them, either may choose either, and everything below and all later
trees differ with reason. The tests therefore compare in two ways: node by node up to the first such tie, and every node
of every tree on the margins that XGBoost's own earlier trees left (`audit`).
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilboost.tables.binning import BinnedColumn, bin_column, plan_bins
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.parameters import Parameters, parameters_from
from veilboost.trees.reference import audit, train
from veilboost.trees.sampling import sample_rows
from veilboost.trees.xgboost_parse import parse_model

xgboost = pytest.importorskip("xgboost")

HEART = Path(__file__).parents[3] / "shared" / "data" / "heart_uci_4_hospitals.csv"
MAX_BIN = 64


def binned_by_number(feature: Feature, bins: npt.NDArray[np.int64]) -> BinnedColumn:
    """A column whose bins are given, -1 where missing; bin j ends at the cut j + 1/2.

    Bins without rows are squeezed out: XGBoost knows no cut there.
    """
    if not feature.categorical:
        values = np.unique(bins[bins >= 0])
        bins = np.where(bins < 0, -1, np.searchsorted(values, bins))
    plan = plan_bins(feature, len(bins), max(2, int(bins.max()) + 1))
    cuts = np.arange(plan.n_candidates, dtype=np.float32) + np.float32(0.5)
    codes = np.where(bins < 0, plan.n_bins, bins).astype(np.uint16)
    return BinnedColumn(
        feature, plan, codes, np.zeros_like(cuts) if feature.categorical else cuts, np.full(len(cuts), True)
    )


def random_columns(rng: np.random.Generator, rows: int, n_features: int) -> list[BinnedColumn]:
    columns = []
    for number in range(n_features):
        kind = [Kind.DISCRETE, Kind.FLAG, Kind.CATEGORICAL][rng.integers(3)]
        n_levels = int(rng.integers(2, 17) if rng.random() < 0.8 else rng.integers(17, 65))
        n_bins = {Kind.DISCRETE: int(rng.integers(2, 13)), Kind.FLAG: 2, Kind.CATEGORICAL: n_levels}[kind]
        missing = bool(rng.integers(2))
        levels = tuple(f"level {i}" for i in range(n_bins)) if kind is Kind.CATEGORICAL else ()
        bins = rng.integers(0, n_bins, rows)
        if kind is Kind.CATEGORICAL:
            bins = np.where(bins == rng.integers(0, n_bins), n_bins - 1, bins)  # a level that nobody has, or few
        if missing:
            bins[rng.random(rows) < rng.choice([0.02, 0.3])] = -1
        columns.append(binned_by_number(Feature(f"x{number}", kind, levels, missing), bins))
    return columns


def labels_for(rng: np.random.Generator, columns: list[BinnedColumn], objective: str) -> npt.NDArray[np.float64]:
    signal = sum(rng.normal() * (column.bins % 3 == 0) for column in columns[:4]) + rng.normal(
        size=len(columns[0].bins)
    )
    if objective == "reg:squarederror":
        return np.round(signal, 3).astype(np.float64)
    labels = (signal > np.median(signal)).astype(np.float64)
    labels[:2] = [0, 1]
    return labels


def as_matrix(columns: list[BinnedColumn]) -> npt.NDArray[np.float32]:
    values = [np.where(column.bins == column.plan.n_bins, np.nan, column.bins) for column in columns]
    return np.stack(values, axis=1).astype(np.float32)


def train_xgboost(
    columns: list[BinnedColumn],
    labels: npt.NDArray[np.float64],
    parameters: Parameters,
    weight: npt.NDArray[np.float64] | None = None,
) -> Ensemble:
    """Train XGBoost on bin numbers and translate its thresholds to our cuts: `x < v` is `bins <= v - 1`."""
    given = parameters.model_dump(
        exclude={"n_estimators", "seed", "min_rows_per_leaf", "reveal_gain", "base_score", "max_bin", "subsample"}
    )
    if not parameters.constrained:
        del given["monotone_constraints"]  # with an empty one XGBoost computes gains as with constraints
    if parameters.base_score is not None:
        given["base_score"] = parameters.base_score
    matrix = xgboost.DMatrix(
        as_matrix(columns),
        labels,
        weight=weight,
        feature_names=[column.feature.name for column in columns],
        feature_types=["c" if column.feature.categorical else "q" for column in columns],
        enable_categorical=True,
    )
    given |= {"tree_method": "hist", "max_bin": MAX_BIN, "nthread": 1}
    booster = xgboost.train(given, matrix, parameters.n_estimators)
    ensemble = parse_model(json.loads(bytes(booster.save_raw("json"))))
    trees = tuple(with_our_cuts(tree, columns) for tree in ensemble.trees)
    return Ensemble(tuple(c.feature for c in columns), ensemble.objective, ensemble.base_score, trees)


def with_our_cuts(tree: Tree, columns: list[BinnedColumn]) -> Tree:
    threshold, default_left = tree.threshold - np.float32(0.5), tree.default_left.copy()
    left, right = tree.left.copy(), tree.right.copy()
    for node in np.flatnonzero(~tree.leaf & ~tree.categories.given):
        column = columns[tree.feature[node]]
        present = column.bins[column.bins < column.plan.n_bins]
        above_all = present.max() + np.float32(0.5)
        if tree.threshold[node] <= present.min():
            # Missing rows alone left: XGBoost's mirror image of our "all present rows left, missing rows right".
            left[node], right[node] = right[node], left[node]
            threshold[node] = above_all
            default_left[node] = False
        threshold[node] = min(threshold[node], above_all)  # XGBoost's last cut is about twice the maximum
    threshold = np.where(tree.leaf | tree.categories.given, np.float32(0), threshold)
    return replace(tree, left=left, right=right, threshold=threshold, default_left=default_left)


def tolerance(best_gain: float, rows: int, labels: npt.NDArray[np.float64]) -> float:
    """How far float32 may put a gain off: sums over `rows` rows, each rounded to 2^-24 of its size, some ten times."""
    return 1e-5 * best_gain + 1e-6 * rows * (1 + float(np.max(labels**2)))


def assert_same_decisions(
    theirs: Ensemble, columns: list[BinnedColumn], labels: npt.NDArray[np.float64], parameters: Parameters
) -> None:
    findings = audit(theirs, columns, labels, parameters, hessian_tolerance=1e-4, gradient_tolerance=1e-6)
    bound = max(1e-6, parameters.gamma)
    for at in findings:
        slack = tolerance(max(at.best_gain, at.chosen_gain, 0.0), at.rows, labels)
        tree = theirs.trees[at.tree]
        if at.splits:
            assert at.chosen_gain >= max(at.best_gain, bound) - slack, at
            assert tree.gain[at.node] == pytest.approx(at.chosen_gain, rel=1e-4, abs=10 * slack), at
        else:
            assert at.best_gain <= bound + slack, at
            assert at.stated_weight == pytest.approx(at.exact_weight, rel=1e-4, abs=1e-5), at


def assert_same_trees(
    ours: Ensemble,
    theirs: Ensemble,
    columns: list[BinnedColumn],
    labels: npt.NDArray[np.float64],
    parameters: Parameters,
) -> tuple[int, bool]:
    """Compare until the first tie; returns the number of nodes that agree and whether all do."""
    values = as_matrix(columns)
    # The tolerance sets aside candidates with one side at `min_child_weight` but for rounding.
    judged = {
        (at.tree, at.node): at
        for at in audit(theirs, columns, labels, parameters, hessian_tolerance=1e-4, gradient_tolerance=1e-6)
    }
    agreed = 0
    for number, (mine, their) in enumerate(zip(ours.trees, theirs.trees, strict=True)):
        pairs = [(0, 0, np.arange(len(labels)))]
        while pairs:
            a, b, rows = pairs.pop(0)
            at = judged[number, b]
            slack = tolerance(max(at.best_gain, 0.0), at.rows, labels)
            if mine.leaf[a] != their.leaf[b]:
                assert at.best_gain <= max(1e-6, parameters.gamma) + slack, at
                return agreed, False
            agreed += 1
            assert mine.cover[a] == pytest.approx(their.cover[b], rel=1e-4, abs=1e-6)
            if mine.leaf[a]:
                assert mine.weight[a] == pytest.approx(their.weight[b], rel=1e-4, abs=1e-5)
                continue
            left_of_mine, left_of_their = (
                goes_left(tree, node, values[rows]) for tree, node in ((mine, a), (their, b))
            )
            same = mine.feature[a] == their.feature[b] and np.array_equal(left_of_mine, left_of_their)
            if not same:
                assert min(at.chosen_gain, mine.gain[a]) >= at.best_gain - 10 * slack, at
                return agreed, False
            # Where a category of which a node has no rows goes is a tie but for XGBoost's rounding of its sums.
            there = np.unique(values[rows, mine.feature[a]])
            assert np.array_equal(np.intersect1d(mine.categories[a], there), np.intersect1d(their.categories[b], there))
            if not mine.categories.given[a]:
                assert mine.threshold[a] == their.threshold[b]
            if not np.isnan(values[rows, mine.feature[a]]).any():
                assert mine.default_left[a] == mine.categories.given[a]
            assert mine.default_left[a] == their.default_left[b]
            assert mine.gain[a] == pytest.approx(their.gain[b], rel=1e-3, abs=10 * slack)
            pairs.append((int(mine.left[a]), int(their.left[b]), rows[left_of_mine]))
            pairs.append((int(mine.right[a]), int(their.right[b]), rows[~left_of_mine]))
    return agreed, True


def goes_left(tree: Tree, node: int, values: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    x = values[:, tree.feature[node]]
    left = ~np.isin(x, tree.categories[node]) if tree.categories.given[node] else x < tree.threshold[node]
    return np.where(np.isnan(x), tree.default_left[node], left)


@st.composite
def settings_of_xgboost(draw: st.DrawFn) -> Parameters:
    objective = draw(st.sampled_from(["binary:logistic", "reg:squarederror"]))
    return parameters_from(
        {
            "objective": objective,
            "n_estimators": 4,
            "max_depth": draw(st.integers(1, 6)),
            "learning_rate": draw(st.sampled_from([0.1, 0.3, 1.0])),
            "lambda": draw(st.sampled_from([0.0, 0.5, 1.0, 10.0])),
            "alpha": draw(st.sampled_from([0.0, 0.0, 0.7, 4.0])),
            "gamma": draw(st.sampled_from([0.0, 0.0, 0.5, 3.0])),
            "min_child_weight": draw(st.sampled_from([0.0, 1.0, 2.5, 9.0])),
            "max_delta_step": draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])),
            "max_cat_to_onehot": draw(st.sampled_from([4, 4, 1, 1000])),
            "base_score": draw(st.sampled_from([None, 0.2, 0.5] + ([-3.0] if objective != "binary:logistic" else []))),
        }
    )


@settings(max_examples=60, deadline=None)
@given(settings_of_xgboost(), st.integers(0, 2**32 - 1))
def test_every_decision_of_xgboost_is_ours(parameters: Parameters, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = random_columns(rng, int(rng.integers(20, 400)), int(rng.integers(1, 9)))
    labels = labels_for(rng, columns, parameters.objective)
    theirs = train_xgboost(columns, labels, parameters)
    ours = train(columns, labels, parameters)
    assert ours.base_score == pytest.approx(theirs.base_score, rel=1e-6, abs=1e-7)  # XGBoost adds in float32
    assert_same_decisions(theirs, columns, labels, parameters)
    assert_same_trees(ours, theirs, columns, labels, parameters)


@settings(max_examples=40, deadline=None)
@given(settings_of_xgboost(), st.integers(0, 2**32 - 1))
def test_monotone_constraints(parameters: Parameters, seed: int) -> None:
    """On columns without missing cells: XGBoost may also send missing rows alone left, which is another order."""
    rng = np.random.default_rng(seed)
    columns = random_columns(rng, int(rng.integers(20, 400)), int(rng.integers(1, 9)))
    features = [column.feature for column in columns if not (column.feature.categorical or column.feature.missing)]
    constraints = {feature.name: int(rng.choice([-1, 1])) for feature in features}
    parameters = parameters.model_copy(update={"monotone_constraints": constraints})
    labels = labels_for(rng, columns, parameters.objective)
    theirs = train_xgboost(columns, labels, parameters)
    ours = train(columns, labels, parameters)
    assert_same_decisions(theirs, columns, labels, parameters)
    assert_same_trees(ours, theirs, columns, labels, parameters)
    check_order(ours, as_matrix(columns), constraints)


def check_order(model: Ensemble, values: npt.NDArray[np.float32], constraints: dict[str, int]) -> None:
    """Predictions follow the constraints."""
    for name, sign in constraints.items():
        position = [feature.name for feature in model.features].index(name)
        previous = None
        for value in np.unique(values[:, position]):
            moved = values.copy()
            moved[:, position] = value
            margins = model.predict_margin(moved)
            assert previous is None or (sign * (margins - previous) >= -1e-6).all()
            previous = margins


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
def test_ties_are_rare(objective: str) -> None:
    """So that the comparison above is not one of roots only."""
    agreed, whole = 0, 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        columns = random_columns(rng, 2000, 8)
        parameters = parameters_from({"objective": objective, "n_estimators": 5, "max_depth": 4, "base_score": 0.4})
        labels = labels_for(rng, columns, objective)
        theirs = train_xgboost(columns, labels, parameters)
        nodes, all_agree = assert_same_trees(train(columns, labels, parameters), theirs, columns, labels, parameters)
        agreed += nodes
        whole += all_agree
    assert whole >= 6
    assert agreed >= 1000


@pytest.mark.parametrize("least", [0.0, 1.0, 1.5, 2.0, 3.0, 6.0, 7.0])
def test_min_child_weight_at_its_limits(least: float) -> None:
    """In regression a hessian is a number of rows: a side of exactly `min_child_weight` rows is allowed."""
    columns = [binned_by_number(Feature("x", Kind.DISCRETE), np.arange(6))]
    labels = np.array([9.0, 4, 4, 0, 0, 0])
    parameters = parameters_from(
        {"objective": "reg:squarederror", "min_child_weight": least, "n_estimators": 1, "base_score": 1}
    )
    ours, theirs = train(columns, labels, parameters), train_xgboost(columns, labels, parameters)
    assert assert_same_trees(ours, theirs, columns, labels, parameters)[1]
    mine, their = ours.trees[0], theirs.trees[0]
    assert mine.left.tolist() == their.left.tolist()
    assert mine.threshold.tolist() == their.threshold.tolist()
    assert mine.weight == pytest.approx(their.weight, rel=1e-6)
    assert (mine.weight[0] == 0) == (least != 6)  # a root of less than `min_child_weight` weighs nothing


def test_row_sampling_is_a_weight_of_zero() -> None:
    """XGBoost drops unsampled rows the same way; here it is told our sample by weights."""
    parameters = parameters_from({"n_estimators": 1, "max_depth": 4, "subsample": 0.6, "base_score": 0.5})
    for seed in range(5):
        rng = np.random.default_rng(seed)
        columns = random_columns(rng, 500, 6)
        labels = labels_for(rng, columns, parameters.objective)
        kept = sample_rows(parameters, 0, len(labels)).astype(np.float64)
        theirs = train_xgboost(columns, labels, parameters, weight=kept)
        agreed, _ = assert_same_trees(train(columns, labels, parameters), theirs, columns, labels, parameters)
        assert agreed > 3


def test_a_changed_model_fails_the_audit() -> None:
    """The audit that the tests above rest on does object."""
    rng = np.random.default_rng(5)
    columns = random_columns(rng, 800, 6)
    parameters = parameters_from({"n_estimators": 2, "max_depth": 3})
    labels = labels_for(rng, columns, parameters.objective)
    model = train(columns, labels, parameters)
    first = model.trees[0]
    for changes in (
        {"weight": first.weight * np.float32(1.01)},
        {"feature": np.where(first.leaf, 0, (first.feature + 1) % 6).astype(np.int32)},
    ):
        changed = Tree(**{**vars(first), **changes})
        ensemble = Ensemble(model.features, model.objective, model.base_score, (changed,))
        with pytest.raises(AssertionError):
            assert_same_decisions(ensemble, columns, labels, parameters)


def test_trees_on_patients_of_four_hospitals() -> None:
    if not HEART.exists():
        pytest.skip(f"needs {HEART.name} in ../shared/data")
    table = pd.read_csv(HEART)
    labels = (table.pop("num") > 0).to_numpy(dtype=np.float64)
    table = table.drop(columns=["id"])
    columns = []
    for name, cells in table.items():
        missing = bool(cells.isna().any())
        if pd.api.types.is_numeric_dtype(cells):
            kind = Kind.CONTINUOUS if cells.nunique() > 40 else Kind.DISCRETE
            by_value = bin_column(Feature(str(name), kind, (), missing), cells.to_numpy(dtype=np.float32), 32)
            codes = np.where(by_value.bins == by_value.plan.n_bins, -1, by_value.bins.astype(np.int64))
            columns.append(binned_by_number(Feature(str(name), Kind.DISCRETE, (), missing), codes))
        else:
            codes, levels = pd.factorize(cells.astype("string"))
            columns.append(binned_by_number(Feature(str(name), Kind.CATEGORICAL, tuple(levels), missing), codes))
    for chosen in ({"max_depth": 4}, {"max_depth": 6, "lambda": 0.1, "min_child_weight": 3, "gamma": 0.4}):
        parameters = parameters_from({"n_estimators": 10, **chosen})
        theirs = train_xgboost(columns, labels, parameters)
        ours = train(columns, labels, parameters)
        assert_same_decisions(theirs, columns, labels, parameters)
        agreed, _ = assert_same_trees(ours, theirs, columns, labels, parameters)
        assert agreed >= 20
