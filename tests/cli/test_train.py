"""What the commands that train tell at their end."""

from pathlib import Path

import pytest
from tests.processes.support import make_case

from veilboost.cli.train import summary, tree_times
from veilboost.jobs.local import LocalRun


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
