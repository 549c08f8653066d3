"""The TLS transport between threads of one process, and against peers that do not keep to it."""

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.processes.support import free_ports

from veilboost.errors import InputError, ParticipantError, PeerLost, PeerMismatch, ProtocolError
from veilboost.jobs.certificates import load_tls, write_certificates
from veilboost.mpc.transport import tls
from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.connect import connect, listen
from veilboost.mpc.transport.tls import LARGEST_FRAME, TlsTransport, hang_up

NAMES = ("north", "south", "dealer")
DATA, HEARTBEAT, ABORT, BYE = 1, 2, 3, 4


class Place:
    """Certificates and addresses of NAMES."""

    def __init__(self, folder: Path) -> None:
        self.certificates = folder / "certs"
        write_certificates(NAMES, self.certificates)
        self.addresses = {name: ("127.0.0.1", port) for name, port in zip(NAMES, free_ports(len(NAMES)), strict=True)}

    def connect(self, name: str, order: Sequence[str] = NAMES, wait_seconds: float = 10.0) -> TlsTransport:
        listener = listen(name, *self.addresses[name]) if name != order[-1] else None
        return connect(name, order, self.addresses, load_tls(self.certificates, name), listener, wait_seconds)

    def dial(self, name: str, to: str, direction: bytes = b"S") -> ssl.SSLSocket:
        """One raw connection with the certificate of `name`."""
        deadline = time.monotonic() + 10
        while True:
            try:
                plain = socket.create_connection(self.addresses[to], timeout=10)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        connection = load_tls(self.certificates, name)[1].wrap_socket(plain)
        connection.sendall(direction)
        return connection


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextlib.contextmanager
def met(place: Place, names: Sequence[str] = ("north", "south")) -> Iterator[dict[str, TlsTransport]]:
    """Connected participants; they hang up at the end."""
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = {name: pool.submit(place.connect, name, names) for name in names}
        transports = {name: future.result() for name, future in waiting.items()}
    try:
        yield transports
    finally:
        for transport in transports.values():
            transport.close("the test is over")


class Raw:
    """A peer that may send north any bytes: south's certificate, but none of its program."""

    def __init__(self, place: Place) -> None:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(place.connect, "north", ("north", "south"))
            self.outgoing, self.incoming = (place.dial("south", "north", direction) for direction in (b"S", b"R"))
            assert (self.outgoing.recv(1), self.incoming.recv(1)) == (b"S", b"R")
            self.north = waiting.result()

    def send(self, kind: int, sequence: int, payload: bytes, size: int | None = None) -> None:
        self.outgoing.sendall(struct.pack("<BxxxIQ", kind, sequence, len(payload) if size is None else size) + payload)

    def close(self) -> None:
        self.north.close("the test is over")
        self.outgoing.close()
        self.incoming.close()


@pytest.fixture
def raw(place: Place) -> Iterator[Raw]:
    one = Raw(place)
    yield one
    one.close()


def octets(count: int, seed: int = 0) -> Octets:
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def in_background(work: Callable[[], object]) -> threading.Thread:
    def quietly() -> None:
        with contextlib.suppress(ParticipantError):
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def leave_together(transports: Mapping[str, TlsTransport]) -> None:
    with ThreadPoolExecutor(len(transports)) as pool:
        for future in [pool.submit(transport.close) for transport in transports.values()]:
            future.result()


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
        sent = sum(sizes) + 16 * len(sizes)
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


def test_loss_of_one_peer_ends_the_wait_for_another(place: Place) -> None:
    with met(place, NAMES) as transports:
        in_background(lambda: transports["dealer"].close("gone"))
        with pytest.raises(PeerLost, match="dealer stopped: gone"):
            transports["north"].receive("south", 8)


def test_silent_peer_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 0.5)
    raw = Raw(place)
    with pytest.raises(PeerLost, match=r"south has been silent for 0\.5 seconds"):
        raw.north.receive("south", 8)
    raw.close()


def test_idle_peer_is_not_silent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(tls, "_HEARTBEAT_SECONDS", 0.2)
    with met(place) as transports:
        time.sleep(2.5)
        transports["north"].send("south", octets(8))
        assert transports["south"].receive("north", 8).nbytes == 8
        assert transports["north"].bytes_sent == {"south": 24}


def test_peer_that_does_not_read_does_not_block_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_SILENCE_SECONDS", 0.5)
    raw = Raw(place)
    with pytest.raises(PeerLost, match="south has been silent"):
        for _ in range(100):
            raw.north.send("south", octets(1 << 20))
    raw.close()


def test_slow_reader_holds_its_peer_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_READ_AHEAD", 1 << 20)
    frame, count = 1 << 18, 200  # 50 MB, more than the connection holds
    with met(place) as transports:
        sending = in_background(lambda: [transports["north"].send("south", octets(frame, n)) for n in range(count)])
        time.sleep(1.0)
        assert sending.is_alive()
        assert transports["south"]._unread["north"] <= (1 << 20) + frame
        for number in range(count):
            np.testing.assert_array_equal(transports["south"].receive("north", frame), octets(frame, number))
        sending.join(5)
        assert not sending.is_alive()
        assert transports["south"]._unread["north"] == 0
        leave_together(transports)


def test_both_may_send_much_before_they_read(place: Place) -> None:
    """Both owners send first and receive then: no deadlock, whatever the size."""
    size = 40 << 20
    with met(place) as transports, ThreadPoolExecutor(2) as pool:

        def exchange(name: str, peer: str) -> int:
            transports[name].send(peer, octets(size))
            return transports[name].receive(peer, size).nbytes

        both = [pool.submit(exchange, "north", "south"), pool.submit(exchange, "south", "north")]
        assert [future.result(timeout=60) for future in both] == [size, size]


def test_leaving_frees_a_reader_that_is_held_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_READ_AHEAD", 1000)
    with met(place) as transports:
        in_background(lambda: transports["north"].send("south", octets(1 << 20)))
        time.sleep(0.3)
        begin = time.monotonic()
        transports["south"].close("enough")
        assert time.monotonic() - begin < 1
    assert not [thread for thread in threading.enumerate() if thread.name in ("read north", "read south", "heartbeat")]


def test_hanging_up_never_drops_the_encryption(place: Place) -> None:
    """The socket's own shutdown would send the rest of a message in the clear."""
    with met(place) as transports:
        outgoing = transports["north"]._channels["south"].outgoing
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
        (DATA, 1, b"", 2**64 - 1),
        (0, 1, bytes(8), None),
        (9, 1, bytes(8), None),
        (255, 1, b"", None),
        (HEARTBEAT, 1, bytes(8), None),
        (BYE, 1, bytes(8), None),
        (ABORT, 1, b"", 1001),
    ],
    ids=str,
)
def test_unexpected_frame_is_refused(raw: Raw, kind: int, sequence: int, payload: bytes, size: int | None) -> None:
    raw.send(DATA, 0, bytes(8))
    raw.send(kind, sequence, payload, size)
    raw.north.receive("south", 8)
    with pytest.raises(ProtocolError, match=r"^south sent an unexpected frame at step 1: "):
        raw.north.receive("south", 8)


def test_overlong_text_is_refused(raw: Raw) -> None:
    raw.send(DATA, 0, bytes(5))
    with pytest.raises(ProtocolError, match="south sent a greeting of 5 bytes, more than 4"):
        raw.north.receive_text("south", 4)


@pytest.mark.parametrize("sent", [b"", b"\1", bytes([DATA, 0, 0, 0] + [0] * 4 + [8] + [0] * 7) + b"half"])
def test_end_in_the_middle_of_a_frame(raw: Raw, sent: bytes) -> None:
    raw.outgoing.sendall(sent)
    raw.outgoing.close()
    with pytest.raises(PeerLost, match=r"^lost the connection to south$"):
        raw.north.receive("south", 8)


def test_bytes_that_are_not_tls(raw: Raw) -> None:
    """Somebody on the way injects bytes: the connection ends, nothing of them is believed."""
    with socket.socket(fileno=socket.dup(raw.outgoing.fileno())) as plain:
        plain.sendall(struct.pack("<BxxxIQ", DATA, 0, 8) + bytes(8))
        with pytest.raises(PeerLost, match=r"^lost the connection to south$"):
            raw.north.receive("south", 8)


def test_port_is_closed_after_the_meeting(place: Place) -> None:
    with met(place), pytest.raises(ConnectionRefusedError):
        socket.create_connection(place.addresses["north"], timeout=5)


def test_port_in_use_is_refused(place: Place) -> None:
    host, port = place.addresses["north"]
    with listen("north", host, port), pytest.raises(InputError) as caught:
        listen("south", host, port)
    assert re.fullmatch(
        rf"south cannot listen at {host}:{port} \(Address already in use\): stop the program .* in the job file",
        str(caught.value),
    )


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InputError, match=r"south cannot listen at 192\.0\.2\.1:7100 .*change the address"):
        listen("south", "192.0.2.1", 7100)


def test_absent_peers_are_named(place: Place) -> None:
    with pytest.raises(PeerLost, match=r"dealer did not connect within 0\.2 seconds: is it started\?"):
        place.connect("north", ("north", "dealer"), wait_seconds=0.2)
    port = place.addresses["north"][1]
    with pytest.raises(PeerLost, match=rf"north does not answer at 127\.0\.0\.1:{port}: is it started\?"):
        place.connect("dealer", ("north", "dealer"), wait_seconds=0.2)


def test_wrong_participant_at_an_address_is_refused(place: Place) -> None:
    swapped = {**place.addresses, "north": place.addresses["south"]}
    waiting = in_background(lambda: place.connect("south", ("south", "dealer"), wait_seconds=1))
    with pytest.raises(PeerMismatch, match=r"127\.0\.0\.1:\d+ should be north but is south: check the addresses"):
        connect("dealer", ("north", "dealer"), swapped, load_tls(place.certificates, "dealer"), None, 5)
    waiting.join()


def test_participant_of_another_job_is_told_so(place: Place) -> None:
    waiting = in_background(lambda: place.connect("north", ("north", "south"), wait_seconds=1))
    with pytest.raises(PeerMismatch, match=r"north at .* expects no such participant: give both the same job file"):
        place.connect("dealer", ("north", "dealer"))
    waiting.join()


def test_hint_about_a_refused_caller(place: Place) -> None:
    def call() -> None:
        place.dial("dealer", "north").close()

    calling = in_background(call)
    with pytest.raises(PeerLost, match=r"south did not connect .*\(dealer has called, which is not in this job file\)"):
        place.connect("north", ("north", "south"), wait_seconds=1)
    calling.join()


def test_certificate_of_another_authority_is_refused(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other")
    other.addresses = place.addresses
    failures: list[PeerLost] = []

    def wait() -> None:
        try:
            place.connect("north", ("north", "dealer"), wait_seconds=1)
        except PeerLost as error:
            failures.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    with pytest.raises(PeerMismatch, match=r"north at .* shows a certificate of another authority"):
        other.connect("dealer", ("north", "dealer"))
    waiting.join()
    (failure,) = failures
    assert "dealer did not connect within 1 seconds" in str(failure)
    assert "without a certificate of this job's authority" in str(failure)


def test_strangers_get_nowhere_and_disturb_nobody(place: Place, tmp_path: Path) -> None:
    """No certificate, another authority's, garbage, half a handshake, another role, a wrong first byte; then peers."""
    other = Place(tmp_path / "other")
    other.addresses = place.addresses
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(place.connect, "north")]
        stay: list[socket.socket] = []
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
        foreign = load_tls(other.certificates, "south")[1]
        foreign.verify_mode = ssl.CERT_NONE
        place.dial("north", "north", b"S").close()  # waits until north listens
        for context in (bare, foreign):
            connection = context.wrap_socket(socket.create_connection(place.addresses["north"], timeout=10))
            with contextlib.suppress(OSError):
                connection.sendall(b"S")
            with pytest.raises(ssl.SSLError):
                connection.recv(1)
            connection.close()
        for bytes_sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x00" * 100, b""):
            plain = socket.create_connection(place.addresses["north"], timeout=10)
            plain.sendall(bytes_sent)
            stay.append(plain)
        for name, first in (("north", b"S"), ("south", b"X"), ("south", b"N")):
            connection = place.dial(name, "north", first)
            assert connection.recv(1) in (b"", b"N")
            stay.append(connection)
        waiting += [pool.submit(place.connect, name) for name in ("south", "dealer")]
        transports = {future.result().name: future.result() for future in waiting}
        for one in stay:
            one.close()
    transports["north"].send("dealer", octets(100))
    assert transports["dealer"].receive("north", 100).nbytes == 100
    leave_together(transports)


def test_second_caller_of_the_same_name_is_not_taken(place: Place) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(place.connect, "north", ("north", "south"))
        first = place.dial("south", "north", b"S")
        assert first.recv(1) == b"S"
        second = place.dial("south", "north", b"S")
        assert second.recv(1) == b""
        other_way = place.dial("south", "north", b"R")
        assert other_way.recv(1) == b"R"
        transport = waiting.result()
    first.sendall(struct.pack("<BxxxIQ", DATA, 0, 1) + b"!")
    assert transport.receive("south", 1).tobytes() == b"!"
    transport.close("over")
    for connection in (first, second, other_way):
        connection.close()


@pytest.mark.parametrize("reason", ["the table is gone", None])
def test_who_leaves_before_all_have_met_ends_the_meeting(place: Place, reason: str | None) -> None:
    """South waits for the dealer, which never comes; north, connected already, dies or gives up."""
    with ThreadPoolExecutor(1) as pool:
        listener = listen("north", *place.addresses["north"])
        waiting = pool.submit(place.connect, "south", wait_seconds=60)
        server = load_tls(place.certificates, "north")[0]
        accepted = {}
        for _ in range(2):
            connection = server.wrap_socket(listener.accept()[0], server_side=True)
            direction = connection.recv(1)
            connection.sendall(direction)
            accepted[direction] = connection
        time.sleep(0.2)
        if reason is not None:
            accepted[b"R"].sendall(struct.pack("<BxxxIQ", ABORT, 0, len(reason)) + reason.encode())
        begin = time.monotonic()
        for connection in accepted.values():
            connection.close()
        message = "^lost the connection to north$" if reason is None else f"^north stopped: {reason}$"
        with pytest.raises(PeerLost, match=message):
            waiting.result()
        assert time.monotonic() - begin < 5
        listener.close()


def test_who_gives_up_the_meeting_says_why(place: Place) -> None:
    """The dealer never comes: north's time is up first, and south, who would wait longer, learns it from north."""
    with ThreadPoolExecutor(2) as pool:
        patient = pool.submit(place.connect, "south", wait_seconds=60)
        impatient = pool.submit(place.connect, "north", wait_seconds=1.0)
        with pytest.raises(PeerLost, match=r"^dealer did not connect within 1 seconds"):
            impatient.result()
        begin = time.monotonic()
        with pytest.raises(PeerLost, match=r"^north stopped: dealer did not connect within 1 seconds"):
            patient.result()
        assert time.monotonic() - begin < 5


def test_meeting_in_any_order(place: Place) -> None:
    for order in (("dealer", "south", "north"), ("south", "north", "dealer")):
        with ThreadPoolExecutor(3) as pool:
            waiting = []
            for name in order:
                waiting.append(pool.submit(place.connect, name))
                time.sleep(0.15)
            transports = {future.result().name: future.result() for future in waiting}
        transports["dealer"].send("south", octets(10))
        assert transports["south"].receive("dealer", 10).nbytes == 10
        leave_together(transports)
