"""Categories of shared columns in the order of their weights, and the sums of all prefixes of that order.

docs/protocols/partition.md. Without regularisation the best partition of categories into two sides is a prefix of their
order by weight; W. D. Fisher, "On grouping for maximum homogeneity", JASA 1958. XGBoost looks at all prefixes, and so
does this, without anybody learning the order: all categories of a column are compared with each other, as many as come
before one are its place, and the one-hot bits of the places select the sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from veilboost.mpc.protocols.compare import negative_planes
from veilboost.mpc.protocols.fractions import cross_products
from veilboost.mpc.protocols.multiply import conjunction
from veilboost.mpc.protocols.one_hot import one_hot
from veilboost.mpc.protocols.pack import pack, unpack
from veilboost.mpc.protocols.select import anchor, select
from veilboost.mpc.protocols.select import to_ring as bits_to_ring
from veilboost.mpc.ring import pack_bits, to_ring, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate, stack, stack_bits
from veilboost.splitting.gain import at_least, soft_threshold
from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters

Ints = npt.NDArray[np.int64]

#: Bits of the fraction that stands for `max_delta_step`.
_LIMIT_BITS = 29


@dataclass(frozen=True)
class Columns:
    """Public shape of the columns that are partitioned.

    Their categories stand in one row, column by column; so do the places that a column's categories take in its order,
    and have the same numbers. Place k of a column but the last is a candidate: the first k + 1 categories go right.

    Attributes
    ----------
    counts
        Categories of each column, at least 2.
    """

    counts: tuple[int, ...]

    @property
    def size(self) -> int:
        """Categories, or places, of all columns."""
        return sum(self.counts)

    @cached_property
    def firsts(self) -> Ints:
        """First category of each column."""
        return np.cumsum([0, *self.counts[:-1]]).astype(np.int64)

    @cached_property
    def ranks(self) -> Ints:
        """Shape (size,): each category's code, each place's number in its column."""
        return np.concatenate([np.arange(count) for count in self.counts])

    @cached_property
    def prefixes(self) -> Ints:
        """The places that are candidates."""
        return np.flatnonzero(self.ranks < np.repeat(self.counts, self.counts) - 1)

    @cached_property
    def pairs(self) -> tuple[Ints, Ints]:
        """The lower and the higher category of every two of a column."""
        found = [first + np.stack(np.triu_indices(m, 1)) for first, m in zip(self.firsts, self.counts, strict=True)]
        lower, higher = np.concatenate(found, axis=1)
        return lower, higher

    @cached_property
    def entries(self) -> tuple[Ints, Ints]:
        """Place and category of every place with every category of its column, in the order of the places."""
        found = [
            first + np.stack([np.repeat(np.arange(m), m), np.tile(np.arange(m), m)])
            for first, m in zip(self.firsts, self.counts, strict=True)
        ]
        places, categories = np.concatenate(found, axis=1)
        return places, categories


@dataclass(frozen=True)
class Partition:
    """The order of the categories at some nodes.

    Attributes
    ----------
    columns, nodes
        Public.
    places
        One-hot planes (categories * nodes, categories of the largest column): the number of each category's place.
    there
        One plane of places * nodes bits: whether the category at a place has any rows in the node.
    """

    columns: Columns
    nodes: int
    places: SharedBits
    there: SharedBits

    def prefix_sums(self, session: Session, sums: Shared) -> Shared:
        """Sums of what goes right in each candidate. Three rounds.

        Parameters
        ----------
        sums
            Of every category: gradient, hessian and what else there is, shape (vectors, nodes, categories).

        Returns
        -------
        Shared
            Shape (vectors, nodes, candidates).

        Notes
        -----
        1. Gradient and hessian in one word; all words are opened under masks (`anchor`).
        2. The bit of every candidate's place and every category selects the category's words: their sum over the
           categories is what stands at the place.
        3. Running sums along the places, local; `unpack`.
        """
        columns, nodes = self.columns, self.nodes
        kept = np.isin(columns.entries[0], columns.prefixes)
        places, categories = (each[kept] for each in columns.entries)
        words = [pack(sums[0], sums[1]), *(sums[v] for v in range(2, len(sums)))]
        anchored = anchor(session, *(word.transpose().reshape(word.size) for word in words))
        at = _cells(categories, nodes)
        bits = _bits_at(self.places, at, np.repeat(columns.ranks[places], nodes))
        runs = np.flatnonzero(np.diff(places, prepend=-1))
        parts = []
        for chosen in select(session, bits, *(each[at] for each in anchored)):
            standing = _sums_of_runs(chosen.reshape(len(categories), nodes), runs)
            # Running sums, less what stands before the column.
            running = concatenate([standing[:1] * to_ring(0), standing.cumsum(axis=0)])
            before = np.cumsum([0, *(count - 1 for count in columns.counts[:-1])])
            before = np.repeat(before, [count - 1 for count in columns.counts])
            parts.append((running[1:] - running[before]).transpose())
        return stack([*unpack(session, parts[0]), *parts[1:]])

    def differs(self, backward: bool) -> SharedBits:
        """Whether each candidate's sums differ from those of the candidate before it, as one plane. Local.

        With `backward`, from those of the candidate behind it. Of a run of equal candidates the first remains, in the
        order in which XGBoost looks at them. Bits of the candidates, node by node.
        """
        at = self.columns.prefixes + backward
        return _pick(self.there, (at * self.nodes + np.arange(self.nodes)[:, None]).reshape(-1))

    def winning_sets(self, session: Session, won: SharedBits) -> SharedBits:
        """The categories that go right. One round.

        Parameters
        ----------
        won
            Planes (nodes, candidates): at most one bit per node.

        Returns
        -------
        SharedBits
            Planes (nodes, categories); zero where none of the candidates has won.

        Notes
        -----
        A category goes right if its place is the winner's or before it: the XOR over the candidates of the winner's bit
        and whether the category is at the candidate's place or before, which is a local XOR of bits of its place.
        """
        columns, nodes = self.columns, self.nodes
        kept = np.isin(columns.entries[0], columns.prefixes)
        places, categories = (each[kept] for each in columns.entries)
        candidate = np.searchsorted(columns.prefixes, places)
        inside = _bits_at(_running(self.places), _cells(categories, nodes), np.repeat(columns.ranks[places], nodes))
        chosen = _bits_at(won, np.tile(np.arange(nodes), len(places)), np.repeat(candidate, nodes))
        both = conjunction(session, inside, chosen)
        if both.hollow:
            return SharedBits(None, None, columns.size, (nodes, -(-columns.size // 64)))
        bits = unpack_bits(both.words, both.count).reshape(len(places), nodes)
        by_category = np.argsort(categories, kind="stable")
        runs = np.flatnonzero(np.diff(categories[by_category], prepend=-1))
        sets = np.bitwise_xor.reduceat(bits[by_category], runs, axis=0).T
        return SharedBits(both.holder, pack_bits(np.ascontiguousarray(sets).view(np.bool_)), columns.size)


def sort_categories(
    session: Session, counts: Sequence[int], sums: Shared, parameters: Parameters, scales: Scales
) -> Partition:
    """Order the categories of columns by the weights of leaves that have one category alone, as XGBoost does.

    Parameters
    ----------
    counts
        Public: categories of each column.
    sums
        Gradient and hessian of every category, shape (vectors, nodes, categories).

    Notes
    -----
    1. A category's weight is that of t / d, falling: t is its gradient, after soft thresholding, and d = H + lambda.
       Below the least hessian it is 0 / 1, and with `max_delta_step` no fraction is beyond that (`_fractions`).
    2. Of every two, the higher code comes before the lower if t d' - t' d < 0: cross products as in
       `protocols.fractions`, exact since they are below 2^61. Equal ones keep the order of their codes.
    3. The bits as ring elements; a category's place is the number of those that come before it. `one_hot`.
    4. Whether the category at a place has rows: the XOR over the categories of its place's bit and whether H is at
       least one unit.
    """
    columns = Columns(tuple(counts))
    nodes = sums.shape[1]
    top, bottom, present = _fractions(session, sums[0].transpose(), sums[1].transpose(), parameters, scales)
    lower, higher = columns.pairs
    products, _ = cross_products(session, stack([top, bottom]), lower, higher)
    overtaken = negative_planes(session, products[0])
    before = _places(session, columns, bits_to_ring(session, overtaken.reshape(len(lower))))
    places = one_hot(session, before.reshape(columns.size * nodes), max(counts))
    at, categories = columns.entries
    here = _bits_at(places, _cells(categories, nodes), np.repeat(columns.ranks[at], nodes))
    occupied = conjunction(session, here, _pick(present, _cells(categories, nodes)))
    return Partition(columns, nodes, places, _xor_of_runs(occupied, nodes, np.flatnonzero(np.diff(at, prepend=-1))))


def _fractions(
    session: Session, gradient: Shared, hessian: Shared, parameters: Parameters, scales: Scales
) -> tuple[Shared, Shared, SharedBits]:
    """Numerators and denominators of the weights, |t| < 2^30 and 0 < d < 2^30, and which categories have rows."""
    threshold = soft_threshold(session, gradient, parameters, scales)
    least = scales.least_hessian(parameters.min_child_weight)
    enough, present = at_least(session, (hessian, least), (hessian, 1), counts=True)
    lam = scales.hessian(parameters.reg_lambda)
    flat = stack([threshold.reshape(threshold.size), hessian.reshape(hessian.size) + to_ring(lam - 1)])
    (kept,) = select(session, enough, flat)
    top, bottom = kept[0], kept[1] + to_ring(1)
    limit = parameters.max_delta_step * 2.0 ** (scales.gradient_bits - scales.hessian_bits)
    if 0 < limit < 1 << _LIMIT_BITS:
        shift = min(_LIMIT_BITS, _LIMIT_BITS - math.ceil(math.log2(limit)))
        numerator, denominator = max(1, round(limit * 2.0**shift)), 1 << shift
        scaled, bound = top * to_ring(denominator), bottom * to_ring(numerator)
        over, not_under = at_least(session, (scaled - bound, 0), (scaled + bound, 1))
        tops = stack([to_ring(numerator) - top, to_ring(-numerator) - top])
        bottoms = stack([to_ring(denominator) - bottom] * 2)
        changes = select(session, stack_bits([over, ~not_under]), tops, bottoms)
        top, bottom = top + changes[0].sum(axis=0), bottom + changes[1].sum(axis=0)
    return top.reshape(*gradient.shape), bottom.reshape(*gradient.shape), present


def _places(session: Session, columns: Columns, overtaken: Shared) -> Shared:
    """How many categories come before each, shape (categories, nodes); `overtaken` has shape (pairs, nodes)."""
    pairs = np.concatenate(columns.pairs)
    order = np.argsort(pairs, kind="stable")
    signed = concatenate([overtaken, -overtaken])[order]  # the lower falls back by one, the higher moves up
    gained = _sums_of_runs(signed, np.flatnonzero(np.diff(pairs[order], prepend=-1)))
    return gained + session.constant(to_ring(np.broadcast_to(columns.ranks[:, None], gained.shape)))


def _cells(rows: Ints, nodes: int) -> Ints:
    """Positions of some rows of an array (rows, nodes), flat."""
    return (rows[:, None] * nodes + np.arange(nodes)).reshape(-1)


def _bits_at(planes: SharedBits, rows: Ints, places: Ints) -> SharedBits:
    """Single bits of planes, as one plane."""
    if planes.hollow:
        return SharedBits(None, None, len(rows), (-(-len(rows) // 64),))
    bits = unpack_bits(planes.words, planes.count)[rows, places]
    return SharedBits(planes.holder, pack_bits(bits.view(np.bool_)), len(rows))


def _pick(plane: SharedBits, places: Ints) -> SharedBits:
    return _bits_at(plane.reshape(1), np.zeros_like(places), places)


def _running(planes: SharedBits) -> SharedBits:
    """XOR of all bits of a plane up to each one."""
    if planes.hollow:
        return planes
    bits = np.bitwise_xor.accumulate(unpack_bits(planes.words, planes.count), axis=-1)
    return SharedBits(planes.holder, pack_bits(bits.view(np.bool_)), planes.count)


def _sums_of_runs(values: Shared, starts: Ints) -> Shared:
    """Sums of consecutive rows; every run ends where the next one starts."""
    if values.hollow:
        return Shared(None, None, (len(starts), *values.shape[1:]))
    return Shared(values.holder, np.add.reduceat(values.words, starts, axis=0))


def _xor_of_runs(plane: SharedBits, nodes: int, starts: Ints) -> SharedBits:
    """The same for the rows of a plane of rows * nodes bits, as one plane."""
    if plane.hollow:
        return SharedBits(None, None, len(starts) * nodes, (-(-len(starts) * nodes // 64),))
    bits = unpack_bits(plane.words, plane.count).reshape(-1, nodes)
    joined = np.bitwise_xor.reduceat(bits, starts, axis=0).reshape(-1)
    return SharedBits(plane.holder, pack_bits(joined.view(np.bool_)), len(joined))
