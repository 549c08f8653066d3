"""One user's encrypted model, and its evaluation: what the untrusted prediction server holds and does.

Nothing here is secret: the model has pseudonyms, comparison ciphertexts and Paillier ciphertexts, and needs no key.
What its holder learns from it and from queries is in docs/leakage.md.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from gmpy2 import mpz

from veilboost.errors import CiphertextError
from veilboost.ppxgboost import kernels, ore, slots, wire, workers
from veilboost.ppxgboost.layout import MOST_ROWS, Layout, Query
from veilboost.ppxgboost.paillier import LEAST_BITS, MOST_BITS, PublicKey
from veilboost.ppxgboost.structure import Trees
from veilboost.ppxgboost.sums import LeafSums

Int32 = npt.NDArray[np.int32]
Octets = npt.NDArray[np.uint8]

PSEUDONYM_BYTES: Final = 16

#: So many products of ciphertexts, about a second's work, are worth starting processes for.
_WORTH_PROCESSES: Final = 100_000

#: Groups of rows, each of one ciphertext, that are evaluated at a time.
_GROUPS_AT_ONCE: Final = 40


@dataclass(frozen=True, eq=False)
class EncryptedModel:
    """A personal encrypted model.

    Attributes
    ----------
    layout, key
        What it shares with its queries and results; what ciphertexts are added with.
    pseudonyms
        HMAC-SHA256 of each column's feature, cut to 16 bytes, under a key of the user's.
    trees
        Shapes.
    thresholds, preserved
        Of numeric nodes in the order of the nodes: right ciphertexts (`ore`), or uint64 (`ope`); the other is empty.
    set_nonces, set_tables
        Of nodes of categories: uint8, shape (sets, 16), and tables behind one another, domain / 8 bytes each.
    leaves
        A ciphertext for every leaf, in the order of the nodes.
    """

    layout: Layout
    key: PublicKey
    pseudonyms: tuple[bytes, ...]
    trees: Trees
    thresholds: ore.RightCiphertexts
    preserved: npt.NDArray[np.uint64]
    set_nonces: Octets
    set_tables: Octets
    leaves: tuple[mpz, ...]

    def __repr__(self) -> str:
        return f"EncryptedModel({len(self.trees.roots)} trees, {len(self.leaves)} leaves, {self.layout.scheme})"

    def evaluate(self, query: bytes, processes: int | None = None, most_rows: int = MOST_ROWS) -> bytes:
        """Predict for all rows of an encrypted query.

        Parameters
        ----------
        query
            What `UserKeys.encrypt_query` made with the keys that belong to this model.
        processes
            How many to use for many rows; None: one for each core.
        most_rows
            A server's patience: queries of more rows are refused before anything is computed. A row takes about a
            millisecond for each hundred trees, however short its part of the query.

        Returns
        -------
        The encrypted result; only those keys decrypt it.

        Raises
        ------
        CiphertextError
            The query is damaged, was encrypted with other keys, or has more than `most_rows` rows.
        """
        asked = self.layout.read_query(query)
        if asked.rows > most_rows:
            raise CiphertextError(
                f"the query has {asked.rows} rows, and at most {most_rows} are answered: ask for fewer"
            )
        wanted = (os.cpu_count() or 1) if processes is None else processes
        if wanted > 1 and asked.rows * len(self.trees.roots) >= _WORTH_PROCESSES:
            found = self._evaluate_in_processes(asked, wanted)
        else:
            found = self._evaluate(asked)
        return self.layout.write_result(asked.rows, found, self.key)

    def _evaluate_in_processes(self, query: Query, processes: int) -> list[mpz]:
        """`_evaluate`, each process with rows of its own, none of which share a ciphertext with another's."""
        together = self.layout.rows_together(self.key)
        groups = -(-query.rows // together)
        bounds = [min(query.rows, together * round(groups * part / processes)) for part in range(processes + 1)]
        parts = [self.layout.write_query(query.between(*ends)) for ends in pairwise(bounds) if ends[0] < ends[1]]
        results = workers.evaluate(self.to_bytes(), parts)
        return [number for result in results for number in self.layout.read_result(result, self.key)[1]]

    def _evaluate(self, query: Query) -> list[mpz]:
        """Ciphertexts of the result, in the order of `Layout.read_result`; in blocks, which bounds the memory."""
        step = self.layout.rows_together(self.key) * _GROUPS_AT_ONCE
        blocks = (query.between(start, start + step) for start in range(0, query.rows, step))
        return [number for block in blocks for number in self._evaluate_block(block)]

    def _evaluate_block(self, query: Query) -> list[mpz]:
        reached = self._leaves_reached(query)
        parts = self.layout.parts(self.key)
        if query.rows == 1 and parts == 1:
            return [self._sums.of_row(reached[0].tolist())]
        results = [self._sums.of_rows(reached[:, self.trees.part == part]) for part in range(parts)]
        if parts > 1:
            return [number for row in zip(*results, strict=True) for number in row]
        return self._shared(results[0])

    def _leaves_reached(self, query: Query) -> Int32:
        """Numbers of leaves, int32, shape (rows, trees)."""
        reached = np.empty((query.rows, len(self.trees.roots)), dtype=np.int32)
        walked = self._nodes
        for row in range(query.rows):
            set_keys = ore.permuted(query.set_keys[row])
            set_hashes = ore.hashes(set_keys[self._set_columns], self.set_nonces)
            sets = self.set_tables, self._set_starts, set_hashes, query.set_places[row]
            if self.layout.scheme == "ope":
                kernels.walk_preserving(*walked, self.preserved, query.values[row], *sets, reached[row])
            else:
                keys = ore.permuted(query.left.keys[row])
                hashes = ore.hashes(keys[self._threshold_columns], self.thresholds.nonces[:, np.newaxis])
                places = query.left.places[row]
                kernels.walk_revealing(*walked, self.thresholds.tables, hashes, places, *sets, reached[row])
        return reached

    def _shared(self, results: Sequence[mpz]) -> list[mpz]:
        """Results of several rows in slots of one ciphertext, the first row in the lowest."""
        together = self.layout.rows_together(self.key)
        found = []
        for start in range(0, len(results), together):
            *others, shared = results[start : start + together]
            for result in reversed(others):
                shifted = self._sums.shifted(shared, slots.SLOT_BITS * self.layout.outputs)
                shared = shifted * result % self.key.n_squared
            found.append(shared)
        return found

    @cached_property
    def _sums(self) -> LeafSums:
        return LeafSums(self.key, self.leaves)

    @cached_property
    def _inner_columns(self) -> Int32:
        return self.trees.column[~self.trees.leaf]

    @cached_property
    def _threshold_columns(self) -> Int32:
        """The column of each threshold."""
        return self._inner_columns[self._inner_columns < self.layout.numeric]

    @cached_property
    def _set_columns(self) -> Int32:
        """The column of each set, counted from the first column of categories."""
        return self._inner_columns[self._inner_columns >= self.layout.numeric] - np.int32(self.layout.numeric)

    @cached_property
    def _set_starts(self) -> npt.NDArray[np.int64]:
        """Where the table of each set begins, and the end of the last."""
        sizes = -(-np.array(self.layout.domains, dtype=np.int64) // 8)
        return np.cumsum(np.append(0, sizes[self._set_columns]))

    @cached_property
    def _nodes(self) -> tuple[Int32, Int32, Int32, Int32, Int32, npt.NDArray[np.bool_]]:
        """Nodes as the kernels take them."""
        trees, leaf = self.trees, self.trees.leaf
        is_set = ~leaf & (trees.column >= self.layout.numeric)
        item = np.zeros(len(leaf), dtype=np.int32)
        for kind in (leaf, is_set, ~leaf & ~is_set):
            item[kind] = np.arange(np.count_nonzero(kind), dtype=np.int32)
        column = np.where(is_set, trees.column - self.layout.numeric, trees.column).astype(np.int32)
        return trees.roots, trees.left, trees.right, column, item, is_set

    def to_bytes(self) -> bytes:
        """What a server stores; `from_bytes` reads it."""
        to = wire.Writer(wire.MODEL)
        self.layout.write(to)
        to.octets(int(self.key.n).to_bytes(-(-self.key.n.bit_length() // 8), "big"))
        to.raw(b"".join(self.pseudonyms))
        self.trees.write(to)
        to.array(self.thresholds.nonces, "u1")
        to.array(self.thresholds.tables, "u1")
        to.array(self.preserved, "<u8")
        to.array(self.set_nonces, "u1")
        to.array(self.set_tables, "u1")
        to.raw(self.key.encode(self.leaves))
        return to.done()

    @classmethod
    def from_bytes(cls, data: bytes) -> "EncryptedModel":
        """Read and check what `to_bytes` wrote.

        Raises
        ------
        CiphertextError
            It is damaged, or of another version.
        """
        source = wire.Reader(wire.MODEL, data)
        layout = Layout.read(source)
        key = PublicKey(mpz(int.from_bytes(source.octets(), "big")))
        if not LEAST_BITS <= key.n.bit_length() <= MOST_BITS or key.n % 2 == 0:
            raise source.damaged("its key has an impossible length")
        columns = layout.numeric + len(layout.domains)
        pseudonyms = source.array("u1", columns, PSEUDONYM_BYTES)
        trees = Trees.read(source, columns, layout.parts(key))
        inner = trees.column[~trees.leaf]
        n_thresholds = int(np.count_nonzero(inner < layout.numeric))
        n_sets = len(inner) - n_thresholds
        revealing = n_thresholds if layout.scheme == "ore" else 0
        thresholds = ore.RightCiphertexts(
            source.array("u1", revealing, ore.NONCE_BYTES),
            source.array("u1", revealing, ore.BLOCKS, ore.TABLE_BYTES),
        )
        if not thresholds.valid:
            raise source.damaged("a table has an impossible entry")
        preserved = source.array("<u8", n_thresholds - revealing)
        set_nonces = source.array("u1", n_sets, ore.NONCE_BYTES)
        set_columns = inner[inner >= layout.numeric] - layout.numeric
        table_bytes = int((-(-np.array(layout.domains, dtype=np.int64) // 8))[set_columns].sum())
        set_tables = source.array("u1", table_bytes)
        encoded = source.raw(int(np.count_nonzero(trees.leaf)) * key.ciphertext_bytes)
        source.done()
        return cls(
            layout,
            key,
            tuple(bytes(name) for name in pseudonyms),
            trees,
            thresholds,
            preserved,
            set_nonces,
            set_tables,
            tuple(key.decode(encoded)),
        )
