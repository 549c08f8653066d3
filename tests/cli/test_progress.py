"""What a person sees of a run: on terminals of any width, in logs, and from `veilboost train`."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

import pytest
from tests.processes.support import command, environment, make_case, role_command, started

from veilboost.cli import events, progress
from veilboost.cli.events import EventProgress
from veilboost.cli.progress import TreeProgress, duration

MOVES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A real terminal: what is written to `file` can be read here."""

    def __init__(self, columns: int) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._data = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 4096)
            except OSError:
                return
            if not piece:
                return
            self._data += piece

    def end(self) -> list[str]:
        """Close, and all lines that were ever drawn."""
        time.sleep(0.1)
        os.close(self.slave)
        self._thread.join(5)
        os.close(self._master)
        text = MOVES.sub("", self._data.decode())
        return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_line_before_the_first_tree(clock: Callable[[float], None]) -> None:
    shown = TreeProgress(20, quiet=True, label="laboratory")
    clock(3)
    assert shown.line(80) == "laboratory  starting  3 s so far"
    shown.phase("waiting for practice, dealer")
    clock(75)
    assert shown.line(80) == "laboratory  waiting for practice, dealer  1 min so far"
    assert shown.line(40) == "laboratory  waiting for practice, dealer"
    assert shown.line(39) == "waiting for practice, dealer"
    assert shown.line(20) == "waiting for practice, dealer"  # the terminal cuts it


def test_line_in_the_training(clock: Callable[[float], None]) -> None:
    shown = TreeProgress(20, quiet=True, label="laboratory")
    sent = {"practice": 30_000_000, "dealer": 0}
    shown.count(sent)
    shown.phase("gradients")
    shown(0)
    clock(2)
    assert shown.line(200) == f"laboratory  gradients     {'┄' * 40}  0/20 trees  2 s so far  30.0 MB sent"
    clock(8)
    shown(1)
    shown.phase("histograms")
    clock(5)
    sent["practice"] += 4_500_000
    assert shown.line(80) == f"laboratory  histograms    {'┄' * 16}  1/20 trees  3 min left  34.5 MB sent"
    clock(5)
    shown(10)
    assert shown.line(80) == f"laboratory  histograms    {'━' * 8}{'┄' * 8}  10/20 trees  20 s left  34.5 MB sent"
    assert shown.line(80, ascii_only=True).split()[2] == "#" * 8 + "-" * 8
    assert shown.line(40) == "histograms    10/20 trees  20 s left"
    assert shown.line(20) == "10/20 trees"


@pytest.mark.parametrize("label", ["", "a", "university of somewhere"])
@pytest.mark.parametrize("phase", ["starting", "split search", "waiting for everybody and somebody else"])
@pytest.mark.parametrize("trees", [None, 0, 7, 1000])
def test_line_fits_every_width(label: str, phase: str, trees: int | None) -> None:
    shown = TreeProgress(1000, quiet=True, label=label)
    shown.phase(phase)
    shown.report(phase, 123_456_789)
    if trees is not None:
        shown(0)
        shown(trees)
    for width in range(12, 200):
        line = shown.line(width)
        assert len(line) <= width or line == phase
        assert line


def test_time_left_counts_from_where_a_resumed_run_began(clock: Callable[[float], None]) -> None:
    shown = TreeProgress(20, quiet=True)
    assert shown.seconds_left() is None
    shown(10)
    assert shown.seconds_left() is None
    clock(4)
    shown(12)
    assert shown.seconds_left() == 16
    clock(1)
    assert shown.seconds_left() == 15
    clock(100)  # a tree that takes long: no less than the others after it
    assert shown.seconds_left() == 14
    shown(20)
    assert shown.seconds_left() == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3540, "59 min"), (3600, "1 h 00 min"), (90_000, "25 h 00 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Every line that is drawn fits, so that none is drawn below another."""
    terminal = Terminal(columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))  # the standard streams of this process are no terminal
    with TextIOWrapper(os.fdopen(os.dup(terminal.slave), "wb", 0), "utf-8", write_through=True) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with TreeProgress(8, label="north") as shown:
            shown.phase("waiting for south, west, dealer, university")
            time.sleep(0.7)
            for number in range(9):
                shown(number)
                shown.report("split search", 1_000_000 * number)
                time.sleep(0.1)
            shown.notice("lost the connection to south")
    lines = terminal.end()
    assert max(map(len, lines)) <= columns
    assert any("waiting for south, west, dealer" in line for line in lines)
    assert any("split search" in line and "/8 trees" in line for line in lines)
    assert "8/8 trees" in lines[-1]
    assert "north: lost the connection to south" in lines


def test_elsewhere_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert progress._LINE_SECONDS == 60
    monkeypatch.setattr(progress, "_LINE_SECONDS", 1.0)
    with TreeProgress(8, label="north") as shown:
        shown.phase("waiting for south")
        time.sleep(1.5)
        shown(0)
        shown(2)
        shown.report("leaves", 2_000_000)
        shown.notice("lost the connection to south")
        time.sleep(1.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "veilboost: north: waiting for south, 1 s so far",
        "veilboost: north: lost the connection to south",
        "veilboost: north: leaves, 2/8 trees, 0 s left, 2.0 MB sent",
    ]


def test_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.05)
    with TreeProgress(8, quiet=True, label="north") as shown:
        shown.phase("leaves")
        shown(1)
        shown.notice("lost the connection to south")
        time.sleep(0.2)
    assert capsys.readouterr() == ("", "")


def test_nothing_is_written_by_a_short_run(capsys: pytest.CaptureFixture[str]) -> None:
    with TreeProgress(8) as shown:
        shown(8)
    assert capsys.readouterr() == ("", "")


def test_events_for_the_parent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Trees at once; phases, however fast they change, now and then; nothing while nothing changes."""
    monkeypatch.setattr(events, "_SECONDS", 0.1)
    sent = {"south": 5}
    with EventProgress() as shown:
        shown.count(sent)
        for number in range(1000):
            shown.phase(f"phase {number}")
        time.sleep(0.35)
        shown(3)
        sent["south"] = 7
        time.sleep(0.2)
        shown.notice("lost")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"event": "progress", "phase": "phase 999", "bytes_sent": 5},
        {"event": "tree", "number": 3},
        {"event": "progress", "phase": "phase 999", "bytes_sent": 7},
        {"event": "notice", "message": "lost"},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80])
def test_every_role_shows_its_progress(tmp_path: Path, columns: int) -> None:
    """Real roles on real terminals: who is waited for, phases and trees, and at the analyst that it waits."""
    case = make_case(tmp_path, rows=2000, n_estimators=30, max_depth=4, max_bin=32)
    terminals = {role: Terminal(columns) for role in case.job.roles}
    processes = {}
    for role, terminal in terminals.items():
        words = role_command(case, role, tmp_path / "out")[1]
        shell = " ".join(f"'{word}'" for word in words)
        script = f"exec {shell} 2>{os.ttyname(terminal.slave)}"
        processes[role] = (role, ["env", "-u", "COLUMNS", "TERM=xterm", "sh", "-c", script])
    with started(processes["north"], processes["university"]) as first:
        time.sleep(6)
        with started(processes["south"], processes["dealer"]) as second:
            for one in (first | second).values():
                assert one.wait(120).returncode == 0
    for role, terminal in terminals.items():
        lines = terminal.end()
        assert max(map(len, lines)) <= columns, role
        if role == "university":
            assert any("waiting for the model" in line for line in lines)
            continue
        assert "30/30 trees" in lines[-1]
        assert any("split search" in line and "left" in line for line in lines), lines
        if role == "north":
            assert any("waiting for south, dealer" in line for line in lines)


@pytest.mark.slow
def test_train_shows_the_whole_job(tmp_path: Path) -> None:
    case = make_case(tmp_path, rows=2000, n_estimators=30, max_depth=4, max_bin=32)
    terminal = Terminal(80)
    words = command("train", case.path, *case.data_options(), "--out", tmp_path / "out")
    with os.fdopen(os.dup(terminal.slave), "wb", 0) as stderr:
        env = {name: value for name, value in environment().items() if name != "COLUMNS"} | {"TERM": "xterm"}
        done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=stderr, timeout=120, check=False)
    assert done.returncode == 0
    lines = terminal.end()
    assert max(map(len, lines)) <= 80
    assert any("MB sent" in line and "left" in line and "search" in line for line in lines), lines
    assert "30/30 trees" in lines[-1]
