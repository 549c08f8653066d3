"""Scoring models from files, boosters and estimators, on real tables too: rounds, categories, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from veilboost.errors import ModelError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.scoring_file import read_scoring_model

xgboost = pytest.importorskip("xgboost")
pytest.importorskip("sklearn")

DATA = Path(__file__).parents[3] / "shared" / "data"
Float32 = npt.NDArray[np.float32]


def numbers(rows: int = 400, seed: int = 0) -> tuple[Float32, Float32]:
    """A table and labels of classes 0, 1 and 2."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 4)).astype(np.float32)
    label = np.digitize(values[:, 0] + rng.normal(size=rows), [-0.5, 0.5])
    values[rng.random(values.shape) < 0.1] = np.nan
    return values, label.astype(np.float32)


def stopped_early(several: bool, **given: Any) -> "xgboost.Booster":
    values, label = numbers()
    label = label if several else (label > 0).astype(np.float32)
    parameters = {"objective": "multi:softprob", "num_class": 3} if several else {"objective": "binary:logistic"}
    rows, held = xgboost.DMatrix(values[:200], label[:200]), xgboost.DMatrix(values[200:], label[200:])
    return xgboost.train(
        {**parameters, "max_depth": 3, "nthread": 1, **given},
        rows,
        60,
        evals=[(held, "held")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("given", [{}, {"num_parallel_tree": 2, "subsample": 0.6}, {"booster": "dart", "one_drop": 1}])
def test_rounds_after_early_stopping(several: bool, given: dict[str, Any]) -> None:
    booster = stopped_early(several, **given)
    values, _ = numbers(seed=1)
    rows = xgboost.DMatrix(values)
    best, rounds = booster.best_iteration, booster.num_boosted_rounds()
    assert 0 < best < rounds - 1
    pairs: list[tuple[tuple[int, int] | None, tuple[int, int]]] = [(None, (0, best + 1))]
    pairs += [(some, some) for some in ((0, 0), (0, 1), (1, 0), (1, 3), (0, rounds), (2, 2))]
    for ours, theirs in pairs:
        model = read_scoring_model(booster, ours)
        assert model.best_iteration == best
        margins = booster.predict(rows, output_margin=True, iteration_range=theirs)
        assert model.predict_margin(values) == pytest.approx(margins.reshape(len(values), -1), abs=1e-6, rel=1e-6)
    for wrong in ((0, rounds + 1), (2, 1)):
        with pytest.raises(xgboost.core.XGBoostError):
            booster.predict(rows, iteration_range=wrong)
        with pytest.raises(ModelError, match="iteration_range"):
            read_scoring_model(booster, wrong)


def test_slices_of_a_booster() -> None:
    booster = stopped_early(True)[1:4]
    values, _ = numbers(seed=1)
    model = read_scoring_model(booster)
    assert len(model.trees) == 9
    assert model.predict(values) == pytest.approx(booster.predict(xgboost.DMatrix(values)), abs=1e-6)


def test_estimators_of_xgboost() -> None:
    values, label = numbers()
    early: dict[str, Any] = {"n_estimators": 40, "max_depth": 2, "n_jobs": 1, "early_stopping_rounds": 2}
    held = {"eval_set": [(values[200:], label[200:])], "verbose": False}
    classifier = xgboost.XGBClassifier(**early).fit(values[:200], label[:200], **held)
    assert read_scoring_model(classifier).predict(values) == pytest.approx(classifier.predict_proba(values), abs=1e-6)
    regressor = xgboost.XGBRegressor(**early).fit(values[:200], label[:200], **held)
    assert regressor.best_iteration < regressor.get_booster().num_boosted_rounds() - 1
    assert read_scoring_model(regressor).predict(values) == pytest.approx(regressor.predict(values), abs=1e-6)
    forest = xgboost.XGBRFRegressor(n_estimators=5, max_depth=3, n_jobs=1).fit(values, label)
    assert read_scoring_model(forest).predict(values) == pytest.approx(forest.predict(values), abs=1e-6)


def test_models_that_were_not_trained_are_refused() -> None:
    for source in (xgboost.XGBRegressor(), xgboost.Booster()):
        with pytest.raises(ModelError, match="was it trained") as caught:
            read_scoring_model(source)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_columns_of_a_data_frame(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ward, code = np.array(["north", "er", "b"]), np.array([3, 7, 1000])
    picked = rng.integers(0, 3, (300, 2))
    frame = pd.DataFrame(
        {
            "age": rng.normal(size=300),
            "ward": pd.Categorical.from_codes(picked[:, 0], ward),
            "code": pd.Categorical.from_codes(picked[:, 1], code),
            "visits": rng.integers(0, 9, 300),
            "smoker": rng.random(300) < 0.5,
        }
    )
    label = frame["age"] + 2.0 * (frame["ward"] == "er") + (frame["code"] == 7) + frame["smoker"]
    rows = xgboost.DMatrix(frame, label, enable_categorical=True, nthread=1)
    booster = xgboost.train({"max_depth": 5, "nthread": 1}, rows, 4)
    booster.save_model(tmp_path / f"model.{suffix}")
    model = read_scoring_model(tmp_path / f"model.{suffix}")
    assert model.features == (
        Feature("age", Kind.CONTINUOUS, (), True),
        Feature("ward", Kind.CATEGORICAL, ("north", "er", "b"), True),
        Feature("code", Kind.CATEGORICAL, ("3", "7", "1000"), True),
        Feature("visits", Kind.DISCRETE, (), True),
        Feature("smoker", Kind.FLAG, (), True),
    )
    values = np.column_stack([frame["age"], picked, frame["visits"], frame["smoker"]]).astype(np.float32)
    assert model.predict(values) == pytest.approx(booster.predict(rows), abs=1e-6)
    booster.feature_types = None
    nameless = read_scoring_model(booster)
    assert [feature.categorical for feature in nameless.features] == [False, True, True, False, False]
    assert np.array_equal(nameless.predict(values), model.predict(values))


def test_linear_models_and_vector_leaves_are_refused_by_name() -> None:
    values, label = numbers()
    linear = xgboost.train({"booster": "gblinear", "verbosity": 0}, xgboost.DMatrix(values, label), 1)
    vectors = xgboost.train(
        {"multi_strategy": "multi_output_tree", "nthread": 1},
        xgboost.DMatrix(values, np.column_stack([label, label])),
        2,
    )
    for booster, words in ((linear, "booster 'gblinear' is not supported"), (vectors, "multi_output_tree")):
        for raw_format in ("json", "ubj"):
            with pytest.raises(ModelError, match=words):
                read_scoring_model(booster.save_raw(raw_format))


def codes(frame: pd.DataFrame) -> Float32:
    return np.column_stack(
        [
            column.cat.codes.where(column.cat.codes >= 0, np.nan)
            if isinstance(column.dtype, pd.CategoricalDtype)
            else column.astype("float64")
            for _, column in frame.items()
        ]
    ).astype(np.float32)


def real_table(name: str, label: str) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """The first rows of a table, text as categories, and the label's classes."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} in ../shared/data")
    frame = pd.read_csv(path, nrows=3000)
    classes = pd.factorize(frame.pop(label).astype("string"), sort=True)[0]
    for column in frame.columns[[not pd.api.types.is_numeric_dtype(cells) for _, cells in frame.items()]]:
        frame[column] = frame[column].astype("string").astype(object).astype("category")
    return frame, np.minimum(classes, 2)


@pytest.mark.parametrize(
    "given", [{}, {"booster": "dart", "rate_drop": 0.3}, {"num_parallel_tree": 2, "subsample": 0.6}]
)
@pytest.mark.parametrize(
    ("name", "label", "objective"),
    [
        ("heart_uci_4_hospitals.csv", "num", "multi:softprob"),
        ("heart_uci_4_hospitals.csv", "num", "count:poisson"),
        ("ms_cis_mexico.csv", "group", "binary:logistic"),
        ("thyroid_uci.csv", "target", "multi:softmax"),
        ("credit_data.csv", "Status", "binary:hinge"),
        ("readmitted.csv.gz", "readmitted", "reg:squarederror"),
    ],
)
def test_real_tables(name: str, label: str, objective: str, given: dict[str, Any]) -> None:
    frame, classes = real_table(name, label)
    if objective.startswith("multi"):
        given = {"num_class": 3, **given}
    classes = np.minimum(classes, 1) if objective.startswith("binary") else classes
    rows = xgboost.DMatrix(frame, classes, enable_categorical=True)
    booster = xgboost.train({"objective": objective, "max_depth": 5, "nthread": 1, **given}, rows, 8)
    model = read_scoring_model(booster)
    values = codes(frame)
    margins = booster.predict(rows, output_margin=True).reshape(len(values), -1)
    ours = model.predict_margin(values)
    assert np.all(np.abs(ours - margins) <= 1e-6 * np.maximum(1, np.abs(margins)))
    clear = np.abs(ours[:, 0]) > 1e-6  # where hinge does not turn on rounding
    assert model.predict(values)[clear] == pytest.approx(booster.predict(rows)[clear], abs=1e-6, rel=3e-6)
    for feature, (_, cells) in zip(model.features, frame.items(), strict=True):
        expected = tuple(cells.cat.categories) if isinstance(cells.dtype, pd.CategoricalDtype) else ()
        assert feature.levels == expected
