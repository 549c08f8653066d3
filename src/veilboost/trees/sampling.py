"""Which rows and columns a tree may use.

Sampling is public: it depends on the public seed and on public shapes alone, every participant computes it for itself,
and it hides nothing. So the plaintext trainer and the trainer on shares draw the same samples.

Draws are the raw 64-bit outputs of Philox 4x64-10 (Salmon et al., SC 2011), whose stream numpy keeps fixed, keyed by
SHA-256 of what is drawn. Choices only compare and sort these integers, so they are the same on every machine.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from veilboost.trees.parameters import Parameters


def sample_rows(parameters: Parameters, tree: int, rows: int) -> npt.NDArray[np.bool_]:
    """Rows whose gradients tree number `tree` learns from.

    Each row that is not held back is kept with probability `subsample`, independently (XGBoost's
    `sampling_method="uniform"`).

    Returns
    -------
    bool, shape (rows,)
    """
    training = ~validation_rows(parameters, rows)
    if parameters.subsample == 1:
        return training
    limit = np.uint64(int(parameters.subsample * 2**64))  # scaling by a power of two is exact
    return training & (draw_words(parameters.seed, "rows", tree, 0, 0, rows) < limit)


def validation_rows(parameters: Parameters, rows: int) -> npt.NDArray[np.bool_]:
    """Rows held back for the validation metric: floor(fraction * rows), but at least one, and not all.

    Returns
    -------
    bool, shape (rows,); all False without early stopping, or if there is only one row.
    """
    held_back = np.zeros(rows, dtype=np.bool_)
    if parameters.validation_fraction is not None and rows > 1:
        count = min(rows - 1, max(1, int(parameters.validation_fraction * rows)))
        held_back[np.argsort(draw_words(parameters.seed, "validation rows", 0, 0, 0, rows), kind="stable")[:count]] = (
            True
        )
    return held_back


def sample_features(parameters: Parameters, tree: int, level: int, n_features: int) -> npt.NDArray[np.bool_]:
    """Columns that the nodes of one level may split on.

    `colsample_bytree` chooses from all columns, `colsample_bylevel` from these, `colsample_bynode` from those of the
    level; each keeps max(1, floor(rate * count)) columns without replacement, as XGBoost.

    Parameters
    ----------
    level
        0 for the root.

    Returns
    -------
    bool, shape (2**level, n_features), nodes from left to right: node k has the children 2k and 2k + 1.
    """
    seed = parameters.seed
    columns = np.ones(n_features, dtype=np.bool_)
    columns = _keep(columns, parameters.colsample_bytree, seed, "columns of tree", tree, 0, 0)
    columns = _keep(columns, parameters.colsample_bylevel, seed, "columns of level", tree, level, 0)
    if parameters.colsample_bynode == 1:
        return np.repeat(columns[np.newaxis], 2**level, axis=0)
    nodes = [
        _keep(columns, parameters.colsample_bynode, seed, "columns of node", tree, level, node)
        for node in range(2**level)
    ]
    return np.stack(nodes)


def _keep(
    columns: npt.NDArray[np.bool_], rate: float, seed: int, purpose: str, tree: int, level: int, node: int
) -> npt.NDArray[np.bool_]:
    """A sample of the columns marked in `columns`."""
    if rate == 1:
        return columns
    candidates = np.flatnonzero(columns)
    # float32 as in XGBoost: 0.29 of 100 columns are 29 there, 28 in float64.
    count = max(1, int(np.float32(rate) * np.float32(len(candidates))))
    order = np.argsort(draw_words(seed, purpose, tree, level, node, len(columns))[candidates], kind="stable")
    kept = np.zeros_like(columns)
    kept[candidates[order[:count]]] = True
    return kept


def draw_words(seed: int, purpose: str, tree: int, level: int, node: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` uniform words of 64 bits, public: the same for the same arguments, on every machine.

    Parameters
    ----------
    purpose
        What is drawn, in a few words; draws for different purposes are independent.
    tree, level, node
        0 where they have no meaning.
    """
    digest = hashlib.sha256(f"veilboost sampling 1|{seed}|{purpose}|{tree}|{level}|{node}".encode()).digest()
    generator = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    return generator.random_raw(count)
