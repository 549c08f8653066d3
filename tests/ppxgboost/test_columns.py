"""Rows that users give, as float32 and codes."""

import datetime
import math
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from veilboost.errors import DataError
from veilboost.ppxgboost.columns import NumericColumn, SetColumn, read_values
from veilboost.tables.schema import Feature, Kind

FEATURES = (
    Feature("age", Kind.CONTINUOUS, missing=True),
    Feature("gender", Kind.CATEGORICAL, ("M", "F"), missing=True),
    Feature("smoker", Kind.FLAG, missing=True),
    Feature("code", Kind.CATEGORICAL, (), missing=True),
)
ROW = {"age": 41.0, "gender": "F", "smoker": "yes", "code": 3}


def read(**changes: object) -> list[float]:
    return read_values({**ROW, **changes}, FEATURES)[0].tolist()


def test_one_row() -> None:
    assert read() == [41.0, 1.0, 1.0, 3.0]
    assert read(smoker=False, gender="M", ignored="x") == [41.0, 0.0, 0.0, 3.0]


@pytest.mark.parametrize("absent", [None, math.nan, np.float32("nan"), pd.NA, pd.NaT], ids=repr)
def test_missing_values(absent: object) -> None:
    for name in ROW:
        values = read(**{name: absent})
        assert [math.isnan(value) for value in values] == [name == other for other in ROW]


def test_unknown_categories_are_unknown_and_not_missing() -> None:
    assert read(gender="X")[1] == -1
    assert read(gender=" F")[1] == -1


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
        read_values({"gender": "F", "smoker": 1}, FEATURES)
    with pytest.raises(DataError, match="row 2: the model needs 'age'"):
        read_values([ROW, {key: value for key, value in ROW.items() if key != "age"}], FEATURES)


@pytest.mark.parametrize("nothing", [[], [1, 2], "row", 5, None])
def test_what_is_no_query(nothing: object) -> None:
    with pytest.raises(DataError):
        read_values(nothing, FEATURES)


def test_tables_in_every_form(tmp_path: Path) -> None:
    rows = [ROW, {"age": None, "gender": None, "smoker": None, "code": None}, {**ROW, "age": -2.5, "gender": "M"}]
    columns = {name: [row[name] for row in rows] for name in ROW}
    features = FEATURES[:3]
    frame = pl.DataFrame({name: columns[name] for name in list(ROW)[:3]})
    frame.write_csv(tmp_path / "rows.csv")
    expected = read_values(rows, features)
    assert expected.dtype == np.float32 and expected.shape == (3, 3)
    for table in (frame, pd.DataFrame(columns), tmp_path / "rows.csv"):
        np.testing.assert_array_equal(read_values(table, features), expected)


def test_codes_of_numbers() -> None:
    values = np.array([1.0, np.nan, -1.0], dtype=np.float32)
    below = NumericColumn(0, True, 5, 9).codes(values)
    above = NumericColumn(0, False, 2**32 - 7, 2**32 - 1).codes(values)
    assert 5 <= below[1] <= 9 and above[1] >= 2**32 - 7
    np.testing.assert_array_equal(below[[0, 2]], above[[0, 2]])


def test_codes_of_categories() -> None:
    column = SetColumn(0, 5)
    assert column.domain == 8
    values = np.array([0, 4, 4.9, 5, -1, np.nan, 2**24, -0.5], dtype=np.float32)
    unknown, missing = column.unknown, column.missing
    np.testing.assert_array_equal(column.codes(values), [0, 4, 4, unknown, unknown, missing, unknown, unknown])


@pytest.mark.parametrize("categories", [1, 2, 3, 6, 7, 62, 63])
def test_domains_have_room(categories: int) -> None:
    column = SetColumn(0, categories)
    assert categories + 2 <= column.domain <= 2 * (categories + 2)
    assert column.domain & (column.domain - 1) == 0


def test_categories_whose_names_are_unknown_are_asked_for_by_number() -> None:
    with pytest.raises(DataError, match="'code' must be the number of the category in training"):
        read(code="basel")
