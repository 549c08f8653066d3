"""A link: ordered frames to and from one peer, over one channel after another.

A connection that is lost takes no frame with it: what the peer has not acknowledged is kept and sent again over the
next one, the same bytes. Both sides say then how many frames they have received, so that none is missing or comes
twice.

Who reads: the thread that waits for a frame reads the connection itself, which saves a change of threads for every
frame. While the program is elsewhere, another thread reads ahead: after a large frame at once, else as soon as the
program has been away for a moment. `_reading` is held by whoever reads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

import numpy as np

from veilboost.errors import ParticipantError, PeerLost, ProtocolError
from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.channel import Channel
from veilboost.mpc.transport.frames import LARGEST_FRAME, FrameReader, Header, Kind
from veilboost.mpc.transport.outbox import OVERHEAD
from veilboost.mpc.transport.sender import Sender

#: Unread bytes of one peer beyond which nothing is read ahead.
READ_AHEAD = 256 << 20
#: Sent bytes that the peer has not acknowledged, beyond which a sender waits.
UNACKNOWLEDGED = 64 << 20
#: Messages from this size on are worth a change of threads.
LARGE = 1 << 16

_AWAY_SECONDS = 0.05  # without a visit of the program, after which a link is read ahead
_FENCE_SECONDS = 5.0


def _fits(size: int, due: int, at_most: bool) -> bool:
    return size == due or (at_most and size < due)


class Loss(Enum):
    """How a channel was lost."""

    HUNG_UP = "the peer's machine has closed it"
    BROKEN = "the network has reported an error"
    SILENT = "nothing came for too long"


class Link:
    """Frames to and from one peer.

    Parameters
    ----------
    channel
        The connections of the meeting.
    on_loss
        Called, by any thread, when the channel is lost; `use` gives the link another one.
    on_end
        Called, by any thread, when the peer ends the session: with what to raise, or None after its goodbye.

    Attributes
    ----------
    generation
        Of the current channel.
    up
        Whether there is a channel that can be read.
    lost
        How and when the channel was lost; the time is that of the first loss since anything was heard.
    left
        Whether the peer has said goodbye.
    sender
        The writing half.
    failure
        What `send` and `receive` raise from now on.
    """

    def __init__(
        self,
        peer: str,
        channel: Channel,
        on_loss: Callable[[Link], None],
        on_end: Callable[[Link, ParticipantError | None], None],
    ) -> None:
        self.peer = peer
        self.generation = channel.generation
        self.up = True
        self.lost: tuple[Loss, float] | None = None
        self.left = False
        self.failure: ParticipantError | None = None
        self._on_loss, self._on_end = on_loss, on_end
        self._channel = channel
        self._reader = FrameReader(peer, channel.incoming.recv_into)
        self._came_up = time.monotonic()
        self.sender = Sender(peer, channel, lambda: self._reader.received, self.read_ahead)
        self._reading = threading.Lock()
        self._frames: deque[Octets] = deque()
        self._ahead_limit = READ_AHEAD
        self._coming: int | None = None  # size of the frame that is being read ahead
        self._unread = 0
        self._steps = 0
        self._state = threading.Lock()
        self._changed = threading.Condition(self._state)  # for the program
        self._ahead = threading.Condition(self._state)  # for the thread that reads ahead
        self._eager = self._held = self._awaiting = self._awaiting_room = self._leaving = self._over = False
        self._visits = 0
        self._thread = threading.Thread(target=self._read_ahead, name=f"read {peer}", daemon=True)
        for connection in (channel.outgoing, channel.incoming):
            connection.settimeout(None)

    def start(self) -> None:
        """Begin to read ahead."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the session goes on with this peer, be there a channel or not."""
        return self.failure is None and not self.left and not self._over

    @property
    def waiting(self) -> bool:
        """Whether another channel is wanted."""
        return self.running and not self.up

    @property
    def unread(self) -> int:
        """Bytes that have come and that the program has not taken."""
        return self._unread

    # The program's side.

    def send(self, payload: Octets) -> None:
        """Send one frame; the payload must not be changed afterwards."""
        if self.sender.outbox.memory > UNACKNOWLEDGED:
            self._await_room()
        if self.failure is not None or self.left:
            raise self._end()
        self.sender.send(payload)

    def receive(self, size: int) -> Octets:
        """The next message, of exactly `size` bytes."""
        if size <= LARGEST_FRAME:
            message = self._next(size)
        else:
            message = np.empty(size, dtype=np.uint8)
            for start in range(0, size, LARGEST_FRAME):
                part = message[start : start + LARGEST_FRAME]
                self._next(part.nbytes, part)
        if size >= LARGE:
            self.read_ahead()
        return message

    def receive_text(self, limit: int) -> bytes:
        """The next message, of at most `limit` bytes."""
        return self._next(limit, at_most=True).tobytes()

    def _next(self, size: int, into: Octets | None = None, at_most: bool = False) -> Octets:
        while True:
            self._visits += 1
            frame = self._take_next()
            if frame is None and (self.failure is not None or self.left):
                raise self._end()
            if frame is None and self.up and self._reading.acquire(blocking=False):
                try:
                    frame = self._take_next()  # another thread may have read it before we were let in
                    if frame is None:
                        frame = self._read(into, size, at_most)
                finally:
                    self._reading.release()
            if frame is not None:
                break
            with self._state:
                coming = None if self._frames else self._coming
                if coming is not None and not _fits(coming, size, at_most):
                    raise self._wrong_size(coming, size, at_most)
                self._awaiting = True
                ended = self.failure is not None or self.left
                if not self._frames and not ended and (self._reading.locked() or not self.up):
                    self._changed.wait(_AWAY_SECONDS)
                self._awaiting = False
        if not _fits(frame.nbytes, size, at_most):
            raise self._wrong_size(frame.nbytes, size, at_most)
        self._steps += 1
        if into is not None and frame is not into:
            into[:] = frame
        return frame

    def _take_next(self) -> Octets | None:
        if not self._frames:
            return None
        frame = self._frames.popleft()
        with self._state:
            self._unread -= frame.nbytes + OVERHEAD
            if self._held and self._unread <= self._ahead_limit:
                self._ahead.notify()
        return frame

    def _await_room(self) -> None:
        """Wait until the peer has acknowledged enough."""
        self.read_ahead()
        with self._state:
            self._awaiting_room = True
            while self.sender.outbox.memory > UNACKNOWLEDGED and self.failure is None and not self.left:
                self._changed.wait(_AWAY_SECONDS)
            self._awaiting_room = False

    def _end(self) -> ParticipantError:
        return self.failure or PeerLost(f"{self.peer} left before the work was done: are both on the same version?")

    def _wrong_size(self, size: int, due: int, at_most: bool) -> ProtocolError:
        if at_most:
            return ProtocolError(f"{self.peer} sent a greeting of {size} bytes, more than {due}")
        return ProtocolError(
            f"{self.peer} sent a frame of {size} bytes where {due} were due, at step {self._steps}: "
            "are both on the same version?"
        )

    # Reading: by the holder of `_reading`.

    def _read(self, into: Octets | None = None, due: int | None = None, at_most: bool = False) -> Octets | None:
        """The next data frame from the connection; None when the channel or the session has come to its end."""
        if not self.up:
            return None
        reader, channel = self._reader, self._channel  # these stay while we hold `_reading`, see `fence`
        try:
            while True:
                header = reader.next()
                if header.acknowledged > self.sender.outbox.acknowledged:
                    self._acknowledge(header.acknowledged)
                if header.kind == Kind.DATA:
                    if due is None:
                        self._coming = header.size  # the program may know better before all of it is here
                    elif not _fits(header.size, due, at_most):
                        raise self._wrong_size(header.size, due, at_most)
                    frame = reader.payload(header, into)
                    self.sender.owe(frame.nbytes)
                    return frame
                if header.kind != Kind.HEARTBEAT:
                    self._stop(reader, header)
                    return None
        except EOFError:
            self.lose(channel, Loss.HUNG_UP)
        except (OSError, ValueError):  # ValueError: closed by ourselves meanwhile
            self.lose(channel, Loss.BROKEN)
        except ProtocolError as error:
            self._on_end(self, error)
        return None

    def _stop(self, reader: FrameReader, header: Header) -> None:
        """The peer leaves, or gives up."""
        failure = None
        if header.kind == Kind.ABORT:
            reason = reader.payload(header).tobytes().decode("utf-8", "replace")
            failure = PeerLost(f"{self.peer} stopped: {''.join(c if c.isprintable() else ' ' for c in reason)}")
            self._on_end(self, failure)  # first the reason: the program must not find a peer that left without one
        with self._state:
            self.left, self.up = True, False
        if failure is None:
            self._on_end(self, None)
        with self._state:
            self._changed.notify_all()

    def _acknowledge(self, count: int) -> None:
        self.sender.outbox.acknowledge(count)
        if self._awaiting_room:
            with self._state:
                self._changed.notify_all()

    def expect(self, size: int) -> None:
        """Read ahead from now on, at least a message of `size` bytes even if that is more than else."""
        self._ahead_limit = max(READ_AHEAD, size + OVERHEAD * (1 + size // LARGEST_FRAME))
        self.read_ahead()

    def read_ahead(self) -> None:
        """Let the other thread read from now on, until the program waits for it."""
        if not self._eager:
            with self._state:
                self._eager = True
                self._ahead.notify()

    def _read_ahead(self) -> None:
        while self._await_turn():
            if not self._reading.acquire(blocking=False):
                continue
            try:
                frame = self._read()
                with self._state:
                    self._coming = None
                    if frame is not None and not self._leaving:
                        self._frames.append(frame)
                        self._unread += frame.nbytes + OVERHEAD
                    if self._awaiting:
                        self._eager = False  # the program has caught up: it reads itself
            finally:
                self._reading.release()
            with self._state:
                self._changed.notify_all()

    def _await_turn(self) -> bool:
        """Wait until it is this thread's turn to read; False at the end."""
        away = False
        with self._state:
            while not self._over:
                held, self._held = self._held, self._unread > self._ahead_limit
                if held and not self._held:
                    self._came_up = time.monotonic()  # the peer was not silent: nobody listened
                if self.up and not self._held and not self._reading.locked() and (self._eager or away):
                    self._eager = True
                    return True
                visits = self._visits
                called = self._ahead.wait(_AWAY_SECONDS)
                away = not called and self._visits == visits and not self._awaiting
        return False

    def leave(self) -> None:
        """Nobody takes frames any more: read on, for the peer's goodbye."""
        with self._state:
            self._leaving, self._unread, self._eager = True, 0, True
            self._frames.clear()
            self._ahead.notify()

    # Loss and return.

    def silence(self) -> float:
        """For how many seconds nothing was heard; 0 while nobody listens or bytes wait to be read."""
        heard = max(self._reader.heard or 0.0, self._came_up)
        seconds = time.monotonic() - heard
        return 0.0 if not self.up or self._held or (seconds > 1 and self._channel.has_more()) else seconds

    def unwritable(self) -> float:
        """For how many seconds nothing could be written although the channel is not lost yet."""
        return self.sender.unwritable() if self.up else 0.0

    def reaches_machine(self, seconds: float) -> bool:
        """Whether the peer's machine has acknowledged anything in the last seconds, even if the peer says nothing."""
        return self._channel.reaches_machine(seconds)

    def lose(self, channel: Channel | None, how: Loss) -> None:
        """Give up a channel, by default the current one; nothing happens if it is not the current one any more."""
        channel = channel or self._channel
        with self._state:
            if channel is not self._channel or not self.up or self._over:
                return
            self.up = False
            first = self.lost[1] if self.lost is not None and self._reader.heard is None else time.monotonic()
            self.lost = (how, first)
            self._changed.notify_all()
        channel.hang_up()
        self._on_loss(self)

    def fence(self) -> int:
        """How many frames have been received, after the channel was lost: no more will come from it.

        Raises
        ------
        TimeoutError
            When the thread that reads does not come to its end.
        """
        if not self._reading.acquire(timeout=_FENCE_SECONDS):
            raise TimeoutError
        try:
            return self._reader.received
        finally:
            self._reading.release()

    def use(self, channel: Channel, received: int) -> None:
        """Go on with a new channel: the peer has received so many frames; the others are sent again.

        Raises
        ------
        ProtocolError
            When the peer cannot have received so many.
        """
        for connection in (channel.outgoing, channel.incoming):
            connection.settimeout(None)
        with self.sender.lock:
            if received < self.sender.outbox.acknowledged:
                raise ProtocolError(f"{self.peer} has lost frames that it had acknowledged: restart all roles")
            self.sender.outbox.acknowledge(received)
            with self._state:
                if not self.waiting or channel.generation <= self.generation:
                    channel.close()
                    return
                spent, self._channel, self.generation = self._channel, channel, channel.generation
                self._reader = FrameReader(self.peer, channel.incoming.recv_into, self._reader.received)
                self._came_up = time.monotonic()
                self.up = self._eager = True  # the peer sends much again, too
                self._changed.notify_all()
                self._ahead.notify()
            spent.close()
            self.sender.go_on(channel)

    # The end.

    def fail(self, failure: ParticipantError) -> None:
        """Have `send` and `receive` raise; whoever reads wakes up. What is being written still gets to the peer."""
        with self._state:
            self.failure = self.failure or failure
            self.up = False
            self._changed.notify_all()
        self._channel.stop_reading()

    def shut(self) -> None:
        """Hang up and wake everybody."""
        with self._state:
            self._over = True
            self._changed.notify_all()
            self._ahead.notify_all()
        self._channel.hang_up()

    def close(self, seconds: float) -> None:
        """After `shut`: wait for the thread, since a connection must not be closed under it, and close."""
        self._thread.join(seconds)
        self._channel.close()
