"""Charts of the report as inline SVG that stretches with the page; words and numbers beside them are HTML."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Final

from veilboost.trees.markup import Markup, element, number

#: Colours that can be told apart on light and dark ground, and by most colour-blind people.
COLOURS: Final = ("#2f7fc1", "#d9822b", "#2a9d8f", "#c94f7c", "#8f6fd1", "#a0872b", "#6c8aa8", "#c0504d")

_WIDTH, _HEIGHT = 1000.0, 240.0
_DASHES: Final = (None, "7 4", "2 4", "10 4 2 4")
_MOST_COLUMNS: Final = 120


def bar(part: float) -> Markup:
    """A bar over `part` (0 to 1) of the width there is."""
    return _stretched(element("rect", width=f"{number(100 * part)}%", height="100%", fill=COLOURS[0], rx=2))


def stacked_bar(parts: Mapping[str, float], colours: Mapping[str, str], total: float, unit: str = "") -> Markup:
    """One bar of several named parts; `total` is what fills the whole width."""
    at, rectangles = 0.0, []
    for name, value in parts.items():
        width = 100 * value / total if total > 0 else 0.0
        rectangles.append(
            element(
                "rect",
                element("title", f"{name}: {value:,.3g}{unit}"),
                x=f"{number(at)}%",
                width=f"{number(width)}%",
                height="100%",
                fill=colours[name],
            )
        )
        at += width
    return _stretched(*rectangles)


def legend(colours: Mapping[str, str]) -> Markup:
    """What the colours mean."""
    return element("ul", *(element("li", _swatch(colour), name) for name, colour in colours.items()), class_="legend")


def columns(values: Sequence[float], unit: str) -> Markup:
    """A column per value, such as the seconds of each tree; neighbours are averaged where there are very many."""
    bins = [values[start:stop] for start, stop in pairwise(_bounds(len(values)))]
    heights = [sum(part) / len(part) for part in bins]
    most = max(heights, default=0.0) or 1.0
    width = _WIDTH / max(len(heights), 1)
    return element(
        "div",
        element("div", f"{most:.3g}{unit}", class_="high"),
        _plot(
            f"{len(values)} values, the greatest {most:.3g}{unit}",
            *(
                element(
                    "rect",
                    x=at * width + 0.1 * width,
                    y=_HEIGHT * (1 - height / most),
                    width=0.8 * width,
                    height=_HEIGHT * height / most,
                    fill=COLOURS[0],
                )
                for at, height in enumerate(heights)
            ),
        ),
        element("div", element("span", "tree 1"), element("span", f"tree {len(values)}"), class_="ends"),
        class_="plot low",
    )


def learning_curve(series: Mapping[str, Sequence[float | None]]) -> Markup:
    """How a metric changes from tree to tree.

    Parameters
    ----------
    series
        Name of each data set and the metric after every tree; None or NaN where it is not known.
    """
    known = [value for values in series.values() for value in values if value is not None and isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
    trees = max((len(values) for values in series.values()), default=0)
    lines, names = [], []
    for at, (name, values) in enumerate(series.items()):
        colour, dash = COLOURS[at % len(COLOURS)], _DASHES[at // len(COLOURS) % len(_DASHES)]
        lines.append(
            element(
                "path",
                d=_path(values, low, high, trees),
                fill="none",
                stroke=colour,
                stroke_width=2,
                stroke_dasharray=dash,
                stroke_linecap="round",
                stroke_linejoin="round",
                vector_effect="non-scaling-stroke",
            )
        )
        last = next((value for value in reversed(values) if value is not None and isfinite(value)), None)
        names.append(element("li", _swatch(colour), name, None if last is None else f": {last:.4g} at the end"))
    return element(
        "div",
        element("div", f"{high:.4g}", class_="high"),
        _plot(f"{', '.join(series)} over {trees} trees", *lines),
        element("div", f"{low:.4g}", class_="high"),
        element("div", element("span", "tree 1"), element("span", f"tree {trees}"), class_="ends"),
        element("ul", *names, class_="legend"),
        class_="plot",
    )


def _path(values: Sequence[float | None], low: float, high: float, trees: int) -> str:
    """A line through the known values, broken where one is not known; a dot for a value without neighbours."""
    steps, drawing = [], False
    for at, value in enumerate(values):
        if value is None or not isfinite(value):
            drawing = False
            continue
        x = _WIDTH * at / max(trees - 1, 1)
        y = _HEIGHT * (high - value) / (high - low)
        steps.append(f"L{number(x)} {number(y)}" if drawing else f"M{number(x)} {number(y)}h0")
        drawing = True
    return "".join(steps)


def _bounds(count: int) -> list[int]:
    pieces = min(count, _MOST_COLUMNS)
    return [count * piece // pieces for piece in range(pieces + 1)] if pieces else []


def _stretched(*children: Markup) -> Markup:
    return element("svg", *children, class_="bar", width="100%", height="14", aria_hidden="true")


def _plot(what: str, *children: Markup) -> Markup:
    return element(
        "svg",
        *children,
        role="img",
        aria_label=what,
        width="100%",
        viewBox=f"0 0 {number(_WIDTH)} {number(_HEIGHT)}",
        preserveAspectRatio="none",
    )


def _swatch(colour: str) -> Markup:
    return element(
        "svg",
        element("rect", width=12, height=12, rx=2, fill=colour),
        class_="swatch",
        width=12,
        height=12,
        aria_hidden="true",
    )
