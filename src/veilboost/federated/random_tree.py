"""Trees of mode leaf_sums: their splits are drawn from the public seed (`structure`)."""

from __future__ import annotations

import numpy as np

from veilboost.federated.forest import Forest, GrownTree, Split
from veilboost.federated.structure import random_structure
from veilboost.federated.task import FederatedTask
from veilboost.trees.sampling import sample_features


def random_tree(task: FederatedTask, forest: Forest, number: int) -> GrownTree:
    """Tree `number` without leaf weights; the same at all participants that know the cuts."""
    parameters, none = task.parameters, np.zeros(0, dtype=np.float32)
    depth, count = parameters.max_depth, len(task.features)
    edges = [none if feature.categorical else forest.cuts_of(task, at) for at, feature in enumerate(task.features)]
    permitted = [sample_features(parameters, number, level, count) for level in range(depth)]
    drawn = random_structure(parameters.seed, number, depth, task.features, edges, permitted)
    splits: list[Split | None] = []
    for node in range(2**depth - 1):
        if not drawn.split[node]:
            splits.append(None)
            continue
        feature, default_left = int(drawn.feature[node]), bool(drawn.default_left[node])
        if task.features[feature].categorical:
            category = int(drawn.category[node])
            # A partitioned column has one candidate less than it has categories; the place has no meaning here.
            splits.append(Split(feature, 0, default_left, (category,)))
        else:
            place = int(np.searchsorted(edges[feature], drawn.threshold[node]))
            splits.append(Split(feature, place, default_left))
    return GrownTree([tuple(splits[2**level - 1 : 2 ** (level + 1) - 1]) for level in range(depth)])
