"""Sharing and the operators that cost nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.network import execute, run, secret, secret_bits
from tests.strategies import EDGES, FEW, QUICK, Ints, bits, integers, owners, pairs

from veilboost.errors import MaskReuseError
from veilboost.mpc.correlations import Correlation, Domain, Field, lanes_field
from veilboost.mpc.ring import pack_bits, to_ring, to_signed, unpack_bits
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedLanes, concatenate, lanes_to_words, reveal, share, stack


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


@FEW
@given(count=owners, value=integers(size=st.integers(1, 90)))
def test_lanes_are_lower_halves(count: int, value: Ints) -> None:
    """Two elements to a word, an odd one beside zero; opened under a mask of the same kind."""

    def program(session: Session) -> object:
        lanes = SharedLanes.of(secret(session, value.reshape(1, -1)))
        dealt = session.correlate(
            Correlation("test", [lanes_field(value.size)], [lanes_field(value.size)], lambda mask: [mask])
        )
        mask = dealt.lanes_mask(0)
        assert lanes.shape == mask.share.shape == (-(-value.size // 2),)
        assert lanes.count == mask.share.count == value.size
        if session.dealing:
            return None
        (opened,) = session.open_masked((lanes, mask))
        with pytest.raises(MaskReuseError):
            session.open_masked((lanes, mask))
        copy = dealt.derived[0]
        assert isinstance(copy, SharedLanes)
        return lanes_to_words(opened, value.size), lanes_to_words(copy.words, value.size)

    results = execute(program, count).results
    modulus = np.uint64(2**32)
    for opened, _ in results:
        assert (opened < modulus).all()
        plain = (opened - sum((mask for _, mask in results), np.zeros_like(opened))) % modulus
        assert np.array_equal(plain, value.view(np.uint64) % modulus)


@QUICK
@given(value=pairs(), count=st.integers(1, 90))
def test_lanes_do_not_carry_into_each_other(value: tuple[Ints, Ints], count: int) -> None:
    left, right = (side.view(np.uint64) for side in value)
    total = Domain.LANES.combine(left, right)
    assert np.array_equal(total.view(np.uint32), left.view(np.uint32) + right.view(np.uint32))
    assert np.array_equal(Domain.LANES.remove(total, right), left)
    field = lanes_field(count)
    assert field == Field(Domain.LANES, (-(-count // 2),), count)
    packed = np.arange(2 * field.size, dtype=np.uint32).view(np.uint64)
    assert np.array_equal(lanes_to_words(packed, count), np.arange(count))


def test_the_dealers_lanes_are_hollow() -> None:
    lanes = SharedLanes.of(Shared(None, None, (3, 5)))
    assert (lanes.shape, lanes.count) == ((8,), 15)
    with pytest.raises(ValueError, match="holds no shares"):
        _ = lanes.words
    assert repr(SharedLanes(0, np.array([123456789], dtype=np.uint64), 2)) == "SharedLanes(count=2, redacted)"
