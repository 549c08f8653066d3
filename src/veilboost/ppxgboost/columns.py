"""What a user's values become before they are encrypted: columns of codes.

A numeric feature has up to two columns, one for nodes whose missing values go left and one for those whose go right, in
which a missing value has a code below or above all thresholds. A feature of categories has one; missing and unknown
categories have places of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import DataError
from veilboost.ppxgboost.order_codes import with_missing
from veilboost.tables.schema import Feature, Kind
from veilboost.tables.table import encode_frame
from veilboost.trees.kernels import CATEGORY_LIMIT

Float32 = npt.NDArray[np.float32]
Words32 = npt.NDArray[np.uint32]

_FLAG_WORDS: Final = {"true": 1.0, "t": 1.0, "yes": 1.0, "false": 0.0, "f": 0.0, "no": 0.0}


@dataclass(frozen=True)
class NumericColumn:
    """A feature, by its number, and where its missing values go.

    Attributes
    ----------
    feature
        Among the features of the model, or in a user's keys among theirs.
    missing_first, missing_last
        Codes that missing values get, at random: all below or all above the thresholds of this column.
    """

    feature: int
    missing_left: bool
    missing_first: int
    missing_last: int

    def codes(self, values: Float32) -> Words32:
        """uint32, of the shape of `values`."""
        return with_missing(values, self.missing_first, self.missing_last)


@dataclass(frozen=True)
class SetColumn:
    """A feature of categories, and how many of their codes the model tells apart."""

    feature: int
    categories: int

    @property
    def missing(self) -> int:
        return self.categories

    @property
    def unknown(self) -> int:
        return self.categories + 1

    @property
    def domain(self) -> int:
        """Number of places: the least power of two for all categories, missing and unknown."""
        return 1 << (self.categories + 1).bit_length()

    def codes(self, values: Float32) -> Words32:
        """uint32, of the shape of `values`; as XGBoost, a code with a fraction is cut, one below 0 is unknown."""
        absent = np.isnan(values)
        known = ~absent & (values >= 0) & (values < CATEGORY_LIMIT)
        codes = np.where(known, values, 0).astype(np.int64)
        codes = np.where(known & (codes < self.categories), codes, self.unknown)
        return np.where(absent, self.missing, codes).astype(np.uint32)


def read_values(values: object, features: Sequence[Feature]) -> Float32:
    """Rows to predict on, float32, shape (rows, features), NaN where missing.

    Parameters
    ----------
    values
        One row, as a mapping of names to numbers, texts, None or NaN; a sequence of such rows; or a table: a pandas or
        polars frame, or a path of a CSV or Parquet file. What the model does not use is ignored.

    Raises
    ------
    DataError
        A feature is not there, or a value is infinite or of the wrong type. The message does not hold the value.
    """
    if isinstance(values, Mapping):
        return np.array([_row(values, features, "")], dtype=np.float32)
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        if not values or not all(isinstance(row, Mapping) for row in values):
            raise DataError("a query is a row (name: value), a list of rows, a data frame or a file")
        rows = [_row(row, features, f"row {number}: ") for number, row in enumerate(values, start=1)]
        return np.array(rows, dtype=np.float32)
    return encode_frame(values, features, name_for_errors=None)


def _row(row: Mapping[str, object], features: Sequence[Feature], where: str) -> list[np.float32]:
    lacking = [feature.name for feature in features if feature.name not in row]
    if lacking:
        raise DataError(f"{where}the model needs {', '.join(map(repr, lacking))}: give None for what is not known")
    return [_number(row[feature.name], feature, where) for feature in features]


def _number(value: Any, feature: Feature, where: str) -> np.float32:
    if _is_missing(value):
        return np.float32(np.nan)
    if feature.categorical and feature.levels:
        return np.float32(_level(value, feature))
    if isinstance(value, str) and feature.kind is Kind.FLAG and value.strip().lower() in _FLAG_WORDS:
        return np.float32(_FLAG_WORDS[value.strip().lower()])
    try:
        # Whole numbers are rounded once, as XGBoost does: by way of float64 they would be rounded twice.
        whole = isinstance(value, int | np.integer) and -(2**63) <= value < 2**63
        with np.errstate(over="ignore"):
            number = np.int64(value).astype(np.float32) if whole else np.float32(float(value))
    except (TypeError, ValueError, OverflowError):
        if feature.categorical:
            raise DataError(
                f"{where}{feature.name!r} must be the number of the category in training, or None: the model file does "
                "not have the names, or has names beyond ASCII, which XGBoost cuts short"
            ) from None
        raise DataError(f"{where}{feature.name!r} must be a number, or None where it is not known") from None
    if np.isinf(number):
        raise DataError(f"{where}{feature.name!r} is infinite or too large for float32: give None if it is not known")
    return number


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA
        return True


def _level(value: Any, feature: Feature) -> int:
    """The code of a category; -1 if it is unknown, as to a model that has never seen it."""
    whole = isinstance(value, float) and value.is_integer()
    text = str(int(value) if whole else value)
    return feature.levels.index(text) if text in feature.levels else -1
