"""The roles of a job: what a party, the dealer and the analyst do from their start to their end.

Order of events: everything that can be wrong with a role's own input is refused before it opens a port; then the
roles meet, compare job and row counts, begin an epoch, train and reveal.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from veilboost.errors import InputError, ParticipantError, ProtocolError
from veilboost.jobs.alignment import align
from veilboost.jobs.certificates import load_storage_key, load_tls
from veilboost.jobs.checkpoint import Checkpoints, digest_of
from veilboost.jobs.entries import DEALER, EMBEDDED
from veilboost.jobs.inputs import bin_columns, disclosed_by_matching, matching, read_table, training_task
from veilboost.jobs.limits import LEAST_ROWS, check_rows, warnings_of
from veilboost.jobs.model_share import save_share
from veilboost.jobs.outcome import Outcome, collected, settings
from veilboost.jobs.process import give_way
from veilboost.jobs.report.page import write_report
from veilboost.jobs.results import prepare_folder, read_ledger, write_json, write_ledger, writing
from veilboost.jobs.spec import Job
from veilboost.mpc.handshake import Meeting, announce_rows, dealer_session, greet, hear_rows, owner_session
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.transport.connect import connect, listen
from veilboost.mpc.transport.tls import RECONNECT_SECONDS, TlsTransport
from veilboost.tables.reading import Source
from veilboost.trees.xgboost_json import save_model
from veilboost.xorboost.forest import TrainingState
from veilboost.xorboost.reveal import receive_reveal, received_by, reveal_to
from veilboost.xorboost.state import hollow_state
from veilboost.xorboost.train import train

#: How long a role waits for the others, unless told otherwise.
WAIT_SECONDS = 600.0

#: What the analyst tells the owners when the model is on its disk, and they the dealer.
_SAVED = b"saved"

_STARTED = time.perf_counter()


@dataclass(frozen=True)
class Role:
    """How a role runs.

    Attributes
    ----------
    job
        The job.
    name
        Which participant this is.
    certificates
        Folder made by `veilboost certs`.
    out
        Folder for results; None keeps nothing.
    wait_seconds
        How long to wait for the others.
    on_tree
        Called with the number of trees done: after the setup, then after every tree.
    resume
        Whether to continue from checkpoints, which need `out`.
    on_phase
        Called with what this role does from now on: the phases of the training (owners and dealer), and what comes
        before and after them.
    reconnect_seconds
        How long a participant whose connection is lost may take to come back.
    on_met
        Called when all roles have met, with the bytes sent to each of them so far, which go on growing.
    on_notice
        Called, by any thread, with a sentence for the operator.
    engine
        What carries questions to the clients of a federated job and their answers back: "embedded" or "nvflare".
    """

    job: Job
    name: str
    certificates: Path
    out: Path | None = None
    wait_seconds: float = WAIT_SECONDS
    on_tree: Callable[[int], None] = lambda number: None
    resume: bool = False
    on_phase: Callable[[str], None] = lambda name: None
    reconnect_seconds: float = RECONNECT_SECONDS
    on_met: Callable[[Mapping[str, int]], None] = lambda bytes_sent: None
    on_notice: Callable[[str], None] = lambda text: None
    engine: str = EMBEDDED


def run_party(role: Role, source: Source, where: str) -> Outcome:
    """Train as a data owner.

    Parameters
    ----------
    source
        The owner's table; `where` names it in error messages.

    Raises
    ------
    InputError
        When something of one's own is wrong; nothing has been sent then.
    ParticipantError
        When another participant is the cause; it is named.
    """
    job = role.job
    role.on_phase("reading the table")
    table = read_table(job, role.name, source, where)
    key = load_storage_key(role.certificates, role.name)
    if role.name == job.analyst and role.out is None:
        raise InputError(f"{role.name} is the analyst too: add --out DIR, where the model goes")
    directory = _folder(role)
    earlier = read_ledger(directory)
    checkpoints = None
    if directory is not None:
        checkpoints = Checkpoints(directory, key, job.job_hash(), role.name, digest_of(table))
    elif role.resume:
        raise InputError("--resume needs --out DIR, the folder with the checkpoints")
    offered = checkpoints.epochs() if checkpoints is not None and role.resume else None
    with _meeting(role, table.rows, offered) as (transport, meeting, outcome):
        block_rows = meeting.block_rows
        if job.data.id is not None:
            role.on_phase("matching rows by id")
            # In the ledger before it is disclosed, so that no error can hide it.
            note = partial(_note_matching, job, directory, earlier)
            note(None)
            alignment = align(transport, matching(job), table.ids, key, job.job_hash(), note, role.on_notice)
            block_rows, table = alignment.block_rows, table.at(alignment.rows)
            announce_rows(transport, [name for name in job.roles if name not in job.party_names], block_rows)
        outcome.rows = sum(block_rows)
        task = training_task(job, block_rows)
        for warning in warnings_of(job, outcome.rows):
            role.on_notice(warning)
        columns = bin_columns(job, task, role.name, table, where)
        session = owner_session(transport, job.party_names, DEALER, meeting)
        session.ledger += [*earlier, *disclosed_by_matching(job, block_rows)]
        session.phases.on_enter = role.on_phase
        state, keep = None, _forget
        if checkpoints is not None:
            keep = partial(_keep, checkpoints, meeting.context)
            if meeting.trees_done:
                state = checkpoints.load(meeting.trees_done, task, session.me)
        forest = train(
            session, task, columns, table.label, _timed(role, outcome), weights=table.weight, state=state, keep=keep
        )
        outcome.model = reveal_to(session, task, forest, job.analyst)
        write_ledger(directory, session.ledger)  # whatever happens from here on, this was disclosed
        if job.analyst == role.name:
            _keep_model(role, outcome, transport, [name for name in job.party_names if name != role.name])
        outcome.rounds, outcome.ledger, outcome.phases = session.rounds, session.ledger, session.phases.totals()
        if directory is not None:
            with writing(directory):
                save_share(directory, task, forest, key, job.job_hash(), role.name)
        if job.analyst != role.name:
            _hear_that_it_is_saved(transport, job.analyst)
        transport.send(DEALER, np.frombuffer(_SAVED, dtype=np.uint8))
    _write(role, directory, outcome)
    if checkpoints is not None:
        checkpoints.clear()
    return outcome


def run_dealer(role: Role) -> Outcome:
    """Make the correlated randomness of a job."""
    give_way()
    job = role.job
    check_rows(job, LEAST_ROWS, None)
    directory = _folder(role)
    earlier = read_ledger(directory)
    with _meeting(role, None) as (transport, meeting, outcome):
        block_rows = meeting.block_rows or hear_rows(transport, job.party_names, job.grid.blocks)
        if job.data.id is not None:
            _note_matching(job, directory, earlier, block_rows)
        outcome.rows = sum(block_rows)
        task = training_task(job, block_rows)
        session = dealer_session(transport, job.party_names, meeting)
        session.ledger += [*earlier, *disclosed_by_matching(job, block_rows)]
        session.phases.on_enter = role.on_phase
        state = hollow_state(task, meeting.trees_done) if meeting.trees_done else None
        forest = train(session, task, [None] * len(job.features), None, _timed(role, outcome), state=state)
        reveal_to(session, task, forest, job.analyst)
        # The dealer is ahead of the owners: what it has taken part in is disclosed only when they say so.
        role.on_phase("waiting for the owners")
        for owner in job.party_names:
            _hear_that_it_is_saved(transport, owner)
        write_ledger(directory, session.ledger)
        outcome.ledger, outcome.phases = session.ledger, session.phases.totals()
    _write(role, directory, outcome)
    return outcome


def run_analyst(role: Role) -> Outcome:
    """Wait for the model as an analyst who is none of the owners."""
    job = role.job
    check_rows(job, LEAST_ROWS, None)
    directory = _folder(role)
    earlier = read_ledger(directory)
    with _meeting(role, None) as (transport, meeting, outcome):
        block_rows = meeting.block_rows or hear_rows(transport, job.party_names, job.grid.blocks)
        if job.data.id is not None:
            _note_matching(job, directory, earlier, block_rows)
        outcome.rows = sum(block_rows)
        task = training_task(job, block_rows)
        role.on_phase("waiting for the model")
        outcome.model = receive_reveal(transport, job.party_names, task)
        outcome.ledger = [*earlier, *disclosed_by_matching(job, block_rows), *received_by(job.analyst, task)]
        _keep_model(role, outcome, transport, job.party_names)
    _write(role, directory, outcome)
    return outcome


def _note_matching(
    job: Job, directory: Path | None, earlier: Sequence[Disclosure], block_rows: Sequence[int] | None
) -> None:
    write_ledger(directory, [*earlier, *disclosed_by_matching(job, block_rows)])


def _keep(checkpoints: Checkpoints, epoch: bytes, state: TrainingState) -> None:
    with writing(checkpoints.directory):
        checkpoints.keep(state, epoch)


def _keep_model(role: Role, outcome: Outcome, transport: TlsTransport, owners: Sequence[str]) -> None:
    """Write the model, and only then tell the owners that it is safe."""
    if outcome.model is not None and role.out is not None:
        with writing(role.out):
            save_model(outcome.model, role.out / "model.json")
    for owner in owners:
        transport.send(owner, np.frombuffer(_SAVED, dtype=np.uint8))


def _hear_that_it_is_saved(transport: TlsTransport, peer: str) -> None:
    if transport.receive(peer, len(_SAVED)).tobytes() != _SAVED:
        raise ProtocolError(f"{peer} has not confirmed the model: are both on the same version?")


def _forget(state: TrainingState) -> None:
    """Keep no checkpoint."""


@contextlib.contextmanager
def _meeting(
    role: Role, rows: int | None, checkpoints: Mapping[int, str] | None = None
) -> Iterator[tuple[TlsTransport, Meeting, Outcome]]:
    """Connect, greet, and take leave; with a reason if something goes wrong in between."""
    job = role.job
    contexts = load_tls(role.certificates, role.name)
    addresses = job.addresses
    listener = listen(role.name, *addresses[role.name]) if role.name in addresses else None
    role.on_phase("waiting for the others")
    transport = connect(
        role.name,
        job.roles,
        addresses,
        contexts,
        listener,
        role.wait_seconds,
        role.reconnect_seconds,
        lambda absent: role.on_phase(f"waiting for {', '.join(absent)}"),
    )
    transport.on_notice = role.on_notice
    role.on_met(transport.bytes_sent)
    outcome = Outcome(role.name)
    try:
        role.on_phase("greeting the others")
        meeting = greet(
            transport,
            job.party_names,
            job.job_hash(),
            rows if job.data.id is None else None,
            checkpoints,
            block_of=job.grid.block_of,
            aligned=job.data.id is None,
        )
        yield transport, meeting, outcome
    except BaseException as error:
        # What is wrong here may name files of this machine; only what concerns the peers goes to them.
        transport.close(str(error) if isinstance(error, ParticipantError) else f"{role.name} had to give up")
        raise
    outcome.bytes_sent = dict(transport.bytes_sent)
    role.on_phase("taking leave")
    transport.close()


def _timed(role: Role, outcome: Outcome) -> Callable[[int], None]:
    last: float | None = None

    def on_tree(number: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if last is None:
            outcome.seconds_setup = now - _STARTED
        else:
            outcome.seconds_per_tree.append(now - last)
        last = now
        role.on_tree(number)

    return on_tree


def _folder(role: Role) -> Path | None:
    """Where this role writes: the analyst to `out` itself, the others to a folder of their own name in it.

    What an earlier run left there is removed, so that a run that fails leaves no model that looks like its own; but not
    the ledger of a training that is resumed.
    """
    if role.out is None:
        return None
    outsider = role.name == role.job.analyst and role.name not in role.job.party_names
    directory = role.out if outsider else role.out / role.name
    prepare_folder(directory, keep_ledger=role.resume)
    if role.name == role.job.analyst:
        prepare_folder(role.out, keep_ledger=role.resume)
    return directory


def _write(role: Role, directory: Path | None, outcome: Outcome) -> None:
    if directory is None:
        return
    report = {**outcome.to_dict(), "settings": settings(role.job)}
    ledger = report.pop("ledger")
    with writing(directory):
        write_json(directory / "report.json", report)
        if ledger:
            write_json(directory / "ledger.json", ledger)
    if outcome.model is not None and role.out is not None:  # beside model.json, never in the folder of another role
        with writing(role.out):
            page = collected(role.job, {role.name: outcome.to_dict()})
            write_report(role.out / "report.html", role.job, outcome.model, page, ledger, one_machine=False)
