"""The job file: what is trained, on which columns, by whom. It is public and the same bytes at every participant.

::

    [job]         name, method, analyst
    [model]       parameters, see `veilboost.trees.parameters`
    [data]        id, join, label, label_range, weight, weight_range
    [[feature]]   name, kind, levels, missing
    [[party]]     name, address, columns
    [dealer]      address

`load_job` checks the file completely; everything after it may rely on the promises of `Job`. Who holds which rows of
which columns is worked out in `veilboost.jobs.grid`.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from veilboost.errors import JobError
from veilboost.jobs.consistency import (
    check_columns,
    check_constraints,
    check_id,
    check_label,
    check_participants,
    check_weight,
)
from veilboost.jobs.entries import (
    DEALER,
    Address,
    DataEntry,
    DealerEntry,
    FeatureEntry,
    JobEntry,
    Party,
    check_keys,
    read_entry,
)
from veilboost.jobs.grid import Grid
from veilboost.tables.schema import Feature
from veilboost.tables.table import LabelSpec, WeightSpec
from veilboost.trees.parameters import Parameters, parameters_from


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
    """A checked job; made by `load_job` or `job_from_dict`.

    Two jobs are equal when they say the same and stem from the same bytes.

    Attributes
    ----------
    name, method, analyst
        Title; "smpc"; who gets the model, possibly one of the parties.
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
    _hash: bytes = PrivateAttr(default=b"")

    def job_hash(self) -> bytes:
        """SHA-256 of the bytes of the job file (of `job_to_toml` when there is no file); 32 bytes."""
        return self._hash

    @property
    def party_names(self) -> tuple[str, ...]:
        return tuple(party.name for party in self.parties)

    @property
    def roles(self) -> tuple[str, ...]:
        """Every participant once: the parties, the dealer, and the analyst unless it is one of the parties."""
        others = () if self.analyst in self.party_names else (self.analyst,)
        return (*self.party_names, DEALER, *others)

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Host and port of every participant that listens: all but an analyst that is no party."""
        entries = {**{party.name: party.address for party in self.parties}, DEALER: self.dealer}
        return {name: (address.host, address.port) for name, address in entries.items()}

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
        return WeightSpec(self.data.weight, self.data.weight_range)

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

    def _with_hash(self, source: bytes) -> Self:
        self._hash = hashlib.sha256(source).digest()
        return self


def load_job(path: str | Path) -> Job:
    """Read and check a job file.

    Raises
    ------
    JobError
        One line with file, table and key (the line number when the file is not TOML), and how to mend it.
    """
    path = Path(path)
    where = " ".join(str(path).splitlines())
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise JobError(f"{where}: there is no such job file: check the path") from None
    except IsADirectoryError:
        raise JobError(f"{where}: is a directory: give the job file itself") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise JobError(f"{where}: the job file cannot be read ({reason}): check the path and its permissions") from None
    return _check(_parse(source, where), where)._with_hash(source)


def job_from_dict(tables: Mapping[str, Any]) -> Job:
    """Check a job given as the nested mapping that its TOML file would hold; raises JobError as `load_job`."""
    job = _check(tables, "job")
    return job._with_hash(job_to_toml(job).encode())


def job_to_toml(job: Job) -> str:
    """The text of a job file that says the same; defaults are left out, except for the model's size."""
    always: tuple[str, ...] = ("objective", "n_estimators", "max_depth", "learning_rate", "max_bin")
    if job.parameters.objective == "count:poisson":
        always += ("max_delta_step",)  # whose default depends on the objective
    given = job.parameters.model_dump(exclude_defaults=True, exclude_none=True)
    model = {name: getattr(job.parameters, name) for name in always} | given
    data: dict[str, object] = {} if job.data.id is None else {"id": job.data.id}
    data["label"] = job.data.label
    if job.data.join != "inner":
        data["join"] = job.data.join
    if job.data.label_range is not None:
        data["label_range"] = job.data.label_range
    if job.data.weight is not None:
        data |= {"weight": job.data.weight, "weight_range": job.data.weight_range}
    lines = _table("[job]", {"name": job.name, "method": job.method, "analyst": job.analyst})
    lines += _table("[model]", model)
    lines += _table("[data]", data)
    for feature in job.features:
        entry: dict[str, object] = {"name": feature.name, "kind": feature.kind.value}
        if feature.levels:
            entry["levels"] = feature.levels
        if feature.missing:
            entry["missing"] = True
        lines += _table("[[feature]]", entry)
    for party in job.parties:
        entry = {"name": party.name, "address": str(party.address), "columns": party.columns}
        lines += _table("[[party]]", entry)
    lines += _table("[dealer]", {"address": str(job.dealer)})
    return "\n".join(lines[:-1]) + "\n"


def _parse(source: bytes, where: str) -> dict[str, Any]:
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise JobError(f"{where}: line {line} is not UTF-8: save the file in this encoding") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        why = " ".join(str(error).split())
        if why.endswith("(at end of document)"):
            why = why.replace("(at end of document)", f"(at line {len(text.splitlines())}, the end of the file)")
        raise JobError(f"{where}: is not valid TOML: {why}: mend that line") from None
    except RecursionError:
        raise JobError(f"{where}: is not a job file: its values are nested too deeply") from None


def _check(tables: Mapping[str, Any], where: str) -> Job:
    check_keys(tables, ("job", "model", "data", "feature", "party", "dealer"), where, what="table")
    for name in ("job", "data", "feature", "party", "dealer"):
        if name not in tables:
            shown = f"[[{name}]]" if name in ("feature", "party") else f"[{name}]"
            raise JobError(f"{where}: the table {shown} is missing: add it")
    job = read_entry(JobEntry, tables["job"], f"{where}: [job]")
    parameters = _parameters(tables.get("model", {}), f"{where}: [model]")
    data = read_entry(DataEntry, tables["data"], f"{where}: [data]")
    dealer = read_entry(DealerEntry, tables["dealer"], f"{where}: [dealer]")
    feature_entries = [
        read_entry(FeatureEntry, entry, at) for at, entry in _array(tables["feature"], f"{where}: [[feature]]")
    ]
    parties = tuple(read_entry(Party, entry, at) for at, entry in _array(tables["party"], f"{where}: [[party]]"))
    features = tuple(entry.to_feature() for entry in feature_entries)
    check_label(data, parameters, features, where)
    check_constraints(parameters, features, where)
    check_weight(data, features, where)
    check_participants(job.analyst, parties, dealer.address, where)
    check_columns(data, features, parties, where)
    check_id(data, features, parties, where)
    grid = Grid.of(
        {party.name: party.columns for party in parties},
        where,
        lambda name: f"{where}: [[party]] '{name}', key 'columns'",
    )
    return Job(
        name=job.name,
        method=job.method,
        analyst=job.analyst,
        parameters=parameters,
        data=DataSpec(**{**data.model_dump(), "join": data.join or "inner"}),
        features=features,
        parties=parties,
        dealer=dealer.address,
        grid=grid,
    )


def _array(entries: object, where: str) -> list[tuple[str, Any]]:
    """Entries of an array of tables, each with what error messages call it."""
    if not isinstance(entries, list | tuple):
        raise JobError(f"{where}: must be an array of tables: write the name in double square brackets")
    if not entries:
        raise JobError(f"{where}: is empty: add at least one")
    named = []
    for number, entry in enumerate(entries, start=1):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        short = isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable()
        named.append((f"{where} '{name}'" if short else f"{where} number {number}", entry))
    return named


def _parameters(table: object, where: str) -> Parameters:
    if not isinstance(table, Mapping):
        raise JobError(f"{where}: must be a table")
    try:
        return parameters_from(table)
    except JobError as error:
        raise JobError(f"{where}: {error}") from None


def _table(header: str, entries: Mapping[str, object]) -> list[str]:
    return [header, *(f"{key} = {_value(value)}" for key, value in entries.items()), ""]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's; only DEL needs one in TOML alone.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return repr(value)
