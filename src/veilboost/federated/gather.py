"""What aggregators do with a question: ask, agree on who has answered, check ranges, add shares.

docs/protocols/federated.md. The first aggregator (the lead) has the courier; the last one opens the boxes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from secrets import token_bytes
from typing import Any

from veilboost.errors import PeerMismatch, ProtocolError
from veilboost.federated.collected import Collected, MaskShare, OpenedShare
from veilboost.federated.couriers import Courier, receive_batch, receive_bytes, send_batch, send_bytes
from veilboost.federated.keys import AggregatorKey, ClientKeys, Identity, accept_client, end_statement
from veilboost.federated.messages import Answer, Question
from veilboost.mpc.ring import Words
from veilboost.mpc.transport.base import Transport
from veilboost.version import __version__

#: Clients that are asked at a time, and whose updates are in memory, where there are many; and groups that are checked.
BATCH = 256

_NONCE_BYTES = 32

#: After so many questions in a row without an answer a client is not asked again.
_MOST_MISSES = 2


class Gatherer:
    """One aggregator's dealings with clients and the other aggregators.

    Parameters
    ----------
    transport
        With the other aggregators.
    aggregators
        Names in job order.
    courier
        At the lead; None elsewhere.
    answer_seconds
        How long a client may take.
    on_lost
        Called with the name of a client that is missing from now on, and why.

    Attributes
    ----------
    rows
        Rows of every client that took part in the greeting: public.
    behind
        Clients that do not know all trees, and must catch up before they are asked for sums.
    """

    def __init__(
        self,
        transport: Transport,
        aggregators: Sequence[str],
        clients: Sequence[str],
        identity: Identity,
        job_hash: bytes,
        courier: Courier | None,
        answer_seconds: float,
        on_lost: Callable[[str, str], None] = lambda name, reason: None,
    ) -> None:
        self.name = transport.name
        self.rows: dict[str, int] = {}
        self.behind: set[str] = set()
        self._transport, self._aggregators = transport, tuple(aggregators)
        self._clients = tuple(clients)
        self._identity, self._job_hash = identity, job_hash
        self._courier, self._seconds, self._on_lost = courier, answer_seconds, on_lost
        self._others = [name for name in aggregators if name != self.name]
        self._keys: dict[str, ClientKeys] = {}
        self._missed: dict[str, int] = {}
        self._nonce = b""

    def __repr__(self) -> str:
        return f"Gatherer({self.name!r}, redacted)"

    @property
    def lead(self) -> bool:
        return self.name == self._aggregators[0]

    @property
    def last(self) -> bool:
        return self.name == self._aggregators[-1]

    def greet(self, context: bytes, trees: int) -> None:
        """Open an epoch with all clients.

        Parameters
        ----------
        context
            Of the aggregators' meeting: fresh.
        trees
            Complete trees that there are.

        Notes
        -----
        1. Every aggregator draws a key and signs it; all exchange these.
        2. The lead asks all clients "hello" and passes their answers to all aggregators.
        3. Every aggregator checks every client's signature and opens its own box; a client counts if all agree.
        """
        key = AggregatorKey.draw()
        nonce = hashlib.sha256(b"veilboost federated epoch " + context).digest()
        own = key.introduce(self._identity, self.name, self._job_hash, nonce)
        self._nonce = nonce
        told = self._exchange(json.dumps(own).encode())
        introduced = {name: _introduction(name, text) for name, text in told.items()}
        content = {
            "aggregators": dict(sorted(introduced.items())),
            "job": self._job_hash.hex(),
            "nonce": nonce.hex(),
            "trees": trees,
            "version": __version__,
        }
        question = Question("hello", 0, content=content)
        answers = self._answers(question.to_bytes(), self._clients, everything=True)
        accepted = []
        for client in self._clients:
            answer = answers.get(client)
            header = {} if answer is None else dict(answer.header)
            known = header.pop("trees", 0)
            found = accept_client(header, client, self._identity, key, self.name, self._job_hash, nonce)
            if found is not None and type(known) is int and known >= 0:
                self._keys[client], self.rows[client] = found
                if known != trees:
                    self.behind.add(client)
                accepted.append(client)
        agreed = self._agree(0, accepted)[0]
        for client in self._clients:
            if client not in agreed:
                # An answer that only some aggregators can read must leave no trace at these.
                self.rows.pop(client, None)
                self.behind.discard(client)
                self._forget(client, f"{client} did not take part in the greeting")

    @property
    def alive(self) -> tuple[str, ...]:
        """Clients that may be asked, in job order."""
        return tuple(client for client in self._clients if client in self._keys)

    def tell(self, question: Question, clients: Sequence[str]) -> dict[str, int]:
        """Ask what needs no box, such as to catch up; how many trees each client that answers says it knows then.

        A client that says it is behind is not among them, and catches up before it is asked again.
        """
        answers = self._answers(question.to_bytes(), clients, everything=True)
        self.behind |= {client for client, answer in answers.items() if "behind" in answer.header}
        known = {}
        for client, answer in answers.items():
            trees = answer.header.get("trees")
            if type(trees) is int and trees >= 0:
                known[client] = trees
        agreed = set(self._agree(question.serial, [client for client in clients if client in known])[0])
        return {client: trees for client, trees in known.items() if client in agreed}

    def collect(self, question: Question, clients: Sequence[str], size: int, told: bytes = b"") -> Collected:
        """Ask clients for sums of `size` words each, and agree on the answers that count.

        Parameters
        ----------
        told
            What the clients must have been told before, by `told.Told`.

        Notes
        -----
        1. The lead asks, and sends the others the names of those who answered, the last one their boxes too.
        2. The last aggregator opens the boxes. What was not sealed by that client for these very bytes of a question,
           and on the model that there really is, does not count, and a client whose answer does not count is missing
           from now on.
        3. All aggregators exchange who counts and 32 random bytes, and then the hash of clients, question and bytes.
        """
        data = question.to_bytes()
        answers = self._answers(data, clients, everything=False)
        shares: dict[str, Callable[[], Words]] = {}
        behind = []
        for client in clients:
            answer = answers.get(client)
            if answer is None or client not in self._keys:
                continue
            if "behind" in answer.header:
                behind.append(client)
                continue
            keys = self._keys[client]
            if not self.last:
                shares[client] = MaskShare(keys, question.serial, size)
                continue
            words = keys.open(question.serial, data + told, answer.box, size)
            if words is None:
                self._on_lost(client, f"{client} sent an update that is none: it is left out")
            else:
                shares[client] = OpenedShare(words)
        agreed, coins = self._agree(question.serial, list(shares), data + told)
        self.behind |= set(behind)
        for client in clients:
            answered = client in agreed or client in behind
            self._missed[client] = 0 if answered else self._missed.get(client, 0) + 1
            if self._missed[client] == _MOST_MISSES:
                self._forget(client, f"{client} has not answered {_MOST_MISSES} times and is not asked any more")
        return Collected(agreed, {client: shares[client] for client in agreed}, coins)

    def sign_end(self, digest: bytes) -> dict[str, str]:
        """Every aggregator's signature of what clients have been told when all is over (`told.Told.at_the_end`)."""
        signature = self._identity.sign(end_statement(self._job_hash, self._nonce, digest))
        return {name: other.hex() for name, other in self._exchange(signature).items()}

    def finish(self) -> None:
        """Nothing is asked any more."""
        if self._courier is not None:
            self._courier.close()

    def _answers(self, data: bytes, clients: Sequence[str], *, everything: bool) -> dict[str, Answer]:
        """Who has answered, and what of the answers this aggregator needs."""
        if self._courier is None:
            _, received = receive_batch(self._transport, self._aggregators[0])
            found = {client: Answer.from_bytes(answer) for client, answer in received.items() if client in clients}
            return {client: answer for client, answer in found.items() if answer is not None}
        given = self._courier.ask(dict.fromkeys(clients, data), self._seconds)
        answers = {}
        for client in clients:
            answer = Answer.from_bytes(given[client]) if client in given else None
            if answer is not None:
                answers[client] = answer
            elif client in given:
                self._on_lost(client, f"{client} sent an answer that cannot be read: it is left out")
        for other in self._others:
            whole = everything or other == self._aggregators[-1]
            passed = {c: (a if whole else Answer(a.header)).to_bytes() for c, a in answers.items()}
            send_batch(self._transport, other, {}, passed)
        return answers

    def _agree(self, serial: int, clients: Sequence[str], data: bytes = b"") -> tuple[tuple[str, ...], bytes]:
        """The clients on whom all aggregators agree, in job order, and common random bytes.

        Parameters
        ----------
        data
            What else they must agree on.

        Raises
        ------
        PeerMismatch
            When another aggregator has come to another result.
        """
        own = {"serial": serial, "clients": list(clients), "nonce": token_bytes(_NONCE_BYTES).hex()}
        views = {name: _view(name, serial, text) for name, text in self._exchange(json.dumps(own).encode()).items()}
        common = set.intersection(*(set(view["clients"]) for view in views.values()))
        agreed = tuple(client for client in self._clients if client in common)
        digest = hashlib.sha256(self._job_hash + hashlib.sha256(data).digest())
        digest.update(json.dumps([serial, list(agreed)]).encode())
        for name in self._aggregators:
            digest.update(bytes.fromhex(views[name]["nonce"]))
        for name, other in self._exchange(digest.digest()).items():
            if other != digest.digest():
                raise PeerMismatch(f"{name} and {self.name} do not agree on the clients that count: start all again")
        return agreed, digest.digest()

    def _exchange(self, message: bytes) -> dict[str, bytes]:
        """Everybody's message, one's own included, by aggregator in job order."""
        for other in self._others:
            send_bytes(self._transport, other, message)
        return {
            name: message if name == self.name else receive_bytes(self._transport, name) for name in self._aggregators
        }

    def _forget(self, client: str, reason: str) -> None:
        self._keys.pop(client, None)
        self._on_lost(client, reason)


def _introduction(name: str, text: bytes) -> dict[str, Any]:
    """What another aggregator shows the clients; they check it."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise ProtocolError(f"{name} sent a key for the clients that cannot be read: is it on another version?")
    return fields


def _view(name: str, serial: int, text: bytes) -> dict[str, Any]:
    """What another aggregator says of the answers."""
    try:
        view = json.loads(text)
        sound = view["serial"] == serial and len(bytes.fromhex(view["nonce"])) == _NONCE_BYTES
        sound = sound and all(isinstance(client, str) for client in view["clients"])
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise ProtocolError(f"{name} does not say which clients count for question {serial}: is it in step?")
    return dict(view)
