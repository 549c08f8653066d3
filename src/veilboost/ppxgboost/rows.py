"""Rows that a user asks about, in whatever form, as float32: every cell by the same rules.

As XGBoost reads them: numbers are rounded to float32 once, categories are known by name, or by their number in training
where the model file has no names. An unknown category is none of those that the model knows, and goes left everywhere.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from veilboost.errors import DataError
from veilboost.tables.reading import read_columns
from veilboost.tables.schema import Feature
from veilboost.tables.table import FLAG_WORDS

Float32 = npt.NDArray[np.float32]

_UNKNOWN: Final = -1
_SHOWN: Final = 12  # categories in a warning
_WANTED: Final = "a query is a row (name: value), a list of rows, a pandas or polars frame, or a CSV or Parquet file"


def read_rows(values: object, features: Sequence[Feature]) -> Float32:
    """Rows to predict on, float32, shape (rows, features), NaN where missing; of a category its code, -1 if unknown.

    Parameters
    ----------
    values
        One row, as a mapping of names to numbers, texts, None or NaN; a sequence of such rows; or a table: a pandas or
        polars frame, or the path of a CSV or Parquet file. What the model does not use is ignored.

    Raises
    ------
    DataError
        A feature is not there, or a value is infinite or of the wrong type. The message does not hold the value.

    Warns
    -----
    UserWarning
        A category is none of those that the model knows by name.
    """
    found = _read(values, features)
    for feature, cells in zip(features, found.T, strict=True):
        unknown = int(np.count_nonzero(cells == _UNKNOWN)) if feature.categorical and feature.levels else 0
        if unknown:
            known = ", ".join(map(repr, feature.levels[:_SHOWN])) + (", ..." if len(feature.levels) > _SHOWN else "")
            warnings.warn(
                f"{feature.name!r} has categories in {unknown} of {len(found)} rows that the model does not know: "
                f"they go left at every split of it; it knows {known}",
                UserWarning,
                stacklevel=3,
            )
    return found


def _read(values: object, features: Sequence[Feature]) -> Float32:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(values, pandas.Series):
        values = values.to_dict()
    if isinstance(values, Mapping):
        return np.array([_row(values, features, "")], dtype=np.float32)
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        if not values or not all(isinstance(row, Mapping) for row in values):
            raise DataError(_WANTED)
        rows = [_row(row, features, f"row {number}: ") for number, row in enumerate(values, start=1)]
        return np.array(rows, dtype=np.float32)
    columns, count = _columns(values, features)
    if count == 0:
        raise DataError("the table has no rows: give at least one")
    found = np.empty((count, len(features)), dtype=np.float32)
    for at, (feature, cells) in enumerate(zip(features, columns, strict=True)):
        found[:, at] = [_number(cell, feature, f"row {row}: ") for row, cell in enumerate(cells, start=1)]
    return found


def _columns(table: object, features: Sequence[Feature]) -> tuple[list[list[Any]], int]:
    """Cells of the features' columns as Python's objects, and the number of rows."""
    names = [feature.name for feature in features]
    if isinstance(table, str | os.PathLike):
        where = " ".join(str(table).splitlines())
        if not names:
            raise DataError(f"{where}: the model uses no column, so all rows are alike: ask for one row, {{}}")
        table = read_columns(table, [name.strip() for name in names], where)  # a header's blanks do not count
        return [column.to_list() for column in table], table.height
    pandas = sys.modules.get("pandas")
    if not isinstance(table, pl.DataFrame) and (pandas is None or not isinstance(table, pandas.DataFrame)):
        raise DataError(_WANTED)
    present = [str(name) for name in table.columns]
    lacking = [name for name in names if present.count(name) != 1]
    if lacking:
        raise DataError(f"the model needs each of {', '.join(map(repr, lacking))} once among the columns of the table")
    if isinstance(table, pl.DataFrame):
        return [table[name].to_list() for name in names], table.height
    return [table.iloc[:, present.index(name)].tolist() for name in names], len(table)


def _row(row: Mapping[str, object], features: Sequence[Feature], where: str) -> list[np.float32]:
    lacking = [feature.name for feature in features if feature.name not in row]
    if lacking:
        raise DataError(f"{where}the model needs {', '.join(map(repr, lacking))}: give None for what is not known")
    return [_number(row[feature.name], feature, where) for feature in features]


def _number(value: Any, feature: Feature, where: str) -> np.float32:
    if _is_missing(value):
        return np.float32(np.nan)
    if not isinstance(value, str | bool | int | float | np.generic) or isinstance(value, np.void | np.bytes_):
        raise DataError(f"{where}{feature.name!r} must be a number or a text, or None where it is not known")
    if feature.categorical and feature.levels:
        return np.float32(_level(value, feature.levels))
    if isinstance(value, str):
        value = FLAG_WORDS.get(value.strip().lower(), value) if not feature.categorical else value
    try:
        if isinstance(value, str) and "_" in value:
            raise ValueError
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
    if isinstance(value, str):
        return not value.strip()
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas.NA; an array
        return type(value).__name__ == "NAType"


def _level(value: Any, levels: Sequence[str]) -> int:
    """The code of a category: by its text, without blanks around it, or as a whole number."""
    text = str(value)
    spellings = [text, text.strip()]
    try:
        number = float(text)
        spellings += [str(int(number))] if number.is_integer() else []
    except (ValueError, OverflowError):
        spellings += [text.lower()] if isinstance(value, bool | np.bool_) else []
    return next((levels.index(spelling) for spelling in spellings if spelling in levels), _UNKNOWN)
