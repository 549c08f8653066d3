"""What the aggregators and their dealer do: cuts, base score, trees.

docs/protocols/federated.md. All of them run this same program; the dealer without clients and without shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from veilboost.errors import ParticipantError
from veilboost.federated.asking import Asking, require_clients
from veilboost.federated.edges import STEPS, EdgeSearch, decide, note_edges
from veilboost.federated.forest import Forest, GrownTree
from veilboost.federated.gather import Gatherer
from veilboost.federated.growing import WHY, grow_tree, leaves_of, note_model
from veilboost.federated.questions import LABEL_BITS
from veilboost.federated.random_tree import random_tree
from veilboost.federated.task import RATIO_BITS
from veilboost.federated.validation import bounds_of_losses, publish_metrics
from veilboost.mpc.protocols.divide import DIVISOR_BITS, divide
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.ring import to_ring
from veilboost.mpc.shares import Shared, concatenate
from veilboost.splitting.metrics import LEAST_VALIDATION_ROWS
from veilboost.splitting.search import interleave


@dataclass
class Training(Asking):
    """One participant's part of a training.

    Attributes
    ----------
    losses
        With early stopping, shared sums of losses and weights of every complete round, shape (2,) each.
    """

    losses: list[Shared] = field(default_factory=list)
    # Whether the sums of a level are of the same clients as what is known of its nodes.
    _unchanged: bool = field(default=False, init=False, repr=False)

    def run(
        self,
        done: int = 0,
        on_tree: Callable[[int], None] = lambda number: None,
        keep: Callable[[int], None] = lambda number: None,
        *,
        begun: bool = False,
        keep_setup: Callable[[], None] = lambda: None,
    ) -> Forest:
        """Train.

        Parameters
        ----------
        done
            Rounds that are complete. A round is one tree, or one for each class.
        on_tree
            Called with the number of rounds done: after the setup, then after every round.
        keep
            Called after every round, to write a checkpoint.
        begun
            Whether cuts and first margin are known. They are not found twice: two first margins, with a client and
            without it, would tell the mean of its labels.
        keep_setup
            Called when they are found, to write a checkpoint.

        Raises
        ------
        ParticipantError
            Fewer clients than `min_clients` are left, or a client's values are out of range.
        """
        session, parameters = self.session, self.task.parameters
        session.exact = True
        if done == 0 and not begun:
            session.phases.enter("setup")
            self._find_edges()
            if parameters.base_score is None:
                self._find_ratios()
            keep_setup()
        note_model(session, self.task)
        on_tree(done)
        for number in range(done * parameters.outputs, parameters.n_trees):
            tree = self._grow_leaves(number) if self.task.leaf_sums else self._grow(number)
            self.forest.trees[number:] = [tree]
            if (number + 1) % parameters.outputs == 0:
                if parameters.early_stopping_rounds is not None:
                    session.phases.enter("validation")
                    news, bounds = self._news(number + 1), bounds_of_losses(self.sized)
                    self.losses.append(self._sum("loss", number + 1, news, 2, bounds))
                    if self.gatherer is not None:
                        self._require_losses(self._cohort)
                session.phases.enter("checkpoint")
                keep((number + 1) // parameters.outputs)
                on_tree((number + 1) // parameters.outputs)
        if self.losses:
            session.phases.enter("validation")
            self.forest.metrics = publish_metrics(session, self.sized, self.losses)
        self._finish(self.gatherer)
        return self.forest

    def _finish(self, gatherer: Gatherer | None) -> None:
        """Tell the clients that the training is over; who does not answer does not have the whole model."""
        if gatherer is None:
            return
        trees = self.task.parameters.n_trees
        end = {"metrics": self.forest.metrics, "ledger": [entry.to_dict() for entry in self.session.ledger]}
        digest = self._told.at_the_end(trees, self.sized.rows, self.forest, **end)
        content = {**self._news(trees), **end, "signatures": gatherer.sign_end(digest)}
        clients = self._asked(trees)
        gatherer.behind.clear()  # who has not caught up now is not waited for again
        gatherer.tell(self._question("done", trees, content=content), clients)
        late = [client for client in gatherer.alive if client in gatherer.behind]
        if late:  # they have missed the last trees, catch up and are told again
            caught_up = [client for client in self._asked(trees) if client in late]
            gatherer.tell(self._question("done", trees, content=content), caught_up)
        gatherer.finish()

    def _find_edges(self) -> None:
        """Cuts of the numeric columns: `STEPS` questions, or twice as many."""
        columns, cuts = len(self.task.numeric), self.task.cuts
        search = EdgeSearch(columns, cuts)
        present: Shared | None = None
        # With a budget the second turn would cost more than it brings.
        turns = (2 if self._protection is None else 1) if columns else 0
        if turns:
            note_edges(self.session, columns, cuts, turns)
        for number in range(turns * STEPS):
            if number == STEPS:
                # The dealer does not know what was found, and need not.
                search = EdgeSearch(columns, cuts, turn=1) if self.session.dealing else search.again()
                present = None
            counted = self.task.counted if search.turn == 0 else range(columns)
            content = {**search.to_json(), "rows": self.sized.rows}
            size = columns * cuts + (len(counted) if search.step == 0 else 0)
            bounds = {client: rows * size for client, rows in self.sized.rows.items()}
            counts = self._sum("edges", 0, content, size, bounds, search.number)
            if self._noise is not None:
                noise = [self._noise("edges", columns * cuts)[0]]
                noise += [self._noise("present", len(counted))[0]] if size > columns * cuts else []
                counts = self._noisy(counts, np.concatenate(noise))
            if present is None:
                present = counts[columns * cuts :] if search.turn else self._present(counts[columns * cuts :])
            decide(self.session, counts[: columns * cuts].reshape(columns, cuts), present, search)
        if columns:
            self._checks.settle(self.session)
        if not self.session.dealing:
            self.forest.edges = search.edges()

    def _present(self, counted: Shared) -> Shared:
        """Present cells of all numeric columns, from those of columns that have missing cells, in shares."""
        budget = None if self._protection is None else self._protection.plan.budget
        most = self.sized.total if budget is None or budget.clip_rows is None else budget.clip_rows
        rows = sum(min(self.sized.rows[client], most) for client in self._cohort)
        whole = self.session.constant(to_ring(np.full(len(self.task.numeric), rows)))
        places = np.full(len(self.task.numeric), -1)
        places[list(self.task.counted)] = np.arange(len(self.task.counted))
        both = concatenate([whole, counted])
        order = np.where(places < 0, np.arange(len(places)), len(places) + places)
        return both[order]

    def _find_ratios(self) -> None:
        """Sums of labels over the sum of weights, published: the base score follows from them."""
        session, columns = self.session, self.task.label_columns
        # Labels and weights are at most 1 in the unit of the job.
        bounds = {client: (rows << LABEL_BITS) * (columns + 1) for client, rows in self.sized.rows.items()}
        sums = self._sum("labels", 0, {"rows": self.sized.rows}, columns + 1, bounds)
        if self._noise is not None:
            noise = self._noise("labels", columns)  # the sum of the weights has noise if it is not public
            of_weights = noise[1, :1] if len(noise) > 1 else np.zeros(1, dtype=np.uint64)
            sums = self._noisy(sums, np.concatenate([noise[0], of_weights]))
        excess = max(0, LABEL_BITS + math.ceil(math.log2(self.sized.total + 1)) - (DIVISOR_BITS - 1))
        if excess:
            (sums,) = truncate(session, (sums, excess))
        whole = concatenate([sums[columns:]] * columns)
        ratios = divide(session, sums[:columns], whole, RATIO_BITS, 2)
        session.note("base score", WHY, (columns,))
        words = session.publish(ratios, "base score")
        if words is not None:
            self.forest.ratios = tuple(words.view(np.int64).tolist())

    def _grow(self, number: int) -> GrownTree:
        previous: list[Shared] = []

        def histograms(level: int, grown: GrownTree) -> Shared:
            shape = (self.task.space.n_bins, self.task.vectors, 2**level)
            both, attempt = level == 0 or self._protection is not None, 0
            found: Shared
            while True:
                content = {**self._news(number, level), "both": both}
                content["levels"] = grown.to_json()["levels"]
                size = shape[0] * shape[1] * (2**level if both else 2**level // 2)
                clients = self._asked(number) if level == 0 else self._cohort
                collected = self._collect("level", number, level, content, clients, size, attempt)
                if collected is None or both or collected.clients == self._cohort:
                    break
                # Left children alone say nothing of the rest of another cohort: both are asked for, of those who are
                # left. Nothing of this level has been opened.
                self._cohort, both, attempt = collected.clients, True, attempt + 1
            if collected is not None:
                # Otherwise the sums are of other clients, or have other noise, than what is known of the nodes.
                self._unchanged = not both
                self._cohort = collected.clients
            words = None
            if collected is not None:
                require_clients(self.task, self._cohort)
                words = self._checks.add(collected, self._bounds(len(self.task.features)), size)
            self._checks.settle(self.session)
            found = Shared(self.session.holder, words, (size,))
            if self._noise is not None:
                noise = self._noise("level", shape[0] * shape[2]).reshape(shape[1], shape[0], shape[2])
                found = self._noisy(found, noise.transpose(1, 0, 2).reshape(-1))
            if self.session.dealing:
                found = Shared(None, None, shape)
            elif both:
                found = found.reshape(*shape)
            else:
                left = found.reshape(shape[0], shape[1], shape[2] // 2)
                found = interleave(left, previous[-1] - left)
            previous[:] = [found]
            return found

        return grow_tree(self.session, self.sized, number, histograms, lambda: self._unchanged)

    def _grow_leaves(self, number: int) -> GrownTree:
        """A tree of random structure: one question."""
        session, vectors, leaves = self.session, self.task.vectors, 2**self.task.parameters.max_depth
        grown = GrownTree()
        if not session.dealing:
            grown = random_tree(self.task, self.forest, number)
        session.phases.enter("sums of clients")
        sums = self._sum("leaves", number, self._news(number), vectors * leaves, self._bounds(1))
        if self._noise is not None:
            sums = self._noisy(sums, self._noise("leaves", leaves).reshape(-1))
        session.phases.enter("leaves")
        return GrownTree(grown.levels, leaves_of(session, self.sized, sums.reshape(vectors, leaves)))

    def _require_losses(self, cohort: Sequence[str]) -> None:
        """Raises ParticipantError where too few rows are held back at the clients that are left."""
        held_back = sum(self.sized.held_back[client] for client in cohort)
        if held_back < LEAST_VALIDATION_ROWS:
            missing = ", ".join([client for client in self.task.clients if client not in cohort][:20])
            raise ParticipantError(
                f"the clients that are left hold back {held_back} rows, and a metric needs at least "
                f"{LEAST_VALIDATION_ROWS}: bring back {missing} and continue with --resume"
            )
