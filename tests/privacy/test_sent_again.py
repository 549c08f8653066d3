"""What was sent stays as it is.

After a lost connection frames are sent a second time, from the sender's own arrays (`mpc/transport/outbox.py`). If one
had changed meanwhile, another value would go out under the same one-time mask.
"""

import numpy as np
import pytest
from tests.training import EVERY_KIND, draw_table, train_on_shares

from veilboost.mpc.transport.base import Octets
from veilboost.mpc.transport.memory import MemoryTransport
from veilboost.trees.parameters import Parameters


@pytest.mark.parametrize("owners", [2, 3])
@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
def test_no_payload_changes_after_it_was_sent(monkeypatch: pytest.MonkeyPatch, owners: int, objective: str) -> None:
    sent: list[tuple[Octets, bytes]] = []
    really_send = MemoryTransport.send

    def send(self: MemoryTransport, peer: str, payload: Octets) -> None:
        sent.append((payload, payload.tobytes()))
        really_send(self, peer, payload)

    monkeypatch.setattr(MemoryTransport, "send", send)
    table = draw_table(EVERY_KIND, 150, owners, objective, np.random.default_rng(5))
    parameters = Parameters(objective=objective, n_estimators=2, max_depth=3, max_bin=8, reveal_gain=True)
    train_on_shares(table, parameters, owners)
    assert len(sent) > 1000
    assert [number for number, (payload, then) in enumerate(sent) if payload.tobytes() != then] == []
