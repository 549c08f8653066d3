"""Lost connections: no frame is missing, comes twice or out of order; or the session ends in time, with a name."""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.mpc.transport.detour import Detour
from tests.mpc.transport.meeting import (
    DATA,
    HEARTBEAT,
    NAMES,
    Place,
    Raw,
    in_background,
    leave_together,
    link_to,
    meet,
    met,
    octets,
    own_threads,
)

from veilboost.errors import PeerLost, ProtocolError
from veilboost.mpc.transport import link, reconnect, sender, tls
from veilboost.mpc.transport.frames import HEADER
from veilboost.mpc.transport.link import Loss
from veilboost.mpc.transport.opening import Opening, draw_token
from veilboost.mpc.transport.tls import TlsTransport


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def detour(place: Place) -> Iterator[Detour]:
    """The way on which others dial north."""
    one = Detour(place.addresses["north"])
    place.detours["north"] = one.address
    yield one
    one.close()
    assert own_threads() == []


@pytest.fixture
def raw(place: Place) -> Iterator[Raw]:
    one = Raw(place)
    yield one
    one.close()


def converse(transports: Mapping[str, TlsTransport], plan: list[int], seconds: float = 120) -> None:
    """Everybody sends everybody frames of the planned sizes and checks what comes, byte by byte."""

    def talk(name: str) -> None:
        one = transports[name]
        for number, size in enumerate(plan):
            for peer in one.peers:
                one.send(peer, message(name, peer, number, size))
            for peer in one.peers:
                np.testing.assert_array_equal(one.receive(peer, size), message(peer, name, number, size))

    with ThreadPoolExecutor(len(transports)) as pool:
        for future in [pool.submit(talk, name) for name in transports]:
            future.result(timeout=seconds)


def message(sender: str, receiver: str, number: int, size: int) -> np.ndarray:
    base = np.arange(size, dtype=np.uint64) * np.uint64(2654435761 + number)
    return (base >> np.uint64(7)).astype(np.uint8) ^ np.uint8(hash_of(sender, receiver))


def hash_of(sender: str, receiver: str) -> int:
    return (7 * NAMES.index(sender) + NAMES.index(receiver)) % 256


def cut_often(detour: Detour, reset: bool, over: threading.Event, pause: float, largest: int = 0) -> threading.Thread:
    """At random moments, also while two meet again; but not so often on a slow machine that nothing gets through.

    Now and then `largest` bytes, as many as the largest frame has, come through between two cuts.
    """
    chance = random.Random(1)

    def work() -> None:
        while not over.wait(pause * chance.random()):
            enough = detour.forwarded + chance.choice([0, 3_000, 30_000, 300_000, 300_000 + largest])
            while detour.forwarded < enough and not over.wait(0.01):
                pass
            detour.cut(reset)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("reset", [True, False])
def test_conversation_survives_cuts(place: Place, detour: Detour, reset: bool) -> None:
    """Frames of all sizes, in all directions, over connections that end at random moments."""
    chance = random.Random(2)
    plan = [chance.choice([0, 1, 1000, 16384, 70_000, 3_000_000]) for _ in range(150)]
    with met(place, NAMES) as transports:
        over = threading.Event()
        cutting = cut_often(detour, reset, over, 0.4)
        converse(transports, plan)
        over.set()
        cutting.join()
        leave_together(transports)
        sent = sum(plan) + 1 + HEADER.size * (1 + len(plan))
        assert transports["south"].bytes_sent["north"] == sent  # what was sent again does not count
    assert detour.connections > 8


def test_dealer_that_runs_ahead_survives_cuts(place: Place, detour: Detour, monkeypatch: pytest.MonkeyPatch) -> None:
    """One way only, and the receiver is slower than what it reads ahead."""
    monkeypatch.setattr(link, "READ_AHEAD", 3 << 20)
    monkeypatch.setattr(link, "UNACKNOWLEDGED", 4 << 20)
    sizes = [100_000 + 1000 * number for number in range(300)]
    with met(place, ("north", "south")) as transports:
        over = threading.Event()
        cutting = cut_often(detour, True, over, 0.4)
        sending = in_background(lambda: [transports["south"].send("north", octets(size, size)) for size in sizes])
        for size in sizes:
            time.sleep(0.005)
            np.testing.assert_array_equal(transports["north"].receive("south", size), octets(size, size))
        over.set()
        cutting.join()
        sending.join(10)
        assert link_to(transports["south"], "north").sender.outbox.memory < 5 << 20
        leave_together(transports)
    assert detour.connections > 4


@pytest.mark.slow
@pytest.mark.parametrize("reset", [True, False])
def test_long_conversation_survives_many_cuts(place: Place, detour: Detour, reset: bool) -> None:
    chance = random.Random(3)
    plan = [chance.choice([0, 1, 1000, 16384, 70_000, 1_000_000, 20_000_000]) for _ in range(400)]
    with met(place, NAMES) as transports:
        over = threading.Event()
        cutting = cut_often(detour, reset, over, 0.4, largest=40_000_000)
        converse(transports, plan, 400)
        over.set()
        cutting.join()
        leave_together(transports)
    assert detour.connections > 40


def test_outage_of_seconds_is_survived(place: Place, detour: Detour) -> None:
    """Nothing gets through for a while, not even a connection attempt; both sides say so once, and that it is over."""
    notices: dict[str, list[str]] = {"north": [], "south": []}
    with met(place) as transports:
        for name, transport in transports.items():
            transport.on_notice = notices[name].append
        detour.shut()
        detour.cut()
        time.sleep(1.2)
        transports["north"].send("south", octets(100))
        detour.reopen()
        assert transports["south"].receive("north", 100).tobytes() == octets(100).tobytes()
        time.sleep(0.7)
        leave_together(transports)
    assert notices["south"] == [
        "lost the connection to north; it has 60 seconds to come back",
        "connected with north again",
    ]
    # A reset is for north no sign that south has ended, a connection closed in good order is.
    assert notices["north"] in (
        [
            f"lost the connection to south; it has {seconds} seconds to come back",
            "connected with south again",
        ]
        for seconds in (10, 60)
    )


def test_goodbye_over_a_lost_connection(place: Place, detour: Detour) -> None:
    """Who is done stays until the peer has everything, even if the connection is lost meanwhile."""
    with met(place) as transports:
        detour.shut()
        detour.cut()
        transports["south"].send("north", octets(1000))
        leaving = in_background(transports["south"].close)
        time.sleep(0.5)
        assert leaving.is_alive()
        detour.reopen()
        assert transports["north"].receive("south", 1000).tobytes() == octets(1000).tobytes()
        transports["north"].close()
        leaving.join(5)
        assert not leaving.is_alive()


def test_goodbye_crosses_a_new_connection(place: Place, detour: Detour) -> None:
    """Who is done and has everything acknowledged still waits for a peer that has lost it and must hear the goodbye."""
    with met(place) as transports:
        for number in range(20):
            transports["south"].send("north", octets(1000 + number))
        deadline = time.monotonic() + 10
        while link_to(transports["south"], "north").sender.outbox.memory and time.monotonic() < deadline:
            time.sleep(0.1)
        assert link_to(transports["south"], "north").sender.outbox.memory == 0
        detour.shut()
        detour.cut()
        leaving = in_background(transports["south"].close)
        time.sleep(1.0)
        assert leaving.is_alive()
        detour.reopen()
        for number in range(20):
            assert transports["north"].receive("south", 1000 + number).nbytes == 1000 + number
        transports["north"].close()
        leaving.join(5)
        assert not leaving.is_alive()


def test_reason_crosses_a_new_connection(place: Place, detour: Detour) -> None:
    with met(place) as transports:
        detour.cut()
        transports["south"].send("north", octets(10))
        assert transports["north"].receive("south", 10).nbytes == 10
        transports["south"].close("the lid is off")
        with pytest.raises(PeerLost, match=r"^south stopped: the lid is off$"):
            transports["north"].receive("south", 1)


# The end, when there is no other connection.


def failures(*work: Callable[[], object]) -> list[tuple[str, float]]:
    """What each piece of work raises, and after how many seconds."""

    def run(one: Callable[[], object]) -> tuple[str, float]:
        begin = time.monotonic()
        with pytest.raises(PeerLost) as caught:
            one()
        return str(caught.value), time.monotonic() - begin

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, one) for one in work]]


def test_dead_process_is_named_soon(place: Place, detour: Detour, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens any more where south dials; south does not come back to north."""
    monkeypatch.setattr(tls, "_RETURN_SECONDS", 1.0)
    monkeypatch.setattr(reconnect, "_REFUSED_SECONDS", 0.5)
    with met(place) as transports:
        detour.shut()
        detour.cut(reset=False)
        (north, north_seconds), (south, south_seconds) = failures(
            lambda: transports["north"].receive("south", 1), lambda: transports["south"].receive("north", 1)
        )
        host, port = detour.address
        assert south == f"lost the connection to north: nothing listens at {host}:{port} any more"
        assert 0.5 < south_seconds < 2
        assert north == "lost the connection to south, and there was no way back within 1 seconds"
        assert 1 < north_seconds < 3


def test_deadline(place: Place, detour: Detour, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way is open but leads nowhere."""
    monkeypatch.setattr(tls, "_RETURN_SECONDS", 60.0)
    with met(place, reconnect_seconds=1.5) as transports:
        detour.forwarding.clear()
        detour.cut()
        for (message, seconds), peer in zip(
            failures(lambda: transports["north"].receive("south", 1), lambda: transports["south"].receive("north", 1)),
            ("south", "north"),
            strict=True,
        ):
            assert message == f"lost the connection to {peer}, and there was no way back within 1.5 seconds"
            assert 1.4 < seconds < 4
        detour.forwarding.set()


def test_no_reconnection_when_switched_off(place: Place, detour: Detour) -> None:
    with met(place, reconnect_seconds=0) as transports:
        detour.cut()
        for message, seconds in failures(
            lambda: transports["north"].receive("south", 1), lambda: transports["south"].receive("north", 1)
        ):
            assert message.startswith("lost the connection to ")
            assert seconds < 1


def test_half_open_connection_is_noticed(place: Place, detour: Detour, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way swallows everything from now on; nobody is told."""
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 1.5)
    monkeypatch.setattr(tls, "_HEARTBEAT_SECONDS", 0.2)
    with met(place) as transports:
        detour.forwarding.clear()
        for (message, seconds), peer in zip(
            failures(lambda: transports["north"].receive("south", 1), lambda: transports["south"].receive("north", 1)),
            ("south", "north"),
            strict=True,
        ):
            assert message == f"{peer} has been silent for 1.5 seconds"
            assert 1 < seconds < 4
        detour.forwarding.set()


def test_sender_is_not_stuck_in_a_lost_connection(place: Place, detour: Detour) -> None:
    """It may send as much as is kept, then waits, and goes on when the connection is there again."""
    monkeypatched = link.UNACKNOWLEDGED
    count = (monkeypatched >> 20) + 8
    with met(place) as transports:
        detour.shut()
        detour.cut()
        time.sleep(0.3)
        sending = in_background(lambda: [transports["north"].send("south", octets(1 << 20, n)) for n in range(count)])
        time.sleep(1.0)
        assert sending.is_alive()
        assert link_to(transports["north"], "south").sender.outbox.memory <= link.UNACKNOWLEDGED + (2 << 20)
        detour.reopen()
        for number in range(count):
            np.testing.assert_array_equal(transports["south"].receive("north", 1 << 20), octets(1 << 20, number))
        sending.join(5)
        leave_together(transports)


# Who may come back.


def come_back(raw: Raw, place: Place, generation: int, received: int) -> int:
    """South dials again with its token; how many frames north has."""
    raw.outgoing, answer = raw.open(place, b"S", generation, received)
    raw.incoming, again = raw.open(place, b"R", generation, received)
    assert answer.token == again.token == raw.north_token
    return answer.received


def drop(raw: Raw) -> None:
    raw.outgoing.close()
    raw.incoming.close()


def frames_of(connection: socket.socket, count: int) -> list[bytes]:
    """The next data frames, header and all."""
    found, data = [], b""
    while len(found) < count:
        while len(data) < HEADER.size or len(data) < HEADER.size + HEADER.unpack_from(data)[1]:
            piece = connection.recv(1 << 16)
            assert piece
            data += piece
        size = HEADER.size + HEADER.unpack_from(data)[1]
        if HEADER.unpack_from(data)[0] == DATA:
            found.append(data[:size])
        data = data[size:]
    assert data == b""
    return found


def test_frames_are_sent_again_byte_by_byte(raw: Raw, place: Place) -> None:
    """What was sent under a one-time mask never leaves as anything else."""
    sizes = [5, 0, 40_000, 16384 - HEADER.size, 16385 - HEADER.size, 8]
    for number, size in enumerate(sizes):
        raw.north.send("south", octets(size, number))
    first = frames_of(raw.incoming, len(sizes))
    assert [frame[HEADER.size :] for frame in first] == [octets(s, n).tobytes() for n, s in enumerate(sizes)]
    raw.send(DATA, 0, b"a", acknowledged=1)
    raw.send(DATA, 1, b"b", acknowledged=1)
    assert raw.north.receive("south", 1).tobytes() == b"a"
    time.sleep(0.2)
    drop(raw)
    assert come_back(raw, place, 1, 2) == 2
    assert frames_of(raw.incoming, 4) == first[2:]
    drop(raw)
    raw.north.send("south", octets(9))  # while there is no connection
    assert come_back(raw, place, 2, 2) == 2
    again = frames_of(raw.incoming, 5)
    assert again[:4] == first[2:]
    assert again[4][HEADER.size :] == octets(9).tobytes()
    raw.send(DATA, 2, b"c")
    assert [raw.north.receive("south", 1).tobytes() for _ in "bc"] == [b"b", b"c"]


def test_half_a_frame_does_not_count(raw: Raw, place: Place) -> None:
    raw.send(DATA, 0, b"whole")
    raw.send(DATA, 1, b"hal", size=4)
    time.sleep(0.3)
    drop(raw)
    assert come_back(raw, place, 1, 0) == 1
    raw.send(DATA, 1, b"half")
    assert raw.north.receive("south", 5).tobytes() == b"whole"
    assert raw.north.receive("south", 4).tobytes() == b"half"


def test_peer_may_come_back_before_the_loss_is_noticed(raw: Raw, place: Place) -> None:
    """South's machine has changed its address, say: nothing tells north that the old connection is dead."""
    raw.send(DATA, 0, b"1")
    time.sleep(0.2)
    old = raw.outgoing, raw.incoming
    assert come_back(raw, place, 1, 0) == 1
    for connection in old:
        assert connection.recv(1) == b""
        connection.close()
    raw.send(DATA, 1, b"2")
    assert [raw.north.receive("south", 1).tobytes() for _ in "12"] == [b"1", b"2"]


@pytest.mark.parametrize("received", [3, 2**63])
def test_peer_that_claims_too_many_frames_is_refused(raw: Raw, place: Place, received: int) -> None:
    raw.north.send("south", octets(1))
    raw.north.send("south", octets(1))
    drop(raw)
    come_back(raw, place, 1, received)
    with pytest.raises(ProtocolError, match=rf"south acknowledged {received} frames where 2 were sent"):
        raw.north.receive("south", 1)


def test_peer_that_has_lost_frames_is_refused(raw: Raw, place: Place) -> None:
    raw.north.send("south", octets(1))
    raw.send(DATA, 0, b"1", acknowledged=1)
    raw.north.receive("south", 1)
    drop(raw)
    come_back(raw, place, 1, 0)
    with pytest.raises(ProtocolError, match="south has lost frames that it had acknowledged"):
        raw.north.receive("south", 1)


def test_others_of_the_same_name_are_refused(raw: Raw, place: Place) -> None:
    """They have south's certificate, but not what south and north drew for their session."""
    for generation in (1, 7, 2**32 - 1):
        for direction in (b"S", b"R"):
            for token in (draw_token(), bytes(32), raw.north_token):
                stranger = place.dial("south", "north", Opening(direction, token, generation))
                assert Opening.read(stranger) == Opening(b"X", bytes(32))
                stranger.close()
    stranger = place.dial("dealer", "north", Opening(b"S", raw.token, 1))
    assert Opening.read(stranger).direction == b"N"
    stranger.close()
    raw.send(DATA, 0, b"!")  # nobody was disturbed
    assert raw.north.receive("south", 1).tobytes() == b"!"
    assert link_to(raw.north, "south").generation == 0


def test_attempts_that_are_over_are_refused(raw: Raw, place: Place) -> None:
    drop(raw)
    come_back(raw, place, 5, 0)
    for generation in (0, 1, 4, 5):
        late = place.dial("south", "north", Opening(b"S", raw.token, generation))
        assert late.recv(1) in (b"", b"X")
        late.close()
    raw.send(DATA, 0, b"!")
    assert raw.north.receive("south", 1).tobytes() == b"!"


def test_half_an_attempt_gives_way_to_the_next(raw: Raw, place: Place) -> None:
    half, _ = raw.open(place, b"S", 1)
    twice = place.dial("south", "north", Opening(b"S", raw.token, 1))
    assert twice.recv(1) == b""
    twice.close()
    drop(raw)
    come_back(raw, place, 2, 0)
    assert half.recv(1) == b""
    half.close()
    raw.send(DATA, 0, b"!")
    assert raw.north.receive("south", 1).tobytes() == b"!"


def test_process_that_was_started_anew_is_recognised(place: Place, detour: Detour) -> None:
    """North dies and another one is started in its place: south does not go on with that one."""
    transports = meet(place, ("north", "south"))
    detour.shut()
    detour.cut()
    transports["north"].close("dead")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.connect, "north", ("north", "south"), 2.0)
        time.sleep(0.2)
        detour.reopen()
        with pytest.raises(PeerLost, match=r"^(lost the connection to north|north at .* another process than before)"):
            transports["south"].receive("north", 1)
        with pytest.raises(PeerLost, match="south did not connect within 2 seconds"):
            waiting.result()
    transports["south"].close("over")


def test_peer_that_never_says_anything_new_does_not_come_back_for_ever(place: Place) -> None:
    """The time runs from the first loss since anything was heard."""
    raw = Raw(place, reconnect_seconds=1.0)
    begin, ended = time.monotonic(), False
    while not ended and time.monotonic() - begin < 10:
        drop(raw)
        generation = link_to(raw.north, "south").generation + 1
        for direction in (b"S", b"R"):
            connection = place.dial("south", "north", Opening(direction, raw.token, generation))
            ended = not connection.recv(1)
            connection.close()
        time.sleep(0.05)
    assert 0.9 < time.monotonic() - begin < 5
    with pytest.raises(PeerLost, match=r"^lost the connection to south, and there was no way back within 1 seconds$"):
        raw.north.receive("south", 1)
    raw.close()


def test_acknowledgements_go_with_whatever_is_sent(raw: Raw) -> None:
    for number in range(3):
        raw.send(DATA, number, bytes(8))
        raw.north.receive("south", 8)
    raw.north.send("south", octets(8))
    (frame,) = frames_of(raw.incoming, 1)
    assert HEADER.unpack_from(frame) == (DATA, 8, 0, 3)


def test_acknowledgements_go_alone_when_nothing_else_does(raw: Raw) -> None:
    raw.send(DATA, 0, bytes(8))
    for number in range(1, 4):
        raw.send(DATA, number, bytes(sender.ACKNOWLEDGE))
    received = []
    while 4 not in received:
        data = raw.incoming.recv(HEADER.size)
        kind, size, sequence, acknowledged = HEADER.unpack(data)
        assert (kind, size, sequence) == (HEARTBEAT, 0, 0)
        received.append(acknowledged)
    assert received == sorted(received)


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.06, 0.1])
def test_reset_while_both_send_much(place: Place, detour: Detour, seconds: float) -> None:
    """A cut in the middle of a frame of many megabytes, in both directions at once."""
    arrays = {name: octets(40 << 20, seed) for seed, name in enumerate(("north", "south"))}
    with met(place) as transports, ThreadPoolExecutor(2) as pool:

        def exchange(name: str, peer: str) -> bool:
            transports[name].send(peer, arrays[name])
            return bool(np.array_equal(transports[name].receive(peer, arrays[peer].nbytes), arrays[peer]))

        both = [pool.submit(exchange, "north", "south"), pool.submit(exchange, "south", "north")]
        time.sleep(seconds)
        detour.cut()
        assert [future.result(timeout=60) for future in both] == [True, True]
        leave_together(transports)


def test_loss_is_told_once(place: Place) -> None:
    """What a thread finds out about a channel that has been replaced is no news."""
    with met(place) as transports:
        one = link_to(transports["south"], "north")
        old = one._channel
        one.lose(None, Loss.BROKEN)
        transports["north"].send("south", octets(4))
        assert transports["south"].receive("north", 4).nbytes == 4
        one.lose(old, Loss.BROKEN)
        assert one.up
        assert one.generation == 1
        assert struct.calcsize("<IIQQ") == HEADER.size
        leave_together(transports)
