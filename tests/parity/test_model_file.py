"""Model files: XGBoost predicts from ours what we predict, and we predict from XGBoost's what it predicts."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pytest

from veilboost.errors import ModelError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.parameters import Objective
from veilboost.trees.xgboost_json import load_model, save_model

xgboost = pytest.importorskip("xgboost")

LEVELS = ("zeta", "er", "apple", "b", "Gp", "emergency room")
CASES = [
    (Kind.CONTINUOUS, Kind.CATEGORICAL, Kind.DISCRETE, Kind.CATEGORICAL, Kind.FLAG),
    (Kind.CONTINUOUS, Kind.DISCRETE),
    (Kind.CATEGORICAL,),
]
#: Ties with thresholds, numbers of all sizes, and the largest and smallest float32.
NUMBERS = np.array(
    [0, 0.1, 0.5, 1 / 3, 1e-30, -7.25, 16777217, 1e30, 1e-45, 3.4028235e38, -3.4028235e38], dtype=np.float32
)


def random_model(kinds: tuple[Kind, ...], objective: Objective, seed: int) -> tuple[Ensemble, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    features = tuple(
        Feature(f"column {i}", kind, LEVELS if kind is Kind.CATEGORICAL else (), True) for i, kind in enumerate(kinds)
    )
    categorical = np.array([feature.categorical for feature in features])
    trees = []
    for _ in range(25):
        depth = int(rng.integers(0, 6))
        n_inner = 2**depth - 1
        feature = rng.integers(0, len(kinds), n_inner)
        sets = CategorySets.of(
            [rng.integers(0, len(LEVELS), rng.integers(1, 5)) if categorical[f] else () for f in feature]
        )
        threshold, default_left = rng.choice(NUMBERS, n_inner), rng.random(n_inner) < 0.5
        weights = rng.normal(size=n_inner + 1)
        trees.append(
            Tree.from_complete(depth, rng.random(n_inner) < 0.9, feature, threshold, sets, default_left, weights)
        )
    values = rng.choice(NUMBERS, (2000, len(kinds)))
    values[:, categorical] = rng.integers(-1, len(LEVELS) + 3, (2000, int(categorical.sum())))  # unknown codes too
    values[rng.random(values.shape) < 0.15] = np.nan
    return Ensemble(features, objective, float(np.float32(0.3)), tuple(trees)), values


def matrix(ensemble: Ensemble, values: npt.NDArray[np.float32]) -> "xgboost.DMatrix":
    return xgboost.DMatrix(
        values,
        feature_names=[feature.name for feature in ensemble.features],
        feature_types=["c" if feature.categorical else "float" for feature in ensemble.features],
        enable_categorical=True,
    )


def loaded(ensemble: Ensemble, folder: Path) -> "xgboost.Booster":
    save_model(ensemble, folder / "model.json")
    booster = xgboost.Booster()
    booster.load_model(folder / "model.json")
    return booster


@pytest.mark.parametrize("kinds", CASES)
@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
@pytest.mark.parametrize("seed", [0, 1])
def test_xgboost_predicts_from_our_file_what_we_predict(
    kinds: tuple[Kind, ...], objective: Objective, seed: int, tmp_path: Path
) -> None:
    ensemble, values = random_model(kinds, objective, seed)
    booster, rows = loaded(ensemble, tmp_path), matrix(ensemble, values)
    leaves = booster.predict(rows, pred_leaf=True).reshape(len(values), -1)
    assert np.array_equal(leaves, ensemble.leaf_index(values))
    assert np.array_equal(booster.predict(rows, output_margin=True), ensemble.predict_margin(values))
    assert booster.predict(rows) == pytest.approx(ensemble.predict(values), abs=1e-6)


@pytest.mark.parametrize("kinds", CASES)
def test_xgboost_keeps_our_model_to_the_last_bit(kinds: tuple[Kind, ...], tmp_path: Path) -> None:
    ensemble, values = random_model(kinds, "binary:logistic", 2)
    loaded(ensemble, tmp_path).save_model(tmp_path / "again.json")
    again = load_model(tmp_path / "again.json")
    assert again.features == ensemble.features
    assert again.base_score == ensemble.base_score
    for ours, theirs in zip(ensemble.trees, again.trees, strict=True):
        assert ours.categories.same_as(theirs.categories)
        for name in vars(ours).keys() - {"categories"}:
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert np.array_equal(again.predict(values), ensemble.predict(values))


def as_text(ensemble: Ensemble, values: npt.NDArray[np.float32]) -> dict[str, list[str | float | None]]:
    """The columns of a user's table: categories as text."""
    table: dict[str, list[str | float | None]] = {}
    for feature, cells in zip(ensemble.features, values.T, strict=True):
        known = np.isfinite(cells) & (cells >= 0) & (cells < len(LEVELS))
        if feature.categorical:
            table[feature.name] = [LEVELS[int(c)] if k else None for c, k in zip(cells, known, strict=True)]
        else:
            table[feature.name] = [float(cell) for cell in cells]
    return table


@pytest.mark.parametrize("order", [LEVELS, tuple(sorted(LEVELS)), LEVELS[::-1]])
def test_data_frames_are_matched_by_the_names_of_categories(order: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever codes a frame gives its categories: XGBoost finds the level by the names in our file."""
    ensemble, values = random_model(CASES[0], "binary:logistic", 3)
    categorical = np.array([feature.categorical for feature in ensemble.features])
    values[:, categorical] = np.where(
        (values[:, categorical] >= 0) & (values[:, categorical] < len(LEVELS)), values[:, categorical], np.nan
    )
    table = as_text(ensemble, values)
    booster = loaded(ensemble, tmp_path)
    frame = pd.DataFrame(
        {
            feature.name: pd.Categorical(table[feature.name], categories=list(order))
            if feature.categorical
            else np.array(table[feature.name], dtype=np.float32)
            for feature in ensemble.features
        }
    )
    predicted = booster.predict(xgboost.DMatrix(frame, enable_categorical=True), output_margin=True)
    assert np.array_equal(predicted, ensemble.predict_margin(values))


def test_names_beyond_ascii_are_matched(tmp_path: Path) -> None:
    """XGBoost compares names as signed bytes. (From pandas it miscounts such names itself, so this is polars.)"""
    pytest.importorskip("pyarrow")
    levels = ("zeta", "Ärztin", "er", "été", "Zürich", "日本")
    feature = Feature("wo", Kind.CATEGORICAL, levels, True)
    trees = tuple(
        Tree.from_complete(1, [True], [0], [0], [category], [True], [0.0, 2.0**category]) for category in range(6)
    )
    ensemble = Ensemble((feature,), "reg:squarederror", 0.0, trees)
    booster = loaded(ensemble, tmp_path)
    for order in (levels, tuple(sorted(levels))):
        frame = pl.DataFrame({"wo": pl.Series(list(levels), dtype=pl.Enum(list(order)))})
        predicted = booster.predict(xgboost.DMatrix(frame, enable_categorical=True))
        assert predicted.tolist() == [1, 2, 4, 8, 16, 32]


def trained(folder: Path, **given: object) -> tuple["xgboost.Booster", pd.DataFrame, npt.NDArray[np.float32]]:
    """An ordinary XGBoost model on a frame, saved to folder/model.json."""
    rng = np.random.default_rng(4)
    numbers = rng.normal(size=(600, 2)).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.2] = np.nan
    codes = rng.integers(0, 4, 600)
    frame = pd.DataFrame({"a": numbers[:, 0], "b": numbers[:, 1], "c": pd.Categorical.from_codes(codes, LEVELS[:4])})
    labels = (np.nan_to_num(numbers[:, 0]) + (codes % 2) + rng.normal(size=600) > 0.5) * 1.0
    parameters = {"objective": "binary:logistic", "tree_method": "hist", **given}
    booster = xgboost.train(parameters, xgboost.DMatrix(frame, labels, enable_categorical=True), 8)
    booster.save_model(folder / "model.json")
    return booster, frame, np.column_stack([numbers, codes]).astype(np.float32)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"max_cat_to_onehot": 100},
        {"max_cat_to_onehot": 1, "max_depth": 3},
        {"objective": "reg:squarederror", "base_score": -0.5},
        {"grow_policy": "lossguide", "max_leaves": 9},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"tree_method": "approx", "gamma": 2.0},
    ],
)
def test_we_predict_from_xgboosts_file_what_it_predicts(given: dict[str, object], tmp_path: Path) -> None:
    booster, frame, values = trained(tmp_path, **given)
    ensemble = load_model(tmp_path / "model.json")
    assert [feature.name for feature in ensemble.features] == ["a", "b", "c"]
    assert ensemble.features[2] == Feature("c", Kind.CATEGORICAL, LEVELS[:4], True)
    rows = xgboost.DMatrix(frame, enable_categorical=True)
    assert ensemble.predict_margin(values) == pytest.approx(booster.predict(rows, output_margin=True), abs=1e-6)
    save_model(ensemble, tmp_path / "ours.json")
    ours = xgboost.Booster(model_file=tmp_path / "ours.json")
    assert np.array_equal(ours.predict(rows), booster.predict(rows))


def test_pruned_nodes_and_nameless_columns_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 2)).astype(np.float32)
    rows = xgboost.DMatrix(values, rng.normal(size=300))
    booster = xgboost.train({"max_depth": 4, "tree_method": "exact", "gamma": 4, "base_score": 0.5}, rows, 3)
    booster.save_model(tmp_path / "model.json")
    deleted = [
        int(tree["tree_param"]["num_deleted"])
        for tree in json.loads((tmp_path / "model.json").read_text())["learner"]["gradient_booster"]["model"]["trees"]
    ]
    assert max(deleted) > 0
    ensemble = load_model(tmp_path / "model.json")
    assert [feature.name for feature in ensemble.features] == ["f0", "f1"]
    assert np.array_equal(ensemble.predict(values), booster.predict(rows))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"booster": "dart"}, "booster 'dart' is not supported"),
        ({"objective": "reg:tweedie"}, "objective 'reg:tweedie' is not supported"),
    ],
)
def test_models_of_other_kinds_are_refused_by_name(given: dict[str, object], words: str, tmp_path: Path) -> None:
    trained(tmp_path, **given)
    with pytest.raises(ModelError, match=words):
        load_model(tmp_path / "model.json")
