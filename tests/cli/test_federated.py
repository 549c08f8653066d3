"""Commands for federated jobs: what they refuse with one line and status 2, and what they draft."""

import importlib.util
from pathlib import Path

import pytest
from tests.cli.test_refusals import Refused, refused  # noqa: F401  a fixture
from tests.jobs.test_draft import run_main
from tests.jobs.test_federated_spec import tables
from tests.processes.support import draw_rows, free_ports, make_case

from veilboost.jobs.certificates import write_certificates
from veilboost.jobs.spec import job_from_dict, job_to_toml, load_job


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """A federated job on free ports."""
    given = tables()
    for one, port in zip((*given["party"], *given["aggregator"], given["dealer"]), free_ports(6), strict=True):
        one["address"] = f"127.0.0.1:{port}"
    path = tmp_path / "job.toml"
    path.write_text(job_to_toml(job_from_dict(given)))
    return path


@pytest.mark.parametrize("command", ["train", "dealer", "analyst", "aggregator"])
def test_engines(refused: Refused, tmp_path: Path, job_file: Path, command: str) -> None:  # noqa: F811
    words: list[str | Path] = [command, job_file, "--out", tmp_path / "out"]
    words += ["--certs", tmp_path / "certs"] if command != "train" else []
    words += ["--name", "ministry"] if command == "aggregator" else []
    assert "--engine flower: must be embedded or nvflare" in refused(*words, "--engine", "flower")
    words[1] = make_case(tmp_path / "case").path
    assert "--engine nvflare: is for federated jobs, and this one is smpc" in refused(*words, "--engine", "nvflare")


def test_party_has_no_engine(refused: Refused, tmp_path: Path, job_file: Path) -> None:  # noqa: F811
    words = ["party", job_file, "--name", "north", "--data", "x.csv", "--certs", tmp_path]
    assert "--engine" in refused(*words, "--engine", "nvflare")


@pytest.mark.skipif(importlib.util.find_spec("nvflare") is not None, reason="NVFlare is installed")
def test_nvflare_that_is_not_installed(refused: Refused, tmp_path: Path, job_file: Path) -> None:  # noqa: F811
    line = refused("train", job_file, "--out", tmp_path / "out", "--engine", "nvflare")
    assert line.endswith("which is not installed: pip install 'veilboost[federated]'")
    assert not (tmp_path / "out").exists()


def test_aggregators(refused: Refused, tmp_path: Path, job_file: Path) -> None:  # noqa: F811
    words = ["--certs", tmp_path / "certs", "--name", "north"]
    line = refused("aggregator", job_file, *words)
    assert "--name north: the job has no such aggregator: it has ministry, charity" in line
    line = refused("aggregator", make_case(tmp_path / "case").path, *words)
    assert "the job is smpc, which has no aggregators" in line


def test_parties_and_analyst(refused: Refused, tmp_path: Path, job_file: Path) -> None:  # noqa: F811
    line = refused("party", job_file, "--name", "ministry", "--data", "x.csv", "--certs", tmp_path)
    assert "--name ministry: the job has no such party: it has north, south, west" in line
    assert "the analyst needs --out DIR" in refused("analyst", job_file, "--certs", tmp_path)


def test_data_of_an_aggregator(refused: Refused, tmp_path: Path, job_file: Path) -> None:  # noqa: F811
    line = refused("train", job_file, "--out", tmp_path / "out", "--data", "ministry=x.csv")
    assert "the job has no party 'ministry': it has north, south, west" in line


def test_certificates_of_another_method(refused: Refused, tmp_path: Path, job_file: Path) -> None:  # noqa: F811
    """A job on secret shares that has become federated has more roles."""
    job = load_job(job_file)
    write_certificates([*job.party_names, "dealer", "university"], tmp_path / "out" / "certs")
    header = ",".join(job.parties[0].columns)  # of the tables of all clients
    (tmp_path / "table.csv").write_text(f"{header}\n")
    data = [word for name in job.party_names for word in ("--data", f"{name}={tmp_path}/table.csv")]
    line = refused("train", job_file, "--out", tmp_path / "out", *data)
    assert "certs: belongs to a job with other participants: choose another folder" in line


def test_certs_of_a_federated_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job_file: Path) -> None:
    assert run_main(monkeypatch, "certs", job_file, "--out", tmp_path / "certs") == 0
    roles = ("north", "south", "west", "ministry", "charity", "dealer", "courier", "university")
    wanted = {f"{role}{ending}" for role in roles for ending in (".pem", ".key", ".storage.key")}
    assert {path.name for path in (tmp_path / "certs").iterdir()} == wanted | {"ca.pem", "ca.key"}


def hospitals(folder: Path, drop: str = "") -> list[str]:
    """The options for three tables of the same columns; the last may lack one."""
    options = []
    for seed, name in enumerate(("north", "south", "west")):
        table = draw_rows(60, seed)
        (table.drop(drop) if drop and name == "west" else table).write_csv(folder / f"{name}.csv")
        options += ["--data", f"{name}={folder / name}.csv"]
    return options


def test_describe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    words = ["describe", *hospitals(tmp_path), "--label", "ms", "--method", "federated", "--out", path]
    assert run_main(monkeypatch, *words) == 0
    assert "the two aggregators are on this machine, for trying out" in capsys.readouterr().out
    job = load_job(path)
    assert (job.method, job.label_holders) == ("federated", ("north", "south", "west"))
    text = path.read_text()
    for number, port in ((1, 7104), (2, 7105)):
        assert f'[[aggregator]]\nname = "aggregator{number}"\naddress = "127.0.0.1:{port}"\n' in text
    assert job.features[3].levels == ("er", "gp", "ward")


@pytest.mark.parametrize(
    ("drop", "words", "expected"),
    [
        ("age", [], "west.csv: there is no column 'age', which"),
        ("ms", [], "west.csv: there is no column 'ms', which"),
        ("", ["--id", "age"], "--id age: is not used by federated: leave it out"),
        ("", ["--method", "flower"], "--method flower: must be smpc or federated"),
        ("", ["--label", "ill"], "--label ill: no table has this column"),
    ],
)
def test_describe_refuses(
    refused: Refused,  # noqa: F811
    tmp_path: Path,
    drop: str,
    words: list[str],
    expected: str,
) -> None:
    path = tmp_path / "job.toml"
    given = ["describe", *hospitals(tmp_path, drop), "--label", "ms", "--method", "federated", "--out", path]
    assert expected in refused(*given, *words)
    assert not path.exists()
