"""Options that several commands share."""

import sys
from pathlib import Path

import pytest
from tests.processes.support import make_case

from veilboost.cli import main


@pytest.mark.parametrize("option", ["--wait", "--reconnect"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "-0.001"])
@pytest.mark.parametrize("role", ["party", "aggregator", "dealer", "analyst"])
def test_seconds_that_are_none_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    role: str,
    option: str,
    value: str,
) -> None:
    case = make_case(tmp_path)
    words = [role, str(case.path), "--certs", str(tmp_path / "certs"), f"{option}={value}"]
    words += ["--name", "north", "--data", "none.csv"] if role == "party" else ["--out", str(tmp_path / "out")]
    words += ["--name", "ministry"] if role == "aggregator" else []
    monkeypatch.setattr(sys, "argv", ["veilboost", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", f"veilboost: {option} {float(value)}: give a number of seconds, 0 or more\n")
