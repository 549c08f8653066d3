"""Who is connected with whom in a federated job, and what all of them know of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from veilboost.errors import InputError, ParticipantError
from veilboost.federated.couriers import Courier, DirectCourier, RelayedCourier
from veilboost.federated.messages import LARGEST_HEADER
from veilboost.federated.privacy import Budget
from veilboost.federated.sensitivity import Unit
from veilboost.federated.task import FederatedTask
from veilboost.jobs.certificates import load_tls
from veilboost.jobs.connection import connection
from veilboost.jobs.entries import COURIER, DEALER, EMBEDDED
from veilboost.jobs.federated_spec import FederatedSpec
from veilboost.jobs.job import Job
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.role import Role
from veilboost.mpc.handshake import Meeting, greet
from veilboost.mpc.ring import WORD
from veilboost.mpc.transport.base import Transport
from veilboost.mpc.transport.connect import connect
from veilboost.mpc.transport.tls import TlsTransport

#: How long a client whose connection is lost may take to come back.
CLIENT_RECONNECT_SECONDS = 10.0

#: Of an answer: the size of its header, and the tag of its box.
_FRAMING = 4 + 16


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


@contextlib.contextmanager
def mesh(role: Role, checkpoints: Mapping[int, str] | None = None) -> Iterator[tuple[TlsTransport, Meeting, Outcome]]:
    """Connect with the aggregators and those who serve them, greet, and take leave."""
    job = role.job
    members = (*job.aggregator_names, DEALER)
    # A courier and an analyst only dial out, so they cannot reach each other, and need not.
    others = [name for name in job.mesh_roles(role.engine) if name not in members]
    order = [*members, *(others if role.name in members else [role.name])]
    # An analyst is met before the courier is, for whom the others wait in silence.
    silence_seconds = None if role.engine == EMBEDDED or role.name in members else role.wait_seconds
    with connection(role, order, silence_seconds) as (transport, outcome):
        meeting = greet(
            transport, job.aggregator_names, job.job_hash(), None, checkpoints, aligned=False, members=members
        )
        yield transport, meeting, outcome


def courier_of(role: Role, task: FederatedTask, transport: Transport) -> Courier:
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
                min(role.reconnect_seconds, CLIENT_RECONNECT_SECONDS),
            )
        except ParticipantError as error:
            return error

    with ThreadPoolExecutor(len(job.party_names)) as workers:
        found = dict(zip(job.party_names, workers.map(dial, job.party_names), strict=True))
    links = {client: link for client, link in found.items() if isinstance(link, TlsTransport)}
    for client, link in found.items():
        if isinstance(link, ParticipantError):
            role.on_notice(f"{client} is not there: {link}")
    largest = LARGEST_HEADER + WORD.itemsize * task.largest_update + _FRAMING
    return DirectCourier(links, lambda client, reason: role.on_notice(reason), largest)
