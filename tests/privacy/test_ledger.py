"""What leaves the shared domain: the model, for the analyst, and nothing else."""

from typing import Any

import numpy as np
import pytest
from tests.network import ANALYST
from tests.training import EVERY_KIND, draw_table, train_on_shares

from veilboost.trees.parameters import Parameters

MODEL = [
    ("feature, categories and default direction of every split", (2, 7, 64)),
    ("threshold of every split", (2, 7, 32)),
    ("leaf weights", (2, 8)),
]
GAINS = [
    ("gain of every split (reveal_gain)", (2, 7)),
    ("hessian sum of every node (reveal_gain)", (2, 15)),
]
BASE = [("base score", (1,))]


@pytest.mark.parametrize("analyst", [ANALYST, "owner1"])
@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, BASE + MODEL),
        ({"base_score": 0.5}, MODEL),
        ({"reveal_gain": True}, BASE + MODEL + GAINS),
        ({"base_score": 0.5, "reveal_gain": True}, MODEL + GAINS),
    ],
)
def test_the_ledger_holds_the_reveal_and_nothing_else(
    changed: dict[str, Any], expected: list[Any], objective: str, analyst: str
) -> None:
    table = draw_table(EVERY_KIND[:4], 40, 2, objective, np.random.default_rng(0))
    parameters = Parameters(objective=objective, n_estimators=2, max_depth=3, max_bin=8, **changed)
    _, outcome = train_on_shares(table, parameters, 2, analyst=analyst)
    ledgers = [session.ledger for session in (*outcome.sessions, outcome.dealer)]
    for ledger in ledgers:
        assert [(entry.value, entry.shape) for entry in ledger] == expected
        assert {entry.receiver for entry in ledger} == {analyst}
        assert {entry.why for entry in ledger} == {"the trained model, revealed to the analyst only"}
    # The owners agree on the rounds; the dealer counts none.
    assert ledgers[0] == ledgers[1]


@pytest.mark.parametrize("reveal_gain", [False, True])
def test_the_analyst_receives_what_the_ledger_says_and_nothing_else(reveal_gain: bool) -> None:
    table = draw_table(EVERY_KIND[:4], 40, 3, "binary:logistic", np.random.default_rng(1))
    parameters = Parameters(n_estimators=2, max_depth=3, max_bin=8, reveal_gain=reveal_gain)
    _, outcome = train_on_shares(table, parameters, 3, record=True)
    # Splits and thresholds are bits, those of a node in a word of their own.
    shapes = [entry.shape[:2] for entry in outcome.sessions[0].ledger]
    sizes = [8 * int(np.prod(shape)) for shape in shapes]
    for session in outcome.sessions:
        frames = outcome.network.between(session.transport.name, ANALYST)
        assert [frame.size for frame in frames] == sizes
    assert outcome.network.between("dealer", ANALYST) == []
    assert not [message for message in outcome.network.messages if message.sender == ANALYST]
