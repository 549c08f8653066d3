"""The scikit-learn style front. Every `fit` starts real processes, so few tests fit and many look at what came out.

There is no test of GridSearchCV: it splits the arrays X and y into folds, while `fit` takes one table per owner, which
only an owner can split.
"""

import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pytest
import xgboost
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from tests.processes.support import environment

from veilboost import XORBoostClassifier, XORBoostRegressor
from veilboost.errors import DataError, InputError, JobError, ModelError
from veilboost.estimators.base import _check_alike, _range_of
from veilboost.jobs.draft import pool_cells
from veilboost.tables.binning import bin_column
from veilboost.tables.schema import Feature, Kind
from veilboost.tables.table import encode_frame
from veilboost.trees.parameters import parameters_from
from veilboost.trees.reference import train
from veilboost.trees.xgboost_json import save_model

ROWS = 90

#: A fifth of them is enough for early stopping.
EARLY_ROWS = 250


def patients(seed: int = 5, rows: int = ROWS) -> pd.DataFrame:
    """What all owners have together, as pandas users hold it."""
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 12, rows)
    ward = rng.choice(["gp", "er", "ward"], rows)
    dose = rng.integers(0, 4, rows).astype(float)
    signal = (age - 50) / 12 + (ward == "er") + dose / 2 + rng.normal(0, 0.4, rows)
    dose[::8] = np.nan
    return pd.DataFrame(
        {
            "patient": rng.permutation(rows) + 10**17,
            "age": age,
            "referral": pd.Categorical([None if k % 10 == 0 else w for k, w in enumerate(ward)], ["ward", "gp", "er"]),
            "dose": dose,
            "smoker": rng.random(rows) < 0.5,
            "status": np.where(signal > np.median(signal), "sick", "healthy"),
            "cost": 100 + 10 * signal,
        }
    )


def booster_values(model: Any, frame: Any) -> npt.NDArray[np.float32]:
    """What XGBoost predicts with the estimator's model."""
    kinds = ["c" if feature.categorical else "float" for feature in model.features_]
    matrix = xgboost.DMatrix(
        encode_frame(frame, model.features_),
        feature_names=[feature.name for feature in model.features_],
        feature_types=kinds,
        enable_categorical=True,
    )
    return np.asarray(model.to_xgboost().predict(matrix))


@pytest.fixture(scope="module")
def classifier() -> XORBoostClassifier:
    """Fitted on pandas frames joined by id: shuffled rows, some patients missing on either side."""
    table = patients()
    north = table[["patient", "age", "referral"]].iloc[:-5]
    south = table[["patient", "dose", "smoker", "status"]].iloc[7:].sample(frac=1, random_state=1)
    model = XORBoostClassifier(n_estimators=4, max_depth=2, max_bin=16)
    return model.fit({"north": north, "south": south}, id="patient", label="status")


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> XORBoostRegressor:
    """Fitted on a CSV file and a polars frame in the same order of rows, with public bounds of the label."""
    table = patients()
    path = tmp_path_factory.mktemp("tables") / "north.csv"
    table[["age", "referral", "cost"]].to_csv(path, index=False)
    south = pl.DataFrame({"dose": table["dose"].to_numpy(), "smoker": table["smoker"].to_numpy()})
    model = XORBoostRegressor(n_estimators=4, max_depth=2, max_bin=16, learning_rate=0.5)
    return model.fit({"north": path, "south": south}, label="cost", label_range=(0, 300))


def test_classifier_learns_from_joined_rows(classifier: XORBoostClassifier) -> None:
    """Wrongly joined rows would leave nothing to learn."""
    table = patients()
    assert classifier.score(table, table["status"]) > 0.75
    probabilities = classifier.predict_proba(table)
    assert probabilities.shape == (ROWS, 2)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(classifier.predict(table), classifier.classes_[probabilities.argmax(axis=1)])
    np.testing.assert_allclose(booster_values(classifier, table), probabilities[:, 1], rtol=1e-5, atol=1e-6)


def test_classifier_remembers_what_it_was_fitted_on(classifier: XORBoostClassifier) -> None:
    assert classifier.classes_.tolist() == ["healthy", "sick"]
    assert classifier.feature_names_in_.tolist() == ["age", "referral", "dose", "smoker"]
    assert classifier.n_features_in_ == 4
    assert [(feature.kind, feature.missing) for feature in classifier.features_] == [
        (Kind.CONTINUOUS, False),
        (Kind.CATEGORICAL, True),
        (Kind.DISCRETE, True),
        (Kind.FLAG, False),
    ]
    assert len(classifier.report_["seconds_per_tree"]) == 4
    assert {entry["receiver"] for entry in classifier.ledger_} == {"analyst"}
    check_is_fitted(classifier)


def test_frames_of_any_kind_are_predicted_alike(classifier: XORBoostClassifier) -> None:
    """pandas, polars, and text as from CSV; missing and unknown categories; columns in any order and more of them."""
    table = patients()[["smoker", "dose", "referral", "age", "cost"]]
    expected = classifier.predict_proba(table)
    text = {name: [None if pd.isna(cell) else str(cell) for cell in table[name]] for name in table.columns}
    polars = pl.DataFrame(text, schema=dict.fromkeys(text, pl.String))
    np.testing.assert_array_equal(classifier.predict_proba(polars), expected)
    one = polars.head(1).with_columns(pl.lit("elsewhere").alias("referral"), pl.lit(None).alias("dose"))
    assert classifier.predict(one).shape == (1,)
    with pytest.raises(DataError, match=r"X: .*'age'"):
        classifier.predict(table.drop(columns="age"))


def test_models_are_saved(classifier: XORBoostClassifier, tmp_path: Path) -> None:
    classifier.save_model(tmp_path / "model.json")
    booster = xgboost.Booster(model_file=tmp_path / "model.json")
    assert booster.num_boosted_rounds() == 4
    assert booster.feature_names == classifier.feature_names_in_.tolist()


def test_models_are_loaded(classifier: XORBoostClassifier, tmp_path: Path) -> None:
    """Everything that predictions need is in the file, but the names of the classes."""
    classifier.save_model(tmp_path / "model.json")
    loaded = XORBoostClassifier()
    loaded.load_model(tmp_path / "model.json")
    table = patients()
    np.testing.assert_array_equal(loaded.predict_proba(table), classifier.predict_proba(table))
    assert loaded.features_ == classifier.features_
    assert loaded.classes_.tolist() == [0, 1]
    with pytest.raises(ModelError, match="predicts with reg:squarederror or count:poisson: use the other estimator"):
        XORBoostRegressor().load_model(tmp_path / "model.json")
    with pytest.raises(ModelError):
        XORBoostRegressor().load_model(Path(__file__))


def test_pictures(classifier: XORBoostClassifier) -> None:
    """Axes as XGBoost's functions give them, new or those that were given; what they show is tested with the trees."""
    matplotlib.use("Agg")
    axes = [classifier.plot_tree(), classifier.plot_importance()]
    figure, (left, right) = plt.subplots(1, 2)
    assert classifier.plot_tree(3, ax=left) is left
    assert classifier.plot_importance(right, max_num_features=1) is right
    assert len(right.patches) == 1
    assert left.patches
    for one in (*axes, left):
        one.figure.canvas.draw()
    assert len({one.figure for one in (*axes, left)}) == 3
    with pytest.raises(InputError, match="tree 4: the model has 4 trees"):
        classifier.plot_tree(4)
    with pytest.raises(InputError, match="train with reveal_gain=True"):
        classifier.plot_importance(importance_type="total_gain")
    plt.close("all")
    assert not figure.stale


def test_regressor_learns(regressor: XORBoostRegressor) -> None:
    table = patients()
    predicted = regressor.predict(table)
    assert (predicted.shape, predicted.dtype) == ((ROWS,), np.float32)
    truth = table["cost"].to_numpy()
    assert regressor.score(table, truth) > 0.4
    residual = 1 - np.sum((truth - predicted) ** 2) / np.sum((truth - truth.mean()) ** 2)
    assert regressor.score(table, truth) == pytest.approx(residual)
    np.testing.assert_allclose(booster_values(regressor, table), predicted, rtol=1e-5)
    assert regressor.report_["settings"]["parameters"]["objective"] == "reg:squarederror"


def test_parameters() -> None:
    model = XORBoostClassifier(max_depth=3, base_score=0.25)
    assert model.get_params()["max_depth"] == 3
    assert model.get_params(deep=False) == model.get_params()
    assert model.set_params(max_depth=5, seed=3) is model
    assert (model.max_depth, model.seed) == (5, 3)
    assert repr(model) == "XORBoostClassifier(max_depth=5, seed=3, base_score=0.25)"
    assert repr(XORBoostRegressor()) == "XORBoostRegressor()"


def test_clone_has_the_same_parameters(classifier: XORBoostClassifier) -> None:
    copied = clone(classifier)
    assert copied.get_params() == classifier.get_params()
    assert not hasattr(copied, "ensemble_")


def test_kind_of_estimator() -> None:
    assert is_classifier(XORBoostClassifier())
    assert is_regressor(XORBoostRegressor())
    assert XORBoostClassifier().__sklearn_tags__().input_tags.allow_nan


@pytest.mark.parametrize("kind", [XORBoostClassifier, XORBoostRegressor])
def test_unknown_parameter_is_a_type_error(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"^{kind.__name__} has no parameter 'max_leaves': it has objective, "):
        kind(max_leaves=3)
    with pytest.raises(
        TypeError, match=rf"{kind.__name__} has no parameter 'eta': did you mean learning_rate\? It has "
    ):
        kind().set_params(eta=0.1)
    with pytest.raises(TypeError, match=f"^{kind.__name__} takes no positional arguments"):
        kind(3)


def test_x_and_y_are_refused() -> None:
    with pytest.raises(InputError, match=r"^XORBoostClassifier.fit takes the tables of all owners by name"):
        XORBoostClassifier().fit(tables()["north"], [0, 1], label="status")  # type: ignore[arg-type]


def test_importance_of_features(classifier: XORBoostClassifier) -> None:
    importances = classifier.feature_importances_
    splits = np.zeros(4)
    for tree in classifier.ensemble_.trees:
        np.add.at(splits, tree.feature[~tree.leaf], 1)
    assert splits.sum() > 4
    assert importances.dtype == np.float32
    np.testing.assert_allclose(importances, splits / splits.sum(), rtol=1e-6)
    with pytest.raises(NotFittedError):
        _ = XORBoostClassifier().feature_importances_


def test_failed_fit_leaves_no_old_model() -> None:
    model = XORBoostClassifier()
    model.ensemble_ = None  # type: ignore[assignment]
    with pytest.raises(DataError):
        model.fit(tables(), id="patient", label="cost")
    assert not hasattr(model, "ensemble_")


def test_not_fitted() -> None:
    model = XORBoostClassifier()
    for use in (model.predict, model.predict_proba, model.save_model):
        with pytest.raises(NotFittedError, match="this XORBoostClassifier is not fitted yet: call fit first"):
            use(patients())
    for draw in (model.to_xgboost, model.plot_tree, model.plot_importance):
        with pytest.raises(NotFittedError):
            draw()
    with pytest.raises(NotFittedError):
        check_is_fitted(model)


def test_rows_and_columns_with_several_owners() -> None:
    """Two hospitals hold different patients, an insurer one more column for all of them, in an order of its own."""
    table = patients()
    hospital = table[["patient", "age", "referral", "status"]]
    parties = {
        "north": hospital.iloc[:50],
        "south": hospital.iloc[50:],
        "insurer": table[["patient", "dose"]].sample(frac=1, random_state=1),
    }
    clf = XORBoostClassifier(n_estimators=3, max_depth=3, max_bin=32).fit(parties, id="patient", label="status")
    assert clf.feature_names_in_.tolist() == ["age", "referral", "dose"]
    assert clf.report_["rows"] == ROWS
    assert clf.score(table, table["status"]) > 0.8
    assert {name for tree in clf.ensemble_.trees for name in tree.feature[~tree.leaf].tolist()} == {0, 1, 2}


def test_classes_with_weights_and_early_stopping() -> None:
    table = patients(rows=EARLY_ROWS)
    third = table["cost"].rank(pct=True).mul(3).clip(upper=2.999).astype(int)
    table["stage"] = np.array(["I", "II", "III"])[third]
    table["w"] = 1.0 + (table.index % 2)
    parties = {"north": table[["age", "referral", "stage", "w"]], "south": table[["dose", "smoker"]]}
    model = XORBoostClassifier(n_estimators=5, max_depth=2, max_bin=16, early_stopping_rounds=2)
    model.fit(parties, label="stage", weight="w", weight_range=(0, 4))
    assert model.classes_.tolist() == ["I", "II", "III"]
    probabilities = model.predict_proba(table)
    assert probabilities.shape == (EARLY_ROWS, 3)
    np.testing.assert_allclose(booster_values(model, table), probabilities, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.predict(table), model.classes_[probabilities.argmax(axis=1)])
    assert model.score(table, table["stage"]) > 0.6
    curve = model.evals_result()["validation"]["mlogloss"]
    assert len(curve) == 5
    assert model.best_score == pytest.approx(curve[model.best_iteration])
    assert model.ensemble_.rounds == model.best_iteration + 1
    assert model.feature_names_in_.tolist() == ["age", "referral", "dose", "smoker"]
    with pytest.raises(ModelError, match="predicts with reg:squarederror or count:poisson: use the other estimator"):
        load_other(model, XORBoostRegressor())


def load_other(model: Any, other: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model.save_model(Path(folder) / "model.json")
        other.load_model(Path(folder) / "model.json")


def test_counts() -> None:
    table = patients()
    table["visits"] = np.random.default_rng(3).poisson(np.exp((table["cost"] - 100) / 15))
    parties = {"north": table[["age", "referral", "visits"]], "south": table[["dose", "smoker"]]}
    model = XORBoostRegressor(objective="count:poisson", n_estimators=4, max_depth=2, max_bin=16)
    model.fit(parties, label="visits")
    predicted = model.predict(table)
    assert (predicted > 0).all()
    assert np.corrcoef(predicted, table["visits"])[0, 1] > 0.6
    np.testing.assert_allclose(booster_values(model, table), predicted, rtol=1e-5)
    with pytest.raises(AttributeError, match="best_iteration is there only after fit with early_stopping_rounds"):
        model.best_iteration  # noqa: B018


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            XORBoostClassifier(objective="count:poisson"),
            'XORBoostClassifier has "binary:logistic" and "multi:softprob"',
        ),
        (XORBoostClassifier(eval_metric="mlogloss", early_stopping_rounds=2), "does not fit binary:logistic"),
        (XORBoostRegressor(objective="count:poisson", scale_pos_weight=2.0), "scale_pos_weight has no meaning"),
        (XORBoostClassifier(monotone_constraints=[1, 0]), r"monotone_constraints has 2 numbers for \d+ features"),
        (XORBoostClassifier(monotone_constraints={"agee": 1}), "no .* 'agee'"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(model: Any, expected: str) -> None:
    label = "status" if isinstance(model, XORBoostClassifier) else "cost"
    with pytest.raises(InputError, match=expected):
        model.fit(tables(), id="patient", label=label)


def test_model_of_classes_is_loaded(tmp_path: Path) -> None:
    """Their names are not in the file."""
    feature = Feature("age", Kind.CONTINUOUS)
    columns = [bin_column(feature, np.arange(60, dtype=np.float32), 8)]
    parameters = parameters_from({"objective": "multi:softprob", "num_class": 3, "n_estimators": 2, "max_depth": 2})
    save_model(train(columns, np.arange(60.0) // 20, parameters), tmp_path / "model.json")
    model = XORBoostClassifier()
    model.load_model(tmp_path / "model.json")
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict(pd.DataFrame({"age": [5.0, 30.0, 55.0]})).tolist() == [0, 1, 2]


def tables() -> dict[str, pd.DataFrame]:
    table = patients()
    return {"north": table[["patient", "age", "referral"]], "south": table[["patient", "dose", "status", "cost"]]}


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (lambda t: t, {"id": "patient", "label": "ill"}, "label 'ill': no table has this column"),
        (lambda t: t, {"id": "patient", "label": "status", "weight": "w"}, "weight 'w': no table has this column"),
        (lambda t: t, {"id": "patient", "label": "status", "weight_range": (0, 1)}, "weight_range: has no meaning"),
        (
            lambda t: {**t, "south": t["south"].assign(w="heavy")},
            {"id": "patient", "label": "status", "weight": "w"},
            "table of south: column 'w' holds no numbers",
        ),
        (lambda t: t, {"id": "number", "label": "status"}, "table of north: there is no id column 'number'"),
        (lambda t: t, {"id": "patient", "label": "dose"}, "table of south: a label in column 'dose' is empty"),
        (
            lambda t: t,
            {"id": "patient", "label": "cost"},
            "the label 'cost' has 90 different values, and a classifier needs 2 to 63 classes",
        ),
        (lambda t: t, {"label": "patient"}, "table of north: 'patient' is also at south"),
        (lambda t: t, {"label": "status"}, "if 'patient' says which rows belong together, make it the id"),
        (
            lambda t: {"north": t["north"].drop(columns="patient"), "south": t["south"].head(80)},
            {"label": "status"},
            "the tables have different numbers of rows (north has 90, south has 80): align them, or name a common id",
        ),
        (
            lambda t: {**t, "south": t["south"].assign(patient=7)},
            {"id": "patient", "label": "status"},
            "table of south: rows 1, 2, 3, 4, 5 and 85 more, column 'patient': have the same id",
        ),
        (
            lambda t: {**t, "south": t["south"].assign(patient=[None] * 90)},
            {"id": "patient", "label": "status"},
            "table of south: rows 1, 2, 3, 4, 5 and 85 more, column 'patient': the id is empty",
        ),
        (
            lambda t: {**t, "north": pl.DataFrame({"patient": pl.Series(range(90)).cast(pl.Duration)})},
            {"id": "patient", "label": "status"},
            "table of north: the id column 'patient' holds neither text nor numbers",
        ),
        (
            lambda t: {**t, "south": t["south"].assign(patient=range(90))},
            {"id": "patient", "label": "status"},
            "no id of column 'patient' in common",
        ),
        (lambda t: {"north": t["north"].head(0), **t}, {"label": "status"}, "is also at|the table has no rows"),
        (lambda t: {**t, "north": t["north"].head(0)}, {"label": "status"}, "table of north: the table has no rows"),
        (lambda t: {**t, "north": "none.csv"}, {"label": "status"}, "table of north: there is no such file"),
        (lambda t: {**t, "north": [1, 2]}, {"label": "status"}, "table of north: cannot read a list"),
        (
            lambda t: {"south": t["south"]},
            {"id": "patient", "label": "status"},
            "parties: XORBoostClassifier needs the tables of two owners or more",
        ),
        (lambda t: t["south"], {"label": "status"}, "XORBoostClassifier.fit takes the tables of all owners by name"),
        (lambda t: list(t.values()), {"label": "status"}, "fit takes the tables of all owners by name"),
        (
            lambda t: {"north west": t["north"], "south": t["south"]},
            {"id": "patient", "label": "status"},
            "table of 'north west', key 'name'",
        ),
        (
            lambda t: t,
            {"id": "patient", "label": "status", "features": [Feature("ages", Kind.CONTINUOUS)]},
            "features: no table has a column 'ages': check the name",
        ),
        (
            lambda t: {**t, "north": t["north"].assign(note=[f"remark {k}" for k in range(90)])},
            {"id": "patient", "label": "status"},
            "column 'note' has another text in nearly every row: name it as the id",
        ),
        (
            lambda t: {**t, "north": t["north"].assign(note=[f"remark {k % 75}" for k in range(90)])},
            {"id": "patient", "label": "status"},
            None,
        ),
    ],
)
def test_bad_tables_are_refused(
    change: Any, options: dict[str, Any], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any process is started."""

    class StartedError(Exception):
        pass

    def started(*_: object) -> None:
        raise StartedError

    monkeypatch.setattr("veilboost.estimators.base.run_local", started)
    if expected is None:  # a sound table gets as far as the start
        with pytest.raises(StartedError):
            XORBoostClassifier().fit(change(tables()), **options)
        return
    with pytest.raises(InputError) as caught:
        XORBoostClassifier().fit(change(tables()), **options)
    assert any(part in str(caught.value) for part in expected.split("|"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parameters", [{"max_depth": 0}, {"max_depth": 2.5}, {"learning_rate": 0}, {"subsample": 2}, {"base_score": 1.5}]
)
def test_parameter_out_of_range_is_refused(parameters: dict[str, Any]) -> None:
    (name,) = parameters
    with pytest.raises(JobError, match=name):
        XORBoostClassifier(**parameters).fit(tables(), id="patient", label="status")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pl.Series("y", ["0", "1", "1"]), [0, 1]),
        (pl.Series("y", [" b", "a", "b"]), ["a", "b"]),
        (pl.Series("y", [2.0, 1.0, 1.0]), [1.0, 2.0]),
        (pl.Series("y", [True, False]), [False, True]),
        (pl.Series("y", ["no", "yes"], dtype=pl.Categorical), ["no", "yes"]),
        (pl.Series("y", ["low", "high", "mid"], dtype=pl.Enum(["low", "mid", "high"])), ["high", "low", "mid"]),
    ],
)
def test_classes_of_labels(labels: pl.Series, classes: list[Any]) -> None:
    model = XORBoostClassifier()
    codes = model._encode_label(labels, "north")
    assert model.classes_.tolist() == classes
    cleaned = [cell.strip() if isinstance(cell, str) else cell for cell in labels.to_list()]
    assert [str(classes[code]) for code in codes] == [str(cell) for cell in cleaned]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pl.Series([0, 1]), pl.Series([True, False]), ("numbers", "south true and false")),
        (pl.Series(["0", "1"]), pl.Series(["no", "yes"]), ("numbers", "south texts")),
        (pl.Series([True, False]), pl.Series(["True", "False"]), ("true and false", "south texts")),
        (pl.Series(["0", "1"]), pl.Series([0.0, 1.0]), None),
    ],
)
def test_labels_are_alike_in_all_tables(one: pl.Series, other: pl.Series, expected: tuple[str, str] | None) -> None:
    """Otherwise 1 and true would be two classes."""
    cells, where = [one.alias("status"), other.alias("status")], ["table of north", "table of south"]
    if expected is not None:
        message = f"^table of north: the label 'status' holds {expected[0]}, and in table of {expected[1]}: write"
        with pytest.raises(DataError, match=message):
            _check_alike("status", cells, where)
        return
    _check_alike("status", cells, where)
    model = XORBoostClassifier()
    assert model._encode_label(pool_cells(cells), "north").to_list() == [0, 1, 0, 1]


@pytest.mark.parametrize("empty", [None, " ", "nan"])
def test_empty_labels_are_named_by_table_and_row(empty: str | None) -> None:
    cells = [pl.Series("status", ["0", "1"]), pl.Series("status", ["0", "1", empty, "1"])]
    for numbered, expected in ((True, "row 3: the label 'status' is empty"), (False, "a label in column 'status' is")):
        with pytest.raises(DataError, match=f"^table of south: {expected}"):
            _check_alike("status", cells, ["table of north", "table of south"], numbered=numbered)


def test_ranges_of_labels() -> None:
    assert _range_of(pl.Series("y", [1.0, 3.0]), "north", -math.inf) == (1, 3)
    assert _range_of(pl.Series("y", [5.0]), "north", -math.inf) == (4, 6)
    low, high = _range_of(pl.Series("y", [1e17, 1e17]), "north", -math.inf)
    assert low < 1e17 < high
    with pytest.raises(DataError, match="column 'y' holds an infinite number"):
        _range_of(pl.Series("y", [1.0, math.inf]), "north", -math.inf)


@pytest.mark.parametrize("constraints", [{"b": np.int64(1)}, np.array([0, 1]), [0, 1], (0, 1)])
def test_monotone_constraints_may_be_numpys(constraints: Any) -> None:
    model = XORBoostRegressor(monotone_constraints=constraints)
    expected = {"b": 1} if isinstance(constraints, dict) else {"a": 0, "b": 1}
    assert model._parameters(["a", "b"])["monotone_constraints"] == expected


def test_import_without_the_analysts_libraries() -> None:
    """A party, the dealer and the command line need none of them."""
    program = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sklearn", "pandas", "xgboost", "matplotlib", "scipy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
import veilboost, veilboost.cli
model = veilboost.XORBoostClassifier(max_depth=3)
print(model)
try:
    model.predict(None)
except veilboost.estimators.base.InputError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "XORBoostClassifier(max_depth=3)",
        "this XORBoostClassifier is not fitted yet: call fit first",
    ]
