"""Numbers as unsigned integers of the same order: what the comparison schemes encrypt.

A float32 is a sign and a magnitude. With the sign flipped, or all bits of a negative number, its 32 bits are an
unsigned integer that is smaller exactly where the number is. Both zeros get the code of 0.0, as they are equal. The
codes of NaNs lie outside those of the infinities; two of them stand for a missing value, one below every number and one
above.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

#: Codes of a missing value: a node with default left takes the first for smaller than any threshold, and a node with
#: default right the second for larger.
MISSING_BELOW: Final = np.uint32(0)
MISSING_ABOVE: Final = np.uint32(0xFFFF_FFFF)

_SIGN: Final = np.uint32(0x8000_0000)


def to_codes(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Codes of float32 numbers, infinities included; uint32, of the shape of `values`.

    x < y exactly where the code of x is smaller than that of y. NaN has no code: whoever calls replaces it.
    """
    bits = np.ascontiguousarray(values + np.float32(0.0)).view(np.uint32)  # -0.0 becomes 0.0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def with_missing(values: npt.NDArray[np.float32], missing: np.uint32) -> npt.NDArray[np.uint32]:
    """`to_codes`, with `missing` in the place of NaN."""
    absent = np.isnan(values)
    return np.where(absent, missing, to_codes(np.where(absent, np.float32(0), values)))
