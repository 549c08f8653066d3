"""Reads the object inside an XGBoost JSON model file; the reading half of `veilboost.trees.xgboost_json`.

A file may come from anywhere: every field is checked before it is used, and what an `Ensemble` cannot express is
refused by name instead of being mispredicted.
"""

import json
import re
from itertools import pairwise
from typing import Any, Final, cast, get_args

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.kernels import CATEGORY_LIMIT
from veilboost.trees.objective import BaseScore
from veilboost.trees.parameters import Objective

#: Attribute of the learner that holds kinds and missing values of the columns.
FEATURES_ATTRIBUTE: Final = "veilboost_features"

#: XGBoost's mark for "no parent", in the root.
NO_PARENT: Final = 2**31 - 1

#: A damaged count must not exhaust the memory.
MOST_FEATURES: Final = 1_000_000
MOST_FILE_CLASSES: Final = 100_000

_KINDS: Final = {
    "float": Kind.CONTINUOUS,
    "q": Kind.CONTINUOUS,
    "int": Kind.DISCRETE,
    "i": Kind.FLAG,
    "c": Kind.CATEGORICAL,
}


def parse_model(model: object) -> Ensemble:
    """Build an ensemble from the decoded JSON.

    Raises
    ------
    ModelError
        See `veilboost.trees.xgboost_json.load_model`.
    """
    learner = _table(_get(model, "learner"), "learner")
    objective = _get(_get(learner, "objective"), "name")
    if objective not in get_args(Objective):
        raise _not_supported("objective", objective)
    booster = _get(learner, "gradient_booster")
    if _get(booster, "name") != "gbtree":
        raise _not_supported("booster", _get(booster, "name"))
    shape = _get(learner, "learner_model_param")
    classes = _whole(shape, "num_class")
    if objective == "multi:softprob" and not 2 <= classes <= MOST_FILE_CLASSES:
        raise ModelError(f"damaged: num_class of multi:softprob is not a whole number from 2 to {MOST_FILE_CLASSES}")
    if (objective != "multi:softprob" and classes > 1) or ("num_target" in shape and _whole(shape, "num_target") > 1):
        raise ModelError("models with more than one output are not supported")
    outputs = classes if objective == "multi:softprob" else 1
    content = _get(booster, "model")
    n_features = _whole(shape, "num_feature")
    if n_features > MOST_FEATURES:
        raise ModelError(f"models of more than {MOST_FEATURES} features are not supported")
    features = _features(learner, content.get("cats") if isinstance(content, dict) else None, n_features)
    trees = _list(_get(content, "trees"), "trees")
    if _list(_get(content, "tree_info"), "tree_info") != [number % outputs for number in range(len(trees))]:
        raise ModelError("models with several trees per round and class, or with other outputs, are not supported")
    if len(trees) % outputs:
        raise ModelError("damaged: the last round lacks trees")
    best_iteration, best_score = _best(learner)
    return Ensemble(
        features=features,
        objective=cast(Objective, objective),
        base_score=_base_score(_get(shape, "base_score"), str(objective), outputs),
        trees=tuple(_tree(tree, number, features) for number, tree in enumerate(trees)),
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


def _features(learner: dict[str, Any], cats: object, n_features: int) -> tuple[Feature, ...]:
    names = _list(learner.get("feature_names", []), "feature_names") or [f"f{i}" for i in range(n_features)]
    types = _list(learner.get("feature_types", []), "feature_types") or ["float"] * n_features
    if not len(names) == len(types) == n_features or not all(isinstance(name, str) for name in names):
        raise ModelError("damaged: feature_names, feature_types and num_feature do not belong together")
    for kind in types:
        if not isinstance(kind, str) or kind not in _KINDS:
            raise _not_supported("feature type", kind)
    kinds = [_KINDS[kind] for kind in types]
    missing = [True] * n_features
    own = _get(learner, "attributes").get(FEATURES_ATTRIBUTE) if isinstance(learner.get("attributes"), dict) else None
    if own is not None:
        try:
            columns = json.loads(own)
            own_kinds = [Kind(column["kind"]) for column in columns]
            missing = [bool(column["missing"]) for column in columns]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ModelError(f"damaged: attribute {FEATURES_ATTRIBUTE}") from None
        if [kind is Kind.CATEGORICAL for kind in own_kinds] != [kind is Kind.CATEGORICAL for kind in kinds]:
            raise ModelError(f"damaged: attribute {FEATURES_ATTRIBUTE} contradicts feature_types")
        kinds = own_kinds
    encodings = _list(_get(cats, "enc"), "cats.enc") if cats is not None else []
    if encodings and len(encodings) != n_features:
        raise ModelError("damaged: cats.enc does not have one entry per feature")
    levels = [_levels(encoding) for encoding in encodings] or [()] * n_features
    return tuple(
        Feature(name, kind, texts if kind is Kind.CATEGORICAL else (), absent)
        for name, kind, texts, absent in zip(names, kinds, levels, missing, strict=True)
    )


def _levels(encoding: object) -> tuple[str, ...]:
    """Levels of one column in the order of their codes: byte strings behind one another, or numbers."""
    values = _list(_get(encoding, "values"), "cats.enc.values")
    if "offsets" not in cast(dict[str, Any], encoding):
        return tuple(str(value) for value in values)
    offsets = _numbers(encoding, "offsets", np.int64, None)
    try:
        text = np.array(values, dtype=np.int8).tobytes()
        if len(offsets) and (offsets[0] != 0 or offsets[-1] != len(text) or np.any(np.diff(offsets) < 0)):
            raise ValueError
        return tuple(text[start:stop].decode() for start, stop in pairwise(offsets))
    except (ValueError, TypeError, OverflowError):
        raise ModelError("damaged: cats.enc") from None


def _tree(tree: object, number: int, features: tuple[Feature, ...]) -> Tree:
    try:
        return _checked_tree(tree, features)
    except ModelError as error:
        raise ModelError(f"tree {number}: {error}") from None


def _checked_tree(tree: object, features: tuple[Feature, ...]) -> Tree:
    if isinstance(tree, dict) and _get(tree, "tree_param").get("size_leaf_vector", "1") not in ("0", "1"):
        raise ModelError("models with more than one output are not supported")
    left = _numbers(tree, "left_children", np.int32, None)
    nodes = len(left)
    right = _numbers(tree, "right_children", np.int32, nodes)
    feature = _numbers(tree, "split_indices", np.int32, nodes)
    condition = _numbers(tree, "split_conditions", np.float32, nodes)
    default_left = _numbers(tree, "default_left", np.int32, nodes) != 0
    gain = _numbers(tree, "loss_changes", np.float32, nodes)
    cover = _numbers(tree, "sum_hessian", np.float32, nodes)
    order = _breadth_first(left, right)
    leaf = left < 0
    inner = order[~leaf[order]]
    sets = _category_sets(tree, nodes, inner)
    by_set = sets.given
    categorical = np.array([column.categorical for column in features] or [False])
    if np.any(feature[inner] < 0) or np.any(feature[inner] >= len(features)):
        raise ModelError("damaged: split_indices out of range")
    if np.any(by_set[inner] != categorical[feature[inner]]):
        raise ModelError("damaged: a split does not fit its column's feature_types")
    # XGBoost 2 writes NaN where there is no threshold.
    if np.any(~np.isfinite(condition[order]) & (leaf | ~by_set)[order]):
        raise ModelError("damaged: split_conditions")
    if not np.all(np.isfinite(gain[order]) & np.isfinite(cover[order])):
        raise ModelError("damaged: loss_changes or sum_hessian")
    renumbered = np.full(nodes + 1, -1, dtype=np.int32)  # the last entry is for the children -1 of leaves
    renumbered[order] = np.arange(len(order))
    numeric = ~leaf & ~by_set
    return Tree(
        left=renumbered[left[order]],
        right=renumbered[right[order]],
        feature=np.where(leaf, 0, feature)[order].astype(np.int32),
        threshold=np.where(numeric, condition, np.float32(0))[order],
        categories=CategorySets.of([() if leaf[node] else sets[node] for node in order]),
        default_left=(default_left & ~leaf)[order],
        weight=np.where(leaf, condition, np.float32(0))[order],
        gain=gain[order],
        cover=cover[order],
    )


def _breadth_first(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Nodes reachable from the root, in breadth-first order; XGBoost leaves pruned nodes in the file."""
    nodes = len(left)
    order = [0] if nodes else []
    seen = {0}
    for node in order:  # grows while it is walked
        children = (int(left[node]), int(right[node]))
        if children == (-1, -1):
            continue
        if any(not 0 < child < nodes or child in seen for child in children) or children[0] == children[1]:
            raise ModelError("damaged: left_children and right_children do not form a tree")
        seen.update(children)
        order += children
    if not order:
        raise ModelError("damaged: no nodes")
    return np.array(order)


def _category_sets(tree: object, nodes: int, inner: npt.NDArray[np.int64]) -> CategorySets:
    """The categories that go right at each categorical split."""
    if not isinstance(tree, dict) or "split_type" not in tree:  # before XGBoost 1.3
        return CategorySets.of([()] * nodes)
    split_type = _numbers(tree, "split_type", np.int32, nodes)
    at = _numbers(tree, "categories_nodes", np.int32, None)
    categories = _numbers(tree, "categories", np.int32, None)
    starts = _numbers(tree, "categories_segments", np.int64, len(at))
    sizes = _numbers(tree, "categories_sizes", np.int64, len(at))
    if np.any(at < 0) or np.any(at >= nodes) or len(np.unique(at)) != len(at):
        raise ModelError("damaged: categories_nodes")
    if np.any(sizes < 1) or np.any(starts < 0) or np.any(starts + sizes > len(categories)):
        raise ModelError("damaged: categories_segments")
    if np.any(categories < 0) or np.any(categories >= CATEGORY_LIMIT) or sizes.sum() > len(categories):
        raise ModelError("damaged: categories")
    sets: list[npt.NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)] * nodes
    for node, start, size in zip(at, starts, sizes, strict=True):
        sets[node] = categories[start : start + size]
    found = CategorySets.of(sets)
    if np.any((split_type[inner] == 1) != found.given[inner]):
        raise ModelError("damaged: split_type contradicts categories_nodes")
    return found


def _numbers(holder: object, key: str, dtype: type[np.number[Any]], length: int | None) -> npt.NDArray[Any]:
    """A list of numbers as an array; integers must be integers and fit."""
    values = _list(_get(holder, key), key)
    try:
        given = np.array(values, dtype=np.float64)
        with np.errstate(over="ignore"):
            array = given.astype(dtype) if np.issubdtype(dtype, np.floating) else np.array(values).astype(np.int64)
        if given.ndim != 1 or (length is not None and len(given) != length):
            raise ValueError
        if np.issubdtype(dtype, np.integer):
            bounds = np.iinfo(np.dtype(dtype))
            if np.any(given != array) or np.any(given < bounds.min) or np.any(given > bounds.max):
                raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise ModelError(f"damaged: {key}") from None
    return array.astype(dtype)


def _get(holder: object, key: str) -> Any:
    if not isinstance(holder, dict) or key not in holder:
        raise ModelError(f"damaged, or not an XGBoost model: there is no {key}")
    return holder[key]


def _table(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"damaged: {name} is not an object")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f"damaged: {name} is not a list")
    return value


def _whole(holder: object, key: str) -> int:
    """A count, which XGBoost writes as a string."""
    text = _get(holder, key)
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,9}", text):
        raise ModelError(f"damaged: {key} is not a whole number")
    return int(text)


def _not_supported(what: str, name: object) -> ModelError:
    return ModelError(f"{what} {str(name)[:40]!r} is not supported")
