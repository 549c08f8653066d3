"""Many trees at once: leaves and sums of leaf weights of many rows, by the compiled kernels and on all cores."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from veilboost.errors import DataError
from veilboost.trees import kernels

if TYPE_CHECKING:
    from veilboost.trees.ensemble import Tree

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

_ROWS_PER_TASK = 16_384


def checked_values(values: npt.NDArray[Any], n_features: int) -> Float32:
    """The table as the kernels want it, float32, shape (rows, features).

    Raises
    ------
    DataError
        `values` has another number of columns.
    """
    if values.ndim != 2 or values.shape[1] != n_features:
        raise DataError(
            f"the model has {n_features} features, the table given has the shape {values.shape}: "
            "give one column per feature, in the order of the model"
        )
    with np.errstate(over="ignore"):  # beyond float32 is infinity, as in XGBoost
        return np.ascontiguousarray(values, dtype=np.float32)


def forest_of(trees: Sequence["Tree"]) -> kernels.Forest:
    """Trees behind one another, as the kernels want them."""
    firsts = np.cumsum([0, *(len(tree.categories.codes) for tree in trees)])[:-1]
    return kernels.Forest(
        np.cumsum([0, *(tree.n_nodes for tree in trees)], dtype=np.int64)[:-1],
        _joined([tree.left for tree in trees], np.int32),
        _joined([tree.right for tree in trees], np.int32),
        _joined([tree.feature for tree in trees], np.int32),
        _joined([tree.threshold for tree in trees], np.float32),
        _joined([tree.categories.starts[:-1] + first for tree, first in zip(trees, firsts, strict=True)], np.int32),
        _joined([tree.categories.starts[1:] + first for tree, first in zip(trees, firsts, strict=True)], np.int32),
        _joined([tree.categories.codes for tree in trees], np.int32),
        _joined([tree.default_left for tree in trees], np.bool_),
    )


def weights_of(trees: Sequence["Tree"]) -> Float32:
    """The weights of all nodes, behind one another as in `forest_of`."""
    weights: Float32 = _joined([tree.weight for tree in trees], np.float32)
    return weights


def add_margins(values: Float32, forest: kernels.Forest, weights: Float32, margins: Float32) -> None:
    """Add to `margins`, float32 (rows,), the weights of each row's leaves, tree after tree; `values` as checked."""

    def add(rows: slice) -> None:
        kernels.add_margins(values[rows], *forest, weights, margins[rows])

    _in_chunks(add, len(values))


def leaf_index(values: Float32, forest: kernels.Forest) -> Int32:
    """The leaf of each row in each tree: node numbers, int32, shape (rows, trees); `values` as checked."""
    leaves = np.zeros((len(values), len(forest.roots)), dtype=np.int32)

    def find(rows: slice) -> None:
        kernels.find_leaves(values[rows], *forest, leaves[rows])

    _in_chunks(find, len(values))
    return leaves


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype=dtype)


def _in_chunks(work: Callable[[slice], None], rows: int) -> None:
    """Run `work(slice of rows)` over all rows, on all cores when there is enough to do."""
    chunks = [slice(start, start + _ROWS_PER_TASK) for start in range(0, rows, _ROWS_PER_TASK)]
    if len(chunks) < 2:
        for chunk in chunks:
            work(chunk)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, chunks))
