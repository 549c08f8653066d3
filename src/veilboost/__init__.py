"""Privacy-preserving XGBoost: boosted trees trained on data that nobody is allowed to see."""

from veilboost.estimators import FederatedClassifier, FederatedRegressor, XORBoostClassifier, XORBoostRegressor
from veilboost.mpc.shares import reveal, share
from veilboost.version import __version__

__all__ = [
    "FederatedClassifier",
    "FederatedRegressor",
    "XORBoostClassifier",
    "XORBoostRegressor",
    "__version__",
    "reveal",
    "share",
]
