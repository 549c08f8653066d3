"""How questions reach clients, and answers the first aggregator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol

import numpy as np

from veilboost.errors import ParticipantError, ProtocolError
from veilboost.federated.messages import LARGEST_MESSAGE
from veilboost.mpc.transport.base import Transport

_SIZE_BYTES = 8
_LARGEST_LIST = 1 << 24
_LONGEST_SECONDS = 1e9


class Courier(Protocol):
    """Carries questions and answers; sees what is public and boxes that it cannot open."""

    def ask(self, questions: Mapping[str, bytes], seconds: float) -> dict[str, bytes]:
        """Ask clients, all at once; the answers of those who gave one in time.

        A client that has failed may be asked again, and then does not answer.
        """

    def close(self) -> None:
        """There are no more questions."""


class DirectCourier:
    """Connections with every client.

    Parameters
    ----------
    links
        By client a transport with that client alone, so that the loss of one is not the end of the others.
    on_lost
        Called with the name of a client that is lost, and the reason.
    largest
        Bytes of the largest answer of an honest client; none of another is waited for, or kept in memory.
    """

    def __init__(
        self,
        links: Mapping[str, Transport],
        on_lost: Callable[[str, str], None],
        largest: int = LARGEST_MESSAGE,
    ) -> None:
        self._largest = largest
        self._all, self._links = links, dict(links)
        self._on_lost = on_lost
        self._workers = ThreadPoolExecutor(max(1, len(self._links)), thread_name_prefix="ask")

    def ask(self, questions: Mapping[str, bytes], seconds: float) -> dict[str, bytes]:
        asked = {
            self._workers.submit(self._ask, client, question): client
            for client, question in questions.items()
            if client in self._links
        }
        finished, late = wait(asked, seconds)
        answers = {}
        for one in finished:
            try:
                answers[asked[one]] = one.result()
            except ParticipantError as error:
                self._drop(asked[one], str(error))
        for one in late:  # its thread ends with the connection
            self._drop(asked[one], f"{asked[one]} has not answered within {seconds:g} seconds")
        return answers

    @property
    def bytes_sent(self) -> dict[str, int]:
        """To each client."""
        return {client: link.bytes_sent[client] for client, link in self._all.items()}

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._workers.shutdown()

    def abandon(self, reason: str) -> None:
        """Leave, and tell the clients why."""
        for link in self._links.values():
            link.close(reason)
        self._workers.shutdown(wait=False)

    def _ask(self, client: str, question: bytes) -> bytes:
        link = self._links[client]
        send_bytes(link, client, question)
        return receive_bytes(link, client, self._largest)

    def _drop(self, client: str, reason: str) -> None:
        link = self._links.pop(client)
        link.close(reason)
        self._on_lost(client, reason)


class RelayedCourier:
    """A connection with somebody who reaches the clients: the server of a federated-learning platform.

    Parameters
    ----------
    transport, peer
        How the relay is reached.
    """

    def __init__(self, transport: Transport, peer: str) -> None:
        self._transport, self._peer = transport, peer

    def ask(self, questions: Mapping[str, bytes], seconds: float) -> dict[str, bytes]:
        send_batch(self._transport, self._peer, {"seconds": seconds}, questions)
        return receive_batch(self._transport, self._peer)[1]

    def close(self) -> None:
        send_batch(self._transport, self._peer, {"over": True}, {})


def relay(transport: Transport, peer: str, ask: Callable[[Mapping[str, bytes], float], dict[str, bytes]]) -> None:
    """What stands at the other end of a `RelayedCourier`: pass on every batch of questions until it is over."""
    while True:
        header, questions = receive_batch(transport, peer)
        if header.get("over"):
            return
        seconds = header.get("seconds")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < _LONGEST_SECONDS:
            raise ProtocolError(f"{peer} sent a batch of questions that cannot be read: is it on another version?")
        answers = ask(questions, float(seconds))
        send_batch(transport, peer, {}, {client: answers[client] for client in questions if client in answers})


def send_bytes(transport: Transport, peer: str, data: bytes) -> None:
    """A message whose size the receiver does not know."""
    transport.send(peer, np.frombuffer(len(data).to_bytes(_SIZE_BYTES, "big"), dtype=np.uint8))
    transport.send(peer, np.frombuffer(data, dtype=np.uint8))


def receive_bytes(transport: Transport, peer: str, largest: int = LARGEST_MESSAGE) -> bytes:
    """The next message of `send_bytes`, of at most so many bytes."""
    size = int.from_bytes(transport.receive(peer, _SIZE_BYTES).tobytes(), "big")
    if size > largest:
        raise ProtocolError(f"{peer} announces a message of {size} bytes: is it on another version?")
    return transport.receive(peer, size).tobytes()


def send_batch(transport: Transport, peer: str, header: Mapping[str, object], messages: Mapping[str, bytes]) -> None:
    """Messages by name, with a header for JSON."""
    sizes = {name: len(message) for name, message in messages.items()}
    send_bytes(transport, peer, json.dumps({"header": header, "sizes": sizes}).encode())
    send_bytes(transport, peer, b"".join(messages.values()))


def receive_batch(transport: Transport, peer: str) -> tuple[dict[str, object], dict[str, bytes]]:
    """The next batch of `send_batch`."""
    text = receive_bytes(transport, peer)
    joined = memoryview(receive_bytes(transport, peer))
    try:
        if len(text) > _LARGEST_LIST:
            raise ValueError
        fields = json.loads(text)
        header, sizes = fields["header"], fields["sizes"]
        sound = isinstance(header, dict) and all(type(size) is int and size >= 0 for size in sizes.values())
        sound = sound and sum(sizes.values()) == len(joined)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise ProtocolError(f"{peer} sent a batch that cannot be read: is it on another version?")
    messages, start = {}, 0
    for name, size in sizes.items():
        messages[name] = bytes(joined[start : start + size])
        start += size
    return header, messages
