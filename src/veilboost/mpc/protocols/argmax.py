"""The largest of many shared scores, with what belongs to it.

docs/protocols/argmax.md; a tournament of comparisons and selections, as in T. Araki, J. Furukawa, K. Ohara, B. Pinkas,
H. Rosemarin, H. Tsuchida, "Secure graph analysis at scale", CCS 2021. Where few candidates are left, groups of several
play all against all, which costs more comparisons but fewer rounds.
"""

from __future__ import annotations

import numpy as np

from veilboost.mpc.protocols.compare import negative_planes
from veilboost.mpc.protocols.multiply import conjunction
from veilboost.mpc.protocols.select import select
from veilboost.mpc.ring import words_for
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate, stack

#: Groups grow while one step needs at most this many comparisons.
_COMPARISONS_AT_ONCE = 1 << 13
_GROUPS = (16, 8, 4, 2)


def argmax(session: Session, scores: Shared, *payload: Shared) -> list[Shared]:
    """The winner of each row: its score and its payload.

    Ties go to the earlier candidate. Rounds per step: 8 for groups of two, 11 or 12 for larger ones.

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

    Notes
    -----
    1. Neighbours form groups of a public size; i beats a later j unless i - j < 0.
    2. The one that beats all others of its group moves on with its payload. Candidates beyond the last whole group move
       on unplayed; order is kept.
    3. Repeat until one candidate is left.
    """
    field = stack([scores, *payload])
    while field.shape[2] > 1:
        size = _group_size(field.shape[1], field.shape[2])
        groups = field.shape[2] // size
        playing = field[:, :, : groups * size].reshape(len(field), field.shape[1], groups, size)
        winners = _winners_of_two(session, playing) if size == 2 else _winners_of_many(session, playing)
        field = concatenate([winners, field[:, :, groups * size :]], axis=2)
    return [field[position, :, 0] for position in range(len(field))]


def _group_size(rows: int, candidates: int) -> int:
    fitting = [g for g in _GROUPS if g <= candidates and rows * candidates * (g - 1) // 2 <= _COMPARISONS_AT_ONCE]
    return fitting[0] if fitting else 2


def _winners_of_two(session: Session, playing: Shared) -> Shared:
    """winner = earlier + [earlier < later] (later - earlier), for shape (arrays, rows, groups, 2)."""
    arrays, rows, groups, _ = playing.shape
    earlier, later = playing[:, :, :, 0], playing[:, :, :, 1]
    gap = later - earlier
    wins = negative_planes(session, -gap[0].reshape(1, rows * groups))
    (change,) = select(session, wins, gap.reshape(arrays, rows * groups))
    return earlier + change.reshape(arrays, rows, groups)


def _winners_of_many(session: Session, playing: Shared) -> Shared:
    """Everybody against everybody, for shape (arrays, rows, groups, size)."""
    arrays, rows, groups, size = playing.shape
    count = rows * groups
    earlier, later = np.triu_indices(size, 1)
    scores = playing[0].reshape(count, size)
    gaps = (scores[:, earlier] - scores[:, later]).transpose()
    loses = negative_planes(session, gaps)  # plane of each pair: the earlier one loses
    # Of each candidate k, one plane per opponent: k beats it.
    pair = np.zeros((size, size), dtype=np.int64)
    pair[earlier, later] = np.arange(len(earlier))
    opponents = np.array([[j for j in range(size) if j != k] for k in range(size)])
    own = np.arange(size)[:, None]
    beats = loses[pair[np.minimum(own, opponents), np.maximum(own, opponents)]]
    beats = _invert_where(beats, own < opponents)
    while beats.shape[1] > 1:
        half = beats.shape[1] // 2
        met = conjunction(session, beats[:, :half], beats[:, half : 2 * half])
        beats = _join(met, beats[:, 2 * half :])
    best = beats[:, 0]
    values = playing.reshape(arrays, count, size).transpose()  # (arrays, size, count)
    (kept,) = select(session, best, values)
    return kept.sum(axis=1).reshape(arrays, rows, groups)


def _invert_where(planes: SharedBits, public: np.typing.NDArray[np.bool_]) -> SharedBits:
    ones = np.uint64(0xFFFFFFFFFFFFFFFF) * public.astype(np.uint64)[:, :, None]
    return planes ^ np.broadcast_to(ones, planes.shape)


def _join(first: SharedBits, second: SharedBits) -> SharedBits:
    """Join planes along the second axis."""
    if first.hollow:
        shape = (first.shape[0], first.shape[1] + second.shape[1], words_for(first.count))
        return SharedBits(None, None, first.count, shape)
    return SharedBits(first.holder, np.concatenate([first.words, second.words], axis=1), first.count)
