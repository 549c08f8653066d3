"""The section of the report on time and bytes: by tree, by phase and by role."""

from collections.abc import Mapping, Sequence
from typing import Any

from veilboost.jobs.entries import COURIER, DEALER
from veilboost.jobs.job import Job
from veilboost.jobs.report.charts import COLOURS, columns, legend, stacked_bar
from veilboost.jobs.report.pieces import duration, scrolling, size
from veilboost.trees.markup import Markup, element


def cost_section(job: Job, report: Mapping[str, Any]) -> list[Markup]:
    """What stands in the section; roles that the report does not know are left out."""
    roles: Mapping[str, Mapping[str, Any]] = report["roles"]
    phases = list(dict.fromkeys(phase for role in roles.values() for phase in role["phases"]))
    colours = {phase: COLOURS[at % len(COLOURS)] for at, phase in enumerate(phases)}
    parts: list[Markup] = []
    if report["seconds_per_tree"]:
        parts += [element("h3", "Seconds per tree"), columns(report["seconds_per_tree"], " s")]
    if phases:
        parts += [element("h3", "By phase"), legend(colours)]
        parts.append(_phase_bars("Wall time, waiting for others included", "seconds", roles, colours))
        parts.append(_phase_bars("Bytes sent", "bytes_sent", roles, colours))
        parts.append(scrolling("Numbers by phase", _phase_table(roles, phases)))
    return [*parts, element("h3", "By role"), _role_table(job, report)]


def _phase_bars(caption: str, what: str, roles: Mapping[str, Mapping[str, Any]], colours: Mapping[str, str]) -> Markup:
    spent = {name: {p: total[what] for p, total in role["phases"].items()} for name, role in roles.items()}
    most = max(sum(parts.values()) for parts in spent.values())
    shown = duration if what == "seconds" else size
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", stacked_bar(parts, colours, most, " s" if what == "seconds" else " bytes")),
            element("td", shown(sum(parts.values())), class_="number"),
        )
        for name, parts in spent.items()
        if parts
    ]
    return element("table", element("caption", caption), element("tbody", *rows), class_="bars")


def _phase_table(roles: Mapping[str, Mapping[str, Any]], phases: Sequence[str]) -> Markup:
    heads = [element("th", head, scope="col") for head in ("", *phases)]
    rows = []
    for name, role in roles.items():
        totals = [role["phases"].get(phase) for phase in phases]
        if any(totals):
            cells = [
                element("td", *(element("div", part) for part in (duration(t["seconds"]), size(t["bytes_sent"]))))
                if t
                else element("td")
                for t in totals
            ]
            rows.append(element("tr", element("th", name, scope="row"), *cells))
    return element("table", element("thead", element("tr", *heads)), element("tbody", *rows))


def _role_table(job: Job, report: Mapping[str, Any]) -> Markup:
    heads = ("Role", "Is", "Columns", "Sent", "Processor time", "Peak memory")
    rows = []
    kinds = dict.fromkeys(job.party_names, "data owner" if job.federated is None else "client")
    kinds |= {**dict.fromkeys(job.aggregator_names, "aggregator"), DEALER: "dealer", COURIER: "courier"}
    for name in job.roles:
        if name == COURIER and name not in report["roles"]:  # there is one with NVFlare only
            continue
        kind = kinds.get(name, "analyst")
        kind += " and analyst" if name == job.analyst and name in job.party_names else ""
        held = ""
        if name in job.party_names:
            held = str(len(job.features_of(name))) + (" and the label" if name in job.label_holders else "")
        cells = [kind, held, "", "", ""]
        if name in report["roles"]:
            role = report["roles"][name]
            cells[2:] = size(report["bytes_sent"][name]), duration(role["cpu_seconds"]), size(role["peak_memory_bytes"])
        shown = (element("td", cell, data_label=head) for head, cell in zip(heads[1:], cells, strict=True))
        rows.append(element("tr", element("th", name, scope="row"), *shown))
    head = element("tr", *(element("th", one, scope="col") for one in heads))
    return element("table", element("thead", head), element("tbody", *rows), class_="cards")
