"""Histograms and lookups in both layouts: every member, every table width, subsets of features, forced chunks."""

from typing import Any

import numpy as np
import pytest
from tests.network import execute, join, join_words, secret

from veilboost.mpc.protocols import permuted_incidence
from veilboost.mpc.protocols.dense_incidence import Block, DenseIncidence
from veilboost.mpc.protocols.permuted_incidence import PermutedIncidence, SlotPlan, pad_words
from veilboost.mpc.ring import Words
from veilboost.mpc.session import Session

MEMBERS = [(owners, member) for owners in (2, 3, 5) for member in range(owners)]
SUBSETS = ([0, 1, 2, 3], [3, 0], [2], [1, 2, 3])


def share_of(session: Session, words: Words, owner: int) -> Words | None:
    """This participant's XOR share of a table."""
    shared = session.share_bits(owner, words if session.holder == owner else None, words.shape, 64 * words.size)
    return None if session.dealing else shared.words


def full_words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-(2**63), 2**63, size=shape)


def make_plans(rows: int) -> list[SlotPlan]:
    """No slack; a slack; one row per bin; more than 256 bins."""
    return [SlotPlan(3, -(-rows // 3)), SlotPlan(7, -(-rows // 4)), SlotPlan(rows, 1), SlotPlan(300, -(-rows // 200))]


def make_bins(rng: np.random.Generator, plans: list[SlotPlan], rows: int) -> np.ndarray:
    return np.stack([rng.permutation(np.repeat(np.arange(p.bins), p.capacity)[:rows]) for p in plans]).astype(np.uint16)


@pytest.mark.parametrize("chunk_words", [1, 700, 1 << 20])
@pytest.mark.parametrize(("owners", "member"), MEMBERS)
def test_permuted(owners: int, member: int, chunk_words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permuted_incidence, "CHUNK_WORDS", chunk_words)
    rng = np.random.default_rng([owners, member])
    rows, vectors = int(rng.integers(1, 200)), int(rng.integers(1, 5))
    plans = make_plans(rows)
    bins = make_bins(rng, plans, rows)
    values = full_words(rng, rows, vectors)
    tables = [rng.integers(0, 2**64, plan.bins, dtype=np.uint64) for plan in plans]

    def program(session: Session) -> list[Any]:
        incidence = PermutedIncidence(session, member, plans, rows, bins if session.holder == member else None)
        exchanged = session.exchange_masked(secret(session, values))
        done: list[Any] = []
        for features in SUBSETS:
            done.append(incidence.histogram(exchanged, features))
            table = share_of(session, np.concatenate([tables[f] for f in features]), 1)
            done.append([incidence.lookup(table, features, octets) for octets in (1, 2, 4, 8)])
        return done

    outcome = execute(program, owners)
    for number, features in enumerate(SUBSETS):
        sums = join([result[2 * number] for result in outcome.results])
        expected = np.concatenate([summed(values, bins[f], plans[f].bins) for f in features])
        assert np.array_equal(sums, expected)
        assert outcome.dealer_result[2 * number].shape == expected.shape
        read = np.bitwise_xor.reduce([tables[f][bins[f]] for f in features])
        for place, octets in enumerate((1, 2, 4, 8)):
            found = join_words([result[2 * number + 1][place] for result in outcome.results])
            assert np.array_equal(found, read & np.uint64(2 ** (8 * octets) - 1))


def summed(values: np.ndarray, bins: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros((count, values.shape[1]), dtype=np.int64)
    np.add.at(total, bins, values)
    return total


@pytest.mark.parametrize(("owners", "member"), MEMBERS)
def test_dense(owners: int, member: int) -> None:
    rng = np.random.default_rng([owners, member, 1])
    rows, vectors = int(rng.integers(4, 200)), int(rng.integers(1, 5))
    # The third block covers the second half of the rows only; the fourth has a single bin.
    blocks = [Block(0, rows, 2), Block(0, rows, 4), Block(rows // 2, rows - rows // 2, 3), Block(0, rows, 1)]
    bins = [rng.integers(0, block.bins, block.rows).astype(np.uint16) for block in blocks]
    values = full_words(rng, rows, vectors)
    tables = [rng.integers(0, 2**64, block.bins, dtype=np.uint64) for block in blocks]

    def program(session: Session) -> list[Any]:
        own = np.concatenate(bins) if session.holder == member else None
        incidence = DenseIncidence(session, member, blocks, own)
        exchanged = session.exchange_masked(secret(session, values))
        done: list[Any] = []
        for features in SUBSETS:
            done.append(incidence.histogram(exchanged, features))
            table = share_of(session, np.concatenate([tables[f] for f in features]), 1)
            done.append([incidence.lookup(table, features, rows, octets) for octets in (1, 2, 4, 8)])
        return done

    outcome = execute(program, owners)
    for number, features in enumerate(SUBSETS):
        sums = join([result[2 * number] for result in outcome.results])
        expected = np.concatenate(
            [
                summed(values[b.first_row : b.first_row + b.rows], bins[f], b.bins)
                for f, b in ((f, blocks[f]) for f in features)
            ]
        )
        assert np.array_equal(sums, expected)
        assert outcome.dealer_result[2 * number].shape == expected.shape
        read = np.zeros(rows, dtype=np.uint64)
        for f in features:
            read[blocks[f].first_row : blocks[f].first_row + blocks[f].rows] ^= tables[f][bins[f]]
        for place, octets in enumerate((1, 2, 4, 8)):
            found = join_words([result[2 * number + 1][place] for result in outcome.results])
            assert np.array_equal(found, read & np.uint64(2 ** (8 * octets) - 1))


def test_rows_that_do_not_fit_are_refused_without_saying_which() -> None:
    bins = np.zeros((1, 3), dtype=np.uint16)

    def program(session: Session) -> None:
        PermutedIncidence(session, 0, [SlotPlan(2, 2)], 3, bins if session.holder == 0 else None)

    with pytest.raises(ValueError, match="rows do not fit their bins") as caught:
        execute(program)
    assert not any(character.isdigit() for character in str(caught.value))


@pytest.mark.parametrize("count", range(10))
def test_padding_to_whole_words(count: int) -> None:
    values = np.arange(count, dtype=np.uint16) + 7
    padded = pad_words(values)
    assert padded.dtype == np.uint64
    assert np.array_equal(padded.view(np.uint16)[:count], values)
    assert not padded.view(np.uint16)[count:].any()
