"""Trainings of equal public shape look alike from outside, whatever the data are; the dealer hears nothing."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.grids import GridTable, train_on_grid
from tests.network import ANALYST, DEALER, owner_names
from tests.training import EVERY_KIND, Table, draw_table, train_on_shares

from veilboost.mpc.correlations import Correlation
from veilboost.mpc.dealer import DealerSession
from veilboost.mpc.session import OwnerSession
from veilboost.tables.schema import Kind
from veilboost.trees.parameters import Parameters

OWNERS = 3
ROWS = 90


def datasets(objective: str) -> Iterator[tuple[str, Table]]:
    """Tables of one public shape and very different contents."""
    rng = np.random.default_rng(0)
    first = draw_table(EVERY_KIND, ROWS, OWNERS, objective, rng)
    yield "drawn", first
    yield "drawn again", draw_table(EVERY_KIND, ROWS, OWNERS, objective, rng)
    equal = np.ones_like(first.values)
    yield "all equal", replace(first, values=equal)
    missing = first.values.copy()
    missing[:, [f.missing for f in EVERY_KIND]] = np.nan
    yield "all missing", replace(first, values=missing)
    present = np.nan_to_num(first.values, nan=1.0)
    yield "none missing", replace(first, values=present)
    half = first.values.copy()
    half[: ROWS // 2, [f.missing for f in EVERY_KIND]] = np.nan
    yield "half missing", replace(first, values=half)
    two = present.copy()
    two[:, 0:4] = rng.integers(0, 2, (ROWS, 4))
    two[5, 0] = 1e30
    yield "ties and an outlier", replace(first, values=two)
    if objective == "binary:logistic":
        yield "one positive row", replace(first, labels=(np.arange(ROWS) == 3).astype(float))
        yield "no positive row", replace(first, labels=np.zeros(ROWS))
        yield "labels turned round", replace(first, labels=1 - first.labels)
    else:
        yield "labels all equal", replace(first, labels=np.full(ROWS, 7.0))
        yield "labels at the bounds", replace(first, labels=100.0 * (np.arange(ROWS) % 2))
    wide = np.where(np.isnan(first.values), np.nan, rng.normal(size=first.values.shape) * 1e5)
    numeric = [f.kind in (Kind.CONTINUOUS, Kind.DISCRETE) for f in EVERY_KIND]
    yield "other numbers", replace(first, values=np.where(numeric, wide, first.values).astype(np.float32))


def trace(table: Table | GridTable, parameters: Parameters, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sizes of all frames in order between every two participants, the correlations of each, rounds and ledgers."""
    names: dict[str, list[str]] = defaultdict(list)
    lock = threading.Lock()
    for kind in (OwnerSession, DealerSession):
        original = kind.correlate

        def correlate(self: Any, correlation: Correlation, original: Any = original) -> Any:
            with lock:
                names[self.transport.name].append(correlation.name)
            return original(self, correlation)

        monkeypatch.setattr(kind, "correlate", correlate)
    if isinstance(table, GridTable):
        _, outcome = train_on_grid(table, parameters, OWNERS, record=True)
    else:
        _, outcome = train_on_shares(table, parameters, OWNERS, record=True)
    monkeypatch.undo()
    everybody = [*owner_names(OWNERS), DEALER, ANALYST]
    sizes = {
        (sender, receiver): [message.size for message in outcome.network.between(sender, receiver)]
        for sender in everybody
        for receiver in everybody
        if sender != receiver
    }
    rounds = [session.rounds for session in outcome.sessions]
    ledgers = [session.ledger for session in outcome.sessions]
    return sizes, dict(names), rounds, ledgers, outcome.dealer.next_number()


@pytest.mark.parametrize("objective", ["binary:logistic", pytest.param("reg:squarederror", marks=pytest.mark.slow)])
def test_messages_depend_on_public_facts_only(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = Parameters(
        objective=objective,
        n_estimators=1,
        max_depth=3,
        max_bin=8,
        min_rows_per_leaf=5,
        reg_alpha=0.1,
        subsample=0.9,
        colsample_bynode=0.8,
    )
    traces = {name: trace(table, parameters, monkeypatch) for name, table in datasets(objective)}
    expected = traces.pop("drawn")
    sizes, names, *_ = expected
    assert sum(map(len, sizes.values())) > 500
    assert len({tuple(each) for each in names.values()}) == 1  # the dealer and all owners alike
    for name, found in traces.items():
        assert found == expected, name


@pytest.mark.parametrize("split", ["rows", "rows and columns"])
def test_messages_of_grids_depend_on_public_facts_only(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not on whose cuts coincide, or on how the values of two owners compare."""
    everybody = (0, 1, 2) if split == "rows" else (0, 1)
    blocks = (20, 30, 40) if split == "rows" else (50, 40)

    def grid(table: Table) -> GridTable:
        owners = tuple((2,) if split != "rows" and number % 2 else everybody for number in range(len(EVERY_KIND)))
        return GridTable(table.features, table.values, owners, blocks, table.labels, everybody)

    parameters = Parameters(n_estimators=1, max_depth=2, max_bin=8)
    traces = {name: trace(grid(table), parameters, monkeypatch) for name, table in datasets("binary:logistic")}
    expected = traces.pop("drawn")
    assert sum(map(len, expected[0].values())) > 500
    for name, found in traces.items():
        assert found == expected, name


def test_classes_weights_and_constraints_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does which round is the best: it is the analyst who finds that out."""
    rng = np.random.default_rng(1)
    first = draw_table(EVERY_KIND, ROWS, OWNERS, "multi:softprob", rng).weighted(1, rng)
    again = draw_table(EVERY_KIND, ROWS, OWNERS, "multi:softprob", rng).weighted(1, rng)
    tables = {
        "drawn again": again,
        "one row each of two classes": replace(first, labels=np.r_[1, 2, np.zeros(ROWS - 2)].astype(float)),
        "labels that nothing explains": replace(first, labels=rng.permutation(first.labels)),
        "one row with a weight": replace(first, weights=(np.arange(ROWS) == 5).astype(float)),
        "all cells equal": replace(first, values=np.ones_like(first.values)),
    }
    parameters = Parameters(
        objective="multi:softprob",
        num_class=3,
        n_estimators=2,
        max_depth=2,
        max_bin=8,
        early_stopping_rounds=1,
        validation_fraction=0.6,  # of few rows enough for a metric
        monotone_constraints={"continuous": 1, "discrete with gaps": -1},
    )
    expected = trace(first, parameters, monkeypatch)
    assert any(entry.value == "validation metric of every round" for entry in expected[3][0])
    for name, table in tables.items():
        assert trace(table, parameters, monkeypatch) == expected, name


def test_the_dealer_and_the_analyst_send_and_hear_what_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    _, table = next(datasets("binary:logistic"))
    sizes, *_ = trace(table, Parameters(n_estimators=1, max_depth=2, max_bin=8), monkeypatch)
    heard = {pair: frames for pair, frames in sizes.items() if frames}
    assert not [pair for pair in heard if pair[1] == DEALER]
    assert not [pair for pair in heard if pair[0] == ANALYST]
    assert (DEALER, ANALYST) not in heard


def test_other_public_facts_do_change_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the comparison above could fail."""
    _, table = next(datasets("binary:logistic"))
    first = trace(table, Parameters(n_estimators=1, max_depth=2, max_bin=8), monkeypatch)
    assert trace(table, Parameters(n_estimators=1, max_depth=2, max_bin=9), monkeypatch)[0] != first[0]
    deeper = trace(table, Parameters(n_estimators=1, max_depth=3, max_bin=8), monkeypatch)
    assert deeper[0] != first[0] and deeper[1] != first[1]
