"""The disclosure ledger: every value that leaves the shared domain unmasked, who receives it and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Disclosure:
    """One entry of the ledger.

    Attributes
    ----------
    receiver
        The only participant that learns the value.
    value
        What it is, in words.
    why
        Why it is disclosed.
    shape
        Its public shape.
    round
        The communication round at which it left the shared domain; None at participants that do not count rounds.
    """

    receiver: str
    value: str
    why: str
    shape: tuple[int, ...]
    round: int | None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "shape": list(self.shape)}
