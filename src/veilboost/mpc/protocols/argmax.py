"""The largest of many shared scores, with what belongs to it.

docs/protocols/argmax.md; a tournament of comparisons and selections, as in T. Araki, J. Furukawa, K. Ohara, B. Pinkas,
H. Rosemarin, H. Tsuchida, "Secure graph analysis at scale", CCS 2021. Where few candidates are left, groups of several
play all against all, which costs more comparisons but fewer rounds.

A score is a number, or a fraction (protocols/fractions.py), which needs no division.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from veilboost.mpc.protocols.compare import negative_planes, prefix
from veilboost.mpc.protocols.multiply import conjunctions
from veilboost.mpc.protocols.select import Anchored, select
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate, stack, stack_planes

#: Groups of several play while one step needs at most this many comparisons.
_COMPARISONS_AT_ONCE = 1 << 13
_GROUPS = (16, 8, 4)
_LARGEST_GROUP = 24

#: Compares players. Given scores of shape (arrays, size, count), it returns planes of shape (pairs, words) of `count`
#: bits, which say of each pair i < j, in the order of `numpy.triu_indices(size, 1)`, whether i loses; and the scores
#: if it has opened them under masks.
Contest = Callable[[Session, Shared], tuple[SharedBits, Anchored | None]]


def argmax(session: Session, scores: Shared, *payload: Shared) -> list[Shared]:
    """The winner of each row: its score and its payload.

    Ties go to the earlier candidate.

    Parameters
    ----------
    scores
        Shape (rows, candidates); every two of a row differ by less than 2^63.
    payload
        Arrays of the same shape that ride along.

    Returns
    -------
    list of Shared
        Shape (rows,): the largest score, then the payloads of its candidate.
    """
    best, carried = tournament(session, compare_numbers, stack([scores]), stack(payload) if payload else None)
    return [best[0], *([] if carried is None else [carried[i] for i in range(len(carried))])]


def tournament(
    session: Session, contest: Contest, scores: Shared, payload: Shared | None
) -> tuple[Shared, Shared | None]:
    """The winner of each row.

    Parameters
    ----------
    contest
        How players are compared.
    scores
        Shape (arrays, rows, candidates): what makes up a score.
    payload
        Shape (payloads, rows, candidates), or None.

    Returns
    -------
    scores, payload
        Of the winners, shapes (arrays, rows) and (payloads, rows).

    Notes
    -----
    1. Neighbours form groups of a public size, the last one filled up with copies of the last candidate; within a group
       all play against all (`contest`).
    2. The first of its group that loses to no later one moves on with its payload; order is kept.
    3. Repeat until one candidate is left.
    """
    while scores.shape[2] > 1:
        size = group_size(scores.shape[1], scores.shape[2])
        players, carried = _grouped(scores, size), None if payload is None else _grouped(payload, size)
        play = _winners_of_two if size == 2 else _winners_of_many
        winners, taken = play(session, contest, players, carried)
        rows = scores.shape[1]
        scores = winners.reshape(len(scores), rows, winners.shape[1] // rows)
        if payload is not None and taken is not None:
            payload = taken.reshape(len(payload), rows, taken.shape[1] // rows)
    return scores[:, :, 0], None if payload is None else payload[:, :, 0]


def group_size(rows: int, candidates: int) -> int:
    """How many play against each other at once; public."""
    if candidates <= _LARGEST_GROUP and rows * candidates * (candidates - 1) // 2 <= _COMPARISONS_AT_ONCE:
        return candidates
    for largest in _GROUPS:
        groups = -(-candidates // largest)
        size = -(-candidates // groups)
        if rows * groups * size * (size - 1) // 2 <= _COMPARISONS_AT_ONCE:
            return size
    return 2


def compare_numbers(session: Session, players: Shared) -> tuple[SharedBits, None]:
    """The contest of plain numbers, shape (1, size, count)."""
    earlier, later = np.triu_indices(players.shape[1], 1)
    return negative_planes(session, players[0, earlier] - players[0, later]), None


def _grouped(field: Shared, size: int) -> Shared:
    """Shape (arrays, rows, candidates) as (arrays, size, rows * groups)."""
    arrays, rows, candidates = field.shape
    lacking = -candidates % size
    if lacking:
        last = field[:, :, -1:].broadcast_to((arrays, rows, lacking))
        field = concatenate([field, last], axis=2)
    groups = field.shape[2] // size
    return field.reshape(arrays, rows * groups, size).transpose()


def _winners_of_two(
    session: Session, contest: Contest, players: Shared, carried: Shared | None
) -> tuple[Shared, Shared | None]:
    """winner = earlier + [earlier < later] (later - earlier)."""
    loses, anchored = contest(session, players)
    gaps: list[Shared | Anchored] = [
        players[:, 1] - players[:, 0] if anchored is None else anchored[:, 1] - anchored[:, 0]
    ]
    if carried is not None:
        gaps.append(carried[:, 1] - carried[:, 0])
    changes = select(session, loses[0], *gaps)
    return players[:, 0] + changes[0], None if carried is None else carried[:, 0] + changes[1]


def _winners_of_many(
    session: Session, contest: Contest, players: Shared, carried: Shared | None
) -> tuple[Shared, Shared | None]:
    """The first player that loses to no later one moves on: the best, where comparisons are consistent.

    Close fractions may beat each other in a circle. Still there is always one such player, since nobody comes after the
    last; it is not behind any later one, and the best of all is one of them, so that it is no later than the best.
    """
    size = players.shape[1]
    loses, anchored = contest(session, players)
    number = np.zeros((size, size), dtype=np.int64)
    number[np.triu_indices(size, 1)] = np.arange(len(loses))
    # Of each player but the last, the pairs with all later ones; the last pair several times, which an AND allows.
    ahead = np.array([[number[k, min(j, size - 1)] for j in range(k + 1, k + size)] for k in range(size - 1)])
    unbeaten = _all_of(session, ~loses, ahead)
    none = prefix(session, ~unbeaten)  # none of the players up to here
    best = stack_planes([~none[:1], none[:-1] ^ none[1:], none[-1:]])
    values: list[Shared | Anchored] = [players if anchored is None else anchored]
    if carried is not None:
        values.append(carried)
    kept = select(session, best, *values)
    return kept[0].sum(axis=1), None if carried is None else kept[1].sum(axis=1)


def _all_of(session: Session, planes: SharedBits, terms: np.typing.NDArray[np.int64]) -> SharedBits:
    """ANDs of the planes of each row of `terms`, four at a time."""
    while terms.shape[1] > 1:
        count, width = terms.shape
        whole = width - width % 4 if width > 3 else width
        factors = min(4, width)
        parts = [terms[:, :whole].reshape(-1, factors)]
        if width - whole > 1:
            parts.append(terms[:, whole:])
        products = conjunctions(session, planes, *parts)
        joined = [products[0].reshape(count, whole // factors), *(p.reshape(count, 1) for p in products[1:])]
        if width - whole == 1:
            joined.append(planes[terms[:, whole:]])
        width = sum(part.shape[1] for part in joined)
        planes = _side_by_side(joined).reshape(count * width)
        terms = np.arange(count * width).reshape(count, width)
    return planes[terms[:, 0]]


def _side_by_side(parts: Sequence[SharedBits]) -> SharedBits:
    """Join planes along the second axis."""
    first = parts[0]
    if first.hollow:
        shape = (first.shape[0], sum(part.shape[1] for part in parts), first.shape[-1])
        return SharedBits(None, None, first.count, shape)
    return SharedBits(first.holder, np.concatenate([part.words for part in parts], axis=1), first.count)
