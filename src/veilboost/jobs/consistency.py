"""Whether the tables of a job file fit together: label, weights, id, participants, columns.

Every function takes what messages call the file, and raises `JobError` with one line.
"""

import math
from collections.abc import Sequence

from veilboost.errors import JobError
from veilboost.jobs.entries import Address, DataEntry, Participant, Party
from veilboost.jobs.federated_spec import Aggregator
from veilboost.tables.schema import Feature
from veilboost.trees.parameters import Parameters

MAX_PARTIES = 64

#: Bounds of weights lie between its inverse and this.
LARGEST_WEIGHT = 1e9


def check_label(data: DataEntry, parameters: Parameters, features: Sequence[Feature], where: str) -> None:
    """The label is no feature, and has public bounds where it is a number."""
    if any(feature.name == data.label for feature in features):
        raise JobError(f"{where}: [data], key 'label': '{data.label}' is a [[feature]] too: remove one of the two")
    at = f"{where}: [data], key 'label_range'"
    if parameters.objective in ("binary:logistic", "multi:softprob"):
        if data.label_range is not None:
            labels = f"0 to {parameters.num_class - 1}" if parameters.num_class else "0 and 1"
            raise JobError(f"{at}: has no meaning for {parameters.objective}, whose labels are {labels}: remove it")
        return
    if data.label_range is None:
        raise JobError(f"{at}: is missing: {parameters.objective} needs public bounds such as label_range = [0, 500]")
    low, high = data.label_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise JobError(f"{at}: must be two finite numbers, the lower one first")
    if parameters.objective == "count:poisson" and low < 0:
        raise JobError(f"{at}: counts are not below 0: give bounds such as [0, 100]")


def check_constraints(parameters: Parameters, features: Sequence[Feature], where: str) -> None:
    """Monotone constraints are of numeric features."""
    at = f"{where}: [model]: parameter monotone_constraints"
    kinds = {feature.name: feature for feature in features}
    for name in parameters.monotone_constraints:
        if name not in kinds:
            raise JobError(f"{at}: there is no [[feature]] '{name}': check the name")
        if kinds[name].categorical:
            raise JobError(f"{at}: '{name}' is categorical and has no order: remove it")


def check_weight(data: DataEntry, features: Sequence[Feature], where: str) -> None:
    """Weights have a column of their own and public bounds."""
    at = f"{where}: [data], key 'weight"
    if data.weight is None:
        if data.weight_range is not None:
            raise JobError(f"{at}_range': has no meaning without weight: add the column of weights, or remove it")
        return
    if data.weight == data.label or any(feature.name == data.weight for feature in features):
        what = "the label" if data.weight == data.label else "a [[feature]]"
        raise JobError(f"{at}': '{data.weight}' is {what} too: remove one of the two")
    if data.weight_range is None:
        raise JobError(f"{at}_range': is missing: weights need public bounds such as weight_range = [0, 10]")
    low, high = data.weight_range
    if not (0 <= low <= high <= LARGEST_WEIGHT and high >= 1 / LARGEST_WEIGHT):
        raise JobError(
            f"{at}_range': must be two numbers of at least 0, the lower one first, the other one above 0 "
            f"(between {1 / LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g})"
        )


def check_id(data: DataEntry, features: Sequence[Feature], parties: Sequence[Party], where: str) -> None:
    """The id is no other column, and a left join finds missing values allowed."""
    at = f"{where}: [data], key"
    if data.id is None:
        if data.join is not None:
            raise JobError(f"{at} 'join': rows are joined by an id: name its column with id = \"...\", or remove join")
        return
    if data.id in (data.label, data.weight) or any(feature.name == data.id for feature in features):
        other = {data.label: "the label", data.weight: "the weight"}.get(data.id, "a [[feature]]")
        raise JobError(f"{at} 'id': '{data.id}' is {other} too: the id says which rows belong together and no more")
    for party in parties:
        if data.id in party.columns:
            raise JobError(
                f"{where}: [[party]] '{party.name}', key 'columns': '{data.id}' is the id, which every table has: "
                "remove it from the list"
            )
    if data.join == "left":
        holders = {party.name for party in parties if data.label in party.columns}
        if data.weight is not None and any(data.weight in p.columns for p in parties if p.name not in holders):
            raise JobError(
                f"{at} 'join': with \"left\", the weights must lie with the label: move '{data.weight}' there"
            )
        for feature in features:
            elsewhere = any(feature.name in party.columns for party in parties if party.name not in holders)
            if elsewhere and not feature.missing:
                raise JobError(
                    f"{at} 'join': with \"left\", cells of '{feature.name}' are empty in rows that its party lacks: "
                    "declare it with missing = true"
                )


def check_participants(
    analyst: str, parties: Sequence[Party], aggregators: Sequence[Aggregator], dealer: Address, where: str
) -> None:
    """At least two parties; names and addresses are all different."""
    if len(parties) < 2:
        raise JobError(f"{where}: there is only one [[party]]: add another, two data owners are the least")
    given: Sequence[Participant]
    for kind, given in (("party", parties), ("aggregator", aggregators)):
        if len(given) > MAX_PARTIES:
            raise JobError(f"{where}: there are {len(given)} [[{kind}]] tables: at most {MAX_PARTIES} are allowed")
    names: dict[str, tuple[str, str]] = {}
    addresses = {dealer.key: "the dealer"}
    participants: list[tuple[str, Participant]] = [
        *(("party", one) for one in parties),
        *(("aggregator", one) for one in aggregators),
    ]
    for kind, one in participants:
        at = f"{where}: [[{kind}]] '{one.name}'"
        folded = one.name.casefold()
        if folded in names:
            other, name = names[folded]
            same = "that name" if name == one.name else f"a name that differs in capitals only, '{name}',"
            who = f"another {kind}" if other == kind else f"a {other}"
            raise JobError(f"{at}, key 'name': {who} has {same}: rename one of them")
        names[folded] = kind, one.name
        if one.address.key in addresses:
            raise JobError(
                f"{at}, key 'address': {one.address} is the address of {addresses[one.address.key]} too: "
                "give each participant its own port"
            )
        addresses[one.address.key] = f"'{one.name}'"
    kind, name = names.get(analyst.casefold(), ("party", analyst))
    if kind == "aggregator":
        raise JobError(
            f"{where}: [job], key 'analyst': '{name}' is an [[aggregator]] too: give the analyst another name"
        )
    if name != analyst:
        raise JobError(
            f"{where}: [job], key 'analyst': '{analyst}' differs in capitals only from the party "
            f"'{name}': use the same capitals, or another name"
        )


def check_columns(data: DataEntry, features: Sequence[Feature], parties: Sequence[Party], where: str) -> None:
    """Every feature, the label and the weights are somebody's column, and nobody lists others."""
    label, names = data.label, set[str]()
    for feature in features:
        if feature.name in names:
            raise JobError(f"{where}: [[feature]] '{feature.name}', key 'name': there are two of that name: rename one")
        names.add(feature.name)
    owners = {column for party in parties for column in party.columns}
    for key, column in (("label", label), ("weight", data.weight)):
        if column is not None and column not in owners:
            raise JobError(
                f"{where}: [data], key '{key}': no party has '{column}' in its columns: check the name, "
                "or add it to its holder's"
            )
    for party in parties:
        at = f"{where}: [[party]] '{party.name}', key 'columns'"
        for column in party.columns:
            if column not in (label, data.weight) and column not in names:
                raise JobError(
                    f"{at}: '{column}' is neither the label nor a [[feature]]: add a [[feature]] of that name, "
                    "or remove it (columns that are not listed are ignored)"
                )
    for feature in features:
        if feature.name not in owners:
            raise JobError(
                f"{where}: [[feature]] '{feature.name}': no party has it in its columns: add it to its holder's, "
                "or remove the feature"
            )
