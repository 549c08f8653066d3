"""Which way every row goes, without anybody learning it."""

from __future__ import annotations

import numpy as np

from veilboost.mpc import kernels
from veilboost.mpc.protocols.multiply import conjunction
from veilboost.mpc.protocols.one_hot import one_hot
from veilboost.mpc.ring import WORD, Words, pack_bits, unpack_bits, words_for
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits
from veilboost.splitting.space import FIRST_CATEGORY_BIT
from veilboost.tables.binning import Layout
from veilboost.xorboost.candidates import CandidateSpace
from veilboost.xorboost.histogram import TableCells

#: Nodes whose directions fit one table entry.
_NODES_AT_ONCE = 64


def winning_candidates(session: Session, space: CandidateSpace, choice: Shared) -> SharedBits:
    """One-hot planes (nodes, candidates) of the winners; zero planes where a node does not split. One round.

    Parameters
    ----------
    choice
        Shape (nodes,): 0, or 1 + candidate, as `splitting.search` gives it.
    """
    planes = one_hot(session, choice, space.n_candidates + 1)
    shape = (len(planes), words_for(space.n_candidates))
    if planes.hollow:
        return SharedBits(None, None, space.n_candidates, shape)
    bits = unpack_bits(planes.words, space.n_candidates + 1)[:, 1:]
    return SharedBits(planes.holder, pack_bits(bits.view(np.bool_)), space.n_candidates)


def split_codes(space: CandidateSpace, winners: SharedBits, sets: SharedBits | None) -> SharedBits:
    """What the model says of every split but its cut: planes (nodes, code bits), zero where there is none. Local.

    See `CandidateSpace.codes` for the bits.

    Parameters
    ----------
    sets
        From `LevelPartition.winning_sets`; None where no column is partitioned.
    """
    if winners.hollow:
        return SharedBits(None, None, space.code_bits, (len(winners), words_for(space.code_bits)))
    won = unpack_bits(winners.words, winners.count).view(np.bool_)
    words = np.stack([np.bitwise_xor.reduce(space.codes[node], axis=0) for node in won])
    if sets is not None:
        right = unpack_bits(sets.words, sets.count)
        chosen = np.zeros((len(won), space.code_bits), dtype=np.uint8)
        for feature in sorted(space.partitioned):
            first, count = int(space.bin_starts[feature]), space.plans[feature].n_bins
            chosen[:, FIRST_CATEGORY_BIT : FIRST_CATEGORY_BIT + count] ^= right[:, first : first + count]
        words ^= pack_bits(chosen.view(np.bool_))
    return SharedBits(winners.holder, words, space.code_bits)


def direction_tables(space: CandidateSpace, winners: SharedBits, sets: SharedBits | None) -> Words | None:
    """Per bin, one bit per node: whether rows of this bin go left there. Local; at most 64 nodes.

    For a bin of the winning feature it is the XOR of the winner's bits over all candidates that have the bin on their
    left side; for all other features it is zero. In a partitioned column all categories but those of the winner's set
    are on the left. A missing-value indicator's entry is XORed in by the lookup: in the
    permuted layout missing rows lie in bins above every valid cut, so they go right unless their own entry turns them.

    Returns
    -------
    uint64 array, shape (bins of the common numbering,)
        This participant's XOR share; None at the dealer.
    """
    if winners.hollow:
        return None
    bits = unpack_bits(winners.words, winners.count)
    running = np.zeros((len(winners), winners.count + 1), dtype=np.uint8)
    np.bitwise_xor.accumulate(bits, axis=1, out=running[:, 1:])
    tables = np.zeros((len(winners), space.n_bins), dtype=np.uint8)
    right = None if sets is None else unpack_bits(sets.words, sets.count)
    for feature, plan in enumerate(space.plans):
        start, stop = int(space.candidate_starts[feature]), int(space.candidate_starts[feature + 1])
        first_bin, count = int(space.bin_starts[feature]), plan.n_candidates
        bins = np.arange(plan.n_bins)
        if feature in space.partitioned:
            own = np.repeat(running[:, [stop]] ^ running[:, [start]], plan.n_bins, axis=1)
            if right is not None:
                own ^= right[:, first_bin + bins]
            left_missing = running[:, start + count] ^ running[:, start]
        elif space.features[feature].categorical:
            own = running[:, [stop]] ^ running[:, [start]]  # all categories but the chosen one go left
            for variant in range(start, stop, count):
                own = own ^ bits[:, variant : variant + count]
            left_missing = running[:, start + count] ^ running[:, start]
        elif plan.layout is Layout.POOLED:  # present rows: `PooledColumns.tables`
            own = np.zeros((len(winners), plan.n_bins), dtype=np.uint8)
            left_missing = running[:, stop] ^ running[:, start + count]
        else:
            # Candidates j >= bin: contiguous, because the second direction runs backwards.
            last = np.maximum(stop - bins, start) if stop - start > count else np.full(plan.n_bins, stop)
            lower = np.minimum(start + bins, stop)
            own = running[:, np.maximum(last, lower)] ^ running[:, lower]
            left_missing = running[:, stop] ^ running[:, start + count]
        tables[:, first_bin : first_bin + plan.n_bins] = own
        if space.features[feature].missing:
            tables[:, first_bin + plan.n_bins] = left_missing
    return kernels.gather_words(pack_bits(tables.view(np.bool_)), space.n_bins)


def piece_tables(
    space: CandidateSpace, cells: TableCells, winners: SharedBits, sets: SharedBits | None, active: frozenset[int]
) -> Words | None:
    """`direction_tables` in the numbering of the pieces' bins; one round where columns are pooled, else local.

    Returns
    -------
    uint64 array, shape (piece bins,)
        This participant's XOR share; None at the dealer.
    """
    tables = direction_tables(space, winners, sets)
    if len(space.pieces) == len(space.features):
        return tables
    pooled = None
    if cells.pooled is not None and active & set(space.pooled):
        pooled = cells.pooled.tables(winners, active)
    if tables is None:
        return None
    words = np.zeros(space.n_piece_bins, dtype=WORD)
    for number, piece in enumerate(space.pieces):
        own = np.arange(space.piece_starts[number], space.piece_starts[number + 1])
        common = np.arange(space.bin_starts[piece.feature], space.bin_starts[piece.feature + 1])
        if piece.proposal is not None:
            missing = int(space.features[piece.feature].missing)
            own, common = own[len(own) - missing :], common[len(common) - missing :]
        words[own] = tables[common]
    if pooled is not None and pooled[1] is not None:
        words[pooled[0]] = pooled[1]
    return words


def route(
    session: Session,
    space: CandidateSpace,
    cells: TableCells,
    winners: SharedBits,
    sets: SharedBits | None,
    indicators: SharedBits,
    active: frozenset[int],
) -> SharedBits:
    """Split every node's rows into those of its left and its right child.

    Parameters
    ----------
    winners
        From `winning_candidates`.
    sets
        From `LevelPartition.winning_sets`; None where no column is partitioned.
    indicators
        Planes (nodes, rows): which rows are in which node.

    Returns
    -------
    SharedBits
        Planes (2 nodes, rows), node k's children at 2k and 2k + 1.

    Notes
    -----
    1. `piece_tables`, one pass per 64 nodes.
    2. Every owner of columns looks the tables up at its rows' bins (`OwnerCells.lookup`); the XOR says left or right.
    3. left child = node AND left; right child = node XOR left child.
    """
    nodes = len(winners)
    planes = []
    for first in range(0, nodes, _NODES_AT_ONCE):
        part = winners[first : first + _NODES_AT_ONCE]
        octets = _octets_for(len(part))
        own_sets = None if sets is None else sets[first : first + _NODES_AT_ONCE]
        tables = piece_tables(space, cells, part, own_sets, active)
        words: Words | None = None if tables is None else np.zeros(space.rows, dtype=WORD)
        for own in cells.owners:
            found = own.lookup(tables, active, octets)
            if words is not None and found is not None:
                words[own.rows] ^= found
        if words is not None:
            planes.append(kernels.transpose_bits(words, len(part)))
    shape = (nodes, words_for(space.rows))
    left_bits = SharedBits(session.holder, np.concatenate(planes) if planes else None, space.rows, shape)
    left = conjunction(session, indicators, left_bits)
    right = indicators ^ left
    if left.hollow:
        return SharedBits(None, None, space.rows, (2 * nodes, shape[1]))
    both = np.stack([left.words, right.words], axis=1).reshape(2 * nodes, shape[1])
    return SharedBits(session.holder, both, space.rows)


def _octets_for(nodes: int) -> int:
    return next(octets for octets in (1, 2, 4, 8) if nodes <= 8 * octets)
