"""Small models of XGBoost and personal models made of them, shared by the tests of this folder."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from veilboost.ppxgboost import EncryptedModel, Proxy, UserKeys

SITES = ["zurich", "lausanne", "basel", "aarau", "geneva"]
KEY_BITS = 2048  # the shortest that is accepted, for speed


@dataclass(frozen=True)
class Issued:
    """A plaintext model, rows to predict on, and what a proxy issued for one user."""

    booster: xgb.Booster
    rows: pd.DataFrame
    encrypted: EncryptedModel
    keys: UserKeys

    def predict(self, rows: pd.DataFrame, **options: Any) -> Any:
        return self.booster.predict(xgb.DMatrix(rows, enable_categorical=True), **options)

    def ask(self, rows: Any, **options: Any) -> Any:
        return self.keys.decrypt(self.encrypted.evaluate(self.keys.encrypt_query(rows)), **options)


def patients(count: int = 300, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    """Numbers with ties, missing cells, text categories; a label that depends on all of them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "cholesterol level": rng.normal(200, 30, count).round(1),
            "age": rng.integers(18, 90, count).astype(float),
            "site of care": pd.Categorical(rng.choice(SITES, count), categories=SITES),
            "visit": rng.integers(1_600_000_000, 1_700_000_000, count) * 1_000_000_000,
            "smoker": rng.integers(0, 2, count).astype(float),
        }
    )
    score = frame["cholesterol level"] / 30 + frame["age"] / 20 + frame["smoker"]
    score += frame["site of care"].cat.codes % 2 * 3
    for name in ("cholesterol level", "age", "smoker"):
        frame.loc[rng.random(count) < 0.15, name] = np.nan
    frame.loc[rng.random(count) < 0.1, "site of care"] = np.nan
    return frame, (score + rng.normal(size=count)).to_numpy()


@cache
def issued(scheme: str = "ore", objective: str = "binary:logistic", classes: int = 2, rounds: int = 8) -> Issued:
    frame, score = patients()
    if objective.startswith("multi"):
        label = pd.qcut(score, classes, labels=False)
    else:
        label = (score > np.median(score)).astype(float) if objective == "binary:logistic" else score
    parameters: dict[str, Any] = {"objective": objective, "max_depth": 3, "eta": 0.4, "max_cat_to_onehot": 1}
    if objective.startswith("multi"):
        parameters["num_class"] = classes
    booster = xgb.train(parameters, xgb.DMatrix(frame, label=label, enable_categorical=True), rounds)
    encrypted, keys = Proxy(scheme=scheme, key_bits=KEY_BITS).personalise(booster)  # type: ignore[arg-type]
    return Issued(booster, frame, encrypted, keys)
