"""Hypothesis strategies for ring elements and the rooms they are used in."""

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

Ints = npt.NDArray[np.int64]

#: Where wrap-arounds and signs go wrong first.
EDGES = (0, 1, -1, 2, -2, 2**31, -(2**31), 2**62 - 1, 2**62, -(2**62), -(2**62) - 1, -(2**63) + 1, -(2**63), 2**63 - 1)

#: Every example is a whole run of two to five owners and a dealer.
FEW = settings(max_examples=12, deadline=None)

#: Examples that cost next to nothing; without a deadline, because a busy machine is not a fault.
QUICK = settings(deadline=None)

owners = st.sampled_from([2, 3, 5])


def integers(
    low: int = -(2**63), high: int = 2**63 - 1, size: st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[Ints]:
    """int64 arrays of one axis within [low, high], rich in edges."""
    edges = sorted({edge for edge in (*EDGES, low, high, low + 1, high - 1) if low <= edge <= high})
    elements = st.one_of(st.integers(low, high), st.sampled_from(edges))
    return arrays.arrays(np.int64, st.integers(1, 90) if size is None else size, elements=elements)


def pairs(low: int = -(2**63), high: int = 2**63 - 1) -> st.SearchStrategy[tuple[Ints, Ints]]:
    """Two arrays of the same length."""

    def both(size: int) -> st.SearchStrategy[tuple[Ints, Ints]]:
        return st.tuples(integers(low, high, st.just(size)), integers(low, high, st.just(size)))

    return st.integers(1, 90).flatmap(both)


def bits(planes: int, count: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[npt.NDArray[np.bool_]]:
    """Booleans of shape (planes, count)."""
    sizes = st.integers(1, 150) if count is None else count
    return sizes.flatmap(lambda size: arrays.arrays(np.bool_, (planes, size)))
