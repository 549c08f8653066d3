"""The reader of frames, fed without a network."""

from collections.abc import Callable

import numpy as np
import pytest

from veilboost.errors import ProtocolError
from veilboost.mpc.transport.base import LARGEST_GREETING
from veilboost.mpc.transport.frames import HEADER, LARGEST_FRAME, LONGEST_REASON, FrameReader, Header, Kind
from veilboost.mpc.transport.outbox import Outbox, make_frame


def pieces(data: bytes, sizes: Callable[[], int]) -> Callable[[memoryview], int]:
    """A source that hands out bytes in pieces of the given sizes, and then ends."""
    position = 0

    def receive_into(view: memoryview) -> int:
        nonlocal position
        count = min(max(1, sizes()), len(view), len(data) - position)
        view[:count] = data[position : position + count]
        position += count
        return count

    return receive_into


def frame(kind: int, payload: bytes, sequence: int, acknowledged: int = 0) -> bytes:
    return HEADER.pack(kind, len(payload), sequence, acknowledged) + payload


@pytest.mark.parametrize("size", [1, 7, 23, 24, 25, 100, 1 << 20])
def test_frames_in_pieces(size: int) -> None:
    payloads = [b"greeting", b"", bytes(range(256)) * 300, b"x" * 16360, b"last"]
    stream = b"".join(
        frame(Kind.HEARTBEAT, b"", number, number) + frame(Kind.DATA, payload, number, 3 * number)
        for number, payload in enumerate(payloads)
    )
    reader = FrameReader("south", pieces(stream + frame(Kind.BYE, b"", len(payloads)), lambda: size))
    assert reader.heard is None
    for number, payload in enumerate(payloads):
        assert reader.next() == (Kind.HEARTBEAT, 0, number, number)
        header = reader.next()
        assert header == (Kind.DATA, len(payload), number, 3 * number)
        into = np.zeros(len(payload), dtype=np.uint8) if number % 2 else None
        taken = reader.payload(header, into)
        assert taken.tobytes() == payload
        assert into is None or taken is into
        assert taken.flags.writeable
    assert reader.next().kind == Kind.BYE
    assert reader.received == len(payloads)
    assert reader.heard is not None
    with pytest.raises(EOFError):
        reader.next()


@pytest.mark.parametrize("length", [0, 1, 23, 24, 30])
def test_end_of_the_stream(length: int) -> None:
    reader = FrameReader("south", pieces(frame(Kind.DATA, b"greeting", 0)[:length], lambda: 5))
    with pytest.raises(EOFError):
        reader.payload(reader.next())
    assert reader.received == 0


@pytest.mark.parametrize(
    ("received", "largest"),
    [
        (0, {Kind.DATA: LARGEST_GREETING, Kind.ABORT: LONGEST_REASON, Kind.HEARTBEAT: 0, Kind.BYE: 0}),
        (1, {Kind.DATA: LARGEST_FRAME, Kind.ABORT: LONGEST_REASON, Kind.HEARTBEAT: 0, Kind.BYE: 0}),
    ],
)
def test_sizes_are_bounded_before_anything_is_reserved(received: int, largest: dict[Kind, int]) -> None:
    for kind, bound in largest.items():
        for size in (bound, bound + 1):
            data = HEADER.pack(kind, size, received, 0)
            reader = FrameReader("south", pieces(data, lambda: 100), received)
            if size > bound:
                with pytest.raises(ProtocolError, match=f"^south sent an unexpected frame at step {received}: "):
                    reader.next()
            else:
                assert reader.next() == Header(kind, size, received, 0)


@pytest.mark.parametrize("size", [0, 1, 16359, 16360, 16361, 100_000])
def test_what_is_written_can_be_read(size: int) -> None:
    payload = np.arange(size).astype(np.uint8)
    made = make_frame(Kind.DATA, payload, 7, 9)
    assert len(made.head) <= 1 << 14  # one TLS record
    stream = made.head + made.rest.tobytes()
    reader = FrameReader("south", pieces(stream, lambda: 1 << 14), 7)
    header = reader.next()
    assert header == (Kind.DATA, size, 7, 9)
    np.testing.assert_array_equal(reader.payload(header), payload)


def test_large_payloads_are_not_copied() -> None:
    payload = np.zeros(1 << 20, dtype=np.uint8)
    made = Outbox("south").add(payload, 0)
    assert np.shares_memory(made.rest, payload)
    assert len(made.head) + made.rest.nbytes == HEADER.size + payload.nbytes


def test_outbox_forgets_what_is_acknowledged() -> None:
    outbox = Outbox("south")
    frames = [outbox.add(np.full(size, 7, dtype=np.uint8), 0) for size in (1, 2, 30_000)]
    assert outbox.unacknowledged() == frames
    before = outbox.memory
    outbox.acknowledge(2)
    outbox.acknowledge(1)  # late
    assert outbox.unacknowledged() == frames[2:]
    assert 30_000 < outbox.memory < before
    with pytest.raises(ProtocolError, match=r"^south acknowledged 4 frames where 3 were sent"):
        outbox.acknowledge(4)
    outbox.acknowledge(3)
    assert (outbox.memory, outbox.sent, outbox.acknowledged) == (0, 3, 3)
