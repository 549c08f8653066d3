"""A user's keys: they encrypt queries to one personal model and decrypt its results, on the user's own device."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gmpy2 import mpz

from veilboost.errors import CiphertextError, InputError, ModelError
from veilboost.ppxgboost import ore, passphrase, slots, wire
from veilboost.ppxgboost.columns import NumericColumn, SetColumn
from veilboost.ppxgboost.comparisons import SECRET_BYTES, ComparisonKey
from veilboost.ppxgboost.layout import MOST_ROWS, Layout, Query
from veilboost.ppxgboost.paillier import PrivateKey
from veilboost.ppxgboost.rows import read_rows
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.links import to_predictions

_MOST_EXPONENT: Final = 1024  # of float64

#: So many ciphertexts, some tenth of a second's work, are worth a thread each.
_WORTH_THREADS: Final = 32


@dataclass(frozen=True, eq=False)
class UserKeys:
    """The keys of one user for one personal model; made by `Proxy.personalise`.

    Attributes
    ----------
    layout
        What the prediction server knows too.
    features
        The columns that a query needs: names, kinds, levels.
    numeric, sets
        The model's columns, in its order.
    objective
        XGBoost's name; says how margins become predictions.
    exponent
        Of the scale of margins, see `slots.choose_exponent`.
    """

    layout: Layout
    features: tuple[Feature, ...]
    numeric: tuple[NumericColumn, ...]
    sets: tuple[SetColumn, ...]
    objective: str
    exponent: int
    comparisons: ComparisonKey
    private: PrivateKey

    def __repr__(self) -> str:
        return f"UserKeys({len(self.features)} features, {self.layout.scheme}, redacted)"

    def encrypt_query(self, values: object) -> bytes:
        """Encrypt one row, or many, for the prediction server.

        Parameters
        ----------
        values
            A mapping of names to values, a list of these, a data frame or a file: see `rows.read_rows`. A category
            that the model does not know goes left everywhere, with a UserWarning that names the column. (XGBoost
            refuses those of a data frame since 3.1, and sends unknown codes left.)

        Raises
        ------
        DataError
            A feature of the model is not there, or a value cannot be one of its column.
        """
        rows = read_rows(values, self.features)
        if len(rows) > MOST_ROWS:
            raise InputError(f"a query has at most {MOST_ROWS} rows, not {len(rows)}: split the table")
        codes = np.empty((len(rows), len(self.numeric)), dtype=np.uint32)
        for number, column in enumerate(self.numeric):
            codes[:, number] = column.codes(rows[:, column.feature])
        set_keys = np.empty((len(rows), len(self.sets), ore.KEY_BYTES), dtype=np.uint8)
        set_places = np.empty((len(rows), len(self.sets)), dtype=np.uint32)
        for number, of_set in enumerate(self.sets):
            set_codes = of_set.codes(rows[:, of_set.feature])
            encrypted = self.comparisons.revealing.membership_left(number, set_codes, of_set.domain)
            set_keys[:, number], set_places[:, number] = encrypted
        preserved = np.empty((len(rows), 0), dtype=np.uint64)
        if self.layout.scheme == "ope":
            preserved, codes = self.comparisons.preserve(codes), codes[:, :0]
        left = self.comparisons.left(codes)
        return self.layout.write_query(Query(preserved, left, set_keys, set_places))

    def decrypt(self, result: bytes, output_margin: bool = False) -> npt.NDArray[Any]:
        """Predictions from a server's result, as XGBoost gives them for the same rows and rounds.

        Do not ask again by yourself when this refuses a result, nor tell the server: a server that tampers with results
        could read from it what they are.

        Parameters
        ----------
        output_margin
            Whether to leave out the objective's last step, as in XGBoost.

        Raises
        ------
        CiphertextError
            The result is damaged, or of another model or user.
        """
        rows, ciphertexts = self.layout.read_result(result, self.private.public)
        outputs, lengths = self.layout.outputs, self.layout.slots_used(rows, self.private.public)
        numbers: list[int] = []
        for plaintext, length in zip(self._decrypted(ciphertexts, max(lengths)), lengths, strict=True):
            numbers += slots.unpack(plaintext, length)
        margins = np.array([slots.to_real(number, self.exponent) for number in numbers]).reshape(rows, outputs)
        with np.errstate(over="ignore"):
            as_float32 = margins.astype(np.float32)
        if output_margin:
            return as_float32 if outputs > 1 else as_float32[:, 0]
        return to_predictions(self.objective, as_float32)

    def _decrypted(self, ciphertexts: list[mpz], length: int) -> list[int]:
        """Plaintexts of so many slots; many ciphertexts on all cores."""
        decrypt = partial(self.private.decrypt, bits=length * slots.SLOT_BITS - 1)
        threads = min(os.cpu_count() or 1, len(ciphertexts) // _WORTH_THREADS)
        if threads < 2:
            return decrypt(ciphertexts)
        with ThreadPoolExecutor(threads) as pool:
            size = -(-len(ciphertexts) // threads)
            pieces = [ciphertexts[start : start + size] for start in range(0, len(ciphertexts), size)]
            return [plaintext for piece in pool.map(decrypt, pieces) for plaintext in piece]

    def to_bytes(self, secret: str | bytes) -> bytes:
        """What a user keeps, encrypted under a passphrase.

        Raises
        ------
        InputError
            The passphrase is empty.
        """
        header = wire.Writer(wire.KEYS)
        self.layout.write(header)
        content = {
            "features": [
                {"name": f.name, "kind": f.kind.value, "levels": list(f.levels), "missing": f.missing}
                for f in self.features
            ],
            "numeric": [[c.feature, c.missing_left, c.missing_first, c.missing_last] for c in self.numeric],
            "sets": [[column.feature, column.categories] for column in self.sets],
            "objective": self.objective,
            "exponent": self.exponent,
            "comparisons": self.comparisons.secret.hex(),
            "p": f"{self.private.p:x}",
            "q": f"{self.private.q:x}",
        }
        passphrase.seal(header, json.dumps(content).encode(), secret)
        return header.done()

    @classmethod
    def from_bytes(cls, data: bytes, secret: str | bytes) -> "UserKeys":
        """Read what `to_bytes` wrote.

        Raises
        ------
        CiphertextError
            The passphrase is wrong, or the data are damaged or something else.
        """
        source = wire.Reader(wire.KEYS, data)
        layout = Layout.read(source)
        content = passphrase.unseal(source, secret)
        try:
            return cls._from_json(layout, json.loads(content))
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, ModelError):
            raise CiphertextError("a user's keys of another version of veilboost: have them issued again") from None

    @classmethod
    def _from_json(cls, layout: Layout, content: dict[str, Any]) -> "UserKeys":
        """ValueError and the like: the content is not of this form."""
        features = tuple(
            Feature(str(each["name"]), Kind(each["kind"]), tuple(map(str, each["levels"])), bool(each["missing"]))
            for each in content["features"]
        )
        numeric = tuple(
            NumericColumn(int(feature), bool(missing_left), int(first), int(last))
            for feature, missing_left, first, last in content["numeric"]
        )
        sets = tuple(SetColumn(int(feature), int(categories)) for feature, categories in content["sets"])
        secret, exponent = bytes.fromhex(content["comparisons"]), int(content["exponent"])
        fits = len(numeric) == layout.numeric and tuple(column.domain for column in sets) == layout.domains
        used = [*(column.feature for column in numeric), *(column.feature for column in sets)]
        known = all(0 <= feature < len(features) for feature in used) and all(c.categories > 0 for c in sets)
        known = known and all(0 <= c.missing_first <= c.missing_last < 2**32 for c in numeric)
        if not fits or not known or len(secret) != SECRET_BYTES or abs(exponent) > _MOST_EXPONENT:
            raise ValueError
        to_predictions(content["objective"], np.zeros((1, layout.outputs), dtype=np.float32))  # an objective we know
        private = PrivateKey.checked(int(content["p"], 16), int(content["q"], 16))
        comparisons = ComparisonKey(secret)
        return cls(layout, features, numeric, sets, content["objective"], exponent, comparisons, private)
