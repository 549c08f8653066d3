"""What a user's values become before they are encrypted: columns of codes.

A numeric feature has up to two columns, one for nodes whose missing values go left and one for those whose go right, in
which a missing value has a code below or above all thresholds. A feature of categories has one; missing and unknown
categories have places of their own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.ppxgboost.order_codes import with_missing
from veilboost.trees.kernels import CATEGORY_LIMIT

Float32 = npt.NDArray[np.float32]
Words32 = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class NumericColumn:
    """A feature, by its number, and where its missing values go.

    Attributes
    ----------
    feature
        Among the features of the model, or in a user's keys among theirs.
    missing_first, missing_last
        Codes that missing values get, at random: all below or all above the thresholds of this column.
    """

    feature: int
    missing_left: bool
    missing_first: int
    missing_last: int

    def codes(self, values: Float32) -> Words32:
        """uint32, of the shape of `values`."""
        return with_missing(values, self.missing_first, self.missing_last)


@dataclass(frozen=True)
class SetColumn:
    """A feature of categories, and how many of their codes the model tells apart."""

    feature: int
    categories: int

    @property
    def missing(self) -> int:
        return self.categories

    @property
    def unknown(self) -> int:
        return self.categories + 1

    @property
    def domain(self) -> int:
        """Number of places: the least power of two for all categories, missing and unknown."""
        return 1 << (self.categories + 1).bit_length()

    def codes(self, values: Float32) -> Words32:
        """uint32, of the shape of `values`; as XGBoost, a code with a fraction is cut, one below 0 is unknown."""
        absent = np.isnan(values)
        known = ~absent & (values >= 0) & (values < CATEGORY_LIMIT)
        codes = np.where(known, values, 0).astype(np.int64)
        codes = np.where(known & (codes < self.categories), codes, self.unknown)
        return np.where(absent, self.missing, codes).astype(np.uint32)
