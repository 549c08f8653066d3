"""What model, queries and results of one user have in common, and their bytes. The prediction server knows all of it.

A model's columns are pseudonymous: numbers that stand for a feature, and for numeric ones also for the direction in
which its missing values go. Numeric columns come first, then those of categories.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from gmpy2 import mpz

from veilboost.errors import CiphertextError
from veilboost.ppxgboost import ore, slots, wire
from veilboost.ppxgboost.paillier import PublicKey

Scheme = Literal["ore", "ope"]
SCHEMES: Final = get_args(Scheme)

KEY_ID_BYTES: Final = 16

#: Bounds of what is read, so that a damaged length cannot exhaust the memory.
MOST_ROWS: Final = 1 << 20
MOST_COLUMNS: Final = 1 << 20
MOST_CLASSES: Final = 100_000
MOST_CATEGORIES: Final = 1 << 16


@dataclass(frozen=True)
class Query:
    """Encrypted rows.

    Attributes
    ----------
    values
        uint64, shape (rows, numeric columns): order-preserving ciphertexts; of `ope` only, else (rows, 0).
    left
        Left ciphertexts, shape (rows, numeric columns, ...); of `ore` only, else of 0 columns.
    set_keys, set_places
        uint8, shape (rows, columns of categories, 16), and uint32, shape (rows, columns of categories).
    """

    values: npt.NDArray[np.uint64]
    left: ore.LeftCiphertexts
    set_keys: npt.NDArray[np.uint8]
    set_places: npt.NDArray[np.uint32]

    @property
    def rows(self) -> int:
        return len(self.values)

    def between(self, first: int, last: int) -> "Query":
        """Rows from `first` to before `last`."""
        some = slice(first, last)
        left = ore.LeftCiphertexts(self.left.keys[some], self.left.places[some])
        return Query(self.values[some], left, self.set_keys[some], self.set_places[some])


@dataclass(frozen=True)
class Layout:
    """The public shape of one user's model.

    Attributes
    ----------
    scheme
        How thresholds are compared: "ore" or "ope".
    key_id
        16 random bytes that model and keys have in common; no secret.
    numeric
        Number of numeric columns.
    domains
        For each column of categories the number of its places, a power of two.
    outputs
        Margins per row: the number of classes, or 1.
    """

    scheme: Scheme
    key_id: bytes
    numeric: int
    domains: tuple[int, ...]
    outputs: int

    def write(self, to: wire.Writer) -> None:
        to.raw(self.key_id)
        to.number(SCHEMES.index(self.scheme))
        to.number(self.outputs)
        to.number(self.numeric)
        to.number(len(self.domains))
        to.array(np.array(self.domains), "<u4")

    @classmethod
    def read(cls, source: wire.Reader) -> "Layout":
        key_id = source.raw(KEY_ID_BYTES)
        scheme: Scheme = SCHEMES[source.number(len(SCHEMES) - 1)]
        outputs = source.number(MOST_CLASSES)
        numeric = source.number(MOST_COLUMNS)
        domains = source.array("<u4", source.number(MOST_COLUMNS))
        if outputs < 1 or np.any(domains & (domains - 1)) or np.any(domains < 2) or np.any(domains > MOST_CATEGORIES):
            raise source.damaged("its layout is impossible")
        return cls(scheme, key_id, numeric, tuple(domains.tolist()), outputs)

    def write_query(self, query: Query) -> bytes:
        to = wire.Writer(wire.QUERY)
        to.raw(self.key_id)
        to.number(query.rows)
        to.array(query.values, "<u8")
        to.array(query.left.keys, "u1")
        to.array(query.left.places, "u1")
        to.array(query.set_keys, "u1")
        to.array(query.set_places, "<u4")
        return to.done()

    def read_query(self, data: bytes) -> Query:
        """Check a query and take it apart.

        Raises
        ------
        CiphertextError
            It is damaged, or was encrypted with other keys.
        """
        source = wire.Reader(wire.QUERY, data)
        self._check_key(source, "this query was encrypted with keys of another model")
        rows = source.number(MOST_ROWS)
        preserving = self.numeric if self.scheme == "ope" else 0
        revealing = self.numeric - preserving
        values = source.array("<u8", rows, preserving)
        keys = source.array("u1", rows, revealing, ore.BLOCKS, ore.KEY_BYTES)
        places = source.array("u1", rows, revealing, ore.BLOCKS)
        set_keys = source.array("u1", rows, len(self.domains), ore.KEY_BYTES)
        set_places = source.array("<u4", rows, len(self.domains))
        source.done()
        if rows == 0 or np.any(set_places >= np.array(self.domains, dtype=np.uint32)):
            raise source.damaged("a place is out of range" if rows else "it has no rows")
        return Query(values, ore.LeftCiphertexts(keys, places), set_keys, set_places)

    def parts(self, key: PublicKey) -> int:
        """Ciphertexts per row: more than 1 only where the classes do not fit into one."""
        return -(-self.outputs // slots.slots_of(key.plaintext_bits))

    def rows_together(self, key: PublicKey) -> int:
        """How many rows' results may share a ciphertext."""
        return max(1, slots.slots_of(key.plaintext_bits) // self.outputs)

    def slots_used(self, rows: int, key: PublicKey) -> list[int]:
        """How many slots each ciphertext of the result of so many rows uses, in their order."""
        parts = self.parts(key)
        if parts > 1:
            per_part = slots.slots_of(key.plaintext_bits)
            return [min(per_part, self.outputs - per_part * part) for part in range(parts)] * rows
        together = self.rows_together(key)
        return [self.outputs * min(together, rows - start) for start in range(0, rows, together)]

    def write_result(self, rows: int, ciphertexts: list[mpz], key: PublicKey) -> bytes:
        to = wire.Writer(wire.RESULT)
        to.raw(self.key_id)
        to.number(rows)
        to.raw(key.encode(ciphertexts))
        return to.done()

    def read_result(self, data: bytes, key: PublicKey) -> tuple[int, list[mpz]]:
        """Check a result: the number of rows, and ciphertexts.

        Raises
        ------
        CiphertextError
            It is damaged, or of another key.
        """
        source = wire.Reader(wire.RESULT, data)
        self._check_key(source, "this result is of a model for other keys")
        rows = source.number(MOST_ROWS)
        count = rows * self.parts(key) if self.parts(key) > 1 else -(-rows // self.rows_together(key))
        encoded = source.raw(count * key.ciphertext_bytes)  # before anything is made for so many rows
        source.done()
        if rows == 0:
            raise source.damaged("it has no rows")
        return rows, key.decode(encoded)

    def _check_key(self, source: wire.Reader, otherwise: str) -> None:
        if source.raw(KEY_ID_BYTES) != self.key_id:
            raise CiphertextError(f"{otherwise}: use the keys that were issued with this model")
