"""The pages of docs/protocols: their programs run, their names exist, their costs are what the code costs."""

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.network import DEALER, execute, secret, secret_bits
from tests.test_repository import ROOT, SRC, run_block, runnable_blocks

from veilboost.mpc.protocols.compare import FEW_ELEMENTS, leading_one, masked_planes, negative
from veilboost.mpc.protocols.dense_incidence import Block, DenseIncidence
from veilboost.mpc.protocols.divide import divide, logarithm, quotient, reciprocal
from veilboost.mpc.protocols.fractions import compare_fractions, fraction_scores, limbs
from veilboost.mpc.protocols.multiply import conjunction, conjunctions, multiply
from veilboost.mpc.protocols.one_hot import one_hot
from veilboost.mpc.protocols.pack import unpack
from veilboost.mpc.protocols.permuted_incidence import PermutedIncidence, SlotPlan
from veilboost.mpc.protocols.select import anchor, select, to_ring
from veilboost.mpc.protocols.sigmoid import exponential, sigmoid
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared, SharedBits, concatenate
from veilboost.splitting.partition import sort_categories
from veilboost.splitting.scales import choose_scales
from veilboost.splitting.search import Candidates, find_splits, open_root
from veilboost.trees.parameters import Parameters

FOLDER = ROOT / "docs" / "protocols"
PACKAGE = SRC / "veilboost"
PAGES = sorted(path.name for path in FOLDER.glob("*.md") if path.name != "README.md")
MODULES = sorted(path.name for path in (PACKAGE / "mpc" / "protocols").glob("*.py") if path.name != "__init__.py")
ALLOWED_IMPORTS = {"fractions", "hashlib", "hmac", "itertools", "math", "secrets"}

#: A line of a page's list of code: - `mpc/ring.py`: `name`, `name`
CODE_LINE = re.compile(r"^- `([\w/]+\.py)`: (.+)$", re.MULTILINE)
QUOTED = re.compile(r"`([A-Za-z]\w*)`")
COST_LINE = re.compile(r"^\| `([^`]+)` \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)

#: Numbers of elements of the two tables of costs. Multiples of 64, and large enough that what is sent per batch does
#: not show; circuits of the second merge four groups of bits at a time.
MANY, FEW = 2 * FEW_ELEMENTS, 128


def text_of(page: str) -> str:
    return (FOLDER / page).read_text(encoding="utf-8")


def public_names(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }


@pytest.mark.parametrize("page", PAGES)
def test_programs_run(page: str, tmp_path: Path) -> None:
    blocks = runnable_blocks(text_of(page))
    assert blocks
    for block in blocks:
        result = run_block(block, tmp_path)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES)
def test_programs_stand_alone_and_assert(page: str) -> None:
    for block in runnable_blocks(text_of(page)):
        nodes = list(ast.walk(ast.parse(block)))
        imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        assert imported <= ALLOWED_IMPORTS
        assert any(isinstance(node, ast.Assert) for node in nodes)


@pytest.mark.parametrize("page", PAGES)
def test_named_code_exists(page: str) -> None:
    lines = CODE_LINE.findall(text_of(page))
    assert lines
    missing = [
        f"{module}: {name}"
        for module, names in lines
        for name in QUOTED.findall(names)
        if name not in public_names(PACKAGE / module)
    ]
    assert missing == []


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_page_that_names_all_of_it(module: str) -> None:
    path = f"mpc/protocols/{module}"
    named = {
        name
        for page in PAGES
        for where, names in CODE_LINE.findall(text_of(page))
        if where == path
        for name in QUOTED.findall(names)
    }
    assert named == public_names(PACKAGE / path)


@pytest.mark.parametrize("module", MODULES)
def test_docstring_leads_to_the_page(module: str) -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / "mpc" / "protocols" / module).read_text(encoding="utf-8")))
    (page,) = re.findall(r"docs/protocols/([\w-]+\.md)", docstring or "")
    assert f"mpc/protocols/{module}" in text_of(page)


@pytest.mark.parametrize("page", PAGES)
def test_page_says_what_every_page_says(page: str) -> None:
    text = text_of(page)
    parts = ["Participants:", "Cost", "## Sources", "## To run"]
    if page != "sharing.md":  # many small protocols: each says in its paragraph what is seen
        parts.append("What each participant sees")
    assert [part for part in parts if part not in text] == []
    assert f"]({page})" in text_of("README.md")


@pytest.mark.parametrize("page", ["architecture.md", "leakage.md"])
def test_files_named_elsewhere_exist(page: str) -> None:
    paths = re.findall(r"`([\w/]+(?:\.py|/))`", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert paths
    assert [path for path in paths if not (PACKAGE / path).exists() and not (ROOT / path).exists()] == []


def test_name_check_notices_a_missing_name() -> None:
    ((module, names),) = CODE_LINE.findall("- `mpc/ring.py`: `words_for`, `no_such_name`")
    assert set(QUOTED.findall(names)) - public_names(PACKAGE / module) == {"no_such_name"}


Call = Callable[[Session, Shared, SharedBits], object]


def four_bits(session: Session, bits: SharedBits) -> SharedBits:
    """Four times the same bits, as planes."""
    return bits.reshape(1)[np.zeros(4, dtype=int)]


def two_fractions(x: Shared) -> Shared:
    """Two players, upper and lower limbs and denominators of each."""
    pair = concatenate([x, x]).reshape(2, x.size)
    return fraction_scores(pair, pair, pair)


def exact_floors(session: Session, x: Shared) -> object:
    session.exact = True
    return truncate(session, (x, 20))


#: The calls of the table of costs. x lies between 1 and 99, the bits are arbitrary.
CALLS: dict[str, Call] = {
    "multiply(x, y)": lambda s, x, b: multiply(s, (x, x + x)),
    "conjunction(x, y)": lambda s, x, b: conjunction(s, b, ~b),
    "conjunctions(w x y z)": lambda s, x, b: conjunctions(s, four_bits(s, b), np.arange(4)[None]),
    "truncate(x, 4)": lambda s, x, b: truncate(s, (x, 4)),
    "truncate(x, 20), exact": lambda s, x, b: exact_floors(s, x),
    "unpack(x)": lambda s, x, b: unpack(s, x),
    "masked_planes(x, 64)": lambda s, x, b: masked_planes(s, x),
    "masked_planes(x, 32 lanes)": lambda s, x, b: masked_planes(s, x, lanes=True),
    "negative(x)": lambda s, x, b: negative(s, x),
    "negative(x, 32)": lambda s, x, b: negative(s, x, 32),
    "leading_one(x, 0, 30)": lambda s, x, b: leading_one(s, x, 0, 30),
    "to_ring(bit)": lambda s, x, b: to_ring(s, b),
    "select(bit, x)": lambda s, x, b: select(s, b, x),
    "anchor(x)": lambda s, x, b: anchor(s, x),
    "one_hot(x, 100)": lambda s, x, b: one_hot(s, x, 100),
    "limbs(x)": lambda s, x, b: limbs(s, x),
    "compare_fractions(x, y)": lambda s, x, b: compare_fractions(s, two_fractions(x)),
    "reciprocal(x)": lambda s, x, b: reciprocal(s, x),
    "quotient(x, y, z)": lambda s, x, b: quotient(s, x, x + x, x - x, 24),
    "divide(x, y)": lambda s, x, b: divide(s, x, x + x, 24),
    "logarithm(x)": lambda s, x, b: logarithm(s, x, 24),
    "sigmoid(x)": lambda s, x, b: sigmoid(s, x),
    "exponential(x)": lambda s, x, b: exponential(s, -x),
}


def measure(call: Call, owners: int, count: int) -> tuple[int, float, float]:
    """Rounds, bytes per element from each owner to each other, and from the dealer to one owner."""
    values = np.arange(count) % 99 + 1

    def program(session: Session) -> tuple[int, dict[str, int]]:
        x, bits = secret(session, values), secret_bits(session, values % 2)
        before = session.rounds, dict(session.transport.bytes_sent)
        call(session, x, bits)
        sent = {peer: total - before[1][peer] for peer, total in session.transport.bytes_sent.items()}
        return session.rounds - before[0], sent

    outcome = execute(program, owners)
    rounds = {rounds for rounds, _ in outcome.results}
    between = {total for _, sent in outcome.results for peer, total in sent.items() if peer != DEALER}
    assert len(rounds) == len(between) == 1  # the same for every owner and peer
    assert all(sent[DEALER] == 0 for _, sent in outcome.results)  # nobody tells the dealer anything
    return rounds.pop(), between.pop() / count, sum(outcome.dealer_result[1].values()) / count


def documented_costs(count: int = MANY) -> dict[str, tuple[int, float, float]]:
    """The first table for many elements; for few, the second one where a call has a line there."""
    many, few = (
        {call: (int(rounds), float(owner), float(dealer)) for call, rounds, owner, dealer in COST_LINE.findall(table)}
        for table in text_of("README.md").split("### Few elements")
    )
    assert set(few) < set(many)
    assert all(many[call] != costs for call, costs in few.items())
    return many if count == MANY else {**many, **few}


def anchored_selection(session: Session, x: Shared, bits: SharedBits) -> object:
    (anchored,) = anchor(session, x)
    return select(session, bits, anchored)


@pytest.mark.parametrize("count", [MANY, FEW])
@pytest.mark.parametrize("call", sorted(CALLS))
def test_cost_is_as_documented(call: str, count: int) -> None:
    assert measure(CALLS[call], 2, count) == documented_costs(count)[call]


def test_cost_of_anchored_selection_is_as_documented() -> None:
    costs = documented_costs()
    apart = zip(costs["anchor(x)"], costs["select(bit, anchored x)"], strict=True)
    assert measure(anchored_selection, 2, FEW) == tuple(first + second for first, second in apart)


@pytest.mark.parametrize("call", ["negative(x)", "compare_fractions(x, y)"])
def test_costs_per_peer_are_the_same_for_three_owners(call: str) -> None:
    assert measure(CALLS[call], 3, MANY) == documented_costs()[call]


def test_every_documented_cost_is_measured() -> None:
    assert set(documented_costs()) == {*CALLS, "select(bit, anchored x)"}


def test_the_page_knows_how_many_are_few() -> None:
    assert f"`FEW_ELEMENTS` ({FEW_ELEMENTS:,}) elements" in text_of("compare.md")


FLOORS_LINE = re.compile(
    r"^\| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE
)


def test_cost_of_exact_floors_is_as_documented() -> None:
    lines = FLOORS_LINE.findall(text_of("truncate.md"))
    assert len(lines) >= 3
    for bits, *documented in lines:

        def floors(session: Session, x: Shared, _: SharedBits, bits: int = int(bits)) -> object:
            session.exact = True
            return truncate(session, (x, bits))

        measured = [*measure(floors, 2, MANY), *measure(floors, 2, FEW)]
        assert measured == [float(number) for number in documented]


def measure_split_search(nodes: int, count: int, constraints: dict[str, int]) -> tuple[int, float, float]:
    """Rounds, and bytes per candidate and node to each peer and from the dealer, of one level."""
    parameters, scales = Parameters(monotone_constraints=constraints), choose_scales(25_000, 1.0, 0.25, 1.0)

    def program(session: Session) -> tuple[int, dict[str, int]]:
        sums = secret(session, np.array([[0], [1 << 22]]) * np.ones(nodes, dtype=np.int64))
        standing = open_root(session, sums, secret_bits(session, np.ones(nodes)), parameters, scales)
        if standing.bounds is not None:  # as below a root
            standing = replace(standing, bounds=standing.bounds.broadcast_to((2, nodes)))
        left = secret(session, np.ones((2, nodes, count)) * (1 << 20))
        signs = np.ones(count, dtype=np.int64) if constraints else None
        candidates = Candidates(left, np.arange(count), signs=signs)
        before = session.rounds, dict(session.transport.bytes_sent)
        find_splits(session, candidates, standing, parameters, scales)
        sent = {peer: total - before[1][peer] for peer, total in session.transport.bytes_sent.items()}
        return session.rounds - before[0], sent

    outcome = execute(program, 2)
    rounds, sent = outcome.results[0]
    return rounds, sent["owner1"] / (nodes * count), sum(outcome.dealer_result[1].values()) / (nodes * count)


SPLIT_LINE = re.compile(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE)


@pytest.mark.parametrize(("page", "constraints"), [("split-search.md", {}), ("monotone.md", {"age": 1})])
def test_cost_of_the_split_search_is_as_documented(page: str, constraints: dict[str, int]) -> None:
    lines = [[int(number) for number in line] for line in SPLIT_LINE.findall(text_of(page))]
    assert len(lines) >= 3
    for count, *documented in lines:
        assert [round(number) for number in measure_split_search(8, count, constraints)] == documented


def measure_partition(columns: int, categories: int, nodes: int) -> tuple[int, float, float]:
    """Rounds, and bytes per column and node to each peer and from the dealer, of one level."""
    parameters, scales = Parameters(), choose_scales(25_000, 1.0, 0.25, 1.0)

    def program(session: Session) -> tuple[int, dict[str, int]]:
        sums = secret(session, np.ones((2, nodes, columns * categories)) * 1000)
        before = session.rounds, dict(session.transport.bytes_sent)
        sort_categories(session, [categories] * columns, sums, parameters, scales).prefix_sums(session, sums)
        sent = {peer: total - before[1][peer] for peer, total in session.transport.bytes_sent.items()}
        return session.rounds - before[0], sent

    outcome = execute(program, 2)
    rounds, sent = outcome.results[0]
    each = nodes * columns
    return rounds, sent["owner1"] / each, sum(outcome.dealer_result[1].values()) / each


PARTITION_LINE = re.compile(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE)


def test_cost_of_sorting_categories_is_as_documented() -> None:
    lines = [[int(number) for number in line] for line in PARTITION_LINE.findall(text_of("partition.md"))]
    assert len(lines) >= 4
    for columns, categories, nodes, *documented in lines:
        assert [round(number) for number in measure_partition(columns, categories, nodes)] == documented


def incidence_bytes(layout: str, part: str, owners: int) -> tuple[int, int, int]:
    """Bytes from the member to another owner, from another owner to the member, from the dealer to the member."""
    rows, bins, width = 24, 4, 3

    def program(session: Session) -> dict[str, int]:
        own = (np.arange(rows) % bins).astype(np.uint16) if session.holder == 0 else None
        x = secret(session, np.arange(rows * width).reshape(rows, width))
        before = dict(session.transport.bytes_sent)
        incidence: PermutedIncidence | DenseIncidence
        if layout == "permuted":
            plans = [SlotPlan(bins, 8)]
            incidence = PermutedIncidence(session, 0, plans, rows, None if own is None else own[None])
        else:
            incidence = DenseIncidence(session, 0, [Block(0, rows, bins)], own)
        if part == "setup":
            return {peer: count - before[peer] for peer, count in session.transport.bytes_sent.items()}
        vectors = session.exchange_masked(x) if part == "histogram" else None
        tables = None if session.dealing else np.zeros(bins, dtype=np.uint64)
        before = dict(session.transport.bytes_sent)
        if vectors is not None:
            incidence.histogram(vectors, [0])
        elif isinstance(incidence, PermutedIncidence):
            incidence.lookup(tables, [0], 2)
        else:
            incidence.lookup(tables, [0], rows, 2)
        return {peer: count - before[peer] for peer, count in session.transport.bytes_sent.items()}

    outcome = execute(program, owners)
    member, other = outcome.results[0], outcome.results[1]
    assert sum(outcome.dealer_result.values()) == outcome.dealer_result["owner0"]
    return member["owner1"], other["owner0"], outcome.dealer_result["owner0"]


@pytest.mark.parametrize("owners", [2, 3])
@pytest.mark.parametrize(
    ("layout", "part", "expected"),
    [
        # n = 24 rows, S = 32 slots, B = 4 bins, V = 3 vectors, o = 2 bytes: docs/protocols/incidence.md, "Cost".
        ("permuted", "setup", (32, 0, 0)),
        ("permuted", "histogram", (0, 0, 8 * 32 * 3)),
        ("permuted", "lookup", (0, 2 * 32, 2 * 24)),
        ("dense", "setup", (8 * 24 * 3, 0, 0)),
        ("dense", "histogram", (0, 0, 8 * 3 * 3)),
        ("dense", "lookup", (0, 2 * 3, 2 * 24)),
    ],
)
def test_cost_of_incidence_is_as_documented(
    layout: str, part: str, expected: tuple[int, int, int], owners: int
) -> None:
    assert incidence_bytes(layout, part, owners) == expected
