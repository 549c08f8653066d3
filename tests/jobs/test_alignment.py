"""Alignment of rows between parties, in memory: what they end up with, and what they get to see."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.jobs.alignments import JOB_HASH, blocks_of, key_of, run_alignment
from tests.strategies import FEW
from tests.tables import edwards

from veilboost.errors import PeerMismatch, ProtocolError
from veilboost.jobs.alignment import EVERYBODY, MOST_ROWS, Alignment, GridPlan, align, disclosures
from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.memory import MemoryNetwork, MemoryTransport
from veilboost.tables.alignment import POINT_BYTES, arrange, check_points, fresh_scalar, hash_to_group, raise_to

PAIR = GridPlan(("north", "insurer"), (("north", "insurer"),), ("north",))
TRIO = GridPlan(("clinic", "north", "insurer"), (("clinic", "north", "insurer"),), ("north",))
HOSPITALS = ("east", "north", "south", "west")
#: Four hospitals with patients of their own, and a laboratory that knows all of them.
GRID = GridPlan(
    ("east", "laboratory", "north", "south", "west"), tuple((name, "laboratory") for name in HOSPITALS), HOSPITALS
)
#: One registry holds all labels; the other columns are a hospital's or another's, and a laboratory's.
REGISTRY = GridPlan(
    ("registry", "east", "west", "laboratory"),
    (("registry", "east", "laboratory"), ("registry", "west", "laboratory")),
    ("registry", "registry"),
)
#: Both hold labels of some rows and features of the others'.
CROSSED = GridPlan(("east", "west"), (("east", "west"), ("west", "east")), ("east", "west"))


def check(plan: GridPlan, ids: dict[str, Any], join: Any, expected: list[Sequence[str]]) -> dict[str, Alignment]:
    """All parties have the expected rows in one order, and only label holders of a left join have some alone."""
    outcomes, _ = run_alignment(plan, ids, join)
    blocks = {name: blocks_of(plan, ids, name, outcome) for name, outcome in outcomes.items()}
    for block, members in enumerate(plan.blocks):
        of_holder = blocks[plan.label_holders[block]][block]
        assert sorted(of_holder) == sorted(expected[block])
        for name in plan.parties:
            if name not in members:
                assert blocks[name][block] is None
            else:
                assert blocks[name][block] == [id_ if id_ in ids[name] else None for id_ in of_holder]
    for outcome in outcomes.values():
        assert outcome.block_rows == tuple(len(rows) for rows in expected)
        assert outcome.disclosures == disclosures(plan, outcome.block_rows)
    return outcomes


@pytest.mark.parametrize(("join", "rows"), [("inner", "cd"), ("left", "abcd")])
def test_two_owners(join: str, rows: str) -> None:
    check(PAIR, {"north": "abcd", "insurer": "xdcy"}, join, [rows])


@pytest.mark.parametrize(("join", "rows"), [("inner", "c"), ("left", "abcd")])
def test_three_owners(join: str, rows: str) -> None:
    check(TRIO, {"clinic": "zcb", "north": "abcd", "insurer": "xdcyz"}, join, [rows])


@pytest.mark.parametrize(("join", "rows"), [("inner", ["ab", "a", "gh", "f"]), ("left", ["abc", "ade", "gh", "fi"])])
def test_four_hospitals_and_a_laboratory(join: str, rows: list[str]) -> None:
    """The patient a was in two hospitals and is two rows."""
    ids = {"east": "abc", "north": "dea", "south": "gh", "west": "fi", "laboratory": "hgfabxyz"}
    check(GRID, ids, join, rows)


@pytest.mark.parametrize(("join", "rows"), [("inner", ["a", "bc"]), ("left", ["adfg", "bce"])])
def test_one_label_holder_of_several_blocks(join: str, rows: list[str]) -> None:
    ids = {"registry": "abcdefg", "east": "ady", "west": "bcex", "laboratory": "zabcf"}
    check(REGISTRY, ids, join, rows)


@pytest.mark.parametrize(("join", "rows"), [("inner", ["bc", "bc"]), ("left", ["abc", "bcd"])])
def test_label_holders_of_each_others_rows(join: str, rows: list[str]) -> None:
    check(CROSSED, {"east": "abc", "west": "dcb"}, join, rows)


def test_blocks_that_one_party_holds_alone_need_no_exchange() -> None:
    plan = GridPlan(("east", "west"), (("east",), ("west",)), ("east", "west"))
    check(plan, {"east": "abc", "west": "de"}, "inner", ["abc", "de"])


def test_a_party_without_rows_of_any_block_learns_the_sizes() -> None:
    plan = GridPlan(("north", "insurer", "guest"), (("north", "insurer"),), ("north",))
    outcomes = check(plan, {"north": "ab", "insurer": "bc", "guest": "b"}, "inner", ["b"])
    assert outcomes["guest"].rows.tolist() == []


@FEW
@given(
    tables=st.lists(
        st.lists(st.sampled_from("abcdefghijkl"), min_size=1, unique=True).map(lambda ids: [*ids, "common"]),
        min_size=3,
        max_size=3,
    ),
    join=st.sampled_from(["inner", "left"]),
)
def test_the_result_is_the_plain_join(tables: list[list[str]], join: str) -> None:
    ids = dict(zip(TRIO.parties, tables, strict=True))
    common = set.intersection(*map(set, tables))
    check(TRIO, ids, join, [sorted(common) if join == "inner" else ids["north"]])


@FEW
@given(order=st.permutations("abcdef"), other=st.permutations("cdefgh"))
def test_the_order_of_rows_depends_on_no_order_of_tables(order: list[str], other: list[str]) -> None:
    seen = []
    for ids in ({"north": "abcdef", "insurer": "cdefgh"}, {"north": order, "insurer": other}):
        outcomes = check(PAIR, ids, "inner", ["cdef"])
        seen.append(blocks_of(PAIR, ids, "insurer", outcomes["insurer"]))
    assert seen[0] == seen[1]


def test_a_resumed_run_has_the_same_rows_and_draws_afresh() -> None:
    ids = {"north": "abcdefgh", "insurer": "cdefghij"}
    (first, network), (second, again) = (run_alignment(PAIR, ids, record=True) for _ in range(2))
    for name in PAIR.parties:
        assert first[name].rows.tolist() == second[name].rows.tolist()
    assert not points_in(network.messages) & points_in(again.messages)


def points_in(messages: Sequence[Any]) -> set[bytes]:
    return {
        message.payload[at : at + POINT_BYTES]
        for message in messages
        if message.size % POINT_BYTES == 0
        for at in range(0, message.size, POINT_BYTES)
    }


def traffic(plan: GridPlan, ids: dict[str, Any], join: Any) -> dict[tuple[str, str], list[int]]:
    _, network = run_alignment(plan, ids, join, record=True)
    return {
        (sender, receiver): [message.size for message in network.between(sender, receiver)]
        for sender in plan.parties
        for receiver in plan.parties
        if sender != receiver
    }


@pytest.mark.parametrize("join", ["inner", "left"])
def test_ids_outside_change_no_size_and_no_order_of_messages(join: str) -> None:
    one = {"registry": "abcdefg", "east": "ady", "west": "bcex", "laboratory": "zabcf"}
    # Ids that one party alone has are others, and the tables are in another order.
    two = {"registry": "9fedcba", "east": "d7a", "west": "ceb8", "laboratory": "acb5f"}
    assert traffic(REGISTRY, one, join) == traffic(REGISTRY, two, join)


@pytest.mark.parametrize("join", ["inner", "left"])
def test_ids_outside_change_nothing_that_a_party_ends_up_with(join: str) -> None:
    plain = {"clinic": "zcb", "north": "abcd", "insurer": "xdcyz"}
    other = {"clinic": "1cb", "north": "abcd", "insurer": "2dc34"}
    first, second = run_alignment(TRIO, plain, join)[0], run_alignment(TRIO, other, join)[0]
    for name in TRIO.parties:
        assert first[name].rows.tolist() == second[name].rows.tolist()


def test_message_sizes_are_those_of_the_page() -> None:
    x, y, rows = 5, 7, 3
    sizes = traffic(PAIR, {"north": "abcde", "insurer": "cdefghi"}, "inner")
    assert sizes["north", "insurer"] == [8, 32 * x, 8, 8, 8 * rows]
    assert sizes["insurer", "north"] == [8, 32 * y, 32 * x, 8]


def test_other_owners_get_random_points_and_no_ids() -> None:
    """All points are different points of the group; none is the hash of an id."""
    ids = {"north": "abcd", "insurer": "cdef"}
    _, network = run_alignment(PAIR, ids, record=True)
    seen = [message.payload for message in network.messages if message.size >= 3 * POINT_BYTES]
    points = np.frombuffer(b"".join(seen), dtype=np.uint8).reshape(-1, POINT_BYTES)
    check_points(points)
    assert len({point.tobytes() for point in points}) == len(points) == 12
    hashes = {point.tobytes() for point in hash_to_group("abcdef", JOB_HASH)}
    assert not hashes & {point.tobytes() for point in points}


def test_the_other_owner_learns_its_rows_and_nothing_of_others() -> None:
    """The positions that it gets are those of its own ids in the order of the label holder's key."""
    ids = {"north": "abcdef", "insurer": "yfdbx"}
    outcomes, network = run_alignment(PAIR, ids, "left", record=True)
    last = network.between("north", "insurer")[-1]
    positions = np.frombuffer(last.payload, dtype="<i8")
    assert sorted(positions.tolist())[:3] == [-1, -1, -1]
    assert len(set(positions.tolist()) - {-1}) == 3
    assert (outcomes["insurer"].rows == -1).tolist() == (positions == -1).tolist()


def test_positions_are_random() -> None:
    """The same id is at every position among five in the course of 150 runs (2e-14 of failure)."""
    seen = set()
    for _ in range(150):
        _, network = run_alignment(PAIR, {"north": "a", "insurer": "abcde"}, record=True)
        seen.add(int.from_bytes(network.between("north", "insurer")[-1].payload, "little"))
    assert seen == {0, 1, 2, 3, 4}


def test_every_exchange_has_scalars_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def draw() -> bytes:
        drawn.append(fresh_scalar())
        return drawn[-1]

    monkeypatch.setattr("veilboost.jobs.alignment.fresh_scalar", draw)
    _, network = run_alignment(REGISTRY, {name: "abc" for name in REGISTRY.parties}, record=True)
    assert len(set(drawn)) == len(drawn) == 2 * len(REGISTRY.exchanges())
    sent = [message.payload for message in network.messages if message.size == 3 * POINT_BYTES]
    points = [payload[at : at + POINT_BYTES] for payload in sent for at in range(0, len(payload), POINT_BYTES)]
    assert len(sent) == 3 * len(REGISTRY.exchanges())
    assert len(set(points)) == len(points)


def test_the_order_of_rows_is_that_of_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []
    monkeypatch.setattr(
        "veilboost.jobs.alignment.arrange",
        lambda rows, ids, key, *more: keys.append(key) or arrange(rows, ids, key, *more),
    )
    run_alignment(PAIR, {"north": "abc", "insurer": "abc"})
    assert len(keys) == 1
    assert keys[0] != key_of("north")


def test_an_alignment_shows_no_rows() -> None:
    outcomes, _ = run_alignment(PAIR, {"north": "abcd", "insurer": "cdef"})
    assert repr(outcomes["north"]) == "Alignment(block_rows=(2,), redacted)"


def test_the_ledger_says_who_learns_what() -> None:
    entries = [(e.receiver, e.value, e.why, e.shape, e.round) for e in disclosures(PAIR, (7,))]
    table, ids, rows = (
        "number of rows of another table",
        "which of its ids another table has",
        "which of its ids are rows of a block",
    )
    assert entries == [
        ("insurer", table, "row alignment by id: north's table", (1,), None),
        ("north", table, "row alignment by id: insurer's table", (1,), None),
        ("north", ids, "row alignment by id: insurer's table", (), None),
        ("insurer", rows, "row alignment by id: block 1, whose labels north holds", (7,), None),
        (EVERYBODY, "number of rows of every block", "row alignment by id", (1,), None),
    ]


def test_the_ledger_has_an_entry_for_every_block_of_an_owner() -> None:
    entries = disclosures(REGISTRY, (3, 4))
    of_laboratory = [e.shape for e in entries if e.receiver == "laboratory" and e.value.startswith("which")]
    assert of_laboratory == [(3,), (4,)]
    assert [e.shape for e in entries if e.receiver == "west" and e.value.startswith("which")] == [(4,)]
    assert sum(e.receiver == "registry" for e in entries) == 2 * len(REGISTRY.exchanges())


def refusals(plan: GridPlan, ids: dict[str, Any], join: Any = "inner", **others: Any) -> dict[str, BaseException]:
    """What every party raised; a party that goes on is not among them."""
    raised: dict[str, BaseException] = {}

    network = MemoryNetwork(plan.parties)

    def program(transport: MemoryTransport) -> None:
        name = transport.name
        try:
            align(transport, plan, name, list(ids[name]), key_of(name), JOB_HASH, join)
        except BaseException as error:
            raised[name] = error
            transport.close(str(error))

    network.run(program)
    return raised


@pytest.mark.parametrize("join", ["inner", "left"])
def test_an_empty_block_is_refused_in_one_line_at_all_parties(join: str) -> None:
    ids = {"registry": "abcdefg", "east": "ady", "west": "xyz", "laboratory": "zabcf"}
    raised = refusals(REGISTRY, ids, join)
    assert set(raised) == set(REGISTRY.parties)
    assert {type(error) for error in raised.values()} == {PeerMismatch}
    (line,) = {str(error) for error in raised.values()}
    assert "block 2 of the rows (registry with west and laboratory)" in line
    assert "spelled alike" in line
    assert "\n" not in line


class Tampering:
    """A transport that changes what one party sends."""

    def __init__(self, transport: MemoryTransport, change: Callable[[int, Octets], Octets], to: str) -> None:
        self._transport, self._change, self._to = transport, change, to
        self._sent = 0
        self.name, self.peers, self.bytes_sent = transport.name, transport.peers, transport.bytes_sent
        self.receive = transport.receive

    def send(self, peer: str, payload: Octets) -> None:
        if peer == self._to:
            payload = self._change(self._sent, payload.copy())
            self._sent += 1
        self._transport.send(peer, payload)


def caught_at(bad: str, good: str, change: Callable[[int, Octets], Octets], join: str = "inner") -> str:
    """What `good` says when `bad` sends it something else; of PAIR."""

    def wrap(transport: MemoryTransport) -> Any:
        return Tampering(transport, change, good) if transport.name == bad else transport

    with pytest.raises(ProtocolError) as caught:
        run_alignment(PAIR, {"north": "abcde", "insurer": "cdefg"}, join, wrap=wrap)
    assert str(caught.value).startswith(f"{bad} sent ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def at(step: int, replace: Callable[[Octets], Any]) -> Callable[[int, Octets], Octets]:
    """Change message number `step` only."""

    def change(number: int, payload: Octets) -> Octets:
        if number != step:
            return payload
        return np.ascontiguousarray(replace(payload)).view(np.uint8).ravel()

    return change


def points(payload: Octets) -> Any:
    return payload.reshape(-1, POINT_BYTES)


def with_point(payload: Octets, row: int, point: bytes) -> Octets:
    points(payload)[row] = np.frombuffer(point, dtype=np.uint8)
    return payload


#: A point of order 2 (its y is -1) sorts after all others if it is the last; 2 is no y of the curve, and sorts low.
ORDER_2 = (edwards.P - 1).to_bytes(32, "little")
OFF_CURVE = (2).to_bytes(32, "little")

NUMBER = np.dtype("<i8")


@pytest.mark.parametrize("count", [0, -1, MOST_ROWS + 1, 2**62])
@pytest.mark.parametrize(("bad", "good"), [("north", "insurer"), ("insurer", "north")])
def test_a_number_of_rows_out_of_bounds(bad: str, good: str, count: int) -> None:
    said = caught_at(bad, good, at(0, lambda payload: np.array([count], dtype=NUMBER)))
    assert f"not between 1 and {MOST_ROWS}" in said


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
def test_a_message_of_another_size_from_the_label_holder(step: int) -> None:
    assert "bytes" in caught_at("north", "insurer", at(step, lambda payload: payload[:-1]))


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_message_of_another_size_from_the_other_owner(step: int) -> None:
    assert "bytes" in caught_at("insurer", "north", at(step, lambda payload: payload[:-1]))


@pytest.mark.parametrize(("bad", "good"), [("north", "insurer"), ("insurer", "north")])
def test_blinded_ids_that_are_the_same(bad: str, good: str) -> None:
    said = caught_at(bad, good, at(1, lambda payload: points(payload)[[0, 0, 1, 2, 3]]))
    assert "two that are the same" in said


@pytest.mark.parametrize(("bad", "good"), [("north", "insurer"), ("insurer", "north")])
def test_blinded_ids_that_are_not_in_order(bad: str, good: str) -> None:
    assert "not in order" in caught_at(bad, good, at(1, lambda payload: points(payload)[::-1]))


@pytest.mark.parametrize(("bad", "good"), [("north", "insurer"), ("insurer", "north")])
@pytest.mark.parametrize("kind", ["off", "subgroup"])
def test_blinded_ids_that_are_no_points_of_the_group(bad: str, good: str, kind: str) -> None:
    def replace(payload: Octets) -> Octets:
        changed = points(with_point(payload, 0, OFF_CURVE if kind == "off" else ORDER_2))
        return np.array(sorted(changed.tolist()), dtype=np.uint8)

    assert "no point of the group" in caught_at(bad, good, at(1, replace))


@pytest.mark.parametrize("point", [OFF_CURVE, ORDER_2])
def test_returned_points_that_are_no_points_of_the_group(point: bytes) -> None:
    said = caught_at("insurer", "north", at(2, lambda payload: with_point(payload, 3, point)))
    assert "no point of the group" in said


def test_returned_points_that_are_the_same() -> None:
    assert "the same" in caught_at("insurer", "north", at(2, lambda payload: points(payload)[[0, 1, 2, 3, 3]]))


@pytest.mark.parametrize("count", [-1, MOST_ROWS + 1])
def test_a_size_of_a_block_out_of_bounds(count: int) -> None:
    said = caught_at("north", "insurer", at(2, lambda payload: np.array([count], dtype=NUMBER)))
    assert f"not between 0 and {MOST_ROWS}" in said


@pytest.mark.parametrize(("bad", "good", "step"), [("north", "insurer", 3), ("insurer", "north", 3)])
def test_parties_that_were_told_different_sizes(bad: str, good: str, step: int) -> None:
    said = caught_at(bad, good, at(step, lambda payload: np.array([2], dtype=NUMBER)))
    assert "differ from those" in said


@pytest.mark.parametrize("join", ["inner", "left"])
@pytest.mark.parametrize("position", [5, 2**62, -2, -(2**62)])
def test_positions_out_of_range(position: int, join: str) -> None:
    def replace(payload: Octets) -> Any:
        positions = payload.view(NUMBER)
        positions[1] = position
        return positions

    assert "positions of rows that are not there" in caught_at("north", "insurer", at(4, replace), join)


def test_a_missing_row_in_an_inner_join() -> None:
    def replace(payload: Octets) -> Any:
        positions = payload.view(NUMBER)
        positions[0] = -1
        return positions

    assert "not there" in caught_at("north", "insurer", at(4, replace))


@pytest.mark.parametrize("join", ["inner", "left"])
def test_a_position_that_comes_twice(join: str) -> None:
    def replace(payload: Octets) -> Any:
        positions = payload.view(NUMBER)
        return np.where(positions >= 0, positions.max(), -1)

    assert "one of them twice" in caught_at("north", "insurer", at(4, replace), join)


@pytest.mark.parametrize(
    ("parties", "blocks", "holders"),
    [
        (("a", "b"), (), ()),
        (("a", "b"), (("a", "b"),), ()),
        (("a", "b"), (("b",),), ("a",)),
        (("a", "b"), (("a", "c"),), ("a",)),
    ],
)
def test_a_plan_that_makes_no_sense(parties: Any, blocks: Any, holders: Any) -> None:
    with pytest.raises(ValueError, match="label holder"):
        GridPlan(parties, blocks, holders)


def test_a_table_without_rows_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="rows"):
        run_alignment(PAIR, {"north": "", "insurer": "a"})


def test_the_engine_computes_what_the_page_says() -> None:
    """Two scalars commute, in plain integers too."""
    first, second = fresh_scalar(), fresh_scalar()
    hashed = hash_to_group(["17"], JOB_HASH)
    point = edwards.decode(hashed.tobytes())
    assert point is not None
    product = int.from_bytes(first, "little") * int.from_bytes(second, "little") % edwards.ORDER
    assert raise_to(raise_to(hashed, first), second).tobytes() == edwards.encode(edwards.multiply(product, point))
