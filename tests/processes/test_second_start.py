"""The same job started twice on one machine."""

import time
from pathlib import Path

import pytest
from tests.processes.support import command, make_case, refusal, start, stop, veilboost


@pytest.mark.slow
def test_port_stays_taken_while_a_session_runs(tmp_path: Path) -> None:
    """The second start is refused rather than mixed up with the first, which goes on."""
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
