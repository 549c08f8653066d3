import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.network import DEALER, join, owner_names

from veilboost.errors import PeerMismatch, ProtocolError
from veilboost.mpc import handshake
from veilboost.mpc.handshake import Greeting, Meeting, dealer_session, greet, owner_session
from veilboost.mpc.ring import to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.transport.memory import MemoryNetwork, MemoryTransport

JOB = bytes(range(32))
OTHER_JOB = bytes(32)
GREETING = Greeting("owner1", JOB.hex(), "ab" * 32, 7, "1.2.3")


def meet(
    names: list[str],
    rows: Mapping[str, int | None],
    jobs: Mapping[str, bytes] | None = None,
    versions: Mapping[str, str] | None = None,
) -> dict[str, Meeting]:
    """Everybody greets everybody; who is not in `jobs` has JOB."""
    owners = [name for name in names if name in rows]

    def program(transport: MemoryTransport) -> Meeting:
        spoken = Speaking(transport, (versions or {}).get(transport.name))
        return greet(spoken, owners, (jobs or {}).get(transport.name, JOB), rows.get(transport.name))  # type: ignore[arg-type]

    return MemoryNetwork(names).run(program)


class Speaking:
    """A transport at whose end another version of veilboost greets."""

    def __init__(self, transport: MemoryTransport, version: str | None) -> None:
        self._transport, self._version = transport, version

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def send(self, peer: str, payload: Any) -> None:
        if self._version is not None and payload.tobytes().startswith(b"{"):
            greeting = replace(Greeting.from_bytes(payload.tobytes(), self.name), version=self._version)
            payload = np.frombuffer(greeting.to_bytes(), dtype=np.uint8)
        self._transport.send(peer, payload)


def test_all_agree_on_context_and_rows() -> None:
    names = [*owner_names(3), DEALER, "analyst"]
    meetings = meet(names, dict.fromkeys(owner_names(3), 7))
    assert len({(meeting.context, meeting.block_rows) for meeting in meetings.values()}) == 1
    assert meetings["analyst"].block_rows == (7,)
    assert len(meetings["analyst"].context) == 32


def test_every_meeting_is_a_new_epoch() -> None:
    names = [*owner_names(2), DEALER]
    contexts = {meet(names, dict.fromkeys(owner_names(2), 7))[DEALER].context for _ in range(4)}
    assert len(contexts) == 4


def test_context_depends_on_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "token_bytes", lambda count: bytes(count))
    names = [*owner_names(2), DEALER]
    rows = dict.fromkeys(owner_names(2), 7)
    contexts = [meet(names, rows, dict.fromkeys(names, job))[DEALER].context for job in (JOB, JOB, OTHER_JOB)]
    assert contexts[0] == contexts[1] != contexts[2]


@pytest.mark.parametrize("odd", [*owner_names(2), DEALER, "analyst"])
def test_different_job_files_are_refused(odd: str) -> None:
    names = [*owner_names(2), DEALER, "analyst"]
    with pytest.raises(PeerMismatch, match="have different job files: give both the same file") as caught:
        meet(names, dict.fromkeys(owner_names(2), 7), jobs={odd: OTHER_JOB})
    assert odd in str(caught.value)


def test_different_versions_are_refused() -> None:
    names = [*owner_names(2), DEALER]
    with pytest.raises(PeerMismatch, match=r"owner1 runs veilboost 0\.0\.9, .* install the same version"):
        meet(names, dict.fromkeys(owner_names(2), 7), versions={"owner1": "0.0.9"})


def test_different_numbers_of_rows_are_refused() -> None:
    names = [*owner_names(3), DEALER]
    with pytest.raises(PeerMismatch, match="owner0 has 7 rows but owner2 has 8"):
        meet(names, {"owner0": 7, "owner1": 7, "owner2": 8})


def test_owner_that_does_not_say_its_rows_is_refused() -> None:
    with pytest.raises(ProtocolError, match="owner1 did not say how many rows"):
        meet([*owner_names(2), DEALER], {"owner0": 7, "owner1": None})


def test_participants_of_two_meetings_do_not_mix() -> None:
    """Somebody in the middle replays another meeting's random bytes to one of the owners."""
    names = [*owner_names(2), DEALER]

    class Replaying(Speaking):
        def send(self, peer: str, payload: Any) -> None:
            if peer == "owner0" and payload.tobytes().startswith(b"{"):
                greeting = replace(Greeting.from_bytes(payload.tobytes(), self.name), nonce="00" * 32)
                payload = np.frombuffer(greeting.to_bytes(), dtype=np.uint8)
            self._transport.send(peer, payload)

    def program(transport: MemoryTransport) -> Meeting:
        spoken: Any = Replaying(transport, None) if transport.name == DEALER else transport
        return greet(spoken, owner_names(2), JOB, 7 if transport.name != DEALER else None)

    with pytest.raises(PeerMismatch, match="has met other participants than"):
        MemoryNetwork(names).run(program)


def altered(change: Callable[[dict[str, Any]], object]) -> bytes:
    fields = json.loads(GREETING.to_bytes())
    change(fields)
    return json.dumps(fields).encode()


def test_greeting_survives_the_way() -> None:
    assert Greeting.from_bytes(GREETING.to_bytes(), "owner1") == GREETING
    assert Greeting.from_bytes(altered(lambda g: g.update(rows=None)), "owner1").rows is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"[]",
        b"[" * 4096,
        b"null",
        b"{}",
        altered(lambda g: g.pop("nonce")),
        altered(lambda g: g.update(more=1)),
        altered(lambda g: g.update(name="owner0")),
        altered(lambda g: g.update(name=None)),
        altered(lambda g: g.update(nonce="ab")),
        altered(lambda g: g.update(nonce=64)),
        altered(lambda g: g.update(job=[])),
        altered(lambda g: g.update(rows="7")),
        altered(lambda g: g.update(rows=True)),
        altered(lambda g: g.update(rows=0)),
        altered(lambda g: g.update(rows=-7)),
        altered(lambda g: g.update(rows=7.5)),
        altered(lambda g: g.update(version="\x1b[2Jgone")),
        altered(lambda g: g.update(version=1)),
    ],
)
def test_malformed_greeting_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^owner1 sent a greeting that cannot be read"):
        Greeting.from_bytes(data, "owner1")


def test_overlong_greeting_is_refused() -> None:
    def program(transport: MemoryTransport) -> Meeting | None:
        if transport.name == "owner1":
            transport.send("owner0", np.zeros(5000, dtype=np.uint8))
            return None
        return greet(transport, owner_names(2), JOB, 7)

    with pytest.raises(ProtocolError, match="owner1 sent a greeting of 5000 bytes, more than 4096"):
        MemoryNetwork(owner_names(2)).run(program)


@pytest.mark.parametrize("owners", [2, 3])
def test_sessions_after_the_greeting_belong_together(owners: int) -> None:
    """The keys fit: a disclosed value, and shares opened by all owners, come out right."""
    names = owner_names(owners)

    def program(transport: MemoryTransport) -> Any:
        dealing = transport.name == DEALER
        meeting = greet(transport, names, JOB, None if dealing else 7)
        session: Session = (
            dealer_session(transport, names, meeting) if dealing else owner_session(transport, names, DEALER, meeting)
        )
        plain = to_ring(np.array([5, -3])) if session.holder == 0 else None
        value = session.share(0, plain, (2,))
        return value, session.disclose(value, "owner1", "a value", "for the test")

    done = MemoryNetwork([*names, DEALER]).run(program)
    assert join([done[name][0] for name in names]).tolist() == [5, -3]
    assert done["owner1"][1].view(np.int64).tolist() == [5, -3]
    assert [done[name][1] for name in (*names, DEALER) if name != "owner1"] == [None] * owners
