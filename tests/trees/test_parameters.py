import inspect

import numpy as np
import pytest
from pydantic import ValidationError

from veilboost.errors import JobError
from veilboost.trees.parameters import ALIASES, NOT_SUPPORTED, Parameters, canonical_name, least_weight, parameters_from


def test_defaults_are_those_of_xgboost() -> None:
    assert parameters_from({}).model_dump() == {
        "objective": "binary:logistic",
        "n_estimators": 100,
        "max_depth": 6,
        "num_class": None,
        "scale_pos_weight": 1.0,
        "early_stopping_rounds": None,
        "validation_fraction": None,
        "eval_metric": None,
        "learning_rate": 0.3,
        "max_bin": 256,
        "reg_lambda": 1.0,
        "reg_alpha": 0.0,
        "gamma": 0.0,
        "min_child_weight": 1.0,
        "max_delta_step": 0.0,
        "max_cat_to_onehot": 4,
        "monotone_constraints": {},
        "subsample": 1.0,
        "colsample_bytree": 1.0,
        "colsample_bylevel": 1.0,
        "colsample_bynode": 1.0,
        "seed": 0,
        "base_score": None,
        "min_rows_per_leaf": 0,
        "reveal_gain": False,
    }


def test_aliases_and_numpy_scalars_are_accepted() -> None:
    given = {"eta": 0.1, "lambda": np.float32(2), "alpha": 1, "min_split_loss": 0.5, "random_state": np.int64(7)}
    parameters = parameters_from(given)
    assert (parameters.learning_rate, parameters.reg_lambda, parameters.reg_alpha) == (0.1, 2.0, 1.0)
    assert (parameters.gamma, parameters.seed) == (0.5, 7)


def test_canonical_names() -> None:
    assert canonical_name("eta") == canonical_name("learning_rate") == "learning_rate"
    assert canonical_name("num_leaves") is None
    assert {canonical_name(alias) for alias in ALIASES} <= set(Parameters.model_fields)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_dept": 3}, ["max_dept", "did you mean max_depth"]),
        ({"qqqqq": 3}, ["qqqqq", "known are objective"]),
        ({"eta": 0.1, "learning_rate": 0.1}, ["learning_rate", "eta", "twice"]),
        ({"tree_method": "hist"}, ["tree_method", "not supported"]),
        ({"scale_pos_weight": 0.0}, ["scale_pos_weight", "0.0001 to 10000"]),
        ({"scale_pos_weight": 9e-5}, ["scale_pos_weight", "0.0001 to 10000"]),
        ({"scale_pos_weight": 10_001}, ["scale_pos_weight", "0.0001 to 10000"]),
        ({"objective": "reg:squarederror", "scale_pos_weight": 2.0}, ["scale_pos_weight", "has no meaning"]),
        ({"num_class": 3}, ["num_class", "has no meaning"]),
        ({"eval_metric": "logloss"}, ["eval_metric", "early_stopping_rounds"]),
        ({"early_stopping_rounds": 2, "eval_metric": "mlogloss"}, ["eval_metric", "does not fit"]),
        ({"num_boost_round": 2}, ["num_boost_round", "not supported"]),
        ({"objective": "multi:softmax"}, ["objective", "reg:squarederror"]),
        ({"objective": "multi:softprob"}, ["num_class", "missing"]),
        ({"n_estimators": 0}, ["n_estimators", "1 to 10000"]),
        ({"n_estimators": 10_001}, ["n_estimators", "1 to 10000"]),
        ({"max_depth": 11}, ["max_depth", "1 to 10"]),
        ({"max_depth": 3.0}, ["max_depth", "whole number"]),
        ({"max_depth": True}, ["max_depth", "whole number"]),
        ({"max_bin": 1}, ["max_bin", "2 to 1024"]),
        ({"eta": 0}, ["eta", "at least 0.0001"]),
        ({"learning_rate": 9.9e-5}, ["learning_rate", "at least 0.0001 and at most 1"]),
        ({"learning_rate": 1.01}, ["learning_rate", "at most 1"]),
        ({"learning_rate": True}, ["learning_rate", "at most 1"]),
        ({"lambda": -0.1}, ["lambda", "at least 0"]),
        ({"gamma": float("inf")}, ["gamma", "finite"]),
        ({"gamma": float("nan")}, ["gamma", "finite"]),
        ({"subsample": "0.5"}, ["subsample", "above 0"]),
        ({"colsample_bynode": 0}, ["colsample_bynode", "above 0"]),
        ({"seed": -1}, ["seed", "2^63"]),
        ({"seed": None}, ["seed", "2^63"]),
        ({"base_score": 1}, ["base_score", "between 0 and 1"]),
        ({"base_score": 1e-60}, ["base_score", "between 0 and 1"]),
        ({"objective": "reg:squarederror", "base_score": 1e300}, ["base_score", "finite"]),
        ({"monotone_constraints": {"age": 2}}, ["monotone_constraints", "-1, 0 or 1"]),
        ({"monotone_constraints": [1]}, ["monotone_constraints", "{ age = 1 }"]),
        ({"max_cat_to_onehot": 0}, ["max_cat_to_onehot", "at least 1"]),
        ({"reveal_gain": 1}, ["reveal_gain", "true or false"]),
        ({"min_rows_per_leaf": -1}, ["min_rows_per_leaf", "at least 0"]),
        ({"eta": "a\nb" * 1000}, ["eta"]),
    ],
)
def test_bad_parameters_are_refused_in_one_line(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(JobError) as caught:
        parameters_from(given)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    for word in words:
        assert word in message


def test_base_score_of_a_regression_may_be_any_number() -> None:
    assert parameters_from({"objective": "reg:squarederror", "base_score": -12.5}).base_score == -12.5


def test_parameters_are_frozen() -> None:
    parameters = Parameters(max_depth=3)
    with pytest.raises(ValidationError):
        parameters.max_depth = 4


def test_what_is_supported_is_not_called_unsupported() -> None:
    assert NOT_SUPPORTED.isdisjoint({*Parameters.model_fields, *ALIASES})


def test_every_parameter_of_xgboost_is_known_by_name() -> None:
    xgboost = pytest.importorskip("xgboost")
    names = set(inspect.signature(xgboost.XGBModel.__init__).parameters) - {"self", "kwargs"}
    assert {name for name in names if canonical_name(name) is None} <= NOT_SUPPORTED


def test_least_weight_beside_the_largest() -> None:
    assert least_weight(Parameters(), 1024.0) == 2.0**-10
    for ratio in (1e-3, 1e3):
        assert least_weight(Parameters(scale_pos_weight=ratio), 1024.0) == pytest.approx(1000 * 2.0**-10)
    Parameters(scale_pos_weight=1e-4)
    Parameters(scale_pos_weight=1e4)
