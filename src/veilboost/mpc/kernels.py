"""Compiled kernels of the engine; together with trees/kernels.py the only importers of numba.

Every kernel has an explicit signature, releases the GIL and is cached on disk, so that a new process loads machine
code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from veilboost.mpc.ring import WORD, Words, words_for

Slots = npt.NDArray[np.uint32]
Bins = npt.NDArray[np.uint16]
Starts = npt.NDArray[np.int64]
Table = npt.NDArray[np.unsignedinteger[Any]]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(*signatures: str) -> Callable[[Kernel], Kernel]:
    """Compile a kernel for the given argument types when the module is loaded, or load it from the cache."""

    def decorate(kernel: Kernel) -> Kernel:
        try:
            return cast(Kernel, numba.njit(list(signatures), cache=True, nogil=True)(kernel))
        except RuntimeError:  # nowhere to keep a cache: neither the installation nor the home folder can be written
            return cast(Kernel, numba.njit(list(signatures), nogil=True)(kernel))

    return decorate


@compiled("void(uint64[::1], uint64[:, ::1])")
def _transpose(words: Words, planes: Words) -> None:
    width, count = planes.shape[0], words.shape[0]
    block = np.zeros(64, dtype=np.uint64)
    for column in range(planes.shape[1]):
        start = column * 64
        for row in range(64):
            block[row] = words[start + row] if start + row < count else np.uint64(0)
        # Swap ever smaller squares of bits off the diagonal (Warren, Hacker's Delight, section 7-3).
        step = np.uint64(32)
        mask = np.uint64(0x00000000FFFFFFFF)
        while step != np.uint64(0):
            place = np.uint64(0)
            while place < np.uint64(64):
                swap = ((block[place] >> step) ^ block[place + step]) & mask
                block[place] ^= swap << step
                block[place + step] ^= swap
                place = (place + step + np.uint64(1)) & ~step
            step >>= np.uint64(1)
            mask ^= mask << step
        for plane in range(width):
            planes[plane, column] = block[plane]


def transpose_bits(words: Words, width: int) -> Words:
    """Planes (width, ceil(count / 64)) of words (count,): bit i of word 64 w + k becomes bit k of planes[i, w]."""
    planes = np.empty((width, words_for(words.size)), dtype=WORD)
    _transpose(np.ascontiguousarray(words), planes)
    return planes


@compiled("void(uint64[:, ::1], uint64[::1])")
def _gather(planes: Words, words: Words) -> None:
    for plane in range(planes.shape[0]):
        bit = np.uint64(plane)
        for position in range(words.shape[0]):
            element = (planes[plane, position >> 6] >> np.uint64(position & 63)) & np.uint64(1)
            words[position] |= element << bit


def gather_words(planes: Words, count: int) -> Words:
    """The inverse of `transpose_bits`: words (count,) whose bit i is element of planes[i]; at most 64 planes."""
    words = np.zeros(count, dtype=WORD)
    _gather(np.ascontiguousarray(planes), words)
    return words


@compiled("int64(uint64[::1], uint32[::1])")
def _shuffle(random_words: Words, permutation: Slots) -> int:
    size = permutation.shape[0]
    for position in range(size):
        permutation[position] = position
    drawn = 0
    for position in range(size - 1, 0, -1):
        # Lemire's exact method: the high half of word * bound, rejecting the few words that would make it uneven.
        bound = np.uint64(position + 1)
        while True:
            if drawn == random_words.shape[0]:
                return -1
            word = random_words[drawn]
            drawn += 1
            low_product = (word & np.uint64(0xFFFFFFFF)) * bound
            middle = (word >> np.uint64(32)) * bound + (low_product >> np.uint64(32))
            low_half = (middle << np.uint64(32)) | (low_product & np.uint64(0xFFFFFFFF))
            if low_half >= bound or low_half >= (np.uint64(0) - bound) % bound:
                break
        other = middle >> np.uint64(32)
        moved = permutation[position]
        permutation[position] = permutation[other]
        permutation[other] = moved
    return drawn


#: Words beyond one per element that a shuffle may reject; more are needed with a probability below 2^-1000.
SHUFFLE_SPARE = 64


def shuffle(random_words: Words, size: int) -> Slots:
    """A uniformly random permutation of `size` elements from size + SHUFFLE_SPARE uniform words (Fisher-Yates)."""
    permutation = np.empty(size, dtype=np.uint32)
    if _shuffle(random_words, permutation) < 0:
        raise RuntimeError("the random words for a shuffle ran out, which has a negligible probability")
    return permutation


@compiled("void(uint64[:, ::1], uint16[::1], int64[::1], int64[::1], uint64[:, ::1])")
def add_slots(values: Words, slot_bins: Bins, slot_starts: Starts, bin_starts: Starts, sums: Words) -> None:
    """sums[bin_starts[f] + slot_bins[s]] += values[s] for the slots s of every feature f; rows of vectors."""
    width = values.shape[1]
    for feature in range(bin_starts.shape[0]):
        base = bin_starts[feature]
        for slot in range(slot_starts[feature], slot_starts[feature + 1]):
            target = base + slot_bins[slot]
            for column in range(width):
                sums[target, column] += values[slot, column]


@compiled("void(uint64[:, ::1], uint16[:, ::1], int64[::1], uint64[:, ::1])")
def add_rows(values: Words, row_bins: Bins, bin_starts: Starts, sums: Words) -> None:
    """sums[bin_starts[f] + row_bins[f, i]] += values[i] for all rows i of every feature f."""
    rows, width = values.shape
    for feature in range(row_bins.shape[0]):
        base = bin_starts[feature]
        for row in range(rows):
            target = base + row_bins[feature, row]
            for column in range(width):
                sums[target, column] += values[row, column]


@compiled("void(uint64[:, ::1], uint32[::1], uint64[:, ::1])")
def subtract_from_gathered(values: Words, rows: Slots, slots: Words) -> None:
    """slots[s] = values[rows[s]] - slots[s]: reads at random places, writes in order, which caches like best."""
    width = values.shape[1]
    if width == 1:
        for slot in range(rows.shape[0]):
            slots[slot, 0] = values[rows[slot], 0] - slots[slot, 0]
        return
    whole = width - width % 4
    for slot in range(rows.shape[0]):
        row = rows[slot]
        for column in range(0, whole, 4):
            slots[slot, column] = values[row, column] - slots[slot, column]
            slots[slot, column + 1] = values[row, column + 1] - slots[slot, column + 1]
            slots[slot, column + 2] = values[row, column + 2] - slots[slot, column + 2]
            slots[slot, column + 3] = values[row, column + 3] - slots[slot, column + 3]
        for column in range(whole, width):
            slots[slot, column] = values[row, column] - slots[slot, column]


_TABLES = ("uint8", "uint16", "uint32", "uint64")


@compiled(*(f"void({t}[::1], uint32[:, ::1], int64[::1], {t}[::1])" for t in _TABLES))
def xor_permuted(slots: Table, places: Slots, slot_starts: Starts, rows: Table) -> None:
    """rows[i] ^= slots[slot_starts[f] + places[f, i]], for all features f."""
    for feature in range(places.shape[0]):
        base = slot_starts[feature]
        for row in range(rows.shape[0]):
            rows[row] ^= slots[base + places[feature, row]]


@compiled(*(f"void({t}[::1], uint32[::1], {t}[::1])" for t in _TABLES))
def xor_scattered(slots: Table, rows: Slots, sums: Table) -> None:
    """sums[rows[s]] ^= slots[s]."""
    for slot in range(rows.shape[0]):
        sums[rows[slot]] ^= slots[slot]


@compiled(*(f"void({t}[::1], uint16[:, ::1], int64[::1], {t}[::1])" for t in _TABLES))
def xor_rows(table: Table, row_bins: Bins, bin_starts: Starts, rows: Table) -> None:
    """rows[i] ^= table[bin_starts[f] + row_bins[f, i]], for all features f."""
    for feature in range(row_bins.shape[0]):
        base = bin_starts[feature]
        for row in range(rows.shape[0]):
            rows[row] ^= table[base + row_bins[feature, row]]


@compiled(*(f"void({t}[::1], uint16[::1], int64[::1], int64[::1], {t}[::1])" for t in _TABLES))
def xor_slots(table: Table, slot_bins: Bins, slot_starts: Starts, bin_starts: Starts, slots: Table) -> None:
    """slots[s] ^= table[bin_starts[f] + slot_bins[s]] for the slots s of every feature f."""
    for feature in range(bin_starts.shape[0]):
        base = bin_starts[feature]
        for slot in range(slot_starts[feature], slot_starts[feature + 1]):
            slots[slot] ^= table[base + slot_bins[slot]]


@compiled("void(uint64[:, :, ::1], uint64[:, :, ::1], uint64[:, :, ::1], int64[::1], int64[::1], uint64[:, :, ::1])")
def cross_products(opened: Words, own: Words, masks: Words, earlier: Starts, later: Starts, products: Words) -> None:
    """products[a, k] += x[a, i] d[j] - x[a, j] d[i] for i, j = earlier[k], later[k], d the last of x and a all others.

    With x opened as o = x + m and `own` a share of x: a share of x y is o_x own_y - o_y m_x, plus one of m_x m_y.
    """
    last = products.shape[0]
    for limb in range(last):
        for pair in range(earlier.shape[0]):
            i, j = earlier[pair], later[pair]
            for k in range(opened.shape[2]):
                forth = opened[limb, i, k] * own[last, j, k] - opened[last, j, k] * masks[limb, i, k]
                back = opened[limb, j, k] * own[last, i, k] - opened[last, i, k] * masks[limb, j, k]
                products[limb, pair, k] += forth - back


@compiled("void(uint64[::1], int64[:, ::1], uint64[:, ::1], uint64[:, ::1])")
def add_dense(matrix: Words, blocks: Starts, values: Words, sums: Words) -> None:
    """sums += matrix^T values, block by block.

    Every row of `blocks` is (first row, rows, columns, first column, first matrix element).
    """
    width = values.shape[1]
    for block in range(blocks.shape[0]):
        first_row, rows, columns, first_column, element = blocks[block]
        for row in range(first_row, first_row + rows):
            for column in range(first_column, first_column + columns):
                entry = matrix[element]
                element += 1
                for vector in range(width):
                    sums[column, vector] += entry * values[row, vector]


@compiled(*(f"void(uint64[::1], int64[:, ::1], {t}[::1], {t}[::1])" for t in _TABLES))
def xor_dense(matrix: Words, blocks: Starts, table: Table, rows_out: Table) -> None:
    """rows_out[row] ^= XOR of table[column] over the odd entries of the matrix; blocks as in `add_dense`."""
    for block in range(blocks.shape[0]):
        first_row, rows, columns, first_column, element = blocks[block]
        for row in range(first_row, first_row + rows):
            for column in range(first_column, first_column + columns):
                if matrix[element] & np.uint64(1):
                    rows_out[row] ^= table[column]
                element += 1


def joint_masks(masks: Words, terms: Starts, subsets: Starts) -> Words:
    """ANDs of the masks of each subset of each term's factors, shape (subsets, terms, words); see `multiply`."""
    joint = np.empty((len(subsets), len(terms), masks.shape[1]), dtype=WORD)
    _joint_masks(masks, terms, subsets, joint)
    return joint


def joint_products(opened: Words, own: Words, joint: Words, terms: Starts, subsets: Starts, first: bool) -> Words:
    """One owner's share of the AND of each term's factors, shape (terms, words); see `multiply.conjunctions`."""
    words = np.empty((len(terms), opened.shape[1]), dtype=WORD)
    _joint_products(opened, own, joint, terms, subsets, first, words)
    return words


@compiled("void(uint64[:, ::1], int64[:, ::1], int64[::1], uint64[:, :, ::1])")
def _joint_masks(masks: Words, terms: Starts, subsets: Starts, joint: Words) -> None:
    for position in range(subsets.shape[0]):
        subset = subsets[position]
        for term in range(terms.shape[0]):
            for word in range(masks.shape[1]):
                product = ~np.uint64(0)
                for factor in range(terms.shape[1]):
                    if (subset >> factor) & 1:
                        product &= masks[terms[term, factor], word]
                joint[position, term, word] = product


@compiled("void(uint64[:, ::1], uint64[:, ::1], uint64[:, :, ::1], int64[:, ::1], int64[::1], boolean, uint64[:, ::1])")
def _joint_products(
    opened: Words, own: Words, joint: Words, terms: Starts, subsets: Starts, first: bool, words: Words
) -> None:
    factors = terms.shape[1]
    whole = (1 << factors) - 1
    outside = np.empty(whole + 1, dtype=np.uint64)  # by set of factors, the AND of what is opened of them
    for term in range(terms.shape[0]):
        for word in range(words.shape[1]):
            outside[0] = ~np.uint64(0)
            for factor in range(factors):
                plane = opened[terms[term, factor], word]
                for subset in range(1 << factor):
                    outside[subset | (1 << factor)] = outside[subset] & plane
            total = outside[whole] if first else np.uint64(0)
            for factor in range(factors):
                total ^= own[terms[term, factor], word] & outside[whole ^ (1 << factor)]
            for position in range(subsets.shape[0]):
                total ^= joint[position, term, word] & outside[whole ^ subsets[position]]
            words[term, word] = total
