"""What is printed by accident, in a log or in a traceback, holds no share, no key and no cell."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.network import execute, owner_names, secret, secret_bits
from tests.training import EVERY_KIND, draw_table

from veilboost.errors import DataError, InputError
from veilboost.mpc.correlations import Correlation, bits_field, lanes_field, ring_field
from veilboost.mpc.dealer import DealerSession
from veilboost.mpc.fixed_point import encode
from veilboost.mpc.prg import Stream
from veilboost.mpc.protocols.dense_incidence import Block, DenseIncidence
from veilboost.mpc.protocols.permuted_incidence import PermutedIncidence, SlotPlan
from veilboost.mpc.protocols.select import anchor
from veilboost.mpc.session import OwnerSession, Session
from veilboost.mpc.shares import SharedLanes
from veilboost.mpc.transport.memory import MemoryNetwork
from veilboost.splitting.scales import choose_scales
from veilboost.splitting.search import Candidates, find_splits, open_root
from veilboost.tables.binning import bin_column
from veilboost.tables.schema import Feature, Kind
from veilboost.tables.table import LabelSpec, load_table
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.cells import OwnerCells
from veilboost.xorboost.train import train

KEY = bytes(range(100, 132))


def printed(thing: Any) -> str:
    return f"{thing!r} {thing!s} {thing}"


def assert_redacted(thing: Any) -> None:
    """No array, no number that could be a share, nothing of a key."""
    text = printed(thing)
    assert "array(" not in text and "[" not in text.replace("Sequence[", ""), text
    assert not re.search(r"\d{6,}", re.sub(r"0x[0-9a-f]+", "", text)), text
    assert KEY.hex() not in text and repr(KEY)[2:-1] not in text
    assert "\n" not in text


def everything(session: Session) -> list[Any]:
    values = np.arange(20) * 1_000_003 + 123_456_789
    shared = secret(session, values)
    bits = secret_bits(session, values % 2)
    dealt = session.correlate(
        Correlation(
            "test",
            masks=[ring_field(20), bits_field(20, 3), lanes_field(21)],
            derived=[ring_field(20), bits_field(20, 3), lanes_field(21)],
            derive=lambda *masks: masks,
        )
    )
    exchanged = session.exchange_masked(shared.reshape(20, 1))
    bins = (np.arange(20) % 3).astype(np.uint16) if session.holder == 0 else None
    permuted = PermutedIncidence(session, 0, [SlotPlan(3, 7)], 20, None if bins is None else bins[None])
    dense = DenseIncidence(session, 0, [Block(0, 20, 3)], bins)
    scales = choose_scales(20, 1.0, 0.25, 1.0)
    candidates = Candidates(secret(session, np.ones((2, 1, 3)) * 4), np.arange(3))
    standing = open_root(session, secret(session, np.ones((2, 1)) * 8), secret_bits(session, [1]), Parameters(), scales)
    splits = find_splits(session, candidates, standing, Parameters(), scales)
    (anchored,) = anchor(session, shared)
    return [
        session,
        shared,
        bits,
        *dealt.masks,
        *dealt.derived,
        SharedLanes.of(shared),
        anchored,
        anchored[3:5],
        anchored[3:5] - anchored[5:7],
        anchored[3:5].mask,
        exchanged,
        permuted,
        dense,
        splits,
    ]


def test_the_engine_prints_nothing() -> None:
    outcome = execute(everything, 3)
    for things in (*outcome.results, outcome.dealer_result):
        for thing in things[1:]:
            assert_redacted(thing)
        for name in owner_names(3):
            assert KEY.hex() not in printed(things[0]) and name in printed(things[0])


def test_training_prints_nothing() -> None:
    table = draw_table(EVERY_KIND[:4], 30, 2, "binary:logistic", np.random.default_rng(0))
    task = table.task(Parameters(n_estimators=1, max_depth=1, max_bin=4))
    columns = table.columns(4)

    def program(session: Session) -> Any:
        own = [c if o == session.holder else None for c, o in zip(columns, table.owners, strict=True)]
        forest = train(session, task, own, table.labels if session.holder == table.label_owner else None)
        return [forest, *forest.trees]

    for forest, *trees in (execute(program).results[0], execute(program).dealer_result):
        for part in (forest.base_margin, *(value for tree in trees for value in vars(tree).values())):
            for thing in part if isinstance(part, list) else [part]:
                assert_redacted(thing)
        assert not re.search(r"\d{6,}", printed(forest))
    cells = execute(lambda s: OwnerCells(s, task.space, 0, [c if s.holder == 0 else None for c in columns])).results
    assert not re.search(r"\d{6,}", re.sub(r"0x[0-9a-f]+", "", printed(cells[0])))


def test_keys_are_not_printed() -> None:
    network = MemoryNetwork(["left", "right", "dealer"])
    sessions = [
        OwnerSession(network.transport("left"), ["left", "right"], "dealer", KEY, {1: KEY}),
        DealerSession(network.transport("dealer"), ["left", "right"], [KEY, KEY]),
    ]
    for thing in (*sessions, Stream(KEY, 123_456_789)):
        text = printed(thing)
        assert KEY.hex() not in text and repr(KEY)[2:-1] not in text and "123456789" not in text


@pytest.mark.parametrize("kind", [Kind.CONTINUOUS, Kind.DISCRETE])
def test_a_binned_column_prints_no_cell(kind: Kind) -> None:
    values = np.array([123456.0, 654321.0, 777777.0, np.nan], dtype=np.float32)
    column = bin_column(Feature("income", kind, (), True), values, 4)
    assert_redacted(column)
    assert "income" in printed(column)
    assert "array" not in printed([column]) and "array" not in printed({"column": column})


def test_a_table_prints_no_cell() -> None:
    frame = pd.DataFrame({"income": [123456.0, 654321.0], "ms": [0, 1]})
    label = LabelSpec("ms", "binary:logistic")
    table = load_table(frame, features=[Feature("income", Kind.CONTINUOUS)], label=label)
    assert "2 rows" in printed(table)
    assert "123456" not in printed(table) and "654321" not in printed(table)


def test_errors_do_not_quote_data() -> None:
    frame = pd.DataFrame({"income": ["123456", "seven hundred"], "ms": [0, 1]})
    with pytest.raises(DataError) as caught:
        load_table(frame, features=[Feature("income", Kind.CONTINUOUS)], label=LabelSpec("ms", "binary:logistic"))
    assert "seven" not in printed(caught.value) and "123456" not in printed(caught.value)
    with pytest.raises(InputError) as refused:
        encode([1.0, 9.87654321e30], 24)
    assert "9.876" not in printed(refused.value)

    def overfull(session: Session) -> None:
        bins = np.array([[2, 2, 1]], dtype=np.uint16)
        PermutedIncidence(session, 0, [SlotPlan(3, 1)], 3, bins if session.holder == 0 else None)

    with pytest.raises(ValueError, match="do not fit") as unfit:
        execute(overfull)
    assert not re.search(r"\d", str(unfit.value))
