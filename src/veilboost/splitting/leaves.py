"""Weights of leaves from the sums of their gradients."""

from __future__ import annotations

from veilboost.mpc.protocols.sigmoid import FRACTION_BITS
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import to_ring
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared
from veilboost.splitting.gain import Standing
from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters

_RATE_BITS = 20


def leaf_weights(session: Session, standing: Standing, parameters: Parameters, scales: Scales) -> Shared:
    """Weights of leaves, learning rate included, 24 fraction bits; zero for empty ones."""
    rate = round(-parameters.learning_rate * (1 << _RATE_BITS))
    shift = scales.weight_bits + _RATE_BITS - FRACTION_BITS
    return truncate(session, (standing.weight * to_ring(rate), shift))[0]
