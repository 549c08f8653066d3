"""Roles of a job as child processes: how they are started, what they tell, and who is to blame when one fails."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from veilboost.errors import (
    InputError,
    ParticipantError,
    PeerLost,
    PeerMismatch,
    ProtocolError,
    VeilboostError,
)
from veilboost.jobs.entries import DEALER, EMBEDDED
from veilboost.jobs.job import Job

_GRACE_SECONDS = 5.0
_ERRORS: dict[str, type[VeilboostError]] = {
    "InputError": InputError,
    "PeerMismatch": PeerMismatch,
    "ProtocolError": ProtocolError,
    "PeerLost": PeerLost,
}


@dataclass
class Child:
    """One role as a process, and what it has told.

    Attributes
    ----------
    outcome
        As `Outcome.to_dict`, when it is done.
    error
        `kind` and `message`, when it has failed.
    last_words
        Its last lines on standard error.
    phase, bytes_sent
        What it does, and how many bytes it has sent.
    """

    role: str
    process: subprocess.Popen[bytes]
    outcome: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    last_words: list[str] = field(default_factory=list)
    phase: str = ""
    bytes_sent: int = 0
    follower: threading.Thread | None = None

    def complaint(self) -> dict[str, str]:
        """`kind` and `message` of what went wrong at a process that has ended."""
        if self.error is None:
            self.error = _parse_error(self)
        return self.error


#: What children tell: an event, or None for the end of the process. An interruption within `Queue.get` might leave its
#: lock taken, and then nobody could tell the end; a simple queue has no such lock.
Events = queue.SimpleQueue[tuple[Child, dict[str, Any] | None]]


@contextlib.contextmanager
def running(
    job: Job,
    roles: Iterable[str],
    job_file: Path,
    data: Mapping[str, Path | bytes],
    certificates: Path,
    out: Path,
    *,
    resume: bool = False,
    engine: str = EMBEDDED,
) -> Iterator[tuple[list[Child], Events]]:
    """Start roles; whoever still runs at the end is killed.

    Parameters
    ----------
    data
        By party its table: a file, or bytes that reach it through a pipe.
    """
    events: Events = queue.SimpleQueue()
    children: list[Child] = []
    try:
        for role in roles:
            command = _command(job, role, job_file, certificates, out, resume, engine)
            children.append(_start(role, command, data.get(role), events))
        yield children, events
    finally:
        for one in children:
            _end(one)


def start(role: str, command: Sequence[str], events: Events) -> Child:
    """Start a process that tells events as roles do, and ends under the same rules."""
    return _start(role, list(command), None, events)


def cause(children: Sequence[Child], first: Child) -> VeilboostError:
    """Why the job failed: the role at fault rather than those that lost a peer because of it."""
    if first.complaint()["kind"] == "PeerLost":
        deadline = time.monotonic() + _GRACE_SECONDS
        for one in children:
            if one.follower is not None:
                one.follower.join(max(0.0, deadline - time.monotonic()))
    failed = [first, *(one for one in children if one is not first and one.process.poll() not in (None, 0))]
    complaints = [one.complaint() for one in failed]
    for kind in ("InputError", "died", "PeerMismatch", "ProtocolError", "PeerLost"):
        for complaint in complaints:
            if complaint["kind"] == kind:
                return _ERRORS.get(kind, ParticipantError)(complaint["message"])
    return ParticipantError(f"{first.role}: {first.complaint()['message']}")


def _command(
    job: Job, role: str, job_file: Path, certificates: Path, out: Path, resume: bool, engine: str
) -> list[str]:
    kind = "analyst"
    if role == DEALER:
        kind = "dealer"
    elif role in job.party_names:
        kind = "party"
    elif role in job.aggregator_names:
        kind = "aggregator"
    command = [sys.executable, "-m", "veilboost", kind, str(job_file), "--certs", str(certificates), "--out", str(out)]
    command += ["--name", role] if kind in ("party", "aggregator") else []
    command += ["--events", str(os.getpid())]
    command += ["--resume"] if resume else []
    command += ["--engine", engine] if engine != EMBEDDED and kind != "party" else []
    return command


def _start(role: str, command: list[str], source: Path | bytes | None, events: Events) -> Child:
    if source is not None:
        command = [*command, "--data", "-" if isinstance(source, bytes) else str(source)]
    one = Child(
        role,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE if isinstance(source, bytes) else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ),
    )
    if isinstance(source, bytes):
        threading.Thread(target=_feed, args=(one.process.stdin, source), daemon=True).start()
    listener = threading.Thread(target=_remember, args=(one.process.stderr, one), daemon=True)
    listener.start()
    one.follower = threading.Thread(target=_follow, args=(one, listener, events), daemon=True)
    one.follower.start()
    return one


def _end(one: Child) -> None:
    if one.process.poll() is None:
        one.process.kill()
    one.process.wait()
    if one.follower is not None:
        one.follower.join()
    for pipe in (one.process.stdout, one.process.stderr):
        if pipe is not None:
            pipe.close()


def _feed(pipe: IO[bytes] | None, content: bytes) -> None:
    assert pipe is not None
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(content)


def _remember(pipe: IO[bytes] | None, one: Child) -> None:
    assert pipe is not None
    for line in pipe:
        one.last_words = [*one.last_words[-20:], line.decode("utf-8", "replace").rstrip()]


def _follow(one: Child, listener: threading.Thread, events: Events) -> None:
    assert one.process.stdout is not None
    for line in one.process.stdout:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event["event"] == "error":
                one.error = event
            else:
                events.put((one, event))
    one.process.wait()
    listener.join()
    events.put((one, None))


def _parse_error(one: Child) -> dict[str, str]:
    status = one.process.returncode
    if status < 0:
        return {"kind": "died", "message": f"{one.role} was killed by signal {signal.Signals(-status).name}"}
    last = one.last_words[-1] if one.last_words else f"exit status {status}"
    return {"kind": "died", "message": f"{one.role} ended unexpectedly: {last}"}
