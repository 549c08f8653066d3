"""Participants that die or hang: the others end soon, with status 2 and the name of who is to blame."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.processes.support import (
    Case,
    Started,
    await_children,
    await_end,
    children,
    command,
    is_alive,
    make_case,
    refusal,
    role_command,
    start,
    started,
    stop,
)

ROLES = ("north", "dealer", "university")
SURVIVORS_END_SECONDS = 30.0


def long_case(folder: Path) -> Case:
    """A job that no test lets end."""
    return make_case(folder, n_estimators=5000)


def role_of(words: str) -> str:
    """Role of a child of `veilboost train` by its command line."""
    if " party " in words:
        return words.split("--name ")[1].split()[0]
    return "dealer" if " dealer " in words else "university"


def start_train(case: Case) -> Started:
    return start("train", command("train", case.path, *case.data_options(), "--out", case.folder / "out"))


def end_of_survivors(running: dict[str, Started], victim: str) -> dict[str, str]:
    """The last lines of all roles but the victim, which must come in time."""
    deadline = time.monotonic() + SURVIVORS_END_SECONDS
    lines = {}
    for name, one in running.items():
        if name != victim:
            lines[name] = refusal(one.wait(max(0.1, deadline - time.monotonic())))
    return lines


def check_death_in_mid_tree(folder: Path, victim: str) -> None:
    case = long_case(folder)
    roles = [role_command(case, role, folder / "out", events=True) for role in case.job.roles]
    with started(*roles) as running:
        running["south"].await_line('"number": 1}')
        time.sleep(random.random() / 10)
        running[victim].process.kill()
        lines = end_of_survivors(running, victim)
        assert len(lines) == len(roles) - 1
        for line in lines.values():
            assert f"lost the connection to {victim}" in line
    assert not list((folder / "out").rglob("model*"))


def check_death_while_meeting(folder: Path, victim: str) -> None:
    """The victim has met the others, but one role is not there yet."""
    case = long_case(folder)
    absent = "south"
    roles = [role_command(case, role, folder / "out") for role in case.job.roles if role != absent]
    with started(*roles) as running:
        time.sleep(8)  # all have started and met
        for one in running.values():
            assert one.process.poll() is None
        running[victim].process.kill()
        for line in end_of_survivors(running, victim).values():
            assert victim in line


def check_death_under_train(folder: Path, victim: str, seconds: float) -> None:
    case = long_case(folder)
    train = start_train(case)
    try:
        pids = await_children(train.process.pid, 4)
        time.sleep(seconds)
        pids = await_children(train.process.pid, 4)
        (pid,) = [pid for pid, words in pids.items() if role_of(words) == victim]
        os.kill(pid, signal.SIGKILL)
        line = refusal(train.wait(SURVIVORS_END_SECONDS))
        killed = f"veilboost: {victim} was killed by signal SIGKILL"
        assert line.partition(";")[0] == killed  # and how many trees are kept, if there are any
        assert await_end(list(pids)) == []
        assert not (folder / "out" / "model.json").exists()
    finally:
        stop(train)


def test_owner_dies_in_mid_tree(tmp_path: Path) -> None:
    check_death_in_mid_tree(tmp_path, "north")


def test_dealer_dies_under_train(tmp_path: Path) -> None:
    check_death_under_train(tmp_path, "dealer", 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ROLES[1:])
def test_participant_dies_in_mid_tree(tmp_path: Path, victim: str) -> None:
    check_death_in_mid_tree(tmp_path, victim)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["north", "dealer"])
def test_participant_dies_while_others_meet(tmp_path: Path, victim: str) -> None:
    check_death_while_meeting(tmp_path, victim)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ROLES)
@pytest.mark.parametrize("seconds", [0.0, 0.7, 2.0, 4.0, 8.0])
def test_participant_dies_under_train(tmp_path: Path, victim: str, seconds: float) -> None:
    check_death_under_train(tmp_path, victim, seconds)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ROLES)
def test_stopped_participant_is_named(tmp_path: Path, victim: str) -> None:
    """It does not die, it only says nothing any more."""
    case = long_case(tmp_path)
    roles = [role_command(case, role, tmp_path / "out", events=True) for role in case.job.roles]
    with started(*roles) as running:
        running["south"].await_line('"number": 1}')
        running[victim].process.send_signal(signal.SIGSTOP)
        lines = end_of_survivors(running, victim)
        for line in lines.values():
            assert f"{victim} has been silent for 20 seconds" in line


@pytest.mark.slow
def test_stopped_participant_is_named_by_train(tmp_path: Path) -> None:
    case = long_case(tmp_path)
    train = start_train(case)
    try:
        pids = await_children(train.process.pid, 4)
        time.sleep(8)
        (pid,) = [pid for pid, words in pids.items() if role_of(words) == "south"]
        os.kill(pid, signal.SIGSTOP)
        line = refusal(train.wait(120))
        assert "south has been silent for 20 seconds" in line
        assert await_end(list(pids)) == []
    finally:
        stop(train)


def check_end_of_train(folder: Path, number: signal.Signals, status: int) -> str:
    """What `veilboost train` writes to standard error when it gets a signal; none of its processes remains."""
    train = start_train(long_case(folder))
    try:
        pids = await_children(train.process.pid, 4)
        time.sleep(random.random() * 3)
        train.process.send_signal(number)
        result = train.wait(60)
        assert result.returncode == status
        # Those that are still being loaded when their parent is killed find out as soon as they run.
        assert await_end(list(pids), 60) == []
        return result.stderr
    finally:
        stop(train)


def test_interrupted_train_leaves_no_process(tmp_path: Path) -> None:
    assert check_end_of_train(tmp_path, signal.SIGINT, 130).strip() == "veilboost: interrupted"


def test_killed_train_leaves_no_process(tmp_path: Path) -> None:
    assert check_end_of_train(tmp_path, signal.SIGKILL, -signal.SIGKILL) == ""


@pytest.mark.slow
def test_terminated_train_leaves_no_process(tmp_path: Path) -> None:
    """It tells its participants, as when somebody presses Ctrl-C."""
    assert check_end_of_train(tmp_path, signal.SIGTERM, 130).strip() == "veilboost: interrupted"


def test_helpers_see_processes() -> None:
    assert is_alive(os.getpid())
    assert os.getpid() in children(os.getppid())
