"""The columns of a decoded model file: names, kinds, and the levels of categorical ones."""

import json
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.fields import get, list_of, not_supported, numbers, whole

#: Attribute of the learner that holds kinds and missing values of the columns.
FEATURES_ATTRIBUTE: Final = "veilboost_features"

#: A damaged count must not exhaust the memory.
MOST_FEATURES: Final = 1_000_000

_KINDS: Final = {
    "float": Kind.CONTINUOUS,
    "q": Kind.CONTINUOUS,
    "int": Kind.DISCRETE,
    "i": Kind.FLAG,
    "c": Kind.CATEGORICAL,
}


def count_features(shape: object) -> int:
    """num_feature of `learner_model_param`."""
    n_features = whole(shape, "num_feature")
    if n_features > MOST_FEATURES:
        raise ModelError(f"models of more than {MOST_FEATURES} features are not supported")
    return n_features


def read_features(
    learner: dict[str, Any], cats: object, n_features: int, by_category: npt.NDArray[np.bool_] | None = None
) -> tuple[Feature, ...]:
    """The columns of the model.

    Parameters
    ----------
    learner, cats
        The learner, and `cats` of its trees (XGBoost 3.1 and newer) or None.
    n_features
        As `count_features` gives it.
    by_category
        Shape (n_features,): which columns the trees split by categories, when the file may be from any XGBoost. Where
        such a file has no feature_types, these are the categorical columns; and levels are left out as unknown if one
        of them is beyond ASCII: of a pandas frame, XGBoost 3.1 and 3.2 keep too few bytes of these, and what is left
        may look like other names. Files with `FEATURES_ATTRIBUTE` have all bytes.
    """
    foreign = by_category is not None
    names = list_of(learner.get("feature_names", []), "feature_names") or [f"f{i}" for i in range(n_features)]
    types = list_of(learner.get("feature_types", []), "feature_types")
    if by_category is not None:
        types = types or ["c" if categorical else "float" for categorical in by_category]
    types = types or ["float"] * n_features
    if not len(names) == len(types) == n_features or not all(isinstance(name, str) for name in names):
        raise ModelError("damaged: feature_names, feature_types and num_feature do not belong together")
    if foreign and len(set(names)) < n_features:
        raise ModelError("damaged: two features have one name")
    for kind in types:
        if not isinstance(kind, str) or kind not in _KINDS:
            raise not_supported("feature type", kind)
    kinds = [_KINDS[kind] for kind in types]
    missing = [True] * n_features
    own = get(learner, "attributes").get(FEATURES_ATTRIBUTE) if isinstance(learner.get("attributes"), dict) else None
    if own is not None:
        kinds, missing = _own_kinds(own, kinds)
    encodings = list_of(get(cats, "enc"), "cats.enc") if cats is not None else []
    if encodings and len(encodings) != n_features:
        raise ModelError("damaged: cats.enc does not have one entry per feature")
    levels = [_levels(encoding, foreign and own is None) for encoding in encodings] or [()] * n_features
    return tuple(
        Feature(name, kind, texts if kind is Kind.CATEGORICAL else (), absent)
        for name, kind, texts, absent in zip(names, kinds, levels, missing, strict=True)
    )


def _own_kinds(own: Any, kinds: list[Kind]) -> tuple[list[Kind], list[bool]]:
    """Kinds and missing values as `FEATURES_ATTRIBUTE` has them, `kinds` being those of feature_types."""
    try:
        columns = json.loads(own)
        own_kinds = [Kind(column["kind"]) for column in columns]
        missing = [bool(column["missing"]) for column in columns]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ModelError(f"damaged: attribute {FEATURES_ATTRIBUTE}") from None
    if [kind is Kind.CATEGORICAL for kind in own_kinds] != [kind is Kind.CATEGORICAL for kind in kinds]:
        raise ModelError(f"damaged: attribute {FEATURES_ATTRIBUTE} contradicts feature_types")
    return own_kinds, missing


def _levels(encoding: object, only_ascii: bool) -> tuple[str, ...]:
    """Levels of one column in the order of their codes: byte strings behind one another, or numbers."""
    values = list_of(get(encoding, "values"), "cats.enc.values")
    if "offsets" not in cast(dict[str, Any], encoding):
        return tuple(str(value) for value in values)
    offsets = numbers(encoding, "offsets", np.int64, None)
    try:
        text = np.array(values, dtype=np.int8).tobytes()
        if len(offsets) and (offsets[0] != 0 or offsets[-1] != len(text) or np.any(np.diff(offsets) < 0)):
            raise ValueError
        levels = tuple(text[start:stop].decode() for start, stop in pairwise(offsets))
    except UnicodeDecodeError:
        if only_ascii:
            return ()
        raise ModelError("damaged: cats.enc") from None
    except (ValueError, TypeError, OverflowError):
        raise ModelError("damaged: cats.enc") from None
    return () if only_ascii and not all(level.isascii() for level in levels) else levels
