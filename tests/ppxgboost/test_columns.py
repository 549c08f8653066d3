"""Columns of codes."""

import numpy as np
import pytest

from veilboost.ppxgboost.columns import NumericColumn, SetColumn


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
