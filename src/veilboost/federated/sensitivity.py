"""How far one row, or one client, can move the answer to a question: what noise is measured by.

Numbers of rows are public, so neighbours never differ in them:

- unit "row": the content of one row of one client, label and weight included, is replaced by any other;
- unit "client": the whole table of one client is replaced by any other. Each client then scales the parts of its answer
  down to public L2 norms (`clip_to_norm`), those of an answer that speaks of `clip_rows` equal rows.

Questions and their components, all in fixed-point integers modulo 2^64; F features, K bins:

- "edges", once per step of the search: for F' numeric features and K - 1 targets the number of rows below a threshold.
  Each row moves each count by at most 1: squared sensitivity F' (K - 1).
- "present", once: numbers of cells that are not empty: at most 1 for each counted feature.
- "labels", once: sums of the labels' columns, with weights the sum of weights.
- "leaves", per round: for all leaves of the round's trees (one per class) sums of g, h, and rows if these are counted.
- "level", per round and level: for all nodes of the level and all bins of F features the same sums. A row is in one
  node and in one bin of each feature: F times the squared sensitivity of "leaves". Where columns are sampled by tree or
  by level, F is the number of those that the level may split on: clients put zeros in the bins of the others, and no
  value that is disclosed depends on these, since the sums of a node are taken over the bins of a permitted column too
  (`SizedTask.whole`). Where they are sampled by node, the nodes of a level use different columns, clients sum all, and
  F is their number.

**Units.** g, h and rows have noise of different sizes. A component has a public unit u, and what is bounded is
D^2 = sum over components of |difference|^2 / u^2. With noise of variance z^2 D^2 u^2 in each, the whole has the noise
multiplier z ([CKS20], Theorems 14 and 15, allow a sigma for every coordinate).

**One row in "leaves", one tree.** Let w = high - low be the width of g. In the same leaf g moves by at most w and h by
at most h_high; in two leaves g, h and 1 appear in each: D^2 <= max(w^2 + h_high^2 / u_h^2, 2 (max |g|^2 + h_high^2 /
u_h^2 + 1 / u_r^2)), with u_g = 1. u_h is such that h_high / u_h = w / 4, and u_r such that rows cost nothing, if there
is such a unit, or as much as h. For logistic loss D = 2.06 units of g, where g alone has 2.

**One row in "leaves", the trees of K classes.** With p = softmax and e the label's unit vector, |g|_2 = |p - e|_2 <=
sqrt(2), and h = 2 p (1 - p) <= 1/2 gives |h|_2^2 <= sum h / 2 <= sum p = 1. Whatever leaves the two rows are in, class
by class the squared move is at most (|g_k| + |g'_k|)^2 for g and h_k^2 + h'_k^2 for h. Summed, by Minkowski: at most
(2 sqrt(2))^2 for g and 2 for h, for any number of classes. So a round is accounted as one question. All gradients of a
round are those of its first margins, and for two given tables the moves of the round's questions then have a fixed
sum, however the later ones depend on earlier answers: Feldman, Zrnic, "Individual privacy accounting via a Renyi
filter", NeurIPS 2021; for Gaussian noise Smith, Thakurta, arXiv 2210.17520.

**Rounding.** Every row's g and h are rounded to integers first and then cut off at `RowBounds`, so the bounds hold for
the very integers that are summed. Class by class, a unit of each is added for rounding: sqrt(K) to each norm.

[CKS20]: https://arxiv.org/abs/2004.00010
"""

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from veilboost.errors import JobError
from veilboost.federated.questions import LABEL_BITS, RowBounds, Shape

Unit = Literal["row", "client"]
Question = Literal["edges", "present", "labels", "leaves", "level"]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Component:
    """A part of a question's answer.

    Attributes
    ----------
    name
        "counts", "labels", "weights", "gradient", "hessian" or "rows".
    unit_squared
        u^2.
    norm
        Unit "client": the L2 norm of one client's part of an answer is at most this; unit "row": None.
    """

    name: str
    unit_squared: Fraction
    norm: int | None = None


@dataclass(frozen=True)
class Sensitivity:
    """Of one kind of question.

    Attributes
    ----------
    kind, times
        How often it is asked in a job.
    squared
        Bound of D^2.
    components
        In the order of the answer.
    """

    kind: Question
    times: int
    squared: Fraction
    components: tuple[Component, ...]


def sensitivities(shape: Shape, bounds: RowBounds, unit: Unit, clip_rows: int | None) -> tuple[Sensitivity, ...]:
    """Every kind of question that a job asks, with its sensitivity.

    Parameters
    ----------
    clip_rows
        Unit "client": an answer weighs no more than that of a client of so many rows that are all alike; else None.

    Raises
    ------
    JobError
        `clip_rows` is given for unit "row", or missing or not above 0 for unit "client".
    """
    if unit == "row" and clip_rows is not None:
        raise JobError("clip_rows has no meaning for the privacy of rows: remove it")
    if unit == "client" and (clip_rows is None or clip_rows < 1):
        raise JobError("clip_rows must be a whole number above 0 for the privacy of clients: give one")
    asked = []
    searches: tuple[tuple[Question, int, int], ...] = (
        ("edges", shape.steps, shape.searched * (shape.bins - 1)),
        ("present", 1, shape.counted),
    )
    for kind, times, cells in searches:
        if cells and times:
            norm = None if clip_rows is None else _root(cells * clip_rows**2)
            squared = Fraction(cells if norm is None else 2 * norm**2)
            asked.append(Sensitivity(kind, times, squared, (Component("counts", Fraction(1), norm),)))
    if shape.asks_labels:
        asked.append(_labels(shape, bounds, clip_rows))
    asked.append(_sums(shape, bounds, clip_rows))
    return tuple(asked)


def _labels(shape: Shape, bounds: RowBounds, clip_rows: int | None) -> Sensitivity:
    """Sums of labels, and of weights.

    The label y of weight w <= 1 counts as (w y, w). Points of two rows are farthest apart at the corners (0, 0), (low,
    1), (high, 1) of a triangle; with one-hot columns instead of y no two points are farther apart than sqrt(2).
    Rounding to the nearest integer keeps the order of w y and +-w, so integers stay in the same triangle.
    """
    low, high = bounds.label
    one = 2**LABEL_BITS
    names = ("labels", "weights") if shape.weighted else ("labels",)
    if clip_rows is not None:
        norm = clip_rows * one
        squared = (4 if low < 0 else 2) * norm**2 + (2 * norm**2 if shape.weighted else 0)
        return Sensitivity("labels", 1, Fraction(squared), tuple(Component(name, Fraction(1), norm) for name in names))
    if shape.classes > 1:
        squared = 2 * one**2
    else:
        squared = (high - low) ** 2
        if shape.weighted:
            squared = max(squared, high**2 + one**2, low**2 + one**2)
    return Sensitivity("labels", 1, Fraction(squared), tuple(Component(name, Fraction(1)) for name in names))


def _sums(shape: Shape, bounds: RowBounds, clip_rows: int | None) -> Sensitivity:
    """Sums of g, h and rows: the questions of the trees."""
    histograms = shape.mode == "histograms"
    kind: Question = "level" if histograms else "leaves"
    times, cells = (shape.rounds * shape.depth, shape.features) if histograms else (shape.rounds, 1)
    low, high = bounds.gradient
    largest, hessian = max(-low, high), bounds.hessian[1]
    names = ("gradient", "hessian", "rows")[: 3 if shape.counts_rows else 2]
    if clip_rows is not None:
        # Parts of numbers that are not negative move by sqrt(2) norms, those of any sign by 2. Each tree is a question.
        norms = [_root(cells * (clip_rows * bound) ** 2) for bound in (largest, hessian, 1)]
        squares = (Fraction(norms[0] ** 2), *(Fraction(8 * norm**2) for norm in norms[1:]))
        parts = zip(names, squares, norms, strict=False)
        squared = Fraction(4) + Fraction(len(names) - 1, 4)
        return Sensitivity(kind, times * shape.classes, squared, tuple(Component(*part) for part in parts))
    if shape.classes > 1:
        slack = _root(shape.classes)
        of_gradient = 4 * (_root(2 * largest**2) + slack) ** 2
        of_hessian = 2 * (2 * hessian + slack) ** 2  # hessian is 1/2 in fixed point
        share = Fraction(of_gradient, 16)  # of h, and of rows
        squared = of_gradient + (len(names) - 1) * share
        units = (Fraction(1), of_hessian / share, 2 * shape.classes / share)
    else:
        width = high - low
        share = Fraction(width**2, 16)
        # Rows count in two leaves only, where there may be more room for them.
        of_row = max(share, Fraction(15 * width**2, 32) - largest**2)
        squared = max(width**2 + share, 2 * (largest**2 + share + (of_row if shape.counts_rows else 0)))
        units = (Fraction(1), hessian**2 / share, 1 / of_row)
    components = tuple(Component(name, square) for name, square in zip(names, units, strict=False))
    return Sensitivity(kind, times, cells * squared, components)


def clip_to_norm(values: Int64, norm: int) -> Int64:
    """The values themselves if their L2 norm is at most `norm`, else scaled down and rounded towards zero.

    Whole numbers throughout: the norm of the result is at most `norm`, without exception.

    Parameters
    ----------
    values
        int64, any shape.

    Returns
    -------
    int64, of the same shape
    """
    numbers = values.ravel().tolist()
    squares = sum(number * number for number in numbers)
    if squares <= norm * norm:
        return values
    length = _root(squares)
    scaled = [number * norm // length if number >= 0 else -(-number * norm // length) for number in numbers]
    return np.array(scaled, dtype=np.int64).reshape(values.shape)


def _root(square: int) -> int:
    """The square root, rounded up."""
    root = isqrt(square)
    return root if root * root == square else root + 1
