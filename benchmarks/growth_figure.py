"""The figure of growth.py: measurements and the lines through them, as small multiples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from growth import QUANTITIES, series

#: Rows of panels: title of the vertical axis, and what is drawn in it, with colour and name.
_PANELS = (
    ("seconds per tree", (("seconds", "#000000", ""),)),
    ("MB sent per tree", (("owner bytes", "#0072B2", "an owner"), ("dealer bytes", "#D55E00", "the dealer"))),
    ("peak memory, MiB", (("owner memory", "#0072B2", "an owner"), ("dealer memory", "#D55E00", "the dealer"))),
    ("rounds per tree", (("rounds", "#000000", ""),)),
)


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the figure; equal results give equal bytes."""
    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "veilboost", "svg.fonttype": "none", "font.size": 8}
    import matplotlib.pyplot as plt

    names = list(results["values"])
    lines = {(one["varied"], one["quantity"]): one for one in results["fits"]}
    figure, panels = plt.subplots(
        len(_PANELS), len(names), figsize=(2.1 * len(names), 1.7 * len(_PANELS)), squeeze=False, layout="constrained"
    )
    for column, name in enumerate(names):
        points = series(results, name)
        values = np.array([point["settings"][name] for point in points], dtype=float)
        between = np.linspace(values[0], values[-1], 25)
        for row, (title, drawn) in enumerate(_PANELS):
            panel = panels[row, column]
            for key, colour, label in drawn:
                quantity, line = QUANTITIES[key], lines[name, key]
                law = np.array([quantity.laws[name].of(value) for value in between])
                panel.plot(between, line["intercept"] + line["slope"] * law, color=colour, linewidth=0.8, alpha=0.6)
                measured = [quantity.read(point) for point in points]
                panel.plot(values, measured, "o", color=colour, markersize=3, label=label)
            panel.set_ylim(0, 1.15 * panel.dataLim.y1)
            panel.set_xlim(left=0)
            panel.spines[["top", "right"]].set_visible(False)
            panel.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
            panel.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
            if column == 0:
                panel.set_ylabel(title)
                if len(drawn) > 1:
                    place = "upper left" if row == 1 else "lower left"
                    panel.legend(frameon=False, loc=place, handletextpad=0.2, borderpad=0.1)
            if row == len(_PANELS) - 1:
                panel.set_xlabel(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=110, metadata=metadata)
    plt.close(figure)
