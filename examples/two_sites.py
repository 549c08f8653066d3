"""Two sites ask the same questions after a first attack, and learn together who converts to multiple sclerosis.

    python examples/two_sites.py ms_cis_two_sites.csv

The table has a column `site`, eight features that both sites have, and the label `converted`. Such a table can be put
together from Pineda and Flores Rivera (2023), Mendeley Data doi:10.17632/8wk5hjx7x2.1, and Balnyte et al., Medicina
2022;58(9):1178; it is not part of veilboost. Every site is compared with what it would reach
alone, over several splits of its patients.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from veilboost import XORBoostClassifier

SPLITS = 5
PARAMETERS: dict[str, int | float] = {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.2, "max_bin": 32}


def main(path: Path) -> None:
    """Train and compare."""
    table = pd.read_csv(path)
    features = [name for name in table.columns if name not in ("site", "converted")]
    scores: dict[str, list[tuple[float, float]]] = {str(site): [] for site in table["site"].unique()}
    for seed in range(SPLITS):
        strata = table["site"].astype(str) + table["converted"].astype(str)
        train, test = train_test_split(table, test_size=0.3, random_state=seed, stratify=strata)
        sites = {str(site): rows[[*features, "converted"]] for site, rows in train.groupby("site")}
        clf = XORBoostClassifier(**PARAMETERS).fit(sites, label="converted")  # type: ignore[arg-type]
        for site, rows in sites.items():
            own = test[test["site"] == site]
            alone = xgboost.XGBClassifier(tree_method="hist", **PARAMETERS).fit(rows[features], rows["converted"])
            together = roc_auc_score(own["converted"], clf.predict_proba(own)[:, 1])
            scores[site].append(
                (float(roc_auc_score(own["converted"], alone.predict_proba(own[features])[:, 1])), float(together))
            )
    for site, found in scores.items():
        before, after = np.mean(found, axis=0)
        print(f"{site}: AUC {before:.3f} alone, {after:.3f} together ({after - before:+.3f}), mean of {SPLITS} splits")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
