"""Checkpoints: an owner's shares after every tree, so that a killed training can be continued.

An owner keeps the last two, because its peers may have been killed just before they wrote the last. A checkpoint is
bound to the epoch in which its tree was grown: only owners that have checkpoints of the same tree and epoch can
continue together. No mask is stored: a resumed training begins a new epoch and draws all masks, permutations and
correlations anew. The dealer and the analyst need no checkpoint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from veilboost.errors import InputError
from veilboost.jobs.sealed import Arrays, seal, unseal
from veilboost.tables.table import Table

State = TypeVar("State")

_KEPT = 2
_NAME = re.compile(r"tree-(\d{5})\.checkpoint")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one owner in one job.

    Attributes
    ----------
    directory
        Where they are.
    key
        The owner's storage key.
    job_hash, owner, table
        What they are bound to: job, owner, and the digest of the owner's table.
    """

    directory: Path
    key: bytes = field(repr=False)
    job_hash: bytes
    owner: str
    table: bytes = field(repr=False)

    def keep(self, number: int, state: Arrays, epoch: bytes) -> None:
        """Write the state after a tree, and remove what is no longer needed."""
        arrays: Arrays = {**state, "epoch": np.frombuffer(epoch, dtype=np.uint8)}
        seal(self._path(number), arrays, self.key, self._bound_to(number))
        for old in self._numbers():
            if not number - _KEPT < old <= number:
                self._path(old).unlink(missing_ok=True)

    def epochs(self) -> dict[int, str]:
        """Epoch, in hexadecimal, of the checkpoint after each tree.

        Raises
        ------
        InputError
            When a checkpoint is damaged, or of another job, owner or table.
        """
        return {
            number: unseal(self._path(number), self.key, self._bound_to(number))["epoch"].tobytes().hex()
            for number in self._numbers()
        }

    def load(self, number: int, read: Callable[[Arrays], State]) -> State:
        """The state after `number` trees.

        Parameters
        ----------
        read
            Makes a state of its arrays; a ValueError or KeyError says that they are none.

        Raises
        ------
        InputError
            As `epochs`, or when the checkpoint does not fit the job.
        """
        arrays = unseal(self._path(number), self.key, self._bound_to(number))
        del arrays["epoch"]
        try:
            return read(arrays)
        except (ValueError, KeyError):
            raise InputError(f"{self._path(number)}: does not fit this job: remove it") from None

    def clear(self) -> None:
        """Remove all checkpoints, also one that was being written when this role was killed."""
        for number in self._numbers():
            self._path(number).unlink(missing_ok=True)
        for unfinished in self.directory.glob("tree-*.checkpoint.partial"):
            unfinished.unlink(missing_ok=True)

    def _numbers(self) -> list[int]:
        found = [_NAME.fullmatch(path.name) for path in self.directory.glob("tree-*.checkpoint")]
        return sorted(int(match[1]) for match in found if match)

    def _path(self, number: int) -> Path:
        return self.directory / f"tree-{number:05d}.checkpoint"

    def _bound_to(self, number: int) -> bytes:
        return b"veilboost checkpoint %d " % number + self.job_hash + self.table + self.owner.encode()


def digest_of(table: Table) -> bytes:
    """SHA-256 of an owner's cells, labels, weights and ids: a checkpoint is of no use with another table."""
    digest = hashlib.sha256()
    for feature in table.features:
        digest.update(table.values(feature.name).tobytes())
    for values in (table.label, table.weight):
        if values is not None:
            digest.update(values.tobytes())
    for one in table.ids:
        digest.update(hashlib.sha256(one.encode()).digest())
    return digest.digest()
