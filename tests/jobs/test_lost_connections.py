"""A training during which all connections are cut again and again."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.mpc.transport.detour import Detour
from tests.processes.support import make_case, run_roles

from veilboost.jobs import connection
from veilboost.mpc.transport.connect import connect
from veilboost.mpc.transport.tls import TlsTransport
from veilboost.tables.table import encode_frame


@contextmanager
def cuts(monkeypatch: pytest.MonkeyPatch, chance: Random) -> Iterator[list[Detour]]:
    """Everybody dials everybody through detours, which are cut every now and then."""
    detours: dict[tuple[str, int], Detour] = {}
    lock = threading.Lock()

    def dial_detours(name: str, order: Any, addresses: Mapping[str, tuple[str, int]], *rest: Any) -> Any:
        with lock:
            for address in addresses.values():
                if address not in detours:
                    detours[address] = Detour(address)
        return connect(name, order, {peer: detours[address].address for peer, address in addresses.items()}, *rest)

    monkeypatch.setattr(connection, "connect", dial_detours)
    over = threading.Event()

    def cut() -> None:
        while not over.wait(0.1 + 0.5 * chance.random()):
            chance.choice(list(detours.values())).cut(reset=chance.random() < 0.5)

    thread = threading.Thread(target=cut)
    made: list[Detour] = []
    try:
        monkeypatch.setattr(TlsTransport, "__init__", _once_made(TlsTransport.__init__, thread, lock))
        yield made
    finally:
        over.set()
        if thread.ident is not None:
            thread.join()
        made += detours.values()
        for one in detours.values():
            one.close()


def _once_made(make: Any, thread: threading.Thread, lock: threading.Lock) -> Any:
    """Begin to cut when somebody has met all others: before, a lost connection ends the meeting."""
    count = [0]

    def init(self: Any, name: str, channels: Any, ways: Any = None, *rest: Any) -> None:
        make(self, name, channels, ways, *rest)
        with lock:
            count[0] += ways is not None
            if count[0] == 4:
                thread.start()

    return init


def test_model_is_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And so are the bytes that the program has sent, since what is sent again is not counted."""
    case = make_case(tmp_path, rows=200, n_estimators=6, max_depth=3)
    quiet = run_roles(case, tmp_path / "quiet")
    with cuts(monkeypatch, Random(4)) as detours:
        outcomes = run_roles(case, tmp_path / "cut")
    assert sum(one.connections for one in detours) > 12 + 6  # six pairs of roles met over twelve connections
    assert {name: one.bytes_sent for name, one in outcomes.items()} == {
        name: one.bytes_sent for name, one in quiet.items()
    }
    values = encode_frame(case.rows, case.job.features)
    first, second = (some["university"].model for some in (quiet, outcomes))
    assert first is not None and second is not None
    np.testing.assert_allclose(second.predict(values), first.predict(values), atol=1e-3)
