"""Privacy-preserving XGBoost: boosted trees trained on data that nobody is allowed to see."""

from veilboost.estimators import XORBoostClassifier, XORBoostRegressor
from veilboost.mpc.shares import reveal, share
from veilboost.version import __version__

__all__ = ["XORBoostClassifier", "XORBoostRegressor", "__version__", "reveal", "share"]
