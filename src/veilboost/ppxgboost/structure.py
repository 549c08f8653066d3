"""Shapes of the trees of an encrypted model: public to whoever holds it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from veilboost.ppxgboost import wire

Int32 = npt.NDArray[np.int32]

_MOST_NODES: Final = 1 << 28


@dataclass(frozen=True, eq=False)
class Trees:
    """Shapes of all trees, nodes behind one another; item numbers follow from the order of the nodes.

    Attributes
    ----------
    roots
        int32, shape (trees,): the first node of each tree.
    left, right
        int32, shape (nodes,): children, which come after their parent; -1 at a leaf.
    column
        int32, shape (nodes,): what an inner node asks for; 0 at a leaf.
    part
        int32, shape (trees,): to which ciphertext of the result a tree adds; 0 for all if there is one.
    """

    roots: Int32
    left: Int32
    right: Int32
    column: Int32
    part: Int32

    @property
    def leaf(self) -> npt.NDArray[np.bool_]:
        return self.left < 0

    def write(self, to: wire.Writer) -> None:
        to.number(len(self.roots))
        to.number(len(self.left))
        for each in (self.roots, self.left, self.right, self.column, self.part):
            to.array(each, "<i4")

    @classmethod
    def read(cls, source: wire.Reader, columns: int, parts: int) -> "Trees":
        trees, nodes = source.number(_MOST_NODES), source.number(_MOST_NODES)
        shapes = (trees, nodes, nodes, nodes, trees)
        roots, left, right, column, part = (source.array("<i4", shape).astype(np.int32) for shape in shapes)
        found = cls(roots, left, right, column, part)
        number = np.arange(nodes)
        inner = ~found.leaf
        sizes = np.diff(roots, append=nodes)
        if trees == 0 or roots[0] != 0 or np.any(sizes < 1):
            raise source.damaged("its trees overlap")
        end = np.repeat(roots + sizes, sizes)
        for child in (left[inner], right[inner]):
            if np.any(child <= number[inner]) or np.any(child >= end[inner]):
                raise source.damaged("a node has an impossible child")
        if np.any(left[~inner] != -1) or np.any(right[~inner] != -1) or np.any(column < 0):
            raise source.damaged("a node is impossible")
        if np.any(column[inner] >= columns) or np.any(part < 0) or set(part.tolist()) != set(range(parts)):
            raise source.damaged("a column or a part is out of range")
        return found
