"""Model files in XGBoost's JSON format.

Files written here load in XGBoost 2.1 and newer, and predict there what `Ensemble.predict` predicts. Format:
https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html and, for `cats` (3.1 and newer), XGBoost's
src/data/cat_container.cc.

XGBoost writes no `Kind`, so these files keep kinds and missing values of the columns in the attribute
`veilboost_features`, which XGBoost carries along.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError
from veilboost.tables.schema import Feature
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.model_features import FEATURES_ATTRIBUTE
from veilboost.trees.objective import BaseScore
from veilboost.trees.parameters import POISSON_DELTA_STEP
from veilboost.trees.xgboost_parse import parse_model

#: The version of the format that files written here have.
FORMAT_VERSION: Final = (3, 1, 0)

#: XGBoost's mark for "no parent", in the root.
NO_PARENT: Final = 2**31 - 1


def save_model(ensemble: Ensemble, path: str | os.PathLike[str]) -> None:
    """Write a complete XGBoost JSON model to `path`, all of it or nothing."""
    path = Path(path)
    text = json.dumps(to_json_dict(ensemble), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def load_model(path: str | os.PathLike[str]) -> Ensemble:
    """Read a model written by `save_model`, or an XGBoost JSON model of the kinds that an `Ensemble` can express.

    These are: booster gbtree, one tree per round and class, the objectives of `veilboost.trees.objective`, numeric
    splits and splits by sets of categories.

    Raises
    ------
    ModelError
        The file cannot be read, is damaged, or holds a model of another kind, which is named.
    """
    path = Path(path)
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: is not a JSON file; save the model as .json, as XGBoost's save_model does") from None
    try:
        return parse_model(model)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def to_json_dict(ensemble: Ensemble) -> dict[str, Any]:
    """The model as the object that the file holds."""
    features = ensemble.features
    n_trees, outputs = len(ensemble.trees), ensemble.outputs
    kinds = [{"kind": feature.kind.value, "missing": feature.missing} for feature in features]
    return {
        "learner": {
            "attributes": {FEATURES_ATTRIBUTE: json.dumps(kinds), **_best(ensemble)},
            "feature_names": [feature.name for feature in features],
            "feature_types": ["c" if feature.categorical else "float" for feature in features],
            "gradient_booster": {
                "model": {
                    "cats": _categories(features),
                    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(n_trees)},
                    "iteration_indptr": list(range(0, n_trees + 1, outputs)),
                    "tree_info": [number % outputs for number in range(n_trees)],
                    "trees": [_tree_dict(number, tree, len(features)) for number, tree in enumerate(ensemble.trees)],
                },
                "name": "gbtree",
            },
            "learner_model_param": {
                "base_score": _base_score(ensemble.base_score),
                "boost_from_average": "0",  # no estimate may replace the base score
                "num_class": str(outputs) if outputs > 1 else "0",
                "num_feature": str(len(features)),
                "num_target": "1",
            },
            "objective": {"name": ensemble.objective, **_objective_parameters(ensemble)},
        },
        "version": list(FORMAT_VERSION),
    }


def _base_score(base_score: BaseScore) -> str:
    """One number as a scalar, not a list: so XGBoost 2.1 reads it too. It knows no model with one for each class."""
    if isinstance(base_score, tuple):
        return f"[{','.join(str(np.float32(score)) for score in base_score)}]"
    return str(np.float32(base_score))


def _best(ensemble: Ensemble) -> dict[str, str]:
    """XGBoost's attributes of a model cut by early stopping."""
    if ensemble.best_iteration is None or ensemble.best_score is None:
        return {}
    return {"best_iteration": str(ensemble.best_iteration), "best_score": repr(ensemble.best_score)}


def _objective_parameters(ensemble: Ensemble) -> dict[str, Any]:
    """What XGBoost needs to set an objective up; predictions depend on the number of classes alone."""
    if ensemble.objective == "multi:softprob":
        return {"softmax_multiclass_param": {"num_class": str(ensemble.outputs)}}
    if ensemble.objective == "count:poisson":
        return {"poisson_regression_param": {"max_delta_step": str(POISSON_DELTA_STEP)}}
    return {"reg_loss_param": {"scale_pos_weight": "1"}}


def _categories(features: Sequence[Feature]) -> dict[str, Any]:
    """The levels of categorical columns, by which XGBoost matches the categories of a data frame.

    `sorted_idx` sorts each column's levels as strings of signed bytes of UTF-8, as XGBoost's binary search compares
    them; a wrong order makes it miss levels. (XGBoost 3.2 itself miscounts the bytes of a pandas frame's categories
    beyond ASCII, so a file cannot match those; arrow and polars frames match.)
    """
    encodings: list[dict[str, list[int]]] = []
    segments = [0]
    sorted_index: list[int] = []
    for feature in features:
        names = feature.levels if feature.categorical else ()
        levels = [np.frombuffer(name.encode(), dtype=np.int8).tolist() for name in names]
        offsets = np.cumsum([0, *map(len, levels)]).tolist() if levels else []
        encodings.append({"offsets": offsets, "values": [byte for level in levels for byte in level]})
        segments.append(segments[-1] + len(levels))
        sorted_index += sorted(range(len(levels)), key=levels.__getitem__)
    return {"enc": encodings, "feature_segments": segments, "sorted_idx": sorted_index}


def _tree_dict(number: int, tree: Tree, n_features: int) -> dict[str, Any]:
    nodes = tree.n_nodes
    leaf = tree.leaf
    parents = np.full(nodes, NO_PARENT, dtype=np.int64)
    inner = np.flatnonzero(~leaf)
    parents[tree.left[inner]] = inner
    parents[tree.right[inner]] = inner
    sets = tree.categories
    categorical = np.flatnonzero(sets.given)
    return {
        "base_weights": _decimals(tree.weight),
        "categories": sets.codes.tolist(),
        "categories_nodes": categorical.tolist(),
        "categories_segments": sets.starts[categorical].tolist(),
        "categories_sizes": np.diff(sets.starts)[categorical].tolist(),
        "default_left": tree.default_left.astype(int).tolist(),
        "id": number,
        "left_children": tree.left.tolist(),
        "loss_changes": _decimals(tree.gain),
        "parents": parents.tolist(),
        "right_children": tree.right.tolist(),
        "split_conditions": _decimals(np.where(leaf, tree.weight, tree.threshold)),
        "split_indices": tree.feature.tolist(),
        "split_type": sets.given.astype(int).tolist(),
        "sum_hessian": _decimals(tree.cover),
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(n_features),
            "num_nodes": str(nodes),
            "size_leaf_vector": "1",
        },
    }


def _decimals(values: npt.NDArray[np.float32]) -> list[float]:
    """Each float32 as the number with the fewest digits that rounds to it."""
    return [float(str(value)) for value in values.astype(np.float32)]
