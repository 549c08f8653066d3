"""Named columns out of whatever an owner has: CSV, Parquet, a pandas or a polars frame.

CSV cells stay text here; `veilboost.tables.table` gives them a meaning. Only the named columns are kept. polars reads
the file; because it may accept a row with too many or too few cells, the cells of each row are counted as well, and
whenever the two disagree the slower `csv` module of the standard library decides and names the row.
"""

import csv
import re
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from veilboost.errors import DataError

#: A path, the bytes of a CSV or Parquet file, or a polars or pandas frame (pandas is never imported here).
Source = Any

_PARQUET_MAGIC: Final = b"PAR1"
_COMMA, _QUOTE, _NEWLINE, _RETURN = b',"\n\r'
_CHUNK: Final = 1 << 24

#: What `errors="surrogateescape"` makes of bytes that are not UTF-8. Replaced by a sign for "unknown", different
#: letters of another encoding, and so different ids, would be equal.
_NO_UTF8: Final = re.compile("[\udc80-\udcff]")
_POLARS_ERRORS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


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
        positions = _find(source.columns, names, where)
        return pl.DataFrame({name: source[:, at] for name, at in zip(names, positions, strict=True)})
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        positions = _find([str(column) for column in source.columns], names, where)
        return pl.DataFrame(
            [_from_pandas(name, source.iloc[:, at], where) for name, at in zip(names, positions, strict=True)]
        )
    if isinstance(source, BytesIO):
        return _read_bytes(source.getvalue(), names, where)
    if isinstance(source, str | Path):
        return _read_file(Path(source), names, where)
    raise DataError(f"{where}: cannot read a {type(source).__name__}: give a CSV or Parquet file, or a data frame")


def column_names(source: Source, where: str) -> list[str]:
    """Names of all columns of a source, without the white space around them; raises DataError as `read_columns`."""
    pandas = sys.modules.get("pandas")
    if isinstance(source, pl.DataFrame) or (pandas is not None and isinstance(source, pandas.DataFrame)):
        return [str(column).strip() for column in source.columns]
    read_columns(source, [], where)  # refuses what is no table
    try:
        with BytesIO(source.getvalue()) if isinstance(source, BytesIO) else Path(source).open("rb") as file:
            if file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC:
                file.seek(0)
                return [name.strip() for name in pl.read_parquet_schema(file)]
            file.seek(0)
            with TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
                header = next((row for row in csv.reader(text) if row), [])
    except (*_POLARS_ERRORS, ValueError, csv.Error):
        raise DataError(f"{where}: the header cannot be read: give a CSV or Parquet file") from None
    return [name.strip() for name in header]


def is_readable(dtype: pl.DataType) -> bool:
    """Whether cells of this type are numbers or can be read as text."""
    return not dtype.is_nested() and dtype not in (pl.Binary, pl.Object, pl.Duration)


def _read_file(path: Path, names: Sequence[str], where: str) -> pl.DataFrame:
    try:
        if path.is_dir():
            raise DataError(f"{where}: is a directory: give a CSV or Parquet file")
        if not path.exists():
            raise DataError(f"{where}: there is no such file: check the path")
        if not path.is_file():
            raise DataError(f"{where}: is not a regular file: give a CSV or Parquet file")
        if path.stat().st_size == 0:
            raise DataError(f"{where}: the file is empty: give a table with a header and at least one row")
        with path.open("rb") as file:
            start = file.read(4096)
        if _is_parquet(start, where):
            return _read_parquet(path, names, where)
        return _read_csv(path, np.memmap(path, dtype=np.uint8, mode="r"), names, where)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise DataError(f"{where}: cannot be read ({reason}): check the path and its permissions") from None


def _read_bytes(data: bytes, names: Sequence[str], where: str) -> pl.DataFrame:
    if not data:
        raise DataError(f"{where}: the file is empty: give a table with a header and at least one row")
    if _is_parquet(data[:4096], where):
        return _read_parquet(BytesIO(data), names, where)
    return _read_csv(data, np.frombuffer(data, dtype=np.uint8), names, where)


def _is_parquet(start: bytes, where: str) -> bool:
    if start.startswith(_PARQUET_MAGIC):
        return True
    if b"\0" in start:
        raise DataError(f"{where}: is neither CSV in UTF-8 nor Parquet: save the table as one of them")
    return False


def _read_parquet(source: Path | BytesIO, names: Sequence[str], where: str) -> pl.DataFrame:
    try:
        stored = pl.scan_parquet(source, glob=False, hive_partitioning=False)
        header = stored.collect_schema().names()
        columns = [header[at] for at in _find(header, names, where)]
        frame = stored.select(columns).collect()
    except _POLARS_ERRORS:
        raise DataError(f"{where}: the Parquet file is damaged: write it again") from None
    return pl.DataFrame({name: frame[column] for name, column in zip(names, columns, strict=True)})


def _read_csv(source: Path | bytes, data: npt.NDArray[np.uint8], names: Sequence[str], where: str) -> pl.DataFrame:
    with _open(source) as file:
        header = next((row for row in _rows(file, where) if row), [])
    if any(_NO_UTF8.search(name) for name in header):
        raise DataError(f"{where}: the header is not UTF-8: save the table as UTF-8")
    positions = _find(header, names, where)
    counts = _cells_per_row(data)
    rows = len(np.trim_zeros(counts, "b")) - 1  # blank lines at the end are no rows
    if rows >= 0 and np.all(counts[: rows + 1] == len(header)) and _is_utf8(data):
        frame = _read_csv_quickly(source, positions)
        if frame is not None and frame.height == len(counts) - 1:
            in_file_order = dict(zip(sorted(positions), frame.columns, strict=True))
            columns = [in_file_order[at] for at in positions]
            return pl.DataFrame({name: frame[column][:rows] for name, column in zip(names, columns, strict=True)})
    return _read_csv_carefully(source, names, positions, len(header), where)


def _is_utf8(data: npt.NDArray[np.uint8]) -> bool:
    decoder = getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _CHUNK):
            decoder.decode(data[start : start + _CHUNK].tobytes(), final=start + _CHUNK >= len(data))
    except UnicodeDecodeError:
        return False
    return True


def _read_csv_quickly(source: Path | bytes, positions: Sequence[int]) -> pl.DataFrame | None:
    """The columns in the order of the file, or None when polars cannot cope."""
    try:
        return pl.read_csv(source, columns=sorted(positions), infer_schema=False, encoding="utf8", glob=False)
    except _POLARS_ERRORS:
        return None


def _read_csv_carefully(
    source: Path | bytes, names: Sequence[str], positions: Sequence[int], width: int, where: str
) -> pl.DataFrame:
    """Row by row, so that the first row that is wrong can be named."""
    columns: list[list[str | None]] = [[] for _ in positions]
    blank = 0
    with _open(source) as file:
        rows = (row for row in _rows(file, where))
        next(row for row in rows if row)
        number = 0
        for number, row in enumerate(rows, start=1):
            if not row and width > 1:
                blank = blank or number
                continue
            if blank:
                raise DataError(f"{where}: row {blank} is blank: delete the line")
            if max(len(row), 1) != width:
                raise DataError(
                    f"{where}: row {number} has {len(row)} cells where the header has {width}: "
                    "put cells that hold a comma in double quotes and leave empty cells between commas"
                )
            for name, column, at in zip(names, columns, positions, strict=True):
                if row and _NO_UTF8.search(row[at]):
                    raise DataError(
                        f"{where}: row {number}, column '{name}': the cell is not UTF-8: save the table as UTF-8"
                    )
                column.append(row[at] if row else None)
    return pl.DataFrame({name: pl.Series(column, dtype=pl.String) for name, column in zip(names, columns, strict=True)})


def _open(source: Path | bytes) -> TextIOWrapper:
    binary: BinaryIO = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    return TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _rows(file: TextIOWrapper, where: str) -> Iterator[list[str]]:
    reader = csv.reader(file, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise DataError(
                f"{where}: line {reader.line_num} is not valid CSV: "
                "close every double quote, and write a double quote inside a quoted cell twice"
            ) from None
        yield row


def _cells_per_row(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Number of cells of every line that is a row, header first: 0 for a blank line, none before the header.

    A comma or line break counts when the number of double quotes before it is even, which is right when quotes
    stand as RFC 4180 says: around whole cells, and twice inside. Where they do not, nothing is returned.
    """
    quotes = commas = 0
    row_ends: list[npt.NDArray[np.int64]] = []
    commas_before: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        quote_at = np.flatnonzero(chunk == _QUOTE)
        comma_at = np.flatnonzero(chunk == _COMMA)
        newline_at = np.flatnonzero(chunk == _NEWLINE)
        if len(quote_at) or quotes % 2:
            if not _quotes_enclose_cells(data, quote_at + start, quotes):
                return np.empty(0, dtype=np.int64)
            comma_at = comma_at[(np.searchsorted(quote_at, comma_at) + quotes) % 2 == 0]
            newline_at = newline_at[(np.searchsorted(quote_at, newline_at) + quotes) % 2 == 0]
        row_ends.append(newline_at + start)
        commas_before.append(np.searchsorted(comma_at, newline_at) + commas)
        quotes += len(quote_at)
        commas += len(comma_at)
    if data[-1] != _NEWLINE or quotes % 2:
        row_ends.append(np.array([len(data)]))
        commas_before.append(np.array([commas]))
    ends, before = np.concatenate(row_ends), np.concatenate(commas_before)
    counts = before - np.insert(before[:-1], 0, 0) + 1
    lengths = ends - np.insert(ends[:-1], 0, -1) - 1
    blank = (lengths == 0) | ((lengths == 1) & (data[np.minimum(ends, len(data)) - 1] == _RETURN))
    first = int(np.argmin(blank))
    if counts.max() > 1:  # in a table of one column a blank line is an empty cell
        counts[blank] = 0
    return counts[first:]


def _quotes_enclose_cells(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], before: int) -> bool:
    """Whether the quotes at positions `at`, with `before` quotes in front of them, open and close whole cells."""
    opening, closing = at[before % 2 :: 2], at[1 - before % 2 :: 2]
    # Taken together, two quotes inside a cell close it and open it again.
    in_front = data[np.maximum(opening - 1, 0)]
    behind = data[np.minimum(closing + 1, len(data) - 1)]
    opens = (opening == 0) | np.isin(in_front, (_COMMA, _NEWLINE, _QUOTE))
    closes = (closing == len(data) - 1) | np.isin(behind, (_COMMA, _NEWLINE, _RETURN, _QUOTE))
    return bool(opens.all() and closes.all())


def _find(header: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """Position of every name; never prints the header, which may be a row of data when a file has none."""
    stripped = [column.strip() for column in header]
    positions: dict[str, int] = {}
    twice: set[str] = set()
    for at, column in enumerate(stripped):
        if column in positions:
            twice.add(column)
        positions.setdefault(column, at)
    folded = {column.casefold() for column in stripped}
    for name in names:
        if name in twice:
            raise DataError(f"{where}: column '{name}' is there twice: rename or delete one of them")
        if name not in positions:
            if name.casefold() in folded:
                hint = "it is there in other capitals, use the same ones"
            elif len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
                hint = "cells seem not to be separated by commas, save the table as comma-separated CSV"
            else:
                hint = "add it, or check its name"
            raise DataError(f"{where}: there is no column '{name}': {hint}")
    return [positions[name] for name in names]


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
