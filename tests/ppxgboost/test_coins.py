"""Coins: bits and integers from a key and a context; known answers in tests/vectors/ope.json."""

import json
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.strategies import QUICK

from veilboost.ppxgboost.coins import Coins

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ope.json").read_text(encoding="utf-8"))
KEY = bytes(range(32))


@pytest.mark.parametrize("case", VECTORS["coins"])
def test_known_answers(case: dict[str, Any]) -> None:
    coins = Coins(bytes.fromhex(case["key"]), bytes.fromhex(case["context"]))
    coins = coins.branch(case["branch"]) if case["branch"] else coins
    assert [coins.bits(count) for count, _ in case["bits"]] == [int(drawn) for _, drawn in case["bits"]]
    assert [coins.below(int(bound)) for bound, _ in case["below"]] == [int(drawn) for _, drawn in case["below"]]


@QUICK
@given(counts=st.lists(st.integers(0, 1200), max_size=6))
def test_bits_are_the_keyed_hashes_bits_in_order(counts: list[int]) -> None:
    blocks = [blake2b(b"name" + bytes(4) + i.to_bytes(4, "big"), key=KEY).digest() for i in range(16)]
    stream, coins = int.from_bytes(b"".join(blocks), "little"), Coins(KEY, b"name")
    for count in counts:
        assert coins.bits(count) == stream & ((1 << count) - 1)
        stream >>= count


def test_integers_below_a_bound_are_uniform() -> None:
    """Chi-square; a correct program fails with probability 1e-6 over keys, and these keys are fixed."""
    for bound in (3, 5, 12, 100):
        coins = Coins(KEY, b"below")
        counts = Counter(coins.below(bound) for _ in range(200 * bound))
        assert set(counts) == set(range(bound))
        assert stats.chisquare([counts[i] for i in range(bound)]).pvalue > 1e-6


def test_tails_are_geometric() -> None:
    coins = Coins(KEY, b"tails")
    counts = Counter(min(coins.tails(), 6) for _ in range(8000))
    expected = [8000 / 2 ** (g + 1) for g in range(6)] + [8000 / 2**6]
    assert stats.chisquare([counts[g] for g in range(7)], expected).pvalue > 1e-6


def test_below_one_needs_no_coins() -> None:
    coins = Coins(KEY, b"one")
    assert coins.below(1) == 0
    assert coins.bits(64) == Coins(KEY, b"one").bits(64)


def test_branches_and_contexts_and_keys_differ() -> None:
    coins = Coins(KEY, b"name")
    drawn = {coins.branch(number).bits(128) for number in (1, 2, 3)}
    drawn |= {coins.bits(128), Coins(KEY, b"name2").bits(128), Coins(bytes(32), b"name").bits(128)}
    assert len(drawn) == 6


def test_a_branch_leaves_the_coins_where_they_are() -> None:
    coins, others = Coins(KEY, b"name"), Coins(KEY, b"name")
    coins.bits(7)
    coins.branch(1).bits(2000)
    others.bits(7)
    assert coins.bits(64) == others.bits(64)


def test_redacted() -> None:
    coins = Coins(KEY, b"name")
    coins.bits(3)
    assert f"{coins!r} {coins}" == "Coins(redacted) Coins(redacted)"
