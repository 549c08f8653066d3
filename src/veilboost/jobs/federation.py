"""The roles of a federated job: what a client, an aggregator, the dealer, the analyst and a courier do.

The aggregators, the dealer, an analyst that is no client, and the courier if there is one are connected with each
other. Clients are not: the first aggregator (the lead) dials each of them by itself, so that the loss of a client is
not the end; or a courier reaches them (`run_courier`, `open_client`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from veilboost.errors import InputError, ParticipantError, ProtocolError
from veilboost.federated.client import Client
from veilboost.federated.counters import Counters
from veilboost.federated.couriers import (
    Courier,
    DirectCourier,
    RelayedCourier,
    receive_bytes,
    relay,
    send_bytes,
)
from veilboost.federated.forest import Forest
from veilboost.federated.gather import Gatherer
from veilboost.federated.keys import MOST_ROWS
from veilboost.federated.messages import LARGEST_HEADER
from veilboost.federated.privacy import Budget
from veilboost.federated.sensitivity import Unit
from veilboost.federated.task import FederatedTask, SizedTask
from veilboost.federated.training import Training, require_clients
from veilboost.jobs.certificates import load_storage_key, load_tls
from veilboost.jobs.checkpoint import Checkpoints
from veilboost.jobs.entries import COURIER, DEALER, EMBEDDED, NVFLARE
from veilboost.jobs.federated_spec import FederatedSpec
from veilboost.jobs.identity import CertificateIdentity
from veilboost.jobs.inputs import read_table
from veilboost.jobs.limits import LEAST_ROWS
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.process import give_way
from veilboost.jobs.results import prepare_folder, read_ledger, write_ledger, writing
from veilboost.jobs.role import Role, folder_of, hear_that_it_is_saved, tell_that_it_is_saved, timed, write_results
from veilboost.jobs.sealed import Arrays
from veilboost.jobs.spec import Job, load_job
from veilboost.mpc.handshake import Meeting, dealer_session, greet, owner_session
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.ring import WORD
from veilboost.mpc.shares import Shared
from veilboost.mpc.transport.base import Transport
from veilboost.mpc.transport.connect import connect, listen
from veilboost.mpc.transport.tls import TlsTransport
from veilboost.splitting.metrics import check_held_back
from veilboost.tables.reading import Source
from veilboost.trees.xgboost_json import save_model

#: How long a client whose connection is lost may take to come back.
_CLIENT_RECONNECT_SECONDS = 10.0

#: Of an answer: the size of its header, and the tag of its box.
_FRAMING = 4 + 16

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
        min(role.reconnect_seconds, _CLIENT_RECONNECT_SECONDS),
    )
    transport.on_notice = role.on_notice
    role.on_met(transport.bytes_sent)
    with _leaving(transport, role.name):
        role.on_phase("training")
        while not client.done:
            send_bytes(transport, lead, client.answer(receive_bytes(transport, lead)))
    outcome.bytes_sent = dict(transport.bytes_sent)
    finish_client(job, client, directory, outcome)
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


def finish_client(job: Job, client: Client, folder: Path, outcome: Outcome | None = None) -> None:
    """Write what a client has at the end: model and ledger."""
    with writing(folder):
        save_model(client.forest.to_ensemble(client.task), folder / "model.json")
    write_ledger(folder, client.ledger)
    if outcome is not None:
        outcome.ledger = client.ledger
        outcome.rows = client.total_rows


def run_aggregator(role: Role) -> Outcome:
    """Add up sealed updates and search splits, as one of the aggregators."""
    job = role.job
    task = federated_task(job)
    directory = folder_of(role)
    earlier = read_ledger(directory)
    checkpoints = None
    if directory is not None:
        key = load_storage_key(role.certificates, role.name)
        checkpoints = Checkpoints(directory, key, job.job_hash(), role.name, b"federated")
    elif role.resume:
        raise InputError("--resume needs --out DIR, the folder with the checkpoints")
    if role.resume and task.privacy is not None:
        raise InputError(
            "--resume: a training with epsilon cannot be continued, since what was asked twice would count twice: "
            "start it again, which costs the budget once more, or remove epsilon"
        )
    offered = checkpoints.epochs() if checkpoints is not None and role.resume else None
    identity = CertificateIdentity.load(role.certificates, role.name)
    names = job.aggregator_names
    with _mesh(role, offered) as (transport, meeting, outcome):
        courier = _courier(role, transport) if role.name == names[0] else None
        try:
            session = owner_session(transport, names, DEALER, meeting)
            session.ledger += earlier
            # On disk before it is disclosed, so that no error can hide it.
            session.on_note = lambda: write_ledger(directory, session.ledger)
            session.phases.on_enter = role.on_phase
            assert job.federated is not None
            gatherer = Gatherer(
                transport,
                names,
                job.party_names,
                identity,
                job.job_hash(),
                courier,
                job.federated.answer_seconds,
                partial(_lost, role, outcome),
            )
            forest = Forest()
            if checkpoints is not None and meeting.trees_done:
                forest = checkpoints.load(meeting.trees_done, lambda arrays: _from_arrays(arrays, task))
            role.on_phase("greeting the clients")
            gatherer.greet(meeting.context, len(forest.trees))
            require_clients(task, gatherer.alive)
            sized = _enough_rows(task.with_rows(gatherer.rows))
            if gatherer.lead:
                for peer in job.mesh_roles(role.engine):
                    if peer not in (*names, COURIER):
                        send_bytes(transport, peer, json.dumps(sized.rows).encode())
            outcome.rows = sized.total
            if sized.protection is not None:
                outcome.privacy = {"epsilon": sized.protection.plan.epsilon, "statement": sized.protection.statement}
            training = Training(session, sized, gatherer, forest)
            if checkpoints is not None and meeting.trees_done:
                training.losses = checkpoints.load(meeting.trees_done, partial(_losses, session.holder))
            keep = partial(_keep, checkpoints, meeting.context, training)
            done = max(0, meeting.trees_done - 1)
            begun = meeting.trees_done > 0
            training.run(done, timed(role, outcome), keep, begun=begun, keep_setup=partial(keep, 0))
        except BaseException as error:
            if isinstance(courier, DirectCourier):
                courier.abandon(str(error) if isinstance(error, ParticipantError) else f"{role.name} had to give up")
            raise
        write_ledger(directory, session.ledger)
        outcome.rounds, outcome.ledger, outcome.phases = session.rounds, session.ledger, session.phases.totals()
        if gatherer.lead and job.analyst in transport.peers:
            send_bytes(transport, job.analyst, json.dumps([entry.to_dict() for entry in session.ledger]).encode())
            send_bytes(transport, job.analyst, forest.to_bytes())
            hear_that_it_is_saved(transport, job.analyst)
        tell_that_it_is_saved(transport, DEALER)
    if isinstance(courier, DirectCourier):
        for client, sent in courier.bytes_sent.items():
            outcome.bytes_sent[client] = sent
    write_results(role, directory, outcome)
    if checkpoints is not None:
        checkpoints.clear()
    return outcome


def run_federated_dealer(role: Role) -> Outcome:
    """Make the aggregators' correlated randomness."""
    give_way()
    job = role.job
    task = federated_task(job)
    directory = folder_of(role)
    earlier = read_ledger(directory)
    with _mesh(role) as (transport, meeting, outcome):
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
    with _mesh(role) as (transport, _, outcome):
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
    with _mesh(role) as (transport, _, _):
        relay(transport, role.job.aggregator_names[0], ask)


def federated_task(job: Job) -> FederatedTask:
    """The public task of a job."""
    spec = job.federated
    if spec is None:
        raise InputError(f"the job is {job.method}: this is for federated jobs")
    return FederatedTask(
        job.features,
        job.parameters,
        job.party_names,
        job.data.label_range,
        job.data.weight_range,
        spec.min_clients,
        leaf_sums=spec.mode == "leaf_sums",
        aggregators=len(job.aggregators),
        privacy=None if spec.epsilon is None or spec.delta is None else Budget(_unit(spec), spec.epsilon, spec.delta),
    )


def _unit(spec: FederatedSpec) -> Unit:
    return "client" if spec.privacy_unit == "client" else "row"


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


def _courier(role: Role, transport: Transport) -> Courier:
    """How the lead reaches the clients."""
    if role.engine != EMBEDDED:
        return RelayedCourier(transport, COURIER)
    job, contexts = role.job, load_tls(role.certificates, role.name)
    role.on_phase("waiting for the clients")

    def dial(client: str) -> TlsTransport | ParticipantError:
        try:
            return connect(
                role.name,
                [client, role.name],
                {client: job.addresses[client]},
                contexts,
                None,
                role.wait_seconds,
                min(role.reconnect_seconds, _CLIENT_RECONNECT_SECONDS),
            )
        except ParticipantError as error:
            return error

    with ThreadPoolExecutor(len(job.party_names)) as workers:
        found = dict(zip(job.party_names, workers.map(dial, job.party_names), strict=True))
    links = {client: link for client, link in found.items() if isinstance(link, TlsTransport)}
    for client, link in found.items():
        if isinstance(link, ParticipantError):
            role.on_notice(f"{client} is not there: {link}")
    largest = LARGEST_HEADER + WORD.itemsize * federated_task(job).largest_update + _FRAMING
    return DirectCourier(links, lambda client, reason: role.on_notice(reason), largest)


def _lost(role: Role, outcome: Outcome, client: str, reason: str) -> None:
    if client not in outcome.dropped:
        outcome.dropped.append(client)
    role.on_notice(reason)


def _keep(checkpoints: Checkpoints | None, epoch: bytes, training: Training, number: int) -> None:
    """Write what is there after so many rounds. The first checkpoint, number 1, is that before the first round."""
    if checkpoints is not None:
        arrays: Arrays = {"forest": np.frombuffer(training.forest.to_bytes(), dtype=np.uint8)}
        if training.losses:
            arrays["losses"] = np.stack([loss.words for loss in training.losses])
        with writing(checkpoints.directory):
            checkpoints.keep(number + 1, arrays, epoch)


def _losses(holder: int | None, arrays: Arrays) -> list[Shared]:
    words = arrays.get("losses", np.zeros((0, 2), dtype=np.uint64))
    if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != 2:
        raise ValueError
    return [Shared(holder, row) for row in words]


def _from_arrays(arrays: Arrays, task: FederatedTask) -> Forest:
    try:
        return Forest.from_bytes(arrays["forest"].tobytes(), task)
    except ProtocolError:
        raise ValueError from None


def _enough_rows(sized: SizedTask) -> SizedTask:
    """Refuse, at all aggregators alike, what the numbers of rows make impossible."""
    if sized.total < LEAST_ROWS:
        raise InputError(f"{sized.total} rows are too few to train on: a training needs at least {LEAST_ROWS} in all")
    if sized.task.parameters.validation_fraction is not None:
        check_held_back(sized.task.parameters, sum(sized.held_back.values()), sized.total)
    sized.scales  # noqa: B018  raises where there are too many, or noise is too large
    return sized


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


@contextlib.contextmanager
def _mesh(role: Role, checkpoints: Mapping[int, str] | None = None) -> Iterator[tuple[TlsTransport, Meeting, Outcome]]:
    """Connect with the aggregators and those who serve them, greet, and take leave."""
    job = role.job
    members = (*job.aggregator_names, DEALER)
    # A courier and an analyst only dial out, so they cannot reach each other, and need not.
    others = [name for name in job.mesh_roles(role.engine) if name not in members]
    order = [*members, *(others if role.name in members else [role.name])]
    addresses = {name: address for name, address in job.addresses.items() if name in order}
    contexts = load_tls(role.certificates, role.name)
    listener = listen(role.name, *addresses[role.name]) if role.name in addresses else None
    role.on_phase("waiting for the others")
    transport = connect(
        role.name,
        order,
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
    with _leaving(transport, role.name):
        role.on_phase("greeting the others")
        meeting = greet(
            transport, job.aggregator_names, job.job_hash(), None, checkpoints, aligned=False, members=members
        )
        yield transport, meeting, outcome
        outcome.bytes_sent = dict(transport.bytes_sent)
        role.on_phase("taking leave")


@contextlib.contextmanager
def _leaving(transport: TlsTransport, name: str) -> Iterator[None]:
    """Close a transport at the end; with a reason for the peers if something goes wrong."""
    try:
        yield
    except BaseException as error:
        # What is wrong here may name files of this machine; only what concerns the peers goes to them.
        transport.close(str(error) if isinstance(error, ParticipantError) else f"{name} had to give up")
        raise
    transport.close()
