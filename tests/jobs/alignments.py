"""Parties that align their rows in memory, as threads."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from veilboost.jobs.alignment import Alignment, GridPlan, align
from veilboost.mpc.transport.memory import MemoryNetwork, MemoryTransport

JOB_HASH = bytes(range(32))


def key_of(name: str) -> bytes:
    return name.encode().ljust(32, b"!")


def run_alignment(
    plan: GridPlan,
    ids: Mapping[str, Sequence[str]],
    join: Any = "inner",
    *,
    record: bool = False,
    wrap: Callable[[MemoryTransport], Any] = lambda transport: transport,
) -> tuple[dict[str, Alignment], MemoryNetwork]:
    """What every party has in the end; `wrap` may put something else in the place of a party's transport."""
    network = MemoryNetwork(plan.parties, record=record)

    def program(transport: MemoryTransport) -> Alignment:
        name = transport.name
        return align(wrap(transport), plan, name, list(ids[name]), key_of(name), JOB_HASH, join)

    return network.run(program), network


def blocks_of(plan: GridPlan, ids: Mapping[str, Sequence[str]], name: str, outcome: Alignment) -> list[Any]:
    """For every block the ids of its rows at one party, None where it lacks one; None for blocks of others."""
    held = [block for block, members in enumerate(plan.blocks) if name in members]
    ends = np.cumsum([outcome.block_rows[block] for block in held])
    assert outcome.rows.dtype == np.int64
    assert len(outcome.rows) == (ends[-1] if held else 0)
    found: list[Any] = [None] * len(plan.blocks)
    for block, end in zip(held, ends, strict=True):
        rows = outcome.rows[end - outcome.block_rows[block] : end].tolist()
        found[block] = [None if row < 0 else ids[name][row] for row in rows]
    return found
