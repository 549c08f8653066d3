"""The roles of a job: what a party, the dealer and the analyst do from their start to their end.

Order of events: everything that can be wrong with a role's own input is refused before it opens a port; then the
roles meet, compare job and row counts, begin an epoch, train and reveal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from veilboost.errors import InputError
from veilboost.jobs.alignment import align
from veilboost.jobs.certificates import load_storage_key
from veilboost.jobs.checkpoint import Checkpoints, digest_of
from veilboost.jobs.connection import connection
from veilboost.jobs.entries import DEALER
from veilboost.jobs.inputs import bin_columns, disclosed_by_matching, matching, read_table, training_task
from veilboost.jobs.job import Job
from veilboost.jobs.limits import LEAST_ROWS, check_rows, warnings_of
from veilboost.jobs.model_share import save_share
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.results import read_ledger, write_ledger, writing
from veilboost.jobs.role import Role, folder_of, hear_that_it_is_saved, tell_that_it_is_saved, timed, write_results
from veilboost.mpc.handshake import Meeting, announce_rows, dealer_session, greet, hear_rows, owner_session
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.transport.tls import TlsTransport
from veilboost.tables.reading import Source
from veilboost.trees.xgboost_json import save_model
from veilboost.xorboost.forest import TrainingState
from veilboost.xorboost.reveal import receive_reveal, received_by, reveal_to
from veilboost.xorboost.state import from_arrays, hollow_state, to_arrays
from veilboost.xorboost.train import train


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
    directory = folder_of(role)
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
                state = checkpoints.load(meeting.trees_done, lambda arrays: from_arrays(arrays, task, session.me))
        forest = train(
            session, task, columns, table.label, timed(role, outcome), weights=table.weight, state=state, keep=keep
        )
        # In the ledger before it is disclosed, so that no error can hide it.
        write_ledger(directory, [*session.ledger, *received_by(job.analyst, task)])
        outcome.model = reveal_to(session, task, forest, job.analyst)
        write_ledger(directory, session.ledger)  # the same entries, with their rounds
        if job.analyst == role.name:
            _keep_model(role, outcome, transport, [name for name in job.party_names if name != role.name])
        outcome.rounds, outcome.ledger, outcome.phases = session.rounds, session.ledger, session.phases.totals()
        if directory is not None:
            with writing(directory):
                save_share(directory, task, forest, key, job.job_hash(), role.name)
        if job.analyst != role.name:
            hear_that_it_is_saved(transport, job.analyst)
        tell_that_it_is_saved(transport, DEALER)
    write_results(role, directory, outcome)
    if checkpoints is not None:
        checkpoints.clear()
    return outcome


def run_dealer(role: Role) -> Outcome:
    """Make the correlated randomness of a job."""
    job = role.job
    check_rows(job, LEAST_ROWS, None)
    directory = folder_of(role)
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
        forest = train(session, task, [None] * len(job.features), None, timed(role, outcome), state=state)
        reveal_to(session, task, forest, job.analyst)
        # The dealer is ahead of the owners: what it has taken part in is disclosed only when they say so.
        role.on_phase("waiting for the owners")
        for owner in job.party_names:
            hear_that_it_is_saved(transport, owner)
        write_ledger(directory, session.ledger)
        outcome.ledger, outcome.phases = session.ledger, session.phases.totals()
    write_results(role, directory, outcome)
    return outcome


def run_analyst(role: Role) -> Outcome:
    """Wait for the model as an analyst who is none of the owners."""
    job = role.job
    check_rows(job, LEAST_ROWS, None)
    directory = folder_of(role)
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
        write_ledger(directory, outcome.ledger)  # whatever happens from here on, this was received
        _keep_model(role, outcome, transport, job.party_names)
    write_results(role, directory, outcome)
    return outcome


def _note_matching(
    job: Job, directory: Path | None, earlier: Sequence[Disclosure], block_rows: Sequence[int] | None
) -> None:
    write_ledger(directory, [*earlier, *disclosed_by_matching(job, block_rows)])


def _keep(checkpoints: Checkpoints, epoch: bytes, state: TrainingState) -> None:
    with writing(checkpoints.directory):
        checkpoints.keep(state.rounds, to_arrays(state), epoch)


def _keep_model(role: Role, outcome: Outcome, transport: TlsTransport, owners: Sequence[str]) -> None:
    """Write the model, and only then tell the owners that it is safe."""
    if outcome.model is not None and role.out is not None:
        with writing(role.out):
            save_model(outcome.model, role.out / "model.json")
    for owner in owners:
        tell_that_it_is_saved(transport, owner)


def _forget(state: TrainingState) -> None:
    """Keep no checkpoint."""


@contextlib.contextmanager
def _meeting(
    role: Role, rows: int | None, checkpoints: Mapping[int, str] | None = None
) -> Iterator[tuple[TlsTransport, Meeting, Outcome]]:
    """Connect with all roles, greet, and take leave."""
    job = role.job
    with connection(role, job.roles) as (transport, outcome):
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
