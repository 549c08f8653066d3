"""Malformed frames, greetings and openings in great numbers: nothing but the errors that are meant for them.

Streams of frames are damaged in every way that the author could think of, cut into pieces of any length, and given to
the reader that production uses; an oracle of a few lines says what it must accept.
"""

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.mpc.test_handshake import GREETING
from tests.mpc.transport.meeting import Place, Raw, octets, own_threads
from tests.mpc.transport.test_frames import frame, pieces

from veilboost.errors import ParticipantError, ProtocolError
from veilboost.mpc.handshake import Greeting
from veilboost.mpc.transport.base import LARGEST_GREETING
from veilboost.mpc.transport.channel import Channel
from veilboost.mpc.transport.frames import LARGEST_FRAME, LONGEST_REASON, FrameReader, Kind
from veilboost.mpc.transport.opening import Opening
from veilboost.mpc.transport.tls import TlsTransport

_WORDS = (0, 1, 2, 3, 4, 5, 255, LONGEST_REASON, LARGEST_GREETING, LARGEST_FRAME, 2**31, 2**32 - 1)


def draw_stream(chance: random.Random) -> bytes:
    """A conversation of up to 16 frames; most have one thing wrong with them."""
    frames, sequence = [], 0
    for _ in range(chance.randrange(1, 16)):
        kind = chance.choice((Kind.DATA, Kind.DATA, Kind.HEARTBEAT, Kind.HEARTBEAT, Kind.ABORT, Kind.BYE))
        size = 0
        if kind in (Kind.DATA, Kind.ABORT):
            size = min(LONGEST_REASON, chance.choice((0, 1, 8, 24, 100, 100, 100, chance.randrange(2000))))
        frames.append(
            frame(kind, chance.randbytes(size), sequence, chance.choice((0, sequence, chance.getrandbits(64))))
        )
        sequence += kind == Kind.DATA
    if chance.random() < 0.8:
        damage(frames, chance)
    return b"".join(frames)


def damage(frames: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(frames))
    one = bytearray(frames[at])
    way = chance.randrange(9)
    if way == 0:  # a bit of the header
        bit = chance.randrange(8 * 24)
        one[bit // 8] ^= 1 << bit % 8
    elif way == 1:  # another header
        one[:24] = chance.randbytes(24)
    elif way == 2:  # another kind
        struct.pack_into("<I", one, 0, chance.choice(_WORDS))
    elif way == 3:  # another size
        struct.pack_into("<I", one, 4, chance.choice(_WORDS))
    elif way == 4:  # another sequence number
        struct.pack_into("<Q", one, 8, chance.choice((0, 1, at + 1, 2**32, 2**64 - 1)))
    elif way == 5:  # truncated
        del one[chance.randrange(len(one)) :]
    elif way == 6:  # something in between
        cut = chance.randrange(len(one) + 1)
        one[cut:cut] = chance.randbytes(chance.randrange(1, 40))
    elif way == 7:  # twice
        one *= 2
    else:  # another place
        other = chance.randrange(len(frames))
        frames[other], one = bytes(one), bytearray(frames[other])
    frames[at] = bytes(one)


def judge(stream: bytes) -> tuple[list[tuple[int, bytes]], str]:
    """What the stream holds up to its end or to the first frame that must be refused."""
    found: list[tuple[int, bytes]] = []
    received = position = 0
    while len(stream) - position >= 24:
        kind, size, sequence, _ = struct.unpack_from("<IIQQ", stream, position)
        largest = {1: 1 << 24 if received else 4096, 2: 0, 3: 1000, 4: 0}.get(kind)
        if largest is None or size > largest or sequence != received:
            return found, "refused"
        if len(stream) - position - 24 < size:
            return found, "ended"
        found.append((kind, stream[position + 24 : position + 24 + size]))
        received += kind == 1
        position += 24 + size
    return found, "ended"


def read(stream: bytes, chance: random.Random) -> tuple[list[tuple[int, bytes]], str]:
    """The same by the real reader, in pieces of random length."""
    longest = chance.choice((1, 3, 30, 20_000))
    reader = FrameReader("south", pieces(stream, lambda: chance.randint(1, longest)))
    found: list[tuple[int, bytes]] = []
    try:
        while True:
            header = reader.next()
            assert header.size <= LARGEST_FRAME
            found.append((header.kind, reader.payload(header).tobytes()))
    except EOFError:
        return found, "ended"
    except ProtocolError as error:
        assert str(error).startswith(f"south sent an unexpected frame at step {reader.received}")
        return found, "refused"


def fuzz_reader(frames: int, seed: int) -> None:
    chance = random.Random(seed)
    outcomes = {"ended": 0, "refused": 0}
    count = 0
    while count < frames:
        stream = draw_stream(chance)
        found, outcome = judge(stream)
        assert read(stream, chance) == (found, outcome), stream.hex()
        outcomes[outcome] += 1
        count += len(found) + 1
    assert min(outcomes.values()) > frames / 60  # both happen a lot


def test_twenty_thousand_frames() -> None:
    fuzz_reader(20_000, seed=1)


@pytest.mark.slow
def test_a_million_frames() -> None:
    fuzz_reader(1_000_000, seed=time.time_ns())


def fuzz_greetings(count: int, seed: int) -> None:
    """Whatever is accepted is a greeting that could have been sent."""
    chance = random.Random(seed)
    good = GREETING.to_bytes()
    accepted = 0
    for _ in range(count):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data) + 1)
            way = chance.randrange(5)
            if way == 0 and at < len(data):
                data[at] = chance.getrandbits(8)
            elif way == 1:
                data[at:at] = chance.choice(
                    (b"{", b"[", b'"', b"\\", b"1e999", b"NaN", b"null", b"\xff", b"\\ud800", b",")
                )
            elif way == 2:
                del data[at : at + chance.randrange(1, 9)]
            elif way == 3:
                data = data[:at] + data[chance.randrange(len(data) + 1) :]
            else:
                data[at:at] = chance.randbytes(chance.randrange(9))
        try:
            greeting = Greeting.from_bytes(bytes(data), "owner1")
        except ProtocolError as error:
            assert str(error).startswith("owner1 sent a greeting that cannot be read")
            continue
        accepted += 1
        assert Greeting.from_bytes(greeting.to_bytes(), "owner1") == greeting
        assert greeting.rows is None or greeting.rows > 0
    assert accepted > 0


def test_greetings() -> None:
    fuzz_greetings(10_000, seed=2)


@pytest.mark.slow
def test_many_greetings() -> None:
    fuzz_greetings(300_000, seed=time.time_ns())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    assert own_threads() == []


def fuzz_sessions(count: int, seed: int) -> None:
    """Streams into a whole transport, without TLS: the program that waits always gets its frames or an error."""
    chance = random.Random(seed)
    for number in range(count):
        ours, theirs = socket.socketpair()
        ours_too, theirs_too = socket.socketpair()
        transport = TlsTransport("north", {"south": Channel(ours_too, ours)})  # type: ignore[arg-type]
        stream = draw_stream(chance)
        theirs.sendall(stream)
        theirs.shutdown(socket.SHUT_WR)
        found, _ = judge(stream)
        with pytest.raises(ParticipantError, match=r"^(south|lost the connection to south)"):
            for kind, payload in found:
                if kind == Kind.DATA:
                    assert transport.receive("south", len(payload)).tobytes() == payload
                elif kind in (Kind.BYE, Kind.ABORT):
                    break
            transport.receive("south", chance.choice((0, 8)))
            transport.receive("south", 9)
        if number % 2:
            with pytest.raises(ParticipantError, match="south"):
                transport.send("south", octets(8))
        transport.close("enough")
        theirs.close()
        theirs_too.close()


def test_sessions() -> None:
    fuzz_sessions(200, seed=3)
    assert own_threads() == []


@pytest.mark.slow
def test_many_sessions() -> None:
    fuzz_sessions(5000, seed=time.time_ns())


def fuzz_tls(place: Place, count: int, seed: int) -> None:
    """The same over real TLS, from a peer with a certificate."""
    chance = random.Random(seed)
    for _ in range(count):
        raw = Raw(place, reconnect_seconds=0)
        stream = draw_stream(chance)
        try:
            for start in range(0, len(stream), 50):
                raw.outgoing.sendall(stream[start : start + 50])
        except OSError:  # it has been refused already
            pass
        raw.outgoing.close()
        found, _ = judge(stream)
        sizes = [len(payload) for kind, payload in found if kind == Kind.DATA]
        with pytest.raises(ParticipantError, match=r"^(south|lost the connection to south)"):
            for size in [*sizes, 8, 9]:
                raw.north.receive("south", size)
        raw.close()


def test_over_tls(place: Place) -> None:
    fuzz_tls(place, 20, seed=4)


@pytest.mark.slow
def test_much_over_tls(place: Place) -> None:
    fuzz_tls(place, 300, seed=time.time_ns())


def test_openings(place: Place) -> None:
    """Somebody with a certificate says nonsense at the door of a running session: nobody is disturbed."""
    chance = random.Random(5)
    raw = Raw(place)
    good = Opening(b"S", raw.token, 1).to_bytes()
    for _ in range(60):
        data = bytearray(good)
        way = chance.randrange(4)
        if way == 0:
            data = bytearray(chance.randbytes(chance.randrange(200)))
        elif way == 1:
            data[chance.randrange(1, 33)] ^= 1 << chance.randrange(8)
        elif way == 2:
            data[0] = chance.choice([byte for byte in range(256) if byte not in b"SR"])
        else:
            del data[chance.randrange(len(data)) :]
        caller = place.dial("south", "north", bytes(data))
        if chance.random() < 0.5:
            caller.close()
            continue
        if len(data) < len(good):  # north waits for the rest
            caller.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                assert caller.recv(100)[:1] in (b"", b"X")
        else:
            assert caller.recv(100)[:1] in (b"", b"X")
        caller.close()
    raw.send(Kind.DATA, 0, b"!")
    assert raw.north.receive("south", 1).tobytes() == b"!"
    raw.close()
