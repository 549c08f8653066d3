"""The files that a role leaves in its folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from veilboost.errors import InputError

#: What a role or `veilboost train` may write, apart from certificates.
RESULTS = ("model.json", "model.share", "report.json", "ledger.json", "report.html")


def prepare_folder(directory: Path) -> None:
    """Make a folder for results, and remove those of an earlier run from it; InputError when it cannot be written."""
    with writing(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable")
        for name in RESULTS:
            for one in (directory / name, directory / f"{name}.partial", directory / f"{name}.unfinished"):
                one.unlink(missing_ok=True)


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
