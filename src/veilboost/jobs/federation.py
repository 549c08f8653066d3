"""The roles of a federated job: what a client, the dealer, the analyst and a courier do; see also `aggregator.py`.

The aggregators, the dealer, an analyst that is no client, and the courier if there is one are connected with each
other. Clients are not: the first aggregator (the lead) dials each of them by itself, so that the loss of a client is
not the end; or a courier reaches them (`run_courier`, `open_client`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from veilboost.errors import InputError, ProtocolError
from veilboost.federated.client import Client
from veilboost.federated.counters import Counters
from veilboost.federated.couriers import receive_bytes, relay, send_bytes
from veilboost.federated.forest import Forest
from veilboost.federated.keys import MOST_ROWS
from veilboost.federated.task import FederatedTask, SizedTask
from veilboost.federated.training import Training
from veilboost.jobs.certificates import load_tls
from veilboost.jobs.connection import leaving
from veilboost.jobs.entries import COURIER, NVFLARE
from veilboost.jobs.identity import CertificateIdentity
from veilboost.jobs.inputs import read_table
from veilboost.jobs.job import Job
from veilboost.jobs.mesh import CLIENT_RECONNECT_SECONDS, federated_task, mesh
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.results import prepare_folder, read_ledger, write_ledger, writing
from veilboost.jobs.role import Role, folder_of, hear_that_it_is_saved, tell_that_it_is_saved, timed, write_results
from veilboost.jobs.spec import load_job
from veilboost.mpc.handshake import dealer_session
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.shares import Shared
from veilboost.mpc.transport.base import Transport
from veilboost.mpc.transport.connect import connect, listen
from veilboost.tables.reading import Source
from veilboost.trees.xgboost_json import save_model

#: A client's record of what it has answered.
_COUNTERS = "answered.json"


def run_client(role: Role, source: Source, where: str) -> Outcome:
    """Take part as a client whom the lead dials.

    Parameters
    ----------
    source
        The client's table; `where` names it in error messages.

    Raises
    ------
    InputError
        When something of one's own is wrong; nothing has been sent then.
    ParticipantError
        When the server is the cause.
    """
    job = role.job
    role.on_phase("reading the table")
    directory = folder_of(role)
    if directory is None:
        raise InputError(f"{role.name} receives the model: add --out DIR, where it goes")
    outcome = Outcome(role.name)
    client = _client(job, role.name, source, where, role.certificates, directory, timed(role, outcome))
    lead = job.aggregator_names[0]
    role.on_phase(f"waiting for {lead}")
    transport = connect(
        role.name,
        [role.name, lead],
        {role.name: job.addresses[role.name]},
        load_tls(role.certificates, role.name),
        listen(role.name, *job.addresses[role.name]),
        role.wait_seconds,
        min(role.reconnect_seconds, CLIENT_RECONNECT_SECONDS),
    )
    transport.on_notice = role.on_notice
    role.on_met(transport.bytes_sent)
    with leaving(transport, role.name):
        role.on_phase("training")
        while not client.done:
            send_bytes(transport, lead, client.answer(receive_bytes(transport, lead)))
    outcome.bytes_sent = dict(transport.bytes_sent)
    finish_client(client, directory, outcome)
    if job.analyst == role.name and role.out is not None:
        outcome.model = client.forest.to_ensemble(client.task)
        with writing(role.out):
            save_model(outcome.model, role.out / "model.json")
    write_results(role, directory, outcome)
    return outcome


def open_client(
    job_file: Path,
    name: str,
    source: Path,
    folder: Path,
    certificates: Path,
    on_tree: Callable[[int], None] = lambda number: None,
) -> Client:
    """A client whose questions come by a courier.

    Parameters
    ----------
    folder
        Where its record of answers and, by `finish_client`, its model go.

    Raises
    ------
    InputError
        When something of one's own is wrong.
    """
    job = load_job(job_file)
    if job.federated is None or name not in job.party_names:
        raise InputError(f"{job_file}: has no client '{name}': it has {', '.join(job.party_names)}")
    load_tls(certificates, name)  # checks the files
    prepare_folder(folder)
    return _client(job, name, source, str(source), certificates, folder, on_tree)


def finish_client(client: Client, folder: Path, outcome: Outcome | None = None) -> None:
    """Write what a client has at the end: model and ledger."""
    with writing(folder):
        save_model(client.forest.to_ensemble(client.task), folder / "model.json")
    write_ledger(folder, client.ledger)
    if outcome is not None:
        outcome.ledger = client.ledger
        outcome.rows = client.total_rows


def run_federated_dealer(role: Role) -> Outcome:
    """Make the aggregators' correlated randomness."""
    job = role.job
    task = federated_task(job)
    directory = folder_of(role)
    earlier = read_ledger(directory)
    with mesh(role) as (transport, meeting, outcome):
        session = dealer_session(transport, job.aggregator_names, meeting)
        session.ledger += earlier
        session.on_note = lambda: write_ledger(directory, session.ledger)
        session.phases.on_enter = role.on_phase
        sized = _hear_rows(transport, job, task)
        outcome.rows = sized.total
        done = max(0, meeting.trees_done - 1)
        losses = [Shared(None, None, (2,))] * (done if job.parameters.early_stopping_rounds is not None else 0)
        training = Training(session, sized, None, losses=losses)
        training.run(done, timed(role, outcome), begun=meeting.trees_done > 0)
        role.on_phase("waiting for the aggregators")
        for aggregator in job.aggregator_names:
            hear_that_it_is_saved(transport, aggregator)
        write_ledger(directory, session.ledger)
        outcome.ledger, outcome.phases = session.ledger, session.phases.totals()
    write_results(role, directory, outcome)
    return outcome


def run_federated_analyst(role: Role) -> Outcome:
    """Wait for the model as an analyst who is none of the clients."""
    job = role.job
    task = federated_task(job)
    directory = folder_of(role)
    assert role.out is not None
    lead = job.aggregator_names[0]
    with mesh(role) as (transport, _, outcome):
        outcome.rows = _hear_rows(transport, job, task).total
        role.on_phase("waiting for the model")
        outcome.ledger = _ledger_from(receive_bytes(transport, lead), lead)
        forest = Forest.from_bytes(receive_bytes(transport, lead), task)
        outcome.model = forest.to_ensemble(task)
        with writing(role.out):
            save_model(outcome.model, role.out / "model.json")
        tell_that_it_is_saved(transport, lead)
    write_results(role, directory, outcome)
    return outcome


def run_courier(
    job_file: Path,
    certificates: Path,
    ask: Callable[[Mapping[str, bytes], float], dict[str, bytes]],
    wait_seconds: float,
) -> None:
    """Carry questions to clients and answers back, for a platform that reaches the clients.

    Parameters
    ----------
    ask
        Called with a question for each of some clients and how many seconds they may take; returns the answers of those
        who gave one.

    Raises
    ------
    ParticipantError
        When an aggregator is the cause of an end before the end.
    """
    role = Role(load_job(job_file), COURIER, certificates, wait_seconds=wait_seconds, engine=NVFLARE)
    with mesh(role) as (transport, _, _):
        relay(transport, role.job.aggregator_names[0], ask)


def _client(
    job: Job,
    name: str,
    source: Source,
    where: str,
    certificates: Path,
    folder: Path,
    on_tree: Callable[[int], None],
) -> Client:
    """A client with its table, its certificate and its record of answers."""
    return Client(
        federated_task(job),
        name,
        read_table(job, name, source, where),
        CertificateIdentity.load(certificates, name),
        Counters(folder / _COUNTERS),
        job.job_hash(),
        job.aggregator_names,
        on_tree=on_tree,
    )


def _hear_rows(transport: Transport, job: Job, task: FederatedTask) -> SizedTask:
    """Numbers of rows of the clients that take part, from the lead."""
    lead = job.aggregator_names[0]
    try:
        rows = json.loads(receive_bytes(transport, lead))
        sound = isinstance(rows, dict) and bool(rows) and set(rows) <= set(job.party_names)
        sound = sound and all(type(count) is int and 0 < count < MOST_ROWS for count in rows.values())
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        raise ProtocolError(f"{lead} did not say how many rows there are: is it on another version of veilboost?")
    return task.with_rows(rows)


def _ledger_from(data: bytes, lead: str) -> list[Disclosure]:
    try:
        return [Disclosure.from_dict(entry) for entry in json.loads(data)]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise ProtocolError(f"{lead} sent a ledger that cannot be read: is it on another version?") from None
