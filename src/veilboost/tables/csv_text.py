"""Named columns out of a CSV file, cells as text.

polars reads the file; because it may accept a row with too many or too few cells, the cells of each row are counted as
well, and whenever the two disagree the slower `csv` module of the standard library decides and names the row.
"""

import csv
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from veilboost.errors import DataError
from veilboost.tables.header import find_columns

#: What polars raises on files that it cannot read.
POLARS_ERRORS: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)

_COMMA, _QUOTE, _NEWLINE, _RETURN = b',"\n\r'
_CHUNK: Final = 1 << 24

#: What `errors="surrogateescape"` makes of bytes that are not UTF-8. Replaced by a sign for "unknown", different
#: letters of another encoding, and so different ids, would be equal.
_NO_UTF8: Final = re.compile("[\udc80-\udcff]")


def csv_header(source: Path | bytes, where: str) -> list[str]:
    """The cells of the first line that is not blank.

    Raises
    ------
    DataError
        When there is none, they are not UTF-8, or the quotes do not fit.
    """
    with _open(source) as file:
        header = next((row for row in _rows(file, where) if row), [])
    if not header:
        raise DataError(f"{where}: the file is blank: give a table with a header and at least one row")
    if any(_NO_UTF8.search(name) for name in header):
        raise DataError(f"{where}: the header is not UTF-8: save the table as UTF-8")
    return header


def read_csv(source: Path | bytes, names: Sequence[str], where: str) -> pl.DataFrame:
    """The columns of these names as text, of a file that is not empty or its bytes; raises DataError."""
    header = csv_header(source, where)
    positions = find_columns(header, names, where)
    if isinstance(source, bytes):
        data = np.frombuffer(source, dtype=np.uint8)
    else:
        data = np.memmap(source, dtype=np.uint8, mode="r")
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
    except POLARS_ERRORS:
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
