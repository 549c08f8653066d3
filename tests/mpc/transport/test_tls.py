"""The TLS transport between threads of one process, and against peers that do not keep to it."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.mpc.transport.meeting import (
    ABORT,
    BYE,
    DATA,
    HEARTBEAT,
    NAMES,
    Place,
    Raw,
    in_background,
    leave_together,
    link_to,
    met,
    octets,
    own_threads,
)

from veilboost.errors import PeerLost, ProtocolError
from veilboost.mpc.transport import link, tls
from veilboost.mpc.transport.base import LARGEST_GREETING
from veilboost.mpc.transport.channel import hang_up
from veilboost.mpc.transport.frames import HEADER, LARGEST_FRAME, LONGEST_REASON


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def raw(place: Place) -> Iterator[Raw]:
    one = Raw(place)
    yield one
    one.close()


def test_frames_arrive_whole_and_in_order(place: Place) -> None:
    sizes = [0, 1, 8191, 8192, 8193, 1 << 20, 3]
    with met(place, NAMES) as transports:
        for sender in NAMES:
            for receiver in transports[sender].peers:
                for number, size in enumerate(sizes):
                    transports[sender].send(receiver, octets(size, number))
        for receiver in NAMES:
            for sender in transports[receiver].peers:
                for number, size in enumerate(sizes):
                    np.testing.assert_array_equal(transports[receiver].receive(sender, size), octets(size, number))
        sent = 1 + sum(sizes) + HEADER.size * (1 + len(sizes))
        assert transports["south"].bytes_sent == {"north": sent, "dealer": sent}
        leave_together(transports)


def test_repr_names_participants_only(place: Place) -> None:
    with met(place) as transports:
        assert repr(transports["north"]) == "TlsTransport(name='north', peers=('south',))"


def test_what_was_sent_before_the_goodbye_arrives(place: Place) -> None:
    """A participant that is done may leave while the others still read."""
    with met(place) as transports:
        transports["north"].send("south", octets(5 << 20))
        leaving = in_background(transports["north"].close)
        time.sleep(0.3)
        np.testing.assert_array_equal(transports["south"].receive("north", 5 << 20), octets(5 << 20))
        with pytest.raises(PeerLost, match="north left before the work was done"):
            transports["south"].receive("north", 1)
        transports["south"].close()
        leaving.join(5)
        assert not leaving.is_alive()


def test_reason_of_an_end_reaches_all_peers(place: Place) -> None:
    with met(place, NAMES) as transports:
        transports["dealer"].close("the lid is off\nand\x1b[2J lost")
        for name in ("north", "south"):
            with pytest.raises(PeerLost) as caught:
                transports[name].receive("dealer", 8)
            assert str(caught.value) == "dealer stopped: the lid is off and [2J lost"


def test_no_peer_that_stops_is_taken_for_one_that_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the thread that reads ahead is about to tell the reason."""
    with met(place) as transports:
        link = transports["south"]._links["north"]
        tell = link._on_end

        def take_time(*arguments: Any) -> None:
            time.sleep(0.3)
            tell(*arguments)

        monkeypatch.setattr(link, "_on_end", take_time)
        link.read_ahead()
        time.sleep(0.1)
        transports["north"].close("the lid is off")
        time.sleep(0.1)
        with pytest.raises(PeerLost, match="north stopped: the lid is off"):
            transports["south"].receive("north", 8)


def test_loss_of_one_peer_ends_the_wait_for_another(place: Place) -> None:
    with met(place, NAMES) as transports:
        in_background(lambda: transports["dealer"].close("gone"))
        with pytest.raises(PeerLost, match="dealer stopped: gone"):
            transports["north"].receive("south", 8)


@pytest.mark.parametrize("reconnect_seconds", [0.0, 60.0])
def test_silent_peer_is_named(place: Place, monkeypatch: pytest.MonkeyPatch, reconnect_seconds: float) -> None:
    """Its machine is there, it is not: nobody waits for another connection."""
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(tls, "_HEARTBEAT_SECONDS", 0.1)
    raw = Raw(place, reconnect_seconds)
    begin = time.monotonic()
    with pytest.raises(PeerLost, match=r"^south has been silent for 1 seconds$"):
        raw.north.receive("south", 8)
    assert 0.5 < time.monotonic() - begin < 2.5
    raw.close()


def test_a_peer_that_waits_for_somebody_else_may_be_silent_for_longer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the aggregators of a federated job are, who have met the analyst but not yet the courier."""
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(tls, "_HEARTBEAT_SECONDS", 0.1)
    raw = Raw(place, silence_seconds=2.0)
    begin = time.monotonic()
    with pytest.raises(PeerLost, match=r"^south has been silent for 2 seconds$"):
        raw.north.receive("south", 8)
    assert time.monotonic() - begin > 1.5
    raw.close()


def test_idle_peer_is_not_silent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(tls, "_HEARTBEAT_SECONDS", 0.2)
    with met(place) as transports:
        time.sleep(2.5)
        transports["north"].send("south", octets(8))
        assert transports["south"].receive("north", 8).nbytes == 8
        assert transports["north"].bytes_sent == {"south": 1 + 8 + 2 * HEADER.size}


def test_peer_that_does_not_read_does_not_block_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(tls, "_HEARTBEAT_SECONDS", 0.1)
    raw = Raw(place)
    with pytest.raises(PeerLost, match="south has been silent"):
        for _ in range(100):
            raw.north.send("south", octets(1 << 20))
    raw.close()


def test_slow_reader_holds_its_peer_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "READ_AHEAD", 1 << 20)
    frame, count = 1 << 18, 200  # 50 MB, more than the connection holds
    with met(place) as transports:
        sending = in_background(lambda: [transports["north"].send("south", octets(frame, n)) for n in range(count)])
        time.sleep(1.0)
        assert sending.is_alive()
        assert 0 < link_to(transports["south"], "north").unread <= (1 << 20) + frame + 2048
        for number in range(count):
            np.testing.assert_array_equal(transports["south"].receive("north", frame), octets(frame, number))
        sending.join(5)
        assert not sending.is_alive()
        assert link_to(transports["south"], "north").unread == 0
        leave_together(transports)


@pytest.mark.parametrize("read_ahead", [256 << 20, 1 << 20])
def test_both_may_send_much_before_they_read(place: Place, monkeypatch: pytest.MonkeyPatch, read_ahead: int) -> None:
    """Owners send first and receive then: no deadlock, whatever the size and however little is read ahead."""
    monkeypatch.setattr(link, "READ_AHEAD", read_ahead)
    monkeypatch.setattr(link, "UNACKNOWLEDGED", 1 << 20)
    size = 40 << 20
    with met(place, NAMES) as transports, ThreadPoolExecutor(3) as pool:

        def exchange(name: str) -> int:
            for peer in transports[name].peers:
                transports[name].send(peer, octets(size))
            return sum(transports[name].receive(peer, size).nbytes for peer in transports[name].peers)

        assert [future.result(timeout=60) for future in [pool.submit(exchange, name) for name in NAMES]] == [
            2 * size
        ] * 3


def test_large_array_travels_in_several_frames(place: Place) -> None:
    """Whether it is read ahead, by another thread, or while the program waits for it."""
    size = 2 * LARGEST_FRAME + 12345
    array = octets(size)
    for seconds in (0.0, 0.5):
        with met(place) as transports:
            sending = in_background(lambda transports=transports: transports["north"].send("south", array))
            time.sleep(seconds)
            np.testing.assert_array_equal(transports["south"].receive("north", size), array)
            sending.join(5)
            assert transports["north"].bytes_sent["south"] == 1 + size + 4 * HEADER.size
            transports["north"].send("south", array[:3])
            assert transports["south"].receive("north", 3).tobytes() == array[:3].tobytes()


@pytest.mark.slow
def test_array_of_a_gigabyte_both_ways(place: Place) -> None:
    """Four times what is read ahead of a peer that is not in time: such an exchange once stood still."""
    size = (1 << 30) + 8
    with met(place) as transports, ThreadPoolExecutor(2) as pool:

        def exchange(name: str, peer: str) -> bool:
            mine, theirs = (np.full(size, seed, dtype=np.uint8) for seed in ((1, 2) if name == "north" else (2, 1)))
            mine[-1] = 7
            transports[name].send(peer, mine)
            got = transports[name].receive(peer, size)
            return bool(got[-1] == 7 and np.array_equal(got[:-1], theirs[:-1]))

        both = [pool.submit(exchange, "north", "south"), pool.submit(exchange, "south", "north")]
        assert [future.result(timeout=120) for future in both] == [True, True]


def test_leaving_frees_a_reader_that_is_held_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "READ_AHEAD", 1000)
    with met(place) as transports:
        in_background(lambda: transports["north"].send("south", octets(1 << 20)))
        time.sleep(0.3)
        begin = time.monotonic()
        transports["south"].close("enough")
        assert time.monotonic() - begin < 1
    assert own_threads() == []


def test_hanging_up_never_drops_the_encryption(place: Place) -> None:
    """The socket's own shutdown would send the rest of a message in the clear."""
    with met(place) as transports:
        outgoing = link_to(transports["north"], "south")._channel.outgoing
        hang_up(outgoing)
        assert outgoing.version() == "TLSv1.3"
        with pytest.raises(OSError, match=r"."):
            for _ in range(3):
                outgoing.sendall(b"secret")


@pytest.mark.parametrize(("due", "sent"), [(8, 7), (8, 9), (8, 0), (0, 8)])
def test_frame_of_another_size_is_refused(raw: Raw, due: int, sent: int) -> None:
    raw.send(DATA, 0, bytes(16))
    raw.send(DATA, 1, bytes(sent))
    raw.north.receive("south", 16)
    with pytest.raises(ProtocolError, match=rf"^south sent a frame of {sent} bytes where {due} were due, at step 1: "):
        raw.north.receive("south", due)


@pytest.mark.parametrize(
    ("kind", "sequence", "payload", "size"),
    [
        (DATA, 2, bytes(8), None),
        (DATA, 0, bytes(8), None),
        (DATA, 1, b"", LARGEST_FRAME + 1),
        (DATA, 1, b"", 2**32 - 1),
        (DATA, 1 + 2**32, b"", 8),
        (0, 1, bytes(8), None),
        (9, 1, bytes(8), None),
        (255, 1, b"", None),
        (HEARTBEAT, 1, bytes(8), None),
        (BYE, 1, bytes(8), None),
        (BYE, 0, b"", None),
        (HEARTBEAT, 2, b"", None),
        (ABORT, 1, b"", LONGEST_REASON + 1),
        (DATA | 1 << 8, 1, bytes(8), None),
    ],
    ids=str,
)
def test_unexpected_frame_is_refused(raw: Raw, kind: int, sequence: int, payload: bytes, size: int | None) -> None:
    raw.send(DATA, 0, bytes(8))
    raw.send(kind, sequence, payload, size)
    raw.north.receive("south", 8)
    with pytest.raises(ProtocolError, match=r"^south sent an unexpected frame at step 1: "):
        raw.north.receive("south", 8)


def test_acknowledgement_of_what_was_not_sent_is_refused(raw: Raw) -> None:
    raw.north.send("south", octets(8))
    raw.send(DATA, 0, bytes(8), acknowledged=1)
    raw.north.receive("south", 8)
    raw.send(DATA, 1, bytes(8), acknowledged=2)
    with pytest.raises(ProtocolError, match=r"^south acknowledged 2 frames where 1 were sent: "):
        raw.north.receive("south", 8)


def test_who_sends_nonsense_is_told(raw: Raw) -> None:
    """The end of the session names peer and step on both sides."""
    raw.send(9, 0, b"")
    with pytest.raises(ProtocolError) as caught:
        raw.north.receive("south", 8)
    raw.north.close(str(caught.value))
    heard = b""
    while piece := raw.incoming.recv(1000):
        heard += piece
    assert heard.endswith(b"south sent an unexpected frame at step 0: are both on the same version?")


def test_overlong_text_is_refused(raw: Raw) -> None:
    raw.send(DATA, 0, bytes(5))
    with pytest.raises(ProtocolError, match="south sent a greeting of 5 bytes, more than 4"):
        raw.north.receive_text("south", 4)


def test_overlong_greeting_is_refused_before_it_is_read(raw: Raw) -> None:
    raw.send(DATA, 0, b"", size=LARGEST_GREETING + 1)
    with pytest.raises(ProtocolError, match=r"^south sent an unexpected frame at step 0: "):
        raw.north.receive_text("south", LARGEST_GREETING)


def test_wrong_size_is_refused_before_it_is_read(raw: Raw) -> None:
    """Who waits for a frame needs no more of it than its header."""
    raw.send(DATA, 0, bytes(8))
    raw.north.receive("south", 8)
    raw.send(DATA, 1, b"", size=LARGEST_FRAME)
    with pytest.raises(
        ProtocolError, match=rf"^south sent a frame of {LARGEST_FRAME} bytes where 8 were due, at step 1"
    ):
        raw.north.receive("south", 8)


def test_wrong_size_is_refused_while_it_is_read_ahead(raw: Raw) -> None:
    """Likewise when the other thread has begun with it."""
    raw.send(DATA, 0, bytes(8))
    raw.north.receive("south", 8)
    raw.send(DATA, 1, b"", size=LARGEST_FRAME)
    wait_for_read_ahead(raw)
    with pytest.raises(
        ProtocolError, match=rf"^south sent a frame of {LARGEST_FRAME} bytes where 8 were due, at step 1"
    ):
        raw.north.receive("south", 8)
    assert not link_to(raw.north, "south")._awaiting  # the other thread reads on, for south's goodbye


def test_frame_is_read_ahead_in_pieces(raw: Raw) -> None:
    """The program waits for the rest of a frame that the other thread has begun with."""
    raw.send(DATA, 0, bytes(8))
    raw.north.receive("south", 8)
    raw.send(DATA, 1, bytes(3), size=8)
    wait_for_read_ahead(raw)
    threading.Timer(0.2, lambda: raw.outgoing.sendall(b"later")).start()
    assert raw.north.receive("south", 8).tobytes() == bytes(3) + b"later"
    assert link_to(raw.north, "south")._coming is None


def test_memory_follows_what_was_sent(raw: Raw) -> None:
    """A peer that announces large frames and sends little of them takes no memory."""
    raw.send(DATA, 0, bytes(8))
    raw.north.receive("south", 8)
    before = resident_bytes()
    raw.send(DATA, 1, bytes(1000), size=LARGEST_FRAME)
    wait_for_read_ahead(raw)
    time.sleep(0.2)  # long enough to read what there is
    assert link_to(raw.north, "south")._reading.locked()
    assert resident_bytes() - before < LARGEST_FRAME // 4


def wait_for_read_ahead(raw: Raw) -> None:
    """Wait until north's other thread has begun with a frame."""
    deadline = time.monotonic() + 10
    while link_to(raw.north, "south")._coming is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("sent", [b"", b"\1", HEADER.pack(DATA, 8, 0, 0) + b"half"])
def test_end_in_the_middle_of_a_frame(place: Place, sent: bytes) -> None:
    raw = Raw(place, reconnect_seconds=0)
    raw.outgoing.sendall(sent)
    raw.outgoing.close()
    with pytest.raises(PeerLost, match=r"^lost the connection to south$"):
        raw.north.receive("south", 8)
    raw.close()


def test_bytes_that_are_not_tls(place: Place) -> None:
    """Somebody on the way injects bytes: the connection ends, nothing of them is believed."""
    raw = Raw(place, reconnect_seconds=0)
    with socket.socket(fileno=socket.dup(raw.outgoing.fileno())) as plain:
        plain.sendall(HEADER.pack(DATA, 8, 0, 0) + bytes(8))
        with pytest.raises(PeerLost, match=r"^lost the connection to south$"):
            raw.north.receive("south", 8)
    raw.close()


def test_port_is_open_as_long_as_a_connection_may_be_made_again(place: Place) -> None:
    with met(place) as transports:
        socket.create_connection(place.addresses["north"], timeout=5).close()
        leave_together(transports)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place.addresses["north"], timeout=5)
    with met(place, reconnect_seconds=0), pytest.raises(ConnectionRefusedError):
        socket.create_connection(place.addresses["north"], timeout=5)
