"""Order-revealing encryption of Lewi and Wu [LW16, section 4].

A left ciphertext, from a query, is compared with a right one, of a threshold; two right ones cannot be compared with
each other. A value of 32 bits is 4 blocks of 8. Under the prefix before it, a block with the value b stands at place
P(b), for a pseudorandom permutation P of 256 places. The left ciphertext of x has, for each block, its place and a key
F(prefix, place). The right ciphertext of y has a nonce r and, for each block, a table of 256 entries: at place P(b) the
outcome of comparing b with y's block, 0, 1 or 2, plus H(F(prefix, P(b)), r) modulo 3. So of every table one entry can
be read; in the first block where x and y differ it tells which is smaller, before that it is 0, and behind it, where
prefixes differ, it says nothing.

`membership_*` are their scheme for small domains [LW16, section 3] with another function in the table: whether a
category is in a set.

Instances: F and the order behind P are AES-256 under keys of their own; columns are told apart by their number in the
input. H is TMMO [GKWY20, section 7.4]: H(k, r) = f(f(k) + r) + f(k), + bitwise, with AES-128 under a public key for f.
Page: docs/protocols/ore.md.

[LW16]: K. Lewi, D. Wu, "Order-revealing encryption: new constructions, applications, and lower bounds", CCS 2016
[GKWY20]: C. Guo, J. Katz, X. Wang, Y. Yu, "Efficient and secure multiparty computation from fixed-key block ciphers",
IEEE S&P 2020
"""

from dataclasses import dataclass
from hashlib import sha256
from secrets import token_bytes
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from veilboost.mpc.prg import derive_key

BLOCKS: Final = 4
BLOCK_BITS: Final = 8
PLACES: Final = 1 << BLOCK_BITS
TABLE_BYTES: Final = PLACES // 4  # two bits an entry
KEY_BYTES: Final = 16  # of F's values, which are keys of H
NONCE_BYTES: Final = 16

#: Entries of the table for x < y, x = y, x > y.
SMALLER: Final = 1
EQUAL: Final = 0
LARGER: Final = 2

_LOW_BITS: Final = np.uint8(0b01010101)  # the lower bit of each entry
_ENTRY_SHIFTS: Final = np.array([0, 2, 4, 6], dtype=np.uint8)  # four entries to a byte

_AES_BLOCK: Final = 16

#: The key of f: public, without a structure that could have been chosen.
_PUBLIC_PERMUTATION: Final = sha256(b"veilboost public permutation").digest()[:_AES_BLOCK]

_AT_ONCE: Final = 1 << 18  # table entries that are computed at a time; bounds the memory

_ORDER, _CATEGORY = 0, 1  # in the input of F: what the table is for

Octets = npt.NDArray[np.uint8]
Words32 = npt.NDArray[np.uint32]
Words64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class LeftCiphertexts:
    """Values of a query.

    Attributes
    ----------
    keys
        uint8, shape (..., BLOCKS, KEY_BYTES): F of prefix and place.
    places
        uint8, shape (..., BLOCKS).
    """

    keys: Octets
    places: Octets


@dataclass(frozen=True)
class RightCiphertexts:
    """Thresholds.

    Attributes
    ----------
    nonces
        uint8, shape (count, NONCE_BYTES).
    tables
        uint8, shape (count, BLOCKS, TABLE_BYTES): entry i in bits 2 (i mod 4) and above of byte i // 4.
    """

    nonces: Octets
    tables: Octets

    @property
    def valid(self) -> bool:
        """Whether all entries are 0, 1 or 2."""
        return not np.any(self.tables & (self.tables >> 1) & _LOW_BITS)


class OrderRevealing:
    """The secret key of one user; the proxy has it while it makes the model, the user's keys hold it.

    Parameters
    ----------
    key
        32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._keys = derive_key(key, b"lewi-wu keys")
        self._orders = derive_key(key, b"lewi-wu permutations")

    def __repr__(self) -> str:
        return "OrderRevealing(redacted)"

    def left(self, columns: Words32, values: Words32) -> LeftCiphertexts:
        """Encrypt values of a query.

        Parameters
        ----------
        columns
            uint32, shape (columns,): their numbers; values of different columns are under independent functions.
        values
            uint32, shape (rows, columns).
        """
        rows, width = values.shape
        keys = np.empty((rows, width, BLOCKS, KEY_BYTES), dtype=np.uint8)
        places = np.empty((rows, width, BLOCKS), dtype=np.uint8)
        step = max(1, _AT_ONCE // (PLACES * BLOCKS * max(1, width)))
        numbers = np.arange(BLOCKS, dtype=np.uint32)
        for start in range(0, rows, step):
            some = slice(start, start + step)
            prefixes, blocks = _blocks(values[some])
            column = columns[:, np.newaxis]
            order = self._order(_ORDER, column, numbers, prefixes, PLACES)
            places[some] = _rank(order, blocks)
            keys[some] = self._function(_ORDER, column, numbers, prefixes, places[some])
        return LeftCiphertexts(keys, places)

    def right(self, columns: Words32, values: Words32) -> RightCiphertexts:
        """Encrypt thresholds, each with a nonce of its own.

        Parameters
        ----------
        columns, values
            uint32, shape (count,): the column of each threshold, and the threshold.
        """
        count = len(values)
        nonces = _fresh_nonces(count)
        tables = np.empty((count, BLOCKS, TABLE_BYTES), dtype=np.uint8)
        prefixes, blocks = _blocks(values)
        step = max(1, _AT_ONCE // PLACES)
        places = np.arange(PLACES, dtype=np.uint32)
        for number in range(BLOCKS):
            pairs, which = np.unique(
                np.stack([columns, prefixes[:, number]], axis=1), axis=0, return_inverse=True
            )  # thresholds under the same prefix share permutation and keys
            which = which.ravel()
            by_pair = np.argsort(which, kind="stable")
            for start in range(0, count, step):
                some = by_pair[start : start + step]
                first, last = which[some[0]], which[some[-1]] + 1
                column, prefix = pairs[first:last, :1], pairs[first:last, 1:]
                at = which[some] - first
                order = self._order(_ORDER, column[:, 0], number, prefix[:, 0], PLACES)
                standing = np.argsort(order, axis=-1, kind="stable")  # which value stands at each place
                keys = self._function(_ORDER, column, number, prefix, places)
                masks = hashes(permuted(keys)[at], nonces[some, np.newaxis]) % np.uint64(3)
                own = blocks[some, number, np.newaxis]
                outcome = np.where(standing[at] < own, SMALLER, np.where(standing[at] > own, LARGER, EQUAL))
                entries = ((outcome + masks.astype(np.uint8)) % 3).astype(np.uint8).reshape(-1, TABLE_BYTES, 4)
                tables[some, number] = np.bitwise_or.reduce(entries << _ENTRY_SHIFTS, axis=-1)
        return RightCiphertexts(nonces, tables)

    def membership_left(self, column: int, codes: Words32, domain: int) -> tuple[Octets, Words32]:
        """Encrypt categories of a query.

        Parameters
        ----------
        codes
            uint32, shape (rows,), below `domain`.
        domain
            How many categories there are, those for "missing" and "unknown" included; even.

        Returns
        -------
        keys
            uint8, shape (rows, KEY_BYTES).
        places
            uint32, shape (rows,).
        """
        order = self._order(_CATEGORY, np.array([column], dtype=np.uint32), 0, 0, domain)[0]
        places = np.argsort(np.argsort(order, kind="stable"), kind="stable")[codes].astype(np.uint32)
        return self._function(_CATEGORY, column, 0, 0, places), places

    def membership_right(self, column: int, members: npt.NDArray[np.bool_]) -> tuple[Octets, Octets]:
        """Encrypt sets of categories, each with a nonce of its own.

        Parameters
        ----------
        members
            bool, shape (count, domain).

        Returns
        -------
        nonces
            uint8, shape (count, NONCE_BYTES).
        tables
            uint8, shape (count, ceil(domain / 8)): the bit of place i in bit i mod 8 of byte i // 8.
        """
        count, domain = members.shape
        nonces = _fresh_nonces(count)
        order = self._order(_CATEGORY, np.array([column], dtype=np.uint32), 0, 0, domain)[0]
        standing = np.argsort(order, kind="stable")
        keys = permuted(self._function(_CATEGORY, column, 0, 0, np.arange(domain, dtype=np.uint32)))
        tables = np.empty((count, -(-domain // 8)), dtype=np.uint8)
        step = max(1, _AT_ONCE // domain)
        for start in range(0, count, step):
            some = slice(start, start + step)
            masks = hashes(keys, nonces[some, np.newaxis]) & np.uint64(1)
            bits = members[some][:, standing] ^ masks.astype(np.bool_)
            tables[some] = np.packbits(bits, axis=-1, bitorder="little")
        return nonces, tables

    def _function(
        self, use: int, column: npt.ArrayLike, block: npt.ArrayLike, prefix: npt.ArrayLike, index: npt.ArrayLike
    ) -> Octets:
        """F: uint8, shape (..., KEY_BYTES) of arguments that are broadcast."""
        return _encrypted(self._keys, _inputs(use, column, block, prefix, index))

    def _order(
        self, use: int, column: npt.ArrayLike, block: npt.ArrayLike, prefix: npt.ArrayLike, domain: int
    ) -> Words64:
        """Random numbers, uint64, shape (..., domain), whose order is the permutation: the rank of each is its place.

        Equal ones, of which there are some with a probability below domain^2 / 2^65, keep their order.
        """
        arguments = [np.expand_dims(np.asarray(given), -1) for given in (column, block, prefix)]
        inputs = _inputs(use, *arguments, np.arange(domain // 2, dtype=np.uint32))
        numbers = _encrypted(self._orders, inputs).view(np.uint64)
        return numbers.reshape(*numbers.shape[:-2], domain)


def permuted(keys: Octets) -> Octets:
    """f of keys of H, of their shape: the part of H that nonces share."""
    return _encrypted(_PUBLIC_PERMUTATION, np.ascontiguousarray(keys))


def hashes(permuted_keys: Octets, nonces: Octets) -> Words64:
    """H of keys and nonces, 64 bits of it, uint64; shapes are broadcast, the last axis of both has 16 bytes."""
    keys, others = _as_words(permuted_keys), _as_words(nonces)
    hashed = _as_words(_encrypted(_PUBLIC_PERMUTATION, (keys ^ others).view(np.uint8)))
    return hashed[..., 0] ^ keys[..., 0]


def _fresh_nonces(count: int) -> Octets:
    return np.frombuffer(token_bytes(count * NONCE_BYTES), dtype=np.uint8).reshape(count, NONCE_BYTES)


def _blocks(values: Words32) -> tuple[Words32, Octets]:
    """What stands before each block, and the block; shape (..., BLOCKS), the highest bits first."""
    shifts = np.arange(32 - BLOCK_BITS, -1, -BLOCK_BITS, dtype=np.uint64)
    wide = values[..., np.newaxis].astype(np.uint64)
    prefixes = (wide >> (shifts + np.uint64(BLOCK_BITS))).astype(np.uint32)
    return prefixes, (wide >> shifts).astype(np.uint8)  # the lowest 8 bits


def _rank(order: Words64, values: Octets) -> Octets:
    """The place of one value among the random numbers of all; order (..., PLACES), values (...)."""
    own = np.take_along_axis(order, values[..., np.newaxis].astype(np.int64), axis=-1)
    ties_before = (order == own) & (np.arange(PLACES) < values[..., np.newaxis])
    places: Octets = ((order < own) | ties_before).sum(axis=-1).astype(np.uint8)
    return places


def _inputs(use: int, *arguments: npt.ArrayLike) -> Octets:
    """Blocks of AES, uint8, shape (..., 16): column, block and use, prefix, index, 32 bits each."""
    column, block, prefix, index = np.broadcast_arrays(*(np.asarray(given, dtype=np.uint32) for given in arguments))
    words: Words32 = np.empty((*column.shape, 4), dtype="<u4")
    words[..., 0], words[..., 1], words[..., 2], words[..., 3] = column, block << 8 | use, prefix, index
    return words.view(np.uint8)


def _as_words(octets: Octets) -> Words64:
    return np.ascontiguousarray(octets).view("<u8")


def _encrypted(key: bytes, blocks: Octets) -> Octets:
    """AES of each block by itself: a pseudorandom function of inputs that all differ."""
    data = np.ascontiguousarray(blocks)
    out = np.empty(data.size + _AES_BLOCK, dtype=np.uint8)
    if data.size:
        Cipher(algorithms.AES(key), modes.ECB()).encryptor().update_into(data.data.cast("B"), out.data)
    encrypted: Octets = out[: data.size].reshape(blocks.shape)
    return encrypted
