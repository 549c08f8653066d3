"""Nodes with candidates in fixed point, and which candidate the ranking chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.network import run, secret, secret_bits

from veilboost.mpc.protocols.argmax import tournament
from veilboost.mpc.session import Session
from veilboost.mpc.shares import stack
from veilboost.splitting.gain import contest, is_valid, keep_valid, rank
from veilboost.splitting.scales import Scales, choose_scales
from veilboost.splitting.search import open_root
from veilboost.trees.exact_splits import score
from veilboost.trees.parameters import Parameters

Ints = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Nodes:
    """Sums of left sides, shape (nodes, candidates), and of nodes, shape (nodes,), in units of the scales."""

    gradient: Ints
    hessian: Ints
    node_gradient: Ints
    node_hessian: Ints
    scales: Scales

    @classmethod
    def of(
        cls,
        gradient: npt.ArrayLike,
        hessian: npt.ArrayLike,
        node_gradient: npt.ArrayLike,
        node_hessian: npt.ArrayLike,
        scales: Scales,
    ) -> "Nodes":
        """From real sums."""
        g, h = 2.0**scales.gradient_bits, 2.0**scales.hessian_bits

        def units(values: npt.ArrayLike, unit: float) -> Ints:
            return np.rint(np.asarray(values, dtype=np.float64) * unit).astype(np.int64)

        return cls(units(gradient, g), units(hessian, h), units(node_gradient, g), units(node_hessian, h), scales)

    def __len__(self) -> int:
        return len(self.gradient)

    def real(self) -> tuple[Float64, Float64, Float64, Float64]:
        g, h = 2.0**self.scales.gradient_bits, 2.0**self.scales.hessian_bits
        return self.gradient / g, self.hessian / h, self.node_gradient[:, None] / g, self.node_hessian[:, None] / h

    def gains(self, parameters: Parameters) -> Float64:
        """XGBoost's gains, whatever the sides."""
        g, h, node_g, node_h = self.real()
        with np.errstate(divide="ignore", invalid="ignore"):
            gains: Float64 = score(g, h, parameters) + score(node_g - g, node_h - h, parameters)
            return gains - score(node_g, node_h, parameters)

    def enough(self, least_hessian: int) -> Bools:
        """Whether both sides have the least hessian, in units."""
        enough: Bools = (self.hessian >= least_hessian) & (self.node_hessian[:, None] - self.hessian >= least_hessian)
        return enough


def joined(parts: Sequence[Nodes]) -> Nodes:
    """The candidates of several, of the same nodes, one after the other."""
    return Nodes(
        np.concatenate([part.gradient for part in parts], axis=1),
        np.concatenate([part.hessian for part in parts], axis=1),
        parts[0].node_gradient,
        parts[0].node_hessian,
        parts[0].scales,
    )


def draw_nodes(
    nodes: int,
    objective: str,
    reg_lambda: float,
    seed: int,
    features: int = 6,
    bins: int = 12,
    most: int = 100_000,
    least: int = 200,
) -> Nodes:
    """Nodes of `least` to `most` rows, log-uniform, with weak and strong effects; features share the nodes' rows."""
    rng = np.random.default_rng(seed)
    logistic = objective == "binary:logistic"
    scales = choose_scales(most, 1.0 if logistic else 2.0, 0.25 if logistic else 1.0, reg_lambda)
    rows = np.exp(rng.uniform(np.log(least), np.log(most), nodes)).astype(np.int64)
    shares = rng.dirichlet(np.full(bins, 0.7), (nodes, features))
    counts = np.stack(
        [[rng.multinomial(n, share) for share in per_node] for n, per_node in zip(rows, shares, strict=True)]
    )
    effect = rng.normal(size=counts.shape) * 10.0 ** rng.uniform(-3, 0, (nodes, 1, 1))
    if logistic:
        p = rng.uniform(0.02, 0.98, (nodes, 1, 1))
        positive = rng.binomial(counts, np.clip(p + effect * p * (1 - p), 0, 1))
        gradient, hessian = counts * p - positive, counts * p * (1 - p)
    else:
        gradient, hessian = counts * effect.clip(-1, 1) + rng.normal(size=counts.shape) * np.sqrt(counts), counts * 1.0
    gradient = np.rint(gradient * 2**scales.gradient_bits).astype(np.int64)
    noise = np.rint(rng.normal(size=counts.shape) * np.sqrt(counts / 6)).astype(np.int64) if logistic else 0
    hessian = np.rint(hessian * 2**scales.hessian_bits).astype(np.int64) + noise
    # All features must sum up to the same node: every row makes up an equal part of the difference.
    for sums in (gradient, hessian):
        difference = sums[:, :1].sum(axis=2) - sums.sum(axis=2)
        sums += np.rint(difference[:, :, None] * counts / rows[:, None, None]).astype(np.int64)
        sums[:, :, -1] += sums[:, :1].sum(axis=2) - sums.sum(axis=2)
    left = np.stack([gradient, hessian]).cumsum(axis=3)[..., :-1].reshape(2, nodes, -1)
    return Nodes(left[0], left[1], gradient[:, 0].sum(axis=1), hessian[:, 0].sum(axis=1), scales)


def choose(nodes: Nodes, parameters: Parameters, valid: Bools, owners: int = 2) -> tuple[Ints, Bools]:
    """Which candidate of each node wins, and whether its score says that it is valid."""
    count = nodes.gradient.shape[1]
    places = np.tile(np.arange(count), (len(nodes), 1))

    def program(session: Session) -> Any:
        sums = stack([secret(session, nodes.node_gradient), secret(session, nodes.node_hessian, 1)])
        alive = secret_bits(session, np.ones(len(nodes)))
        standing = open_root(session, sums, alive, parameters, nodes.scales)
        left = secret(session, nodes.gradient), secret(session, nodes.hessian)
        ranked = rank(session, *left, standing, parameters, nodes.scales)
        bits = secret_bits(session, valid.reshape(1, -1), 1)[0]
        scores = keep_valid(session, bits, ranked.scores, parameters)
        best, carried = tournament(session, contest(parameters), scores, stack([secret(session, places)]))
        assert carried is not None
        return carried[0], is_valid(best, parameters)

    place, certificate = run(program, owners)
    return place, certificate > 0
