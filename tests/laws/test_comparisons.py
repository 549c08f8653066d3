"""Signs, comparisons, bits of differences, prefixes and one-hot indices.

Circuits merge groups of two or of four, by the number of elements; both are tried on arrays of any size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.network import execute, run, secret, secret_bits
from tests.strategies import EDGES, FEW, Ints, bits, integers, owners

from veilboost.mpc.kernels import transpose_bits
from veilboost.mpc.protocols import compare
from veilboost.mpc.protocols.compare import (
    FEW_ELEMENTS,
    leading_one,
    less_than,
    negative,
    negative_planes,
    prefix,
    subtract,
)
from veilboost.mpc.protocols.one_hot import look_up, one_hot, parity
from veilboost.mpc.ring import to_ring
from veilboost.mpc.session import Session

radixes = st.sampled_from([2, 4])


@contextmanager
def merging(radix: int) -> Iterator[None]:
    """Groups of bits merge `radix` at a time, whatever the number of elements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "FEW_ELEMENTS", 0 if radix == 2 else 1 << 62)
        yield


@FEW
@given(count=owners, radix=radixes, value=integers())
def test_negative(count: int, radix: int, value: Ints) -> None:
    with merging(radix):
        assert np.array_equal(run(lambda s: negative(s, secret(s, value)), count), value < 0)


@FEW
@given(count=owners, radix=radixes, value=integers(-(2**31), 2**31 - 1))
def test_negative_of_32_bits(count: int, radix: int, value: Ints) -> None:
    with merging(radix):
        assert np.array_equal(run(lambda s: negative(s, secret(s, value), 32), count), value < 0)


def near(edges: tuple[int, ...], width: int) -> Ints:
    """Numbers of `width` bits near the edges, with wrap-around, and all powers of two with both signs."""
    half = 2 ** (width - 1)
    values = [(edge + step + half) % (2 * half) - half for edge in edges for step in range(-3, 4)]
    return np.array([*values, *(1 << np.arange(width - 1)), *-(1 << np.arange(width - 1))], dtype=np.int64)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("size", [3000, FEW_ELEMENTS, FEW_ELEMENTS + 1, 20_000])
def test_negative_of_all_edges_and_many_random_values(size: int, count: int) -> None:
    """Of as many elements as merge four at a time, and of more."""
    rng = np.random.default_rng(1)
    for width, edges in ((64, EDGES), (32, (0, 2**31 - 1, -(2**31), 2**15))):
        value = near(edges, width)
        half = 2 ** (width - 1)
        value = np.concatenate([value, rng.integers(-half, half, size - len(value))])
        below = run(lambda s, v=value, w=width: negative(s, secret(s, v.reshape(1, -1)), w), count)
        assert np.array_equal(below, value < 0)


def test_32_bits_of_a_number_are_its_lower_half() -> None:
    """What lies above is dropped with the upper halves of the shares, so callers must know their bounds."""
    value = np.array([2**31, -(2**31) - 1, 2**32, -(2**32) - 1, 2**62 + 5])
    below = run(lambda s: negative(s, secret(s, value), 32))
    assert np.array_equal(below, value.astype(np.int32) < 0)


@FEW
@given(count=owners, width=st.sampled_from([32, 64]), size=st.sampled_from([1, 63, 64, 65, 130]), data=st.data())
def test_negative_planes_keep_their_rows(count: int, width: int, size: int, data: st.DataObject) -> None:
    half = 2 ** (width - 1)
    value = data.draw(integers(-half, half - 1, st.just(3 * size))).reshape(3, size)
    assert np.array_equal(run(lambda s: negative_planes(s, secret(s, value), width), count), value < 0)


def planes_of(value: Ints, width: int) -> np.ndarray:
    return (value[None, :] >> np.arange(width)[:, None]) & 1


@FEW
@given(count=owners, radix=radixes, width=st.integers(1, 63), data=st.data())
def test_less_than_and_subtract(count: int, radix: int, width: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 80))
    numbers = integers(0, 2**width - 1, st.just(size))
    public, private = data.draw(numbers), data.draw(numbers)
    private = np.where(data.draw(integers(0, 2, st.just(size))) == 0, public, private)

    def program(session: Session) -> list:
        planes = None if session.dealing else transpose_bits(to_ring(public), width)
        shared = secret_bits(session, planes_of(private, width))
        return [less_than(session, planes, shared), subtract(session, planes, shared)]

    with merging(radix):
        below, difference = run(program, count)
    assert np.array_equal(below, public < private)
    assert np.array_equal(difference, planes_of((public - private) & (2**width - 1), width))


@pytest.mark.parametrize("radix", [2, 4])
def test_less_than_and_subtract_of_every_width(radix: int) -> None:
    """Every number of groups that is left over at some step, and all numbers of few bits."""
    rng = np.random.default_rng(5)

    def program(session: Session, width: int, public: Ints, private: Ints) -> Any:
        planes = None if session.dealing else transpose_bits(to_ring(public), width)
        shared = secret_bits(session, planes_of(private, width))
        return less_than(session, planes, shared), subtract(session, planes, shared)

    for width in range(1, 34):
        if width <= 3:
            public, private = (side.ravel() for side in np.meshgrid(np.arange(2**width), np.arange(2**width)))
        else:
            public, private = rng.integers(0, 2**width, (2, 60))
            private[::3] = public[::3] ^ (1 << rng.integers(0, width, 20))  # one bit apart
        with merging(radix):
            below, difference = run(lambda s, w=width, a=public, b=private: program(s, w, a, b))
        assert np.array_equal(below, public < private), width
        assert np.array_equal(difference, planes_of((public - private) & (2**width - 1), width)), width


@FEW
@given(count=owners, radix=radixes, width=st.integers(1, 70), data=st.data())
def test_prefix(count: int, radix: int, width: int, data: st.DataObject) -> None:
    """All prefixes of ANDs, and of borrows: what a bit produces itself or passes on from below."""
    size = st.just(data.draw(st.integers(1, 70)))
    equal, less = data.draw(bits(width, size)), data.draw(bits(width, size))
    equal |= np.random.default_rng(width).random(equal.shape) < 0.8  # else few chains are long

    def program(session: Session) -> Any:
        passes, produces = secret_bits(session, equal), secret_bits(session, less, 1)
        return prefix(session, passes), prefix(session, passes, produces)

    with merging(radix):
        ands, borrows = run(program, count)
    assert np.array_equal(ands, np.logical_and.accumulate(equal, axis=0))
    borrow = np.zeros_like(less[0])
    for place in range(width):
        borrow = less[place] ^ (equal[place] & borrow)
        assert np.array_equal(borrows[place], borrow)


@FEW
@given(count=owners, radix=radixes, high=st.integers(1, 62), data=st.data())
def test_leading_one(count: int, radix: int, high: int, data: st.DataObject) -> None:
    value = data.draw(integers(0, 2**high - 1))
    value = value >> data.draw(integers(0, high, st.just(len(value))))
    with merging(radix):
        result = run(lambda s: leading_one(s, secret(s, value), 0, high), count)
    places = [int(v).bit_length() - 1 for v in value]
    assert np.array_equal(result, [[place == plane for place in places] for plane in range(high)])


@FEW
@given(radix=radixes, low=st.integers(1, 25), data=st.data())
def test_leading_one_above_a_bit(radix: int, low: int, data: st.DataObject) -> None:
    high = data.draw(st.integers(low + 1, 50))
    # Bits far below are allowed to count for 2^(low - 8).
    slack = 1 << max(0, low - 8)
    value = data.draw(integers(0, 2**high - 1 - slack))
    with merging(radix):
        result = run(lambda s: leading_one(s, secret(s, value), low, high))
    assert (result.sum(axis=0) <= 1).all()
    for position, number in enumerate(value.tolist()):
        allowed = {number.bit_length() - 1, (number + slack).bit_length() - 1}
        found = set((np.flatnonzero(result[:, position]) + low).tolist())
        assert found <= allowed
        if all(place >= low for place in allowed):
            assert len(found) == 1


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


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    ("size", "width", "rounds"), [(10, 64, 4), (10, 32, 4), (FEW_ELEMENTS + 1, 64, 7), (FEW_ELEMENTS + 1, 32, 6)]
)
def test_rounds_are_few(size: int, width: int, rounds: int, count: int) -> None:
    outcome = execute(lambda s: negative(s, s.constant(np.zeros(size, dtype=np.uint64)), width), count)
    assert outcome.sessions[0].rounds == rounds
