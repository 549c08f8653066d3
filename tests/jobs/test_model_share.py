"""The file in which an owner keeps its share of a model; that all shares add up is checked in test_run.py."""

from pathlib import Path

import pytest
from tests.processes.support import Case, make_case, run_roles

from veilboost.errors import InputError
from veilboost.jobs.certificates import load_storage_key
from veilboost.jobs.model_share import FILE_NAME, load_share


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = make_case(tmp_path_factory.mktemp("trained"), n_estimators=1)
    run_roles(case, case.folder / "out")
    return case


def key_of(case: Case, owner: str) -> bytes:
    return load_storage_key(case.certificates, owner)


def test_file_is_for_its_owner_only(trained: Case) -> None:
    path = trained.folder / "out" / "north" / FILE_NAME
    assert path.stat().st_mode & 0o077 == 0
    assert not list(path.parent.glob("*.partial"))
    other = (trained.folder / "out" / "south" / FILE_NAME).read_bytes()
    assert path.read_bytes()[:40] != other[:40]
    for name in load_share(path.parent, key_of(trained, "north"), trained.job.job_hash(), "north"):
        assert name.encode() not in path.read_bytes()


def test_other_key_job_or_owner_is_refused(trained: Case, tmp_path: Path) -> None:
    folder = trained.folder / "out" / "north"
    own, job = key_of(trained, "north"), trained.job.job_hash()
    another_job = make_case(tmp_path).job.job_hash()
    for key, job_hash, owner in (
        (key_of(trained, "south"), job, "north"),
        (own, another_job, "north"),
        (own, job, "south"),
    ):
        with pytest.raises(InputError, match=f"{FILE_NAME}: is damaged, or belongs to another job"):
            load_share(folder, key, job_hash, owner)


def test_edited_file_is_refused(trained: Case, tmp_path: Path) -> None:
    sound = (trained.folder / "out" / "north" / FILE_NAME).read_bytes()
    key, job = key_of(trained, "north"), trained.job.job_hash()
    for place in (0, 1, 12, 13, 40, len(sound) // 2, len(sound) - 1):
        edited = bytearray(sound)
        edited[place] ^= 1
        (tmp_path / FILE_NAME).write_bytes(edited)
        with pytest.raises(InputError, match=FILE_NAME):
            load_share(tmp_path, key, job, "north")
    for length in (0, 1, 5, 13, 20, len(sound) - 1):
        (tmp_path / FILE_NAME).write_bytes(sound[:length])
        with pytest.raises(InputError, match=FILE_NAME):
            load_share(tmp_path, key, job, "north")
    (tmp_path / FILE_NAME).write_bytes(sound)
    assert load_share(tmp_path, key, job, "north")


def test_missing_file_is_refused(trained: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{FILE_NAME}: cannot be read"):
        load_share(tmp_path, key_of(trained, "north"), trained.job.job_hash(), "north")
