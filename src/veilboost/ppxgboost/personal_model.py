"""A plaintext model in encrypted pieces: what the proxy does for one user.

Every piece is under fresh keys: names become pseudonyms, thresholds and sets of categories comparison ciphertexts,
leaves Paillier ciphertexts with the base score in the first tree. The shape of the trees stays as it is.
"""

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import ModelError
from veilboost.ppxgboost import ore, slots
from veilboost.ppxgboost.columns import NumericColumn, SetColumn
from veilboost.ppxgboost.comparisons import ComparisonKey
from veilboost.ppxgboost.encrypted_model import PSEUDONYM_BYTES, EncryptedModel
from veilboost.ppxgboost.layout import MOST_CATEGORIES, Layout
from veilboost.ppxgboost.order_codes import missing_codes, to_codes
from veilboost.ppxgboost.paillier import Encryptor, PublicKey
from veilboost.ppxgboost.structure import Trees
from veilboost.trees.ensemble import Tree
from veilboost.trees.scoring import ScoringModel

Column = NumericColumn | SetColumn

#: A model without trees is one leaf: its base score.
_LONE_LEAF: Final = Tree.from_complete(0, [], [], [], [], [], [0.0])


def largest_sum(plain: ScoringModel) -> float:
    """A bound of the magnitude of any class's margin."""
    sums = np.abs(plain.base_margins.astype(np.float64))
    for tree, output in zip(plain.trees, plain.output_of, strict=True):
        sums[output] += np.abs(tree.weight[tree.leaf].astype(np.float64)).max()
    return float(sums.max())


def check_precision(plain: ScoringModel, exponent: int) -> None:
    """Refuse weights so different in size that no common scale keeps them all.

    Raises
    ------
    ModelError
        Rounding could move a margin by more than 2^-20 of half of all weights.
    """
    weights = np.abs(np.concatenate([np.zeros(0), *(tree.weight[tree.leaf] for tree in plain.trees)]))
    weights = weights[weights > 0]
    if len(weights) and len(plain.trees) * 2.0 ** (-exponent - 1) > 2.0**-20 * float(np.median(weights)):
        raise ModelError(
            "leaf weights that differ so much in size are not supported: the largest is too large beside the others "
            "for sums of 62 bits"
        )


@dataclass(frozen=True)
class Columns:
    """The pseudonymous columns of one user's model."""

    numeric: tuple[NumericColumn, ...]
    sets: tuple[SetColumn, ...]
    pseudonyms: tuple[bytes, ...]

    @classmethod
    def of(cls, plain: ScoringModel, key: bytes) -> "Columns":
        """All columns that nodes ask for, in the order of their pseudonyms, which is random."""
        thresholds: dict[tuple[int, bool], list[np.float32]] = {}
        categories: dict[int, int] = {}
        for tree in plain.trees:
            for node in np.flatnonzero(~tree.leaf).tolist():
                feature = int(tree.feature[node])
                if tree.categories.given[node]:
                    most = max(len(plain.features[feature].levels), int(max(tree.categories[node])) + 1)
                    categories[feature] = max(categories.get(feature, 0), most)
                else:
                    thresholds.setdefault((feature, bool(tree.default_left[node])), []).append(tree.threshold[node])
        numeric = [
            NumericColumn(feature, left, *missing_codes(to_codes(np.array(cuts, dtype=np.float32)), below=left))
            for (feature, left), cuts in thresholds.items()
        ]
        sets = [SetColumn(feature, count) for feature, count in categories.items()]
        for column in sets:
            if column.domain > MOST_CATEGORIES:
                name = plain.features[column.feature].name
                raise ModelError(f"column {name!r}: more than {MOST_CATEGORIES - 2} categories are not supported")

        def pseudonym(column: Column) -> bytes:
            return hmac.digest(key, _name(plain, column), "sha256")[:PSEUDONYM_BYTES]

        ordered = sorted(numeric, key=pseudonym), sorted(sets, key=pseudonym)
        pseudonyms = (*map(pseudonym, ordered[0]), *map(pseudonym, ordered[1]))
        return cls(tuple(ordered[0]), tuple(ordered[1]), pseudonyms)

    def number(self, tree: Tree, node: int) -> int:
        """The number of the column that an inner node asks for."""
        left = None if tree.categories.given[node] else bool(tree.default_left[node])
        return self._numbers[int(tree.feature[node]), left]

    @cached_property
    def _numbers(self) -> dict[tuple[int, bool | None], int]:
        """By feature and where missing values go, None for a column of categories."""
        uses: list[tuple[int, bool | None]] = [(column.feature, column.missing_left) for column in self.numeric]
        uses += [(column.feature, None) for column in self.sets]
        return {use: number for number, use in enumerate(uses)}

    @property
    def domains(self) -> tuple[int, ...]:
        return tuple(column.domain for column in self.sets)


def _name(plain: ScoringModel, column: Column) -> bytes:
    """What is hashed: the feature's number and name, and where missing values go or that it is one of categories."""
    use = "set" if isinstance(column, SetColumn) else "left" if column.missing_left else "right"
    return f"{column.feature} {use} {plain.features[column.feature].name}".encode("utf-8", "surrogatepass")


def encrypt_model(
    plain: ScoringModel,
    columns: Columns,
    layout: Layout,
    comparisons: ComparisonKey,
    exponent: int,
    encryptor: Encryptor,
) -> EncryptedModel:
    """Encrypt all of a model."""
    key = encryptor.key.public
    trees = plain.trees
    outputs = plain.output_of.tolist()
    per_part = slots.slots_of(key.plaintext_bits)
    parts = [output // per_part for output in outputs]
    for part in range(layout.parts(key)):
        if part not in parts:  # no tree adds to it
            trees, outputs, parts = (*trees, _LONE_LEAF), [*outputs, part * per_part], [*parts, part]
    structure = _structure(trees, columns, parts)
    thresholds, preserved = _thresholds(trees, columns, layout, comparisons)
    set_nonces, set_tables = _sets(trees, columns, comparisons)
    return EncryptedModel(
        layout,
        key,
        columns.pseudonyms,
        structure,
        thresholds,
        preserved,
        set_nonces,
        set_tables,
        tuple(encryptor.encrypt(plaintext) for plaintext in _plaintexts(trees, outputs, plain, exponent, key)),
    )


def _structure(trees: Sequence[Tree], columns: Columns, parts: Sequence[int]) -> Trees:
    roots = np.cumsum([0, *(tree.n_nodes for tree in trees)])[:-1]
    left, right, column = [], [], []
    for root, tree in zip(roots, trees, strict=True):
        left.append(np.where(tree.leaf, -1, tree.left + root))
        right.append(np.where(tree.leaf, -1, tree.right + root))
        column.append([0 if tree.leaf[node] else columns.number(tree, node) for node in range(tree.n_nodes)])
    nodes = [np.concatenate(each).astype(np.int32) for each in (left, right, column)]
    return Trees(roots.astype(np.int32), nodes[0], nodes[1], nodes[2], np.array(parts, dtype=np.int32))


def _inner(trees: Sequence[Tree], of_sets: bool) -> Iterator[tuple[Tree, int]]:
    """Inner nodes that ask for a category, or those that ask for a number, in order."""
    for tree in trees:
        for node in np.flatnonzero(~tree.leaf & (tree.categories.given == of_sets)).tolist():
            yield tree, node


def _thresholds(
    trees: Sequence[Tree], columns: Columns, layout: Layout, comparisons: ComparisonKey
) -> tuple[ore.RightCiphertexts, npt.NDArray[np.uint64]]:
    """Ciphertexts of all thresholds under the scheme of the model, and none of the other."""
    nodes = list(_inner(trees, of_sets=False))
    numbers = np.array([columns.number(tree, node) for tree, node in nodes], dtype=np.uint32)
    codes = to_codes(np.array([tree.threshold[node] for tree, node in nodes], dtype=np.float32))
    preserved = np.zeros(0, dtype=np.uint64)
    if layout.scheme == "ope":
        preserved = np.empty(len(codes), dtype=np.uint64)
        for number in range(layout.numeric):
            preserved[numbers == number] = comparisons.preserving(number).encrypt(codes[numbers == number])
        numbers, codes = numbers[:0], codes[:0]
    return comparisons.revealing.right(numbers, codes), preserved


def _sets(
    trees: Sequence[Tree], columns: Columns, comparisons: ComparisonKey
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Nonces and tables of all sets of categories."""
    nodes = list(_inner(trees, of_sets=True))
    nonces = np.empty((len(nodes), ore.NONCE_BYTES), dtype=np.uint8)
    tables: list[npt.NDArray[np.uint8]] = [np.zeros(0, dtype=np.uint8)] * len(nodes)
    for number, column in enumerate(columns.sets):
        own = [at for at, (tree, node) in enumerate(nodes) if tree.feature[node] == column.feature]
        members = np.zeros((len(own), column.domain), dtype=np.bool_)
        for row, at in enumerate(own):
            tree, node = nodes[at]
            members[row, tree.categories[node]] = True
            members[row, column.missing] = not tree.default_left[node]
        nonces[own], own_tables = comparisons.revealing.membership_right(number, members)
        for at, table in zip(own, own_tables, strict=True):
            tables[at] = table
    return nonces, np.concatenate([np.zeros(0, dtype=np.uint8), *tables])


def _plaintexts(
    trees: Sequence[Tree], outputs: Sequence[int], plain: ScoringModel, exponent: int, key: PublicKey
) -> Iterator[int]:
    """What is encrypted of every leaf: its weight in its class's slot, and in a part's first tree all base scores."""
    per_part = slots.slots_of(key.plaintext_bits)
    bases = [slots.to_fixed(float(base), exponent) for base in plain.base_margins]
    begun: set[int] = set()
    for tree, output in zip(trees, outputs, strict=True):
        part, slot = divmod(output, per_part)
        base = 0 if part in begun else slots.pack(bases[part * per_part : (part + 1) * per_part])
        begun.add(part)
        for weight in tree.weight[tree.leaf].tolist():
            yield base + (slots.to_fixed(weight, exponent) << (slots.SLOT_BITS * slot))
