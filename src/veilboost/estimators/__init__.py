"""Scikit-learn style estimators: every participant as a process of this machine, and the caller as the analyst.

`fit` takes the tables of all owners, so it protects nobody from the caller. It is for trying out and for choosing
parameters on data that one may see; between organisations the same training runs from a job file (`veilboost party`,
...).
"""

from veilboost.estimators.classifier import FederatedClassifier, XORBoostClassifier
from veilboost.estimators.regressor import FederatedRegressor, XORBoostRegressor

__all__ = ["FederatedClassifier", "FederatedRegressor", "XORBoostClassifier", "XORBoostRegressor"]
