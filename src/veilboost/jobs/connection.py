"""How a role connects with the others of a job and takes leave of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from veilboost.errors import ParticipantError
from veilboost.jobs.certificates import load_tls
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.role import Role
from veilboost.mpc.transport.connect import connect, listen
from veilboost.mpc.transport.tls import TlsTransport


@contextlib.contextmanager
def connection(
    role: Role, order: Sequence[str], silence_seconds: float | None = None
) -> Iterator[tuple[TlsTransport, Outcome]]:
    """Connect with other roles, and take leave of them; with a reason if something goes wrong in between.

    Parameters
    ----------
    order
        Who is connected with each other, in the same order everywhere; this role is among them.
    silence_seconds
        As for `connect`.
    """
    addresses = {name: address for name, address in role.job.addresses.items() if name in order}
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
        silence_seconds,
    )
    transport.on_notice = role.on_notice
    role.on_met(transport.bytes_sent)
    outcome = Outcome(role.name)
    with leaving(transport, role.name):
        role.on_phase("greeting the others")
        yield transport, outcome
        outcome.bytes_sent = dict(transport.bytes_sent)
        role.on_phase("taking leave")


@contextlib.contextmanager
def leaving(transport: TlsTransport, name: str) -> Iterator[None]:
    """Close a transport at the end; with a reason for the peers if something goes wrong."""
    try:
        yield
    except BaseException as error:
        transport.close(reason_for_peers(error, name))
        raise
    transport.close()


def reason_for_peers(error: BaseException, name: str) -> str:
    """Why a role gives up, as its peers may know it.

    What is wrong here may name files of this machine; only what concerns the peers goes to them.
    """
    return str(error) if isinstance(error, ParticipantError) else f"{name} had to give up"
