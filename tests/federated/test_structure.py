import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from veilboost.errors import InputError
from veilboost.federated.structure import RandomSplits, random_structure
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Tree
from veilboost.trees.parameters import parameters_from
from veilboost.trees.sampling import sample_features

AGE = Feature("age", Kind.CONTINUOUS, missing=True)
COUNT = Feature("count", Kind.DISCRETE)
FLAG = Feature("flag", Kind.FLAG)
LEVEL = Feature("level", Kind.CATEGORICAL, ("z", "a", "m"))
PAIR = Feature("pair", Kind.CATEGORICAL, ("x", "y"), missing=True)
SINGLE = Feature("single", Kind.CATEGORICAL, ("only",))
FEATURES = (AGE, COUNT, FLAG, LEVEL, PAIR, SINGLE)
EDGES = tuple(np.array(values, dtype=np.float32) for values in ([5, 1, 2.5, 1], [10, 20, 30, 40, 50], [], [], [], []))


def all_permitted(depth: int, count: int) -> list[np.ndarray]:
    return [np.ones((2**level, count), dtype=np.bool_) for level in range(depth)]


def draw(seed: int = 3, tree: int = 0, depth: int = 4) -> RandomSplits:
    return random_structure(seed, tree, depth, FEATURES, EDGES, all_permitted(depth, len(FEATURES)))


def test_known_answer() -> None:
    """The draws are part of the job: every participant, on any machine and numpy, must make the same."""
    splits = draw(seed=42, tree=7, depth=3)
    assert splits.split.tolist() == KNOWN_SPLIT
    assert splits.feature.tolist() == KNOWN_FEATURE
    assert splits.threshold.tolist() == KNOWN_THRESHOLD
    assert splits.category.tolist() == KNOWN_CATEGORY
    assert splits.default_left.tolist() == KNOWN_DEFAULT


KNOWN_SPLIT = [True, True, True, True, True, True, True]
KNOWN_FEATURE = [4, 2, 3, 1, 0, 1, 1]
KNOWN_THRESHOLD = [0.0, 0.5, 0.0, 40.0, 1.0, 50.0, 30.0]
KNOWN_CATEGORY = [1, -1, 2, -1, -1, -1, -1]
KNOWN_DEFAULT = [True, False, False, False, False, False, False]


def test_a_tree_can_be_made_of_it() -> None:
    splits = draw()
    tree = Tree.from_complete(
        4, splits.split, splits.feature, splits.threshold, splits.category, splits.default_left, np.arange(16)
    )
    assert tree.n_nodes == 2 * int(tree.leaf.sum()) - 1
    assert set(tree.feature[~tree.leaf]) <= set(range(5))


@given(st.integers(0, 2**63 - 1), st.integers(0, 1000), st.integers(1, 6))
def test_every_split_separates_something(seed: int, tree: int, depth: int) -> None:
    """A value on each side of every node, among those that the path lets through."""
    splits = random_structure(seed, tree, depth, FEATURES, EDGES, all_permitted(depth, len(FEATURES)))
    # One value between any two edges, and every category: all there is to tell apart.
    domains = [[0, 2, 3, 6], [5, 15, 25, 35, 45, 55], [0, 1], [0, 1, 2], [0, 1], [0]]
    reachable = {0: domains}
    for node in range(2**depth - 1):
        values = reachable[node]
        if not splits.split[node]:
            assert all(len(of_feature) == 1 for of_feature in values)
            left, right = values, values
        else:
            at = int(splits.feature[node])
            if FEATURES[at].categorical:
                goes_right = [value == splits.category[node] for value in values[at]]
                assert splits.threshold[node] == 0
            else:
                goes_right = [not value < splits.threshold[node] for value in values[at]]
                assert splits.category[node] == -1
            assert set(goes_right) == {False, True}
            left, right = list(values), list(values)
            left[at] = [value for value, is_right in zip(values[at], goes_right, strict=True) if not is_right]
            right[at] = [value for value, is_right in zip(values[at], goes_right, strict=True) if is_right]
            assert FEATURES[at].missing or not splits.default_left[node]
        reachable[2 * node + 1], reachable[2 * node + 2] = left, right


def test_features_edges_and_directions_are_uniform() -> None:
    """Roots of many trees: five features can split, each by any of its edges, the missing go either way."""
    trees = [draw(seed=9, tree=number, depth=1) for number in range(20_000)]
    features = np.array([int(splits.feature[0]) for splits in trees])
    assert stats.chisquare(np.bincount(features, minlength=5)).pvalue > 1e-6
    thresholds = np.array([float(splits.threshold[0]) for splits in trees])
    for at, edges in ((0, [1, 2.5, 5]), (1, [10, 20, 30, 40, 50]), (2, [0.5])):
        found, counts = np.unique(thresholds[features == at], return_counts=True)
        assert found.tolist() == edges
        assert len(edges) == 1 or stats.chisquare(counts).pvalue > 1e-6
    levels = np.array([int(splits.category[0]) for splits in trees])
    assert stats.chisquare(np.bincount(levels[features == 3], minlength=3)).pvalue > 1e-6
    lefts = np.array([bool(splits.default_left[0]) for splits in trees])
    assert stats.binomtest(int(lefts[features == 0].sum()), int((features == 0).sum())).pvalue > 1e-6
    assert stats.binomtest(int(lefts[features == 4].sum()), int((features == 4).sum())).pvalue > 1e-6
    assert not lefts[(features == 1) | (features == 2) | (features == 3)].any()


def test_trees_and_seeds_differ() -> None:
    assert draw(tree=0).feature.tolist() != draw(tree=1).feature.tolist()
    assert draw(seed=1).feature.tolist() != draw(seed=2).feature.tolist()


def test_only_permitted_features_are_taken() -> None:
    parameters = parameters_from({"colsample_bynode": 0.4, "seed": 5})
    for tree in range(50):
        permitted = [sample_features(parameters, tree, level, len(FEATURES)) for level in range(4)]
        splits = random_structure(5, tree, 4, FEATURES, EDGES, permitted)
        flat = np.concatenate(permitted)
        assert all(flat[node, splits.feature[node]] for node in np.flatnonzero(splits.split))


def test_nothing_left_to_ask_is_a_pass_through() -> None:
    splits = random_structure(0, 0, 3, (FLAG,), (EDGES[2],), all_permitted(3, 1))
    assert splits.split.tolist() == [True] + [False] * 6
    assert splits.threshold[0] == np.float32(0.5)


@pytest.mark.parametrize(
    ("edges", "depth", "message"),
    [
        (EDGES[:2], 1, "edges of 2"),
        (EDGES, 2, "shapes"),
        ((np.array([np.nan], dtype=np.float32), *EDGES[1:]), 1, "'age' has an edge that is not finite"),
        ((np.array([np.inf], dtype=np.float32), *EDGES[1:]), 1, "'age' has an edge that is not finite"),
    ],
)
def test_refusals(edges: tuple[np.ndarray, ...], depth: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        random_structure(0, 0, depth, FEATURES, edges, all_permitted(1, len(FEATURES)))
