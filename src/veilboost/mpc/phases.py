"""Phases: where the time and the bytes of a public program go.

Phases follow one another by the public program alone, so their names, their order and their bytes are public.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass
class PhaseTotal:
    """What one participant spent in all visits to one phase.

    Attributes
    ----------
    seconds
        Wall time; waiting for others included.
    bytes_sent
        To all peers.
    """

    seconds: float = 0.0
    bytes_sent: int = 0


class Phases:
    """A stop-watch for the phases of one participant.

    Parameters
    ----------
    bytes_sent
        Bytes sent to each peer so far, as the transport counts them.
    on_enter
        Called with the name of every phase that begins.
    """

    def __init__(self, bytes_sent: Mapping[str, int], on_enter: Callable[[str], None] = lambda name: None) -> None:
        self.on_enter = on_enter
        self.current: str | None = None
        self._bytes_sent = bytes_sent
        self._totals: dict[str, PhaseTotal] = {}
        self._since = (time.perf_counter(), sum(bytes_sent.values()))

    def enter(self, name: str | None) -> None:
        """End the current phase and begin another one, or none."""
        now = (time.perf_counter(), sum(self._bytes_sent.values()))
        if self.current is not None:
            total = self._totals.setdefault(self.current, PhaseTotal())
            total.seconds += now[0] - self._since[0]
            total.bytes_sent += now[1] - self._since[1]
        began = name is not None and name != self.current
        self.current, self._since = name, now
        if name is not None and began:
            self.on_enter(name)

    def totals(self) -> dict[str, PhaseTotal]:
        """By phase, in the order in which the phases first began; the current one as far as it has come."""
        self.enter(self.current)
        return dict(self._totals)
