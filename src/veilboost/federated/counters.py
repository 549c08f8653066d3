"""What a client has answered: written down before the answer leaves, so that no question is answered twice.

Masks are safe without it, since every epoch has fresh keys and a restarted client has none of the old ones. It is here
so that a copy of a client's machine, or a server that asks again, does not get a second answer in the same epoch.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from veilboost.errors import InputError, ProtocolError

Place = tuple[int, ...]


class Counters:
    """The places of the questions answered, on disk.

    Parameters
    ----------
    path
        The file; None keeps them in memory, for tests.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._epoch = ""
        self._last: Place = ()
        self._closed = set(self._read())

    def refuse(self, epoch: bytes) -> None:
        """Refuse an epoch that has been here before; ProtocolError."""
        if epoch.hex() in self._closed:
            raise ProtocolError("the server has opened an epoch a second time: this client does not answer")

    def begin(self, epoch: bytes) -> None:
        """Begin an epoch, which ends all others for ever.

        Parameters
        ----------
        epoch
            What the aggregators have drawn for it.

        Raises
        ------
        ProtocolError
            The epoch has been here before.
        """
        self.refuse(epoch)
        self._epoch, self._last = epoch.hex(), ()
        self._closed.add(self._epoch)
        self._write()

    def check(self, place: Place) -> None:
        """Refuse a question that may not be answered.

        Parameters
        ----------
        place
            First the serial number, by which masks and nonces are told apart, then what is asked for. Both rise from
            every question to the next: neither is a mask used twice, nor the same asked twice under another number.

        Raises
        ------
        ProtocolError
            No later than one that has been answered.
        """
        later = not self._last or (place[:1] > self._last[:1] and place[1:] > self._last[1:])
        if not self._epoch or not later:
            raise ProtocolError("the server has asked a question a second time: this client does not answer")

    def take(self, place: Place) -> None:
        """Enter the place of a question that is about to be answered; on disk when this returns.

        Raises
        ------
        ProtocolError
            As `check`.
        """
        self.check(place)
        self._last = place
        self._write()

    def _read(self) -> list[str]:
        if self._path is None or not self._path.exists():
            return []
        try:
            entry = json.loads(self._path.read_text(encoding="ascii"))
            return [str(epoch) for epoch in entry["epochs"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise InputError(
                f"{self._path}: is damaged, and says what this client has answered: move the folder away to begin anew"
            ) from None

    def _write(self) -> None:
        if self._path is None:
            return
        partial = self._path.with_name(self._path.name + ".partial")
        content = json.dumps({"epochs": sorted(self._closed), "epoch": self._epoch, "last": list(self._last)})
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            raise InputError(
                f"{self._path}: cannot be written ({error.strerror}): make room, or check its folder"
            ) from None
