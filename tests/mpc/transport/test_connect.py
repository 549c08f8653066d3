"""Meeting: who may take part, who is waited for, and what strangers achieve."""

import contextlib
import re
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.mpc.transport.meeting import ABORT, DATA, Place, in_background, leave_together, octets

from veilboost.errors import InputError, PeerLost, PeerMismatch
from veilboost.jobs.certificates import load_tls
from veilboost.mpc.transport.connect import connect, listen
from veilboost.mpc.transport.frames import HEADER
from veilboost.mpc.transport.opening import Opening, draw_token


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_port_in_use_is_refused(place: Place) -> None:
    host, port = place.addresses["north"]
    with listen("north", host, port), pytest.raises(InputError) as caught:
        listen("south", host, port)
    assert re.fullmatch(
        rf"south cannot listen at {host}:{port} \(Address already in use\): stop the program .* in the job file",
        str(caught.value),
    )


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"south cannot listen at 192\.0\.2\.1:7100 .*start south on the machine that has"
    ):
        listen("south", "192.0.2.1", 7100)


@pytest.mark.parametrize("host", ["south.invalid", "south..hospital", "s" * 70])
def test_unknown_host_is_refused(host: str) -> None:
    with pytest.raises(InputError, match=rf"south cannot listen at {host}:7100 .*check the host's name in the"):
        listen("south", host, 7100)


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
        place.dial("dealer", "north", Opening(b"S", draw_token())).close()

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
        place.dial("north", "north").close()  # waits until north listens
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
        for name, direction, generation in (
            ("north", b"S", 0),
            ("south", b"X", 0),
            ("south", b"N", 0),
            ("south", b"S", 1),
        ):
            connection = place.dial(name, "north", Opening(direction, draw_token(), generation))
            assert connection.recv(1) == {"north": b"N", "south": b"X" if generation else b""}[name]
            stay.append(connection)
        stay.append(place.dial("south", "north", b"half an opening"))
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
        mine, other = draw_token(), draw_token()
        first = place.dial("south", "north", Opening(b"S", mine))
        assert Opening.read(first).direction == b"S"
        refused = [place.dial("south", "north", Opening(b"S", mine))]  # what is there already
        refused.append(place.dial("south", "north", Opening(b"R", other)))  # another process of the same name
        assert [connection.recv(1) for connection in refused] == [b"", b""]
        other_way = place.dial("south", "north", Opening(b"R", mine))
        assert Opening.read(other_way).direction == b"R"
        transport = waiting.result()
    first.sendall(HEADER.pack(DATA, 1, 0, 0) + b"!")
    assert transport.receive("south", 1).tobytes() == b"!"
    late = place.dial("south", "north", Opening(b"S", other))
    assert Opening.read(late).direction == b"X"
    transport.close("over")
    for connection in (first, other_way, late, *refused):
        connection.close()


@pytest.mark.parametrize("reason", ["the table is gone", None])
def test_who_leaves_before_all_have_met_ends_the_meeting(place: Place, reason: str | None) -> None:
    """South waits for the dealer, which never comes; north, connected already, dies or gives up."""
    with ThreadPoolExecutor(1) as pool:
        listener = listen("north", *place.addresses["north"])
        waiting = pool.submit(place.connect, "south", wait_seconds=60)
        server = load_tls(place.certificates, "north")[0]
        accepted, token = {}, draw_token()
        for _ in range(2):
            connection = server.wrap_socket(listener.accept()[0], server_side=True)
            opening = Opening.read(connection)
            connection.sendall(Opening(opening.direction, token).to_bytes())
            accepted[opening.direction] = connection
        time.sleep(0.2)
        if reason is not None:
            accepted[b"R"].sendall(HEADER.pack(ABORT, len(reason), 0, 0) + reason.encode())
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
