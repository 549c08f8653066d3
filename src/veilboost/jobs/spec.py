"""The job file: what is trained, on which columns, by whom. It is public and the same bytes at every participant.

::

    [job]         name, method, analyst
    [model]       parameters, see `veilboost.trees.parameters`
    [data]        id, join, label, label_range, weight, weight_range
    [[feature]]   name, kind, levels, missing
    [[party]]     name, address, columns
    [dealer]      address

and for method "federated", where they may be left out,

::

    [[aggregator]]  name, address; without any, two processes of this machine, see `federated_spec.local_aggregators`
    [federated]     mode, min_clients, answer_seconds, epsilon, delta, privacy_unit, see `federated_spec.FederatedSpec`

`load_job` checks the file completely; everything after it may rely on the promises of `Job`. Who holds which rows of
which columns is worked out in `veilboost.jobs.grid`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

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
    FEDERATED,
    Address,
    DataEntry,
    DealerEntry,
    FeatureEntry,
    JobEntry,
    Party,
    check_keys,
    read_entry,
)
from veilboost.jobs.federated_spec import (
    Aggregator,
    FederatedSpec,
    check_federated,
    check_smpc,
    federated_to_tables,
    local_aggregators,
)
from veilboost.jobs.grid import Grid
from veilboost.jobs.job import DataSpec, Job
from veilboost.jobs.toml_text import parse_toml, write_toml
from veilboost.trees.parameters import Parameters, parameters_from

_TABLES: Final = ("job", "model", "data", "feature", "party", "aggregator", "federated", "dealer")


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
    return _check(parse_toml(source, where), where).with_hash(source)


def job_from_dict(tables: Mapping[str, Any]) -> Job:
    """Check a job given as the nested mapping that its TOML file would hold; raises JobError as `load_job`."""
    job = _check(tables, "job")
    return job.with_hash(job_to_toml(job).encode())


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
    tables: list[tuple[str, Mapping[str, object]]] = [
        ("[job]", {"name": job.name, "method": job.method, "analyst": job.analyst}),
        ("[model]", model),
        ("[data]", data),
    ]
    for feature in job.features:
        entry: dict[str, object] = {"name": feature.name, "kind": feature.kind.value}
        if feature.levels:
            entry["levels"] = feature.levels
        if feature.missing:
            entry["missing"] = True
        tables.append(("[[feature]]", entry))
    for party in job.parties:
        tables.append(("[[party]]", {"name": party.name, "address": str(party.address), "columns": party.columns}))
    tables += federated_to_tables(job.federated, job.aggregators)
    tables.append(("[dealer]", {"address": str(job.dealer)}))
    return write_toml(tables)


def _check(tables: Mapping[str, Any], where: str) -> Job:
    check_keys(tables, _TABLES, where, what="table")
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
    aggregators, federated = _federated(job.method, tables, parties, dealer.address, where)
    check_label(data, parameters, features, where)
    check_constraints(parameters, features, where)
    check_weight(data, features, where)
    check_participants(job.analyst, parties, aggregators, dealer.address, where)
    check_columns(data, features, parties, where)
    if federated is not None:
        check_federated(federated, data, parameters, features, parties, aggregators, where)
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
        aggregators=aggregators,
        federated=federated,
    )


def _federated(
    method: str, tables: Mapping[str, Any], parties: tuple[Party, ...], dealer: Address, where: str
) -> tuple[tuple[Aggregator, ...], FederatedSpec | None]:
    """What the job file says of federated training; nothing for other methods."""
    if method != FEDERATED:
        check_smpc(tables, where)
        return (), None
    spec = read_entry(FederatedSpec, tables.get("federated", {}), f"{where}: [federated]")
    if "aggregator" not in tables:
        return local_aggregators(dealer, parties), spec
    entries = _array(tables["aggregator"], f"{where}: [[aggregator]]")
    return tuple(read_entry(Aggregator, entry, at) for at, entry in entries), spec


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
