"""The largest of many shared scores, with what belongs to it.

docs/protocols/argmax.md; a tournament of comparisons and selections, as in T. Araki, J. Furukawa, K. Ohara, B.
Pinkas, H. Rosemarin, H. Tsuchida, "Secure graph analysis at scale", CCS 2021, section on oblivious maximum.
"""

from __future__ import annotations

from veilboost.mpc.protocols.compare import negative
from veilboost.mpc.protocols.select import select
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, concatenate, stack


def argmax(session: Session, scores: Shared, *payload: Shared) -> list[Shared]:
    """The winner of each row: its score and its payload.

    Eight rounds per doubling of the number of candidates. Ties go to the earlier candidate.

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
    1. Neighbours meet; the later one wins if earlier - later < 0.
    2. winner = earlier + wins (later - earlier), for the score and all payloads in one round.
    3. A candidate without neighbour moves on; order is kept. Repeat until one candidate is left.
    """
    field = stack([scores, *payload])
    while field.shape[2] > 1:
        pairs = field.shape[2] // 2
        earlier, later = field[:, :, 0 : 2 * pairs : 2], field[:, :, 1 : 2 * pairs : 2]
        gap = later - earlier
        wins = negative(session, -gap[0])
        (change,) = select(session, wins.reshape(1), gap.reshape(len(field), field.shape[1] * pairs))
        winners = earlier + change.reshape(*earlier.shape)
        field = concatenate([winners, field[:, :, 2 * pairs :]], axis=2)
    return [field[position, :, 0] for position in range(len(field))]
