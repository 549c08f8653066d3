"""Shared bits times shared values: selection, indicators, and bits as ring elements.

docs/protocols/select.md. One round: the bit is opened under a random bit that the dealer shares in the ring, too (the
daBits of D. Rotaru and T. Wood, "MArBled circuits", INDOCRYPT 2019), together with its product with the value's mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from veilboost.mpc.correlations import Correlation, Mask, bits_field, ring_field
from veilboost.mpc.ring import WORD, Words, unpack_bits
from veilboost.mpc.session import Opening, Session
from veilboost.mpc.shares import Shape, Shared, SharedBits


@dataclass(frozen=True)
class Anchored:
    """A shared value that has been opened under a mask once, for use in several selections.

    Attributes
    ----------
    opened
        Value plus mask; None at the dealer.
    """

    value: Shared
    mask: Mask[Shared]
    opened: Words | None

    def __repr__(self) -> str:
        return f"Anchored(shape={self.value.shape}, redacted)"

    def __getitem__(self, index: Any) -> Anchored:
        share, total = self.mask.share[index], self.mask.total
        mask = _used(share, None if total is None else np.asarray(total[index]))
        return Anchored(self.value[index], mask, None if self.opened is None else np.asarray(self.opened[index]))

    def __sub__(self, other: Anchored) -> Anchored:
        """The difference of two: opened under the difference of their masks already."""
        total = None
        if self.mask.total is not None and other.mask.total is not None:
            total = np.asarray(self.mask.total - other.mask.total)
        opened = None
        if self.opened is not None and other.opened is not None:
            opened = np.asarray(self.opened - other.opened)
        return Anchored(self.value - other.value, _used(self.mask.share - other.mask.share, total), opened)


def anchor(session: Session, *values: Shared) -> list[Anchored]:
    """Open values under fresh masks that stay attached to them. One round."""
    dealt = session.correlate(Correlation("anchor", masks=[ring_field(*value.shape) for value in values]))
    masks = [dealt.ring_mask(position) for position in range(len(values))]
    if session.dealing:
        return [Anchored(value, mask, None) for value, mask in zip(values, masks, strict=True)]
    opened = session.open_masked(*zip(values, masks, strict=True))
    return [Anchored(*entry) for entry in zip(values, masks, opened, strict=True)]


def select(session: Session, bits: SharedBits, *values: Shared | Anchored) -> list[Shared]:
    """bit * value for each of the values, in one round.

    Parameters
    ----------
    bits
        Elements of shape (..., count).
    values
        Shapes broadcast with that of the bits' elements.

    Notes
    -----
    1. The dealer shares random bits rho (XOR and ring), a mask m for every value that has none yet, and rho m.
    2. All owners open beta = bit ^ rho and o = value + m.
    3. rho value = o rho - rho m, and bit value = beta value + (1 - 2 beta) rho value.
    """
    elements = (*bits.shape[:-1], bits.count)
    plain = [value for value in values if isinstance(value, Shared)]
    anchors = [value for value in values if isinstance(value, Anchored)]
    unordered: list[Shared | Anchored] = [*plain, *anchors]
    shapes = [np.broadcast_shapes(elements, _shared(value).shape) for value in unordered]

    def derive(rho: Words, *masks: Words) -> Sequence[Words]:
        ring = unpack_bits(rho, bits.count).astype(WORD)
        return [ring, *(ring * mask for mask in masks)]

    dealt = session.correlate(
        Correlation(
            "selection",
            masks=[bits_field(bits.count, *bits.shape[:-1]), *(ring_field(*value.shape) for value in plain)],
            derived=[ring_field(*elements), *(ring_field(*shape) for shape in shapes)],
            derive=derive,
            earlier=[value.mask for value in anchors],
        )
    )
    if session.dealing:
        return [Shared(None, None, np.broadcast_shapes(elements, _shared(value).shape)) for value in values]
    masked: list[Opening] = [(bits, dealt.bits_mask(0))]
    masked += [(value, dealt.ring_mask(1 + position)) for position, value in enumerate(plain)]
    beta_words, *opened = session.open_masked(*masked)
    beta = unpack_bits(beta_words, bits.count).view(np.bool_)
    rho = dealt.ring(0).words
    chosen: dict[int, Shared] = {}
    ordered: list[tuple[Shared | Anchored, Words | None]] = list(zip(plain, opened, strict=True))
    ordered += [(value, value.opened) for value in anchors]
    for position, (value, masked_value) in enumerate(ordered):
        assert masked_value is not None
        product = masked_value * rho
        product -= dealt.ring(1 + position).words
        chosen[id(value)] = Shared(session.holder, np.where(beta, _shared(value).words - product, product))
    return [chosen[id(value)] for value in values]


def to_ring(session: Session, bits: SharedBits) -> Shared:
    """Bits as ring elements 0 and 1, of shape (..., count). One round."""
    elements = (*bits.shape[:-1], bits.count)
    dealt = session.correlate(
        Correlation(
            "bits to ring",
            masks=[bits_field(bits.count, *bits.shape[:-1])],
            derived=[ring_field(*elements)],
            derive=lambda rho: [unpack_bits(rho, bits.count).astype(WORD)],
        )
    )
    if session.dealing:
        return dealt.ring(0)
    (beta_words,) = session.open_masked((bits, dealt.bits_mask(0)))
    beta = unpack_bits(beta_words, bits.count).astype(WORD)
    words = dealt.ring(0).words * (np.uint64(1) - (beta << np.uint64(1)))
    if session.holder == 0:
        words += beta
    return Shared(session.holder, words)


def elements_shape(bits: SharedBits) -> Shape:
    """Shape of the bits as elements."""
    return (*bits.shape[:-1], bits.count)


def _used(share: Shared, total: Words | None) -> Mask[Shared]:
    """What an opened value's mask becomes: it hides that opening and no other."""
    mask = Mask(share, total)
    mask.spend()
    return mask


def _shared(value: Shared | Anchored) -> Shared:
    return value.value if isinstance(value, Anchored) else value
