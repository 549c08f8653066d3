"""Reads XGBoost models of any origin, .json or .ubj, into `ScoringModel`.

Read are the boosters gbtree and dart with the objectives of `veilboost.trees.links`, from XGBoost 1.0 on: any number
of classes, targets or quantiles, random forests, dart's tree weights, early stopping, splits by sets of categories.
Refused by name are gblinear, trees with vector leaves, other objectives, and XGBoost's binary format from before JSON.

An objective that was given as a Python function is in no file: XGBoost predicts by the objective's name that stands
there, reg:squarederror if none was given, and so do we.
"""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError
from veilboost.trees import ubjson
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.fields import get, list_of, not_supported, numbers, table, whole
from veilboost.trees.links import link_of, to_base_margins
from veilboost.trees.model_features import count_features, read_features
from veilboost.trees.model_trees import check_kinds, read_trees
from veilboost.trees.objective import to_margins
from veilboost.trees.rounds import Rounds, read_rounds
from veilboost.trees.scoring import ScoringModel
from veilboost.trees.xgboost_parse import MOST_FILE_CLASSES

#: First bytes of XGBoost's binary format, of which older files have none.
_BINARY_MAGIC: Final = (b"binf", b"bs64")

#: Before this version XGBoost took the base score of binary:logitraw for a probability, since then for a margin.
_LOGITRAW_OF_MARGIN: Final = (1, 6)


class SavesRaw(Protocol):
    """An xgboost.Booster."""

    def save_raw(self, raw_format: str) -> bytearray: ...


class HasBooster(Protocol):
    """A model of xgboost.sklearn."""

    def get_booster(self) -> SavesRaw: ...


Source = str | os.PathLike[str] | bytes | bytearray | SavesRaw | HasBooster | Ensemble


def read_scoring_model(source: Source, iteration_range: tuple[int, int] | None = None) -> ScoringModel:
    """Read a model for scoring.

    Parameters
    ----------
    source
        The path of a .json or .ubj file (told apart by their content), the bytes of one, an xgboost.Booster, a model of
        xgboost.sklearn such as XGBClassifier, an `Ensemble`, or an estimator of veilboost that has one.
    iteration_range
        Rounds [begin, end) to keep, as in XGBoost: an end of 0 is the last round. None: up to the best round when
        training stopped early, as XGBClassifier.predict does, else all; (0, 0): all, as Booster.predict does.

    Raises
    ------
    ModelError
        The model cannot be read, is damaged or is of a kind not supported, which is named; or it has no such rounds.
    """
    source = getattr(source, "ensemble_", source)
    if isinstance(source, Ensemble):
        return _of_ensemble(source, iteration_range)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            return parse_scoring_model(_decoded(path.read_bytes()), iteration_range)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
    raw = source if isinstance(source, bytes | bytearray) else _raw(source)
    return parse_scoring_model(_decoded(bytes(raw)), iteration_range)


def parse_scoring_model(model: object, iteration_range: tuple[int, int] | None = None) -> ScoringModel:
    """The model inside a decoded file; see `read_scoring_model`."""
    learner = table(get(model, "learner"), "learner")
    objective = get(get(learner, "objective"), "name")
    link = link_of(objective)
    if objective == "binary:logitraw" and _version(model) < _LOGITRAW_OF_MARGIN:
        raise ModelError("objective 'binary:logitraw' of XGBoost before 1.6, where it meant another, is not supported")
    content, tree_weights = _booster(get(learner, "gradient_booster"))
    shape = get(learner, "learner_model_param")
    classes, targets = whole(shape, "num_class"), whole(shape, "num_target") if "num_target" in shape else 1
    outputs = max(classes, targets, 1)
    of_classes = link in ("softprob", "softmax")
    if outputs > MOST_FILE_CLASSES or (classes > 1 and targets > 1) or (of_classes and not classes):
        raise ModelError("damaged: num_class and num_target do not belong together")
    n_features = count_features(shape)
    trees = read_trees(list_of(get(content, "trees"), "trees"), n_features, foreign=True)
    output_of = numbers(content, "tree_info", np.int32, len(trees))
    if np.any(output_of < 0) or np.any(output_of >= outputs):
        raise ModelError("damaged: tree_info")
    features = read_features(learner, content.get("cats"), n_features, _split_by_category(trees, n_features))
    check_kinds(trees, features)
    if tree_weights is not None:
        trees = _weighted(trees, tree_weights)
    scores = _base_scores(get(shape, "base_score"), outputs)
    # XGBoost: the base score of a model that was never trained awaits its estimate, and is no score yet but a margin.
    untrained = not trees and shape.get("boost_from_average", "1") != "0"
    base_margins = scores if untrained else to_base_margins(str(objective), scores)
    rounds = read_rounds(learner, content, len(trees), outputs)
    chosen = rounds.chosen(iteration_range)
    return ScoringModel(features, str(objective), trees[chosen], output_of[chosen], base_margins, rounds.best_iteration)


def _of_ensemble(ensemble: Ensemble, iteration_range: tuple[int, int] | None) -> ScoringModel:
    n_trees, outputs = len(ensemble.trees), ensemble.outputs
    chosen = Rounds(np.arange(0, n_trees + 1, outputs), ensemble.best_iteration).chosen(iteration_range)
    return ScoringModel(
        ensemble.features,
        ensemble.objective,
        ensemble.trees[chosen],
        (np.arange(n_trees, dtype=np.int32) % outputs)[chosen],
        to_margins(ensemble.objective, ensemble.base_score),
        ensemble.best_iteration,
    )


def _raw(source: SavesRaw | HasBooster) -> bytes:
    """The file that XGBoost would write; XGBoost itself is not needed to call it."""
    booster: Any = source
    try:
        if hasattr(booster, "get_booster"):
            booster = booster.get_booster()
        if not hasattr(booster, "save_raw"):
            raise ModelError(
                f"{type(source).__name__} is no model: give a path, the bytes of a file, a Booster or an XGBModel"
            )
        return bytes(booster.save_raw(raw_format="ubj"))
    except ModelError:
        raise
    except ValueError as error:  # XGBoostError and NotFittedError
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(f"XGBoost cannot save the model; was it trained? {reason}") from None


def _decoded(data: bytes) -> Any:
    if data.startswith(_BINARY_MAGIC):
        raise ModelError("XGBoost's binary format is not supported; save the model as .json with XGBoost 1.x or 2.x")
    if re.match(rb"\s*\{\s*[\"}]", data):
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise ModelError("damaged: not a JSON file") from None
    if data.startswith(b"{"):
        return ubjson.decode(data)
    raise ModelError("the model is neither JSON nor UBJSON; save it as .json or .ubj, as XGBoost's save_model does")


def _version(model: object) -> tuple[int, int]:
    version = numbers(model, "version", np.int32, 3)
    return int(version[0]), int(version[1])


def _booster(booster: object) -> tuple[dict[str, Any], npt.NDArray[np.float32] | None]:
    """The model of the trees, and with dart the weight of each tree."""
    name = get(booster, "name")
    if name == "gbtree":
        return table(get(booster, "model"), "model"), None
    if name != "dart":
        raise not_supported("booster", name)
    content = table(get(get(booster, "gbtree"), "model"), "model")
    n_trees = len(list_of(get(content, "trees"), "trees"))
    return content, numbers(booster, "weight_drop", np.float32, n_trees)


def _weighted(trees: tuple[Tree, ...], tree_weights: npt.NDArray[np.float32]) -> tuple[Tree, ...]:
    with np.errstate(over="ignore", invalid="ignore"):
        changed = tuple(
            replace(tree, weight=tree.weight * weight) for tree, weight in zip(trees, tree_weights, strict=True)
        )
    if not all(np.all(np.isfinite(tree.weight)) for tree in changed):
        raise ModelError("damaged: weight_drop")
    return changed


def _split_by_category(trees: tuple[Tree, ...], n_features: int) -> npt.NDArray[np.bool_]:
    found = np.zeros(n_features, dtype=np.bool_)
    for tree in trees:
        found[tree.feature[tree.categories.given]] = True
    return found


def _base_scores(written: object, outputs: int) -> npt.NDArray[np.float32]:
    """One number, as "5E-1" or "[5E-1]", for all outputs, or one for each: float32, shape (outputs,)."""
    parts = str(written).strip().removeprefix("[").removesuffix("]").split(",")
    try:
        if not all(re.fullmatch(r"\s*[-+]?[0-9.]{1,60}([eE][-+]?[0-9]{1,4})?\s*", part) for part in parts):
            raise ValueError
        with np.errstate(over="ignore"):
            scores = np.array([float(part) for part in parts]).astype(np.float32)
    except ValueError:
        raise ModelError("damaged: base_score is not a number") from None
    if len(scores) not in (1, outputs) or not np.all(np.isfinite(scores)):
        raise ModelError("damaged: base_score is out of range, or there are too few or too many")
    return np.repeat(scores, outputs) if len(scores) == 1 else scores
