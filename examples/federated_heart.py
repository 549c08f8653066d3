"""Four hospitals train one model of heart disease; each keeps its own patients, and nobody sees another's sums.

    python examples/federated_heart.py

The 920 patients come with the package (src/veilboost/data/README.md). Federated training is compared with XGBoost on
all rows in one table, which nobody may have in earnest, and on the rows of each hospital alone.
"""

from __future__ import annotations

import pandas as pd
import xgboost
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from veilboost import FederatedClassifier
from veilboost.data import heart_disease_path

PARAMETERS: dict[str, int | float] = {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.3, "max_bin": 32}
FLAGS = ["fbs", "exang"]
TEXTS = ["sex", "cp", "restecg", "slope", "thal"]


def for_xgboost(patients: pd.DataFrame) -> pd.DataFrame:
    """The features as XGBoost takes them: flags as numbers, text as categories."""
    features = patients.drop(columns=["hospital", "disease"])
    numbers = {name: features[name].map({True: 1.0, False: 0.0}).astype(float) for name in FLAGS}
    return features.assign(**numbers).astype(dict.fromkeys(TEXTS, "category"))


def auc_of_xgboost(patients: pd.DataFrame, train: pd.Index, test: pd.Index) -> float:
    """AUC on `test` of XGBoost that has seen the rows `train`."""
    features, disease = for_xgboost(patients), patients["disease"]
    model = xgboost.XGBClassifier(tree_method="hist", enable_categorical=True, **PARAMETERS)
    model.fit(features.loc[train], disease[train])
    return float(roc_auc_score(disease[test], model.predict_proba(features.loc[test])[:, 1]))


def main() -> None:
    """Train and compare."""
    patients = pd.read_csv(heart_disease_path())
    patients["hospital"] = patients["hospital"].str.replace(" ", "-")
    strata = patients["hospital"] + patients["disease"].astype(str)
    train, test = train_test_split(patients.index, test_size=0.3, random_state=0, stratify=strata)
    hospitals = {str(name): rows.drop(columns="hospital") for name, rows in patients.loc[train].groupby("hospital")}

    # All clients must answer every question: no two sums are ever over different hospitals.
    clf = FederatedClassifier(min_rows_per_leaf=5, min_clients=len(hospitals), **PARAMETERS)
    clf.fit(hospitals, label="disease")
    federated = roc_auc_score(patients.loc[test, "disease"], clf.predict_proba(patients.loc[test])[:, 1])

    print(f"AUC on {len(test)} other patients of all four hospitals")
    print(f"{federated:.3f}  federated: no server saw a hospital's sums, or their total (veilboost)")
    print(f"{auc_of_xgboost(patients, train, test):.3f}  all {len(train)} rows in one table (XGBoost)")
    for name in hospitals:
        own = train[(patients.loc[train, "hospital"] == name).to_numpy()]
        print(f"{auc_of_xgboost(patients, own, test):.3f}  {name} alone, {len(own)} patients (XGBoost)")
    print("Disclosed to all participants:")
    for entry in clf.ledger_:
        print(f"  {entry['value']}, {' x '.join(map(str, entry['shape']))}")


if __name__ == "__main__":
    main()
