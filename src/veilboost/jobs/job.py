"""A checked job: what is trained, on which columns, by whom. Public, and the same at every participant."""

import hashlib
from typing import Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from veilboost.jobs.entries import COURIER, DEALER, EMBEDDED, NVFLARE, Address, Participant, Party
from veilboost.jobs.federated_spec import Aggregator, FederatedSpec
from veilboost.jobs.grid import Grid
from veilboost.tables.schema import Feature
from veilboost.tables.table import LabelSpec, WeightSpec
from veilboost.trees.parameters import Parameters, least_weight


class DataSpec(BaseModel):
    """Which columns say what.

    Attributes
    ----------
    label
        What is predicted.
    label_range
        Public bounds that fix its fixed-point scale; None for classification.
    weight, weight_range
        The column of sample weights, and public bounds of the weights; None where all weigh the same.
    id
        The column by which parties find their common rows; None where rows belong together as they are.
    join
        "inner": only rows that all parties have; "left": all rows of the label's holder.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    label_range: tuple[float, float] | None = None
    weight: str | None = None
    weight_range: tuple[float, float] | None = None
    id: str | None = None
    join: str = "inner"


class Job(BaseModel):
    """A checked job; made by `veilboost.jobs.spec`.

    Two jobs are equal when they say the same and stem from the same bytes.

    Attributes
    ----------
    name, method, analyst
        Title; "smpc" or "federated"; who gets the model, possibly one of the parties.
    parameters
        Objective and hyper-parameters.
    data
        The label.
    features
        In the order of the job file, which is the order of features in the model.
    parties
        Data owners, 2 to 64, in the order of the job file. Every feature and the label is in `columns` of one of them,
        or of one for each block of rows.
    grid
        Which rows of which columns each party holds.
    dealer
        Address that the dealer listens on.
    aggregators
        Of a federated job, at least two; the first of them leads the training.
    federated
        How clients take part in a federated job; None for other methods.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    method: str
    analyst: str
    parameters: Parameters
    data: DataSpec
    features: tuple[Feature, ...]
    parties: tuple[Party, ...]
    dealer: Address
    grid: Grid
    aggregators: tuple[Aggregator, ...] = ()
    federated: FederatedSpec | None = None
    _hash: bytes = PrivateAttr(default=b"")

    def job_hash(self) -> bytes:
        """SHA-256 of the bytes of the job file (of `job_to_toml` when there is no file); 32 bytes."""
        return self._hash

    @property
    def party_names(self) -> tuple[str, ...]:
        return tuple(party.name for party in self.parties)

    @property
    def aggregator_names(self) -> tuple[str, ...]:
        return tuple(aggregator.name for aggregator in self.aggregators)

    @property
    def lead(self) -> str:
        """Whose account of the training counts: the first aggregator, or the first party where there is none."""
        return (*self.aggregator_names, *self.party_names)[0]

    @property
    def roles(self) -> tuple[str, ...]:
        """Every participant once: parties, aggregators, dealer, courier, and the analyst unless it is a party.

        Aggregators and courier are there in a federated job only. Everybody of these gets a certificate.
        """
        courier = () if self.federated is None else (COURIER,)
        return (*self.party_names, *self.aggregator_names, DEALER, *courier, *self._outsider)

    def mesh_roles(self, engine: str = EMBEDDED) -> tuple[str, ...]:
        """Who is connected with each other while a federated job is trained, in order; clients are not.

        Parameters
        ----------
        engine
            How questions reach the clients: "embedded", where the first aggregator dials them itself, or "nvflare",
            where a courier carries them.
        """
        courier = (COURIER,) if engine == NVFLARE else ()
        return (*self.aggregator_names, DEALER, *courier, *self._outsider)

    @property
    def _outsider(self) -> tuple[str, ...]:
        return () if self.analyst in self.party_names else (self.analyst,)

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Host and port of every participant that listens: all but the courier and an analyst that is no party."""
        participants: tuple[Participant, ...] = (*self.parties, *self.aggregators)
        listening = {**{one.name: one.address for one in participants}, DEALER: self.dealer}
        return {name: (address.host, address.port) for name, address in listening.items()}

    @property
    def label_holders(self) -> tuple[str, ...]:
        """Names of the parties that hold the label: one for all rows, or one for each block of rows."""
        return self.holders_of(self.data.label)

    @property
    def label_spec(self) -> LabelSpec:
        """What `veilboost.tables.table.load_table` needs to check the label."""
        parameters, whole = self.parameters, len(self.label_holders) == 1
        return LabelSpec(self.data.label, parameters.objective, self.data.label_range, parameters.num_class, whole)

    @property
    def weight_holders(self) -> tuple[str, ...]:
        """Names of the parties that hold the sample weights, as `label_holders`; none where there are none."""
        return () if self.data.weight is None else self.holders_of(self.data.weight)

    @property
    def weight_spec(self) -> WeightSpec | None:
        """What `veilboost.tables.table.load_table` needs to check the sample weights."""
        if self.data.weight is None or self.data.weight_range is None:
            return None
        return WeightSpec(
            self.data.weight, self.data.weight_range, least_weight(self.parameters, self.data.weight_range[1])
        )

    def party(self, name: str) -> Party:
        """The party of that name; KeyError when there is none."""
        for party in self.parties:
            if party.name == name:
                return party
        raise KeyError(name)

    def holders_of(self, column: str | Feature) -> tuple[str, ...]:
        """Names of the parties that hold a feature or the label: one for all rows, or one for each block of rows.

        KeyError when it is neither.
        """
        name = column.name if isinstance(column, Feature) else column
        return tuple(self.parties[position].name for position in self.grid.holders[name])

    def features_of(self, party: str | Party) -> tuple[Feature, ...]:
        """The features that a party holds, in the order of the job; KeyError when there is no such party."""
        held = set((self.party(party) if isinstance(party, str) else party).columns)
        return tuple(feature for feature in self.features if feature.name in held)

    def with_hash(self, source: bytes) -> Self:
        """This job, which the given bytes say."""
        self._hash = hashlib.sha256(source).digest()
        return self
