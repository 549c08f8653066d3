"""Progress of a run: one line with a bar on a terminal, one line a minute elsewhere.

Everything that is shown is public: names of phases and roles, numbers of trees, bytes and seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

_LINE_SECONDS = 60.0
_PER_SECOND = 2
_PHASE_WIDTH = 12  # of the longest phase of a training, so that the bar stays where it is
_WORTH_TELLING = 100_000  # bytes
_SHORTEST_BAR, _LONGEST_BAR = 8, 40


class TreeProgress:
    """Shows the phase, how many trees are done, the time that is left and the bytes that were sent.

    Parameters
    ----------
    trees
        How many there will be.
    quiet
        Show nothing.
    label
        Whose progress it is.
    """

    def __init__(self, trees: int, quiet: bool = False, label: str = "") -> None:
        self._trees, self._label = trees, label
        self._done: int | None = None
        self._phase, self._phase_since = "starting", time.monotonic()
        self._first = (0, 0.0)  # trees done and time when the setup was over
        self._last = 0.0  # when a tree was done
        self._bytes_sent: Callable[[], int] = lambda: 0
        self._live: Live | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if quiet:
            return
        console = Console(stderr=True)
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                self, console=console, refresh_per_second=_PER_SECOND, redirect_stdout=False, redirect_stderr=False
            )
        else:
            self._thread = threading.Thread(target=self._print_lines, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live is not None:
            self._live.stop()
        if self._thread is not None:
            self._thread.join()

    def __call__(self, number: int) -> None:
        """Note that the setup (the first call), or another tree, is done."""
        self._last = time.monotonic()
        if self._done is None:
            self._first = (number, self._last)
        self._done = number

    def phase(self, name: str) -> None:
        """Note that a phase begins."""
        if name != self._phase:
            self._phase, self._phase_since = name, time.monotonic()

    def count(self, bytes_sent: Mapping[str, int]) -> None:
        """Take the bytes sent so far, which go on growing, from here."""
        self._bytes_sent = lambda: sum(bytes_sent.values())

    def report(self, phase: str, bytes_sent: int) -> None:
        """Note phase and bytes together: what comes from another process."""
        self.phase(phase)
        self._bytes_sent = lambda: bytes_sent

    def notice(self, text: str) -> None:
        """Tell the operator something at once."""
        if self._live is not None:
            self._live.console.print(Text(f"{self._prefix()}{text}"))
        elif self._thread is not None:
            print(f"veilboost: {self._prefix()}{text}", file=sys.stderr, flush=True)

    def seconds_left(self) -> float | None:
        """From the mean over the trees that are done; None before the first."""
        number, began = self._first
        if self._done is None or self._done <= number:
            return None
        each = (self._last - began) / (self._done - number)
        return max(0.0, each * (self._trees - self._done) - min(each, time.monotonic() - self._last))

    def line(self, width: int, ascii_only: bool = False) -> str:
        """What a terminal of some width shows: as much as fits, the more important first."""
        parts = dict(self._parts())
        if self._done is not None and "phase" in parts:
            parts["phase"] = parts["phase"].ljust(_PHASE_WIDTH)
        shown: list[str] = []
        for name in ("trees", "phase", "time", "bytes", "label"):
            if name in parts and sum(len(parts[one]) + 2 for one in [*shown, name]) - 2 <= width:
                shown.append(name)
        if "trees" not in parts and "phase" not in shown:
            return parts.get("phase", "")  # the terminal cuts it
        texts = [parts[name] for name in ("label", "phase", "trees", "time", "bytes") if name in shown]
        room = width - sum(len(text) + 2 for text in texts)
        if self._done is not None and room >= _SHORTEST_BAR:
            texts.insert(len(shown) - len({"trees", "time", "bytes"} & set(shown)), self._bar(room, ascii_only))
        return "  ".join(texts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = self.line(options.max_width, options.ascii_only)
        yield Text(line, no_wrap=True, overflow="ellipsis")

    def _bar(self, room: int, ascii_only: bool) -> str:
        length = min(room, _LONGEST_BAR)
        full = length * (self._done or 0) // max(1, self._trees)
        done, left = ("#", "-") if ascii_only else ("━", "┄")
        return done * full + left * (length - full)

    def _parts(self) -> Iterator[tuple[str, str]]:
        if self._label:
            yield "label", self._label
        if self._phase:
            yield "phase", self._phase
        if self._done is not None:
            yield "trees", f"{self._done}/{self._trees} trees"
        left = self.seconds_left()
        if left is not None:
            yield "time", f"{duration(left)} left"
        elif self._phase:
            since = self._phase_since if self._done is None else self._first[1]
            yield "time", f"{duration(time.monotonic() - since)} so far"
        sent = self._bytes_sent()
        if sent >= _WORTH_TELLING:
            yield "bytes", f"{sent / 1e6:.1f} MB sent"

    def _prefix(self) -> str:
        return f"{self._label}: " if self._label else ""

    def _print_lines(self) -> None:
        while not self._over.wait(_LINE_SECONDS):
            parts = [text for name, text in self._parts() if name != "label"]
            print(f"veilboost: {self._prefix()}{', '.join(parts)}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A duration for people: of the larger unit and, if that is hours, the smaller one."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
