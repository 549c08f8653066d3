"""What is asked of clients, and how their answers look.

A question is JSON, the same bytes for every client, and all aggregators know these bytes: they follow from what is
public. An answer is a line of JSON and, where an update is asked for, a box that only the last aggregator can open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from veilboost.errors import ProtocolError

#: What can be asked. "hello" opens an epoch, "trees" lets a client catch up, "done" is the end; the others ask for
#: sums, each exactly once in an epoch.
KINDS = ("hello", "trees", "edges", "labels", "level", "leaves", "loss", "done")
SUMS = ("edges", "labels", "level", "leaves", "loss")
SETUP = ("edges", "labels")

#: No message of an honest participant is larger.
LARGEST_MESSAGE = 1 << 31

#: Of an answer: room for the boxes of a thousand aggregators.
LARGEST_HEADER = 1 << 18

#: What is nested deeper than an honest header could be read here, and then not be written again for the others.
_MOST_BRACKETS = 64


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes
    ----------
    kind
        One of `KINDS`.
    serial
        Number of the question in its epoch.
    tree, attempt, level
        Of the tree that is being grown; `attempt` counts how often this level has been asked for. Of "edges", `level`
        is the step of the search.
    content
        What else the kind needs, for JSON.
    """

    kind: str
    serial: int
    tree: int = 0
    attempt: int = 0
    level: int = 0
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> tuple[int, int, int, int, int]:
        """What rises from every question for sums to the next in an epoch.

        Cuts, then labels come before all trees; the losses after so many trees before the sums for the next.
        """
        return self.serial, SETUP.index(self.kind) if self.kind in SETUP else len(SETUP), self.tree, *self._step

    @property
    def _step(self) -> tuple[int, int]:
        return (-1, 0) if self.kind == "loss" else (self.level, self.attempt)

    def to_bytes(self) -> bytes:
        return json.dumps(
            {
                "kind": self.kind,
                "serial": self.serial,
                "tree": self.tree,
                "attempt": self.attempt,
                "level": self.level,
                "content": self.content,
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Question:
        """Raises ProtocolError where it is none."""
        try:
            fields = json.loads(data)
            question = cls(**fields)
            numbers = (question.serial, question.tree, question.attempt, question.level)
            sound = question.kind in KINDS and isinstance(question.content, dict)
            sound = sound and all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)
        except (ValueError, TypeError, RecursionError):
            sound = False
        if not sound:
            raise ProtocolError("the server sent a question that cannot be read: is it on another version?")
        return question


@dataclass(frozen=True)
class Answer:
    """One client's answer.

    Attributes
    ----------
    header
        For JSON.
    box
        Sealed for the last aggregator; empty where no sums were asked for.
    """

    header: Mapping[str, Any]
    box: bytes = b""

    def __repr__(self) -> str:
        return f"Answer({len(self.box)} bytes)"

    def to_bytes(self) -> bytes:
        header = json.dumps(self.header, sort_keys=True, separators=(",", ":")).encode()
        return len(header).to_bytes(4, "big") + header + self.box

    @classmethod
    def from_bytes(cls, data: bytes) -> Answer | None:
        """None where it cannot be read."""
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 or size > min(LARGEST_HEADER, len(data) - 4):
            return None
        if sum(data.count(bracket, 4, 4 + size) for bracket in (b"[", b"{")) > _MOST_BRACKETS:
            return None
        try:
            header = json.loads(data[4 : 4 + size])
        except (ValueError, RecursionError):
            return None
        return cls(header, bytes(data[4 + size :])) if isinstance(header, dict) else None


def text_of(header: Mapping[str, Any], name: str, length: int | None = None) -> str | None:
    """A field that must be text, of the given length; None where it is not."""
    value = header.get(name)
    if not isinstance(value, str) or (length is not None and len(value) != length):
        return None
    return value


def octets_of(header: Mapping[str, Any], name: str, length: int | None = None) -> bytes | None:
    """A field that must be bytes in hexadecimal, so many of them; None where it is not."""
    text = text_of(header, name, None if length is None else 2 * length)
    try:
        octets = None if text is None else bytes.fromhex(text)
    except ValueError:
        return None
    # Space between digits is read over, so that text of the right length may be too few bytes.
    return None if octets is None or (length is not None and len(octets) != length) else octets
