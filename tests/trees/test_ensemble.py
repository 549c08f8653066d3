import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilboost.errors import DataError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Ensemble, Tree

FEATURES = (
    Feature("age", Kind.CONTINUOUS, missing=True),
    Feature("referral", Kind.CATEGORICAL, ("gp", "er", "other"), missing=True),
)


def stump(threshold: float = 0.0, category: int = -1, default_left: bool = False, feature: int = 0) -> Tree:
    return Tree.from_complete(1, [True], [feature], [threshold], [category], [default_left], [-1.0, 1.0])


def ensemble(*trees: Tree, base_score: float = 0.0) -> Ensemble:
    return Ensemble(FEATURES, "reg:squarederror", base_score, trees)


def went_left(tree: Tree, age: float = 0.0, referral: float = 0.0) -> bool:
    return bool(ensemble(tree).predict(np.array([[age, referral]]))[0] == -1)


def test_values_equal_to_the_threshold_go_right() -> None:
    cut = np.float32(0.1)
    assert not went_left(stump(cut), float(cut))
    assert went_left(stump(cut), float(np.nextafter(cut, np.float32(0))))
    assert not went_left(stump(cut), 0.1 - 1e-12)  # in float32 this is the threshold


def test_missing_values_go_the_default_way() -> None:
    for default_left in (True, False):
        assert went_left(stump(5, default_left=default_left), float("nan")) is default_left
        assert went_left(stump(0, 1, default_left, feature=1), 0, float("nan")) is default_left


@pytest.mark.parametrize(
    ("code", "left"), [(0, True), (1, False), (2, True), (3, True), (-1, True), (2.0**24, True), (1e30, True)]
)
def test_only_the_listed_category_goes_right(code: float, left: bool) -> None:
    assert went_left(stump(0, 1, feature=1), 0, code) is left


def test_no_trees_predict_the_base_score() -> None:
    model = Ensemble(FEATURES, "binary:logistic", 0.25, ())
    assert model.predict(np.zeros((3, 2))) == pytest.approx([0.25] * 3)
    assert model.leaf_index(np.zeros((3, 2))).shape == (3, 0)
    assert model.predict(np.zeros((0, 2))).shape == (0,)


def test_weights_and_base_score_add_up() -> None:
    model = ensemble(stump(), stump(10), base_score=0.5)
    assert model.predict_margin(np.array([[5.0, 0.0], [50.0, 0.0]])).tolist() == [0.5, 2.5]
    assert model.leaf_index(np.array([[5.0, 0.0]])).tolist() == [[2, 1]]


def test_many_rows_in_parallel_are_rows_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40_000, 2)).astype(np.float32)
    model = ensemble(stump(0.3), stump(-0.3, default_left=True), stump(0, 1, feature=1))
    assert np.array_equal(
        model.predict(values)[::997], np.concatenate([model.predict(row[None]) for row in values[::997]])
    )
    assert model.leaf_index(values).shape == (40_000, 3)


def test_read_only_and_double_values_are_accepted() -> None:
    values = np.zeros((2, 2))
    values.setflags(write=False)
    frozen = values.astype(np.float32)
    frozen.setflags(write=False)
    assert np.array_equal(ensemble(stump()).predict(values), ensemble(stump()).predict(frozen))


def test_another_number_of_columns_is_refused() -> None:
    with pytest.raises(DataError, match="2 features"):
        ensemble(stump()).predict(np.zeros((2, 3)))


def test_pass_throughs_become_leaves_with_the_weight_of_the_right_most_leaf() -> None:
    split = [True, False, True, True, True, False, True]  # node 1 passes through; what is below it is dropped
    tree = Tree.from_complete(
        3,
        split,
        [0, 1, 0, 1, 1, 1, 0],
        [1, 2, 3, 4, 5, 6, 7],
        [-1] * 7,
        [True] * 7,
        np.arange(8),
        gain=np.arange(7) + 10,
        cover=np.arange(15) + 100,
    )
    assert tree.left.tolist() == [1, -1, 3, -1, 5, -1, -1]
    assert tree.right.tolist() == [2, -1, 4, -1, 6, -1, -1]
    assert tree.weight.tolist() == [0, 3, 0, 5, 0, 6, 7]
    assert tree.feature.tolist() == [0, 0, 0, 0, 0, 0, 0]
    assert tree.threshold.tolist() == [1, 0, 3, 0, 7, 0, 0]
    assert tree.gain.tolist() == [10, 0, 12, 0, 16, 0, 0]
    assert tree.cover.tolist() == [100, 101, 102, 105, 106, 113, 114]
    assert tree.default_left.tolist() == [True, False, True, False, True, False, False]
    assert tree.depths.tolist() == [0, 1, 1, 2, 2, 3, 3]
    assert [len(tree.categories), tree.categories.starts.dtype, tree.categories.codes.dtype] == [7, np.int32, np.int32]
    assert {name: values.dtype for name, values in vars(tree).items() if name != "categories"} == {
        "left": np.int32,
        "right": np.int32,
        "feature": np.int32,
        "threshold": np.float32,
        "default_left": np.bool_,
        "weight": np.float32,
        "gain": np.float32,
        "cover": np.float32,
    }


def test_a_tree_may_be_one_leaf() -> None:
    for tree in (
        Tree.from_complete(0, [], [], [], [], [], [0.5]),
        Tree.from_complete(2, [False] * 3, [0] * 3, [0] * 3, [-1] * 3, [False] * 3, [1, 2, 3, 0.5]),
    ):
        assert tree.n_nodes == 1
        assert ensemble(tree).predict(np.zeros((1, 2))).tolist() == [0.5]


def test_gains_beyond_float32_stop_at_its_largest_number() -> None:
    """Labels of 1e20 have such gains, and a model file holds no infinity."""
    tree = Tree.from_complete(1, [True], [0], [0], [-1], [False], [1, 2], [1e40], [1e39, 1, 2])
    assert tree.gain[0] == tree.cover[0] == np.finfo(np.float32).max
    assert tree.cover[1:].tolist() == [1, 2]


def test_arrays_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="leaf_weight"):
        Tree.from_complete(1, [True], [0], [0], [-1], [False], [1, 2, 3])


@settings(max_examples=50)
@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_pruning_does_not_change_where_rows_go(depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_inner = 2**depth - 1
    split, feature = rng.random(n_inner) < 0.7, rng.integers(0, 2, n_inner)
    threshold, default_left = rng.normal(size=n_inner).astype(np.float32), rng.random(n_inner) < 0.5
    category = np.where(feature == 1, rng.integers(0, 3, n_inner), -1)
    for node in range(1, n_inner):
        split[node] &= split[(node - 1) // 2]
    weights = rng.normal(size=2**depth).astype(np.float32)
    tree = Tree.from_complete(depth, split, feature, threshold, category, default_left, weights)
    values = np.stack([rng.normal(size=100), rng.integers(0, 4, 100)], axis=1).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    expected = []
    for row in values:
        node = 0
        while node < n_inner:
            x, left = row[feature[node]], False
            if split[node]:
                left = (
                    default_left[node] if np.isnan(x) else x != category[node] if feature[node] else x < threshold[node]
                )
            node = 2 * node + (1 if left else 2)
        expected.append(weights[node - n_inner])
    assert np.array_equal(ensemble(tree).predict(values), np.array(expected, dtype=np.float32))
