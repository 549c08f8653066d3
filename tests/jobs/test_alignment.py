"""Common rows by private set intersection: what comes out, who hears what, and peers that send something else."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from secrets import token_bytes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.network import MemoryNetwork

from veilboost.errors import PeerMismatch, ProtocolError
from veilboost.jobs.alignment import MOST_IDS, Alignment, Matching, align, disclosures_of
from veilboost.jobs.grid import Grid

JOB = b"j" * 32
TWO = {"clinic": ["age", "ill"], "insurer": ["drugs"]}
THREE = TWO | {"laboratory": ["tsh"]}
HOSPITALS = {"north": ["age", "ill"], "south": ["age", "ill"], "laboratory": ["tsh"]}
REGISTRY = {"north": ["age"], "south": ["age"], "registry": ["ill"]}

Ids = Mapping[str, Sequence[str]]


def matching(columns: Mapping[str, Sequence[str]], *, left: bool = False) -> Matching:
    grid = Grid.of(columns, "job", str)
    names = tuple(columns)
    return Matching(names, grid, tuple(names[position] for position in grid.holders["ill"]), left)


def run(
    made: Matching, ids: Ids, keys: Mapping[str, bytes] | None = None
) -> tuple[dict[str, Alignment], MemoryNetwork]:
    keys = keys or {name: token_bytes(32) for name in made.parties}
    network = MemoryNetwork(list(made.parties), record=True)
    return network.run(
        lambda transport: align(transport, made, ids[transport.name], keys[transport.name], JOB)
    ), network


def rows_of(made: Matching, ids: Ids, found: Mapping[str, Alignment]) -> list[list[dict[str, str | None]]]:
    """Per block, every row as the ids that its parties put into it."""
    blocks: list[list[dict[str, str | None]]] = []
    for block, size in enumerate(next(iter(found.values())).block_rows):
        rows: list[dict[str, str | None]] = [{} for _ in range(size)]
        for name, alignment in found.items():
            held = made.blocks_of(name)
            if block in held:
                first = sum(alignment.block_rows[before] for before in held if before < block)
                for row, place in zip(rows, alignment.rows[first : first + size], strict=True):
                    row[name] = None if place < 0 else ids[name][place]
        blocks.append(rows)
    return blocks


def check(made: Matching, ids: Ids, expected: Sequence[set[str]]) -> None:
    found, _ = run(made, ids)
    assert {alignment.block_rows for alignment in found.values()} == {tuple(map(len, expected))}
    for block, (rows, wanted) in enumerate(zip(rows_of(made, ids, found), expected, strict=True)):
        assert {row[made.holder_of(block)] for row in rows} == wanted
        for row in rows:
            for name, one in row.items():
                own = row[made.holder_of(block)]
                assert one == own or (one is None and made.left and own not in ids[name])


def test_two_parties() -> None:
    ids = {"clinic": ["a", "b", "c", "d"], "insurer": ["x", "d", "b", "y", "z"]}
    check(matching(TWO), ids, [{"b", "d"}])
    check(matching(TWO, left=True), ids, [{"a", "b", "c", "d"}])


def test_three_parties() -> None:
    ids = {"clinic": ["a", "b", "c", "d"], "insurer": ["d", "b", "y"], "laboratory": ["b", "a", "y"]}
    check(matching(THREE), ids, [{"b"}])
    check(matching(THREE, left=True), ids, [{"a", "b", "c", "d"}])


def test_hospitals_and_a_laboratory() -> None:
    """The id "b" is another patient at each hospital, and the laboratory's row stands for both."""
    ids = {"north": ["a", "b", "c"], "south": ["b", "e"], "laboratory": ["e", "b", "a", "q"]}
    check(matching(HOSPITALS), ids, [{"a", "b"}, {"b", "e"}])
    check(matching(HOSPITALS, left=True), ids, [{"a", "b", "c"}, {"b", "e"}])


@pytest.mark.parametrize(
    ("left", "expected"),
    [(False, [{"a", "b"}, {"a"}, {"g", "h"}, {"f"}]), (True, [{"a", "b", "c"}, {"a", "d"}, {"g", "h"}, {"f", "i"}])],
)
def test_four_hospitals_and_a_laboratory(left: bool, expected: list[set[str]]) -> None:
    columns = {name: ["age", "ill"] for name in ("east", "north", "south", "west")} | {"laboratory": ["tsh"]}
    ids = {"east": "abc", "north": "da", "south": "gh", "west": "fi", "laboratory": "hgfabxyz"}
    check(matching(columns, left=left), ids, expected)


def test_labels_with_an_owner_of_all_rows() -> None:
    ids = {"north": ["a", "b", "q"], "south": ["b", "e"], "registry": ["e", "b", "a", "f"]}
    check(matching(REGISTRY), ids, [{"a", "b"}, {"b", "e"}])
    check(matching(REGISTRY, left=True), ids, [{"a", "b", "f"}, {"b", "e"}])


def test_rows_split_and_nothing_to_match() -> None:
    ids = {"north": ["a", "b"], "south": ["c"]}
    check(matching({name: HOSPITALS[name] for name in ids}), ids, [{"a", "b"}, {"c"}])


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from([TWO, THREE, HOSPITALS, REGISTRY]), st.booleans())
def test_any_tables(data: Any, columns: dict[str, list[str]], left: bool) -> None:
    some = st.lists(st.sampled_from([f"patient {n}" for n in range(12)]), min_size=1, max_size=12, unique=True)
    ids = {name: data.draw(some) for name in columns}
    made = matching(columns, left=left)
    expected = []
    for block in range(made.grid.blocks):
        own = set(ids[made.holder_of(block)])
        if left and columns is REGISTRY:
            here, other = set(ids["north"]), set(ids["south"])
            expected.append(own & here | own - here - other if block == 0 else own & other)
        elif left:
            expected.append(own)
        else:
            expected.append(own.intersection(*(ids[name] for name in made.others(block))))
    if all(expected):
        check(made, ids, expected)
    else:
        with pytest.raises(PeerMismatch, match="have no id in common"):
            run(made, ids)


def test_the_order_is_the_same_again_and_not_that_of_a_table() -> None:
    ids = {"clinic": [f"{n:03}" for n in range(60)], "insurer": [f"{n:03}" for n in range(30, 90)]}
    keys = {name: token_bytes(32) for name in ids}
    first, _ = run(matching(TWO), ids, keys)
    again, _ = run(matching(TWO), ids, keys)
    assert np.array_equal(first["clinic"].rows, again["clinic"].rows)
    assert np.array_equal(first["insurer"].rows, again["insurer"].rows)
    other, _ = run(matching(TWO), ids)
    assert not np.array_equal(first["clinic"].rows, other["clinic"].rows)
    assert not np.array_equal(first["clinic"].rows, np.sort(first["clinic"].rows))


def test_what_is_heard_depends_on_sizes_only() -> None:
    """Ids outside the intersection may be any: sizes and order of messages are the same, and no bytes come again."""
    common = [f"both {n}" for n in range(5)]
    seen = []
    for number in range(2):
        ids = {
            "clinic": [*common, *(f"clinic {number} {n}" for n in range(7))],
            "insurer": [*(f"insurer {number} {n}" for n in range(9)), *common],
        }
        _, network = run(matching(TWO), ids)
        seen.append({pair: network.between(*pair) for pair in (("clinic", "insurer"), ("insurer", "clinic"))})
    for pair in seen[0]:
        assert [message.size for message in seen[0][pair]] == [message.size for message in seen[1][pair]]
    points = [
        message.payload[start : start + 32]
        for run_ in seen
        for messages in run_.values()
        for message in messages
        if message.size % 32 == 0
        for start in range(0, message.size, 32)
    ]
    assert len(points) == 2 * (12 + 14 + 12)
    assert len(set(points)) == len(points)


@pytest.mark.parametrize("left", [False, True])
def test_ids_outside_change_nothing_that_a_party_ends_up_with(left: bool) -> None:
    keys = {name: token_bytes(32) for name in THREE}
    one = {"clinic": "abcd", "insurer": "xdcyz", "laboratory": "zcb"}
    two = {"clinic": "abcd", "insurer": "2dc34", "laboratory": "1cb"}
    first, second = (run(matching(THREE, left=left), ids, keys)[0] for ids in (one, two))
    for name in THREE:
        assert np.array_equal(first[name].rows, second[name].rows)


def test_places_are_random() -> None:
    """The same id is at every place among five in the course of 150 runs, but for 1 in 10^13."""
    seen = set()
    for _ in range(150):
        _, network = run(matching(TWO), {"clinic": ["a"], "insurer": ["a", "b", "c", "d", "e"]})
        seen.add(int.from_bytes(network.between("clinic", "insurer")[-1].payload, "little"))
    assert seen == {0, 1, 2, 3, 4}


def test_every_pair_has_scalars_of_its_own() -> None:
    """One party's blinded ids for two others have nothing in common, nor have those of two runs."""
    made = matching(THREE)
    points: list[bytes] = []
    for _ in range(2):
        _, network = run(made, {name: ["a", "b", "c"] for name in THREE})
        sent = [message.payload for message in network.messages if message.size == 96]
        assert len(sent) == 3 * len(made.pairs)
        points += [payload[start : start + 32] for payload in sent for start in (0, 32, 64)]
    assert len(set(points)) == len(points)


@pytest.mark.parametrize("left", [False, True])
def test_an_empty_block_is_refused_at_all_parties_in_one_line(left: bool) -> None:
    made = matching(REGISTRY, left=left)
    ids = {"north": "ab", "south": "xyz", "registry": "abc"}
    network = MemoryNetwork(list(made.parties))
    said: dict[str, str] = {}

    def act(transport: Any) -> None:
        try:
            align(transport, made, ids[transport.name], token_bytes(32), JOB)
        except PeerMismatch as error:
            said[transport.name] = str(error)
            transport.close(str(error))

    network.run(act)
    assert said == dict.fromkeys(
        made.parties, "registry, south have no id in common: check that their tables write the same ids alike"
    )


@pytest.mark.parametrize("columns", [TWO, HOSPITALS])
def test_too_few_rows_are_refused_at_all_parties_before_they_hear_which(columns: dict[str, list[str]]) -> None:
    made = replace(matching(columns), least_rows=5)
    ids = {name: ["a", "b", "q"] if name == "laboratory" else ["a", "b", "c", "d"] for name in columns}
    network = MemoryNetwork(list(made.parties), record=True)
    key = token_bytes(32)

    def refused(transport: Any) -> str:
        with pytest.raises(PeerMismatch) as caught:
            align(transport, made, ids[transport.name], key, JOB)
        return str(caught.value)

    messages = set(network.run(refused).values())
    assert messages == {
        "matching by id leaves 4 rows, and a training needs at least 5 in all: "
        "check that the tables write the same ids alike"
    }
    sizes = [message.size for message in network.messages if message.receiver in ("insurer", "laboratory")]
    assert set(sizes) == {8, 32 * 4}  # numbers of rows and blinded ids, no places


def test_each_party_is_told_its_own_numbers() -> None:
    """How many ids match, also where it ends in a refusal: who writes ids otherwise than the others sees it here."""
    ids = {"clinic": ["a", "b", "c", "d"], "insurer": ["d", "b", "y"], "laboratory": ["b", "a", "y"]}
    for least in (1, 5):
        made = replace(matching(THREE), least_rows=least)
        heard: dict[str, list[str]] = {name: [] for name in ids}

        def act(transport: Any, made: Matching = made, heard: dict[str, list[str]] = heard) -> None:
            name = transport.name
            with suppress(PeerMismatch):
                align(transport, made, ids[name], token_bytes(32), JOB, on_notice=heard[name].append)

        MemoryNetwork(list(made.parties)).run(act)
        assert heard["clinic"][:2] == [
            "insurer has 2 of the 4 ids of this table, and lacks 2",
            "laboratory has 2 of the 4 ids of this table, and lacks 2",
        ]
        ends = {
            "clinic": ["1 of the 4 ids of this table are rows of the training, 3 are not"],
            "insurer": ["1 of the 3 ids of this table are rows of the training, 2 are not"],
        }
        assert heard["clinic"][2:] == (ends["clinic"] if least == 1 else [])
        assert heard["insurer"] == (ends["insurer"] if least == 1 else [])


def test_the_ledger_is_made_of_public_facts() -> None:
    entries = disclosures_of(matching(HOSPITALS), (3, 2))
    received = [(entry.receiver, entry.value, entry.shape) for entry in entries]
    assert ("laboratory", "which of its ids are rows of the training", (3,)) in received
    assert ("laboratory", "which of its ids are rows of the training", (2,)) in received
    assert ("south", "which of its ids another party has", (1,)) in received
    assert received[-1] == ("all participants", "number of rows of each block", (2,))
    assert disclosures_of(matching({name: HOSPITALS[name] for name in ("north", "south")}), (3, 2))[:-1] == []


class _Other:
    """A transport that changes one of the messages that a party sends."""

    def __init__(self, transport: Any, number: int, change: Any) -> None:
        self._transport, self._number, self._change = transport, number, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def send(self, peer: str, payload: Any) -> None:
        self._number -= 1
        self._transport.send(peer, self._change(payload.copy()) if self._number < 0 <= self._number + 1 else payload)


def _set(start: int, octets: bytes) -> Any:
    def change(payload: Any) -> Any:
        payload[start : start + len(octets)] = np.frombuffer(octets, dtype=np.uint8)
        return payload

    return change


@pytest.mark.parametrize(
    ("liar", "number", "change"),
    [
        ("insurer", 0, lambda payload: np.array([0], dtype=np.int64).view(np.uint8)),
        ("insurer", 0, lambda payload: np.array([MOST_IDS + 1], dtype=np.int64).view(np.uint8)),
        ("insurer", 0, lambda payload: payload[:-1]),
        ("insurer", 1, lambda payload: np.concatenate([payload[32:64], payload[32:]])),  # a point twice
        ("insurer", 1, _set(0, bytes(32))),  # a point of small order
        ("insurer", 1, _set(0, b"\x01" + bytes(31))),  # the neutral element
        ("insurer", 1, _set(0, b"\x02" + bytes(31))),  # not on the curve
        ("insurer", 1, _set(0, b"\xff" * 32)),  # not canonical
        ("insurer", 2, lambda payload: payload[:-32]),
        ("insurer", 2, lambda payload: np.concatenate([payload[32:64], payload[32:]])),
        ("clinic", 0, lambda payload: np.array([0], dtype=np.int64).view(np.uint8)),
        ("clinic", 0, lambda payload: np.array([-1], dtype=np.int64).view(np.uint8)),
        ("clinic", 1, lambda payload: np.concatenate([payload[32:64], payload[32:]])),
        ("clinic", 1, _set(0, b"\x02" + bytes(31))),
        ("clinic", 2, lambda payload: np.array([-1], dtype=np.int64).view(np.uint8)),
        ("clinic", 3, lambda payload: np.array([0, 0], dtype=np.int64).view(np.uint8)),
        ("clinic", 3, lambda payload: np.array([0, 9], dtype=np.int64).view(np.uint8)),
        ("clinic", 2, lambda payload: np.array([MOST_IDS + 1], dtype=np.int64).view(np.uint8)),
        ("clinic", 3, lambda payload: np.array([0, -1], dtype=np.int64).view(np.uint8)),
        ("clinic", 3, lambda payload: np.array([-2, 0], dtype=np.int64).view(np.uint8)),
        ("clinic", 3, lambda payload: np.array([0, 2**62], dtype=np.int64).view(np.uint8)),
        ("clinic", 3, lambda payload: payload[:-8]),
    ],
)
def test_peers_that_send_something_else_are_named(liar: str, number: int, change: Any) -> None:
    made = matching(TWO)
    ids = {"clinic": ["a", "b", "c", "d"], "insurer": ["x", "d", "b", "y", "z"]}

    def act(transport: Any) -> Alignment:
        if transport.name == liar:
            transport = _Other(transport, number, change)
        return align(transport, made, ids[transport.name], token_bytes(32), JOB)

    with pytest.raises(ProtocolError, match=liar):
        MemoryNetwork(list(made.parties)).run(act)
