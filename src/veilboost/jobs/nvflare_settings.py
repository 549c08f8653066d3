"""Settings of the places of an NVFlare deployment, and what a place notes when it fails.

A place, the server or a site, reads its settings from `veilboost-NAME.toml` in the folder `local` of its start kit;
NAME is the site's, or "courier" at the server. NVFlare never sends this file; what stands in resources.json it would
tell the server::

    [[job]]                            one for every job that this place takes part in
    file = "/srv/veilboost/job.toml"   the job file, the same bytes at every participant
    certificates = "/srv/veilboost/certs"
    table = "/srv/veilboost/north.csv"   sites only: CSV or Parquet
    out = "/srv/veilboost/out"           sites: for the model and what the client must remember

Relative paths start at the file's own folder. The submitted job names the hash of its job file, and a place runs it
only if one of its own job files has this hash: what is trained is what was agreed.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from veilboost.errors import InputError, JobError, VeilboostError
from veilboost.jobs.entries import TableEntry, check_keys, read_entry
from veilboost.jobs.job import Job
from veilboost.jobs.results import write_json, writing
from veilboost.jobs.spec import load_job
from veilboost.jobs.toml_text import parse_toml, write_toml

#: What a place leaves in `out` when it could not go on: `kind` and `message`. Only this place sees it.
FAILURE = "failure.json"


#: What the courier leaves in its `out` when the lead aggregator has let it go.
DONE = "done.json"


def nvflare_name(job: Job) -> str:
    """Name of the NVFlare job: titles of jobs are free text, NVFlare's are not."""
    return f"veilboost-{job.job_hash().hex()[:16]}"


class PlaceEntry(TableEntry):
    """One [[job]] of a place: see the top of this file. Empty text stands for a key that is missing."""

    file: str
    certificates: str
    table: str = ""
    out: str = ""


class Place:
    """Where the files of one job are at one place.

    Attributes
    ----------
    job
        As the job file has it.
    job_file, certificates
        As named in the settings.
    table, out
        None where the settings have none.
    """

    def __init__(self, entry: PlaceEntry, base: Path) -> None:
        self.job = load_job(base / entry.file)
        self.job_file, self.certificates = base / entry.file, base / entry.certificates
        self.table = base / entry.table if entry.table else None
        self.out = base / entry.out if entry.out else None


def settings_file(local: Path, name: str) -> Path:
    """Where the place of that name has its settings."""
    return local / f"veilboost-{name}.toml"


def write_settings(local: Path, name: str, **paths: Path) -> None:
    """Write the settings of a place that takes part in one job; the keys are those of [[job]]."""
    text = write_toml([("[[job]]", {key: str(path) for key, path in paths.items()})])
    with writing(local):
        local.mkdir(parents=True, exist_ok=True)
        settings_file(local, name).write_text(text, encoding="utf-8")


def find_place(local: Path, name: str, job_hash: str) -> Place:
    """The settings of this place for the submitted job.

    Parameters
    ----------
    local
        The folder `local` of the start kit.
    job_hash
        In hexadecimal, from the submitted job.

    Raises
    ------
    InputError
        No settings, or something wrong with them, or no job file with this hash.
    """
    path = settings_file(local, name)
    try:
        tables = parse_toml(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): write the settings of this place there") from None
    check_keys(tables, ("job",), str(path), what="table")
    entries = tables.get("job", [])
    if not isinstance(entries, list):
        raise JobError(f"{path}: write [[job]] in double square brackets")
    where = [f"{path}: [[job]] number {number}" for number in range(1, len(entries) + 1)]
    places = [Place(read_entry(PlaceEntry, entry, at), path.parent) for entry, at in zip(entries, where, strict=True)]
    for place in places:
        if place.job.job_hash().hex() == job_hash:
            return place
    files = ", ".join(str(place.job_file) for place in places) or "no job"
    raise InputError(
        f"{path}: lists {files}, which is not the submitted job: every participant needs the same bytes of the job file"
    )


class noting:  # noqa: N801  a context manager that reads like a function
    """Write what goes wrong to the place's own folder."""

    def __init__(self, out: Path | None) -> None:
        self._out = out

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._out is not None and isinstance(error, VeilboostError):
            name = "InputError" if isinstance(error, InputError) else type(error).__name__
            with contextlib.suppress(OSError):
                self._out.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_json(self._out / FAILURE, {"kind": name, "message": str(error)})


def read_failure(out: Path) -> dict[str, str] | None:
    """What a place has noted in its folder; None if nothing."""
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, str] = json.loads((out / FAILURE).read_text(encoding="utf-8"))
        return found
    return None
