"""A role that cannot take part: `veilboost train` ends at once, with that role's line and not those of the others."""

import time
from pathlib import Path

import pytest
from tests.processes.support import command, make_case, refusal, start, stop, veilboost


def test_refused_table(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    options = case.data_options()
    table = tmp_path / "south.csv"
    lines = table.read_text().splitlines()
    lines[3] = lines[3].replace(",", ",x", 1)
    table.write_text("\n".join(lines) + "\n")
    begin = time.monotonic()
    line = refusal(veilboost("train", case.path, *options, "--out", tmp_path / "out"))
    assert time.monotonic() - begin < 30
    assert str(table) in line
    assert "row" in line


@pytest.mark.slow
def test_port_stays_taken_while_a_session_runs(tmp_path: Path) -> None:
    """A second start of the same job on the same machine is refused rather than mixed up with the first."""
    case = make_case(tmp_path, n_estimators=5000)
    options = case.data_options()
    first = start("train", command("train", case.path, *options, "--out", tmp_path / "out"))
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "out").glob("*/tree-*")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        line = refusal(veilboost("train", case.path, *options, "--out", tmp_path / "other"))
        assert "cannot listen at" in line
        assert first.process.poll() is None
    finally:
        stop(first)
