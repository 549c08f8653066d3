"""Incidence with matrices that nobody knows: sums per column and lookups through shared 0/1 matrices.

docs/protocols/shared-incidence.md. As in the dense layout (dense_incidence.py) two linear maps of a fixed matrix M are
wanted again and again: M^T x on shared vectors and M t on shared tables. Here M itself is shared, so it is opened once
under a mask A, and every product is one of Beaver's with that fixed mask (D. Beaver, CRYPTO 1991; a factor that stays
the same is opened once, as in P. Mohassel, Y. Zhang, "SecureML", IEEE S&P 2017, section IV).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from veilboost.mpc import kernels
from veilboost.mpc.correlations import Correlation, bits_field, ring_field
from veilboost.mpc.ring import WORD, WORD_BITS, Words
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits


class SharedIncidence:
    """Shared 0/1 matrices, opened once under a mask, ready for use.

    Parameters
    ----------
    shapes
        Rows and columns of each matrix.
    entries
        Shape (sum of rows * columns,): the matrices one after the other, each in C order, every entry 0 or 1.

    Notes
    -----
    Setup, once, in one round:

    1. The dealer shares a uniform A.
    2. All owners open E = M + A.
    """

    def __init__(self, session: Session, shapes: Sequence[tuple[int, int]], entries: Shared) -> None:
        self.session = session
        self.shapes = tuple(shapes)
        self._starts = np.concatenate([[0], np.cumsum([rows * columns for rows, columns in shapes])]).astype(np.int64)
        dealt = session.correlate(Correlation("shared matrices", masks=[ring_field(entries.size)]))
        self._mask = dealt.ring_mask(0)
        self._entries = entries
        self._opened: Words | None = None  # E, at the owners
        if not session.dealing:
            (self._opened,) = session.open_masked((entries, self._mask))

    def __repr__(self) -> str:
        return f"SharedIncidence(matrices={len(self.shapes)}, redacted)"

    def sums(self, vectors: Shared, matrices: Sequence[int]) -> Shared:
        """M^T x for some of the matrices. One round.

        Parameters
        ----------
        vectors
            Shape (rows of these matrices, vectors).

        Returns
        -------
        Shared
            Shape (columns of these matrices, vectors).

        Notes
        -----
        1. The dealer shares a uniform b and A^T b.
        2. All owners open d = x + b.
        3. M^T x = E^T x - A^T d + A^T b.
        """
        session, width = self.session, vectors.shape[1]
        layout, rows, columns = self._layout(matrices)

        def derive(mask: Words, matrix: Words) -> list[Words]:
            product = np.zeros((columns, width), dtype=WORD)
            kernels.add_dense(matrix, layout, mask, product)
            return [product]

        dealt = session.correlate(
            Correlation(
                "sums through shared matrices",
                masks=[ring_field(rows, width)],
                derived=[ring_field(columns, width)],
                derive=derive,
                earlier=[self._mask],
            )
        )
        if self._opened is None:
            return dealt.ring(0)
        (opened,) = session.open_masked((vectors, dealt.ring_mask(0)))
        total = dealt.ring(0).words.copy()
        kernels.add_dense(self._opened, layout, np.ascontiguousarray(vectors.words), total)
        kernels.add_dense(self._mask.share.words, layout, np.negative(opened), total)
        return Shared(session.holder, total)

    def lookup(self, tables: Words | None, matrices: Sequence[int]) -> Words | None:
        """M t in XOR shares: of every row, the XOR of the table's words at the row's ones. One round.

        Parameters
        ----------
        tables
            This owner's XOR share: uint64, shape (columns of these matrices,); None at the dealer.

        Returns
        -------
        uint64 array, shape (rows of these matrices,)
            This owner's share; None at the dealer.

        Notes
        -----
        Lowest bits of additive shares are XOR shares of the lowest bit: with A' = A mod 2 and E' = E mod 2, M = A' XOR
        E'.

        1. The dealer shares a uniform m and A' m.
        2. All owners open d = t XOR m.
        3. M t = E' t XOR A' d XOR A' m.
        """
        session = self.session
        layout, rows, columns = self._layout(matrices)

        def derive(mask: Words, matrix: Words) -> list[Words]:
            product = np.zeros(rows, dtype=WORD)
            kernels.xor_dense(matrix, layout, mask, product)
            return [product]

        dealt = session.correlate(
            Correlation(
                "lookup through shared matrices",
                masks=[bits_field(WORD_BITS * columns)],
                derived=[bits_field(WORD_BITS * rows)],
                derive=derive,
                earlier=[self._mask],
            )
        )
        if self._opened is None or tables is None:
            return None
        secret = SharedBits(session.holder, tables, WORD_BITS * columns)
        (opened,) = session.open_masked((secret, dealt.bits_mask(0)))
        result = dealt.bits(0).words.copy()
        kernels.xor_dense(self._opened, layout, tables, result)
        kernels.xor_dense(self._mask.share.words, layout, opened, result)
        return result

    def _layout(self, matrices: Sequence[int]) -> tuple[kernels.Starts, int, int]:
        """Blocks for the kernels, and the rows and columns of these matrices altogether."""
        layout = np.empty((len(matrices), 5), dtype=np.int64)
        first_row = first_column = 0
        for position, matrix in enumerate(matrices):
            rows, columns = self.shapes[matrix]
            layout[position] = first_row, rows, columns, first_column, self._starts[matrix]
            first_row, first_column = first_row + rows, first_column + columns
        return layout, first_row, first_column
