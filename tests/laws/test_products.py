"""Products, truncation, and bits that select."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.network import run, secret, secret_bits
from tests.strategies import FEW, Ints, bits, integers, owners, pairs

from veilboost.mpc.protocols.multiply import conjunction, multiply
from veilboost.mpc.protocols.select import anchor, elements_shape, select, to_ring
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.session import Session


@FEW
@given(count=owners, value=pairs())
def test_products_wrap_like_machine_words(count: int, value: tuple[Ints, Ints]) -> None:
    x, y = value

    def program(session: Session) -> list:
        a, b = secret(session, x), secret(session, y, 1)
        # The factor a is masked once for four products, one of them a square and one that broadcasts.
        return multiply(session, (a, b), (a, a), (b, a), (a, b.reshape(len(y), 1)))

    product, square, again, outer = run(program, count)
    assert np.array_equal(product, x * y)
    assert np.array_equal(square, x * x)
    assert np.array_equal(again, x * y)
    assert np.array_equal(outer, x * y[:, None])


@FEW
@given(count=owners, left=bits(3, st.just(130)), right=bits(3, st.just(130)))
def test_conjunction(count: int, left: np.ndarray, right: np.ndarray) -> None:
    both = run(lambda s: conjunction(s, secret_bits(s, left), secret_bits(s, right, 1)), count)
    assert np.array_equal(both, left & right)


@FEW
@given(
    count=owners,
    value=integers(-(2**62) + 1, 2**62 - 1),
    shift=st.one_of(st.integers(1, 61), st.sampled_from([1, 61])),
)
def test_truncation_is_off_by_less_than_one(count: int, value: Ints, shift: int) -> None:
    first, second = run(lambda s: truncate(s, (secret(s, value), shift), (secret(s, value, 1), 62 - shift)), count)
    assert set(np.unique(first - (value >> shift))) <= {0, 1}
    assert set(np.unique(second - (value >> (62 - shift)))) <= {0, 1}


@FEW
@given(count=owners, value=integers(-(2**30), 2**30), shift=st.integers(1, 31))
def test_truncation_of_a_multiple_is_exact(count: int, value: Ints, shift: int) -> None:
    (result,) = run(lambda s: truncate(s, (secret(s, value << shift), shift)), count)
    assert np.array_equal(result, value)


def test_truncation_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    size, shift = 100_000, 8
    for value in (1, 37, 128, 255, -1, -100, 2**61 + 3, -(2**61) - 77):
        (result,) = run(lambda s, value=value: truncate(s, (secret(s, np.full(size, value)), shift)))
        up = (value & 255) / 256
        # Six standard deviations of the mean.
        assert abs((result - (value >> shift)).mean() - up) <= 6 * np.sqrt(up * (1 - up) / size)
    values = rng.integers(-(2**61), 2**61, size)
    (result,) = run(lambda s: truncate(s, (secret(s, values), 20)), 3)
    assert abs((result - values / 2.0**20).mean()) < 1e-2


@FEW
@given(count=owners, value=integers(), data=st.data())
def test_selection(count: int, value: Ints, data: st.DataObject) -> None:
    chosen = data.draw(bits(2, st.just(len(value))))
    other = data.draw(integers(size=st.just(len(value))))

    def program(session: Session) -> list:
        a, b = secret(session, value), secret(session, other, 1)
        indicator = secret_bits(session, chosen)
        assert elements_shape(indicator) == chosen.shape
        (kept,) = anchor(session, b)
        first, from_anchor, broadcast = select(session, indicator, a, kept, b.reshape(1, len(other)))
        (again,) = select(session, ~indicator, kept)  # an anchored value is opened once for all selections
        return [first, from_anchor, broadcast, again, to_ring(session, indicator)]

    first, from_anchor, broadcast, again, plain = run(program, count)
    assert np.array_equal(first, np.where(chosen, value, 0))
    assert np.array_equal(from_anchor, np.where(chosen, other, 0))
    assert np.array_equal(broadcast, np.where(chosen, other, 0))
    assert np.array_equal(again, np.where(chosen, 0, other))
    assert np.array_equal(plain, chosen)


@FEW
@given(count=owners, value=integers(size=st.just(5)), chosen=bits(4, st.just(5)))
def test_selection_broadcasts_scalars_of_planes(count: int, value: Ints, chosen: np.ndarray) -> None:
    def program(session: Session) -> list:
        weights = secret(session, value[:4]).reshape(4, 1)
        return select(session, secret_bits(session, chosen), weights)

    (result,) = run(program, count)
    assert np.array_equal(result, chosen * value[:4, None])
