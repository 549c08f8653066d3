"""Jobs over TLS whose roles are threads of the test, one of which may be killed at a given moment."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from tests.processes.support import Case

from veilboost.errors import PeerLost
from veilboost.jobs.entries import DEALER
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.run import Role, run_analyst, run_dealer, run_party

WAIT_SECONDS = 30.0


class KilledError(Exception):
    """What kills a role; to its peers it looks like any other sudden end."""


@dataclass(frozen=True)
class Moment:
    """When a role is killed: as its nth tree (from 1) enters a phase."""

    role: str
    tree: int
    phase: str


def run_all(
    case: Case,
    out: Path,
    *,
    kill: Moment | None = None,
    resume: bool | Iterable[str] = False,
    tables: Mapping[str, pl.DataFrame] | None = None,
    on_tree: Callable[[str, int], None] = lambda role, number: None,
) -> dict[str, Outcome]:
    """Every role of a job; `resume` may name the roles that do. Raises the cause if one fails."""
    job, certificates, tables = case.job, case.certificates, tables or case.tables
    resuming = (set(job.roles) if resume else set()) if isinstance(resume, bool) else set(resume)

    def run(name: str) -> Outcome:
        done = 0

        def count(number: int) -> None:
            nonlocal done
            done = number
            on_tree(name, number)

        def enter(phase: str) -> None:
            if kill == Moment(name, done + 1, phase):
                raise KilledError(name)

        role = Role(job, name, certificates, out, WAIT_SECONDS, count, name in resuming, enter)
        if name == DEALER:
            return run_dealer(role)
        return run_party(role, tables[name], name) if name in tables else run_analyst(role)

    with ThreadPoolExecutor(len(job.roles)) as pool:
        running = {name: pool.submit(run, name) for name in job.roles}
    failures = [error for future in running.values() if (error := future.exception()) is not None]
    for failure in sorted(failures, key=lambda error: isinstance(error, PeerLost)):
        raise failure
    return {name: future.result() for name, future in running.items()}


def kept(out: Path, name: str) -> list[str]:
    """Checkpoints in the folder of an owner."""
    return sorted(path.name for path in (out / name).glob("*.checkpoint*"))
