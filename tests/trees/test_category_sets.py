import numpy as np
import pytest

from veilboost.tables.schema import Feature, Kind
from veilboost.trees.category_sets import CategorySets, is_partitioned


def test_sets_of_nodes() -> None:
    sets = CategorySets.of([(), [3, 1], (), [7], [2, 0, 2]])
    assert len(sets) == 5
    assert [sets[node].tolist() for node in range(5)] == [[], [1, 3], [], [7], [0, 2]]
    assert sets.given.tolist() == [False, True, False, True, True]
    assert sets.same_as(CategorySets.of([(), [1, 3], (), [7], [0, 2]]))
    assert not sets.same_as(CategorySets.of([(), [1, 3], (), [7], [0, 3]]))
    assert len(CategorySets.of([])) == 0


def test_one_category_at_most() -> None:
    sets = CategorySets.single(np.array([-1, 4, -1, 0]))
    assert sets.same_as(CategorySets.of([(), [4], (), [0]]))
    assert sets.starts.dtype == sets.codes.dtype == np.int32


@pytest.mark.parametrize(
    ("levels", "max_cat_to_onehot", "expected"),
    [
        (3, 4, False),
        (4, 4, True),
        (5, 4, True),
        (16, 4, True),
        (64, 4, True),
        (65, 4, False),
        (16, 17, False),
        (2, 1, True),
        (1, 1, False),
    ],
)
def test_which_columns_are_partitioned(levels: int, max_cat_to_onehot: int, expected: bool) -> None:
    feature = Feature("x", Kind.CATEGORICAL, tuple(map(str, range(levels))))
    assert is_partitioned(feature, max_cat_to_onehot) == expected
    assert not is_partitioned(Feature("y", Kind.DISCRETE), max_cat_to_onehot)
