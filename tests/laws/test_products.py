"""Products, truncation, and bits that select."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.network import DEALER, execute, run, secret, secret_bits
from tests.strategies import FEW, Ints, bits, integers, owners, pairs

from veilboost.errors import MaskReuseError
from veilboost.mpc.protocols.multiply import conjunction, conjunctions, multiply
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
@given(count=owners, data=st.data())
def test_conjunctions(count: int, data: st.DataObject) -> None:
    """Of one to six planes at a time, several lengths at once; a plane may stand in many terms, and twice in one."""
    planes = data.draw(bits(7, st.sampled_from([1, 64, 130])))
    terms = [
        np.array(data.draw(st.lists(st.lists(st.integers(0, 6), min_size=f, max_size=f), min_size=1, max_size=5)))
        for f in data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    ]
    found = run(lambda s: conjunctions(s, secret_bits(s, planes), *terms), count)
    for result, term in zip(found, terms, strict=True):
        assert np.array_equal(result, planes[term].all(axis=1))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("factors", [1, 2, 3, 4, 5])
def test_conjunctions_of_all_values(factors: int, count: int) -> None:
    values = (np.arange(2**factors)[None, :] >> np.arange(factors)[:, None] & 1).astype(bool)
    for term in (np.arange(factors), np.arange(factors)[::-1], np.zeros(factors, dtype=int)):
        (found,) = run(lambda s, term=term: conjunctions(s, secret_bits(s, values), term[None]), count)
        assert np.array_equal(found[0], values[term].all(axis=0))


def test_conjunctions_open_every_plane_once_and_no_other() -> None:
    """Of nine planes four are used, in seven products of two to four factors."""
    terms = [
        np.array([[1, 3], [3, 4], [1, 8]]),
        np.array([[1, 3, 4], [8, 8, 1]]),
        np.array([[1, 3, 4, 8], [8, 4, 3, 1]]),
    ]

    def program(session: Session) -> Any:
        planes = secret_bits(session, np.ones((9, 640)))
        before = dict(session.transport.bytes_sent), session.rounds
        conjunctions(session, planes, *terms)
        return {peer: sent - before[0][peer] for peer, sent in session.transport.bytes_sent.items()}, before[1]

    outcome = execute(program, 3)
    for (sent, rounds), session in zip(outcome.results, outcome.sessions, strict=True):
        assert {count for peer, count in sent.items() if peer != DEALER} == {4 * 80}
        assert session.rounds == rounds + 1
    # 2^f - f - 1 planes a term.
    assert sum(outcome.dealer_result[0].values()) == (3 * 1 + 2 * 4 + 2 * 11) * 80


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


@FEW
@given(
    count=owners,
    value=integers(-(2**62) + 1, 2**62 - 1),
    shift=st.one_of(st.integers(1, 61), st.sampled_from([1, 61])),
)
def test_an_exact_session_truncates_to_the_floor(count: int, value: Ints, shift: int) -> None:
    """Several widths in one call, which share the comparison of low bits."""

    def program(session: Session) -> list:
        session.exact = True
        shared = secret(session, value), secret(session, value, 1).reshape(1, len(value))
        return truncate(session, (shared[0], shift), (shared[1], 62 - shift))

    first, second = run(program, count)
    assert np.array_equal(first, value >> shift)
    assert np.array_equal(second, value[None] >> (62 - shift))


def test_exact_truncation_of_many_elements() -> None:
    """With more elements, groups of bits merge two at a time."""
    values = np.random.default_rng(1).integers(-(2**61), 2**61, 20_000)

    def program(session: Session) -> list:
        session.exact = True
        return truncate(session, (secret(session, values), 33))

    (result,) = run(program)
    assert np.array_equal(result, values >> 33)


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


@FEW
@given(count=owners, data=st.data())
def test_an_anchored_value_may_be_taken_apart(count: int, data: st.DataObject) -> None:
    """Parts and differences of what has been opened are selected without opening anything but the bits."""
    value = data.draw(integers(size=st.just(3 * 4 * 5))).reshape(3, 4, 5)
    chosen = data.draw(bits(3, st.just(5)))

    def program(session: Session) -> Any:
        (kept,) = anchor(session, secret(session, value))
        before = dict(session.transport.bytes_sent)
        indicator = secret_bits(session, chosen, 1)
        parts = [kept[0], kept[:, 1], kept[:, 2:3][:, 0], kept[:, 3] - kept[:, 0]]
        parts.append((kept[1] - kept[2])[0] - kept[0, 0])
        results = [
            select(session, indicator[:1] if part.value.shape == (5,) else indicator, part) for part in parts[1:]
        ]
        sent = {peer: total - before[peer] for peer, total in session.transport.bytes_sent.items()}
        return sum(results, select(session, indicator[0], parts[0])), sent

    outcome = execute(program, count)
    for part in outcome.results:
        # Five words of bits at most for the selections, and the bits that owner 1 shares.
        assert max(sent for peer, sent in part[1].items() if peer != DEALER) <= 8 * 3 * 6
    found = run(lambda s: program(s)[0], count)
    middle = value[1, 0] - value[2, 0] - value[0, 0]
    wanted = [chosen[0] * value[0], chosen * value[:, 1], chosen * value[:, 2], chosen * (value[:, 3] - value[:, 0])]
    for result, expected in zip(found, [*wanted, chosen[:1] * middle], strict=True):
        assert np.array_equal(result, expected)


def test_the_mask_of_an_anchored_value_hides_nothing_else() -> None:
    """Neither the mask itself nor a part of it nor a difference can be opened against again."""

    def program(session: Session) -> None:
        (kept,) = anchor(session, secret(session, np.arange(6).reshape(2, 3)))
        if session.dealing:
            return
        for again in (kept, kept[0], kept[0] - kept[1], kept[:, 1:][0]):
            with pytest.raises(MaskReuseError):
                session.open_masked((again.value, again.mask))

    execute(program)
