"""What a job file says of federated training alone: the tables [[aggregator]] and [federated]."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, field_validator, model_validator

from veilboost.errors import JobError
from veilboost.federated.messages import LARGEST_HEADER, LARGEST_MESSAGE
from veilboost.federated.privacy import LEAST_DELTA, LEAST_EPSILON, MOST_DELTA, MOST_EPSILON
from veilboost.federated.task import FederatedTask
from veilboost.jobs.entries import (
    Address,
    DataEntry,
    Participant,
    Party,
    TableEntry,
    quoted,
)
from veilboost.mpc.ring import WORD
from veilboost.tables.schema import Feature
from veilboost.trees.parameters import Parameters

#: What clients send: sums per node and bin on every level, or sums per leaf of trees that are drawn at random.
MODES: Final = ("histograms", "leaf_sums")

#: What differential privacy hides: one row of one client, or everything that one client holds.
PRIVACY_UNITS: Final = ("row", "client")

#: Fewer aggregators could not keep a secret from each other, fewer clients none from the other one.
LEAST_AGGREGATORS: Final = 2
LEAST_CLIENTS: Final = 2

#: The probability that differential privacy leaves out, where none is given.
DELTA: Final = 1e-6

#: How long a client may take to answer, where nothing is said.
ANSWER_SECONDS: Final = 600.0
MOST_ANSWER_SECONDS: Final = 86_400.0

#: Parameters of [model] that federated training does not have, and what to do without each.
NOT_AVAILABLE: Final[dict[str, str]] = {}

_HOST: Final = "127.0.0.1"
_LOCAL_NAMES: Final = ("aggregator1", "aggregator2")
_LAST_PORT: Final = 65535
_FIRST_FREE_PORT: Final = 1024

Positive = Annotated[float, Field(allow_inf_nan=False)]


class Aggregator(Participant):
    """[[aggregator]]: holds one additive share of the sums of the clients' updates; where it listens."""


class FederatedSpec(TableEntry):
    """[federated]: how clients take part.

    Attributes
    ----------
    mode
        "histograms": clients send sums per node and bin, and the aggregators search the best split. "leaf_sums": the
        trees are drawn at random and clients send sums per leaf.
    min_clients
        With fewer clients left the training ends with an error; 2 unless the job file says more.
    answer_seconds
        How long the first aggregator waits for the answer of a client before it goes on without it.
    epsilon, delta
        Differential privacy of the model; None without it. `delta` is 1e-6 where only `epsilon` is given.
    privacy_unit
        What differential privacy hides: "row" or "client".
    """

    mode: str = MODES[0]
    min_clients: int = LEAST_CLIENTS
    answer_seconds: Positive = ANSWER_SECONDS
    epsilon: Positive | None = None
    delta: Positive | None = None
    privacy_unit: str = PRIVACY_UNITS[0]

    @model_validator(mode="before")
    @classmethod
    def _privacy_is_whole(cls, table: dict[str, Any]) -> dict[str, Any]:
        if "epsilon" in table:
            return {"delta": DELTA, **table}
        for key in ("delta", "privacy_unit"):
            if key in table:
                raise ValueError(f"key '{key}': has no meaning without epsilon: add epsilon, or remove it")
        return table

    @field_validator("mode")
    @classmethod
    def _known_mode(cls, mode: str) -> str:
        return _one_of(mode, MODES)

    @field_validator("privacy_unit")
    @classmethod
    def _known_unit(cls, unit: str) -> str:
        return _one_of(unit, PRIVACY_UNITS)

    @field_validator("min_clients")
    @classmethod
    def _enough(cls, count: int) -> int:
        if count < LEAST_CLIENTS:
            raise ValueError(f"must be at least {LEAST_CLIENTS}: the sum of one client is its own update")
        return count

    @field_validator("answer_seconds")
    @classmethod
    def _at_most_a_day(cls, seconds: float) -> float:
        if not 0 < seconds <= MOST_ANSWER_SECONDS:
            raise ValueError(f"must be a number above 0 and at most {MOST_ANSWER_SECONDS:g}, a day")
        return seconds

    @field_validator("epsilon")
    @classmethod
    def _budget(cls, epsilon: float) -> float:
        if not LEAST_EPSILON <= epsilon <= MOST_EPSILON:
            raise ValueError(f"must be a number from {LEAST_EPSILON:g} to {MOST_EPSILON:g}")
        return epsilon

    @field_validator("delta")
    @classmethod
    def _part(cls, delta: float) -> float:
        if not LEAST_DELTA <= delta <= MOST_DELTA:
            raise ValueError(
                f"must be a number from {LEAST_DELTA:g} to {MOST_DELTA:g}, far below one over the number of rows"
            )
        return delta

    def to_table(self) -> dict[str, object]:
        """What a job file has to say of it: all but defaults."""
        return self.model_dump(exclude_defaults=True, exclude_none=True)


def local_aggregators(dealer: Address, parties: Sequence[Party]) -> tuple[Aggregator, ...]:
    """The aggregators of a job file without [[aggregator]]: two processes of this machine, for trying out.

    Their ports are the first two above the dealer's that no address of the file has; after 65535 comes 1024.
    """
    taken = {dealer.port, *(party.address.port for party in parties)}
    above = (*range(dealer.port + 1, _LAST_PORT + 1), *range(_FIRST_FREE_PORT, dealer.port))
    ports = (port for port in above if port not in taken)
    return tuple(
        Aggregator(name=name, address=Address(host=_HOST, port=port))
        for name, port in zip(_LOCAL_NAMES, ports, strict=False)
    )


def check_smpc(tables: Collection[str], where: str) -> None:
    """A job on secret shares has no table of federated training."""
    for name, shown in (("aggregator", "[[aggregator]]"), ("federated", "[federated]")):
        if name in tables:
            raise JobError(
                f'{where}: {shown}: is not used by smpc: remove it, or write method = "federated" under [job]'
            )


def check_federated(
    spec: FederatedSpec,
    data: DataEntry,
    parameters: Parameters,
    features: Sequence[Feature],
    parties: Sequence[Party],
    aggregators: Sequence[Aggregator],
    where: str,
) -> None:
    """Clients hold the same columns and different rows, and enough of everybody take part.

    Raises
    ------
    JobError
        With table, key and how to mend it.
    """
    for key in ("id", "join"):
        if getattr(data, key) is not None:
            raise JobError(f"{where}: [data], key '{key}': is not used by federated: remove it")
    for name, mend in NOT_AVAILABLE.items():
        if name in parameters.model_fields_set:
            raise JobError(f"{where}: [model]: parameter {name} is not available in federated: {mend}")
    if len(aggregators) < LEAST_AGGREGATORS:
        raise JobError(
            f"{where}: there is only one [[aggregator]]: add another, of another organisation, "
            "or remove it for two local ones"
        )
    columns = [data.label, *([] if data.weight is None else [data.weight]), *(feature.name for feature in features)]
    for party in parties:
        for column in columns:
            if column not in party.columns:
                raise JobError(
                    f"{where}: [[party]] '{party.name}', key 'columns': '{column}' is missing: all parties of a "
                    "federated job have the same columns: add it, or remove it everywhere"
                )
    if spec.mode == "leaf_sums" and parameters.constrained:
        raise JobError(
            f'{where}: [model]: parameter monotone_constraints is not available with mode = "leaf_sums", whose trees '
            'are drawn at random: remove it, or use "histograms"'
        )
    if spec.epsilon is not None and parameters.early_stopping_rounds is not None:
        raise JobError(
            f"{where}: [model]: parameter early_stopping_rounds has no part in a privacy budget: remove it, or epsilon"
        )
    _check_size(spec, parameters, features, parties, where)
    if spec.min_clients > len(parties):
        raise JobError(
            f"{where}: [federated], key 'min_clients': there are only {len(parties)} [[party]] tables: "
            f"give a whole number from {LEAST_CLIENTS} to {len(parties)}"
        )


def _check_size(
    spec: FederatedSpec, parameters: Parameters, features: Sequence[Feature], parties: Sequence[Party], where: str
) -> None:
    """Refuse a job whose clients' answers to one question are more than aggregators pass on at a time."""
    names = tuple(party.name for party in parties)
    task = FederatedTask(tuple(features), parameters, names, leaf_sums=spec.mode == "leaf_sums")
    largest = WORD.itemsize * task.largest_update
    room = LARGEST_MESSAGE - len(parties) * LARGEST_HEADER
    if len(parties) * largest > room:
        raise JobError(
            f"{where}: {len(parties)} clients would send {largest / 1e6:.0f} MB each in answer to one question, and "
            f"aggregators pass on {room / 1e6:.0f} MB in all: use a smaller max_bin or max_depth, or fewer features"
        )


def federated_to_tables(
    spec: FederatedSpec | None, aggregators: Sequence[Aggregator]
) -> list[tuple[str, Mapping[str, object]]]:
    """Headers and contents of the tables that say this; none for other methods."""
    tables: list[tuple[str, Mapping[str, object]]] = [
        ("[[aggregator]]", {"name": one.name, "address": str(one.address)}) for one in aggregators
    ]
    if spec is not None and spec.to_table():
        tables.append(("[federated]", spec.to_table()))
    return tables


def _one_of(word: str, known: Sequence[str]) -> str:
    if word not in known:
        raise ValueError(f"must be {' or '.join(quoted(known))}")
    return word
