"""Reads the object inside an XGBoost JSON model file; the reading half of `veilboost.trees.xgboost_json`.

A file may come from anywhere: every field is checked before it is used, and what an `Ensemble` cannot express is
refused by name instead of being mispredicted. `veilboost.trees.scoring_file` reads more kinds of models.
"""

import re
from typing import Any, Final, cast, get_args

import numpy as np

from veilboost.errors import ModelError
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.fields import get, list_of, not_supported, table, whole
from veilboost.trees.model_features import count_features, read_features
from veilboost.trees.model_trees import check_kinds, read_trees
from veilboost.trees.objective import BaseScore
from veilboost.trees.parameters import Objective

#: A damaged count must not exhaust the memory.
MOST_FILE_CLASSES: Final = 100_000


def parse_model(model: object) -> Ensemble:
    """Build an ensemble from the decoded JSON.

    Raises
    ------
    ModelError
        See `veilboost.trees.xgboost_json.load_model`.
    """
    learner = table(get(model, "learner"), "learner")
    objective = get(get(learner, "objective"), "name")
    if objective not in get_args(Objective):
        raise not_supported("objective", objective)
    booster = get(learner, "gradient_booster")
    if get(booster, "name") != "gbtree":
        raise not_supported("booster", get(booster, "name"))
    shape = get(learner, "learner_model_param")
    classes = whole(shape, "num_class")
    if objective == "multi:softprob" and not 2 <= classes <= MOST_FILE_CLASSES:
        raise ModelError(f"damaged: num_class of multi:softprob is not a whole number from 2 to {MOST_FILE_CLASSES}")
    if (objective != "multi:softprob" and classes > 1) or ("num_target" in shape and whole(shape, "num_target") > 1):
        raise ModelError("models with more than one output are not supported")
    outputs = classes if objective == "multi:softprob" else 1
    content = get(booster, "model")
    n_features = count_features(shape)
    features = read_features(learner, content.get("cats") if isinstance(content, dict) else None, n_features)
    trees = list_of(get(content, "trees"), "trees")
    if list_of(get(content, "tree_info"), "tree_info") != [number % outputs for number in range(len(trees))]:
        raise ModelError("models with several trees per round and class, or with other outputs, are not supported")
    if len(trees) % outputs:
        raise ModelError("damaged: the last round lacks trees")
    read = read_trees(trees, n_features)
    check_kinds(read, features)
    best_iteration, best_score = _best(learner)
    return Ensemble(
        features=features,
        objective=cast(Objective, objective),
        base_score=_base_score(get(shape, "base_score"), str(objective), outputs),
        trees=read,
        best_iteration=best_iteration,
        best_score=best_score,
    )


def _base_score(written: object, objective: str, outputs: int) -> BaseScore:
    """Either "5E-1" (before XGBoost 3.1), for all outputs, or "[5E-1]" with a number for each."""
    try:
        scores = [float(np.float32(part)) for part in str(written).strip("[]").split(",")]
    except ValueError:
        raise ModelError("damaged: base_score is not a number") from None
    low = -np.inf if objective in ("reg:squarederror", "multi:softprob") else 0
    high = 1 if objective == "binary:logistic" else np.inf
    if len(scores) not in (1, outputs) or not all(low < score < high for score in scores):
        raise ModelError("damaged: base_score is out of range")
    if objective == "multi:softprob":
        return tuple(scores * outputs if len(scores) == 1 else scores)
    return scores[0]


def _best(learner: dict[str, Any]) -> tuple[int | None, float | None]:
    """What early stopping left in the attributes; nothing if it is incomplete."""
    attributes = learner.get("attributes")
    if not isinstance(attributes, dict):
        return None, None
    iteration, score = str(attributes.get("best_iteration")), str(attributes.get("best_score"))
    if not re.fullmatch(r"[0-9]{1,9}", iteration) or not re.fullmatch(r"-?[0-9.]{1,30}(e-?[0-9]{1,3})?", score):
        return None, None
    try:
        return int(iteration), float(score)
    except ValueError:
        return None, None
