"""Named columns out of whatever an owner has: CSV, Parquet, a pandas or a polars frame.

CSV cells stay text here; `veilboost.tables.table` gives them a meaning. Only the named columns are kept.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from veilboost.errors import DataError
from veilboost.tables.csv_text import POLARS_ERRORS, csv_header, read_csv
from veilboost.tables.header import find_columns

#: A path, the bytes of a CSV or Parquet file, or a polars or pandas frame (pandas is never imported here).
Source = Any

_PARQUET_MAGIC: Final = b"PAR1"


def read_columns(source: Source, names: Sequence[str], where: str) -> pl.DataFrame:
    """Read the columns `names`, in that order.

    Parameters
    ----------
    source
        See `Source`.
    names
        Different column names; white space around the names in a header is ignored.
    where
        What error messages call the source, such as the name of the file.

    Returns
    -------
    polars.DataFrame
        One column per name. From CSV all columns are text and a missing cell is null or blank text; otherwise columns
        keep their types.

    Raises
    ------
    DataError
        The source cannot be read, one of these columns is not UTF-8 in a CSV file, or is missing or there twice.
    """
    if isinstance(source, pl.DataFrame):
        positions = find_columns(source.columns, names, where)
        return pl.DataFrame({name: source[:, at] for name, at in zip(names, positions, strict=True)})
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        positions = find_columns([str(column) for column in source.columns], names, where)
        return pl.DataFrame(
            [_from_pandas(name, source.iloc[:, at], where) for name, at in zip(names, positions, strict=True)]
        )
    with _stored(source, where) as stored:
        return (_read_parquet if _is_parquet(stored, where) else read_csv)(stored, names, where)


def column_names(source: Source, where: str) -> list[str]:
    """Names of all columns of a source, without the white space around them; raises DataError as `read_columns`."""
    pandas = sys.modules.get("pandas")
    if isinstance(source, pl.DataFrame) or (pandas is not None and isinstance(source, pandas.DataFrame)):
        header = [str(column) for column in source.columns]
    else:
        with _stored(source, where) as stored:
            header = (_parquet_header if _is_parquet(stored, where) else csv_header)(stored, where)
    return [name.strip() for name in header]


def check_columns(source: Source, names: Sequence[str], where: str) -> None:
    """A first look, at the header alone; raises DataError as `read_columns` would for these names."""
    find_columns(column_names(source, where), names, where)


def is_readable(dtype: pl.DataType) -> bool:
    """Whether cells of this type are numbers or can be read as text."""
    return not dtype.is_nested() and dtype not in (pl.Binary, pl.Object, pl.Duration)


@contextmanager
def _stored(source: Source, where: str) -> Iterator[Path | bytes]:
    """A file that is there and not empty, or the bytes of one; what goes wrong with it is told as a DataError."""
    empty = DataError(f"{where}: the file is empty: give a table with a header and at least one row")
    if isinstance(source, BytesIO):
        data = source.getvalue()
        if not data:
            raise empty
        yield data
        return
    if not isinstance(source, str | Path):
        raise DataError(f"{where}: cannot read a {type(source).__name__}: give a CSV or Parquet file, or a data frame")
    path = Path(source)
    try:
        if path.is_dir():
            raise DataError(f"{where}: is a directory: give a CSV or Parquet file")
        if not path.exists():
            raise DataError(f"{where}: there is no such file: check the path")
        if not path.is_file():
            raise DataError(f"{where}: is not a regular file: give a CSV or Parquet file")
        if path.stat().st_size == 0:
            raise empty
        yield path
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise DataError(f"{where}: cannot be read ({reason}): check the path and its permissions") from None


def _is_parquet(stored: Path | bytes, where: str) -> bool:
    if isinstance(stored, bytes):
        start = stored[:4096]
    else:
        with stored.open("rb") as file:
            start = file.read(4096)
    if start.startswith(_PARQUET_MAGIC):
        return True
    if b"\0" in start:
        raise DataError(f"{where}: is neither CSV in UTF-8 nor Parquet: save the table as one of them")
    return False


def _parquet_header(stored: Path | bytes, where: str) -> list[str]:
    with _scanned(stored, where) as lazy:
        return lazy.collect_schema().names()


def _read_parquet(stored: Path | bytes, names: Sequence[str], where: str) -> pl.DataFrame:
    with _scanned(stored, where) as lazy:
        header = lazy.collect_schema().names()
        columns = [header[at] for at in find_columns(header, names, where)]
        frame = lazy.select(columns).collect()
    return pl.DataFrame({name: frame[column] for name, column in zip(names, columns, strict=True)})


@contextmanager
def _scanned(stored: Path | bytes, where: str) -> Iterator[pl.LazyFrame]:
    """A Parquet file of which nothing has been read; that it is damaged is told as a DataError."""
    try:
        source = BytesIO(stored) if isinstance(stored, bytes) else stored
        yield pl.scan_parquet(source, glob=False, hive_partitioning=False)
    except POLARS_ERRORS:
        raise DataError(f"{where}: the Parquet file is damaged: write it again") from None


def _from_pandas(name: str, column: Any, where: str) -> pl.Series:
    """A column of any pandas type as numbers, booleans or text."""
    kind = getattr(column.dtype, "kind", "O")
    if kind in "iu" and not column.isna().any():  # exact, since they may be ids
        return pl.Series(name, np.ascontiguousarray(column.to_numpy(dtype=np.int64 if kind == "i" else np.uint64)))
    if kind in "iuf":
        # As float32 where they are, since fewer of them are exact, which matters if they are ids.
        narrow = kind == "f" and getattr(column.dtype, "itemsize", 8) == 4
        numbers = column.to_numpy(dtype=np.float32 if narrow else np.float64, na_value=np.nan)
        return pl.Series(name, np.ascontiguousarray(numbers), dtype=pl.Float32 if narrow else pl.Float64)
    missing = column.isna().to_numpy(dtype=bool).tolist()
    cells = column.astype(object).tolist()
    if kind == "b":
        flags = [None if empty else bool(cell) for cell, empty in zip(cells, missing, strict=True)]
        return pl.Series(name, flags, dtype=pl.Boolean)
    texts = [None if empty else str(cell) for cell, empty in zip(cells, missing, strict=True)]
    try:
        return pl.Series(name, texts, dtype=pl.String)
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: column '{name}' holds half letters (surrogates), which are no text: mend it"
        ) from None
