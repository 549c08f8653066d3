"""A resumed training reuses no mask: every stream that anybody draws and every word on the wire, before and after.

Participants are threads that greet, share keys, train and keep checkpoints as the roles of a job do; one of them is
killed in the middle of a tree. Owners and the dealer may never draw a stream of one key and number twice, and the tree
that is grown again must look altogether different from outside.
"""

import hashlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.network import ANALYST, DEALER, owner_names
from tests.training import EVERY_KIND, Table, draw_table

from veilboost.errors import PeerLost
from veilboost.jobs.checkpoint import Checkpoints
from veilboost.mpc import handshake
from veilboost.mpc import session as session_module
from veilboost.mpc.handshake import dealer_session, greet, owner_session
from veilboost.mpc.prg import Stream
from veilboost.mpc.ring import Words
from veilboost.mpc.session import OwnerSession, Session
from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.memory import MemoryNetwork, MemoryTransport
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.forest import TrainingState
from veilboost.xorboost.reveal import receive_reveal, reveal_to
from veilboost.xorboost.state import from_arrays, hollow_state, to_arrays
from veilboost.xorboost.train import train

JOB = b"j" * 32
PARAMETERS = Parameters(n_estimators=3, max_depth=2, max_bin=6)
VICTIM = "owner1"
SETUP = -1

#: Which participant a thread is, which tree it works on, and how many random strings it has drawn.
here = threading.local()


class KilledError(Exception):
    """Ends the victim in the middle of its work."""


@dataclass
class Start:
    """What one start of a job drew, sent and opened.

    Attributes
    ----------
    streams
        How often each participant drew a stream: by participant, key and number.
    frames
        By sender, receiver and tree.
    opened
        Words that became known to all owners, by owner and tree.
    pair_keys
        By owner, then by the other owner.
    trees_done
        After how many trees it began.
    model
        What the analyst got, if it came to that.
    """

    streams: Counter[tuple[str, bytes, int]] = field(default_factory=Counter)
    frames: dict[tuple[str, str, int], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    opened: dict[tuple[str, int], list[Words]] = field(default_factory=lambda: defaultdict(list))
    pair_keys: dict[str, dict[int, bytes]] = field(default_factory=dict)
    trees_done: int = 0
    model: Ensemble | None = None


class ListeningNetwork(MemoryNetwork):
    """Enters every frame in the records of a start."""

    def __init__(self, names: list[str], start: Start) -> None:
        super().__init__(names)
        self._start = start

    def log(self, sender: str, receiver: str, payload: Octets) -> None:
        self._start.frames[sender, receiver, here.tree].append(payload.tobytes())


class Job:
    """A job that is started again and again on the same checkpoints."""

    def __init__(self, folder: Path, owners: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names = owner_names(owners)
        self.table = make_table(owners)
        self.now = Start()
        self._folder = folder
        job = self
        draw, opening, exchange = Stream.__init__, OwnerSession.open_masked, OwnerSession.exchange_masked

        def counted(self: Stream, key: bytes, number: int) -> None:
            job.now.streams[here.name, key, number] += 1
            draw(self, key, number)

        def opened(self: OwnerSession, *openings: Any) -> list[Words]:
            found = opening(self, *openings)
            job.now.opened[here.name, here.tree] += found
            return found

        def exchanged(self: OwnerSession, value: Any, wanted: Any = None) -> Any:
            found = exchange(self, value, wanted)
            job.now.opened[here.name, here.tree].append(found.total)
            return found

        monkeypatch.setattr(Stream, "__init__", counted)
        monkeypatch.setattr(OwnerSession, "open_masked", opened)
        monkeypatch.setattr(OwnerSession, "exchange_masked", exchanged)

    def start(self, *, kill_in: int | None = None, forget: bool = False) -> Start:
        """Run all participants; the victim dies while it routes the rows of a tree. `forget` removes checkpoints."""
        if forget:
            for name in self.names:
                checkpoints(self._folder, name).clear()
        self.now = Start()
        network = ListeningNetwork([*self.names, DEALER, ANALYST], self.now)
        run = partial(self._run, kill_in=kill_in)
        if kill_in is None:
            self.now.model = network.run(run)[ANALYST]
        else:
            with pytest.raises(KilledError):
                network.run(run)
        return self.now

    def _run(self, transport: MemoryTransport, kill_in: int | None) -> Ensemble | None:
        here.name, here.tree, here.drawn = transport.name, SETUP, 0
        task, columns = self.table.task(PARAMETERS), self.table.columns(PARAMETERS.max_bin)
        if transport.name == ANALYST:
            greet(transport, self.names, JOB, None)
            try:
                return receive_reveal(transport, tuple(self.names), task)
            except PeerLost:
                return None
        if transport.name == DEALER:
            meeting = greet(transport, self.names, JOB, None)
            session: Session = dealer_session(transport, self.names, meeting)
            state = hollow_state(task, meeting.trees_done) if meeting.trees_done else None
            return reveal_to(session, task, train(session, task, [None] * len(columns), None, on_tree, state=state), "")
        kept = checkpoints(self._folder, transport.name)
        meeting = greet(transport, self.names, JOB, len(self.table.labels), kept.epochs())
        session = owner_session(transport, self.names, DEALER, meeting)
        self.now.pair_keys[transport.name] = dict(session._pair_keys)
        self.now.trees_done = meeting.trees_done
        state = None
        if meeting.trees_done:
            state = kept.load(meeting.trees_done, lambda arrays: from_arrays(arrays, task, session.me))

        def on_phase(name: str) -> None:
            if (transport.name, here.tree, name) == (VICTIM, kill_in, "routing"):
                raise KilledError

        session.phases.on_enter = on_phase
        own = [c if o == session.holder else None for c, o in zip(columns, self.table.owners, strict=True)]
        labels = self.table.labels if session.holder == self.table.label_owner else None

        def keep(state: TrainingState) -> None:
            kept.keep(state.rounds, to_arrays(state), meeting.context)

        forest = train(session, task, own, labels, on_tree, state=state, keep=keep)
        return reveal_to(session, task, forest, ANALYST)


def on_tree(number: int) -> None:
    here.tree = number


def make_table(owners: int) -> Table:
    features = [EVERY_KIND[number] for number in (1, 2, 5, 7, 8)]
    return draw_table(features, 60, owners, "binary:logistic", np.random.default_rng(4))


def checkpoints(folder: Path, owner: str) -> Checkpoints:
    directory = folder / owner
    directory.mkdir(parents=True, exist_ok=True)
    return Checkpoints(directory, hashlib.sha256(owner.encode()).digest(), JOB, owner, b"t")


StartJob = Callable[[int], Job]


@pytest.fixture
def start_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartJob]:
    yield lambda owners: Job(tmp_path, owners, monkeypatch)


def drawn_twice(*starts: Start) -> list[tuple[str, bytes, int]]:
    """Streams that one participant drew more than once."""
    total: Counter[tuple[str, bytes, int]] = Counter()
    for start in starts:
        total.update(start.streams)
    return [stream for stream, count in total.items() if count > 1]


def in_common(first: dict[Any, list[Any]], second: dict[Any, list[Any]]) -> set[int]:
    """Words of 64 bits that stand in both, wherever; frames shorter than a word say too little and are left out."""

    def words(records: dict[Any, list[Any]]) -> set[int]:
        found: set[int] = set()
        for frames in records.values():
            for frame in frames:
                octets = frame if isinstance(frame, bytes) else frame.tobytes()
                found.update(np.frombuffer(octets[: len(octets) // 8 * 8], dtype=np.uint64).tolist())
        return found

    return words(first) & words(second)


def of_tree(records: dict[Any, list[Any]], tree: int) -> dict[Any, list[Any]]:
    return {key[:-1]: frames for key, frames in records.items() if key[-1] == tree}


def all_keys(start: Start) -> set[bytes]:
    return {key for _, key, _ in start.streams}


@pytest.mark.parametrize("owners", [2, 3])
def test_nothing_is_drawn_or_sent_again(start_job: StartJob, owners: int) -> None:
    job = start_job(owners)
    first = job.start(kill_in=2)
    assert first.trees_done == 0 and first.model is None
    second = job.start()
    assert second.trees_done == 2 and second.model is not None
    assert len(second.model.trees) == 3

    # Enough was recorded for the comparisons to mean something.
    for start in (first, second):
        assert {name for name, _, _ in start.streams} == {*job.names, DEALER}
        assert len(start.streams) > 100
    assert drawn_twice(first, second) == []
    assert all_keys(first).isdisjoint(all_keys(second))
    for name in job.names:
        for other, key in first.pair_keys[name].items():
            assert key != second.pair_keys[name][other]

    # The same tree on the wire, as far as the first start came: owners send messages of the same sizes in the same
    # order (whom the dealer corrects goes by the number of a correlation), and nobody sends one word again.
    before, after = of_tree(first.frames, 2), of_tree(second.frames, 2)
    assert {(DEALER, name) for name in job.names} | {(a, b) for a in job.names for b in job.names if a != b} <= set(
        before
    )
    for pair, frames in before.items():
        assert len(frames) > 5
        for early, late in zip(frames, after[pair], strict=False):
            assert len(early) == len(late) or DEALER in pair
            assert early != late or len(early) < 8
    assert in_common(before, after) == set()
    for records in (first.opened, second.opened):
        assert sum(words.size for words in of_tree(records, 2)[(VICTIM,)]) > 200
    assert in_common(of_tree(first.opened, 2), of_tree(second.opened, 2)) == set()


class Repeating:
    """A source of randomness that gives a participant the same at every start: first its nonce, then its keys."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._fresh = handshake.token_bytes

    def __call__(self, count: int) -> bytes:
        assert count == 32
        here.drawn += 1
        if self._what in ("everything", "nonces" if here.drawn == 1 else "keys"):
            return hashlib.sha256(f"{here.name} {here.drawn}".encode()).digest()
        return self._fresh(count)


@pytest.mark.parametrize("what", ["nonces", "keys"])
def test_either_fresh_nonces_or_fresh_keys_suffice(
    start_job: StartJob, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    job = start_job(2)
    monkeypatch.setattr(handshake, "token_bytes", Repeating(what))
    first, second = job.start(kill_in=1), job.start()
    assert second.trees_done == 1
    assert drawn_twice(first, second) == []
    assert in_common(of_tree(first.frames, 1), of_tree(second.frames, 1)) == set()


def test_a_repeated_epoch_would_be_noticed(start_job: StartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests above can fail: without fresh randomness streams repeat, at the owners and at the dealer."""
    job = start_job(2)
    monkeypatch.setattr(handshake, "token_bytes", Repeating("everything"))
    first, second = job.start(kill_in=1), job.start()
    assert second.trees_done == 1
    assert {name for name, _, _ in drawn_twice(first, second)} == {*job.names, DEALER}
    assert first.pair_keys == second.pair_keys
    assert drawn_twice(first) == drawn_twice(second) == []


def test_repeated_words_would_be_noticed(start_job: StartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree grown twice under the same masks: the same words are opened, and with equal shares of inputs also sent."""
    job = start_job(2)
    monkeypatch.setattr(handshake, "token_bytes", Repeating("everything"))
    first, second = job.start(kill_in=0), job.start()
    assert first.trees_done == second.trees_done == 0
    assert len(in_common(of_tree(first.opened, 0), of_tree(second.opened, 0))) > 200
    assert len(in_common(of_tree(first.frames, 0), of_tree(second.frames, 0))) > 200
    monkeypatch.setattr(session_module, "token_bytes", Repeating("everything"))
    third, fourth = job.start(kill_in=0, forget=True), job.start(kill_in=0)
    for pair, frames in of_tree(third.frames, 0).items():
        if pair[0] in (VICTIM, DEALER):
            assert frames == of_tree(fourth.frames, 0)[pair]
