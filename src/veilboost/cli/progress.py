"""Progress of a training: a bar with the time left on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_SECONDS = 60.0


class TreeProgress:
    """Shows how many trees are done; call it with their number."""

    def __init__(self, trees: int, quiet: bool = False) -> None:
        self._trees = trees
        self._quiet = quiet
        self._bar: Progress | None = None
        self._first = self._last_line = time.monotonic()
        if not quiet and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("trees, elapsed"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("setting up", total=trees)

    def __enter__(self) -> TreeProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, number: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=number, description="training")
            return
        now = time.monotonic()
        if number == 0:
            self._first = now
        if not self._quiet and number and now - self._last_line > _LINE_SECONDS:
            self._last_line = now
            left = (now - self._first) / number * (self._trees - number)
            print(f"veilboost: {number} of {self._trees} trees, {left:.0f} s left", file=sys.stderr, flush=True)
