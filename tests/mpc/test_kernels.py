"""The compiled kernels against plain definitions."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import QUICK, Ints, integers

from veilboost.mpc import kernels
from veilboost.mpc.ring import unpack_bits


@QUICK
@given(value=integers(size=st.integers(1, 200)), width=st.integers(1, 64))
def test_transposed_bits(value: Ints, width: int) -> None:
    words = value.view(np.uint64)
    planes = kernels.transpose_bits(words, width)
    expected = (words[None, :] >> np.arange(width, dtype=np.uint64)[:, None]) & np.uint64(1)
    assert np.array_equal(unpack_bits(planes, words.size), expected)
    mask = np.uint64(2**width - 1)
    assert np.array_equal(kernels.gather_words(planes, words.size), words & mask)


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1000, 70_000])
def test_shuffle_is_a_permutation(size: int) -> None:
    words = np.random.default_rng(size).integers(0, 2**64, size + kernels.SHUFFLE_SPARE, dtype=np.uint64)
    assert np.array_equal(np.sort(kernels.shuffle(words, size)), np.arange(size))


def test_shuffle_is_uniform() -> None:
    """Chi-square over all permutations of four elements."""
    rng = np.random.default_rng(8)
    runs, known = 48_000, {p: i for i, p in enumerate(permutations(range(4)))}
    counts = np.zeros(len(known))
    for words in rng.integers(0, 2**64, (runs, 4 + kernels.SHUFFLE_SPARE), dtype=np.uint64):
        counts[known[tuple(kernels.shuffle(words, 4).tolist())]] += 1
    expected = runs / len(known)
    assert ((counts - expected) ** 2).sum() / expected < 75  # 23 degrees of freedom: p = 2e-7


def test_shuffle_rejects_the_words_that_would_make_it_uneven() -> None:
    # word * 3 = high * 2^64 + low: the word 0 has low = 0 < 2^64 mod 3 = 1 and is the only one to be rejected.
    follow = np.array([2**63, 0, 0], dtype=np.uint64)
    straight = kernels.shuffle(np.concatenate([follow, np.zeros(70, np.uint64)]), 3)
    delayed = kernels.shuffle(np.concatenate([np.zeros(1, np.uint64), follow, np.zeros(70, np.uint64)]), 3)
    assert np.array_equal(straight, delayed)


def test_shuffle_says_when_the_words_run_out() -> None:
    with pytest.raises(RuntimeError, match="ran out"):
        kernels.shuffle(np.zeros(3 + kernels.SHUFFLE_SPARE, dtype=np.uint64), 3)
