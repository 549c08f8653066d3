"""Tools for an NVFlare deployment between organisations.

::

    python -m veilboost.jobs.nvflare_deploy project JOB.toml --server HOST --port PORT --out project.json
    python -m veilboost.jobs.nvflare_deploy restrict KIT
    python -m veilboost.jobs.nvflare_deploy check KIT --name NAME JOB.toml
    python -m veilboost.jobs.nvflare_deploy export JOB.toml --out DIR

`project` writes a project for `nvflare provision`, `restrict` takes from a start kit what federated training does not
need, `check` reads the settings of a place as it will be read, and `export` writes the NVFlare job to submit.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from veilboost.errors import InputError, VeilboostError
from veilboost.jobs.certificates import load_tls
from veilboost.jobs.entries import COURIER
from veilboost.jobs.inputs import read_table
from veilboost.jobs.job import Job
from veilboost.jobs.nvflare_kits import project, restrict_kit
from veilboost.jobs.nvflare_settings import find_place, nvflare_name, settings_file
from veilboost.jobs.results import writing
from veilboost.jobs.spec import load_job


def main(arguments: list[str]) -> int:
    """Run one of the commands; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m veilboost.jobs.nvflare_deploy")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("project")
    one.add_argument("job", type=Path)
    one.add_argument("--server", required=True)
    one.add_argument("--port", type=int, default=8002)
    one.add_argument("--out", type=Path, required=True)
    one = commands.add_parser("restrict")
    one.add_argument("kit", type=Path)
    one = commands.add_parser("check")
    one.add_argument("kit", type=Path)
    one.add_argument("job", type=Path)
    one.add_argument("--name", required=True)
    one = commands.add_parser("export")
    one.add_argument("job", type=Path)
    one.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        print(_run(given))
    except VeilboostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(given: argparse.Namespace) -> str:
    if given.command == "restrict":
        restrict_kit(given.kit)
        return f"{given.kit}: allows jobs of veilboost and nothing else"
    job = load_job(given.job)
    if job.federated is None:
        raise InputError(f"{given.job}: the job is {job.method}: NVFlare is for federated jobs")
    if given.command == "check":
        return check(given.kit, given.name, job)
    if given.command == "export":
        return f"wrote {export(job, given.out)}: submit it with nvflare job submit"
    with writing(given.out.parent):
        given.out.write_text(json.dumps(project(given.server, given.port, job.party_names), indent=2) + "\n")
    return f"wrote {given.out}: make the start kits with nvflare provision -p {given.out}"


def check(kit: Path, name: str, job: Job) -> str:
    """Whether a place is ready for a job: settings, certificate and table.

    Parameters
    ----------
    name
        The site's name, or "courier" at the server.

    Raises
    ------
    InputError
        When it is not.
    """
    if name not in (*job.party_names, COURIER):
        raise InputError(f"--name {name}: is neither '{COURIER}' nor a party: they are {', '.join(job.party_names)}")
    local = kit / "local"
    place = find_place(local, name, job.job_hash().hex())
    load_tls(place.certificates, name)
    if name == COURIER:
        return f"{name} is ready"
    if place.table is None or place.out is None:
        raise InputError(f"{settings_file(local, name)}: [[job]] needs table and out at a site: add them")
    rows = read_table(job, name, place.table, str(place.table)).rows
    return f"{name} is ready, with {rows} rows"


def export(job: Job, out: Path) -> Path:
    """Write the NVFlare job, which names classes and the hash of the job file; its folder."""
    from veilboost.federated.nvflare_app import write_job
    from veilboost.jobs.nvflare_roles import JobCourier, JobSite

    assert job.federated is not None
    job_hash = job.job_hash().hex()
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        return write_job(nvflare_name(job), JobCourier(job_hash), JobSite(job_hash), job.federated.min_clients, out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
