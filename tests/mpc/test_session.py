"""One-time masks, correlation numbers, disclosure, and what goes wrong loudly."""

import threading
from typing import Any

import numpy as np
import pytest
from tests.network import ANALYST, DEALER, execute, owner_names, secret, secret_bits
from tests.training import EVERY_KIND, draw_table, train_on_shares

from veilboost.errors import MaskReuseError, PeerLost, ProtocolError
from veilboost.mpc import prg
from veilboost.mpc.correlations import Correlation, Domain, Field, Mask, ring_field
from veilboost.mpc.prg import Stream
from veilboost.mpc.protocols.multiply import multiply
from veilboost.mpc.session import OwnerSession, Session, receive_disclosed
from veilboost.mpc.shares import Shared
from veilboost.mpc.transport.memory import MemoryNetwork
from veilboost.trees.parameters import Parameters

SMALL = Parameters(n_estimators=2, max_depth=2, max_bin=8, subsample=0.8)


def test_a_mask_is_spent_once() -> None:
    mask = Mask(Shared(0, np.ones(3, dtype=np.uint64)))
    mask.spend()
    with pytest.raises(MaskReuseError, match="second opening"):
        mask.spend()


def test_a_mask_hides_one_opening() -> None:
    def program(session: Session) -> None:
        dealt = session.correlate(Correlation("test", masks=[ring_field(2)]))
        value = secret(session, [1, 2])
        if not session.dealing:
            session.open_masked((value, dealt.ring_mask(0)))
            session.open_masked((value, dealt.ring_mask(0)))

    with pytest.raises(MaskReuseError):
        execute(program)


def test_a_mask_is_not_stretched_over_a_larger_array() -> None:
    def program(session: Session) -> None:
        dealt = session.correlate(Correlation("test", masks=[ring_field(1)]))
        value = secret(session, [1, 2])
        if not session.dealing:
            session.open_masked((value, dealt.ring_mask(0)))

    with pytest.raises(MaskReuseError, match="larger array"):
        execute(program)


def test_numbers_run_out_rather_than_wrap() -> None:
    def program(session: Session) -> None:
        session._next_number = (1 << 63) - 1
        session.next_number()
        session.next_number()

    with pytest.raises(MaskReuseError, match="resume the job"):
        execute(program)


def expansions(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[bytes, int]]]:
    """Key and number of every stream that is constructed from now on, and that anything is drawn from, by thread."""
    begun: dict[str, list[tuple[bytes, int]]] = {}
    construct = Stream.__init__
    draw = Stream.octets
    names: dict[int, tuple[bytes, int]] = {}
    drawn: set[int] = set()
    lock = threading.Lock()

    def constructed(self: Stream, key: bytes, number: int) -> None:
        construct(self, key, number)
        with lock:
            alive.append(self)
            names[id(self)] = key, number

    def octets(self: Stream, count: int) -> Any:
        with lock:
            if id(self) not in drawn:
                drawn.add(id(self))
                begun.setdefault(threading.current_thread().name, []).append(names[id(self)])
        return draw(self, count)

    alive: list[Stream] = []  # so that no id is used again
    monkeypatch.setattr(prg.Stream, "__init__", constructed)
    monkeypatch.setattr(prg.Stream, "octets", octets)
    return begun


def test_every_stream_is_expanded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = expansions(monkeypatch)
    table = draw_table(EVERY_KIND, 60, 3, "binary:logistic", np.random.default_rng(0))
    train_on_shares(table, SMALL, 3)
    first = {thread: list(pairs) for thread, pairs in begun.items()}
    assert len(first) == 4  # three owners and the dealer
    assert all(len(set(pairs)) == len(pairs) for pairs in first.values())
    # The dealer has three keys; an owner has one of them, one for its inputs, and one with each other owner.
    by_keys = sorted(((len({key for key, _ in pairs}), set(pairs)) for pairs in first.values()), key=lambda e: e[0])
    assert [count for count, _ in by_keys] == [3, 4, 4, 4]
    dealer, *owners = (pairs for _, pairs in by_keys)
    assert all(len(dealer & pairs) > 200 for pairs in owners)
    for place, left in enumerate(owners):
        for right in owners[:place]:
            assert not left & right & dealer
            assert len({key for key, _ in left & right}) == 1  # the key of their sharings of zero
    begun.clear()
    train_on_shares(table, SMALL, 3)
    again = {pair for pairs in begun.values() for pair in pairs}
    assert len(again) > 200
    assert not again & {pair for pairs in first.values() for pair in pairs}


@pytest.mark.parametrize("changed", [{}, {"reg_alpha": 0.5}, {"max_delta_step": 0.5, "min_rows_per_leaf": 3}], ids=str)
def test_every_mask_hides_exactly_one_opening(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a whole training: what openings spend are the very masks that the dealer shared, each of them once."""
    dealt: dict[int, list[Any]] = {}
    spent: dict[int, list[Any]] = {}
    correlate, open_masked = OwnerSession.correlate, OwnerSession.open_masked

    def correlating(self: OwnerSession, correlation: Correlation) -> Any:
        found = correlate(self, correlation)
        dealt.setdefault(id(self), []).extend(found.masks)
        return found

    def opening(self: OwnerSession, *openings: Any) -> Any:
        spent.setdefault(id(self), []).extend(mask for _, mask in openings)
        return open_masked(self, *openings)

    monkeypatch.setattr(OwnerSession, "correlate", correlating)
    monkeypatch.setattr(OwnerSession, "open_masked", opening)
    table = draw_table(EVERY_KIND, 60, 3, "binary:logistic", np.random.default_rng(0))
    train_on_shares(table, SMALL.model_copy(update=changed), 3)
    assert len(dealt) == len(spent) == 3
    for owner, masks in dealt.items():
        assert len(masks) > 200
        used = [id(mask) for mask in spent[owner]]
        assert len(set(used)) == len(used)
        assert set(used) == {id(mask) for mask in masks}


def test_all_participants_number_alike() -> None:
    table = draw_table(EVERY_KIND[:5], 40, 3, "reg:squarederror", np.random.default_rng(1))
    _, outcome = train_on_shares(table, SMALL.model_copy(update={"objective": "reg:squarederror"}), 3)
    numbers = {session.next_number() for session in (*outcome.sessions, outcome.dealer)}
    assert len(numbers) == 1


@pytest.mark.parametrize("receiver", ["owner0", "owner2", ANALYST])
def test_disclosure_reaches_one_participant_with_fresh_shares(receiver: str) -> None:
    words = np.array([5, -7, 2**62])
    bits = np.array([[1, 0, 1, 1]])
    names = tuple(owner_names(3))

    def program(session: Session) -> Any:
        first = session.disclose(secret(session, words), receiver, "numbers", "test")
        return first, session.disclose(secret_bits(session, bits), receiver, "bits", "test")

    def analyst(transport: Any) -> Any:
        fields = (Field(Domain.RING, (3,)), Field(Domain.BITS, (1, 1), 4))
        return [receive_disclosed(transport, names, field) for field in fields]

    outcome = execute(program, 3, record=True, analyst=analyst if receiver == ANALYST else None)
    results = dict(zip([*names, ANALYST], [*outcome.results, outcome.analyst_result], strict=True))
    numbers, plane = results.pop(receiver)
    assert numbers.view(np.int64).tolist() == words.tolist()
    assert int(plane[0, 0]) & 15 == 0b1101
    assert all(result is None or list(result) == [None, None] for result in results.values())
    for session in (*outcome.sessions, outcome.dealer):
        assert [(e.receiver, e.value, e.why, e.shape) for e in session.ledger] == [
            (receiver, "numbers", "test", (3,)),
            (receiver, "bits", "test", (1, 4)),
        ]
        assert session.ledger[0].to_dict()["shape"] == [3]
    assert outcome.network.between(receiver, DEALER) == []


def test_the_dealer_opens_nothing() -> None:
    def program(session: Session) -> None:
        if session.dealing:
            session.open_masked()

    with pytest.raises(TypeError, match="holds no shares"):
        execute(program)


def test_constants_and_products_work_without_any_input() -> None:
    def program(session: Session) -> Any:
        six = session.constant(np.array([6], dtype=np.uint64))
        return multiply(session, (six, six))[0]

    shares = [result.words for result in execute(program, 4).results]
    assert int(sum(shares[1:], shares[0])[0]) == 36


def test_a_frame_of_another_size_is_refused() -> None:
    network = MemoryNetwork(["left", "right"])
    left, right = network.transport("left"), network.transport("right")
    left.send("right", np.zeros(8, dtype=np.uint8))
    with pytest.raises(ProtocolError, match="left sent a frame of 8 bytes where 16 were due"):
        right.receive("left", 16)
    left.send("right", np.zeros(8, dtype=np.uint8))
    with pytest.raises(ProtocolError, match="more than 4"):
        right.receive_text("left", 4)
    left.send("right", np.arange(3, dtype=np.uint8))
    assert right.receive_text("left", 4) == b"\x00\x01\x02"
    left.close()
    with pytest.raises(PeerLost, match="left left"):
        right.receive("left", 1)


def test_a_failing_participant_ends_the_program_with_its_own_error() -> None:
    def program(session: Session) -> None:
        if session.holder == 1:
            raise ZeroDivisionError("on purpose")
        secret(session, [1], 1)

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        execute(program, 3)


def test_frames_are_not_changed_after_they_were_sent() -> None:
    network = MemoryNetwork(["left", "right"])
    left, right = network.transport("left"), network.transport("right")
    payload = np.ones(4, dtype=np.uint8)
    left.send("right", payload)
    payload[:] = 9
    assert right.receive("left", 4).tolist() == [1, 1, 1, 1]
    assert left.bytes_sent == {"right": 4}
