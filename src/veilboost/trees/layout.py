"""Where the nodes of a tree go in a picture, and what they say.

A picture in the style of textbooks on CART: a question in every inner node, "yes" on the left and "no" on the right, a
weight in every leaf. Coordinates are pixels, y grows downwards; `veilboost.trees.svg` and `veilboost.trees.plot` draw
from the same layout. The layout is tidy: subtrees lie as close together as they can without overlapping, a parent
stands in the middle above its two children, and nodes of one depth are on one line.
"""

import unicodedata
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Tree
from veilboost.trees.markup import visible

FONT_SIZE: Final = 13.0
SMALL_FONT_SIZE: Final = 11.0
MARGIN: Final = 8.0

_LEVEL_HEIGHT: Final = 92.0
_GAP: Final = 14.0
_PADDING: Final = 11.0
_LEAST_WIDTH: Final = 62.0
_MOST_TEXT: Final = 216.0
_LEAF_HEIGHT: Final = 28.0
_QUESTION_HEIGHT: Final = 32.0
_MISSING_HEIGHT: Final = 46.0

#: Widths in units of the font size: those of DejaVu Sans, which is wider than most.
_WIDTHS: Final = (
    ("ijl|!.,:;'` ", 0.40),
    ('ftr()[]{}/\\-"', 0.46),
    ("mw%@MW\u2026\u2014", 1.0),
    ("<>=+~\u00b1\u2212", 0.84),
)
_WIDTH_OF: Final = {char: width for chars, width in _WIDTHS for char in chars}


@dataclass(frozen=True)
class Box:
    """One node.

    Attributes
    ----------
    node
        Its number in the tree.
    x, y, width, height
        Centre, upper edge, and size.
    text
        The question or the weight, short enough for the box.
    missing
        At an inner node whose column may have empty cells: where rows without a value go; else empty.
    full
        All about the node, nothing cut off.
    strength
        At a leaf its weight as a part of the greatest one of the tree by absolute value, -1 to 1; None at inner nodes.
    """

    node: int
    x: float
    y: float
    width: float
    height: float
    text: str
    missing: str
    full: str
    strength: float | None


@dataclass(frozen=True)
class Edge:
    """A line from the lower edge of a parent to the upper edge of a child, and the answer that leads there."""

    x1: float
    y1: float
    x2: float
    y2: float
    answer: str


@dataclass(frozen=True)
class Picture:
    """A tree on a sheet of `width` by `height`; boxes in the order of the nodes."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class _Words:
    """What a node says, and the children behind "yes" and "no" (-1 at a leaf)."""

    text: str
    missing: str
    full: str
    yes: int = -1
    no: int = -1


def lay_out(tree: Tree, features: tuple[Feature, ...]) -> Picture:
    """Lay out one tree of an ensemble with these features."""
    words = [_words_of(tree, node, features) for node in range(tree.n_nodes)]
    widths = [
        max(_LEAST_WIDTH, 2 * _PADDING + max(text_width(w.text), text_width(w.missing, SMALL_FONT_SIZE))) for w in words
    ]
    heights = [_LEAF_HEIGHT if w.yes < 0 else _MISSING_HEIGHT if w.missing else _QUESTION_HEIGHT for w in words]
    centres = _centres(words, widths)
    depths = tree.depths
    greatest = float(np.abs(tree.weight).max()) or 1.0
    boxes = tuple(
        Box(
            node,
            centres[node],
            MARGIN + _LEVEL_HEIGHT * int(depths[node]),
            widths[node],
            heights[node],
            said.text,
            said.missing,
            said.full,
            float(tree.weight[node]) / greatest if said.yes < 0 else None,
        )
        for node, said in enumerate(words)
    )
    edges = tuple(
        Edge(boxes[node].x, boxes[node].y + boxes[node].height, boxes[child].x, boxes[child].y, answer)
        for node, said in enumerate(words)
        if said.yes >= 0
        for child, answer in ((said.yes, "yes"), (said.no, "no"))
    )
    width = max(box.x + box.width / 2 for box in boxes) + MARGIN
    height = max(box.y + box.height for box in boxes) + MARGIN
    return Picture(width, height, boxes, edges)


def text_width(text: str, size: float = FONT_SIZE) -> float:
    """An upper bound of the width of a text in pixels, in common fonts without serifs."""
    return size * sum(_width_of(char) for char in text)


def shortened(text: str, width: float, size: float = FONT_SIZE) -> str:
    """The text, with an ellipsis in the middle if it is wider than `width` pixels: names often differ in their ends."""
    if text_width(text, size) <= width:
        return text
    kept = len(text) - 1
    while kept > 1 and text_width(_without_middle(text, kept), size) > width:
        kept -= 1
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    end = kept * 2 // 5
    return f"{text[: kept - end].rstrip()}\u2026{text[len(text) - end :].lstrip()}"


def signed(value: float, digits: int = 3) -> str:
    """A weight with its sign, such as "+0.42"; a real minus sign."""
    return f"{value:+.{digits}g}".replace("-", "\u2212")


def _width_of(char: str) -> float:
    if char in _WIDTH_OF:
        return _WIDTH_OF[char]
    if char.isascii():
        return 0.79 if char.isupper() else 0.64
    if unicodedata.combining(char):
        return 0.0
    return 1.1 if unicodedata.east_asian_width(char) in "WF" or ord(char) >= 0x1F000 else 0.95


def _words_of(tree: Tree, node: int, features: tuple[Feature, ...]) -> _Words:
    left, right = int(tree.left[node]), int(tree.right[node])
    if left < 0:
        weight = float(tree.weight[node])
        return _Words(signed(weight), "", f"leaf {node}: weight {signed(weight, 9)}{_cover(tree, node)}")
    feature = features[tree.feature[node]]
    name, threshold = visible(feature.name), tree.threshold[node]
    yes, no = left, right
    codes = tree.categories[node].tolist()
    if codes:  # the categories go right, and "yes" is drawn on the left
        yes, no = right, left
        levels = [visible(feature.levels[c]) if c < len(feature.levels) else f"category {c}" for c in codes]
        text, question = _is(name, " or ".join(levels)), f"{name} is {' or '.join(levels)}"
    elif feature.kind is Kind.FLAG and 0 < threshold <= 1:
        yes, no = right, left
        text, question = f"{shortened(name, _MOST_TEXT - text_width('?'))}?", f"{name} is 1 (yes)"
    else:
        bound = f" < {threshold:.6g}".replace("-", "\u2212")
        text = shortened(name, _MOST_TEXT - text_width(bound)) + bound
        question = f"{name} < {str(threshold).replace('-', chr(0x2212))}"
    way = "left" if (yes == left) == bool(tree.default_left[node]) else "right"  # as drawn
    gain = f", gain {tree.gain[node]:.6g}" if tree.gain[node] else ""
    full = f"node {node}: {question}?" + (f" missing: {way}" if feature.missing else "") + gain + _cover(tree, node)
    return _Words(text, f"missing: {way}" if feature.missing else "", full, yes, no)


def _is(name: str, level: str) -> str:
    """The question whether a column is at a level; each has half of the room if the other needs its half too."""
    room = _MOST_TEXT - text_width(" is ")
    name = shortened(name, max(room / 2, room - text_width(level)))
    return f"{name} is {shortened(level, room - text_width(name))}"


def _cover(tree: Tree, node: int) -> str:
    return f", hessian sum {tree.cover[node]:.6g}" if tree.cover[node] else ""


def _centres(words: list[_Words], widths: list[float]) -> npt.NDArray[np.float64]:
    """Where the centre of every node is.

    From the leaves up, the two subtrees of a node are pushed together until they touch at some depth; what is kept of
    a subtree is its outline, the left-most and right-most edge at each depth, relative to its root.
    """
    outlines: list[tuple[list[float], list[float]]] = [([], [])] * len(words)
    offsets = np.zeros(len(words))  # of a node from its parent
    for node in reversed(range(len(words))):  # children come after their parents
        half = widths[node] / 2
        yes, no = words[node].yes, words[node].no
        if yes < 0:
            outlines[node] = ([-half], [half])
            continue
        (yes_left, yes_right), (no_left, no_right) = outlines[yes], outlines[no]
        apart = _GAP + max(right - left for right, left in zip(yes_right, no_left, strict=False))
        offsets[yes], offsets[no] = -apart / 2, apart / 2
        left = [edge - apart / 2 for edge in yes_left] + [edge + apart / 2 for edge in no_left[len(yes_left) :]]
        right = [edge + apart / 2 for edge in no_right] + [edge - apart / 2 for edge in yes_right[len(no_right) :]]
        outlines[node] = ([-half, *left], [half, *right])
        outlines[yes] = outlines[no] = ([], [])
    centres = np.zeros(len(words))
    centres[0] = MARGIN - min(outlines[0][0])
    for node, said in enumerate(words):
        if said.yes >= 0:
            centres[said.yes] = centres[node] + offsets[said.yes]
            centres[said.no] = centres[node] + offsets[said.no]
    return centres
