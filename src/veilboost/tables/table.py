"""An owner's table, checked: every cell a float32, every error named by file, row and column.

Messages never hold the value of a cell; the owner finds it by its row, counted from 1 at the first row of data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt
import polars as pl

from veilboost.errors import DataError
from veilboost.tables.alignment import read_ids
from veilboost.tables.reading import Source, is_readable, read_columns
from veilboost.tables.schema import Feature, Kind

#: Texts that flags are written as, in lower case.
FLAG_WORDS: Final = {"true": 1.0, "t": 1.0, "yes": 1.0, "false": 0.0, "f": 0.0, "no": 0.0}
_FLAG_SPELLINGS: Final = "0/1, true/false, t/f or yes/no"
_UNKNOWN: Final = -1.0
_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
_WHOLE_NUMBER: Final = r"^(-?\d+)\.0+$"


@dataclass(frozen=True)
class LabelSpec:
    """What the label column must look like.

    Attributes
    ----------
    name
        Name of the column.
    objective
        "binary:logistic": labels are flags and both classes are there. "multi:softprob": labels are whole numbers from
        0 to num_class - 1. "count:poisson": labels are at least 0, and not all 0. Any other: labels are numbers.
    label_range
        Least and greatest label, both allowed; None when there are no bounds. Not used for classes.
    num_class
        Number of classes of "multi:softprob".
    whole
        Whether these are all labels of the job: only then must both classes be there, or a count above 0.
    """

    name: str
    objective: str
    label_range: tuple[float, float] | None = None
    num_class: int | None = None
    whole: bool = True


@dataclass(frozen=True)
class WeightSpec:
    """What the column of sample weights must look like.

    Attributes
    ----------
    name
        Name of the column.
    weight_range
        Least and greatest weight, both allowed.
    least
        The least weight above 0, which fixed point must tell from 0.
    """

    name: str
    weight_range: tuple[float, float]
    least: float = 0.0


@dataclass(frozen=True, repr=False, eq=False)
class Table:
    """The validated columns of one owner; made by `load_table`. Its `repr` shows the shape only.

    Attributes
    ----------
    rows
        Number of rows, at least 1.
    features
        The columns that the model may split on.
    label
        float64, shape (rows,): 0 or 1 for "binary:logistic", the class for "multi:softprob"; None when this owner does
        not hold the label.
    columns
        float32, shape (rows,), per feature name; use `values`.
    ids
        The id of every row, all different; empty where rows are not matched by id.
    weight
        float64, shape (rows,): sample weights; None when this owner does not hold them.
    """

    rows: int
    features: tuple[Feature, ...]
    label: npt.NDArray[np.float64] | None
    columns: dict[str, npt.NDArray[np.float32]]
    ids: tuple[str, ...] = ()
    weight: npt.NDArray[np.float64] | None = None

    def values(self, name: str) -> npt.NDArray[np.float32]:
        """float32, shape (rows,): numbers, 0/1 for flags, codes for categories; NaN where the cell is missing."""
        return self.columns[name]

    def at(self, rows: npt.NDArray[np.int64]) -> "Table":
        """These rows in this order, without their ids; for -1 a row of empty cells."""
        columns = {
            name: np.where(rows < 0, np.float32(np.nan), values[rows]) if len(rows) else values[:0]
            for name, values in self.columns.items()
        }
        label, weight = (None if values is None else values[rows] for values in (self.label, self.weight))
        return Table(len(rows), self.features, label, columns, weight=weight)

    def __repr__(self) -> str:
        label = "with" if self.label is not None else "without"
        return f"Table({self.rows} rows x {len(self.features)} features, {label} label)"


def load_table(
    source: Source,
    *,
    features: Sequence[Feature],
    label: LabelSpec | None = None,
    weight: WeightSpec | None = None,
    row_id: str | None = None,
    name_for_errors: str | None = None,
) -> Table:
    """Read and check the columns that a job names; all other columns are ignored.

    Parameters
    ----------
    source
        Path of a CSV (UTF-8, comma, header) or Parquet file, its bytes as `BytesIO`, a polars or a pandas frame.
    features
        Columns to split on. An empty or blank cell, NaN and null are missing.
    label
        The label column, when this owner holds it.
    weight
        The column of sample weights, when this owner holds it.
    row_id
        The column with the ids of the rows, when rows are matched by id.
    name_for_errors
        What messages call the source; by default the path, or "table".

    Raises
    ------
    DataError
        With file, row and column, and never the value of a cell: unreadable source; no rows; column missing or there
        twice; wrong type; unknown category; value infinite or not below the greatest float32; empty cell in a column
        without `missing`; label empty or outside the domain of the objective; weight empty, out of
        bounds or too small to count; id empty or there twice.
    """
    where = _name_of(source, name_for_errors)
    names = [feature.name for feature in features] + [spec.name for spec in (label, weight) if spec is not None]
    names += [row_id] if row_id is not None else []
    frame = _read(source, names, where)
    columns: dict[str, npt.NDArray[np.float32]] = {}
    for feature in features:
        column = _Column(where, feature.name, frame[feature.name])
        values = column.encode(feature)
        if feature.categorical:
            column.refuse(
                values == _UNKNOWN, "the category is not among the levels: add it to the job file or mend the cell"
            )
        if not feature.missing:
            column.refuse(
                np.isnan(values), 'the cell is empty: fill it, or declare the column with "missing = true" in the job'
            )
        columns[feature.name] = values
    labels = None if label is None else _Column(where, label.name, frame[label.name]).encode_label(label)
    ids = () if row_id is None else read_ids(frame[row_id], where)
    weights = None if weight is None else _Column(where, weight.name, frame[weight.name]).encode_weight(weight)
    return Table(frame.height, tuple(features), labels, columns, ids, weights)


def encode_frame(
    frame: Source, features: Sequence[Feature], *, name_for_errors: str | None = None
) -> npt.NDArray[np.float32]:
    """Columns of rows to predict on: any cell may be missing, and an unknown category is no error.

    Parameters
    ----------
    frame
        As `source` of `load_table`.

    Returns
    -------
    numpy.ndarray
        float32, shape (rows, features): as `Table.values`; -1 where a category is not among the levels.

    Raises
    ------
    DataError
        As `load_table`, except for unknown categories and empty cells.
    """
    where = _name_of(frame, name_for_errors)
    read = _read(frame, [feature.name for feature in features], where)
    encoded = np.empty((read.height, len(features)), dtype=np.float32)
    for at, feature in enumerate(features):
        encoded[:, at] = _Column(where, feature.name, read[feature.name]).encode(feature)
    return encoded


def _name_of(source: Source, name_for_errors: str | None) -> str:
    name = name_for_errors or (str(source) if isinstance(source, str | Path) else "table")
    return " ".join(name.splitlines())


def _read(source: Source, names: Sequence[str], where: str) -> pl.DataFrame:
    frame = read_columns(source, names, where)
    if frame.height == 0:
        raise DataError(f"{where}: the table has no rows: give at least one row below the header")
    return frame


@dataclass(frozen=True, repr=False)
class _Column:
    """One column on its way from cells to numbers."""

    where: str
    name: str
    cells: pl.Series

    def refuse(self, wrong: npt.NDArray[np.bool_], why: str) -> None:
        """Raise for the first row that is wrong."""
        if wrong.any():
            raise DataError(f"{self.where}: row {int(np.argmax(wrong)) + 1}, column '{self.name}': {why}")

    def encode(self, feature: Feature) -> npt.NDArray[np.float32]:
        """float32, shape (rows,): the column as `Table.values` gives it, but -1 for unknown categories."""
        if feature.categorical:
            return self._codes(feature.levels).astype(np.float32)
        if feature.kind is Kind.FLAG:
            return self._flags(f"is not a flag: write {_FLAG_SPELLINGS}").astype(np.float32)
        numbers = self._numbers()
        with np.errstate(over="ignore"):
            values = numbers.astype(np.float32)
        self.refuse(
            np.abs(values) >= np.float32(_FLOAT32_MAX),
            "the number is infinite or beyond the range of float32: mend it or leave the cell empty",
        )
        return values

    def encode_label(self, label: LabelSpec) -> npt.NDArray[np.float64]:
        """float64, shape (rows,): labels inside the domain of the objective."""
        empty = "the label is empty: fill it, or remove the row at every owner that has it"
        if label.objective == "binary:logistic":
            labels = self._flags(f"the label of {label.objective} is not a flag: write {_FLAG_SPELLINGS}")
            self.refuse(np.isnan(labels), empty)
            if label.whole and labels.min() == labels.max():
                raise DataError(
                    f"{self.where}: column '{self.name}': all labels are of one class: {label.objective} needs both"
                )
            return labels
        labels = self._numbers()
        self.refuse(np.isnan(labels), empty)
        if label.num_class is not None:
            outside = (labels < 0) | (labels >= label.num_class) | (labels != np.floor(labels))
            self.refuse(outside, f"the label is not a whole number from 0 to {label.num_class - 1}: recode it")
            return labels + 0.0  # -0.0 becomes 0.0
        self.refuse(np.isinf(labels), "the label is infinite: mend it or remove the row at every owner")
        if label.label_range is not None:
            low, high = label.label_range
            self.refuse(
                (labels < low) | (labels > high),
                "the label is outside label_range: mend it, or widen label_range in the job file",
            )
        if label.objective == "count:poisson":
            self.refuse(labels < 0, "the label is below 0, and count:poisson needs counts: mend it")
            if label.whole and not labels.any():
                raise DataError(f"{self.where}: column '{self.name}': all counts are 0: there is nothing to learn")
        return labels

    def encode_weight(self, weight: WeightSpec) -> npt.NDArray[np.float64]:
        """float64, shape (rows,): weights within their bounds."""
        weights = self._numbers()
        self.refuse(np.isnan(weights), "the weight is empty: fill it, or remove the row at every owner that has it")
        low, high = weight.weight_range
        self.refuse(
            (weights < low) | (weights > high),
            "the weight is outside weight_range: mend it, or widen weight_range in the job file",
        )
        self.refuse(
            (weights > 0) & (weights < weight.least),
            f"the weight is above 0 and below {weight.least:g}, too small beside the upper bound of weight_range: "
            "make it 0 or larger, or lower the bound in the job file",
        )
        return weights

    def _numbers(self) -> npt.NDArray[np.float64]:
        if self.cells.dtype == pl.Boolean:
            self._wrong_type('holds true and false, not numbers: declare it with kind = "flag"')
        numbers, wrong = self._parse()
        self.refuse(wrong, "is not a number: write it like 1234.5, and leave the cell empty where it is missing")
        return numbers

    def _flags(self, why: str) -> npt.NDArray[np.float64]:
        numbers, wrong = self._parse()
        if wrong.any():
            words = self._text().str.to_lowercase()
            meant = words.replace_strict(FLAG_WORDS, default=_UNKNOWN, return_dtype=pl.Float64).to_numpy()
            numbers = np.where(wrong, meant, numbers)
        self.refuse(~np.isnan(numbers) & (numbers != 0.0) & (numbers != 1.0), why)
        return numbers + 0.0  # -0.0 becomes 0.0

    def _codes(self, levels: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """float64, shape (rows,): index of the level, -1 where there is none, NaN where the cell is missing."""
        codes = {level: float(code) for code, level in enumerate(levels)}
        # Who wrote the table decides between 3 and 3.0, true and True; the exact spelling goes first.
        for code, level in enumerate(_one_spelling(pl.Series(levels, dtype=pl.String))):
            codes.setdefault(level, float(code))
        text = self._text()
        found = text.replace_strict(codes, default=_UNKNOWN, return_dtype=pl.Float64).to_numpy()
        if (found == _UNKNOWN).any():
            again = _one_spelling(text).replace_strict(codes, default=_UNKNOWN, return_dtype=pl.Float64).to_numpy()
            found = np.where(found == _UNKNOWN, again, found)
        not_a_number = text.str.to_lowercase().eq("nan").fill_null(value=False).to_numpy() & (found == _UNKNOWN)
        return np.where(text.is_null().to_numpy() | not_a_number, np.nan, found)

    def _parse(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """The cells as float64, NaN where missing; and which cells are neither numbers nor missing."""
        cells = self.cells
        if cells.dtype.is_numeric() or cells.dtype in (pl.Boolean, pl.Null):
            return _to_float64(cells), np.zeros(len(cells), dtype=np.bool_)
        text = cells if cells.dtype == pl.String else self._text()
        numbers = text.cast(pl.Float64, strict=False)
        if numbers.null_count() > text.null_count():
            text = self._text()  # blanks around numbers are rare, and dear to strip
            numbers = text.cast(pl.Float64, strict=False)
        wrong = (numbers.is_null() & text.is_not_null()).to_numpy()
        return _to_float64(numbers), wrong

    def _text(self) -> pl.Series:
        """The cells as text without white space around; null where missing."""
        cells = self.cells
        if cells.dtype.is_float():
            cells = cells.fill_nan(None)
        elif not is_readable(cells.dtype):
            self._wrong_type(f"holds {cells.dtype.base_type().__name__}, not text or numbers: convert the column")
        text = cells.cast(pl.String).str.strip_chars()
        return text.set(text == "", None)

    def _wrong_type(self, why: str) -> NoReturn:
        raise DataError(f"{self.where}: column '{self.name}' {why}")


def _one_spelling(text: pl.Series) -> pl.Series:
    """Whole numbers without ".0", truth values in lower case."""
    return text.str.replace(_WHOLE_NUMBER, "$1").replace({"True": "true", "False": "false"})


def _to_float64(numbers: pl.Series) -> npt.NDArray[np.float64]:
    return np.array(numbers.cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)
