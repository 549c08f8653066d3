"""What is trained: the public description that all participants have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from veilboost.splitting.scales import Scales
from veilboost.trees.parameters import Parameters
from veilboost.trees.sampling import validation_rows
from veilboost.xorboost.candidates import CandidateSpace
from veilboost.xorboost.objectives.base import Objective, Unit
from veilboost.xorboost.objectives.choose import objective_of

#: Bits that gains have to spare with monotone constraints: |2 G w + H w^2| <= 3 rows W^2, for both sides and the node.
_ROOM_FOR_BOUNDED_WEIGHTS = 4


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
        scales = self.objective.scales(self.space.rows)
        if self.parameters.constrained:  # bounded weights may be far from the best ones: gains need more room
            return replace(scales, weight_bits=scales.weight_bits - _ROOM_FOR_BOUNDED_WEIGHTS)
        return scales

    @cached_property
    def held_back(self) -> npt.NDArray[np.int64]:
        """Numbers of the validation rows."""
        return np.flatnonzero(validation_rows(self.parameters, self.space.rows))
