"""The figure of federated_privacy.py: AUC against epsilon, one panel for each table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

if TYPE_CHECKING:
    from federated_privacy import Result

#: Colour and marker of each mode.
_MODES = {"leaf_sums": ("#0072B2", "o"), "histograms": ("#D55E00", "s")}


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the figure; equal results give equal bytes."""
    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "veilboost", "svg.fonttype": "none", "font.size": 8}
    import matplotlib.pyplot as plt

    tables = list(dict.fromkeys(one.table for one in results))
    figure, panels = plt.subplots(1, len(tables), figsize=(3.6 * len(tables), 2.9), squeeze=False, layout="constrained")
    for panel, table in zip(panels[0], tables, strict=True):
        of_table = [one for one in results if one.table == table]
        budgets = sorted({one.epsilon for one in of_table if one.epsilon is not None})
        # Without a budget is one step of the axis beyond the largest one.
        beyond = budgets[-1] * budgets[-1] / budgets[-2] if len(budgets) > 1 else 10 * (budgets[-1] if budgets else 1)
        panel.axhline(of_table[0].xgboost, color="#000000", linewidth=0.9, label="XGBoost, pooled, no privacy")
        for mode, (colour, marker) in _MODES.items():
            of_mode = [one for one in of_table if one.mode == mode]
            points = sorted((one.epsilon, one.auc, one.deviation) for one in of_mode if one.epsilon is not None)
            style = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.0, "capsize": 2}
            if points:
                at, aucs, deviations = zip(*points, strict=True)
                panel.errorbar(at, aucs, yerr=deviations, label=mode, **style)
            without = [one for one in of_mode if one.epsilon is None]
            if without:
                ends = [*points[-1:], (beyond, without[0].auc, without[0].deviation)]
                panel.plot([end[0] for end in ends], [end[1] for end in ends], ":", color=colour, linewidth=0.8)
                panel.errorbar(
                    [beyond], [without[0].auc], yerr=[without[0].deviation], **style | {"markerfacecolor": "white"}
                )
        panel.set_xscale("log")
        panel.set_xticks([*budgets, beyond], [*(f"{budget:g}" for budget in budgets), "no\nprivacy"])
        panel.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        panel.set_xlabel("epsilon")
        panel.set_title(f"{table}, {of_table[0].rows:,} training rows", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("AUC")
    panels[0, -1].legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
