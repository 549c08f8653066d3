"""Trees as SVG that can stand inside an HTML page: no script, no font, no other file.

Colours are attributes, which a style sheet of the page may override by the classes `node`, `leaf`, `edge`, `answer`,
`question` and `missing`; without one the picture is readable on a light ground.
"""

from veilboost.trees.layout import FONT_SIZE, SMALL_FONT_SIZE, Box, Edge, Picture
from veilboost.trees.markup import Markup, element, number

#: Leaves that raise a prediction, and leaves that lower it; told apart by the sign of the weight as well.
RAISES, LOWERS = "#2f7fc1", "#d9822b"


def tree_svg(picture: Picture, label: str) -> Markup:
    """Draw a tree in its natural size; full names stand in <title> elements, `label` says what it is."""
    return element(
        "svg",
        *(_line(edge) for edge in picture.edges),
        *(_answer(edge) for edge in picture.edges),
        *(_node(box) for box in picture.boxes),
        xmlns="http://www.w3.org/2000/svg",
        class_="tree",
        role="img",
        aria_label=label,
        width=picture.width,
        height=picture.height,
        viewBox=f"0 0 {number(picture.width)} {number(picture.height)}",
        font_family="system-ui, sans-serif",
        text_anchor="middle",
    )


def leaf_opacity(strength: float) -> float:
    """How strongly a leaf is coloured."""
    return 0.12 + 0.43 * abs(strength)


def _line(edge: Edge) -> Markup:
    return element("line", class_="edge", x1=edge.x1, y1=edge.y1, x2=edge.x2, y2=edge.y2, stroke="#8a8f98")


def _answer(edge: Edge) -> Markup:
    return element(
        "text",
        edge.answer,
        class_="answer",
        x=(edge.x1 + edge.x2) / 2,
        y=(edge.y1 + edge.y2) / 2 + 4,
        font_size=SMALL_FONT_SIZE,
        fill="#5a606b",
        stroke="#ffffff",
        stroke_width=5,
        stroke_linejoin="round",
        paint_order="stroke",
    )


def _node(box: Box) -> Markup:
    leaf = box.strength is not None
    shape = element(
        "rect",
        class_="leaf" if leaf else "node",
        x=box.x - box.width / 2,
        y=box.y,
        width=box.width,
        height=box.height,
        rx=box.height / 2 if leaf else 5,
        fill="#ffffff" if box.strength is None else LOWERS if box.strength < 0 else RAISES,
        fill_opacity=None if box.strength is None else leaf_opacity(box.strength),
        stroke="#8a8f98",
    )
    first = box.y + (18.5 if leaf else 20.5)
    lines = [element("text", box.text, class_="question", x=box.x, y=first, font_size=FONT_SIZE, fill="#1c2026")]
    if box.missing:
        lines.append(
            element(
                "text", box.missing, class_="missing", x=box.x, y=first + 16, font_size=SMALL_FONT_SIZE, fill="#5a606b"
            )
        )
    return element("g", element("title", box.full), shape, *lines)
