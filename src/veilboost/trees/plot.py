"""Pictures of an ensemble with matplotlib, which is imported when a picture is asked for.

matplotlib comes with the extra `analyst`; the pictures of `report.html` need none (`veilboost.trees.svg`).
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

from veilboost.errors import InputError
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.importance import importance_of
from veilboost.trees.layout import FONT_SIZE, SMALL_FONT_SIZE, Box, Edge, lay_out, shortened
from veilboost.trees.markup import visible
from veilboost.trees.svg import LOWERS, RAISES, leaf_opacity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXELS_PER_INCH: Final = 96.0
_LEAST_INCHES, _MOST_INCHES = 3.0, 120.0
_LINES, _INK, _QUIET = "#8a8f98", "#1c2026", "#5a606b"
_NAME_WIDTH: Final = 260.0


def plot_tree(ensemble: Ensemble, number: int = 0, ax: Axes | None = None) -> Axes:
    """Draw one tree.

    Parameters
    ----------
    number
        Which tree, counted from 0.
    ax
        Where; None makes a figure that is large enough for readable text.

    Raises
    ------
    InputError
        There is no such tree, or matplotlib is not installed.
    """
    _require_matplotlib("plot_tree")
    count = len(ensemble.trees)
    if not 0 <= operator.index(number) < count:
        raise InputError(f"tree {number}: the model has {count} trees, counted from 0: give a number below {count}")
    picture = lay_out(ensemble.trees[number], ensemble.features)
    if ax is None:
        size = (picture.width / _PIXELS_PER_INCH, picture.height / _PIXELS_PER_INCH)
        ax = _new_axes(*(min(max(inches, _LEAST_INCHES), _MOST_INCHES) for inches in size))
    ax.set_xlim(0, picture.width)
    ax.set_ylim(picture.height, 0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    for edge in picture.edges:
        _draw_edge(ax, edge)
    for box in picture.boxes:
        _draw_box(ax, box)
    return ax


def plot_importance(
    ensemble: Ensemble, ax: Axes | None = None, importance_type: str | None = None, max_num_features: int | None = None
) -> Axes:
    """Draw how much the model uses its features, the most important one on top.

    Parameters
    ----------
    ax
        Where; None makes a figure.
    importance_type
        "weight", the number of splits, or "total_gain"; None: total gain if gains were disclosed.
    max_num_features
        Draw only so many of the features that the model uses.

    Raises
    ------
    InputError
        Gains are asked for and were not disclosed, or matplotlib is not installed.
    """
    _require_matplotlib("plot_importance")
    importance = importance_of(ensemble, importance_type)
    features = importance.order()[:max_num_features]
    if ax is None:
        ax = _new_axes(7.0, min(max(0.3 * len(features) + 1.0, 2.0), _MOST_INCHES))
    rows = range(len(features))
    bars = ax.barh(rows, importance.scores[features], height=0.62, color=RAISES)
    ax.bar_label(bars, [importance.shown(feature) for feature in features], padding=3, fontsize="small")
    names = [shortened(visible(ensemble.features[feature].name), _NAME_WIDTH) for feature in features]
    ax.set_yticks(rows, [_literal(name) for name in names])
    ax.set_ylim(max(len(features), 1) - 0.4, -0.6)
    ax.margins(x=0.12)
    ax.locator_params(axis="x", integer=importance.kind == "weight")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(importance.title)
    ax.set_title("Feature importance" if features else "Feature importance: no tree splits")
    return ax


def _draw_edge(ax: Axes, edge: Edge) -> None:
    ax.plot([edge.x1, edge.x2], [edge.y1, edge.y2], color=_LINES, linewidth=_points(ax, 1.2), zorder=1)
    x, y = (edge.x1 + edge.x2) / 2, (edge.y1 + edge.y2) / 2
    _draw_text(ax, edge.answer, x, y + 4, SMALL_FONT_SIZE, _QUIET, room=40, halo=True)


def _draw_box(ax: Axes, box: Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    leaf = box.strength is not None
    corner = box.height / 2 if leaf else 5.0
    shape = FancyBboxPatch(
        (box.x - box.width / 2, box.y),
        box.width,
        box.height,
        boxstyle=f"round,pad=0,rounding_size={corner}",
        facecolor="white"
        if box.strength is None
        else (LOWERS if box.strength < 0 else RAISES, leaf_opacity(box.strength)),
        edgecolor=_LINES,
        linewidth=_points(ax, 1.2),
        zorder=2,
    )
    ax.add_patch(shape)
    first, room = box.y + (18.5 if leaf else 20.5), box.width - 8
    _draw_text(ax, box.text, box.x, first, FONT_SIZE, _INK, room)
    if box.missing:
        _draw_text(ax, box.missing, box.x, first + 16, SMALL_FONT_SIZE, _QUIET, room)


def _draw_text(
    ax: Axes, text: str, x: float, baseline: float, size: float, color: str, room: float, halo: bool = False
) -> None:
    """Text as an outline in the coordinates of the layout, so that it stays in its box at any size of the figure."""
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    outline = TextPath((0, 0), _literal(text), size=size)
    extent = outline.get_extents()
    scale = min(1.0, room / extent.width) if extent.width > 0 else 1.0
    middle = (extent.x0 + extent.x1) / 2
    placed = outline.transformed(Affine2D().translate(-middle, 0).scale(scale, -scale).translate(x, baseline))
    if halo:
        ax.add_patch(PathPatch(placed, facecolor="white", edgecolor="white", linewidth=_points(ax, 5), zorder=1.5))
    ax.add_patch(PathPatch(placed, facecolor=color, linewidth=0, zorder=3))


def _points(ax: Axes, pixels: float) -> float:
    """A line width of so many pixels of the layout, in points of the figure as it is now."""
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())  # inches
    width, height = abs(ax.get_xlim()[1] - ax.get_xlim()[0]), abs(ax.get_ylim()[1] - ax.get_ylim()[0])
    return pixels * min(box.width / width, box.height / height) * 72


def _new_axes(width: float, height: float) -> Axes:
    import matplotlib.pyplot as plt

    figure: Figure = plt.figure(figsize=(width, height), layout="constrained")
    return figure.add_subplot()


def _literal(text: str) -> str:
    """Text in which dollar signs do not begin a formula."""
    return text.replace("$", r"\$")


def _require_matplotlib(what: str) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(f"{what} needs matplotlib: install 'veilboost[analyst]'") from None
