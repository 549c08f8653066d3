"""Sums of encrypted leaves are those of plain multiplication."""

from functools import cache
from math import prod

import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from veilboost.ppxgboost.paillier import Encryptor
from veilboost.ppxgboost.sums import LeafSums

LEAVES = 12


@cache
def made() -> tuple[Encryptor, list[mpz], LeafSums]:
    encryptor = Encryptor._generate(256)
    leaves = [encryptor.encrypt(3**number) for number in range(LEAVES)]
    return encryptor, leaves, LeafSums(encryptor.key.public, leaves)


@given(st.lists(st.integers(0, LEAVES - 1), max_size=20))
@settings(deadline=None)
def test_one_row(reached: list[int]) -> None:
    encryptor, leaves, sums = made()
    assert sums.of_row(reached) == prod(leaves[leaf] for leaf in reached) % encryptor.key.public.n_squared


@pytest.mark.parametrize(("rows", "trees"), [(1, 1), (2, 1), (5, 2), (40, 3), (40, 7), (3, 12)])
def test_many_rows(rows: int, trees: int) -> None:
    encryptor, leaves, sums = made()
    reached = np.random.default_rng(rows).integers(0, LEAVES, (rows, trees)).astype(np.int32)
    modulus = encryptor.key.public.n_squared
    assert sums.of_rows(reached) == [prod(leaves[leaf] for leaf in row) % modulus for row in reached.tolist()]


@pytest.mark.parametrize("bits", [0, 1, 64, 200])
def test_shifts(bits: int) -> None:
    encryptor, leaves, sums = made()
    for leaf in leaves:
        assert sums.shifted(leaf, bits) == pow(leaf, 1 << bits, encryptor.key.public.n_squared)
