"""The trees of a decoded model file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError
from veilboost.tables.schema import Feature
from veilboost.trees.category_sets import CategorySets
from veilboost.trees.ensemble import Tree
from veilboost.trees.fields import get, numbers, table
from veilboost.trees.kernels import CATEGORY_LIMIT


def read_trees(trees: list[Any], n_features: int, *, foreign: bool = False) -> tuple[Tree, ...]:
    """All trees, nodes renumbered breadth first.

    With `foreign`, for files of any XGBoost, thresholds may be infinite, as XGBoost's are in columns of very large
    numbers, and gain and cover, which predictions do not need, are left out.
    """
    read = []
    for number, tree in enumerate(trees):
        try:
            read.append(_tree(tree, n_features, foreign))
        except ModelError as error:
            raise ModelError(f"tree {number}: {error}") from None
    return tuple(read)


def check_kinds(trees: Sequence[Tree], features: Sequence[Feature]) -> None:
    """Refuse a numeric split of a categorical column and a split by categories of a numeric one."""
    categorical = np.array([column.categorical for column in features] or [False])
    for number, tree in enumerate(trees):
        if np.any((tree.categories.given != categorical[tree.feature])[~tree.leaf]):
            raise ModelError(f"tree {number}: damaged: a split does not fit its column's feature_types")


def _tree(tree: object, n_features: int, foreign: bool) -> Tree:
    size = table(get(tree, "tree_param"), "tree_param").get("size_leaf_vector", "1")
    if size not in ("0", "1") or "leaf_weights" in table(tree, "tree"):
        raise ModelError("vector leaves (multi_output_tree: more than one output in a tree) are not supported")
    left = numbers(tree, "left_children", np.int32, None)
    nodes = len(left)
    right = numbers(tree, "right_children", np.int32, nodes)
    feature = numbers(tree, "split_indices", np.int32, nodes)
    condition = numbers(tree, "split_conditions", np.float32, nodes)
    default_left = numbers(tree, "default_left", np.int32, nodes) != 0
    order = _breadth_first(left, right)
    leaf = left < 0
    inner = order[~leaf[order]]
    sets = _category_sets(tree, nodes, inner)
    by_set = sets.given
    if np.any(feature[inner] < 0) or np.any(feature[inner] >= n_features):
        raise ModelError("damaged: split_indices out of range")
    # XGBoost 2 writes NaN where there is no threshold.
    possible = np.isfinite(condition) | (~leaf & (by_set | (foreign & ~np.isnan(condition))))
    if not np.all(possible[order]):
        raise ModelError("damaged: split_conditions")
    gain = cover = np.zeros(nodes, dtype=np.float32)
    if not foreign:
        gain = numbers(tree, "loss_changes", np.float32, nodes)
        cover = numbers(tree, "sum_hessian", np.float32, nodes)
        if not np.all(np.isfinite(gain[order]) & np.isfinite(cover[order])):
            raise ModelError("damaged: loss_changes or sum_hessian")
    renumbered = np.full(nodes + 1, -1, dtype=np.int32)  # the last entry is for the children -1 of leaves
    renumbered[order] = np.arange(len(order))
    numeric = ~leaf & ~by_set
    return Tree(
        left=renumbered[left[order]],
        right=renumbered[np.where(leaf, -1, right)[order]],
        feature=np.where(leaf, 0, feature)[order].astype(np.int32),
        threshold=np.where(numeric, condition, np.float32(0))[order],
        categories=_reordered(sets, order, leaf),
        default_left=(default_left & ~leaf)[order],
        weight=np.where(leaf, condition, np.float32(0))[order],
        gain=gain[order],
        cover=cover[order],
    )


def _breadth_first(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Nodes reachable from the root, in breadth-first order; XGBoost leaves pruned nodes in the file."""
    nodes = len(left)
    order = [0] if nodes else []
    seen = {0}
    for node in order:  # grows while it is walked
        children = (int(left[node]), int(right[node]))
        if children[0] == -1 and children[1] in (-1, 0):  # a leaf; old versions of XGBoost may leave 0 there
            continue
        if any(not 0 < child < nodes or child in seen for child in children) or children[0] == children[1]:
            raise ModelError("damaged: left_children and right_children do not form a tree")
        seen.update(children)
        order += children
    if not order:
        raise ModelError("damaged: no nodes")
    return np.array(order)


def _category_sets(tree: object, nodes: int, inner: npt.NDArray[np.int64]) -> CategorySets:
    """The categories that go right at each categorical split."""
    if not isinstance(tree, dict) or "split_type" not in tree:  # before XGBoost 1.3
        return _none_of(nodes)
    split_type = numbers(tree, "split_type", np.int32, nodes)
    at = numbers(tree, "categories_nodes", np.int32, None)
    categories = numbers(tree, "categories", np.int32, None)
    starts = numbers(tree, "categories_segments", np.int64, len(at))
    sizes = numbers(tree, "categories_sizes", np.int64, len(at))
    if np.any(at < 0) or np.any(at >= nodes) or len(np.unique(at)) != len(at):
        raise ModelError("damaged: categories_nodes")
    if np.any(sizes < 1) or np.any(starts < 0) or np.any(starts + sizes > len(categories)):
        raise ModelError("damaged: categories_segments")
    if np.any(categories < 0) or np.any(categories >= CATEGORY_LIMIT) or sizes.sum() > len(categories):
        raise ModelError("damaged: categories")
    if len(at) == 0 and not np.any(split_type[inner] == 1):
        return _none_of(nodes)
    sets: list[npt.NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)] * nodes
    for node, start, size in zip(at, starts, sizes, strict=True):
        sets[node] = categories[start : start + size]
    found = CategorySets.of(sets)
    if np.any((split_type[inner] == 1) != found.given[inner]):
        raise ModelError("damaged: split_type contradicts categories_nodes")
    return found


def _none_of(nodes: int) -> CategorySets:
    return CategorySets.single(np.full(nodes, -1))


def _reordered(sets: CategorySets, order: npt.NDArray[np.int64], leaf: npt.NDArray[np.bool_]) -> CategorySets:
    """The sets in a new order of the nodes, and none at leaves."""
    if not np.any(sets.given):  # as in most models, and much faster
        return _none_of(len(order))
    return CategorySets.of([() if leaf[node] else sets[node] for node in order])
