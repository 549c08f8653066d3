"""Incidence in the dense layout: histograms and lookups over columns of few bins, and private regrouping of bins.

docs/protocols/incidence.md. The member's 0/1 matrix M is masked once as a whole: E = M - A is known to the other
owners, A to the member and the dealer. The last bin of a block has no column of its own: it is what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.mpc import kernels
from veilboost.mpc.protocols.permuted_incidence import finish_lookup
from veilboost.mpc.ring import WORD, Words
from veilboost.mpc.session import Exchanged, Session
from veilboost.mpc.shares import Shared


@dataclass(frozen=True)
class Block:
    """The public shape of one feature: which rows it has and how many bins, the last one implied."""

    first_row: int
    rows: int
    bins: int


class DenseIncidence:
    """The private matrices of one member's blocks, ready for use.

    Parameters
    ----------
    member
        Position of the owner who knows the bins.
    blocks
        One per feature.
    bins
        uint16: bin of every row of every block, one block after the other. None except at the member.

    Notes
    -----
    Setup, once:

    1. The member and the dealer expand a uniformly random A, of the shape of M without its last column.
    2. The member sends the others E = M - A.
    """

    def __init__(
        self, session: Session, member: int, blocks: Sequence[Block], bins: npt.NDArray[np.uint16] | None
    ) -> None:
        self.session = session
        self.member = member
        self.blocks = tuple(blocks)
        self._others = [owner for owner in range(len(session.owners)) if owner != member]
        cells = [block.rows * (block.bins - 1) for block in blocks]
        self._cell_starts = np.concatenate([[0], np.cumsum(cells, dtype=np.int64)]).astype(np.int64)
        self._row_starts = np.concatenate([[0], np.cumsum([block.rows for block in blocks])]).astype(np.int64)
        total = int(self._cell_starts[-1])
        stream = session.streams(session.next_number()).get(member)
        self._mask: Words | None = None if stream is None else stream.words(total)  # A: the member and the dealer
        self._masked: Words | None = None  # E: all owners
        payload = None
        if bins is not None and self._mask is not None:
            self._masked = self._matrix(bins) - self._mask
            payload = self._masked.view(np.uint8)
        received = session.pass_masked(member, self._others, payload, total * WORD.itemsize)
        if received is not None:
            self._masked = received.view(WORD)

    def __repr__(self) -> str:
        return f"DenseIncidence(member={self.member}, blocks={len(self.blocks)}, redacted)"

    def _matrix(self, bins: npt.NDArray[np.uint16]) -> Words:
        matrix = np.zeros(int(self._cell_starts[-1]), dtype=WORD)
        for position, block in enumerate(self.blocks):
            own = bins[self._row_starts[position] : self._row_starts[position + 1]].astype(np.int64)
            rows = np.flatnonzero(own < block.bins - 1)
            matrix[self._cell_starts[position] + rows * (block.bins - 1) + own[rows]] = 1
        return matrix

    def histogram(self, vectors: Exchanged, features: Sequence[int]) -> Shared:
        """Sums per bin, [M^T x], of shared vectors x of shape (rows, vectors); the last bin of a block included.

        Returns
        -------
        Shared
            Shape (bins of these features, vectors).

        Notes
        -----
        1. Every owner's share begins with E^T times its own share of x.
        2. The member adds A^T z, where z is x minus the others' masks a_Q, and the dealer's A^T sum(a_Q) - sum(b_Q).
        3. Every other owner Q adds its stream b_Q.
        4. The last bin of a block is the sum over its rows minus its other bins.
        """
        session, width = self.session, vectors.value.shape[1]
        layout, columns = self._layout(features)
        shape = (columns, width)
        streams = session.streams(session.next_number())

        def correction() -> Words:
            assert vectors.masks is not None and self._mask is not None
            words = np.zeros(shape, dtype=WORD)
            masks = sum((vectors.masks[owner] for owner in self._others), np.zeros_like(vectors.masks[0]))
            kernels.add_dense(self._mask, layout, masks, words)
            for owner in self._others:
                words -= streams[owner].words(*shape)
            return words

        dealt = session.deal(self.member, correction, shape)
        total_bins = sum(self.blocks[feature].bins for feature in features)
        if session.dealing:
            return Shared(None, None, (total_bins, width))
        own = np.ascontiguousarray(vectors.value.words)
        words = streams[session.holder].words(*shape) if dealt is None else dealt  # type: ignore[index]
        kernels.add_dense(self._known_masked(), layout, own, words)
        if dealt is not None and vectors.total is not None and self._mask is not None:
            kernels.add_dense(self._mask, layout, vectors.total, words)
        sums = np.empty((total_bins, width), dtype=WORD)
        start = 0
        for block, (first_row, rows, block_columns, first_column, _) in zip(features, layout, strict=True):
            del block
            inner = words[first_column : first_column + block_columns]
            sums[start : start + block_columns] = inner
            sums[start + block_columns] = own[first_row : first_row + rows].sum(axis=0) - inner.sum(axis=0)
            start += block_columns + 1
        return Shared(session.holder, sums)

    def lookup(self, tables: Words | None, features: Sequence[int], rows: int, octets: int) -> Words | None:
        """Read XOR-shared tables at every row's bin and XOR over the blocks that contain the row: [M t].

        Parameters
        ----------
        tables
            This owner's share: uint64, shape (bins of these features,), of which the low 8 * octets bits count. None at
            the dealer.
        rows
            Rows of the result.

        Returns
        -------
        uint64 array, shape (rows,)
            This owner's share; None at the dealer.

        Notes
        -----
        With A' = A mod 2, E' = E mod 2, so that M = A' XOR E', and the last bin's entry XORed into the others:

        1. Every other owner Q sends the member t_Q XOR a stream m_Q; its share is E' t_Q XOR a stream d_Q.
        2. The member adds A' times what it received and its own t, E' times its own t, and the dealer's A' XOR(m_Q) XOR
           XOR(d_Q).
        """
        session = self.session
        table_type = np.dtype(f"<u{octets}")
        layout, columns = self._layout(features)
        streams = session.streams(session.next_number())
        result = np.zeros(rows, dtype=table_type)
        own = np.empty(0, dtype=table_type)
        if tables is not None:
            own = self._fold_last(tables.astype(table_type), features, layout, result)
        mixed = own.copy() if tables is not None else np.zeros(columns, dtype=table_type)
        for owner in self._others:
            hidden = streams[owner].octets(columns * octets).view(table_type) if owner in streams else None
            payload = None
            if tables is not None and hidden is not None:
                payload = (hidden ^ own).view(np.uint8)
            received = session.pass_masked(owner, [self.member], payload, columns * octets)
            if received is not None:
                mixed ^= received.view(table_type)
            elif session.dealing and hidden is not None:
                mixed ^= hidden
        if self._mask is not None:  # the member: own and received tables; the dealer: their masks
            kernels.xor_dense(self._mask, layout, mixed, result)
        if tables is not None:
            kernels.xor_dense(self._known_masked(), layout, own, result)
        finished = finish_lookup(session, self.member, result.astype(WORD), octets)
        if finished is not None and session.holder != self.member:
            finished = finished ^ result.astype(WORD)
        return finished

    def _fold_last(
        self, tables: kernels.Table, features: Sequence[int], layout: kernels.Starts, result: kernels.Table
    ) -> kernels.Table:
        """Put each block's last entry on all its rows, and the difference to it into the other entries."""
        folded = []
        start = 0
        for feature, (first_row, rows, _, _, _) in zip(features, layout, strict=True):
            table = tables[start : start + self.blocks[feature].bins]
            start += len(table)
            result[first_row : first_row + rows] ^= table[-1]
            folded.append(table[:-1] ^ table[-1])
        return np.concatenate(folded)

    def _layout(self, features: Sequence[int]) -> tuple[kernels.Starts, int]:
        """Rows (first row, rows, columns, first column, first cell) for the kernels, and the number of columns."""
        layout = np.empty((len(features), 5), dtype=np.int64)
        column = 0
        for position, feature in enumerate(features):
            block = self.blocks[feature]
            layout[position] = block.first_row, block.rows, block.bins - 1, column, self._cell_starts[feature]
            column += block.bins - 1
        return layout, column

    def _known_masked(self) -> Words:
        assert self._masked is not None
        return self._masked
