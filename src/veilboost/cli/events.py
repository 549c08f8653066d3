"""Progress of a role as JSON lines on standard output, for `veilboost train`, which started it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

_SECONDS = 0.5
_writing = threading.Lock()


def emit(event: dict[str, Any]) -> None:
    """Write one event."""
    with _writing:
        print(json.dumps(event), flush=True)


class EventProgress:
    """Has the methods of `TreeProgress`. Trees are told at once; phase and bytes, which change often, now and then and
    at the end.
    """

    def __init__(self) -> None:
        self._phase = ""
        self._bytes_sent: Mapping[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def __call__(self, number: int) -> None:
        emit({"event": "tree", "number": number})

    def phase(self, name: str) -> None:
        self._phase = name

    def count(self, bytes_sent: Mapping[str, int]) -> None:
        self._bytes_sent = bytes_sent

    def notice(self, text: str) -> None:
        emit({"event": "notice", "message": text})

    def _report(self) -> None:
        last = None
        over = False
        while not over:
            over = self._over.wait(_SECONDS)
            now = (self._phase, sum(self._bytes_sent.values()))
            if now != last:
                emit({"event": "progress", "phase": now[0], "bytes_sent": now[1]})
                last = now
