"""All roles as local processes: data given as bytes, progress, and who is blamed when a job fails."""

import json
import socket
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from tests.processes.support import make_case

from veilboost.errors import InputError, ParticipantError, PeerLost, PeerMismatch, ProtocolError
from veilboost.jobs.children import Child, cause
from veilboost.jobs.local import check_data_names, run_local
from veilboost.jobs.report.page import render
from veilboost.trees.xgboost_json import load_model


def test_tables_as_bytes_and_progress(tmp_path: Path) -> None:
    """Tables through pipes; one party is the analyst; a second run in the same folder keeps keys, replaces results."""
    case = make_case(tmp_path, analyst="south", n_estimators=3)
    tables = {}
    for party, frame in case.tables.items():
        buffer = BytesIO()
        frame.write_parquet(buffer)
        tables[party] = buffer.getvalue()
    out, seen = tmp_path / "out", []
    reported: list[tuple[str, int]] = []
    run = run_local(case.job, case.path, tables, out, seen.append, on_progress=lambda *report: reported.append(report))
    assert seen == [0, 1, 2, 3]
    assert all(type(phase) is str for phase, _ in reported)
    assert [count for _, count in reported] == sorted(count for _, count in reported)
    assert len(reported) > 0
    assert set(run.report["bytes_sent"]) == {"north", "south", "dealer"}
    assert {entry["receiver"] for entry in run.ledger} == {"south"}
    model = load_model(out / "model.json")
    assert [path for path in out.rglob("*.html*")] == [out / "report.html"]  # none in the folder of a role
    page = render(case.job, model, json.loads((out / "report.json").read_text()), run.ledger, one_machine=True)
    assert (out / "report.html").read_text(encoding="utf-8") == page
    assert set(run.report["roles"]) == {"north", "south", "dealer"}
    assert run.report["rows"] == 60
    keys = {path: path.read_bytes() for path in (out / "certs").iterdir()}
    results = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"table of north: there is no column 'smoker': add it"):
        run_local(case.job, case.path, {**tables, "north": b"age\n1\n"}, out)
    with pytest.raises(InputError, match=r"north.csv: there is no such file: check the path"):
        run_local(case.job, case.path, {**tables, "north": tmp_path / "no" / "north.csv"}, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == results
    header = ",".join(case.job.party("north").columns)
    bad = {**tables, "north": f"{header}\n{header}\n".encode()}
    with pytest.raises(InputError, match=r"table of north: row 1, column 'age'"):
        run_local(case.job, case.path, bad, out)
    assert {path: path.read_bytes() for path in (out / "certs").iterdir()} == keys
    assert not list(out.rglob("model.*"))
    assert not list(out.rglob("*.json"))
    assert not list(out.rglob("*.html"))


@pytest.mark.parametrize("role", ["north", "south", "dealer"])
def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path: Path, role: str) -> None:
    case = make_case(tmp_path)
    files = {party: case.file(party) for party in case.tables}
    host, port = case.job.addresses[role]
    with (
        socket.create_server((host, port)),
        pytest.raises(InputError, match=f"{role} cannot listen at {host}:{port} .*: stop the program"),
    ):
        run_local(case.job, case.path, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_names(tmp_path: Path) -> None:
    job = make_case(tmp_path).job
    check_data_names(job, {"north": 1, "south": 2})
    with pytest.raises(InputError, match="the job has no party 'west': it has north, south"):
        check_data_names(job, {"north": 1, "south": 2, "west": 3})
    with pytest.raises(InputError, match="party 'south' has no table: add --data south=FILE"):
        check_data_names(job, {"north": 1})


def ended(role: str, status: int, kind: str = "", message: str = "", last: str = "") -> Child:
    """A process that has ended with a status (a signal if below 0), and what it reported."""
    program = f"import os; os.kill(os.getpid(), {-status})" if status < 0 else f"raise SystemExit({status})"
    process = subprocess.Popen([sys.executable, "-c", program])
    process.wait()
    error = {"kind": kind, "message": message} if kind else None
    return Child(role, process, error=error, last_words=[last] if last else [])


def test_cause_rather_than_consequence() -> None:
    lost = ended("north", 2, "PeerLost", "lost the connection to south")
    for culprit, expected, message in (
        (ended("south", 2, "InputError", "south.csv: row 3"), InputError, "south.csv: row 3"),
        (ended("south", 2, "PeerMismatch", "other rows"), PeerMismatch, "other rows"),
        (ended("south", 2, "ProtocolError", "odd frame"), ProtocolError, "odd frame"),
        (ended("south", -9), ParticipantError, "south was killed by signal SIGKILL"),
        (ended("south", 1, last="MemoryError"), ParticipantError, "south ended unexpectedly: MemoryError"),
        (ended("south", 3), ParticipantError, "south ended unexpectedly: exit status 3"),
        (ended("south", 0), PeerLost, "lost the connection to south"),
        (ended("south", 2, "MaskReuseError", "a bug"), PeerLost, "lost the connection to south"),
    ):
        error = cause([lost, culprit], lost)
        assert type(error) is expected
        assert str(error) == message
    alone = ended("south", 2, "MaskReuseError", "a mask was used twice")
    assert str(cause([alone], alone)) == "south: a mask was used twice"
