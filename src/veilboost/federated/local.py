"""A client's rows: what it counts and sums in the clear, at XGBoost's speed."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from veilboost.errors import ProtocolError
from veilboost.federated import kernels
from veilboost.federated.edges import EdgeSearch, count_below, to_keys
from veilboost.federated.forest import Forest, GrownTree, Level, leaf_values
from veilboost.federated.protection import Protection
from veilboost.federated.questions import LABEL_BITS
from veilboost.federated.task import FederatedTask, SizedTask
from veilboost.federated.validation import losses
from veilboost.mpc.ring import Words, to_ring
from veilboost.splitting.units import LARGEST_MEAN
from veilboost.tables.table import Table
from veilboost.trees.objective import gradients, row_weights
from veilboost.trees.sampling import draw_words, sample_rows, validation_rows

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_HALF = np.int64(32)
_LOW_MASK = np.int64((1 << 32) - 1)


class LocalRows:
    """One client's table and where its rows are in the growing model.

    Parameters
    ----------
    name
        Of the client: its rows are sampled apart from those of others.
    table
        Checked, with labels.
    """

    def __init__(self, task: FederatedTask, name: str, table: Table) -> None:
        assert table.label is not None
        self.task = task
        self.rows = table.rows
        self._values = [table.values(feature.name) for feature in task.features]
        self._labels: Float64 = table.label
        self._weights = table.weight
        digest = hashlib.sha256(f"{task.parameters.seed}|{name}".encode()).digest()
        self._sampling = task.parameters.model_copy(update={"seed": int.from_bytes(digest[:8], "big") >> 1})
        self._ordered: list[npt.NDArray[np.uint32]] | None = None
        self._turn = 0  # of the search for cuts
        self._bins: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None = None
        self._binned_by: list[npt.NDArray[np.float32]] = []
        self._margins: Float64 | None = None
        self._nodes = np.zeros(self.rows, dtype=np.int32)
        self._trees = 0  # how far rows have been moved
        self._levels: list[Level] = []  # and by which splits of the next tree
        self._derivatives: list[tuple[Int64, Int64]] = []
        self._derived_for = -1  # the first tree of the round

    def __repr__(self) -> str:
        return f"LocalRows({self.rows} rows, redacted)"

    def begin(self) -> None:
        """Begin an epoch: all rows are at the root of the first tree."""
        self._margins = None
        self._ordered, self._turn = None, 0
        self._nodes[:] = 0
        self._trees, self._levels = 0, []
        self._derivatives, self._derived_for = [], -1

    def keep(self, most: int) -> None:
        """Go on with a sample of so many rows, if there are more: of all of them the sums would only be cut off."""
        if self.rows <= most:
            return
        order = np.argsort(draw_words(self._sampling.seed, "rows of a client", 0, 0, 0, self.rows), kind="stable")
        kept = np.sort(order[:most])
        self.rows = most
        self._values = [values[kept] for values in self._values]
        if self._bins is not None:
            self._bins = self._bins.take(kept, axis=1)
        self._labels = self._labels[kept]
        self._weights = None if self._weights is None else self._weights[kept]
        self._nodes = self._nodes[kept]

    def edge_counts(self, search: EdgeSearch, protection: Protection | None) -> Words:
        """Cells below each threshold, shape (columns * cuts,).

        At the first step also present cells of `counted`; at that of the second turn present cells of all columns, less
        those of frequent values, which no longer count.

        Zero for cuts that are found: they are not asked for again, of other clients maybe.
        """
        if self._ordered is None:
            if self._bins is not None:
                raise _begun()
            columns = [self._values[number] for number in self.task.numeric]
            self._ordered = [np.sort(to_keys(column[~np.isnan(column)])) for column in columns]
        if search.turn > self._turn:
            self._turn = search.turn
            pairs = zip(self._ordered, search.heavy, strict=True)
            self._ordered = [keys[~np.isin(keys, heavy)] for keys, heavy in pairs]
        both = zip(self._ordered, search.thresholds, strict=True)
        counts = np.concatenate([count_below(keys, thresholds) for keys, thresholds in both])
        counts[search.found.reshape(-1)] = 0
        counted = self.task.counted if search.turn == 0 else range(len(self._ordered))
        present = np.array([len(self._ordered[at]) for at in counted], dtype=np.int64)
        if protection is not None:
            counts = protection.clip("edges", [counts])[0]
            present = protection.clip("present", [present])[0] if len(present) else present
        return to_ring(np.concatenate([counts, present]) if search.step == 0 else counts)

    def label_sums(self, protection: Protection | None) -> Words:
        """Sums of labels times weights, then the sum of the weights, 24 fraction bits: shape (label columns + 1,).

        Of the rows that are not held back.
        Labels and weights are in the unit of the job, weights `scale_pos_weight` included.
        """
        task, labels = self.task, self._labels
        weights = row_weights(task.parameters, labels, self._weights)
        each = np.ones(self.rows) if weights is None else weights / (task.largest_weight or 1.0)
        objective, unit = task.parameters.objective, task.unit
        if objective == "multi:softprob":
            columns = (labels == np.arange(task.parameters.outputs)[:, np.newaxis]).astype(np.float64)
        elif objective == "binary:logistic":
            columns = labels[np.newaxis]
        elif objective == "count:poisson":
            assert task.label_range is not None
            columns = labels[np.newaxis] / task.label_range[1]
        else:
            columns = (labels[np.newaxis] - unit.middle) / unit.half_width
        scaled = np.rint(np.concatenate([columns * each, each[np.newaxis]]) * 2.0**LABEL_BITS)
        scaled = scaled[:, ~validation_rows(self._sampling, self.rows)]
        sums = scaled.astype(np.int64).sum(axis=1)
        if protection is not None:
            parts = [sums[:-1], sums[-1:]] if task.largest_weight is not None else [sums[:-1]]
            sums[: sum(map(len, parts))] = np.concatenate(protection.clip("labels", parts))
        return to_ring(sums)

    def level_sums(self, forest: Forest, sized: SizedTask, tree: int, both: bool) -> Words:
        """Histograms of a tree's next level.

        Parameters
        ----------
        both
            Whether all nodes are summed, rather than left children alone.

        Returns
        -------
        Words
            Shape (bins, vectors, nodes summed), flat; 0 in columns that are not summed (`SizedTask.summed`).
        """
        grown = forest.trees[tree]
        gradient, hessian = self._follow(forest, sized, tree, grown.levels)
        level = len(grown.levels)
        space, vectors = self.task.space, self.task.vectors
        every = both or level == 0
        sampled = sample_rows(self._sampling, tree, self.rows)
        chosen = sampled if every else sampled & (self._nodes & 1 == 0)
        rows = np.flatnonzero(chosen).astype(np.int32)
        nodes = self._nodes[rows] if every else self._nodes[rows] >> 1
        count = 2**level if every else 2**level // 2
        sums = np.zeros((space.n_bins, vectors, count), dtype=np.int64)
        # Gradient and hessian in one word: sums of both stay within 2^30, so one addition serves both.
        words = [(gradient[rows] << _HALF) + hessian[rows], *([np.ones(len(rows), dtype=np.int64)] * (vectors - 2))]
        assert self._bins is not None
        for feature in np.flatnonzero(sized.summed(tree, level)).tolist():
            bins = self._bins[feature]
            part = slice(int(space.bin_starts[feature]), int(space.bin_starts[feature + 1]))
            for number, word in enumerate(words):
                found = np.zeros((count, part.stop - part.start), dtype=np.int64)
                kernels.add_column(bins, rows, nodes, word, found)
                if number == 0:
                    sums[part, 0], sums[part, 1] = (found >> _HALF).T, (found & _LOW_MASK).T
                else:
                    sums[part, 2] = found.T
        if sized.protection is not None:
            clipped = sized.protection.clip("level", [sums[:, vector] for vector in range(vectors)])
            sums = np.stack(clipped, axis=1)
        return sums.reshape(-1).view(np.uint64)

    def leaf_sums(self, forest: Forest, sized: SizedTask, tree: int) -> Words:
        """Sums over the leaves of a tree whose splits are all known: shape (vectors, leaves), flat."""
        grown = forest.trees[tree]
        gradient, hessian = self._follow(forest, sized, tree, grown.levels)
        leaves, vectors = 2 ** len(grown.levels), self.task.vectors
        rows = np.flatnonzero(sample_rows(self._sampling, tree, self.rows))
        values = [gradient, hessian, np.ones(self.rows, dtype=np.int64)][:vectors]
        sums = np.zeros((vectors, leaves), dtype=np.int64)
        for vector, value in enumerate(values):
            np.add.at(sums[vector], self._nodes[rows], value[rows])
        if sized.protection is not None:
            sums = np.stack(sized.protection.clip("leaves", list(sums)))
        return sums.reshape(-1).view(np.uint64)

    def loss_sums(self, forest: Forest, sized: SizedTask, trees: int) -> Words:
        """Losses of the rows held back after so many trees, times their weights, and the weights: shape (2,)."""
        self._follow(forest, sized, trees, [])
        held_back = validation_rows(self._sampling, self.rows)
        assert self._margins is not None
        found = losses(self.task, self._margins[:, held_back], self._labels[held_back])
        weights = np.ones(len(found))
        if self._weights is not None and self.task.weight_range is not None:
            weights = self._weights[held_back] / self.task.weight_range[1]
        both = np.stack([found * weights, weights]) * 2.0**LABEL_BITS
        return to_ring(np.rint(both).astype(np.int64).sum(axis=1))

    def _follow(self, forest: Forest, sized: SizedTask, tree: int, levels: list[Level]) -> tuple[Int64, Int64]:
        """Move rows to where they are below the given levels of a tree, through all earlier trees.

        Returns gradients and hessians of all rows in fixed point: those that the trees of this round have in common.
        """
        task, outputs = self.task, self.task.parameters.outputs
        if self._margins is None:
            if self._bins is None:
                self._bins, self._binned_by = self._binned(forest), forest.edges or []
            elif not all(map(np.array_equal, self._binned_by, forest.edges or [])):
                raise _begun()
            self._margins = np.repeat(forest.base_margins(task)[:, np.newaxis], self.rows, axis=1)
        first = tree - tree % outputs
        while self._trees < tree or self._derived_for != first:
            if self._trees == first:
                self._derivatives, self._derived_for = self._derive(sized), first
            if self._trees < tree:
                earlier = forest.trees[self._trees]
                self._descend(forest, earlier.levels)
                self._step(earlier)
        self._descend(forest, levels)
        return self._derivatives[tree % outputs]

    def _descend(self, forest: Forest, levels: list[Level]) -> None:
        assert self._bins is not None
        if levels[: len(self._levels)] != self._levels:
            # What moved the rows was a question that never was the aggregators'.
            self._nodes[:], self._levels = 0, []
        for level in levels[len(self._levels) :]:
            kernels.route(self._bins, self._nodes, *self._table_of(forest, level))
            self._levels.append(level)

    def _step(self, tree: GrownTree) -> None:
        """Add the leaf weights of a complete tree; rows go back to the root."""
        assert self._margins is not None
        values = leaf_values(self.task, tree).astype(np.float64)
        self._margins[self._trees % self.task.parameters.outputs] += values[self._nodes]
        self._nodes[:] = 0
        self._trees, self._levels = self._trees + 1, []

    def _table_of(self, forest: Forest, level: Level) -> tuple[Int32, npt.NDArray[np.uint8]]:
        """Of every node its column, and which bins go left."""
        task = self.task
        features = np.zeros(len(level), dtype=np.int32)
        goes_left = np.zeros((len(level), int(task.widths.max())), dtype=np.uint8)
        for node, split in enumerate(level):
            if split is None:
                continue
            features[node] = split.feature
            column, bins = task.features[split.feature], task.space.plans[split.feature].n_bins
            if column.categorical:
                goes_left[node, :bins] = 1
                goes_left[node, list(split.categories)] = 0
            else:
                goes_left[node, : split.place + 1] = 1
                goes_left[node, bins:] = 0
            if column.missing:
                goes_left[node, bins] = split.default_left
        return features, goes_left

    def _binned(self, forest: Forest) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """Shape (features, rows): bins, the last one of a column for its missing cells."""
        space, features = self.task.space, self.task.features
        bins = np.empty((len(self._values), self.rows), dtype=np.uint8 if self.task.widths.max() <= 256 else np.uint16)
        for feature, values in enumerate(self._values):
            missing = np.isnan(values)
            if features[feature].categorical:
                bins[feature] = np.where(missing, 0, values)
            else:
                bins[feature] = np.searchsorted(
                    forest.cuts_of(self.task, feature), values + np.float32(0), side="right"
                )
            if features[feature].missing:  # else there is no such bin, and 256 would be no uint8
                bins[feature][missing] = space.plans[feature].n_bins
        self._values, self._ordered = [], None
        return bins

    def _derive(self, sized: SizedTask) -> list[tuple[Int64, Int64]]:
        task, margins = self.task, self._margins
        assert margins is not None
        parameters, unit = task.parameters, task.unit
        weights = row_weights(parameters, self._labels, self._weights)
        if parameters.objective == "multi:softprob":
            both = [part.T for part in gradients(parameters.objective, margins.T, self._labels, weights)]
        else:
            margin = margins[0]
            if parameters.objective == "count:poisson":
                assert task.label_range is not None
                margin = np.minimum(margin, math.log(LARGEST_MEAN * task.label_range[1]))
            found = gradients(parameters.objective, margin, self._labels, weights, parameters.max_delta_step)
            both = [part[np.newaxis] for part in found]
        gradient, hessian = both[0] / (unit.half_width * unit.hessian), both[1] / unit.hessian
        scales, protection, limit = sized.scales, sized.protection, task.bounds.gradient
        # What the range check and fixed point have room for. Only a training that diverges, as with small samples and
        # no regularisation, has more.
        diverging = np.abs(gradient).mean(axis=1, keepdims=True) > limit
        gradient = np.where(diverging, np.clip(gradient, -limit, limit), gradient)
        words = [
            np.rint(values * 2.0**bits).astype(np.int64)
            for values, bits in ((gradient, scales.gradient_bits), (hessian, scales.hessian_bits))
        ]
        if protection is not None:
            limits = (protection.bounds.gradient, protection.bounds.hessian)
            words = [np.clip(values, *limit) for values, limit in zip(words, limits, strict=True)]
        return list(zip(*words, strict=True))


def _begun() -> ProtocolError:
    """Cells are no longer in memory once they are in bins."""
    return ProtocolError("the server begins a training anew that this client has taken part in: start the client again")
