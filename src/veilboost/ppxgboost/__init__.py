"""Encrypted prediction: personal encrypted models, encrypted queries.

After Meng and Feigenbaum, "Privacy-preserving XGBoost inference" (arXiv 2011.04789). A proxy in a trusted environment
encrypts a plaintext model once for each user; an untrusted server evaluates encrypted queries on it; the user's device
encrypts queries and decrypts results.

>>> from veilboost.ppxgboost import Proxy
>>> encrypted_model, keys = Proxy(scheme="ore").personalise("model.json")  # doctest: +SKIP
>>> query = keys.encrypt_query({"age": 41.0, "gender": "F", "cholesterol": None})  # doctest: +SKIP
>>> keys.decrypt(encrypted_model.evaluate(query))  # doctest: +SKIP
"""

try:
    import gmpy2 as _needed  # noqa: F401
except ImportError as error:
    raise ImportError(
        "encrypted prediction needs gmpy2: install veilboost with its extra, pip install 'veilboost[ppxgboost]'"
    ) from error

from veilboost.ppxgboost.encrypted_model import EncryptedModel
from veilboost.ppxgboost.keys import UserKeys
from veilboost.ppxgboost.proxy import Proxy

__all__ = ["EncryptedModel", "Proxy", "UserKeys"]
