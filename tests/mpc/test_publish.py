"""What everybody learns has an entry in the ledger first; steps that are left out are left out by all alike."""

from typing import Any

import numpy as np
import pytest
from tests.network import DEALER, execute, owner_names, secret, secret_bits

from veilboost.errors import ParticipantError
from veilboost.mpc.ledger import EVERYONE, Disclosure
from veilboost.mpc.prg import Stream
from veilboost.mpc.protocols.compare import negative
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import unpack_bits
from veilboost.mpc.session import OwnerSession, Session

VALUES = np.array([5, -3, 0, 2**61], dtype=np.int64)


@pytest.mark.parametrize("owners", [2, 3])
def test_everybody_learns_what_is_published(owners: int) -> None:
    def program(session: Session) -> Any:
        session.note("numbers", "a test", (4,))
        session.note("bits", "a test", (70,))
        numbers = session.publish(secret(session, VALUES), "numbers")
        bits = session.publish(secret_bits(session, np.arange(70) % 3 == 0), "bits")
        return numbers, bits

    outcome = execute(program, owners)
    for numbers, bits in outcome.results:
        assert np.array_equal(numbers.view(np.int64), VALUES)
        assert np.array_equal(unpack_bits(bits, 70), np.arange(70) % 3 == 0)
    assert outcome.dealer_result == (None, None)
    expected = [Disclosure(EVERYONE, "numbers", "a test", (4,), 0), Disclosure(EVERYONE, "bits", "a test", (70,), 0)]
    assert all(session.ledger == expected for session in outcome.sessions)
    assert [entry.round for entry in outcome.dealer.ledger] == [None, None]


@pytest.mark.parametrize("what", ["other", "", "number"])
def test_nothing_is_published_without_an_entry(what: str) -> None:
    def program(session: Session) -> None:
        session.note("numbers", "a test", (4,))
        with pytest.raises(ValueError, match=f"^nothing may be published that the ledger does not have: {what}$"):
            session.publish(secret(session, VALUES), what)
        session.disclose(secret(session, VALUES), session.owners[0], "private", "one owner alone")
        with pytest.raises(ValueError, match="private"):  # the entry of another receiver
            session.publish(secret(session, VALUES), "private")

    outcome = execute(program, record=True)
    assert outcome.network.between("owner0", "owner1")  # of the secrets, but of no sum
    assert {m.size for m in outcome.network.between("owner0", "owner1")} == {32}


def test_an_entry_is_told_before_anything_is_published() -> None:
    heard: list[tuple[str, int]] = []

    def program(session: Session) -> None:
        session.on_note = lambda: heard.append((session.transport.name, len(session.ledger)))
        before = dict(session.transport.bytes_sent)  # type: ignore[attr-defined]
        session.note("numbers", "a test", (4,))
        assert dict(session.transport.bytes_sent) == before  # type: ignore[attr-defined]
        session.publish(secret(session, VALUES), "numbers")

    execute(program)
    assert sorted(heard) == [("dealer", 1), ("owner0", 1), ("owner1", 1)]


def test_published_shares_are_made_fresh() -> None:
    """They differ from the shares that were there, also from one time to the next."""

    def program(session: Session) -> Any:
        session.note("numbers", "a test", (4,))
        shared = secret(session, VALUES)
        session.publish(shared, "numbers")
        session.publish(shared, "numbers")
        return None if session.dealing else shared.words.tobytes()

    outcome = execute(program, record=True)
    frames = [message.payload for message in outcome.network.between("owner1", "owner0")][-2:]
    assert len(set(frames)) == 2 and outcome.results[1] not in frames


def idling(session: Session, idle: bool) -> Any:
    x, y = secret(session, VALUES % 1000), secret(session, np.arange(4), 1)
    sent, rounds = sum(session.transport.bytes_sent.values()), session.rounds
    if idle:
        with session.idle():
            work(session, x, y)
        if not session.dealing:
            assert sum(session.transport.bytes_sent.values()) == sent
            assert session.rounds == rounds
    else:
        work(session, x, y)
    number = session.next_number()
    (product,) = multiply(session, (x, y))
    session.note("product", "a test", (4,))
    return number, session.publish(product, "product")


def work(session: Session, x: Any, y: Any) -> None:
    (product,) = multiply(session, (x, y))
    truncate(session, (product, 3))
    negative(session, product)


@pytest.mark.parametrize("owners", [2, 3])
def test_what_is_left_out_sends_nothing_and_uses_up_masks(owners: int) -> None:
    """The dealer does the same in both cases, and what comes afterwards is right."""
    runs = [execute(lambda session, idle=idle: idling(session, idle), owners, record=True) for idle in (False, True)]
    for run in runs:
        for number, product in run.results:
            assert np.array_equal(product.view(np.int64), VALUES % 1000 * np.arange(4))
            assert number == runs[0].results[0][0]
        assert run.dealer_result == (runs[0].results[0][0], None)
    for name in owner_names(owners):
        sizes = [[message.size for message in run.network.between(DEALER, name)] for run in runs]
        assert sizes[0] == sizes[1] and sum(sizes[0]) > 0
    assert len(runs[1].network.messages) < len(runs[0].network.messages)


def test_idle_ends_with_an_error_too() -> None:
    def program(session: Session) -> Any:
        with pytest.raises(ParticipantError), session.idle():
            raise ParticipantError("x")
        return None if session.dealing else session._idle  # type: ignore[attr-defined]

    assert execute(program).results == [False, False]


def test_no_stream_is_expanded_twice_where_steps_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of steps that were left out are spent: they do not come back."""
    made: list[tuple[str, bytes, int]] = []
    really = OwnerSession.streams

    def streams(self: OwnerSession, number: int) -> dict[int, Stream]:
        made.append((self.transport.name, self._key, number))
        return really(self, number)

    monkeypatch.setattr(OwnerSession, "streams", streams)
    execute(lambda session: idling(session, True))
    assert len(made) > 10 and len(set(made)) == len(made)


def test_exact_truncation_is_a_function_of_its_inputs() -> None:
    values = np.arange(-(2**20), 2**20, 4097)

    def program(session: Session, exact: bool) -> Any:
        session.exact = exact
        (cut,) = truncate(session, (secret(session, values), 10))
        session.note("cut", "a test", (len(values),))
        return session.publish(cut, "cut")

    exact = [execute(lambda session: program(session, True)).results[0].view(np.int64) for _ in range(3)]
    assert all(np.array_equal(one, exact[0]) for one in exact)
    assert np.array_equal(exact[0], values >> 10)
    loose = [execute(lambda session: program(session, False)).results[0].view(np.int64) for _ in range(3)]
    assert not all(np.array_equal(one, loose[0]) for one in loose)  # so that the comparison could fail
