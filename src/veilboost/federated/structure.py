"""Trees whose structure is drawn before anybody looks at a row: mode "leaf_sums".

Every node takes a feature, an edge and a default direction at random from the public seed, so a tree costs one question
only, the sums in its leaves, and its splits disclose nothing. Splits do not depend on gradients, nor does a round's
tree of one class on that of another.

Sources: P. Geurts, D. Ernst, L. Wehenkel, "Extremely randomized trees", Machine Learning 63, 2006: with one candidate
per node (K = 1) these are their *totally randomized trees*, except that thresholds are uniform among quantile edges,
not between the extremes. Private sums in the leaves of random trees: G. Jagannathan, K. Pillaipakkamnatt, R. Wright,
"A practical differentially private random decision tree classifier", Transactions on Data Privacy 5, 2012; S. Fletcher,
M. Islam, "Differentially private random decision forests using smooth sensitivity", Expert Systems with Applications
78, 2017. Boosted and federated: S. Maddock, G. Cormode, T. Wang, C. Maple, S. Jha, "Federated boosted decision trees
with differential privacy", CCS 2022.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilboost.errors import InputError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.sampling import draw_words

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]

#: The cut of a flag, as in `veilboost.tables.binning`.
FLAG_CUT = np.float32(0.5)


@dataclass(frozen=True, eq=False)
class RandomSplits:
    """The inner nodes of a complete tree in heap order, as `veilboost.trees.ensemble.Tree.from_complete` takes them.

    Arrays have shape (2**depth - 1,); node i has the children 2 i + 1 and 2 i + 2. Public.

    Attributes
    ----------
    split
        bool: False where nothing was left that separates any present rows; all rows go right there.
    feature
        int32: 0 where `split` is False.
    threshold
        float32: rows below go left; 0 at categorical nodes.
    category
        int32: the code that goes right; -1 at numeric nodes.
    default_left
        bool: whether missing values go left; False where the feature has none.
    """

    split: Bool
    feature: Int32
    threshold: Float32
    category: Int32
    default_left: Bool


def random_structure(
    seed: int,
    tree: int,
    depth: int,
    features: Sequence[Feature],
    edges: Sequence[Float32],
    permitted: Sequence[Bool],
) -> RandomSplits:
    """Draw the splits of one tree; the same on every machine.

    A node draws uniformly among the permitted features that can still separate rows there, and then uniformly among
    the edges of this feature that can: those strictly between the thresholds that the path has set, categories that
    the path has not asked for. So no path asks a question twice, nor one whose answer it knows of every present row.

    Parameters
    ----------
    seed
        Public.
    tree
        Number of the tree; of several classes, each tree has its own.
    depth
        Levels of splits.
    features
        In the order of the job.
    edges
        float32, one array for each feature, in any order, equal ones counted once: the cuts of numeric features. Those
        of categorical features and flags are not looked at.
    permitted
        bool, one array of shape (2**level, features) for each level, as `veilboost.trees.sampling.sample_features`
        gives it.

    Raises
    ------
    InputError
        An edge is not finite, or shapes do not fit.
    """
    if len(edges) != len(features):
        raise InputError(f"random trees: {len(features)} features and edges of {len(edges)}: give one array for each")
    shapes = [np.shape(level) for level in permitted]
    if shapes != [(2**level, len(features)) for level in range(depth)]:
        raise InputError(f"random trees: permitted features have the shapes {shapes}, not those of {depth} levels")
    cuts = [_cuts_of(feature, given) for feature, given in zip(features, edges, strict=True)]
    nodes = 2**depth - 1
    splits = RandomSplits(
        split=np.zeros(nodes, dtype=np.bool_),
        feature=np.zeros(nodes, dtype=np.int32),
        threshold=np.zeros(nodes, dtype=np.float32),
        category=np.full(nodes, -1, dtype=np.int32),
        default_left=np.zeros(nodes, dtype=np.bool_),
    )
    # Of every node, for each feature, the numbers of the cuts that can separate rows there.
    alive = [[np.arange(len(of_feature)) for of_feature in cuts]]
    for level in range(depth):
        below: list[list[npt.NDArray[np.int64]]] = []
        for position, left in enumerate(alive):
            candidates = [at for at in np.flatnonzero(permitted[level][position]).tolist() if len(left[at])]
            if not candidates:
                below += [left, left]
                continue
            words = draw_words(seed, "random split", tree, level, position, 3).tolist()
            feature = candidates[_choose(words[0], len(candidates))]
            number = int(left[feature][_choose(words[1], len(left[feature]))])
            node = 2**level - 1 + position
            splits.split[node], splits.feature[node] = True, feature
            splits.default_left[node] = features[feature].missing and _choose(words[2], 2) == 1
            if features[feature].categorical:
                splits.category[node] = number
            else:
                splits.threshold[node] = cuts[feature][number]
            below += _children(left, feature, number, features[feature].categorical)
        alive = below
    return splits


def _children(
    alive: list[npt.NDArray[np.int64]], feature: int, number: int, categorical: bool
) -> list[list[npt.NDArray[np.int64]]]:
    """The cuts that are left in the left and in the right child."""
    of_feature = alive[feature]
    if categorical:  # rows on the right have this one category, and of two the other is left on the left
        others = of_feature[of_feature != number]
        sides = [others if len(others) > 1 else others[:0], of_feature[:0]]
    else:
        sides = [of_feature[of_feature < number], of_feature[of_feature > number]]
    return [[side if at == feature else kept for at, kept in enumerate(alive)] for side in sides]


def _cuts_of(feature: Feature, edges: Float32) -> Float32:
    """Cuts in ascending order; of a categorical feature as many zeros as it has levels, none where it has but one."""
    if feature.categorical:
        return np.zeros(len(feature.levels) if len(feature.levels) > 1 else 0, dtype=np.float32)
    if feature.kind is Kind.FLAG:
        return np.array([FLAG_CUT])
    cuts: Float32 = np.unique(np.asarray(edges, dtype=np.float32))
    if not np.isfinite(cuts).all():
        raise InputError(f"random trees: feature '{feature.name}' has an edge that is not finite: leave it out")
    return cuts


def _choose(word: int, count: int) -> int:
    """One of 0 to count - 1 by a uniform word; all are equally likely up to count / 2^64."""
    return (word * count) >> 64
