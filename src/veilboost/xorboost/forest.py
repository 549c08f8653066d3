"""A shared model, and the state of a training between two rounds."""

from __future__ import annotations

from dataclasses import dataclass

from veilboost.mpc.shares import Shared, SharedBits


@dataclass(frozen=True)
class SharedTree:
    """One tree in shares, nodes in heap order (children of i at 2i + 1 and 2i + 2).

    Attributes
    ----------
    splits
        Planes (inner nodes, 64): feature, default direction and categories; zero where a node does not split. See
        `CandidateSpace.codes`.
    cuts
        Planes (inner nodes, 32): the float32 cut of each; zero for categories and where a node does not split.
    weights
        Shape (leaves,): learning rate included, 24 fraction bits.
    gains
        Shape (inner nodes,).
    covers
        Shape (inner nodes + leaves,): sums of hessians.
    """

    splits: SharedBits
    cuts: SharedBits
    weights: Shared
    gains: Shared
    covers: Shared


@dataclass(frozen=True)
class SharedForest:
    """A trained model in shares.

    Attributes
    ----------
    base_margin
        Shape (outputs,), 24 fraction bits, in the unit of the job; public if `base_score` was given.
    trees
        In order; those of one round, one per output, behind one another.
    metrics
        Shape (rounds,): see `validation.finish`; None without early stopping, and before training is done.
    """

    base_margin: Shared
    trees: tuple[SharedTree, ...]
    metrics: Shared | None = None


@dataclass(frozen=True)
class TrainingState:
    """Everything of a training that the next tree depends on; what a checkpoint holds.

    Masked incidences are not part of it: whoever continues sets them up anew, with fresh randomness.

    Attributes
    ----------
    margins
        Shape (outputs, rows), 24 fraction bits.
    forest
        The trees so far.
    losses
        Shape (rounds so far,): sums of losses over validation rows; shape (0,) without early stopping.
    """

    margins: Shared
    forest: SharedForest
    losses: Shared

    @property
    def rounds(self) -> int:
        """Rounds done."""
        return len(self.forest.trees) // self.margins.shape[0]
