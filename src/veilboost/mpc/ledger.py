"""The disclosure ledger: every value that leaves the shared domain unmasked, who receives it and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

#: Receiver of what all participants of a job learn.
EVERYONE: Final = "everyone"


@dataclass(frozen=True)
class Disclosure:
    """One entry of the ledger.

    Attributes
    ----------
    receiver
        The only participant that learns the value, or "everyone".
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

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Disclosure:
        """The inverse of `to_dict`; TypeError, ValueError or KeyError where it is none."""
        receiver, value, why = (str(entry[name]) for name in ("receiver", "value", "why"))
        number = entry["round"]
        return cls(
            receiver, value, why, tuple(int(size) for size in entry["shape"]), None if number is None else int(number)
        )
