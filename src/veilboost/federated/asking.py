"""Questions to the clients, and sums of their answers, as one participant of a training has them.

docs/protocols/federated.md. All aggregators make the same questions from what is public, and number them alike.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from veilboost.errors import ParticipantError
from veilboost.federated.collected import Collected
from veilboost.federated.forest import Forest
from veilboost.federated.gather import BATCH, Gatherer
from veilboost.federated.messages import Question
from veilboost.federated.range_checks import RangeChecks
from veilboost.federated.task import FederatedTask, SizedTask
from veilboost.federated.told import Told
from veilboost.mpc.ring import Words
from veilboost.mpc.session import Session
from veilboost.mpc.shares import Shared


@dataclass
class Asking:
    """What all aggregators ask clients alike, and the sums that they get; at the dealer all of it is empty.

    Attributes
    ----------
    session
        Of an aggregator, or of the dealer.
    sized
        The task, and the rows of the clients that take part.
    gatherer
        None at the dealer.
    forest
        What is known: of a training that is resumed the complete trees.
    """

    session: Session
    sized: SizedTask
    gatherer: Gatherer | None
    forest: Forest = field(default_factory=Forest)

    def __post_init__(self) -> None:
        self._serial = 0
        self._cohort: tuple[str, ...] = ()
        self._checks = RangeChecks(self.task.clients)
        self._told = Told()
        self._protection = self.sized.protection
        # Noise is drawn at the aggregators only.
        self._noise = None if self._protection is None or self.session.dealing else self._protection.adder()

    @property
    def task(self) -> FederatedTask:
        return self.sized.task

    def _sum(
        self, kind: str, tree: int, content: Mapping[str, Any], size: int, bounds: Mapping[str, int], level: int = 0
    ) -> Shared:
        """Ask all clients that are up to date, so many at a time as memory should hold, and add their answers."""
        clients, words = self._asked(tree), np.zeros(size, dtype=np.uint64)
        cohort: list[str] = []
        for start in range(0, len(clients), BATCH):
            collected = self._collect(kind, tree, level, content, clients[start : start + BATCH], size)
            if collected is not None:
                words += self._checks.add(collected, bounds, size)
                cohort += collected.clients
        self._cohort = tuple(cohort)
        if self.gatherer is not None:
            require_clients(self.task, self._cohort)
        if kind != "edges":  # of those, all questions together are checked at the end
            self._checks.settle(self.session)
        return Shared(self.session.holder, None if self.session.dealing else words, (size,))

    def _collect(
        self,
        kind: str,
        tree: int,
        level: int,
        content: Mapping[str, Any],
        clients: Sequence[str],
        size: int,
        attempt: int = 0,
    ) -> Collected | None:
        if self.gatherer is None:
            return None
        question = self._question(kind, tree, level, attempt, content)
        told = self._told.before(kind, tree, self.sized.rows, self.forest)
        return self.gatherer.collect(question, clients, size, told)

    def _noisy(self, sums: Shared, noise: Words) -> Shared:
        """Sums with this aggregator's noise, which is its share of all the noise: nobody else knows it.

        An array that is added to shares counts as public, and only one participant would add it.
        """
        return sums + Shared(self.session.holder, np.ascontiguousarray(noise))

    def _asked(self, tree: int) -> tuple[str, ...]:
        """Clients that are asked at the beginning of a tree, after those that have missed trees have caught up."""
        gatherer = self.gatherer
        if gatherer is None:
            return ()
        behind = [client for client in gatherer.alive if client in gatherer.behind]
        if behind:
            content = {"forest": self.forest.to_json(), "rows": self.sized.rows}
            known = gatherer.tell(self._question("trees", tree, content=content), behind)
            gatherer.behind -= {client for client, trees in known.items() if trees == tree}
        return tuple(client for client in gatherer.alive if client not in gatherer.behind)

    def _question(
        self, kind: str, tree: int, level: int = 0, attempt: int = 0, content: Mapping[str, Any] | None = None
    ) -> Question:
        self._serial += 1
        return Question(kind, self._serial, tree, attempt, level, content or {})

    def _news(self, tree: int, level: int = 0) -> dict[str, Any]:
        """What clients must know before they answer a question on a tree: the last one, or what comes before all."""
        if level > 0 or self.gatherer is None:  # the dealer asks nobody, and has no checkpoint with earlier trees
            return {}
        if tree > 0:
            return {"last": self.forest.trees[tree - 1].to_json()}
        known = self.forest.to_json()
        return {"edges": known["edges"], "ratios": known["ratios"], "rows": self.sized.rows}

    def _bounds(self, columns: int) -> dict[str, int]:
        """What the magnitudes in a client's sums of gradients, hessians and rows add up to at most.

        Residuals of squared error are bounded in the mean over all rows only: over a client's own m of n rows their sum
        is at most sqrt(m n) times that bound.
        """
        scales, limits = self.sized.scales, self.task.bounds
        each = limits.gradient * 2.0**scales.gradient_bits + limits.hessian * 2.0**scales.hessian_bits + 3
        squared = self.task.parameters.objective == "reg:squarederror"
        return {
            client: math.ceil(columns * each * (math.sqrt(rows * self.sized.total) if squared else rows))
            for client, rows in self.sized.rows.items()
        }


def require_clients(task: FederatedTask, clients: Collection[str]) -> None:
    """Raise ParticipantError where fewer than `min_clients` take part."""
    if len(clients) < task.min_clients:
        missing = ", ".join([client for client in task.clients if client not in clients][:20])
        # Noise is drawn anew at every start, so that with a budget no training goes on where another one ended.
        how = "continue with --resume" if task.privacy is None else "start anew, which is another use of the budget"
        raise ParticipantError(
            f"only {len(clients)} of the {len(task.clients)} clients are left, and min_clients is "
            f"{task.min_clients}: bring back {missing} and {how}"
        )
