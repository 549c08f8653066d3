"""Updates are added up, and each client's is compared with what its number of rows allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from veilboost.errors import ParticipantError
from veilboost.federated import kernels
from veilboost.federated.collected import Collected
from veilboost.federated.gather import BATCH
from veilboost.mpc.prg import Stream, derive_key
from veilboost.mpc.protocols.compare import negative_planes
from veilboost.mpc.ring import Words, to_ring, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, stack
from veilboost.splitting.search import conjunction_of

#: Random sums of a client's update that are compared with their bound: a value beyond twice the bound passes each with
#: probability 1/2 at most.
PROJECTIONS = 40


class RangeChecks:
    """Adds up updates, and compares each client's with its bound, of one question or of several together.

    docs/protocols/federated.md. From random bytes that all aggregators have contributed to after the answers were in,
    every aggregator draws a random set of positions for each of 40 projections and sums its shares there. For an honest
    client no such sum exceeds the bound L of its magnitudes. If a value exceeds 2 L, then of the two sums with and
    without it one at least is beyond L, modulo 2^64 too, so that it passes all with probability 2^-40. The idea is that
    of the projections in C. Gentry, S. Halevi, V. Lyubashevsky, "Practical non-interactive publicly verifiable secret
    sharing with thousands of parties", EUROCRYPT 2022, as used for updates in J. Bell et al., "ACORN: input validation
    for secure aggregation", USENIX Security 2023.

    That is so for a client that does not know the choices. Where several questions are settled together (cuts), one
    that works together with an aggregator knows those of the earlier questions and can answer the later ones
    accordingly: with one such turn it passes with a probability of about 2^-37, and there are 31.

    Where there are more clients than `BATCH`, so many groups of them are checked together.

    Parameters
    ----------
    clients
        All of the job, in its order: what is computed does not depend on who has answered.
    """

    def __init__(self, clients: Sequence[str]) -> None:
        self._groups = [list(part) for part in np.array_split(np.array(clients), min(BATCH, len(clients)))]
        self._group_of = {str(client): number for number, group in enumerate(self._groups) for client in group}
        self._sums = np.zeros((len(self._groups), PROJECTIONS), dtype=np.uint64)
        self._limits = np.zeros((len(self._groups), 1), dtype=np.int64)

    def __repr__(self) -> str:
        return f"RangeChecks({len(self._groups)} groups, redacted)"

    def add(self, collected: Collected, bounds: Mapping[str, int], size: int) -> Words:
        """An aggregator's share of the sum of some updates, whose projections are remembered.

        Parameters
        ----------
        bounds
            Public: of every client, what the magnitudes of its update add up to at most.
        """
        total = np.zeros(size, dtype=np.uint64)
        choices = Stream(derive_key(collected.coins, b"projections"), 0).words(size)
        for client in collected.clients:
            words = collected.shares[client]()
            total += words
            group = self._group_of[client]
            kernels.add_projections(words, choices, self._sums[group])
            self._limits[group] += bounds[client]
        return total

    def settle(self, session: Session) -> None:
        """Compare what has been remembered, and forget it. All participants call this, the dealer too.

        Raises
        ------
        ParticipantError
            At all aggregators alike: a client's values are too large; it, or its group, is named.

        Notes
        -----
        One comparison for each projection and side; the conjunction of a group's is published. It is 1 where all
        clients are honest and so tells nothing.
        """
        shape = (len(self._groups), PROJECTIONS)
        sums = Shared(session.holder, None if session.dealing else self._sums.copy(), shape)
        within = _within(session, sums, to_ring(self._limits))
        if within is not None and not within.all():
            group = self._groups[int(np.argmin(within))]
            who = str(group[0]) if len(group) == 1 else f"one of {', '.join(map(str, group[:20]))}"
            raise ParticipantError(
                f"{who} has sent values that are too large for its number of rows: "
                "check its table and its version, or resume without it"
            )
        self._sums[:], self._limits[:] = 0, 0


def _within(session: Session, sums: Shared, limits: Words) -> np.typing.NDArray[np.bool_] | None:
    """Whether all sums of each row are within +- its limit; None at the dealer."""
    rows, width = sums.shape
    bound = session.constant(np.broadcast_to(limits, (rows, width)).copy())
    gaps = stack([bound - sums, bound + sums]).transpose().reshape(2 * width, rows)
    return _published(session, gaps, rows)


def _published(session: Session, gaps: Shared, rows: int) -> np.typing.NDArray[np.bool_] | None:
    planes = ~negative_planes(session, gaps)
    fine = conjunction_of(session, [planes[number] for number in range(len(planes))])
    words = session.publish(fine.reshape(1), None)  # 1 for every honest client
    return None if words is None else unpack_bits(words, rows)[0].astype(np.bool_)
