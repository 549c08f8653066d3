"""Sums and lookups through matrices that nobody knows."""

from typing import Any

import numpy as np
import pytest
from tests.laws.test_incidence import full_words, share_of
from tests.network import execute, join, join_words, secret

from veilboost.mpc.protocols.shared_incidence import SharedIncidence
from veilboost.mpc.session import Session

SHAPES = [(5, 3), (1, 7), (64, 2), (9, 1)]
SUBSETS = ([0, 1, 2, 3], [3, 0], [2])


@pytest.mark.parametrize("owners", [2, 3, 5])
def test_sums_and_lookups(owners: int) -> None:
    rng = np.random.default_rng(owners)
    matrices = [rng.integers(0, 2, shape) for shape in SHAPES]
    values = [full_words(rng, rows, 3) for rows, _ in SHAPES]
    tables = [rng.integers(0, 2**64, columns, dtype=np.uint64) for _, columns in SHAPES]

    def program(session: Session) -> list[Any]:
        entries = secret(session, np.concatenate([matrix.reshape(-1) for matrix in matrices]))
        incidence = SharedIncidence(session, SHAPES, entries)
        done: list[Any] = []
        for subset in SUBSETS:
            done.append(incidence.sums(secret(session, np.concatenate([values[i] for i in subset])), subset))
            done.append(incidence.lookup(share_of(session, np.concatenate([tables[i] for i in subset]), 0), subset))
        return done

    results = execute(program, owners).results
    for number, subset in enumerate(SUBSETS):
        sums = join([result[2 * number] for result in results])
        with np.errstate(over="ignore"):
            assert np.array_equal(sums, np.concatenate([matrices[i].T @ values[i] for i in subset]))
        found = join_words([result[2 * number + 1] for result in results])
        expected = [np.bitwise_xor.reduce(np.where(matrices[i] == 1, tables[i], np.uint64(0)), axis=1) for i in subset]
        assert np.array_equal(found, np.concatenate(expected))
