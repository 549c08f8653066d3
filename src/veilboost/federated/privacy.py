"""A budget of differential privacy, and the noise that keeps to it.

**Mechanism.** Every question of a job is answered by a vector of whole numbers, the sum over the clients, that exists
on the aggregators' shares only. Every aggregator adds to its share the *whole* discrete Gaussian noise of a `NoisePlan`
(`veilboost.federated.discrete_gaussian`): it could subtract its own, and so could all but one of them together; the
last one's noise still keeps the budget. All that is disclosed is computed from noisy sums.

**Accounting.** Kinds of questions get parts of the budget in zero-concentrated terms: a part rho_k / rho of the total
goes to kind k, asked t_k times with the noise multiplier z_k, so that t_k / z_k^2 = (rho_k / rho) / z^2 for the
multiplier z that the whole budget allows one single question. The events are composed by dp-accounting (privacy loss
distributions of Gaussian mechanisms [DGK+22]), which says what epsilon the job has at its delta. Sampling of rows is
public and not counted.

**Discrete noise, continuous accounting.** Let Y = q + N(0, sigma^2 - 9) and let X be an integer near Y: X = x with
probability proportional to exp(-(x - Y)^2 / 18). X depends on q through Y alone, so it is as private as Gaussian noise
of variance sigma^2 - 9. By Poisson's summation the sums of exp(-(x - y)^2 / 18) over all integers x differ between any
two y by a factor of at most (1 + e)^2, with e < 3 exp(-18 pi^2) < 1e-76, and so X has the probabilities of q + discrete
Gaussian of variance sigma^2 up to a factor of (1 + e)^4, a sum of independent Gaussians being one (Peikert, CRYPTO
2010, Theorem 3.1). For all numbers of a job together, fewer than 2^60, the factor differs from 1 by less than 1e-57,
which changes no digit of epsilon and delta. So every variance is 9 more than what is accounted for. [CKS20], Theorem
15, gives the exact delta of one vector, and needs the vector; this bound holds for all vectors and for questions that
depend on earlier answers.

[CKS20]: https://arxiv.org/abs/2004.00010
[DGK+22]: https://arxiv.org/abs/2207.04380
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil, isqrt, log, sqrt
from types import ModuleType
from typing import Final

from veilboost.errors import InputError, JobError
from veilboost.federated.discrete_gaussian import MOST_SIGMA_BITS
from veilboost.federated.questions import RowBounds, Shape
from veilboost.federated.sensitivity import Question, Sensitivity, Unit, sensitivities

#: Parts of the budget; what a job does not ask goes to the others in proportion.
PARTS: Final[dict[Question, Fraction]] = {
    "edges": Fraction(95, 1000),
    "present": Fraction(5, 1000),
    "labels": Fraction(20, 1000),
    "leaves": Fraction(880, 1000),
    "level": Fraction(880, 1000),
}

#: What is added to variances so that Gaussian accounting holds for discrete noise.
DISCRETE: Final = 9

LEAST_EPSILON, MOST_EPSILON = 0.01, 20.0
LEAST_DELTA, MOST_DELTA = 1e-12, 0.01

#: Step of privacy losses in the accountant, at epsilon = 1; the finer, the slower where epsilon is large.
_INTERVAL: Final = 1e-4

#: `Noise.largest` is exceeded by any of the numbers with less than this probability.
_RARE_BITS: Final = 40


@dataclass(frozen=True)
class Budget:
    """What a job may disclose about one unit.

    Attributes
    ----------
    unit
        "row" or "client".
    epsilon, delta
        0.01 to 20, and 1e-12 to 0.01; delta should be well below 1 / (number of units).
    clip_rows
        Unit "client": the rows that one client counts as at most; see `veilboost.federated.sensitivity`.

    Raises
    ------
    JobError
        A number is out of range.
    """

    unit: Unit
    epsilon: float
    delta: float
    clip_rows: int | None = None

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("epsilon", self.epsilon, LEAST_EPSILON, MOST_EPSILON),
            ("delta", self.delta, LEAST_DELTA, MOST_DELTA),
        ):
            if not low <= value <= high:  # NaN fails too
                raise JobError(f"privacy: {name} = {value:g} is not allowed: give a number from {low:g} to {high:g}")


@dataclass(frozen=True)
class Noise:
    """Noise of one kind of question.

    Attributes
    ----------
    sensitivity
        What it is measured by; names the components.
    variances
        sigma^2 of each component, in squared fixed-point integers: what *each* aggregator draws for every number.
    multiplier
        The noise multiplier that is accounted for.
    """

    sensitivity: Sensitivity
    variances: tuple[Fraction, ...]
    multiplier: float

    def variance(self, component: str) -> Fraction:
        """sigma^2 of a component; KeyError when there is none of that name."""
        names = [part.name for part in self.sensitivity.components]
        return dict(zip(names, self.variances, strict=True))[component]

    def largest(self, component: str, numbers: int, aggregators: int) -> int:
        """No sum of the noise of all aggregators for so many numbers is larger, but with a probability of 2^-40.

        The discrete Gaussian is subgaussian ([CKS20], section 3), and sums are: P(|x| >= t sigma) <= 2 exp(-t^2 / 2).
        """
        tail = 2 * (log(2 * max(1, numbers)) + _RARE_BITS * log(2))
        return isqrt(ceil(self.variance(component) * aggregators * Fraction(tail))) + 1


@dataclass(frozen=True)
class NoisePlan:
    """The noise of a whole job, the same for all aggregators.

    Attributes
    ----------
    budget
        What was asked for.
    epsilon
        What the job has, at the budget's delta, by dp-accounting: at most the budget's.
    noises
        One for every kind of question.
    """

    budget: Budget
    epsilon: float
    noises: tuple[Noise, ...]

    def of(self, kind: Question) -> Noise:
        """The noise of a kind of question; KeyError when the job does not ask it."""
        return {noise.sensitivity.kind: noise for noise in self.noises}[kind]

    def steady_lambda(self, aggregators: int, hessian_bits: int) -> float:
        """A `reg_lambda` with which noise does not make the weights of small leaves: three sigma of a hessian sum.

        Noise g / (noise h + lambda) of an empty leaf then stays within about one for logistic loss. Found by trials;
        it has nothing to do with what is promised.
        """
        (noise,) = [noise for noise in self.noises if noise.sensitivity.kind in ("leaves", "level")]
        return 3 * sqrt(noise.variance("hessian") * aggregators) / float(1 << hessian_bits)

    @property
    def statement(self) -> str:
        """What is promised, as plain text for reports; one line per kind of question."""
        budget = self.budget
        if budget.unit == "row":
            neighbours = "the content of one row of one client, its label included, is replaced by any other"
        else:
            neighbours = (
                "the whole table of one client is replaced by any other; "
                f"a client counts as at most {budget.clip_rows} equal rows"
            )
        lines = [
            f"Differential privacy of one {budget.unit}: neighbours are tables of the same numbers of rows where "
            f"{neighbours}.",
            f"epsilon = {self.epsilon:.6g} (at most {budget.epsilon:g} was allowed) at delta = {budget.delta:g}, all "
            "questions together; public sampling of rows is not counted.",
        ]
        for noise in self.noises:
            asked = noise.sensitivity
            parts = list(zip(asked.components, noise.variances, strict=True))
            sigmas = ", ".join(f"{part.name} {sqrt(variance):.6g}" for part, variance in parts)
            units = ", ".join(f"{part.name} {sqrt(part.unit_squared):.6g}" for part, _ in parts)
            norms = ", ".join(f"{part.name} {part.norm}" for part, _ in parts if part.norm is not None)
            lines.append(
                f"{asked.kind}: asked {asked.times} times; L2 sensitivity {sqrt(asked.squared):.6g} in units of {units}"
                + (f", each client's answer clipped to the norms {norms}" if norms else "")
                + f"; every aggregator adds discrete Gaussian noise of sigma {sigmas}; noise multiplier "
                f"{noise.multiplier:.6g}."
            )
        return "\n".join(lines)


def plan_noise(budget: Budget, shape: Shape, bounds: RowBounds) -> NoisePlan:
    """The least noise, in the parts of `PARTS`, with which a job keeps to its budget.

    Parameters
    ----------
    budget, shape, bounds
        Public; `bounds` of one row, `veilboost.federated.questions.row_bounds`.

    Raises
    ------
    InputError
        dp-accounting is not installed, or the noise is larger than fixed point holds.
    JobError
        `clip_rows` does not fit the unit.
    """
    asked = sensitivities(shape, bounds, budget.unit, budget.clip_rows)
    _accounting()
    times = tuple((question.kind, question.times) for question in asked)
    epsilon, multipliers = _multipliers(budget.epsilon, budget.delta, times)
    noises = tuple(
        Noise(
            question,
            tuple(_variance(question, part.unit_squared, multiplier) for part in question.components),
            multiplier,
        )
        for question, multiplier in zip(asked, multipliers, strict=True)
    )
    return NoisePlan(budget, epsilon, noises)


@cache  # a job asks for it with every number of fraction bits that it tries, and bits do not matter here
def _multipliers(
    allowed: float, delta: float, asked: tuple[tuple[Question, int], ...]
) -> tuple[float, tuple[float, ...]]:
    """Epsilon of the least noise multipliers, and these, for questions that are asked so many times."""
    single = float(_accounting().get_sigma_gaussian(allowed, delta))
    whole = sum(PARTS[kind] for kind, _ in asked)
    margin = 1e-6
    while True:
        # dp-accounting rounds privacy losses up, by about 1e-7 of epsilon: the first or second turn succeeds.
        multipliers = [single * (1 + margin) * sqrt(times * whole / PARTS[kind]) for kind, times in asked]
        events = [(multiplier, times) for multiplier, (_, times) in zip(multipliers, asked, strict=True)]
        epsilon = composed_epsilon(events, delta, _INTERVAL * max(1.0, allowed))
        if epsilon <= allowed:
            return epsilon, tuple(multipliers)
        if margin > 0.1:
            raise InputError(f"privacy: no noise was found for epsilon = {allowed:g}: give a larger epsilon")
        margin *= 4


def composed_epsilon(events: Sequence[tuple[float, int]], delta: float, interval: float = _INTERVAL) -> float:
    """Epsilon at delta of Gaussian mechanisms one after the other, each a noise multiplier and how often it is used.

    Parameters
    ----------
    interval
        Privacy losses are rounded up to multiples of this.

    Raises
    ------
    InputError
        dp-accounting is not installed.
    """
    accounting = _accounting()
    # A multiplier is the ratio of sigma to how far neighbours are apart. The accountant for replaced rows would double
    # the distance once more, because it takes it for that of a row that is left out.
    accountant = accounting.pld.PLDAccountant(accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    accountant.compose(
        accounting.ComposedDpEvent(
            [
                accounting.SelfComposedDpEvent(accounting.GaussianDpEvent(multiplier), times)
                for multiplier, times in events
            ]
        )
    )
    return float(accountant.get_epsilon(delta))


def _variance(question: Sensitivity, unit_squared: Fraction, multiplier: float) -> Fraction:
    """z^2 D^2 u^2 + 9, rounded up to a whole number."""
    variance = ceil(Fraction(multiplier) ** 2 * question.squared * unit_squared) + DISCRETE
    if isqrt(variance) >> MOST_SIGMA_BITS:
        raise InputError(
            f"privacy: the noise of '{question.kind}' has sigma = 2^{isqrt(variance).bit_length()}, more than fixed "
            "point holds: give a larger epsilon, fewer trees or smaller bounds"
        )
    return Fraction(variance)


def _accounting() -> ModuleType:
    # Loaded where it is needed: it loads scipy, and only jobs with a budget need either.
    try:
        import dp_accounting
    except ImportError:
        raise InputError(
            "differential privacy needs the package dp-accounting: install it with pip install 'veilboost[federated]'"
        ) from None
    module: ModuleType = dp_accounting
    return module
