"""Frames: how messages stand in a stream of bytes, and how they are read out of one.

A frame is a header of 24 bytes and a payload. The header, little-endian:

====================  =======  =====================================================================================
kind                  4 bytes  `Kind`
size                  4 bytes  of the payload: at most `LARGEST_FRAME` (data), `LONGEST_REASON` (abort), else 0
sequence              8 bytes  how many data frames the sender has sent before this frame
acknowledged          8 bytes  how many data frames the sender has received
====================  =======  =====================================================================================

Whatever else comes is refused before any memory is set aside for it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from veilboost.errors import ProtocolError
from veilboost.mpc.transport.base import LARGEST_GREETING, Octets

HEADER = struct.Struct("<IIQQ")
#: No frame has a larger payload; what does not fit travels in several. This is what a peer can make a receiver reserve
#: before it has sent it.
LARGEST_FRAME = 1 << 24
LONGEST_REASON = 1000

_RECORD = 1 << 14  # what one TLS record holds


class Kind(IntEnum):
    """What a frame is for."""

    DATA = 1
    HEARTBEAT = 2
    ABORT = 3
    BYE = 4


class Header(NamedTuple):
    """See the module."""

    kind: int
    size: int
    sequence: int
    acknowledged: int


class FrameReader:
    """Takes frames out of a stream of bytes, which may come in pieces of any length.

    Parameters
    ----------
    peer
        Who sends; for messages.
    receive_into
        Puts the next bytes of the stream into a buffer and returns how many; 0 at the end. As of a socket.
    received
        How many data frames have been received before, on other connections.

    Attributes
    ----------
    received
        How many data frames have been received.
    heard
        When the last bytes came (`time.monotonic`); None before the first.
    """

    def __init__(self, peer: str, receive_into: Callable[[memoryview], int], received: int = 0) -> None:
        self.received = received
        self.heard: float | None = None
        self._peer = peer
        self._receive_into = receive_into
        self._buffer = memoryview(bytearray(_RECORD))
        self._start = self._stop = 0

    def next(self) -> Header:
        """The next frame's header; a payload must be taken with `payload` before the next header is.

        Raises
        ------
        EOFError
            At the end of the stream.
        ProtocolError
            When no frame of this kind, size or sequence number can be due.
        """
        while self._stop - self._start < HEADER.size:
            if self._start:
                rest = bytes(self._buffer[self._start : self._stop])
                self._buffer[: len(rest)] = rest
                self._start, self._stop = 0, len(rest)
            self._stop += self._receive(self._buffer[self._stop :] if self._stop else self._buffer)
        header = Header(*HEADER.unpack_from(self._buffer, self._start))
        self._start += HEADER.size
        if self._start == self._stop:
            self._start = self._stop = 0
        if header.sequence != self.received or header.size > self._largest(header.kind):
            raise ProtocolError(
                f"{self._peer} sent an unexpected frame at step {self.received}: are both on the same version?"
            )
        return header

    def payload(self, header: Header, into: Octets | None = None) -> Octets:
        """The payload of the frame whose header has just been read.

        Parameters
        ----------
        into
            Where to put it, of the size that the header says; by default a new array. Memory that is reserved is used
            only as far as bytes have come.
        """
        payload = np.empty(header.size, dtype=np.uint8) if into is None else into
        view = payload.data
        ready = min(self._stop - self._start, header.size)
        if ready:
            view[:ready] = self._buffer[self._start : self._start + ready]
            self._start += ready
            if self._start == self._stop:
                self._start = self._stop = 0
        while ready < header.size:
            ready += self._receive(view[ready:])
        if header.kind == Kind.DATA:
            self.received += 1
        return payload

    def _largest(self, kind: int) -> int:
        """The largest payload of a frame of some kind; -1 when there is no such kind."""
        if kind == Kind.DATA:
            return LARGEST_FRAME if self.received else LARGEST_GREETING
        if kind == Kind.ABORT:
            return LONGEST_REASON
        return 0 if kind in (Kind.HEARTBEAT, Kind.BYE) else -1

    def _receive(self, view: memoryview) -> int:
        count = self._receive_into(view)
        if count == 0:
            raise EOFError
        self.heard = time.monotonic()
        return count
