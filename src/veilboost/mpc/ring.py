"""The ring Z_2^64 and its arrays: the one place that names dtypes.

All arithmetic on `Words` wraps modulo 2^64, which numpy does for arrays of uint64. Signed values are two's complement.
"""

import numpy as np
import numpy.typing as npt

WORD = np.dtype("<u8")
WORD_BITS = 64

#: uint64 array: ring elements, or machine words of 64 packed bits (bit i of word w is element 64 w + i).
Words = npt.NDArray[np.uint64]


def words_for(bits: int) -> int:
    """Machine words that hold `bits` packed bits."""
    return -(-bits // WORD_BITS)


def to_ring(values: npt.ArrayLike) -> Words:
    """Signed integers (int64) as ring elements."""
    return np.ascontiguousarray(np.asarray(values, dtype=np.int64)).view(WORD)


def to_signed(words: Words) -> npt.NDArray[np.int64]:
    """Ring elements as signed integers in [-2^63, 2^63)."""
    return words.view(np.int64)


def pack_bits(bits: npt.NDArray[np.bool_]) -> Words:
    """Booleans of shape (..., count) as words of shape (..., ceil(count / 64)); the padding is zero."""
    count = bits.shape[-1]
    padding = [(0, 0)] * (bits.ndim - 1) + [(0, words_for(count) * WORD_BITS - count)]
    packed = np.packbits(np.pad(bits, padding), axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view(WORD)


def unpack_bits(words: Words, count: int) -> npt.NDArray[np.uint8]:
    """The first `count` bits of words of shape (..., w), as 0 and 1 of shape (..., count)."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=count, bitorder="little")
