"""The ledger in words: who learned what, why and how much of it, and what nobody learned.

It says no more than docs/leakage.md, whose words it follows.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

from veilboost.jobs.entries import COURIER, DEALER
from veilboost.jobs.job import Job
from veilboost.jobs.report import federated
from veilboost.jobs.report.meanings import FEDERATED_MEANINGS, MEANINGS, OF_MATCHING, meaning_of
from veilboost.mpc.ledger import EVERYONE

_TIMES: Final = " \u00d7 "


def amount(entry: Mapping[str, Any]) -> str:
    """How many values an entry disclosed, such as "300 codes of 64 bits (20 trees x 15 nodes)"."""
    meaning, shape = meaning_of(entry["value"]), list(entry["shape"])
    if meaning is None or len(shape) != len(meaning.dimensions) + meaning.bits:
        return f"{prod(shape):,} values ({_TIMES.join(map(str, shape))})"
    counted = shape[: len(meaning.dimensions)]
    values = f"{prod(counted):,} {'value' if prod(counted) == 1 else 'values'}"
    values += f" of {shape[-1]} bits" if meaning.bits else ""
    if len(counted) == 1:
        return values
    sizes = _TIMES.join(f"{count} {name}" for count, name in zip(counted, meaning.dimensions, strict=True))
    return f"{values} ({sizes})"


def strangeness(job: Job, entry: Mapping[str, Any]) -> str | None:
    """Why an entry is out of the ordinary; None if it is one of docs/leakage.md, for whom that page says."""
    if entry["value"] in OF_MATCHING and job.data.id is not None:
        return None
    if job.federated is None and entry["receiver"] != job.analyst:
        return f"The receiver is not {job.analyst}, the analyst of the job."
    if job.federated is not None and entry["receiver"] != EVERYONE:
        return "The receiver is one participant, and a federated training tells everyone the same."
    known = MEANINGS if job.federated is None else MEANINGS | FEDERATED_MEANINGS
    if entry["value"] not in known:
        return "This page knows no such entry: ask what it is before you accept it."
    return None


def learned_nothing(job: Job, ledger: Sequence[Mapping[str, Any]]) -> list[str]:
    """The participants that no entry names, but for the matching of rows."""
    receivers = {entry["receiver"] for entry in ledger if entry["value"] not in OF_MATCHING}
    if EVERYONE in receivers:
        return []
    return [role for role in job.roles if role not in receivers and role != COURIER]


def not_disclosed(job: Job, ledger: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stayed secret, one sentence per line; nothing is promised if the ledger has entries out of the ordinary."""
    if any(strangeness(job, entry) for entry in ledger):
        return [
            "The ledger has entries out of the ordinary, marked above. As long as nobody explains them, this page "
            "cannot say what was not disclosed."
        ]
    if job.federated is not None:
        return federated.not_disclosed(job)
    nothing = learned_nothing(job, ledger)
    owners = [name for name in job.party_names if name in nothing]
    lines = [
        "No cell, bin or label was disclosed, nor a cut that no split uses, a gradient, a histogram, or the path of a "
        "row through a tree: outside their owner they existed as secret shares only. What is listed above is all that "
        "left the shared domain.",
        f"{job.analyst} received nothing about nodes that do not split, and not where a threshold lies among the bins "
        "of its owner" + ("." if job.parameters.reveal_gain else "; no gains and no hessian sums either."),
    ]
    if owners:
        who = " and ".join(owners) if len(owners) < 3 else f"{', '.join(owners[:-1])} and {owners[-1]}"
        lines.append(
            f"{who} received nothing of the model: not which column a node splits on, not whether it splits, no "
            "threshold and no weight."
        )
    if DEALER in nothing:
        lines.append(f"The {DEALER} received nothing but greetings: no data, no message between owners, no model.")
    return lines


def known_to_all(job: Job, rows: int | None) -> str:
    """What is public by construction."""
    parameters = job.parameters
    rates = (
        parameters.subsample,
        parameters.colsample_bytree,
        parameters.colsample_bylevel,
        parameters.colsample_bynode,
    )
    known = [
        "the job file (names, kinds and levels of columns, parameters)",
        f"the number of rows ({rows:,})" if rows else "the number of rows",
        *(federated.KNOWN if job.federated is not None else ()),
        "names and versions of the others",
        "sizes and order of messages",
    ]
    if min(rates) < 1:
        known.append("which rows and columns each tree may use")
    return f"Every participant knows {', '.join(known[:-1])}, and {known[-1]}."


def cautions(job: Job, *, one_machine: bool) -> list[str]:
    """Under what conditions all this holds, one sentence or two per line."""
    least = job.parameters.min_rows_per_leaf
    if job.federated is None:
        conditions = ["if the dealer does not work together with an owner"]
    else:
        conditions = federated.conditions(job)
    lines = [
        f"This holds if every participant runs the program as it is, and {' and '.join(conditions)}. "
        "The protocols and the code have not been audited.",
        "A model speaks of the data it was trained on. "
        + (
            f"No leaf describes fewer than {least} of the rows that its tree was trained on (min_rows_per_leaf)."
            if least > 1
            else f"min_rows_per_leaf is {least}, so a leaf may describe a single row."
        ),
    ]
    if job.analyst in job.party_names:
        lines.append(
            f"{job.analyst} is a data owner too. What it can work out from the model together with its own table is "
            "not in the list; docs/leakage.md describes it."
        )
    if job.federated is not None:
        lines += federated.privacy(job.federated)
    if one_machine:
        lines.append(
            "All roles of this run were processes of one machine, under one user who has all tables and keys anyway. "
            "Such a run shows how the job behaves; it protects nothing from that user."
        )
    return lines
