"""What an NVFlare job runs: the courier at the server, and a client at every site."""

from __future__ import annotations

import os
from pathlib import Path

from veilboost.errors import InputError, VeilboostError
from veilboost.federated.client import Client
from veilboost.federated.nvflare_app import Ask, Courier, Site
from veilboost.jobs import federation
from veilboost.jobs.entries import COURIER
from veilboost.jobs.nvflare_settings import DONE, FAILURE, Place, find_place, noting, settings_file
from veilboost.jobs.process import reuse_memory
from veilboost.jobs.results import write_json, writing
from veilboost.jobs.role import WAIT_SECONDS


class JobCourier(Courier):
    """Carries the questions of the lead aggregator of one job.

    Parameters
    ----------
    job
        Hash of the job file, in hexadecimal.
    """

    def __init__(self, job: str) -> None:
        self.job = job

    def carry(self, local: Path, ask: Ask) -> None:
        place = find_place(local, COURIER, self.job)
        with noting(place.out):
            federation.run_courier(place.job_file, place.certificates, ask, WAIT_SECONDS)
        if place.out is not None:
            with writing(place.out):
                place.out.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_json(place.out / DONE, {"job": self.job})


class JobSite(Site):
    """Answers as a client of one job, from its own table.

    Parameters
    ----------
    job
        Hash of the job file, in hexadecimal.
    """

    def __init__(self, job: str) -> None:
        super().__init__()
        self.job = job
        self._place: Place | None = None
        self._client: Client | None = None
        self._refusal: VeilboostError | None = None
        self._finished = False

    def reply(self, local: Path, name: str, question: bytes) -> bytes:
        if self._refusal is not None:
            raise self._refusal
        if self._place is None:
            os.umask(0o077)
            reuse_memory()
            self._place = find_place(local, name, self.job)
        with noting(self._place.out):
            if self._client is None:
                try:
                    self._client = _open(self._place, local, name)
                except VeilboostError as error:
                    self._refusal = error  # a table that is refused once is not read again for every question
                    raise
            answer = self._client.answer(question)
            if self._client.done and not self._finished:
                assert self._place.out is not None
                federation.finish_client(self._client, self._place.out)
                self._finished = True
            return answer


def _open(place: Place, local: Path, name: str) -> Client:
    path = settings_file(local, name)
    if place.table is None:
        raise InputError(f"{path}: [[job]] has no table: add table, the file with the rows of {name}")
    if place.out is None:
        raise InputError(f"{path}: [[job]] has no out: add out, a folder for the model")
    with writing(place.out):
        place.out.mkdir(mode=0o700, parents=True, exist_ok=True)
        (place.out / FAILURE).unlink(missing_ok=True)
    return federation.open_client(place.job_file, name, place.table, place.out, place.certificates)
