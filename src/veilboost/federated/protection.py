"""Differential privacy of one job: scales with room for noise, what clients cut off, what aggregators add.

docs/protocols/privacy.md. All of it follows from public facts, so that every participant works it out alike; all but
the noise itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.federated.discrete_gaussian import fresh_stream, sample
from veilboost.federated.privacy import Budget, NoisePlan, plan_noise
from veilboost.federated.questions import RowBounds, Shape, row_bounds
from veilboost.federated.sensitivity import Question, clip_to_norm
from veilboost.mpc.ring import Words
from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters

Int64 = npt.NDArray[np.int64]

#: Sums stay below this part of 2^30, noise included.
_LIMIT = 0.98 * 2.0**30
_FEWEST_BITS = 6


@dataclass(frozen=True)
class Protection:
    """The noise of a job and what goes with it; public.

    Attributes
    ----------
    plan
        Noise of every kind of question.
    bounds
        Integers of one row; clients cut off what is beyond.
    scales
        With fewer fraction bits, if noise needs the room.
    reg_lambda
        In the unit of the job: at least three standard deviations of the noise of a hessian sum, so that it does not
        make the weights of small leaves.
    """

    plan: NoisePlan
    bounds: RowBounds
    scales: Scales
    reg_lambda: float

    @property
    def statement(self) -> str:
        """What is promised, for reports."""
        return self.plan.statement

    def clip(self, kind: Question, parts: Sequence[Int64]) -> list[Int64]:
        """A client's answer, one array for each component, cut off at the norms that it may have."""
        components = self.plan.of(kind).sensitivity.components
        return [
            part if component.norm is None else clip_to_norm(part, component.norm)
            for part, component in zip(parts, components, strict=True)
        ]

    def adder(self) -> Callable[[Question, int], Words]:
        """One aggregator's source of noise, under a key that nobody else knows.

        Called with a kind of question and how many numbers each component has; returns shape (components, numbers).
        """
        stream = fresh_stream()

        def noise(kind: Question, numbers: int) -> Words:
            variances = self.plan.of(kind).variances
            return np.stack([sample(variance, numbers, stream) for variance in variances]).view(np.uint64)

        return noise


def protect(
    budget: Budget, shape: Shape, parameters: Parameters, scales: Scales, rows: int, aggregators: int, widest: int
) -> Protection:
    """Find noise for a budget, and scales that have room for it.

    Parameters
    ----------
    parameters
        In the unit of the job.
    scales
        Without noise.
    rows
        Of all clients.
    widest
        Bins of the column that has most.

    Raises
    ------
    InputError
        The noise does not fit fixed point, or dp-accounting is not installed.
    """
    gradient_bits, hessian_bits = scales.gradient_bits, scales.hessian_bits
    kind: Question = "level" if shape.mode == "histograms" else "leaves"
    # A right child is a node, which is a sum over the bins of a column, less a sum over bins of another.
    numbers, together = 1 << 20, float(2 * widest if shape.mode == "histograms" else 1)
    while min(gradient_bits, hessian_bits) >= _FEWEST_BITS:
        bounds = row_bounds(parameters, gradient_bits, hessian_bits)
        plan = plan_noise(budget, shape, bounds)
        largest = {
            name: plan.of(kind).largest(name, numbers, aggregators) * sqrt(together) for name in ("gradient", "hessian")
        }
        reg_lambda = max(parameters.reg_lambda, plan.steady_lambda(aggregators, hessian_bits))
        room = {
            "gradient": _LIMIT - rows * max(abs(bound) for bound in bounds.gradient),
            "hessian": _LIMIT - rows * bounds.hessian[1] - 2 * reg_lambda * 2.0**hessian_bits,
        }
        too_large = [name for name in largest if largest[name] > room[name]]
        if not too_large:
            fitted = replace(scales, gradient_bits=gradient_bits, hessian_bits=hessian_bits, exact_hessians=False)
            return Protection(plan, bounds, fitted, reg_lambda)
        gradient_bits -= "gradient" in too_large
        hessian_bits -= "hessian" in too_large
    raise InputError(
        f"the noise for epsilon = {budget.epsilon:g} is too large for {rows} rows: give a larger epsilon or fewer trees"
    )
