"""Signs, comparisons, bits of differences, the largest of many, and one-hot indices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.network import execute, run, secret, secret_bits
from tests.strategies import EDGES, FEW, Ints, integers, owners

from veilboost.mpc.kernels import transpose_bits
from veilboost.mpc.protocols.argmax import argmax
from veilboost.mpc.protocols.compare import leading_one, less_than, negative, subtract
from veilboost.mpc.protocols.one_hot import look_up, one_hot, parity
from veilboost.mpc.ring import to_ring
from veilboost.mpc.session import Session


@FEW
@given(count=owners, value=integers())
def test_negative(count: int, value: Ints) -> None:
    assert np.array_equal(run(lambda s: negative(s, secret(s, value)), count), value < 0)


def test_negative_of_all_edges_and_many_random_values() -> None:
    rng = np.random.default_rng(1)
    near = [edge + step for edge in EDGES for step in range(-3, 4)]
    value = np.array([(v + 2**63) % 2**64 - 2**63 for v in near], dtype=np.int64)
    value = np.concatenate([value, rng.integers(-(2**63), 2**63, 20_000), 1 << np.arange(63), -(1 << np.arange(63))])
    for count in (2, 3):
        below = run(lambda s, value=value: negative(s, secret(s, value.reshape(1, -1))), count)
        assert np.array_equal(below, value < 0)


def planes_of(value: Ints, width: int) -> np.ndarray:
    return (value[None, :] >> np.arange(width)[:, None]) & 1


@FEW
@given(count=owners, width=st.integers(1, 63), data=st.data())
def test_less_than_and_subtract(count: int, width: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 80))
    numbers = integers(0, 2**width - 1, st.just(size))
    public, private = data.draw(numbers), data.draw(numbers)
    private = np.where(data.draw(integers(0, 2, st.just(size))) == 0, public, private)

    def program(session: Session) -> list:
        planes = None if session.dealing else transpose_bits(to_ring(public), width)
        shared = secret_bits(session, planes_of(private, width))
        return [less_than(session, planes, shared), subtract(session, planes, shared)]

    below, difference = run(program, count)
    assert np.array_equal(below, public < private)
    assert np.array_equal(difference, planes_of((public - private) & (2**width - 1), width))


@FEW
@given(count=owners, high=st.integers(1, 62), data=st.data())
def test_leading_one(count: int, high: int, data: st.DataObject) -> None:
    value = data.draw(integers(0, 2**high - 1))
    value = value >> data.draw(integers(0, high, st.just(len(value))))
    result = run(lambda s: leading_one(s, secret(s, value), 0, high), count)
    places = [int(v).bit_length() - 1 for v in value]
    assert np.array_equal(result, [[place == plane for place in places] for plane in range(high)])


@FEW
@given(low=st.integers(1, 25), data=st.data())
def test_leading_one_above_a_bit(low: int, data: st.DataObject) -> None:
    high = data.draw(st.integers(low + 1, 50))
    # Bits far below are allowed to count for 2^(low - 8).
    slack = 1 << max(0, low - 8)
    value = data.draw(integers(0, 2**high - 1 - slack))
    result = run(lambda s: leading_one(s, secret(s, value), low, high))
    assert (result.sum(axis=0) <= 1).all()
    for position, number in enumerate(value.tolist()):
        allowed = {number.bit_length() - 1, (number + slack).bit_length() - 1}
        found = set((np.flatnonzero(result[:, position]) + low).tolist())
        assert found <= allowed
        if all(place >= low for place in allowed):
            assert len(found) == 1


@FEW
@given(
    count=owners,
    rows=st.integers(1, 5),
    candidates=st.integers(1, 40),
    high=st.sampled_from([1, 3, 2**31, 2**62 - 1]),
    data=st.data(),
)
def test_argmax_prefers_the_earlier_of_equals(
    count: int, rows: int, candidates: int, high: int, data: st.DataObject
) -> None:
    size = rows * candidates
    scores = data.draw(integers(-high, high, st.just(size))).reshape(rows, candidates)
    payload = data.draw(integers(size=st.just(size))).reshape(rows, candidates)
    places = np.tile(np.arange(candidates), (rows, 1))
    best, place, carried = run(lambda s: argmax(s, secret(s, scores), secret(s, places, 1), secret(s, payload)), count)
    wanted = scores.argmax(axis=1)
    assert np.array_equal(place, wanted)
    assert np.array_equal(best, scores.max(axis=1))
    assert np.array_equal(carried, payload[np.arange(rows), wanted])


@FEW
@given(count=owners, size=st.one_of(st.integers(1, 300), st.sampled_from([64, 65, 128, 129])), data=st.data())
def test_one_hot_and_look_up(count: int, size: int, data: st.DataObject) -> None:
    index = data.draw(integers(0, size - 1, st.integers(1, 9)))
    table = data.draw(integers(0, 2**40 - 1, st.just(size)))
    # The last row is zero: nothing is chosen, nothing is found.
    keep = np.append(np.ones(len(index)), 0)

    def program(session: Session) -> list:
        hot = one_hot(session, secret(session, index), size)
        every = secret_bits(session, np.append(np.eye(size, dtype=bool)[index], np.zeros((1, size)), axis=0))
        return [hot, look_up(session, every, secret_bits(session, planes_of(table, 40), 1))]

    hot, found = run(program, count)
    assert np.array_equal(hot, np.eye(size)[index])
    words = (found.reshape(len(index) + 1, 40).astype(np.int64) << np.arange(40)).sum(axis=1)
    assert np.array_equal(words, np.append(table[index], 0) * keep.astype(np.int64))


def test_parity_counts_odd_bits() -> None:
    rng = np.random.default_rng(2)
    bits = rng.random((70, 130)) < 0.5
    assert np.array_equal(run(lambda s: parity(secret_bits(s, bits))), bits.sum(axis=1) % 2)


@pytest.mark.parametrize("owners_count", [2, 3])
def test_rounds_are_few(owners_count: int) -> None:
    rounds = execute(lambda s: negative(s, s.constant(np.zeros(10, dtype=np.uint64))), owners_count).sessions[0].rounds
    assert rounds == 7
