"""Rows that users give, in every form, as float32."""

import datetime
import math
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from veilboost.errors import DataError
from veilboost.ppxgboost.rows import read_rows
from veilboost.tables.schema import Feature, Kind

FEATURES = (
    Feature("age", Kind.CONTINUOUS, missing=True),
    Feature("gender", Kind.CATEGORICAL, ("M", "F"), missing=True),
    Feature("smoker", Kind.FLAG, missing=True),
    Feature("code", Kind.CATEGORICAL, (), missing=True),
)
ROW = {"age": 41.0, "gender": "F", "smoker": "yes", "code": 3}


def read(**changes: object) -> list[float]:
    return read_rows({**ROW, **changes}, FEATURES)[0].tolist()


def test_one_row() -> None:
    assert read() == [41.0, 1.0, 1.0, 3.0]
    assert read(smoker=False, gender="M", ignored="x") == [41.0, 0.0, 0.0, 3.0]


@pytest.mark.parametrize("absent", [None, math.nan, np.float32("nan"), pd.NA, pd.NaT], ids=repr)
def test_missing_values(absent: object) -> None:
    for name in ROW:
        values = read(**{name: absent})
        assert [math.isnan(value) for value in values] == [name == other for other in ROW]


def test_unknown_categories_are_unknown_and_not_missing() -> None:
    for unknown in ("X", "f", 1):
        with pytest.warns(UserWarning, match="'gender' has categories in 1 of 1 rows .*; it knows 'M', 'F'") as caught:
            assert read(gender=unknown)[1] == -1
        assert "X" not in str(caught[0].message)
    assert read(gender=" F ")[1] == 1


def test_whole_numbers_are_rounded_once() -> None:
    """2^60 + 2^36 + 1 lies above the middle of two float32; by way of float64 it would first fall onto the middle."""
    number = 2**60 + 2**36 + 1
    assert np.float32(float(number)) != np.array([number]).astype(np.float32)[0]
    assert read(age=number)[0] == float(np.array([number]).astype(np.float32)[0])
    assert read(age=np.int64(number))[0] == read(age=number)[0]
    assert read(age=2**70)[0] == 2.0**70
    assert read(age=1_700_000_000_123_456_789)[0] == float(np.float32(1_700_000_000_123_456_789))


@pytest.mark.parametrize(
    "bad", ["41 years", math.inf, -math.inf, 1e39, 10**400, [41], datetime.date(2020, 1, 1), 1j], ids=repr
)
def test_values_that_are_refused(bad: object) -> None:
    with pytest.raises(DataError, match="'age' ") as caught:
        read(age=bad)
    assert "41" not in str(caught.value)  # no value in messages


def test_features_that_are_not_there() -> None:
    with pytest.raises(DataError, match="the model needs 'age', 'code': give None for what is not known"):
        read_rows({"gender": "F", "smoker": 1}, FEATURES)
    with pytest.raises(DataError, match="row 2: the model needs 'age'"):
        read_rows([ROW, {key: value for key, value in ROW.items() if key != "age"}], FEATURES)


@pytest.mark.parametrize("nothing", [[], [1, 2], "row", 5, None])
def test_what_is_no_query(nothing: object) -> None:
    with pytest.raises(DataError):
        read_rows(nothing, FEATURES)


def test_tables_in_every_form(tmp_path: Path) -> None:
    rows = [ROW, {"age": None, "gender": None, "smoker": None, "code": None}, {**ROW, "age": -2.5, "gender": "M"}]
    columns = {name: [row[name] for row in rows] for name in ROW}
    features = FEATURES[:3]
    frame = pl.DataFrame({name: columns[name] for name in list(ROW)[:3]})
    frame.write_csv(tmp_path / "rows.csv")
    expected = read_rows(rows, features)
    assert expected.dtype == np.float32 and expected.shape == (3, 3)
    for table in (frame, pd.DataFrame(columns), tmp_path / "rows.csv"):
        np.testing.assert_array_equal(read_rows(table, features), expected)


def test_categories_whose_names_are_unknown_are_asked_for_by_number() -> None:
    with pytest.raises(DataError, match="'code' must be the number of the category in training"):
        read(code="basel")


def test_categories_without_names_in_tables(tmp_path: Path) -> None:
    """As numbers, and not as unknown."""
    feature = (Feature("code", Kind.CATEGORICAL, (), missing=True),)
    frame = pd.DataFrame({"code": [0.0, 3.0, np.nan]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    for table in (frame, pl.from_pandas(frame), tmp_path / "rows.csv", frame.to_dict("records")):
        np.testing.assert_array_equal(read_rows(table, feature)[:, 0], [0, 3, np.nan])
    with pytest.raises(DataError, match="row 2: 'code' must be the number of the category"):
        read_rows(pd.DataFrame({"code": [1, "basel"]}), feature)


@pytest.mark.parametrize(
    ("levels", "cells", "codes"),
    [
        ((" a", "b"), [" a", "b ", "a", "c"], [0, 1, -1, -1]),
        (("10", "2"), [10, "10.0", np.float32(2), 10.5, "2"], [0, 0, 1, -1, 1]),
        (("true", "false"), [True, np.False_, "true", "True"], [0, 1, 0, -1]),
        (("True", "False"), [True, False, "False", "no"], [0, 1, 1, -1]),
    ],
)
def test_spellings_of_categories(levels: tuple[str, ...], cells: list[object], codes: list[int]) -> None:
    feature = (Feature("x", Kind.CATEGORICAL, levels, missing=True),)
    with pytest.warns(UserWarning, match="'x' has categories"):
        found = read_rows(pd.DataFrame({"x": pd.Series(cells, dtype=object)}), feature)
        assert [read_rows({"x": cell}, feature)[0, 0] for cell in cells] == codes
    np.testing.assert_array_equal(found[:, 0], codes)


def test_a_row_of_a_frame_is_a_row() -> None:
    frame = pd.DataFrame([ROW, {**ROW, "age": None}])
    np.testing.assert_array_equal(read_rows(frame.iloc[0], FEATURES), read_rows(ROW, FEATURES))


def test_frames_are_read_as_rows_are() -> None:
    """Wide whole numbers, booleans, nullable types, the largest float32, names with blanks."""
    features = (Feature(" age", Kind.CONTINUOUS), Feature("on", Kind.CONTINUOUS), Feature("n", Kind.CONTINUOUS))
    largest = float(np.finfo(np.float32).max)
    frame = pd.DataFrame({" age": [2**60 + 2**36 + 1, 3], "on": [True, False], "n": [largest, 1.0]})
    expected = read_rows(frame.to_dict("records"), features)
    assert expected[0, 0] == float(np.array([2**60 + 2**36 + 1]).astype(np.float32)[0])
    assert expected[:, 1].tolist() == [1, 0] and expected[0, 2] == largest
    for table in (frame, pl.from_pandas(frame), frame.convert_dtypes()):
        np.testing.assert_array_equal(read_rows(table, features), expected)


def test_tables_without_columns_or_rows() -> None:
    assert read_rows(pd.DataFrame({"x": [1, 2, 3]}), ()).shape == (3, 0)
    with pytest.raises(DataError, match="has no rows"):
        read_rows(pd.DataFrame({"age": []}), FEATURES[:1])
    with pytest.raises(DataError, match="'age', 'gender' once among the columns"):
        read_rows(pd.DataFrame([[1, 2, 3]], columns=["age", "age", "smoker"]), FEATURES[:3])


@pytest.mark.parametrize(
    "bad", [np.array([1, 2]), b"F", ["F"], "1_0", object()], ids=["array", "bytes", "list", "text", "object"]
)
def test_cells_that_are_refused(bad: object) -> None:
    for name in ("age", "smoker"):
        with pytest.raises(DataError, match=f"'{name}' must be a number"):
            read(**{name: bad})
    if not isinstance(bad, str):
        with pytest.raises(DataError, match="'gender' must be a number or a text"):
            read(gender=bad)
