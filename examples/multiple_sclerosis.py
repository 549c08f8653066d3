"""Two hospitals and an insurer learn who develops multiple sclerosis, and none of them shows its table.

    python examples/multiple_sclerosis.py

The columns are those of the story in J. Feigenbaum, D. Jetchev, "Privacy challenges in extreme gradient boosting": the
hospitals know neurological history such as ADEM (acute disseminated encephalomyelitis), age, gender, visits to the
hospital, hyperlipidemia and hyperglycemia of their own patients; the insurer the drugs that it has reimbursed, for
patients of both and for many others. The patients are made up, and so is the medicine in them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xgboost
from sklearn.metrics import roc_auc_score

from veilboost import XORBoostClassifier

PATIENTS = 3000
HOSPITAL = ["patient", "adem", "optic_neuritis", "age", "gender", "visits", "hyperlipidemia", "hyperglycemia", "ms"]
INSURER = ["patient", "corticosteroids", "spasmolytics", "antidepressants", "reimbursed"]


def make_patients(rng: np.random.Generator) -> pd.DataFrame:
    """Everything that anybody knows of the patients, in one table that nobody has."""
    age = rng.gamma(9, 4.5, PATIENTS).clip(16, 90).round()
    gender = rng.choice(["female", "male"], PATIENTS, p=[0.6, 0.4])
    adem, neuritis = rng.random(PATIENTS) < 0.06, rng.random(PATIENTS) < 0.08
    lipids, sugar = rng.random(PATIENTS) < 0.1 + age / 300, rng.random(PATIENTS) < 0.05 + age / 400
    odds = -3.2 + 2.1 * adem + 1.6 * neuritis + 0.7 * (gender == "female") - 0.9 * np.abs(age - 33) / 20 + 0.5 * lipids
    risk = 1 / (1 + np.exp(-(odds + rng.normal(0, 0.8, PATIENTS))))
    ms = rng.random(PATIENTS) < risk
    return pd.DataFrame(
        {
            "patient": [f"AHV-{number:06}" for number in rng.permutation(10**6)[:PATIENTS]],
            "adem": adem,
            "optic_neuritis": neuritis,
            "age": age,
            "gender": gender,
            "visits": rng.poisson(1 + 2 * risk),
            "hyperlipidemia": lipids,
            "hyperglycemia": sugar,
            "ms": ms.astype(int),
            "corticosteroids": rng.poisson(0.2 + 5 * risk),
            "spasmolytics": rng.poisson(0.1 + 3 * risk * (age > 30)),
            "antidepressants": rng.poisson(0.5 + 0.4 * risk),
            "reimbursed": np.round(rng.lognormal(6 + 1.5 * risk, 0.8), 2),
        }
    )


def alone(table: pd.DataFrame, test: pd.DataFrame, parameters: dict[str, int | float]) -> float:
    """AUC of XGBoost on what one hospital has."""
    columns = [name for name in HOSPITAL if name not in ("patient", "ms")]
    train, unseen = (one[columns].astype({"gender": "category"}) for one in (table, test))
    model = xgboost.XGBClassifier(tree_method="hist", enable_categorical=True, **parameters).fit(train, table["ms"])
    return float(roc_auc_score(test["ms"], model.predict_proba(unseen)[:, 1]))


def main() -> None:
    """Train and compare."""
    rng = np.random.default_rng(1)
    everybody = make_patients(rng)
    train, test = everybody[: PATIENTS * 3 // 4], everybody[PATIENTS * 3 // 4 :]
    parameters: dict[str, int | float] = {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.3, "max_bin": 32}
    half = len(train) // 3
    hospitals = {"north": train[:half], "south": train[half:]}
    owners = {name: table[HOSPITAL] for name, table in hospitals.items()}
    owners["insurer"] = everybody[INSURER].sample(frac=1, random_state=1)

    clf = XORBoostClassifier(min_rows_per_leaf=5, **parameters)  # type: ignore[arg-type]
    clf.fit(owners, id="patient", label="ms")

    for name, table in hospitals.items():
        print(f"{alone(table, test, parameters):.3f}  {name} alone, {len(table)} patients (XGBoost)")
    together = roc_auc_score(test["ms"], clf.predict_proba(test)[:, 1])
    print(f"{together:.3f}  both hospitals and the insurer, none of them shown to anybody (veilboost)")
    clf.save_model("multiple_sclerosis.json")
    print("the model is in multiple_sclerosis.json; XGBoost reads it")


if __name__ == "__main__":
    main()
