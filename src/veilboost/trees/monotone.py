"""Leaf weights in the order that monotone constraints ask for, where rounding has broken it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from veilboost.trees.ensemble import Tree


def in_order(tree: Tree, signs: npt.NDArray[np.int64]) -> Tree:
    """The tree with leaf weights that follow the constraints exactly.

    A tree that was trained under the constraints follows them but for the rounding of each leaf's weight. At every
    split by a constrained column, from the root down, weights beyond the middle between the largest of the lower side
    and the smallest of the upper side are moved there.

    Parameters
    ----------
    signs
        int64, shape (features,): -1, 0 or 1.
    """
    weight = tree.weight.copy()
    for node in np.flatnonzero(~tree.leaf):
        sign = int(signs[tree.feature[node]])
        if sign == 0:
            continue
        left, right = (np.fromiter(_leaves(tree, int(side[node])), dtype=np.int64) for side in (tree.left, tree.right))
        lower, upper = (left, right) if sign > 0 else (right, left)
        greatest, least = weight[lower].max(), weight[upper].min()
        if greatest > least:
            middle = np.float32((float(greatest) + float(least)) / 2)
            weight[lower] = np.minimum(weight[lower], middle)
            weight[upper] = np.maximum(weight[upper], middle)
    return replace(tree, weight=weight)


def _leaves(tree: Tree, node: int) -> Iterator[int]:
    """The leaves at or below a node."""
    if tree.leaf[node]:
        yield node
        return
    yield from _leaves(tree, int(tree.left[node]))
    yield from _leaves(tree, int(tree.right[node]))
