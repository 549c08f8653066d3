"""Numbers as unsigned integers of the same order: what the comparison schemes encrypt.

A float32 is a sign and a magnitude. With the sign flipped, or all bits of a negative number, its 32 bits are an
unsigned integer that is smaller exactly where the number is. Both zeros get the code of 0.0, as they are equal.

A missing value must be smaller, or larger, than all thresholds that it meets, and look like any other value. So it gets
a random code from a range just beyond them, about as wide as thresholds are apart.
"""

from secrets import token_bytes
from typing import Final

import numpy as np
import numpy.typing as npt

#: Width of the range of missing codes for a single threshold: a sixteenth of the numbers between two powers of two.
_LONE_WIDTH: Final = 1 << 19

_LAST: Final = 0xFFFF_FFFF

_SIGN: Final = np.uint32(0x8000_0000)


def to_codes(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Codes of float32 numbers, infinities included; uint32, of the shape of `values`.

    x < y exactly where the code of x is smaller than that of y. NaN has no code: whoever calls replaces it.
    """
    bits = np.ascontiguousarray(values + np.float32(0.0)).view(np.uint32)  # -0.0 becomes 0.0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def missing_codes(thresholds: npt.NDArray[np.uint32], below: bool) -> tuple[int, int]:
    """The first and the last code that a missing value may get: just below all thresholds, or just above.

    Parameters
    ----------
    thresholds
        uint32, shape (count,), at least one: codes of numbers. Beyond those of the infinities there are codes left.
    """
    least, most = int(thresholds.min()), int(thresholds.max())
    different = len(np.unique(thresholds))
    width = max(1, (most - least) // (different - 1)) if different > 1 else _LONE_WIDTH
    return (max(0, least - width), least - 1) if below else (most + 1, min(_LAST, most + width))


def with_missing(values: npt.NDArray[np.float32], first: int, last: int) -> npt.NDArray[np.uint32]:
    """`to_codes`, with a random code from `first` to `last` in the place of each NaN."""
    absent = np.isnan(values)
    codes = to_codes(np.where(absent, np.float32(0), values))
    drawn = np.frombuffer(token_bytes(8 * int(np.count_nonzero(absent))), dtype=np.uint64)
    codes[absent] = np.uint64(first) + drawn % np.uint64(last - first + 1)  # misses uniform by less than 2^-32
    return codes
