"""Real numbers as ring elements: x is stored as round(x 2^fraction_bits) in two's complement."""

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.mpc.ring import Words, to_ring, to_signed

#: Values outside +-2^62 cannot be truncated; see protocols/truncate.py.
LARGEST_BITS = 62


def encode(values: npt.ArrayLike, fraction_bits: int) -> Words:
    """Fixed-point ring elements of finite reals.

    Raises
    ------
    InputError
        When a value is not finite or its magnitude reaches 2^(62 - fraction_bits).
    """
    reals = np.asarray(values, dtype=np.float64)
    limit = 2.0 ** (LARGEST_BITS - fraction_bits)
    if not bool(np.all(np.abs(reals) < limit)):  # NaN fails too
        raise InputError(
            f"a value does not fit fixed point with {fraction_bits} fraction bits: keep it below {limit:g}"
        )
    return to_ring(np.rint(reals * 2.0**fraction_bits).astype(np.int64))


def decode(words: Words, fraction_bits: int) -> npt.NDArray[np.float64]:
    """Reals of fixed-point ring elements."""
    return to_signed(words).astype(np.float64) / 2.0**fraction_bits
