"""What a client does: it answers questions, one after the other, and follows the growing model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from veilboost.errors import ProtocolError
from veilboost.federated.counters import Counters
from veilboost.federated.edges import EdgeSearch
from veilboost.federated.forest import (
    Forest,
    GrownTree,
    forest_from_json,
    levels_from_json,
    metrics_from_json,
    tree_from_json,
)
from veilboost.federated.keys import MOST_ROWS, ClientRing, Identity
from veilboost.federated.local import LocalRows
from veilboost.federated.messages import SUMS, Answer, Question, octets_of
from veilboost.federated.random_tree import random_tree
from veilboost.federated.task import FederatedTask, SizedTask
from veilboost.federated.told import Told
from veilboost.mpc.ledger import Disclosure
from veilboost.mpc.ring import Words
from veilboost.tables.table import Table


class Client:
    """One client of a job.

    Parameters
    ----------
    name
        Of the client.
    table
        Its rows.
    identity
        Its certificate.
    counters
        What it has answered, on disk.

    Attributes
    ----------
    forest
        The model so far.
    done
        Whether the training is over and the model complete.
    ledger
        At the end, what the aggregators have disclosed.
    """

    def __init__(
        self,
        task: FederatedTask,
        name: str,
        table: Table,
        identity: Identity,
        counters: Counters,
        job_hash: bytes,
        aggregators: Sequence[str],
        on_tree: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.task, self.name = task, name
        self.forest = Forest()
        self.done = False
        self.ledger: list[Disclosure] = []
        self._rows = table.rows
        self._local = LocalRows(task, name, table)
        self._ring = ClientRing(identity, job_hash, name, table.rows, aggregators)
        self._counters = counters
        self._on_tree = on_tree
        self._sized: SizedTask | None = None
        self._told = Told()

    def __repr__(self) -> str:
        return f"Client({self.name!r}, redacted)"

    def answer(self, data: bytes) -> bytes:
        """Answer one question.

        Parameters
        ----------
        data
            From the server; the same for all clients, except for what lets a client catch up.

        Returns
        -------
        bytes
            For the server: public words, and a box that only the last aggregator can open.

        Raises
        ------
        ProtocolError
            The question makes no sense, or comes a second time.
        PeerMismatch
            The server runs another job, or shows keys that are not the aggregators'.
        """
        question = Question.from_bytes(data)
        content = question.content
        if question.kind == "hello":
            nonce = octets_of(content, "nonce") or b""
            self._counters.refuse(nonce)  # before the keys of the epoch that runs are gone
            header = self._ring.begin(content)
            self._counters.begin(nonce)
            # The server may have gone back to an earlier tree, and what it grows anew may differ: it tells the model.
            self.forest, self._sized, self.done = Forest(), None, False
            self._told = Told()
            self._local.begin()
            return Answer({**header, "trees": self._known()}).to_bytes()
        if not self._ring.keys:
            raise ProtocolError("the server asks before it has greeted: is it on another version?")
        if question.kind == "trees":
            self._catch_up(content)
            return Answer({"trees": self._known()}).to_bytes()
        if question.kind == "done":
            if not self._take_news(question):
                return Answer({"behind": self._known()}).to_bytes()
            self._finish(question)
            return Answer({"trees": self._known()}).to_bytes()
        self._counters.check(question.place)  # before anything is done: rows only move down a tree
        if not self._take_news(question):
            return Answer({"behind": self._known()}).to_bytes()
        words = self._sums(question)
        self._counters.take(question.place)
        assert self._sized is not None
        told = self._told.before(question.kind, question.tree, self._sized.rows, self.forest)
        box = self._ring.share(question.serial, data + told, words)
        return Answer({"serial": question.serial}, box).to_bytes()

    def _finish(self, question: Question) -> None:
        """Take what is told at the end, if all aggregators have signed it and the model."""
        content = question.content
        metrics = metrics_from_json(content.get("metrics"), self.task)
        ledger = ledger_from_json(content.get("ledger"))
        if self._sized is None:
            raise ProtocolError("the server ends a training that it has not begun: is it on another version?")
        end = content.get("metrics"), content.get("ledger")
        self._ring.check_end(
            self._told.at_the_end(question.tree, self._sized.rows, self.forest, *end), content.get("signatures")
        )
        self.ledger, self.forest.metrics, self.done = ledger, metrics, True

    @property
    def total_rows(self) -> int:
        """Rows of all clients; 0 before it is known."""
        return 0 if self._sized is None else self._sized.total

    def _known(self) -> int:
        """Complete trees."""
        return sum(tree.weights is not None for tree in self.forest.trees)

    def _take_news(self, question: Question) -> bool:
        """Take what the question says of the model; False if trees in between are not known."""
        content, task, forest = question.content, self.task, self.forest
        self._take_rows(content)
        if "edges" in content and forest.edges is None:
            forest.edges = forest_from_json({"edges": content["edges"], "ratios": [], "trees": []}, task).edges
        if "ratios" in content and not forest.ratios:
            forest.ratios = forest_from_json({"edges": None, "ratios": content["ratios"], "trees": []}, task).ratios
        if "last" in content and question.tree > 0 and self._known() == question.tree - 1:
            last = tree_from_json(content["last"], task)
            if last.weights is None:
                raise ProtocolError("the server sent a tree without leaves: is it on another version?")
            forest.trees[question.tree - 1 :] = [last]
            self._on_tree(question.tree)
        if question.kind in ("level", "leaves", "loss", "done"):
            if self._known() != question.tree or forest.edges is None:
                return False
            if question.kind == "level":
                forest.trees[question.tree :] = [GrownTree(levels_from_json(content.get("levels"), task))]
        return True

    def _take_rows(self, content: Mapping[str, Any]) -> None:
        rows = content.get("rows")
        if rows is None:
            return
        sound = isinstance(rows, dict) and all(type(count) is int and 0 < count < MOST_ROWS for count in rows.values())
        if not sound or not set(rows) <= set(self.task.clients) or rows.get(self.name) != self._rows:
            raise ProtocolError("the server has the wrong number of rows for this client: start the job again")
        if self._sized is None:
            self._sized = self.task.with_rows(rows)
            protection = self._sized.protection
            if protection is not None and protection.plan.budget.clip_rows is not None:
                self._local.keep(protection.plan.budget.clip_rows)

    def _sums(self, question: Question) -> Words:
        if self._sized is None:
            raise ProtocolError("the server asks for sums too early: is it on another version?")
        if question.kind == "edges":
            search = EdgeSearch.from_json(question.content, len(self.task.numeric), self.task.cuts)
            if search.number != question.level:
                raise ProtocolError("the server asks for another step than it describes: is it on another version?")
            return self._local.edge_counts(search, self._sized.protection)
        if question.kind == "labels":
            return self._local.label_sums(self._sized.protection)
        known = self.forest.edges is not None and (self.forest.ratios or self.task.parameters.base_score is not None)
        if not known or question.kind not in SUMS:
            raise ProtocolError("the server asks for sums too early: is it on another version?")
        if question.kind == "loss":
            return self._local.loss_sums(self.forest, self._sized, question.tree)
        if question.kind == "leaves":
            if not self.task.leaf_sums:
                raise ProtocolError("the server asks for sums of leaves, which this job does not have")
            self.forest.trees[question.tree :] = [random_tree(self.task, self.forest, question.tree)]
            return self._local.leaf_sums(self.forest, self._sized, question.tree)
        if self.task.leaf_sums or len(self.forest.trees[question.tree].levels) != question.level:
            raise ProtocolError("the server asks for another level than it describes: is it on another version?")
        return self._local.level_sums(self.forest, self._sized, question.tree, bool(question.content.get("both")))

    def _catch_up(self, content: Mapping[str, Any]) -> None:
        """Take the model so far."""
        self._take_rows(content)
        forest = forest_from_json(content.get("forest"), self.task)
        if any(tree.weights is None for tree in forest.trees) or len(forest.trees) < self._known():
            raise ProtocolError("the server sent a model that is not complete: is it on another version?")
        known = self._known()
        self.forest.edges = self.forest.edges or forest.edges
        self.forest.ratios = self.forest.ratios or forest.ratios
        self.forest.trees[known:] = forest.trees[known:]


def ledger_from_json(entries: Any) -> list[Disclosure]:
    """What the aggregators have disclosed, as they tell it at the end; ProtocolError where it cannot be read."""
    try:
        return [Disclosure.from_dict(entry) for entry in entries]
    except (TypeError, ValueError, KeyError, OverflowError):
        raise ProtocolError("the server sent a ledger that cannot be read: is it on another version?") from None
