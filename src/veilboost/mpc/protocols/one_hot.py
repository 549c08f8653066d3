"""Shared indices as one-hot bits, and shared tables looked up with them.

docs/protocols/one-hot.md; the rotated table of Y. Ishai, E. Kushilevitz, S. Meldgaard, C. Orlandi, A.
Paskin-Cherniavsky, "On the power of correlated randomness in secure computation", TCC 2013.
"""

from __future__ import annotations

import numpy as np

from veilboost.mpc.correlations import Correlation, bits_field, ring_field
from veilboost.mpc.protocols.multiply import conjunction
from veilboost.mpc.ring import Words, pack_bits, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits


def one_hot(session: Session, index: Shared, size: int) -> SharedBits:
    """Planes (count, size) with a single 1 where the index points, for shared indices 0 <= i < size. One round.

    Parameters
    ----------
    index
        Shape (count,).
    size
        Public.

    Notes
    -----
    1. With K the least power of two >= size, the dealer shares a uniform r and the one-hot bits of -r mod K.
    2. All owners open c = i + r and rotate the one-hot bits by c mod K: the 1 moves to i.
    """
    count = index.size
    width = 1 << max(6, (size - 1).bit_length())

    def derive(r: Words) -> list[Words]:
        table = np.zeros((count, width), dtype=np.bool_)
        table[np.arange(count), (np.negative(r) % np.uint64(width)).astype(np.int64)] = True
        return [pack_bits(table)]

    dealt = session.correlate(
        Correlation("one-hot", masks=[ring_field(count)], derived=[bits_field(width, count)], derive=derive)
    )
    if session.dealing:
        return SharedBits(None, None, size, (count, -(-size // 64)))
    (opened,) = session.open_masked((index, dealt.ring_mask(0)))
    table = unpack_bits(dealt.bits(0).words, width)
    source = (np.arange(size) - (opened % np.uint64(width)).astype(np.int64)[:, None]) % width
    rotated = np.take_along_axis(table, source, axis=1)
    return SharedBits(session.holder, pack_bits(rotated.view(np.bool_)), size)


def parity(bits: SharedBits) -> SharedBits:
    """XOR over the elements of every plane: shape (planes, count) becomes one plane of `planes` bits."""
    planes = bits.shape[0]
    if bits.hollow:
        return SharedBits(bits.holder, None, planes, (-(-planes // 64),))
    odd = unpack_bits(bits.words, bits.count).sum(axis=-1, dtype=np.int64) & 1
    return SharedBits(bits.holder, pack_bits(odd.astype(np.bool_)), planes)


def look_up(session: Session, rows: SharedBits, table: SharedBits) -> SharedBits:
    """Read a shared table of words with shared one-hot rows. One round.

    Parameters
    ----------
    rows
        One-hot (or zero) planes (count, size).
    table
        Planes (width, size): bit b of every entry.

    Returns
    -------
    SharedBits
        One plane of count * width bits: bit b of row i's entry at i * width + b; zero where the row is.
    """
    count, width = len(rows), len(table)
    left = rows[np.repeat(np.arange(count), width)]
    right = table[np.tile(np.arange(width), count)]
    return parity(conjunction(session, left, right))
