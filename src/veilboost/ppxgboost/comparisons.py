"""The key of one user's comparisons, for both schemes: thresholds and queries are encrypted under it."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from veilboost.mpc.prg import derive_key
from veilboost.ppxgboost import ore, workers
from veilboost.ppxgboost.ope import OrderPreserving

SECRET_BYTES: Final = 32

#: So many rows are worth a thread each, and so many order-preserving ciphertexts a process each: some seconds' work.
_WORTH_THREADS: Final = 512
_WORTH_PROCESSES: Final = 20_000

Words32 = npt.NDArray[np.uint32]
Words64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class ComparisonKey:
    """The secret under which thresholds and queries are encrypted; 32 bytes, proxy and user have it."""

    secret: bytes

    def __repr__(self) -> str:
        return "ComparisonKey(redacted)"

    @cached_property
    def revealing(self) -> ore.OrderRevealing:
        return ore.OrderRevealing(derive_key(self.secret, b"comparisons"))

    @cached_property
    def _preserving(self) -> dict[int, OrderPreserving]:
        return {}

    def preserving(self, column: int) -> OrderPreserving:
        """The order-preserving scheme of one column, under a key of its own."""
        if column not in self._preserving:
            self._preserving[column] = OrderPreserving(derive_key(self.secret, b"order of column %d" % column))
        return self._preserving[column]

    def left(self, codes: Words32) -> ore.LeftCiphertexts:
        """Left ciphertexts of a query's codes, uint32, shape (rows, columns); many rows on all cores."""
        columns = np.arange(codes.shape[1], dtype=np.uint32)
        threads = min(os.cpu_count() or 1, len(codes) // _WORTH_THREADS)
        if threads < 2:
            return self.revealing.left(columns, codes)
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda part: self.revealing.left(columns, part), np.array_split(codes, threads)))
        keys = np.concatenate([part.keys for part in parts])
        return ore.LeftCiphertexts(keys, np.concatenate([part.places for part in parts]))

    def preserve(self, codes: Words32) -> Words64:
        """Order-preserving ciphertexts of a query's codes, of their shape; many on all cores, equal ones once."""
        found = np.empty(codes.shape, dtype=np.uint64)
        columns = [np.unique(column, return_inverse=True) for column in codes.T]
        processes = min(os.cpu_count() or 1, len(columns))
        encrypted: dict[int, Words64] = {}
        if processes > 1 and sum(len(different) for different, _ in columns) >= _WORTH_PROCESSES:
            shares = [
                [(number, columns[number][0]) for number in range(n, len(columns), processes)] for n in range(processes)
            ]
            for part in workers.preserve(self.secret, shares):
                encrypted |= part
        else:
            encrypted = {n: self.preserving(n).encrypt(different) for n, (different, _) in enumerate(columns)}
        for number, (_, which) in enumerate(columns):
            found[:, number] = encrypted[number][which.ravel()]
        return found
