import json
from pathlib import Path

import pytest
from tests.jobs.test_federated_spec import tables

from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.job import Job
from veilboost.jobs.nvflare_settings import nvflare_name, settings_file, write_settings
from veilboost.jobs.spec import job_from_dict, job_to_toml, load_job

deploy = pytest.importorskip("veilboost.jobs.nvflare_deploy")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "job.toml").write_text(job_to_toml(job_from_dict(tables())), encoding="utf-8")
    job = load_job(tmp_path / "job.toml")
    write_certificates(job.roles, tmp_path / "certs")
    return job


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What the command says when it refuses: one line on standard error, exit status 2."""
    assert deploy.main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


def test_project_has_a_site_per_party(tmp_path: Path, job: Job) -> None:
    out = tmp_path / "project.json"
    assert deploy.main(["project", str(tmp_path / "job.toml"), "--server", "flare.example.org", "--out", str(out)]) == 0
    participants = json.loads(out.read_text())["participants"]
    assert [one["name"] for one in participants if one["type"] == "client"] == list(job.party_names)
    assert [one["fed_learn_port"] for one in participants if one["type"] == "server"] == [8002]


def test_check_reads_what_the_place_will_read(tmp_path: Path, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    name = job.party_names[0]
    party = job.party(name)
    values = {feature.name: (feature.levels or ("1",))[0] for feature in job.features}
    header = list(party.columns)
    rows = [[values.get(column, "0") for column in header] for _ in range(25)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    paths = {"file": tmp_path / "job.toml", "certificates": tmp_path / "certs", "out": tmp_path / "out"}
    words = ("check", tmp_path / "kit", tmp_path / "job.toml", "--name", name)
    assert f"veilboost-{name}.toml: cannot be read" in refusal(capsys, *words)
    write_settings(tmp_path / "kit" / "local", name, **paths)
    assert "needs table and out at a site" in refusal(capsys, *words)
    write_settings(tmp_path / "kit" / "local", name, **paths, table=tmp_path / "absent.csv")
    assert "absent.csv" in refusal(capsys, *words)
    write_settings(tmp_path / "kit" / "local", name, **paths, table=table)
    assert deploy.main([str(word) for word in words]) == 0
    assert capsys.readouterr().out == f"{name} is ready, with 25 rows\n"
    (tmp_path / "certs" / f"{name}.key").unlink()
    assert f"{name}.key" in refusal(capsys, *words)


def test_check_of_the_courier_needs_no_table(tmp_path: Path, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    local = tmp_path / "kit" / "local"
    write_settings(local, "courier", file=tmp_path / "job.toml", certificates=tmp_path / "certs")
    assert deploy.main(["check", str(tmp_path / "kit"), str(tmp_path / "job.toml"), "--name", "courier"]) == 0
    settings_file(local, "courier").write_text("")
    capsys.readouterr()
    assert "not the submitted job" in refusal(
        capsys, "check", tmp_path / "kit", tmp_path / "job.toml", "--name", "courier"
    )
    assert "neither 'courier' nor a party" in refusal(
        capsys, "check", tmp_path / "kit", tmp_path / "job.toml", "--name", "nobody"
    )


def test_restrict_refuses_what_is_no_kit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no start kit of NVFlare" in refusal(capsys, "restrict", tmp_path)


def test_a_job_on_secret_shares_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tables()
    given["job"]["method"] = "smpc"
    for name in ("aggregator", "federated"):
        given.pop(name, None)
    (tmp_path / "job.toml").write_text(job_to_toml(job_from_dict(given)), encoding="utf-8")
    assert "NVFlare is for federated jobs" in refusal(capsys, "export", tmp_path / "job.toml", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_export_names_the_hash_and_brings_no_code(tmp_path: Path, job: Job) -> None:
    pytest.importorskip("nvflare", reason="NVFlare comes with the federated extra")
    assert deploy.main(["export", str(tmp_path / "job.toml"), "--out", str(tmp_path / "nv")]) == 0
    folder = tmp_path / "nv" / nvflare_name(job)
    assert job.job_hash().hex() in (folder / "app" / "config" / "config_fed_client.json").read_text()
    assert job.job_hash().hex() in (folder / "app" / "config" / "config_fed_server.json").read_text()
    assert not list(folder.rglob("*.py"))
