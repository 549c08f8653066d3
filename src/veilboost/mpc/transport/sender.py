"""The writing half of a link: frames to one peer, over one channel after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.channel import Channel, hang_up
from veilboost.mpc.transport.frames import LONGEST_REASON, Kind
from veilboost.mpc.transport.outbox import OVERHEAD, Frame, Outbox, make_frame

#: Received bytes after which an acknowledgement is sent, unless one has gone with a frame.
ACKNOWLEDGE = 1 << 20

_NOTHING = np.empty(0, dtype=np.uint8)


class Sender:
    """Writes to one peer, one thread at a time.

    Parameters
    ----------
    received
        How many frames have come from the peer: every frame that is sent tells it.
    on_stuck
        Called when nothing can be written any more. What the peer has said before it hung up, its reason above all, can
        still be read then.

    Attributes
    ----------
    outbox
        What was sent and may have to be sent again.
    lock
        Held while something is written.
    """

    def __init__(self, peer: str, channel: Channel, received: Callable[[], int], on_stuck: Callable[[], None]) -> None:
        self.outbox = Outbox(peer)
        self.lock = threading.Lock()
        self._channel = channel
        self._received, self._on_stuck = received, on_stuck
        self._writable, self._unwritable_since = True, 0.0
        self._last_sent = time.monotonic()
        self._owed = 0  # received bytes that have not been acknowledged
        self._said_goodbye = False

    def send(self, payload: Octets) -> None:
        """Send a data frame, now or, if the connection is lost, over the next one."""
        with self.lock:
            frame = self.outbox.add(payload, self._received())
            self._owed = 0
            if self._writable:
                self._write(frame)

    def owe(self, size: int) -> None:
        """Note that a frame of some size has come, and acknowledge now and then."""
        self._owed += size + OVERHEAD
        if self._owed > ACKNOWLEDGE:
            self.beat(0.0)

    def beat(self, seconds: float) -> None:
        """Send a heartbeat, which acknowledges, if nothing was sent for some seconds and nobody is writing."""
        overdue = time.monotonic() - self._last_sent > seconds or self._owed > ACKNOWLEDGE
        if not overdue or not self.lock.acquire(blocking=False):
            return
        try:
            if self._writable and self._channel.takes_more():
                self._owed = 0
                self._write(self._control(Kind.HEARTBEAT))
        finally:
            self.lock.release()

    def say(self, reason: str | None, seconds: float) -> None:
        """Say goodbye, or with a reason that this participant gives up; for at most some seconds."""
        if not self.lock.acquire(timeout=seconds):
            return
        try:
            self._said_goodbye = reason is None
            if self._writable and reason is None:
                self._write(self._control(Kind.BYE))
            elif self._writable and reason is not None:
                self._channel.outgoing.settimeout(seconds)
                text = np.frombuffer(reason.encode()[:LONGEST_REASON], dtype=np.uint8)
                self._write(self._control(Kind.ABORT, text))
        finally:
            self.lock.release()

    def go_on(self, channel: Channel) -> None:
        """Send over a new channel whatever the peer has not acknowledged; the caller holds `lock`."""
        self._channel, self._writable = channel, True
        for frame in self.outbox.unacknowledged():
            if self._writable:
                self._write(frame)
        if self._said_goodbye and self._writable:
            self._write(self._control(Kind.BYE))

    def unwritable(self) -> float:
        """For how many seconds nothing could be written."""
        return 0.0 if self._writable else time.monotonic() - self._unwritable_since

    def release(self) -> None:
        """Wake whoever is blocked because the peer takes no more."""
        if self.lock.locked():
            hang_up(self._channel.outgoing)

    def _control(self, kind: Kind, text: Octets = _NOTHING) -> Frame:
        return make_frame(kind, text, self.outbox.sent, self._received())

    def _write(self, frame: Frame) -> None:
        try:
            self._channel.write(frame)
            self._last_sent = time.monotonic()
        except (OSError, ValueError):
            self._writable, self._unwritable_since = False, time.monotonic()
            hang_up(self._channel.outgoing)
            self._on_stuck()
        except BaseException:  # interrupted, perhaps within a frame: nothing sensible can follow
            self._writable = False
            raise
