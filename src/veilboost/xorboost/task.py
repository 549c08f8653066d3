"""What is trained: the public description that all participants have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from veilboost.splitting.scales import Scales
from veilboost.splitting.units import Unit
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import validation_rows
from veilboost.xorboost.candidates import CandidateSpace
from veilboost.xorboost.objectives.base import Objective
from veilboost.xorboost.objectives.choose import objective_of


@dataclass(frozen=True)
class TrainingTask:
    """What is public about a training.

    Attributes
    ----------
    space
        Features, owners, bins and candidates.
    label_owners
        Position of the owner of the labels, or of their owners block by block.
    parameters
        Hyper-parameters.
    label_range
        Public bounds of the labels; None for binary:logistic and multi:softprob.
    weight_owners
        Position of the owner of the sample weights; None: there are none.
    weight_range
        Public bounds of the sample weights.
    """

    space: CandidateSpace
    label_owners: tuple[int, ...]
    parameters: Parameters
    label_range: tuple[float, float] | None = None
    weight_owners: tuple[int, ...] = ()
    weight_range: tuple[float, float] | None = None

    @cached_property
    def objective(self) -> Objective:
        return objective_of(self.parameters, self.label_range, self.weight_range)

    @property
    def label_parts(self) -> list[tuple[int, int]]:
        """Owners of labels, each with the number of its rows, in order of the rows."""
        return self._parts(self.label_owners)

    @property
    def weight_parts(self) -> list[tuple[int, int]]:
        """The same of the sample weights; none where there are none."""
        return self._parts(self.weight_owners)

    def _parts(self, owners: tuple[int, ...]) -> list[tuple[int, int]]:
        blocks = self.space.block_rows if len(owners) > 1 else (self.space.rows,) * len(owners)
        return list(zip(owners, blocks, strict=True))

    @property
    def unit(self) -> Unit:
        return self.objective.unit

    @cached_property
    def scales(self) -> Scales:
        return self.objective.scales(self.space.rows)

    @cached_property
    def held_back(self) -> npt.NDArray[np.int64]:
        """Numbers of the validation rows."""
        return np.flatnonzero(validation_rows(self.parameters, self.space.rows))
