"""Roles started one by one, as their operators would, in any order."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.processes.support import Started, make_case, refusal, role_command, start, started, veilboost

from veilboost.tables.table import encode_frame
from veilboost.trees.xgboost_json import load_model


def test_roles_in_odd_order_with_delays(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    assert veilboost("certs", case.path, "--out", tmp_path / "certs").returncode == 0
    order = ("university", "south", "dealer", "north")
    folders = {role: tmp_path / f"machine of {role}" for role in order}
    commands = [role_command(case, role, folders[role]) for role in order]
    with started() as running:
        for name, words in commands:
            running[name] = start(name, words)
            time.sleep(1.0)
        results = {name: one.wait() for name, one in running.items()}
    for name, result in results.items():
        assert (result.returncode, result.stderr) == (0, ""), name
        assert result.stdout.startswith(f"{name}: done, ")
    assert [path for folder in folders.values() for path in folder.rglob("model.json")] == [
        folders["university"] / "model.json"
    ]
    assert (folders["north"] / "north" / "model.share").is_file()
    model = load_model(folders["university"] / "model.json")
    predicted = model.predict(encode_frame(case.rows, case.job.features))
    assert np.mean((predicted > 0.5) == case.rows["ms"].to_numpy()) > 0.65
    report = json.loads((folders["university"] / "report.json").read_text())
    assert set(report["bytes_sent"]) == {"north", "south", "dealer"}


def test_different_job_files_are_refused_by_all(tmp_path: Path) -> None:
    """South has one comment more: nobody shares anything, and everybody says why."""
    case = make_case(tmp_path)
    other = tmp_path / "south.toml"
    other.write_text(case.path.read_text() + "# south's own\n")
    commands = []
    for role in case.job.roles:
        name, words = role_command(case, role, tmp_path / "out")
        words = [str(other) if word == str(case.path) and role == "south" else word for word in words]
        commands.append((name, words))
    with started(*commands) as running:
        lines = {name: refusal(one.wait()) for name, one in running.items()}
    for line in lines.values():
        assert "have different job files: give both the same file, byte for byte" in line
        assert "south" in line
    assert not list((tmp_path / "out").rglob("model*"))


def test_different_numbers_of_rows_are_refused_by_all(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    commands = [role_command(case, role, tmp_path / "out") for role in case.job.roles]
    shortened = (tmp_path / "south.csv").read_text().splitlines()[:-3]
    (tmp_path / "south.csv").write_text("\n".join(shortened) + "\n")
    with started(*commands) as running:
        lines = [refusal(one.wait()) for one in running.values()]
    for line in lines:
        assert "north has 60 rows but south has 57: give all parties the same patients in the same order" in line


def test_dealer_gives_way_to_the_owners(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    with started(*(role_command(case, role, tmp_path / "out") for role in ("dealer", "north"))) as running:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        deadline = time.monotonic() + 60
        while priority_of(running["dealer"]) == own and time.monotonic() < deadline:
            time.sleep(0.1)
        assert priority_of(running["dealer"]) == min(own + 10, 19)
        assert priority_of(running["north"]) == own


def priority_of(role: Started) -> int:
    return os.getpriority(os.PRIO_PROCESS, role.process.pid)


def test_helper_reads_lines() -> None:
    """`Started.await_line` fails loudly when the command ends without the line."""
    program = "import sys; print('hello'); sys.stderr.write('no goodbye')"
    with started(("greeting", [sys.executable, "-c", program])) as running:
        running["greeting"].await_line("hello")
        with pytest.raises(AssertionError, match="greeting ended before it wrote 'goodbye': no goodbye"):
            running["greeting"].await_line("goodbye")
