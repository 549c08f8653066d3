"""Thyroid disease (9,172 patients, 29 columns), columns split over three owners: AUC beside XGBoost's, time, bytes.

    python benchmarks/thyroid.py path/to/thyroid_uci.csv

The table is the one of the UCI Machine Learning Repository (Thyroid Disease), as one CSV; label: any diagnosis.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import xgboost
from environment import environment
from made_up import free_ports
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from veilboost.jobs.draft import draft_feature, draft_job
from veilboost.jobs.local import run_local
from veilboost.jobs.spec import job_from_dict, job_to_toml
from veilboost.tables.table import encode_frame
from veilboost.trees.xgboost_json import load_model

PARAMETERS = {"objective": "binary:logistic", "n_estimators": 20, "max_depth": 4, "learning_rate": 0.3, "max_bin": 64}
OWNERS = {"practice": (0, 6), "hospital": (6, 16), "laboratory": (16, 29)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    chosen = parser.parse_args()
    table = pl.read_csv(chosen.table, infer_schema=False)
    disease = (table["target"] != "-").cast(pl.Int64).to_numpy()
    table = table.drop("target", "patient_id")
    train, test = train_test_split(np.arange(len(disease)), test_size=0.2, random_state=0, stratify=disease)
    held = {name: table.columns[first:last] for name, (first, last) in OWNERS.items()}
    drafts = {name: [draft_feature(c, table[c], str(chosen.table)) for c in columns] for name, columns in held.items()}
    job = job_from_dict(
        draft_job(
            "thyroid", drafts, {"label": "disease"}, {"disease": ["practice"]}, "university", PARAMETERS, free_ports(4)
        )
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        (out / "job.toml").write_text(job_to_toml(job), encoding="utf-8")
        data = {}
        for name, columns in held.items():
            frame = table[train].select(columns)
            data[name] = out / f"{name}.csv"
            if name == "practice":
                frame = frame.with_columns(pl.Series("disease", disease[train]))
            frame.write_csv(data[name])
        run = run_local(job, out / "job.toml", data, out / "out")
        model = load_model(out / "out" / "model.json")
    values = encode_frame(table, job.features)

    def matrix(rows: np.ndarray, labels: np.ndarray | None) -> xgboost.DMatrix:
        types = ["c" if feature.categorical else "float" for feature in job.features]
        return xgboost.DMatrix(values[rows], label=labels, feature_types=types, enable_categorical=True)

    plain = {k: v for k, v in PARAMETERS.items() if k != "n_estimators"} | {
        "tree_method": "hist",
        "max_cat_to_onehot": 1000,
    }
    booster = xgboost.train(plain, matrix(train, disease[train]), PARAMETERS["n_estimators"])
    print(
        json.dumps(
            {
                "parameters": PARAMETERS,
                "rows": {"train": len(train), "test": len(test)},
                "columns_of_owners": {name: len(columns) for name, columns in held.items()},
                "auc_veilboost": roc_auc_score(disease[test], model.predict(values[test])),
                "auc_xgboost": roc_auc_score(disease[test], booster.predict(matrix(test, None))),
                "seconds_per_tree_mean": statistics.fmean(run.report["seconds_per_tree"][1:]),
                "seconds_setup": run.report["seconds_setup"],
                "bytes_sent": run.report["bytes_sent"],
                "rounds": run.report["rounds"],
                "environment": environment(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
