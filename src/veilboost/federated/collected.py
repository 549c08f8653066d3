"""Answers of clients after all aggregators have agreed on them, and one aggregator's shares in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from veilboost.federated.keys import ClientKeys
from veilboost.mpc.ring import Words


@dataclass(frozen=True)
class Collected:
    """The answers to a question, after all aggregators have agreed on them.

    Attributes
    ----------
    clients
        Whose answers count, in job order.
    shares
        This aggregator's share of each update; expanded when it is needed, but for the last aggregator.
    coins
        32 bytes to which all aggregators have contributed after the answers were in.
    """

    clients: tuple[str, ...]
    shares: Mapping[str, Callable[[], Words]]
    coins: bytes

    def __repr__(self) -> str:
        return f"Collected({len(self.clients)} clients, redacted)"


@dataclass(frozen=True)
class MaskShare:
    """The share of an aggregator but the last: expanded from a client's stream, every time anew."""

    keys: ClientKeys
    serial: int
    size: int

    def __call__(self) -> Words:
        return self.keys.mask(self.serial, self.size)


@dataclass(frozen=True)
class OpenedShare:
    """The last aggregator's share, from a box."""

    words: Words

    def __repr__(self) -> str:
        return "OpenedShare(redacted)"

    def __call__(self) -> Words:
        return self.words
