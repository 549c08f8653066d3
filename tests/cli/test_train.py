"""What the commands that train tell at their end."""

from pathlib import Path

import pytest
from tests.jobs.test_federated_spec import tables
from tests.processes.support import make_case

from veilboost.cli.train import kept_trees, summary, tree_times
from veilboost.jobs.local import LocalRun
from veilboost.jobs.spec import job_from_dict


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([], "0 trees in 0.0 s"),
        ([0.5], "1 tree in 0.5 s"),
        ([0.9, 0.2], "2 trees in 1.1 s: 0.90 s for the first, then 0.20 s per tree (median)"),
        ([0.9, 0.2, 0.31, 0.25], "4 trees in 1.7 s: 0.90 s for the first, then 0.25 s per tree (median)"),
    ],
)
def test_the_first_tree_is_told_apart(seconds: list[float], words: str) -> None:
    assert tree_times(seconds) == words


def test_summary(tmp_path: Path) -> None:
    job = make_case(tmp_path).job
    report = {"seconds_per_tree": [0.9, 0.2], "seconds_setup": 1.25, "bytes_sent": {"north": 1_500_000}}
    ledger = [{"receiver": "university", "value": "leaf weights", "shape": [2, 4]}]
    assert summary(job, LocalRun(report, ledger)) == [
        "2 trees in 1.1 s: 0.90 s for the first, then 0.20 s per tree (median), after 1.2 s of setup",
        "sent: north 1.5 MB",
        "disclosed:",
        "  to university: leaf weights (2, 4)",
        "  to everybody else: nothing (north, south, dealer)",
    ]


def test_summary_of_a_federated_job() -> None:
    job = job_from_dict(tables())
    report = {"seconds_per_tree": [0.9, 0.2], "seconds_setup": 1.25, "bytes_sent": {"ministry": 1_500_000}}
    ledger = [{"receiver": "everyone", "value": "leaf weights", "shape": [2, 4]}]
    lines = summary(job, LocalRun({**report, "dropped": ["south", "west"]}, ledger))
    assert lines[1:] == [
        "lost on the way: south, west",
        "sent: ministry 1.5 MB",
        "disclosed:",
        "  to everyone: leaf weights (2, 4)",
        "  nothing else to anybody",
    ]
    assert not any("lost" in line for line in summary(job, LocalRun({**report, "dropped": []}, ledger)))


def test_kept_trees_of_a_federated_job_are_those_that_all_aggregators_have(tmp_path: Path) -> None:
    job = job_from_dict(tables())
    assert kept_trees(job, tmp_path) is None
    for name, trees in (("ministry", (3, 4)), ("charity", (2, 3)), ("north", (9,))):
        (tmp_path / name).mkdir()
        for tree in trees:
            (tmp_path / name / f"tree-{tree:05}.checkpoint").touch()
    assert kept_trees(job, tmp_path) == 2  # the first one is kept before the first tree
