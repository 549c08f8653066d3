"""The files that a role leaves in its folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from veilboost.errors import InputError
from veilboost.mpc.ledger import Disclosure

#: What a role or `veilboost train` may write, apart from certificates.
RESULTS = ("model.json", "model.share", "report.json", "ledger.json", "report.html")


#: The result that a resumed training goes on with: what was disclosed stays disclosed.
LEDGER = "ledger.json"


def prepare_folder(directory: Path, *, keep_ledger: bool = False) -> None:
    """Make a folder for results, and remove those of an earlier run from it; InputError when it cannot be written."""
    with writing(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable")
        for name in RESULTS:
            for one in (directory / name, directory / f"{name}.partial", directory / f"{name}.unfinished"):
                if not (keep_ledger and one.name == LEDGER):
                    one.unlink(missing_ok=True)


def write_ledger(directory: Path | None, ledger: Sequence[Disclosure]) -> None:
    """Write the ledger of a role that keeps results."""
    if directory is not None:
        with writing(directory):
            write_json(directory / LEDGER, [entry.to_dict() for entry in ledger])


def read_ledger(directory: Path | None) -> list[Disclosure]:
    """What earlier starts of a training have disclosed; nothing where there is no ledger.

    Raises
    ------
    InputError
        When the file is none.
    """
    if directory is None or not (directory / LEDGER).exists():
        return []
    try:
        entries = json.loads((directory / LEDGER).read_text(encoding="utf-8"))
        return [Disclosure.from_dict(entry) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise InputError(f"{directory / LEDGER}: is damaged: move it away, and keep it") from None


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn failures to write into the directory into InputError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InputError(f"{directory}: cannot be written ({why}): choose another folder with --out") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON at once or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
