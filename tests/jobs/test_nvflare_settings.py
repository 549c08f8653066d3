from pathlib import Path

import pytest
from tests.jobs.test_federated_spec import tables

from veilboost.errors import InputError, JobError, PeerLost
from veilboost.jobs.job import Job
from veilboost.jobs.nvflare_settings import (
    find_place,
    noting,
    nvflare_name,
    read_failure,
    settings_file,
    write_settings,
)
from veilboost.jobs.spec import job_from_dict, job_to_toml, load_job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "job.toml").write_text(job_to_toml(job_from_dict(tables())), encoding="utf-8")
    return load_job(tmp_path / "job.toml")


def test_settings_come_back(tmp_path: Path, job: Job) -> None:
    local = tmp_path / "local"
    write_settings(
        local,
        "north",
        file=tmp_path / "job.toml",
        certificates=tmp_path / "certs",
        table=tmp_path / 'odd "name".csv',
        out=tmp_path / "out",
    )
    place = find_place(local, "north", job.job_hash().hex())
    assert place.job_file == tmp_path / "job.toml"
    assert place.certificates == tmp_path / "certs"
    assert place.table == tmp_path / 'odd "name".csv'
    assert place.out == tmp_path / "out"


def test_relative_paths_start_at_the_settings(tmp_path: Path, job: Job) -> None:
    local = tmp_path / "local"
    local.mkdir()
    settings_file(local, "courier").write_text('[[job]]\nfile = "../job.toml"\ncertificates = "certs"\n')
    place = find_place(local, "courier", job.job_hash().hex())
    assert place.job_file.resolve() == tmp_path / "job.toml"
    assert place.certificates == local / "certs"
    assert place.table is None
    assert place.out is None


def test_the_job_is_found_among_several(tmp_path: Path, job: Job) -> None:
    other = tables()
    other["job"]["name"] = "another"
    (tmp_path / "other.toml").write_text(job_to_toml(job_from_dict(other)), encoding="utf-8")
    settings_file(tmp_path, "north").write_text(
        '[[job]]\nfile = "other.toml"\ncertificates = "a"\n[[job]]\nfile = "job.toml"\ncertificates = "b"\n'
    )
    assert find_place(tmp_path, "north", job.job_hash().hex()).certificates == tmp_path / "b"
    assert find_place(tmp_path, "north", load_job(tmp_path / "other.toml").job_hash().hex()).certificates.name == "a"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[job]]\nfile = "job.toml"\ncertificates = "c"\n', "which is not the submitted job"),
        ("", "lists no job"),
        ('[[job]]\nfile = "job.toml"\n', "key 'certificates': is missing"),
        ('[[job]]\nfile = "job.toml"\ncertificates = "c"\ntabel = "t"\n', "unknown key 'tabel'"),
        ('[job]\nfile = "job.toml"\ncertificates = "c"\n', "double square brackets"),
        ('[[site]]\nfile = "job.toml"\n', "unknown table 'site'"),
        ('[[job]]\nfile = "absent.toml"\ncertificates = "c"\n', "there is no such job file"),
        ("[[job]\n", "is not valid TOML"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, job: Job, text: str, says: str) -> None:
    settings_file(tmp_path, "north").write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        find_place(tmp_path, "north", "00" * 32)
    assert "\n" not in str(caught.value)


def test_absent_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"veilboost-north\.toml: cannot be read"):
        find_place(tmp_path, "north", "00" * 32)


def test_a_failure_is_noted_for_this_place_alone(tmp_path: Path) -> None:
    assert read_failure(tmp_path) is None
    with pytest.raises(JobError), noting(tmp_path / "north"):
        raise JobError("north.csv: row 3: mend it")
    assert read_failure(tmp_path / "north") == {"kind": "InputError", "message": "north.csv: row 3: mend it"}
    with pytest.raises(PeerLost), noting(tmp_path / "north"):
        raise PeerLost("aggregator1 is lost")
    assert read_failure(tmp_path / "north") == {"kind": "PeerLost", "message": "aggregator1 is lost"}


def test_what_is_unexpected_is_not_noted(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), noting(tmp_path):
        raise ZeroDivisionError("a value of the table")
    with noting(tmp_path):
        pass
    assert read_failure(tmp_path) is None


def test_name_suits_nvflare_and_tells_jobs_apart(job: Job) -> None:
    other = tables()
    other["job"]["name"] = "title with blanks / and ümlauts"
    renamed = job_from_dict(other)
    assert nvflare_name(job) != nvflare_name(renamed)
    assert nvflare_name(renamed).replace("-", "").isalnum()
