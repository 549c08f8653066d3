"""Sharing and the operators that cost nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.network import run, secret, secret_bits
from tests.strategies import EDGES, FEW, QUICK, Ints, bits, integers, owners, pairs

from veilboost.mpc.ring import pack_bits, to_ring, to_signed, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, concatenate, reveal, share, stack


@QUICK
@given(value=integers(), count=st.integers(1, 6))
def test_reveal_inverts_share(value: Ints, count: int) -> None:
    assert np.array_equal(reveal(share(value, count)), value)


@QUICK
@given(count=st.integers(1, 5), shape=st.sampled_from([(), (3,), (2, 3), (0,)]))
def test_shares_keep_the_shape(count: int, shape: tuple[int, ...]) -> None:
    parts = share(np.full(shape, -5), count)
    assert [part.shape for part in parts] == [shape] * count
    assert np.array_equal(reveal(parts), np.full(shape, -5))


@pytest.mark.parametrize("left_out", range(3))
def test_all_shares_but_one_are_uniform(left_out: int) -> None:
    parts = share(np.zeros(40_000, dtype=np.int64), 3)
    del parts[left_out]
    octets = np.concatenate(parts).view(np.uint8)
    counts = np.bincount(octets, minlength=256)
    statistic = float(((counts - octets.size / 256) ** 2).sum() / (octets.size / 256))
    assert statistic < 400  # 255 degrees of freedom: exceeded with a probability of 1e-8


@QUICK
@given(value=integers())
def test_ring_elements_are_twos_complement(value: Ints) -> None:
    assert np.array_equal(to_signed(to_ring(value)), value)


@QUICK
@given(value=bits(3))
def test_packing_bits_is_invertible(value: np.ndarray) -> None:
    assert np.array_equal(unpack_bits(pack_bits(value), value.shape[1]), value)


@FEW
@given(count=owners, value=integers(), data=st.data())
def test_an_owners_input_is_what_it_shared(count: int, value: Ints, data: st.DataObject) -> None:
    owner = data.draw(st.integers(0, count - 1))
    planes = (value[None, :] >> np.arange(3)[:, None]) & 1
    shared, plane = run(lambda s: (secret(s, value, owner), secret_bits(s, planes, owner)), count)
    assert np.array_equal(shared, value)
    assert np.array_equal(plane, planes)


@FEW
@given(count=owners, value=pairs(), factor=st.sampled_from(EDGES))
def test_operators_are_linear(count: int, value: tuple[Ints, Ints], factor: int) -> None:
    x, y = value
    size = len(x)

    def program(session: Session) -> list[Shared]:
        a, b = secret(session, x), secret(session, y, 1)
        words = to_ring(y)
        return [
            a + b,
            a - b,
            -a,
            a * factor,
            factor * a,
            a * words,
            a + words,
            words + a,
            a - words,
            words - a,
            a + factor,
            factor - a,
            a.sum(axis=0).reshape(1),
            a.cumsum(axis=0),
            stack([a, b]).sum(axis=1),
            concatenate([a, b])[::-1],
            a.reshape(1, size).broadcast_to((2, size)) + b,
            session.constant(words),
        ]

    plain = np.array(factor, dtype=np.int64)
    expected = [
        x + y,
        x - y,
        -x,
        x * plain,
        x * plain,
        x * y,
        x + y,
        x + y,
        x - y,
        y - x,
        x + plain,
        plain - x,
        x.sum(keepdims=True),
        x.cumsum(),
        np.stack([x, y]).sum(axis=1),
        np.concatenate([x, y])[::-1],
        np.stack([x, x]) + y,
        y,
    ]
    for result, wanted in zip(run(program, count), expected, strict=True):
        assert np.array_equal(result, wanted)


@FEW
@given(count=owners, left=bits(3, st.just(70)), right=bits(3, st.just(70)))
def test_operators_on_bits(count: int, left: np.ndarray, right: np.ndarray) -> None:
    def program(session: Session) -> list:
        a, b, public = secret_bits(session, left), secret_bits(session, right, 1), pack_bits(right)
        return [a ^ b, a ^ public, ~a, a & public, a[1], a[np.array([2, 0])], a.reshape(1, 3)]

    results = run(program, count)
    expected = [left ^ right, left ^ right, ~left, left & right, left[1], left[[2, 0]], left[None]]
    for result, wanted in zip(results, expected, strict=True):
        assert np.array_equal(result, wanted)


def test_the_dealer_has_no_shares() -> None:
    with pytest.raises(ValueError, match="holds no shares"):
        _ = Shared(None, None, (3,)).words
