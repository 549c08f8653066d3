"""Drafts of job files from local samples: what kind of column is each?

The draft tells whoever reads it the levels of categorical columns and which columns have empty cells: look it over
before it is shared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from veilboost.errors import DataError
from veilboost.jobs.entries import FEDERATED, SMPC
from veilboost.jobs.federated_spec import LEAST_AGGREGATORS
from veilboost.tables.reading import is_readable
from veilboost.tables.schema import Feature, Kind

_FLAG_WORDS = frozenset({"0", "1", "0.0", "1.0", "true", "false", "t", "f", "yes", "no"})
#: Numbers of which at least this part are different count as continuous.
_CONTINUOUS_PART = 0.9
#: Text columns with more levels than this are rather names or remarks than categories.
MOST_LEVELS = 256
#: Text columns with more levels than this are looked at: dates, or another text in nearly every row, are no categories.
_FEW_LEVELS = 16
#: Whole numbers of which so many are all different may number the rows.
_ROWS_TO_NUMBER = 20
_DAY, _MONTH, _YEAR = r"(0?[1-9]|[12]\d|3[01])", r"(0?[1-9]|1[0-2]|[A-Za-z]{3,9})", r"((19|20)\d\d|\d\d)"
_DATE = re.compile(
    "({3}[-./ ]{1}[-./ ]{0}|{0}[-./ ]{1}[-./ ]{2}|{1}[-/ ]{0}[-/ ]{2})([ T].*)?".format(
        _DAY, _MONTH, _YEAR, r"(19|20)\d\d"
    )
)
#: Of the levels of a column of dates at least this part are dates; the others say that there is none.
_DATES_PART = 0.9
_BY_HAND = "or say that it is categorical, with its levels (in the job file, or features=)"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
FIRST_PORT = 7100


def draft_feature(name: str, cells: pl.Series, where: str) -> Feature:
    """Guess kind, levels and `missing` of a column.

    Raises
    ------
    DataError
        When a text column holds dates, or too many different values to be categorical, or cells are neither numbers
        nor text.
    """
    _refuse_unreadable(name, cells, where)
    missing = cells.null_count() > 0
    if cells.dtype == pl.Boolean:
        return Feature(name, Kind.FLAG, (), missing)
    if cells.dtype.is_numeric():
        numbers = cells.cast(pl.Float64).fill_nan(None)
        missing = numbers.null_count() > 0
        present = numbers.drop_nulls()
        distinct = present.unique()
        if set(distinct) <= {0.0, 1.0}:
            return Feature(name, Kind.FLAG, (), missing)
        return Feature(name, _numeric_kind(len(distinct), len(present)), (), missing)
    levels: Sequence[str] | None = None
    if isinstance(cells.dtype, pl.Enum):
        levels = [level for level in cells.dtype.categories.to_list() if level.strip()]
    text = cells.cast(pl.String).str.strip_chars()
    text = text.set(text.is_in(["", "NaN", "nan"]).fill_null(False), None)
    missing = text.null_count() > 0
    distinct_text = text.drop_nulls().unique().to_list()
    if levels is None:
        if {word.lower() for word in distinct_text} <= _FLAG_WORDS:
            return Feature(name, Kind.FLAG, (), missing)
        if all(_NUMBER.fullmatch(word) for word in distinct_text):
            return Feature(name, _numeric_kind(len(distinct_text), len(text) - text.null_count()), (), missing)
        levels = sorted(distinct_text)
        _refuse_texts_of_rows(name, levels, len(text) - text.null_count(), where)
    if len(levels) > MOST_LEVELS:
        raise _too_many_levels(name, f"{len(levels)} different texts", where)
    return Feature(name, Kind.CATEGORICAL, tuple(levels), missing)


def may_number_rows(cells: pl.Series) -> bool:
    """Whether a column holds a different whole number in every row, as numbers of patients do."""
    if cells.dtype == pl.String:
        cells = cells.str.strip_chars().cast(pl.Int64, strict=False)
    elif cells.dtype.is_float():
        whole = cells.cast(pl.Int64, strict=False)
        cells = whole.set(whole != cells, None)
    elif not cells.dtype.is_integer():
        return False
    return len(cells) >= _ROWS_TO_NUMBER and cells.null_count() == 0 and cells.n_unique() == len(cells)


def fits_classification(name: str, cells: pl.Series, where: str) -> bool:
    """Whether a label column suits binary:logistic; if not, it holds numbers for regression.

    Raises
    ------
    DataError
        When it suits neither.
    """
    _refuse_unreadable(name, cells, where)
    present = cells.cast(pl.String).str.strip_chars().drop_nulls().unique().to_list()
    words = {word.lower() for word in present} - {"", "nan"}
    if words <= _FLAG_WORDS:
        return True
    if all(_NUMBER.fullmatch(word) for word in words):
        return False
    raise DataError(
        f"{where}: the label '{name}' holds cells that are neither numbers nor true/false, t/f or yes/no: "
        "write its two classes as 0 and 1"
    )


def _refuse_texts_of_rows(name: str, levels: Sequence[str], rows: int, where: str) -> None:
    """Texts that say when or who a row is must not become levels, which all participants read."""
    if len(levels) <= _FEW_LEVELS:
        return
    if sum(_DATE.fullmatch(level) is not None for level in levels) >= _DATES_PART * len(levels):
        raise DataError(
            f"{where}: column '{name}' holds dates: make it a number, such as days since a date, leave it out, "
            f"{_BY_HAND}"
        )
    if len(levels) > _CONTINUOUS_PART * rows:
        raise _too_many_levels(name, "another text in nearly every row", where)


def _too_many_levels(name: str, what: str, where: str) -> DataError:
    return DataError(
        f"{where}: column '{name}' has {what}: "
        f"name it as the id (--id, or id=) if it says which rows belong together, leave it out, {_BY_HAND}"
    )


def _refuse_unreadable(name: str, cells: pl.Series, where: str) -> None:
    if cells.dtype in (pl.Date, pl.Datetime):
        raise DataError(
            f"{where}: column '{name}' holds dates: make it a number, such as days since a date, or leave it out"
        )
    if not is_readable(cells.dtype):
        kind = cells.dtype.base_type().__name__
        raise DataError(
            f"{where}: column '{name}' holds {kind}, not text or numbers: convert the column or leave it out"
        )


def draft_features(
    frames: Mapping[str, pl.DataFrame], others: Collection[str], where: Mapping[str, str]
) -> dict[str, Feature]:
    """Draft every column but the others, by name; a column that several tables have from the cells of all of them.

    Parameters
    ----------
    where
        What messages call the table of each party.

    Raises
    ------
    DataError
        When `draft_feature` does, or a column is numbers in one table and texts in another.
    """
    cells: dict[str, list[tuple[str, pl.Series]]] = {}
    for party, frame in frames.items():
        for name in frame.columns:
            if name not in others:
                _refuse_unreadable(name, frame[name], where[party])
                cells.setdefault(name, []).append((party, frame[name]))
    drafted = {}
    for name, parts in cells.items():
        feature = draft_feature(name, pool_cells([part for _, part in parts]), " and ".join(where[p] for p, _ in parts))
        numbers = [party for party, part in parts if part.dtype.is_numeric()]
        texts = [party for party, part in parts if not (part.dtype.is_numeric() or part.dtype == pl.Null)]
        if feature.categorical and numbers and texts:
            raise DataError(
                f"{where[numbers[0]]}: column '{name}' holds numbers, and in {where[texts[0]]} texts: "
                "make it texts in all tables if it is a category, or numbers in all of them"
            )
        drafted[name] = feature
    return drafted


def pool_cells(parts: Sequence[pl.Series]) -> pl.Series:
    """Cells of one column from several tables, as text where their types differ."""
    types = {part.dtype for part in parts}
    if len(types) > 1:
        if all(one.is_numeric() or one == pl.Null for one in types):
            parts = [part.cast(pl.Float64) for part in parts]
        else:
            parts = [part.cast(pl.String) for part in parts]
    return pl.concat(parts)


def draft_job(
    name: str,
    tables: Mapping[str, Sequence[Feature]],
    data: Mapping[str, Any],
    holders: Mapping[str, Sequence[str]],
    analyst: str,
    parameters: Mapping[str, Any],
    ports: Sequence[int] | None = None,
    *,
    method: str = SMPC,
    federated: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of a job file for the given tables, on loopback; `jobs.spec.job_from_dict` checks it.

    A federated job gets two aggregators.

    Parameters
    ----------
    tables
        The features of every party.
    data
        The table [data]: label and more.
    holders
        By name the parties that hold each column that is not a feature: label and weight.
    ports
        Of the dealer, the parties and the aggregators; as many as `ports_needed` says.
    federated
        The table [federated].
    """
    ports = ports or range(FIRST_PORT, FIRST_PORT + ports_needed(len(tables), method))
    features = {feature.name: feature for columns in tables.values() for feature in columns}
    job: dict[str, Any] = {
        "job": {"name": name, "method": method, "analyst": analyst},
        "model": dict(parameters),
        "data": dict(data),
        "feature": [_entry(feature) for feature in features.values()],
        "party": [
            {
                "name": party,
                "address": f"127.0.0.1:{port}",
                "columns": [
                    *(feature.name for feature in columns),
                    *(column for column, parties in holders.items() if party in parties),
                ],
            }
            for (party, columns), port in zip(tables.items(), ports[1 : len(tables) + 1], strict=True)
        ],
        "dealer": {"address": f"127.0.0.1:{ports[0]}"},
    }
    if method == FEDERATED:
        job["aggregator"] = [
            {"name": f"aggregator{number}", "address": f"127.0.0.1:{port}"}
            for number, port in enumerate(ports[len(tables) + 1 :], start=1)
        ]
    return job | ({"federated": dict(federated)} if federated else {})


def ports_needed(parties: int, method: str) -> int:
    """How many roles of a drafted job listen."""
    return parties + 1 + (LEAST_AGGREGATORS if method == FEDERATED else 0)


def _numeric_kind(distinct: int, present: int) -> Kind:
    return Kind.CONTINUOUS if distinct > _CONTINUOUS_PART * present else Kind.DISCRETE


def _entry(feature: Feature) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": feature.name, "kind": str(feature.kind)}
    if feature.categorical:
        entry["levels"] = list(feature.levels)
    if feature.missing:
        entry["missing"] = True
    return entry
