"""Programs of the engine run as all owners and the dealer at once, in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any

import numpy as np
import numpy.typing as npt

from veilboost.mpc.dealer import DealerSession
from veilboost.mpc.prg import KEY_BYTES
from veilboost.mpc.ring import Words, pack_bits, to_ring, unpack_bits
from veilboost.mpc.session import OwnerSession, Session
from veilboost.mpc.shares import Shared, SharedBits
from veilboost.mpc.transport.memory import MemoryNetwork, MemoryTransport

DEALER = "dealer"
ANALYST = "analyst"


@dataclass(frozen=True)
class Outcome:
    """What a program left behind.

    Attributes
    ----------
    results
        What it returned at each owner, in order.
    sessions
        The owners' sessions, in order.
    dealer
        The dealer's session.
    dealer_result, analyst_result
        What it returned at the dealer, and what the analyst's part returned, if there was one.
    network
        With every frame, if the run was recorded.
    """

    results: list[Any]
    sessions: list[Session]
    dealer: Session
    dealer_result: Any
    analyst_result: Any
    network: MemoryNetwork


def owner_names(owners: int) -> list[str]:
    return [f"owner{number}" for number in range(owners)]


def execute(
    program: Callable[[Session], Any],
    owners: int = 2,
    *,
    record: bool = False,
    keys: Sequence[bytes] | None = None,
    analyst: Callable[[MemoryTransport], Any] | None = None,
) -> Outcome:
    """Run `program(session)` as every owner and the dealer, and `analyst(transport)` beside them if given."""
    names = owner_names(owners)
    keys = keys or [token_bytes(KEY_BYTES) for _ in names]
    common_keys = {(i, j): token_bytes(KEY_BYTES) for j in range(owners) for i in range(j)}
    network = MemoryNetwork([*names, DEALER, *([ANALYST] if analyst else [])], record=record)

    def main(transport: MemoryTransport) -> tuple[Session | None, Any]:
        if analyst is not None and transport.name == ANALYST:
            return None, analyst(transport)
        session: Session
        if transport.name == DEALER:
            session = DealerSession(transport, names, keys)
        else:
            me = names.index(transport.name)
            pair_keys = {other: common_keys[min(me, other), max(me, other)] for other in range(owners) if other != me}
            session = OwnerSession(transport, names, DEALER, keys[me], pair_keys)
        return session, program(session)

    done = network.run(main)
    return Outcome(
        [done[name][1] for name in names],
        [done[name][0] for name in names],
        done[DEALER][0],
        done[DEALER][1],
        done[ANALYST][1] if analyst else None,
        network,
    )


def run(program: Callable[[Session], Any], owners: int = 2) -> Any:
    """The plain value of what a program returns: a shared array, or any nesting of lists and tuples of them."""
    outcome = execute(program, owners)
    check_shapes(outcome.results[0], outcome.dealer_result)
    return join(outcome.results)


def join(parts: Sequence[Any]) -> Any:
    """Signed integers of additive shares, 0 and 1 of shared bits; lists and tuples element by element."""
    first = parts[0]
    if isinstance(first, Shared):
        return sum((part.words for part in parts[1:]), first.words + np.uint64(0)).view(np.int64)
    if isinstance(first, SharedBits):
        return unpack_bits(join_words([part.words for part in parts]), first.count)
    if isinstance(first, list | tuple):
        return [join(entries) for entries in zip(*parts, strict=True)]
    return first


def join_words(parts: Sequence[Words]) -> Words:
    """XOR of the owners' words."""
    total = parts[0].copy()
    for part in parts[1:]:
        total ^= part
    return total


def check_shapes(at_owner: Any, at_dealer: Any) -> None:
    """The dealer follows the program on shapes alone, so they must be the owners'."""
    if isinstance(at_owner, Shared | SharedBits):
        assert at_dealer.hollow
        assert at_dealer.shape == at_owner.shape
    elif isinstance(at_owner, list | tuple):
        for owner_entry, dealer_entry in zip(at_owner, at_dealer, strict=True):
            check_shapes(owner_entry, dealer_entry)


def secret(session: Session, values: npt.ArrayLike, owner: int = 0) -> Shared:
    """Signed integers that one owner shares."""
    plain = np.asarray(values, dtype=np.int64)
    return session.share(owner, to_ring(plain).reshape(plain.shape) if session.holder == owner else None, plain.shape)


def secret_bits(session: Session, values: npt.ArrayLike, owner: int = 0) -> SharedBits:
    """Bits of shape (..., count) that one owner shares."""
    plain = np.asarray(values).astype(np.bool_)
    words = pack_bits(plain)
    return session.share_bits(owner, words if session.holder == owner else None, words.shape, plain.shape[-1])
