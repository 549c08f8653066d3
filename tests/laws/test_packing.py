"""Two sums in one word come apart exactly, whatever the mask was."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.network import run, secret
from tests.strategies import FEW, integers, owners

from veilboost.mpc.protocols.pack import HIGH_BITS, LEAST_LOW, LOW_BITS, pack, unpack
from veilboost.mpc.session import Session

LARGEST_HIGH, LARGEST_LOW = 2**HIGH_BITS - 1, 2**LOW_BITS - 1


@FEW
@given(count=owners, data=st.data())
def test_unpack_inverts_pack(count: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 80))
    high = data.draw(integers(-LARGEST_HIGH, LARGEST_HIGH, st.just(size)))
    low = data.draw(integers(LEAST_LOW, LARGEST_LOW, st.just(size)))
    found = run(lambda s: unpack(s, pack(secret(s, high), secret(s, low, 1))), count)
    assert np.array_equal(found[0], high)
    assert np.array_equal(found[1], low)


def test_every_carry_between_the_halves_occurs_and_is_exact() -> None:
    rng = np.random.default_rng(0)
    high = rng.choice([-LARGEST_HIGH, -1, 0, 1, LARGEST_HIGH], (4, 5000))
    low = rng.choice([LEAST_LOW, -1, 0, 1, LARGEST_LOW - 1, LARGEST_LOW], (4, 5000))
    found = run(lambda s: unpack(s, pack(secret(s, high), secret(s, low))), 3)
    assert np.array_equal(found[0], high)
    assert np.array_equal(found[1], low)


def test_sums_of_packed_words_are_packed_sums() -> None:
    rng = np.random.default_rng(1)
    high, low = rng.integers(-(2**20), 2**20, (50, 300)), rng.integers(-20, 2**20, (50, 300))

    def program(session: Session) -> object:
        return unpack(session, pack(secret(session, high), secret(session, low)).sum(axis=1))

    found = run(program)
    assert np.array_equal(found[0], high.sum(axis=1))
    assert np.array_equal(found[1], low.sum(axis=1))
