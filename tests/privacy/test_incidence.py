"""The joint view of all owners but one during incidence does not depend on that owner's data.

Two ways of looking. For the permuted slots, all permutations are tried: the bins that the others are told (tau) come
out equally often for any two assignments of rows to bins. For everything that travels under a mask, the proof's
bijection is carried out: other data together with masks moved by the difference give the very same frames, to the byte,
and masks are uniform, so both data are equally likely.
"""

from collections import Counter
from collections.abc import Callable
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from tests.network import DEALER, Outcome, execute, owner_names

from veilboost.mpc import prg
from veilboost.mpc.prg import Stream
from veilboost.mpc.protocols import permuted_incidence
from veilboost.mpc.protocols.dense_incidence import Block, DenseIncidence
from veilboost.mpc.protocols.permuted_incidence import PermutedIncidence, SlotPlan
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared

OWNERS = 3
HONEST = OWNERS - 1
KEYS = [bytes([number + 1]) * 32 for number in range(OWNERS)]
SETUP, EXCHANGE, HISTOGRAM, LOOKUP, FINISH = range(5)  # correlation numbers of the programs below

Shift = Callable[[np.ndarray], np.ndarray]


def view(outcome: Outcome) -> list[bytes]:
    """All that the coalition receives from the honest owner and from the dealer."""
    names = owner_names(OWNERS)
    frames = []
    for name in names[:HONEST]:
        for sender in (names[HONEST], DEALER):
            frames += [message.payload for message in outcome.network.between(sender, name)]
    return frames


@pytest.mark.parametrize(
    ("plan", "rows"), [(SlotPlan(2, 2), 3), (SlotPlan(2, 2), 4), (SlotPlan(5, 1), 3), (SlotPlan(2, 2), 1)]
)
def test_told_bins_do_not_depend_on_the_assignment(plan: SlotPlan, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[tuple[int, ...], Counter[tuple[bytes, ...]]] = {}
    assignments = [
        bins for bins in product(range(plan.bins), repeat=rows) if max(Counter(bins).values()) <= plan.capacity
    ]
    if len(assignments) > 8:
        assignments = assignments[::7]
    for bins in assignments:
        told[bins] = Counter()
        own = np.array([bins], dtype=np.uint16)
        for order in permutations(range(plan.slots)):
            alpha = np.array(order, dtype=np.uint32)
            monkeypatch.setattr(permuted_incidence.kernels, "shuffle", lambda words, size, alpha=alpha: alpha.copy())
            outcome = execute(
                lambda s, own=own: PermutedIncidence(s, HONEST, [plan], rows, own if s.holder == HONEST else None),
                OWNERS,
                record=True,
            )
            told[bins][tuple(view(outcome))] += 1
    first, *others = told.values()
    assert len(others) >= 1
    assert first.total() == len(list(permutations(range(plan.slots))))
    assert len(first) > 1
    assert all(other == first for other in others)


@pytest.fixture
def shifts(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[bytes, int], list[Shift]]:
    """Functions that replace the next draws of a stream, by key and number: one per draw."""
    planned: dict[tuple[bytes, int], list[Shift]] = {}
    construct, draw = Stream.__init__, Stream.octets
    identity: dict[int, tuple[tuple[bytes, int], list[Stream]]] = {}

    def constructed(self: Stream, key: bytes, number: int) -> None:
        construct(self, key, number)
        identity[id(self)] = ((key, number), [self])  # kept alive, so that no id is used again

    def octets(self: Stream, count: int) -> np.ndarray:
        drawn = draw(self, count)
        shift = planned.get(identity[id(self)][0])
        return shift[0](drawn) if shift else drawn

    monkeypatch.setattr(prg.Stream, "__init__", constructed)
    monkeypatch.setattr(prg.Stream, "octets", octets)
    return planned


def added(offset: np.ndarray) -> list[Shift]:
    words = offset.reshape(-1).astype(np.uint64)
    return [lambda drawn: (drawn.view(np.uint64) + words).view(np.uint8)]


def xored(offset: np.ndarray) -> list[Shift]:
    octets = np.ascontiguousarray(offset).reshape(-1).view(np.uint8)
    return [lambda drawn: drawn ^ octets]


def words(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)


ROWS, VECTORS, OCTETS = 12, 2, 4
PLAN = SlotPlan(4, 5)
BLOCK = Block(0, ROWS, 4)
MEMBER_BINS = (np.arange(ROWS) % 4).astype(np.uint16)


def make_program(layout: str, member: int, bins: np.ndarray, honest_share: int, honest_table: int) -> Any:
    """Setup, one histogram and one lookup; the shares of vectors and tables are given, the honest owner's by seed."""

    def program(session: Session) -> Any:
        own = session.holder == HONEST
        share = None if session.dealing else words(honest_share if own else 1000 + session.holder, ROWS, VECTORS)
        table = None if session.dealing else words(honest_table if own else 2000 + session.holder, 4)
        mine = bins if session.holder == member else None
        incidence: Any
        if layout == "dense":
            incidence = DenseIncidence(session, member, [BLOCK], mine)
        else:
            incidence = PermutedIncidence(session, member, [PLAN], ROWS, None if mine is None else mine[None])
        exchanged = session.exchange_masked(Shared(session.holder, share, (ROWS, VECTORS)))
        sums = incidence.histogram(exchanged, [0])
        extra = (ROWS,) if layout == "dense" else ()
        read = incidence.lookup(table, [0], *extra, OCTETS)
        return incidence, None if session.dealing else sums.words, read

    return program


def coalition_results(outcome: Outcome) -> list[Any]:
    return [[part.tolist() for part in result[1:]] for result in outcome.results[:HONEST]]


def matrix(bins: np.ndarray) -> np.ndarray:
    """M without its last column."""
    return (bins[:, None] == np.arange(3)).astype(np.uint64)


def run_both(
    layout: str,
    member: int,
    first: tuple[np.ndarray, int, int],
    second: tuple[np.ndarray, int, int],
    shift: Callable[..., None],
) -> None:
    before = execute(make_program(layout, member, *first), OWNERS, record=True, keys=KEYS)
    shift(before)
    after = execute(make_program(layout, member, *second), OWNERS, record=True, keys=KEYS)
    assert sum(map(len, view(before))) > 100
    assert view(after) == view(before)
    assert coalition_results(after) == coalition_results(before)


def test_dense_matrix_is_hidden(shifts: dict[tuple[bytes, int], list[Shift]]) -> None:
    """E = M - A: with A moved by M' - M the others see the same E."""
    others = np.random.default_rng(1).integers(0, 4, ROWS).astype(np.uint16)

    def shift(before: Outcome) -> None:
        shifts[KEYS[HONEST], SETUP] = added(matrix(others) - matrix(MEMBER_BINS))

    run_both("dense", HONEST, (MEMBER_BINS, 1, 2), (others, 1, 2), shift)


def test_permuted_bins_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """tau: with the slots of equal bins exchanged in alpha the others are told the same."""
    others = np.random.default_rng(2).permutation(MEMBER_BINS)
    assert not np.array_equal(others, MEMBER_BINS)
    bins_of_slots = [permuted_incidence._fill(bins, PLAN) for bins in (MEMBER_BINS, others)]
    slots = [np.argsort(bins, kind="stable") for bins in bins_of_slots]
    partner = np.empty(PLAN.slots, dtype=np.int64)  # slot of the first assignment for every slot of the second
    partner[slots[1]] = slots[0]
    original = permuted_incidence.kernels.shuffle

    def shift(before: Outcome) -> None:
        monkeypatch.setattr(permuted_incidence.kernels, "shuffle", lambda drawn, size: original(drawn, size)[partner])

    run_both("permuted", HONEST, (MEMBER_BINS, 1, 2), (others, 1, 2), shift)


@pytest.mark.parametrize("layout", ["dense", "permuted"])
def test_vectors_and_tables_are_hidden_from_a_member(layout: str, shifts: dict[tuple[bytes, int], list[Shift]]) -> None:
    """Member 0 and owner 1 together against owner 2's shares: a, b, the table's mask and d absorb the difference."""
    key = KEYS[HONEST]
    difference = words(11, ROWS, VECTORS) - words(1, ROWS, VECTORS)
    flip = (words(12, 4) ^ words(2, 4)).astype("<u4")

    def shift(before: Outcome) -> None:
        incidence = before.dealer_result[0]
        shifts[key, EXCHANGE] = added(difference)
        if layout == "dense":
            a = incidence._mask.reshape(ROWS, 3)
            shifts[key, HISTOGRAM] = added(a.T @ difference)
            folded = flip[:-1] ^ flip[-1]
            shifts[key, LOOKUP] = xored(folded)
            odd = (a & np.uint64(1)).astype("<u4")
            # The member reads the masked table at A; the rest of the difference stays in owner 2's own share.
            shifts[key, FINISH] = xored(np.bitwise_xor.reduce(odd * folded, axis=1).astype("<u4"))
        else:
            places, tau = np.argsort(incidence._row_at, kind="stable")[:ROWS], before.results[0][0]._tau
            moved = np.zeros((PLAN.slots, VECTORS), dtype=np.uint64)
            moved[places] = difference
            shifts[key, HISTOGRAM] = added(moved)
            shifts[key, LOOKUP] = xored(flip[tau])
            shifts[key, FINISH] = xored(flip[tau[places]])

    run_both(layout, 0, (MEMBER_BINS, 1, 2), (MEMBER_BINS, 11, 12), shift)


def test_without_the_shift_the_frames_differ() -> None:
    """So that the comparisons above could fail."""
    others = np.random.default_rng(1).integers(0, 4, ROWS).astype(np.uint16)
    for layout in ("dense", "permuted"):
        runs = [
            execute(make_program(layout, HONEST, bins, 1, 2), OWNERS, record=True, keys=KEYS)
            for bins in (MEMBER_BINS, others if layout == "dense" else np.roll(MEMBER_BINS, 1))
        ]
        assert view(runs[0]) != view(runs[1])
    runs = [execute(make_program("dense", 0, MEMBER_BINS, seed, 2), OWNERS, record=True, keys=KEYS) for seed in (1, 11)]
    assert view(runs[0]) != view(runs[1])
