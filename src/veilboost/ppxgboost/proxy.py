"""The proxy: in a trusted environment it makes a plaintext model one user's encrypted model and that user's keys."""

from dataclasses import dataclass, replace
from secrets import token_bytes
from typing import Any

from veilboost.errors import InputError
from veilboost.mpc.prg import derive_key
from veilboost.ppxgboost import slots
from veilboost.ppxgboost.comparisons import SECRET_BYTES, ComparisonKey
from veilboost.ppxgboost.encrypted_model import EncryptedModel
from veilboost.ppxgboost.keys import UserKeys
from veilboost.ppxgboost.layout import KEY_ID_BYTES, SCHEMES, Layout, Scheme
from veilboost.ppxgboost.paillier import DEFAULT_BITS, Encryptor, check_length
from veilboost.ppxgboost.personal_model import Columns, check_precision, encrypt_model, largest_sum
from veilboost.trees.scoring_file import read_scoring_model


@dataclass(frozen=True)
class Proxy:
    """Issues personal models.

    Parameters
    ----------
    scheme
        How thresholds are compared: "ore", order-revealing encryption of Lewi and Wu, or "ope", order-preserving
        encryption of Boldyreva and others, which shows the server more (docs/leakage.md).
    key_bits
        Length of Paillier's modulus.

    Raises
    ------
    InputError
        There is no such scheme, or `key_bits` is out of range.
    """

    scheme: Scheme = "ore"
    key_bits: int = DEFAULT_BITS

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InputError(f"scheme must be one of {', '.join(SCHEMES)}, not {self.scheme!r}")
        check_length(self.key_bits)

    def personalise(
        self, model: Any, iteration_range: tuple[int, int] | None = None
    ) -> tuple[EncryptedModel, UserKeys]:
        """Encrypt a model for one user, under fresh keys.

        Parameters
        ----------
        model
            A fitted estimator of veilboost, an XGBoost Booster or scikit-learn style model, the path of a JSON or UBJ
            model file, or its content as bytes.
        iteration_range
            Rounds to use, as in XGBoost; (0, 0) for all. None: up to the best one if training stopped early, else all.

        Returns
        -------
        encrypted_model
            For the prediction server.
        keys
            For the user.

        Raises
        ------
        ModelError
            The model is damaged, or of a kind that is not supported, which is named.
        """
        plain = read_scoring_model(model, iteration_range=iteration_range)
        secret = token_bytes(SECRET_BYTES)
        comparisons = ComparisonKey(derive_key(secret, b"comparison key"))
        exponent = slots.choose_exponent(largest_sum(plain))
        check_precision(plain, exponent)
        encryptor = Encryptor.generate(self.key_bits)
        columns = Columns.of(plain, derive_key(secret, b"names"))
        layout = Layout(
            self.scheme,
            token_bytes(KEY_ID_BYTES),
            len(columns.numeric),
            columns.domains,
            plain.outputs,
        )
        encrypted = encrypt_model(plain, columns, layout, comparisons, exponent, encryptor)
        used = sorted({column.feature for column in columns.numeric} | {column.feature for column in columns.sets})
        number = {feature: at for at, feature in enumerate(used)}
        keys = UserKeys(
            layout,
            tuple(plain.features[feature] for feature in used),
            tuple(replace(column, feature=number[column.feature]) for column in columns.numeric),
            tuple(replace(column, feature=number[column.feature]) for column in columns.sets),
            plain.objective,
            exponent,
            comparisons,
            encryptor.key,
        )
        return encrypted, keys
