"""Compiled walks down decision trees.

All trees of an ensemble lie behind one another in flat arrays; `roots[t]` is where tree t begins and `left`, `right`
are positions relative to it. Types are declared, so each kernel is compiled once and kept in numba's cache. Kernels
release the GIL.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit, types

#: Codes from here on are no category, as in XGBoost: float32 does not hold all larger integers.
CATEGORY_LIMIT = 1 << 24

_ROWS_AT_ONCE = 512  # margins and values of a block of rows stay in the cache while all trees pass over it

_values = types.Array(types.float32, 2, "C", readonly=True)
_codes = types.Array(types.int32, 1, "C", readonly=True)
_forest = (
    types.Array(types.int64, 1, "C", readonly=True),  # roots
    types.Array(types.int32, 1, "C", readonly=True),  # left
    types.Array(types.int32, 1, "C", readonly=True),  # right
    types.Array(types.int32, 1, "C", readonly=True),  # feature
    types.Array(types.float32, 1, "C", readonly=True),  # threshold
    types.Array(types.int32, 1, "C", readonly=True),  # first_code
    types.Array(types.int32, 1, "C", readonly=True),  # last_code
    _codes,
    types.Array(types.boolean, 1, "C", readonly=True),  # default_left
)

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(signature: Any, inline: Literal["never", "always"] = "never") -> Callable[[_Function], _Function]:
    """Compile for one signature, and keep the machine code on disk where there is room for it."""

    def decorate(function: _Function) -> _Function:
        try:
            return cast(_Function, njit(signature, cache=True, nogil=True, inline=inline)(function))
        except RuntimeError:  # nowhere to keep a cache: neither the installation nor the home folder can be written
            return cast(_Function, njit(signature, nogil=True, inline=inline)(function))

    return decorate


Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]


class Forest(NamedTuple):
    """The arrays that all kernels take.

    Shape (trees,) for `roots`, (all nodes,) for the others but `codes`: a node's categories are codes[first_code] to
    codes[last_code - 1].
    """

    roots: npt.NDArray[np.int64]
    left: Int32
    right: Int32
    feature: Int32
    threshold: Float32
    first_code: Int32
    last_code: Int32
    codes: Int32
    default_left: npt.NDArray[np.bool_]


@compiled(types.boolean(types.float32, types.float32, types.int32, types.int32, _codes, types.boolean), inline="always")
def goes_left(
    value: np.float32, threshold: np.float32, first: int, last: int, codes: Int32, default_left: bool
) -> bool:
    """Where a row goes at an inner node, whose categories are codes[first:last]: XGBoost's decision."""
    if value != value:
        return default_left
    if first == last:
        return bool(value < threshold)
    if value < 0 or value >= CATEGORY_LIMIT:
        return True
    code = int(value)
    for place in range(first, last):  # noqa: SIM110 - a generator is slower here
        if codes[place] == code:
            return False
    return True


@compiled(types.void(_values, *_forest, types.float32[::1], types.float32[::1]))
def add_margins(
    values: Float32,
    roots: npt.NDArray[np.int64],
    left: Int32,
    right: Int32,
    feature: Int32,
    threshold: Float32,
    first_code: Int32,
    last_code: Int32,
    codes: Int32,
    default_left: npt.NDArray[np.bool_],
    weight: Float32,
    margins: Float32,
) -> None:
    """Add to `margins`, float32 (rows,), the weight of each row's leaf, tree after tree, in float32 as XGBoost.

    `values` is float32 (rows, features), NaN where missing; `weight` is float32, one per node.
    """
    rows = values.shape[0]
    for start in range(0, rows, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, rows)
        for root in roots:
            for row in range(start, stop):
                node = root
                while left[node] >= 0:
                    at = feature[node]
                    first, last = first_code[node], last_code[node]
                    if goes_left(values[row, at], threshold[node], first, last, codes, default_left[node]):
                        node = root + left[node]
                    else:
                        node = root + right[node]
                margins[row] += weight[node]


@compiled(types.void(_values, *_forest, types.int32[:, ::1]))
def find_leaves(
    values: Float32,
    roots: npt.NDArray[np.int64],
    left: Int32,
    right: Int32,
    feature: Int32,
    threshold: Float32,
    first_code: Int32,
    last_code: Int32,
    codes: Int32,
    default_left: npt.NDArray[np.bool_],
    leaves: Int32,
) -> None:
    """Write each row's leaf, a node number within its tree, to `leaves`, int32 (rows, trees)."""
    for row in range(values.shape[0]):
        for tree in range(len(roots)):
            root = roots[tree]
            node = root
            while left[node] >= 0:
                at = feature[node]
                first, last = first_code[node], last_code[node]
                if goes_left(values[row, at], threshold[node], first, last, codes, default_left[node]):
                    node = root + left[node]
                else:
                    node = root + right[node]
            leaves[row, tree] = node - root
