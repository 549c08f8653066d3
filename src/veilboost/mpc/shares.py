"""Shared arrays: what a participant holds of values that nobody knows.

`Shared` is additive in Z_2^64: x = x_1 + ... + x_N. `SharedBits` is XOR: every bit of x is the XOR of the owners' bits,
64 bits to a word. `SharedLanes` is additive in Z_2^32, two elements to a word. Operators act on shares alone and cost
nothing; whatever costs a round is a function in `veilboost.mpc.protocols`.

The dealer runs the same public program without shares: its arrays are *hollow*, a shape and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from secrets import token_bytes
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.mpc.ring import WORD, Words, to_ring, words_for

Shape = tuple[int, ...]


def share(value: npt.ArrayLike, owners: int) -> list[Words]:
    """Split integers into additive shares: any `owners - 1` of them are uniformly random.

    Parameters
    ----------
    value
        Signed 64-bit integers of any shape.
    owners
        Number of shares, at least 1.

    Returns
    -------
    list of uint64 arrays
        One per owner, of the shape of `value`; they add up to `value` modulo 2^64.
    """
    secret = to_ring(value).reshape(np.shape(value))
    shares = [
        np.frombuffer(token_bytes(secret.size * WORD.itemsize), dtype=WORD).reshape(secret.shape)
        for _ in range(owners - 1)
    ]
    return [*shares, np.asarray(secret - sum(shares, np.zeros_like(secret)))]


def reveal(shares: Sequence[Words]) -> npt.NDArray[np.int64]:
    """The signed integers that all the shares add up to; the inverse of `share`."""
    total = np.zeros(np.shape(shares[0]), dtype=WORD)
    for one in shares:
        total = np.asarray(total + one)
    return total.view(np.int64)


class Shared:
    """One participant's additive share of an array of ring elements.

    Parameters
    ----------
    holder
        Position of this participant among the owners; owner 0 adds public constants. None at the dealer.
    words
        uint64 array, this participant's share; None where the array is hollow.
    shape
        Shape, given when `words` is None.
    """

    __slots__ = ("_words", "holder", "shape")
    __array_ufunc__ = None  # numpy arrays on the left defer to our operators

    def __init__(self, holder: int | None, words: Words | None, shape: Shape | None = None) -> None:
        self.holder = holder
        self._words = words
        self.shape: Shape = words.shape if words is not None else shape or ()

    def __repr__(self) -> str:
        return f"Shared(shape={self.shape}, redacted)"

    @property
    def hollow(self) -> bool:
        return self._words is None

    @property
    def words(self) -> Words:
        """This participant's share. It must only leave the process masked."""
        if self._words is None:
            raise ValueError("the dealer holds no shares")
        return self._words

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def _public(self, value: npt.ArrayLike) -> Words:
        return np.asarray(value) if _is_words(value) else to_ring(value)

    def __add__(self, other: Shared | npt.ArrayLike) -> Shared:
        if isinstance(other, Shared):
            if self._words is None or other._words is None:
                return self._like(np.broadcast_shapes(self.shape, other.shape))
            return Shared(self.holder, np.asarray(self._words + other._words))
        public = self._public(other)
        shape = np.broadcast_shapes(self.shape, public.shape)
        if self._words is None:
            return self._like(shape)
        if self.holder == 0:
            return Shared(self.holder, np.asarray(self._words + public))
        return Shared(self.holder, np.broadcast_to(self._words, shape))

    __radd__ = __add__

    def __neg__(self) -> Shared:
        return self if self._words is None else Shared(self.holder, np.asarray(np.negative(self._words)))

    def __sub__(self, other: Shared | npt.ArrayLike) -> Shared:
        if isinstance(other, Shared):
            if self._words is None or other._words is None:
                return self._like(np.broadcast_shapes(self.shape, other.shape))
            return Shared(self.holder, np.asarray(self._words - other._words))
        return self + np.negative(self._public(other))

    def __rsub__(self, other: npt.ArrayLike) -> Shared:
        return (-self) + other

    def __mul__(self, public: npt.ArrayLike) -> Shared:
        """Product with public integers."""
        factor = self._public(public)
        if self._words is None:
            return self._like(np.broadcast_shapes(self.shape, factor.shape))
        return Shared(self.holder, np.asarray(self._words * factor))

    __rmul__ = __mul__

    def __getitem__(self, index: Any) -> Shared:
        return self._map(lambda words: np.asarray(words[index]))

    def reshape(self, *shape: int) -> Shared:
        return self._map(lambda words: words.reshape(shape))

    def transpose(self) -> Shared:
        """Swap the last two axes."""
        if self._words is None:
            return self._like((*self.shape[:-2], self.shape[-1], self.shape[-2]))
        return Shared(self.holder, np.ascontiguousarray(np.swapaxes(self._words, -1, -2)))

    def broadcast_to(self, shape: Shape) -> Shared:
        return self._like(shape) if self._words is None else Shared(self.holder, np.broadcast_to(self._words, shape))

    def sum(self, axis: int) -> Shared:
        if self._words is None:
            kept = [size for position, size in enumerate(self.shape) if position != axis % len(self.shape)]
            return self._like(tuple(kept))
        return Shared(self.holder, np.asarray(self._words.sum(axis=axis, dtype=WORD)))

    def cumsum(self, axis: int) -> Shared:
        if self._words is None:
            return self
        return Shared(self.holder, np.cumsum(self._words, axis=axis, dtype=WORD))

    def _like(self, shape: Shape) -> Shared:
        return Shared(self.holder, None, shape)

    def _map(self, act: Callable[[Words], Words]) -> Shared:
        if self._words is None:
            return self._like(act(np.broadcast_to(np.zeros((), WORD), self.shape)).shape)
        return Shared(self.holder, act(self._words))


class SharedBits:
    """One participant's XOR share of packed bits.

    Elements have shape (..., count); words have shape (..., ceil(count / 64)). Padding bits are arbitrary.
    """

    __slots__ = ("_words", "count", "holder", "shape")

    def __init__(self, holder: int | None, words: Words | None, count: int, shape: Shape | None = None) -> None:
        self.holder = holder
        self._words = words
        self.count = count
        self.shape: Shape = words.shape if words is not None else shape or ()

    def __repr__(self) -> str:
        return f"SharedBits(shape={(*self.shape[:-1], self.count)}, redacted)"

    @property
    def hollow(self) -> bool:
        return self._words is None

    @property
    def words(self) -> Words:
        """This participant's share. It must only leave the process masked."""
        if self._words is None:
            raise ValueError("the dealer holds no shares")
        return self._words

    def __len__(self) -> int:
        return self.shape[0]

    def __xor__(self, other: SharedBits | Words) -> SharedBits:
        if self._words is None:
            return self._like(np.broadcast_shapes(self.shape, other.shape))
        if isinstance(other, SharedBits):
            return SharedBits(self.holder, np.asarray(self._words ^ other.words), self.count)
        if self.holder == 0:
            return SharedBits(self.holder, np.asarray(self._words ^ other), self.count)
        return self

    def __invert__(self) -> SharedBits:
        if self._words is None or self.holder != 0:
            return self
        return SharedBits(self.holder, ~self._words, self.count)

    def __and__(self, public: Words) -> SharedBits:
        if self._words is None:
            return self._like(np.broadcast_shapes(self.shape, public.shape))
        return SharedBits(self.holder, np.asarray(self._words & public), self.count)

    def __getitem__(self, index: Any) -> SharedBits:
        """Planes (leading axes) by index; the bits of a plane stay together."""
        if self._words is None:
            return self._like(np.broadcast_to(np.zeros((), WORD), self.shape)[index].shape)
        return SharedBits(self.holder, np.asarray(self._words[index]), self.count)

    def reshape(self, *planes: int) -> SharedBits:
        """Change the leading axes."""
        shape = (*planes, self.shape[-1])
        return (
            self._like(shape)
            if self._words is None
            else SharedBits(self.holder, self._words.reshape(shape), self.count)
        )

    def _like(self, shape: Shape) -> SharedBits:
        return SharedBits(self.holder, None, self.count, shape)


class SharedLanes:
    """One participant's additive share in Z_2^32 of a flat array, two elements to a word: half the traffic.

    A share modulo 2^64 becomes one modulo 2^32 by dropping its upper half.
    """

    __slots__ = ("_words", "count", "holder", "shape")

    def __init__(self, holder: int | None, words: Words | None, count: int) -> None:
        self.holder = holder
        self._words = words
        self.count = count
        self.shape: Shape = (-(-count // 2),)

    def __repr__(self) -> str:
        return f"SharedLanes(count={self.count}, redacted)"

    @classmethod
    def of(cls, value: Shared) -> SharedLanes:
        """The lower halves of an array, in C order."""
        if value.hollow:
            return cls(None, None, value.size)
        lanes = np.zeros(value.size + value.size % 2, dtype=np.uint32)
        lanes[: value.size] = value.words.reshape(-1)
        return cls(value.holder, lanes.view(WORD), value.size)

    @property
    def words(self) -> Words:
        """This participant's share. It must only leave the process masked."""
        if self._words is None:
            raise ValueError("the dealer holds no shares")
        return self._words


def lanes_to_words(words: Words, count: int) -> Words:
    """The `count` elements of packed lanes as words below 2^32."""
    return words.view(np.uint32)[:count].astype(WORD)


def concatenate(arrays: Sequence[Shared], axis: int = 0) -> Shared:
    """Join shared arrays along an axis."""
    first = arrays[0]
    if first.hollow:
        position = axis % len(first.shape)
        joined = sum(array.shape[position] for array in arrays)
        return Shared(first.holder, None, (*first.shape[:position], joined, *first.shape[position + 1 :]))
    return Shared(first.holder, np.concatenate([array.words for array in arrays], axis=axis))


def stack(arrays: Sequence[Shared], axis: int = 0) -> Shared:
    """Stack shared arrays of one shape along a new axis."""
    first = arrays[0]
    if first.hollow:
        shape = list(first.shape)
        shape.insert(axis % (len(shape) + 1), len(arrays))
        return Shared(first.holder, None, tuple(shape))
    return Shared(first.holder, np.stack([array.words for array in arrays], axis=axis))


def stack_planes(planes: Sequence[SharedBits]) -> SharedBits:
    """Join planes of bits along the first axis; each argument has shape (p, w)."""
    first = planes[0]
    if first.hollow:
        return SharedBits(first.holder, None, first.count, (sum(len(p) for p in planes), *first.shape[1:]))
    return SharedBits(first.holder, np.concatenate([p.words for p in planes]), first.count)


def stack_bits(planes: Sequence[SharedBits]) -> SharedBits:
    """Stack bits of one shape along a new first axis."""
    first = planes[0]
    if first.hollow:
        return SharedBits(first.holder, None, first.count, (len(planes), *first.shape))
    return SharedBits(first.holder, np.stack([plane.words for plane in planes]), first.count)


def bits_shape(count: int, *planes: int) -> Shape:
    """Shape in words of `count` bits in each of the given planes."""
    return (*planes, words_for(count))


def _is_words(value: object) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype == WORD
