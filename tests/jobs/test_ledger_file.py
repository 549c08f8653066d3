"""The ledger on disk: there as soon as something is disclosed, and still there when a training fails or is resumed."""

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from tests.jobs.interrupted import KilledError, Moment, run_all
from tests.processes.support import LABEL, Case, make_case

from veilboost.errors import InputError, PeerMismatch
from veilboost.jobs.alignment import BLOCK_ROWS, IDS_COUNTED, IDS_SHARED, IDS_TRAINED
from veilboost.jobs.entries import DEALER
from veilboost.jobs.results import LEDGER, prepare_folder, read_ledger, write_ledger
from veilboost.mpc.ledger import Disclosure

MATCHING = {IDS_COUNTED: 2, IDS_SHARED: 1, IDS_TRAINED: 1, BLOCK_ROWS: 1}
BEFORE_PLACES = {name: count for name, count in MATCHING.items() if name != IDS_TRAINED}
ROLES = ("north", "south", DEALER)


def case_with_ids(folder: Path, *, n_estimators: int = 2, rows: int = 60) -> Case:
    case = make_case(folder, n_estimators=n_estimators, rows=rows)
    case.path.write_text(case.path.read_text().replace("[data]", '[data]\nid = "patient"'))
    ids = pl.Series("patient", [f"p{number}" for number in range(rows)])
    for name, table in case.tables.items():
        case.tables[name] = table.with_columns(ids)
    return case


def listed(out: Path, role: str) -> Counter[str]:
    return Counter(entry["value"] for entry in json.loads((out / role / LEDGER).read_text()))


def test_after_a_refusal_that_follows_matching(tmp_path: Path) -> None:
    """Both classes are there, but one of them in rows that the other party lacks."""
    case, out = case_with_ids(tmp_path), tmp_path / "out"
    ill = case.tables["south"].filter(pl.col(LABEL).cast(pl.Int64) == 1)["patient"].implode()
    tables = {**case.tables, "north": case.tables["north"].filter(pl.col("patient").is_in(ill))}
    with pytest.raises(InputError, match="30 rows matched by id are of one class"):
        run_all(case, out, tables=tables)
    assert listed(out, "north") == listed(out, "south") == MATCHING
    (trained,) = (entry for entry in read_ledger(out / "north") if entry.value == IDS_TRAINED)
    assert (trained.receiver, trained.shape) == ("north", (30,))


def test_after_matching_that_leaves_too_few_rows(tmp_path: Path) -> None:
    case, out = case_with_ids(tmp_path), tmp_path / "out"
    tables = {
        **case.tables,
        "north": case.tables["north"].with_columns(pl.col("patient") + pl.Series([""] * 19 + ["x"] * 41)),
    }
    with pytest.raises(PeerMismatch, match="matching by id leaves 19 rows, and a training needs at least 20"):
        run_all(case, out, tables=tables)
    assert listed(out, "north") == listed(out, "south") == BEFORE_PLACES


def test_a_resumed_training_lists_both_matchings(tmp_path: Path) -> None:
    case, out = case_with_ids(tmp_path), tmp_path / "out"
    with pytest.raises(KilledError):
        run_all(case, out, kill=Moment("north", 2, "histograms"))
    for role in ROLES:
        assert listed(out, role) == MATCHING
    outcomes = run_all(case, out, resume=True)
    twice = {name: 2 * count for name, count in MATCHING.items()}
    for role in ROLES:
        found = listed(out, role)
        assert {name: found[name] for name in MATCHING} == twice
        assert found["leaf weights"] == 1
        assert [entry.to_dict() for entry in outcomes[role].ledger] == json.loads((out / role / LEDGER).read_text())
    run_all(case, out)  # a new start has a ledger of its own
    assert listed(out, "north")[IDS_SHARED] == 1


def test_a_ledger_that_is_none_is_refused(tmp_path: Path) -> None:
    entries = [Disclosure("north", "leaf weights", "why", (2, 8), 17), Disclosure("all", "rows", "why", (1,), None)]
    write_ledger(tmp_path, entries)
    assert read_ledger(tmp_path) == entries
    prepare_folder(tmp_path, keep_ledger=True)
    assert read_ledger(tmp_path) == entries
    for text in (
        "[",
        "7",
        "[7]",
        '[{"receiver": "x"}]',
        '[{"receiver": "", "value": "", "why": "", "shape": 1, "round": 1}]',
    ):
        (tmp_path / LEDGER).write_text(text)
        with pytest.raises(InputError, match=r"ledger.json: is damaged: move it away"):
            read_ledger(tmp_path)
    prepare_folder(tmp_path)
    assert read_ledger(tmp_path) == read_ledger(None) == []
