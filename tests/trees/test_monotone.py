import numpy as np
import pytest

from veilboost.trees.ensemble import Tree
from veilboost.trees.monotone import in_order


def tree(weights: list[float]) -> Tree:
    """Feature 0 at the root, feature 1 on the left, feature 0 on the right."""
    return Tree.from_complete(2, [True] * 3, [0, 1, 0], [1.0, 2, 3], [-1] * 3, [False] * 3, weights)


def leaves(one: Tree) -> list[float]:
    """From the left; leaves stand behind the inner nodes, level by level."""
    return one.weight[one.leaf].tolist()


@pytest.mark.parametrize(
    ("weights", "signs", "expected"),
    [
        ([1.0, 2, 3, 4], [1, 0], [1.0, 2, 3, 4]),
        ([1.0, 4, 2, 5], [1, 0], [1.0, 3, 3, 5]),
        ([1.0, 4, 2, 5], [0, 0], [1.0, 4, 2, 5]),
        ([5.0, 4, 2, 1], [-1, 0], [5.0, 4, 2, 1]),
        ([5.0, 2, 4, 1], [-1, 0], [5.0, 3, 3, 1]),
        ([2.0, 1, 4, 3], [1, 1], [1.5, 1.5, 3.5, 3.5]),
    ],
)
def test_weights_beyond_the_middle_are_moved_there(
    weights: list[float], signs: list[int], expected: list[float]
) -> None:
    assert leaves(in_order(tree(weights), np.array(signs))) == expected


def test_any_weights_get_in_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = 2 ** int(rng.integers(1, 5))
        depth = int(np.log2(count))
        feature = rng.integers(0, 3, count - 1)
        cuts = rng.normal(size=count - 1)
        one = Tree.from_complete(
            depth,
            [True] * (count - 1),
            feature,
            cuts,
            [-1] * (count - 1),
            [False] * (count - 1),
            rng.normal(size=count),
        )
        signs = rng.integers(-1, 2, 3)
        once = in_order(one, signs)
        assert np.array_equal(in_order(once, signs).weight, once.weight)
        for node in np.flatnonzero(~once.leaf):
            left, right = (below(once, int(side[node])) for side in (once.left, once.right))
            sign = signs[once.feature[node]]
            assert sign == 0 or max(sign * left) <= min(sign * right)


def below(one: Tree, node: int) -> np.ndarray:
    if one.leaf[node]:
        return one.weight[[node]]
    return np.concatenate([below(one, int(one.left[node])), below(one, int(one.right[node]))])
