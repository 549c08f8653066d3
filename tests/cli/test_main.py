"""The command line itself: version, help, wrong usage. Commands run in the test's own process where they can."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes.support import make_case, veilboost

from veilboost import __version__
from veilboost.cli import main

COMMANDS = ("demo", "describe", "train", "certs", "party", "aggregator", "dealer", "analyst")

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command: exit status, standard output, standard error."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["veilboost", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


def test_version_as_a_process() -> None:
    result = veilboost("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"veilboost {__version__}\n", "")


@pytest.mark.parametrize("words", [("--help",), ()])
def test_help_names_all_commands(cli: Cli, words: tuple[str, ...]) -> None:
    status, out, err = cli(*words)
    assert (status, err) == (0, "")
    for command in COMMANDS:
        assert f" {command} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(cli: Cli, command: str) -> None:
    status, out, err = cli(command, "--help")
    assert (status, err) == (0, "")
    assert "--events" not in out  # for `veilboost train` only
    assert "--out" in out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("trian", "job.toml"), "trian"),
        (("train", "--fast", "job.toml"), "--fast"),
        (("train",), "JOB.toml"),
        (("train", "job.toml"), "--out"),
        (("party", "job.toml", "--name", "north", "--data", "x.csv"), "--certs"),
        (("party", "job.toml", "--certs", "certs", "--data", "x.csv"), "--name"),
        (("party", "job.toml", "--certs", "certs", "--name", "north"), "--data"),
        (("aggregator", "job.toml", "--certs", "certs"), "--name"),
        (("aggregator", "job.toml", "--name", "ministry"), "--certs"),
        (("certs", "job.toml"), "--out"),
        (("analyst", "job.toml", "--certs", "certs", "--wait", "soon"), "--wait"),
        (("describe", "--out", "job.toml"), "--label"),
        (("train", "job.toml", "more.toml", "--out", "x"), "more.toml"),
    ],
)
def test_wrong_usage_is_one_line(cli: Cli, words: tuple[str, ...], named: str) -> None:
    status, out, err = cli(*words)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("veilboost: ")
    assert named in line


def test_interruption_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("veilboost.cli.roles.load_job", interrupted)
    status, out, err = cli("certs", "job.toml", "--out", tmp_path)
    assert (status, out, err.strip()) == (130, "", "veilboost: interrupted")


def test_certs_writes_files_for_every_role_once(cli: Cli, tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    status, out, err = cli("certs", case.path, "--out", tmp_path / "certs")
    assert (status, err) == (0, "")
    assert "keep ca.key offline" in out
    for role in case.job.roles:
        for ending in ("pem", "key", "storage.key"):
            assert (tmp_path / "certs" / f"{role}.{ending}").is_file()
    status, out, err = cli("certs", case.path, "--out", tmp_path / "certs")
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert "is there already and is not overwritten" in line
