"""Encrypted predictions are XGBoost's: the same leaf of every tree for every row, and the same predictions.

Margins differ by rounding: XGBoost adds float32 numbers one after another, here the sum is exact. The bound is relative
to the larger of 1 and the margin, or for cancelling leaves the base score.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from tests.parity.test_scoring_xgboost import FOREST, OBJECTIVES, matrix, rows_at_thresholds, table, trained

from veilboost.ppxgboost import EncryptedModel, Proxy, UserKeys
from veilboost.trees.scoring_file import read_scoring_model

xgboost = pytest.importorskip("xgboost")

Float32 = npt.NDArray[np.float32]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BASE_SCORES = [0.1, -0.2, 0.3, 2.0]


def leaves_reached(model: EncryptedModel, query: bytes) -> npt.NDArray[np.int32]:
    """What the server sees of each row: a leaf of each tree, counted over all trees."""
    return model._leaves_reached(model.layout.read_query(query))


def assert_predicts_as(booster: Any, scheme: str, values: Float32, rows: Any, theirs: Any, **given: Any) -> None:
    """`rows` are `values` as a user gives them, `theirs` as XGBoost takes them."""
    plain = read_scoring_model(booster, **given)
    model, keys = Proxy(scheme=scheme, key_bits=2048).personalise(booster, **given)  # type: ignore[arg-type]
    model, keys = EncryptedModel.from_bytes(model.to_bytes()), _stored(keys)
    query = keys.encrypt_query(rows)
    if plain.trees:
        number = np.cumsum(np.concatenate([tree.leaf for tree in plain.trees])) - 1
        roots = np.cumsum([0, *(tree.n_nodes for tree in plain.trees)])[:-1]
        np.testing.assert_array_equal(
            leaves_reached(model, query)[:, : len(plain.trees)], number[plain.leaf_index(values) + roots]
        )
    result = model.evaluate(query)
    options = {"iteration_range": given["iteration_range"]} if "iteration_range" in given else {}
    expected = booster.predict(theirs, output_margin=True, **options)
    margins = keys.decrypt(result, output_margin=True)
    assert margins.shape == expected.shape and margins.dtype == expected.dtype
    size = np.maximum(1.0, np.abs(expected)) + np.abs(plain.base_margins).max()
    assert (np.abs(margins - expected) / size).max() < 1e-6
    predictions, wanted = keys.decrypt(result), booster.predict(theirs, **options)
    assert predictions.shape == wanted.shape and predictions.dtype == wanted.dtype
    certain = np.abs(expected) > 1e-5 if plain.objective == "binary:hinge" else np.full(wanted.shape, True)
    np.testing.assert_allclose(predictions[certain], wanted[certain], rtol=3e-5, atol=1e-6)


def _stored(keys: UserKeys) -> UserKeys:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("veilboost.ppxgboost.passphrase._COST", 1)  # scrypt at its least
        return UserKeys.from_bytes(keys.to_bytes("passphrase"), "passphrase")


def check(booster: Any, scheme: str, **given: Any) -> None:
    values = np.concatenate([table(60, seed=5), rows_at_thresholds(booster)])
    values = values[~np.isinf(values).any(axis=1)][:250]
    rows = [{f"f{number}": float(value) for number, value in enumerate(row)} for row in values]
    assert_predicts_as(booster, scheme, values, rows, matrix(values), **given)


@pytest.mark.parametrize(
    ("scheme", "objective", "given"),
    [
        ("ore", "binary:logistic", {}),
        ("ope", "reg:squarederror", {}),
        ("ope", "binary:hinge", {"base_score": 0.3}),
        ("ore", "count:poisson", {"booster": "dart", "rate_drop": 0.5}),
        ("ore", "multi:softprob", {"base_score": BASE_SCORES, **FOREST}),
        ("ope", "multi:softmax", {}),
        ("ore", "survival:aft", {}),
    ],
)
def test_kinds_of_models(scheme: str, objective: str, given: dict[str, Any]) -> None:
    check(trained(objective, **given), scheme)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "base_score"), [("ore", None), ("ope", 0.3)])
@pytest.mark.parametrize("objective", [*OBJECTIVES, "multi:softprob", "multi:softmax"])
def test_all_objectives(scheme: str, objective: str, base_score: float | None) -> None:
    check(trained(objective, **({} if base_score is None else {"base_score": base_score})), scheme)


@pytest.mark.slow
@pytest.mark.parametrize("normalize_type", ["tree", "forest"])
@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob", "reg:tweedie"])
def test_dart(objective: str, normalize_type: str) -> None:
    check(trained(objective, booster="dart", rate_drop=0.6, normalize_type=normalize_type), "ore")


def test_the_best_iteration_and_all() -> None:
    booster = trained("binary:logistic", rounds=6)
    booster.set_attr(best_iteration="3", best_score="0.5")
    check(booster, "ore", iteration_range=(0, 0))
    check(booster, "ore", iteration_range=(1, 3))
    to_best, _ = Proxy(key_bits=2048).personalise(booster)
    assert len(to_best.trees.roots) == 4


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob"])
def test_no_trees(objective: str) -> None:
    check(trained(objective, rounds=0), "ore")


@pytest.mark.parametrize(("name", "given"), [("gblinear", {"booster": "gblinear"}), ("vector", {})])
def test_what_is_refused_by_name(name: str, given: dict[str, Any]) -> None:
    from veilboost.errors import ModelError

    values = np.nan_to_num(table(50))[:, :3]
    label = np.column_stack([values[:, 0], -values[:, 0]]) if name == "vector" else values[:, 0]
    more = {"multi_strategy": "multi_output_tree", "tree_method": "hist"} if name == "vector" else given
    booster = xgboost.train({**more, "verbosity": 0}, xgboost.DMatrix(values, label), 2)
    with pytest.raises(ModelError, match="not supported"):
        Proxy().personalise(booster)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["ore", "ope"])
@pytest.mark.parametrize("name", ["heart_uci_4_hospitals.csv", "credit_data.csv", "thyroid_uci.csv"])
def test_real_data(name: str, scheme: str) -> None:
    """All rows of real tables: missing cells, text categories, 30 trees of depth 5."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name}, which is not part of the repository")
    frame = pd.read_csv(path, na_values=["NA"])
    label = {"heart": "num", "credit": "Status", "thyroid": "target"}[name.partition("_")[0]]
    positive = {"num": frame[label] != 0, "Status": frame[label] == "bad", "target": frame[label] != "-"}[label]
    frame = frame.drop(columns=[label, *({"id", "patient_id", "dataset"} & set(frame.columns))])
    texts = frame.select_dtypes(exclude="number").columns
    for column in texts:  # true and false too become texts
        frame[column] = frame[column].astype(str).where(frame[column].notna()).astype("category")
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 5},
        xgboost.DMatrix(frame, positive, enable_categorical=True),
        30,
    )
    frame = frame[:1500]
    codes = frame.copy()
    for column in texts:
        codes[column] = codes[column].cat.codes.replace(-1, np.nan)
    values = codes.to_numpy(dtype=np.float32)
    texts_given = frame.astype({column: object for column in texts})
    rows = [dict(row) for row in texts_given.to_dict("records")]
    assert_predicts_as(booster, scheme, values, rows, xgboost.DMatrix(frame, enable_categorical=True))
