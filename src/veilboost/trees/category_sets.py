"""Which categories go right at the nodes of trees, and which categorical columns are split into sets of several.

XGBoost looks at one category against the rest in columns of fewer than `max_cat_to_onehot` levels, and at partitions of
all others. So do we up to `MOST_PARTITIONED` levels; a column of more levels stays one category against the rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from veilboost.tables.schema import Feature

Int32 = npt.NDArray[np.int32]

#: Columns of more levels are not partitioned: sorting takes all pairs of them. XGBoost's own bound of the categories
#: of one set, `max_cat_threshold`, is as large.
MOST_PARTITIONED: Final = 64


def is_partitioned(feature: Feature, max_cat_to_onehot: int) -> bool:
    """Whether splits of a column are sets of categories, not one category against the rest.

    A column of a single level has nothing to be partitioned.
    """
    return feature.categorical and max(2, max_cat_to_onehot) <= len(feature.levels) <= MOST_PARTITIONED


@dataclass(frozen=True, eq=False)
class CategorySets:
    """Of every node the codes that go right; none where a node is a leaf or numeric.

    Attributes
    ----------
    starts
        int32, shape (nodes + 1,): node k has codes[starts[k] : starts[k + 1]].
    codes
        int32, ascending within a node.
    """

    starts: Int32
    codes: Int32

    @classmethod
    def of(cls, sets: Sequence[Iterable[int]]) -> "CategorySets":
        """One set per node; empty for none."""
        parts = [np.unique(np.fromiter(codes, dtype=np.int32)) for codes in sets]
        starts = np.cumsum([0, *map(len, parts)], dtype=np.int32)
        return cls(starts, np.concatenate([np.zeros(0, dtype=np.int32), *parts]))

    @classmethod
    def single(cls, category: npt.ArrayLike) -> "CategorySets":
        """At most one category per node: integers, shape (nodes,), negative for none."""
        codes = np.asarray(category).astype(np.int32)
        return cls(np.cumsum([0, *(codes >= 0)], dtype=np.int32), codes[codes >= 0])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, node: int) -> Int32:
        return self.codes[self.starts[node] : self.starts[node + 1]]

    @property
    def given(self) -> npt.NDArray[np.bool_]:
        """bool, shape (nodes,): which nodes split by categories."""
        return np.diff(self.starts) > 0

    def same_as(self, other: "CategorySets") -> bool:
        """Whether all sets are equal."""
        return np.array_equal(self.starts, other.starts) and np.array_equal(self.codes, other.codes)
