"""Which failures end a run on one machine, and which it goes on without: with processes that only tell and end."""

import queue
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.jobs.test_federated_spec import tables

from veilboost.errors import InputError, ParticipantError, PeerLost, VeilboostError
from veilboost.jobs import children as roles
from veilboost.jobs.children import Child, Events
from veilboost.jobs.following import Following
from veilboost.jobs.job import Job
from veilboost.jobs.local import collect
from veilboost.jobs.outcome import Outcome
from veilboost.jobs.spec import job_from_dict
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.xgboost_json import save_model

#: A process that tells and ends well.
WELL = "tell({'event': 'done', 'outcome': outcome})"

#: How long the others go on, so that the order of ends is certain.
LATER = "import time; time.sleep(1.5); "

KILLED = "import os; os.kill(os.getpid(), 9)"

BEGUN = "tell({'event': 'tree', 'number': 0}); "


def failed(kind: str, message: str) -> str:
    return f"tell({{'event': 'error', 'kind': {kind!r}, 'message': {message!r}}}); raise SystemExit(2)"


def make_job(*, analyst: str = "university", **federated: Any) -> Job:
    given = tables()
    given["job"]["analyst"] = analyst
    return job_from_dict(given | {"federated": federated})


def start(job: Job, programs: dict[str, str]) -> tuple[list[Child], Events]:
    """All roles of a job; those without a program of their own end well, clients at once and the others later."""
    events: Events = queue.SimpleQueue()
    started = []
    for role in job.roles:
        if role == "courier":
            continue
        default = WELL if role in job.party_names else f"{LATER}{WELL}"
        program = f"""
import json
outcome = {Outcome(role, rows=60).to_dict()!r}
tell = lambda event: print(json.dumps(event), flush=True)
{programs.get(role, default)}
"""
        started.append(roles._start(role, [sys.executable, "-c", program], None, events))
    return started, events


class Heard:
    """What a run has told."""

    def __init__(self) -> None:
        self.trees: list[int] = []
        self.progress: list[tuple[str, int]] = []
        self.notices: list[str] = []

    def following(self, job: Job, **more: Any) -> Following:
        return Following(job, self.trees.append, lambda *told: self.progress.append(told), self.notices.append, **more)


def follow(job: Job, programs: dict[str, str], **more: Any) -> tuple[Heard, Following, dict[str, dict[str, Any]]]:
    heard = Heard()
    following = heard.following(job, **more)
    started, events = start(job, programs)
    try:
        return heard, following, following.follow(started, events)
    finally:
        for one in started:
            roles._end(one)


def test_all_is_well() -> None:
    job = make_job()
    told = "tell({'event': 'progress', 'phase': 'setup', 'bytes_sent': 5}); " + BEGUN
    lead = f"{told}tell({{'event': 'notice', 'message': 'look'}}); tell({{'event': 'tree', 'number': 1}}); {WELL}"
    of_others = "tell({'event': 'tree', 'number': 9}); tell({'event': 'notice', 'message': 'no'}); " + WELL
    heard, following, outcomes = follow(job, {"ministry": lead, "north": of_others})
    assert heard.trees == [0, 1]
    assert heard.progress == [("setup", 5)]
    assert heard.notices == ["look"]
    assert following.seconds_setup > 0
    assert following.dropped == {}
    assert set(outcomes) == set(job.roles) - {"courier"}


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (KILLED, "south was killed by signal SIGKILL"),
        ("raise MemoryError", "south ended unexpectedly: MemoryError"),
        (failed("PeerLost", "lost the connection to ministry"), "lost the connection to ministry"),
    ],
)
def test_a_client_that_fails_is_told_and_the_run_goes_on(program: str, why: str) -> None:
    lead = f"{LATER}{BEGUN}{WELL}"
    heard, following, outcomes = follow(make_job(), {"south": program, "ministry": lead})
    assert heard.notices == [f"south is lost, and the training goes on without it: {why}"]
    assert following.dropped == {"south": why}
    assert "south" not in outcomes
    assert "north" in outcomes


def test_a_table_that_is_refused_ends_the_run_before_the_training() -> None:
    with pytest.raises(InputError, match=r"^south\.csv: row 3$"):
        follow(make_job(), {"south": failed("InputError", "south.csv: row 3")})


def test_a_client_that_cannot_write_in_the_end_does_not_end_the_run() -> None:
    programs = {"ministry": f"{BEGUN}{WELL}", "south": f"{LATER}{failed('InputError', 'disk is full')}"}
    _, following, outcomes = follow(make_job(), programs)
    assert following.dropped == {"south": "disk is full"}
    assert "ministry" in outcomes


def test_too_few_clients_before_the_training() -> None:
    with pytest.raises(ParticipantError, match=r"^south was killed by signal SIGKILL$"):
        follow(make_job(min_clients=3), {"south": KILLED})


def test_too_few_clients_while_training_is_for_the_lead_to_decide() -> None:
    """It may have got all it needs."""
    programs = {"ministry": f"{BEGUN}{LATER}{WELL}", "south": f"import time; time.sleep(0.7); {KILLED}"}
    heard, following, _ = follow(make_job(min_clients=3), programs)
    assert set(following.dropped) == {"south"}
    assert len(heard.notices) == 1
    gone = "2 clients are left, fewer than min_clients"
    programs["ministry"] = f"{BEGUN}{LATER}{failed('ParticipantError', gone)}"
    with pytest.raises(ParticipantError) as ended:
        follow(make_job(min_clients=3), programs)
    assert str(ended.value) == f"ministry: {gone} (south was killed by signal SIGKILL)"


@pytest.mark.parametrize("role", ["ministry", "charity", "dealer", "university"])
def test_a_role_that_is_needed_ends_the_run(role: str) -> None:
    """Those who lose it are not to blame, nor told as lost clients."""
    lost = failed("PeerLost", f"lost the connection to {role}")
    job = make_job()
    programs = {one: lost if one in job.party_names else f"{LATER}{lost}" for one in job.roles}
    programs[role] = f"import time; time.sleep(1); {KILLED}"
    heard = Heard()
    started, events = start(job, programs)
    try:
        with pytest.raises(VeilboostError, match=f"^{role} was killed by signal SIGKILL$"):
            heard.following(job).follow(started, events)
    finally:
        for one in started:
            roles._end(one)
    assert heard.notices == []


def test_a_client_that_was_killed_earlier_is_not_to_blame() -> None:
    programs = {
        "south": KILLED,
        "charity": f"{LATER}{KILLED}",
        "ministry": f"{BEGUN}{LATER}{failed('PeerLost', 'lost the connection to charity')}",
    }
    with pytest.raises(ParticipantError, match=r"^charity was killed by signal SIGKILL$"):
        follow(make_job(), programs)


def test_a_client_that_hangs_at_the_end_is_ended() -> None:
    heard, following, outcomes = follow(make_job(), {"west": "import time; time.sleep(600)"}, leave_seconds=0.5)
    assert following.dropped == {"west": "west did not end within 0.5 seconds of the training"}
    assert "west" not in outcomes
    assert len(heard.notices) == 1


def test_on_secret_shares_every_role_is_needed() -> None:
    given = tables()
    del given["aggregator"]
    given["job"]["method"] = "smpc"
    heard = Heard()
    with pytest.raises(PeerLost, match="gone"):
        follow(job_from_dict(given), {"south": failed("PeerLost", "gone")})
    assert heard.notices == []


def results(job: Job, out: Path, at: list[str]) -> tuple[dict[str, dict[str, Any]], Following]:
    """What a run leaves: models in some folders, and the outcomes of all roles but the courier."""
    model = Ensemble(job.features, "binary:logistic", 0.25, ())
    for name in at:
        (out / name).mkdir(parents=True, exist_ok=True)
        save_model(model, out / name / "model.json")
    outcomes = {role: Outcome(role, rows=60).to_dict() for role in job.roles if role != "courier"}
    outcomes[job.lead]["ledger"] = [
        {"receiver": "everyone", "value": "base score", "why": "x", "shape": [1], "round": 3}
    ]
    return outcomes, Heard().following(job)


@pytest.mark.parametrize("at", [["."], ["south"], [".", "south"]])
def test_results_of_an_analyst_that_is_a_client(tmp_path: Path, at: list[str]) -> None:
    job = make_job(analyst="south")
    outcomes, following = results(job, tmp_path, at)
    run = collect(job, outcomes, following, tmp_path)
    assert run.ledger[0]["receiver"] == "everyone"
    assert run.report["dropped"] == []
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        *("model.json", "report.json", "ledger.json", "report.html")
    }


def test_an_analyst_that_was_lost(tmp_path: Path) -> None:
    job = make_job(analyst="south")
    outcomes, following = results(job, tmp_path, ["north", "west"])
    del outcomes["south"]
    following.dropped["south"] = "south was killed by signal SIGKILL"
    with pytest.raises(ParticipantError) as lost:
        collect(job, outcomes, following, tmp_path)
    assert str(lost.value) == (
        f"south, the analyst, was lost (south was killed by signal SIGKILL), so {tmp_path} has no model: "
        f"{tmp_path / 'north' / 'model.json'} is that of north"
    )
    assert (tmp_path / "report.json").is_file()
    assert not (tmp_path / "report.html").exists()
