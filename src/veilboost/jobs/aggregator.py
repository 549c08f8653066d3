"""An aggregator of a federated job, from its start to its end."""

from __future__ import annotations

import json
from functools import partial

import numpy as np

from veilboost.errors import InputError, ProtocolError
from veilboost.federated.asking import require_clients
from veilboost.federated.couriers import DirectCourier, send_bytes
from veilboost.federated.forest import Forest
from veilboost.federated.gather import Gatherer
from veilboost.federated.task import FederatedTask, SizedTask
from veilboost.federated.training import Training
from veilboost.jobs.certificates import load_storage_key
from veilboost.jobs.checkpoint import Checkpoints
from veilboost.jobs.connection import reason_for_peers
from veilboost.jobs.entries import COURIER, DEALER
from veilboost.jobs.identity import CertificateIdentity
from veilboost.jobs.limits import LEAST_ROWS
from veilboost.jobs.mesh import courier_of, federated_task, mesh
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.results import read_ledger, write_ledger, writing
from veilboost.jobs.role import Role, folder_of, hear_that_it_is_saved, tell_that_it_is_saved, timed, write_results
from veilboost.jobs.sealed import Arrays
from veilboost.mpc.handshake import owner_session
from veilboost.mpc.shares import Shared
from veilboost.splitting.metrics import check_held_back


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
    with mesh(role, offered) as (transport, meeting, outcome):
        courier = courier_of(role, task, transport) if role.name == names[0] else None
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
            losses: list[Shared] = []
            if checkpoints is not None and meeting.trees_done:
                forest, losses = checkpoints.load(meeting.trees_done, partial(_from_arrays, task, session.holder))
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
            training = Training(session, sized, gatherer, forest, losses)
            keep = partial(_keep, checkpoints, meeting.context, training)
            done = max(0, meeting.trees_done - 1)
            begun = meeting.trees_done > 0
            training.run(done, timed(role, outcome), keep, begun=begun, keep_setup=partial(keep, 0))
        except BaseException as error:
            if isinstance(courier, DirectCourier):
                courier.abandon(reason_for_peers(error, role.name))
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


def _from_arrays(task: FederatedTask, holder: int | None, arrays: Arrays) -> tuple[Forest, list[Shared]]:
    """What `_keep` has written; ValueError where it is something else."""
    words = arrays.get("losses", np.zeros((0, 2), dtype=np.uint64))
    if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != 2:
        raise ValueError
    try:
        return Forest.from_bytes(arrays["forest"].tobytes(), task), [Shared(holder, row) for row in words]
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
