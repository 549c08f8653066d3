"""Correlated randomness: what the dealer prepares for one protocol step.

A `Correlation` is a public recipe. Its *masks* are uniformly random: every owner expands its own share from the stream
that it has in common with the dealer, and nobody but the dealer knows the sum. Its *derived* arrays are functions of
the masks: all owners but one expand their shares in the same way, and the dealer sends the remaining owner (the
correction's receiver, who changes from correlation to correlation) the share that makes the function hold.

Each protocol defines its own recipes, next to its steps. A mask may be opened against once; see `Mask`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

import numpy as np

from veilboost.errors import MaskReuseError
from veilboost.mpc.ring import WORD, Words
from veilboost.mpc.shares import Shape, Shared, SharedBits, SharedLanes

Holding = TypeVar("Holding", bound=Shared | SharedBits | SharedLanes)


class Domain(Enum):
    """How an array is shared."""

    RING = "ring"  # additive in Z_2^64
    BITS = "bits"  # XOR of packed words
    LANES = "lanes"  # additive in Z_2^32, two elements to a word

    def combine(self, left: Words, right: Words) -> Words:
        """Sum or XOR of two shares."""
        if self is Domain.LANES:
            return np.asarray(left.view(np.uint32) + right.view(np.uint32)).view(WORD)
        return np.asarray(left + right if self is Domain.RING else left ^ right)

    def remove(self, left: Words, right: Words) -> Words:
        """`left` without the share `right`."""
        if self is Domain.LANES:
            return np.asarray(left.view(np.uint32) - right.view(np.uint32)).view(WORD)
        return np.asarray(left - right if self is Domain.RING else left ^ right)


@dataclass(frozen=True)
class Field:
    """One array of a correlation.

    Attributes
    ----------
    domain
        How it is shared.
    shape
        Shape in words.
    count
        For bits: number of bits in the last axis; for lanes: number of elements.
    """

    domain: Domain
    shape: Shape
    count: int = 0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def hold(self, holder: int | None, words: Words | None) -> Shared | SharedBits | SharedLanes:
        """Wrap a share of this array."""
        if self.domain is Domain.RING:
            return Shared(holder, words, self.shape)
        if self.domain is Domain.LANES:
            return SharedLanes(holder, words, self.count)
        return SharedBits(holder, words, self.count, self.shape)


def ring_field(*shape: int) -> Field:
    """An additively shared array."""
    return Field(Domain.RING, shape)


def bits_field(count: int, *planes: int) -> Field:
    """XOR-shared planes of `count` bits."""
    return Field(Domain.BITS, (*planes, -(-count // (8 * WORD.itemsize))), count)


def lanes_field(count: int) -> Field:
    """`count` elements of Z_2^32."""
    return Field(Domain.LANES, (-(-count // 2),), count)


class Mask(Generic[Holding]):
    """A uniformly random shared array that may hide one opening.

    Attributes
    ----------
    share
        This participant's share of the mask.
    total
        The mask itself: only the dealer knows it, None elsewhere.
    """

    __slots__ = ("_spent", "share", "total")

    def __init__(self, share: Holding, total: Words | None = None) -> None:
        self.share = share
        self.total = total
        self._spent = False

    def __repr__(self) -> str:
        return f"Mask(shape={self.share.shape}, {'spent' if self._spent else 'fresh'}, redacted)"

    def spend(self) -> Holding:
        """Give the share out for the one opening that it may hide.

        Raises
        ------
        MaskReuseError
            At the second call.
        """
        if self._spent:
            raise MaskReuseError("a one-time mask was about to hide a second opening; this is a bug, please report it")
        self._spent = True
        return self.share


AnyMask = Mask[Shared] | Mask[SharedBits] | Mask[SharedLanes]


@dataclass(frozen=True)
class Correlation:
    """The public recipe of one batch of correlated randomness.

    Attributes
    ----------
    name
        What it is for, in error messages.
    masks
        Uniformly random arrays.
    derived
        Arrays computed from the masks.
    derive
        The dealer's function from the totals of `masks`, then of `earlier`, to the totals of `derived`.
    earlier
        Masks of earlier correlations that the function needs too.
    """

    name: str
    masks: Sequence[Field] = ()
    derived: Sequence[Field] = ()
    derive: Callable[..., Sequence[Words]] = field(default=lambda *totals: ())
    earlier: Sequence[AnyMask] = ()
