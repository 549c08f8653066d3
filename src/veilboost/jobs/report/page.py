"""What `report.html` says, section by section."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

from veilboost.jobs.report.charts import COLOURS, bar, columns, learning_curve, legend, stacked_bar
from veilboost.jobs.report.disclosures import (
    MEANINGS,
    amount,
    cautions,
    known_to_all,
    learned_nothing,
    not_disclosed,
)
from veilboost.jobs.spec import DEALER, Job
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.importance import importance_of
from veilboost.trees.markup import Markup, element
from veilboost.trees.objective import to_margin
from veilboost.trees.svg import tree_svg

_TEMPLATE: Final = Path(__file__).with_name("page.html")
_TREES_SHOWN: Final = 3
_FEATURES_SHOWN: Final = 30


def write_report(
    path: Path,
    job: Job,
    model: Ensemble,
    report: Mapping[str, Any],
    ledger: Sequence[Mapping[str, Any]],
    *,
    one_machine: bool,
) -> None:
    """Write the page at once or not at all; it holds the model, so `path` must be the analyst's.

    Parameters
    ----------
    report, ledger
        As written to report.json by `veilboost train`, and as written to ledger.json; the report may lack roles.
    one_machine
        Whether all roles ran on one machine, under one user.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(render(job, model, report, ledger, one_machine=one_machine), encoding="utf-8")
    partial.replace(path)


def render(
    job: Job,
    model: Ensemble,
    report: Mapping[str, Any],
    ledger: Sequence[Mapping[str, Any]],
    *,
    one_machine: bool,
) -> str:
    """The page as text; parameters as `write_report`."""
    sections = [
        _facts(job, model, report),
        _section("Feature importance", *_importance(model)),
        _section("The first trees", *_trees(model)),
        _section("Learning curve", *_metrics(report)) if report.get("metrics") else None,
        _section("Who learned what", *_ledger(job, report, ledger, one_machine)),
        _section("Where time and bytes went", *_costs(job, report)),
        _section("Settings", *_settings(job, report)),
    ]
    where = "all roles on one machine" if one_machine else f"as {job.analyst} saw it"
    finished = str(report.get("finished", "")).replace("T", " ").replace("+00:00", " UTC")
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=element("", job.name),
        subtitle=element(
            "p",
            f"Boosted trees trained on secret shares of {len(job.parties)} tables; ",
            f"{where}{', finished ' if finished else ''}{finished}.",
        ),
        notice=element(
            "div",
            element(
                "p",
                element("strong", f"For {job.analyst} only."),
                " This page holds the trained model: do not pass it on to whoever may not have the model.",
            ),
            class_="notice",
        ),
        content=element("", *sections),
        footer=element("p", f"veilboost {report['settings']['veilboost']}. Not audited."),
    )


def _facts(job: Job, model: Ensemble, report: Mapping[str, Any]) -> Markup:
    seconds, rows = report["seconds_per_tree"], report.get("rows")
    bytes_sent = report["bytes_sent"]
    facts: list[tuple[str, str, str]] = [
        ("Parties", str(len(job.parties)), ", ".join(job.party_names) if len(job.parties) <= 4 else ""),
        ("Columns", str(len(job.features)), f"and the label, at {job.label_owner}"),
        ("Trees", str(len(model.trees)), f"up to {job.parameters.max_depth} questions deep"),
    ]
    if rows:
        facts.insert(1, ("Rows", f"{rows:,}", "the same at every party"))
    if seconds:
        rest = seconds[1:] or seconds
        first = f"median; the first tree took {duration(seconds[0])}" if len(seconds) > 1 else "the only one of this run"
        facts.append(("Time per tree", duration(statistics.median(rest)), first))
        total = sum(seconds)
        facts.append(
            ("Training", duration(total), f"all trees, after {duration(report['seconds_setup'])} of setup"),
        )
    sent = f"by {len(bytes_sent)} roles" if len(bytes_sent) > 1 else f"by {next(iter(bytes_sent))}"
    facts.append(("Sent", size(sum(bytes_sent.values())), sent))
    if report["rounds"]:
        facts.append(("Rounds", f"{report['rounds']:,}", "messages between owners, in turns"))
    return element(
        "dl",
        *(
            element(
                "div", element("dt", name), element("dd", value), element("dd", more, class_="more") if more else None
            )
            for name, value, more in facts
        ),
        class_="facts",
    )


def _importance(model: Ensemble) -> list[Markup]:
    importance = importance_of(model)
    ranked = importance.order()
    if not ranked:
        return [element("p", "No tree splits: the model predicts the same for every row.")]
    most = float(importance.scores.max())
    rows = [
        element(
            "tr",
            element("th", model.features[feature].name, scope="row"),
            element("td", bar(float(importance.scores[feature]) / most)),
            element("td", importance.shown(feature), class_="number"),
        )
        for feature in ranked[:_FEATURES_SHOWN]
    ]
    said = [f"By {importance.title}, over all {len(model.trees)} trees."]
    if len(ranked) > _FEATURES_SHOWN:
        said.append(f"The first {_FEATURES_SHOWN} of {len(ranked)} columns that the model uses.")
    unused = len(model.features) - len(ranked)
    if unused:
        said.append(f"{unused} of {len(model.features)} columns are not used.")
    return [element("p", " ".join(said), class_="quiet"), element("table", element("tbody", *rows), class_="bars")]


def _trees(model: Ensemble) -> list[Markup]:
    shown = range(min(_TREES_SHOWN, len(model.trees)))
    base = to_margin(model.objective, model.base_score)
    logistic = model.objective == "binary:logistic"
    what = "a score that the logistic function turns into the probability of class 1" if logistic else "the prediction"
    figures = [
        element(
            "figure",
            element("figcaption", f"Tree {number + 1} of {len(model.trees)}"),
            _scroll(f"Tree {number + 1}", tree_svg(model, number)),
        )
        for number in shown
    ]
    return [
        element(
            "p",
            "A row answers the questions from the top down: yes goes left, no goes right. ",
            "Where it has no value, it goes the way that \u201cmissing\u201d says. ",
            f"The weights of the leaves it reaches in all trees, added to {base:.4g}, are {what}.",
            class_="quiet",
        ),
        *figures,
    ]


def _metrics(report: Mapping[str, Any]) -> list[Markup]:
    """`report["metrics"]`: by data set, by metric, one value per tree, as XGBoost's `evals_result`."""
    metrics: dict[str, dict[str, Sequence[float | None]]] = {}
    for data_set, values_by_metric in report["metrics"].items():
        for metric, values in values_by_metric.items():
            metrics.setdefault(metric, {})[data_set] = values
    return [element("figure", element("figcaption", name), learning_curve(by)) for name, by in metrics.items()]


def _ledger(
    job: Job, report: Mapping[str, Any], ledger: Sequence[Mapping[str, Any]], one_machine: bool
) -> list[Markup]:
    rows = [_ledger_row(job, entry, report["rounds"]) for entry in ledger]
    rows += [
        element(
            "tr",
            element("th", role, scope="row"),
            element("td", "nothing"),
            element("td", "no value was disclosed to it", data_label="Why"),
            element("td", "0", data_label="How much"),
            element("td", "none", data_label="When"),
        )
        for role in learned_nothing(job, ledger)
    ]
    heads = element("tr", *(element("th", head, scope="col") for head in ("Who", "What", "Why", "How much", "When")))
    intro = "Every value that left the shared domain, from the disclosure ledger"
    intro += " (ledger.json)." if one_machine else f" of {job.analyst}. The owners' ledger.json must list the same."
    return [
        element("p", intro, class_="quiet"),
        element("table", element("thead", heads), element("tbody", *rows), class_="cards"),
        element("h3", "What was not disclosed"),
        element("ul", *(element("li", line) for line in not_disclosed(job, ledger))),
        element("h3", "What everybody knows"),
        element("p", known_to_all(job, report.get("rows"))),
        element("h3", "On what conditions"),
        element("ul", *(element("li", line) for line in cautions(job, one_machine=one_machine))),
    ]


def _ledger_row(job: Job, entry: Mapping[str, Any], rounds: int) -> Markup:
    meaning = MEANINGS.get(entry["value"])
    number = entry["round"]
    when = "rounds are counted by the owners" if number is None else f"round {number:,}"
    when += f" of {rounds:,}" if number is not None and rounds else ""
    strange = None if meaning else "This page knows no such entry: ask what it is before you accept it."
    if entry["receiver"] != job.analyst:
        strange = f"The receiver is not {job.analyst}, the analyst of the job."
    return element(
        "tr",
        element("th", entry["receiver"], scope="row"),
        element(
            "td",
            element("strong", entry["value"]),
            element("div", meaning.words, class_="quiet") if meaning else None,
            element("span", strange, class_="strange") if strange else None,
        ),
        element("td", entry["why"], data_label="Why"),
        element("td", amount(entry), data_label="How much"),
        element("td", when, data_label="When"),
    )


def _costs(job: Job, report: Mapping[str, Any]) -> list[Markup]:
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
        parts.append(_scroll("Numbers by phase", _phase_table(roles, phases)))
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
            shown = [f"{duration(t['seconds'])}, {size(t['bytes_sent'])}" if t else "" for t in totals]
            rows.append(element("tr", element("th", name, scope="row"), *(element("td", cell) for cell in shown)))
    return element("table", element("thead", element("tr", *heads)), element("tbody", *rows))


def _role_table(job: Job, report: Mapping[str, Any]) -> Markup:
    heads = ("Role", "Is", "Columns", "Sent", "Processor time", "Peak memory")
    rows = []
    for name in job.roles:
        kind = "dealer" if name == DEALER else "data owner" if name in job.party_names else "analyst"
        kind += " and analyst" if name == job.analyst and name in job.party_names else ""
        held = ""
        if name in job.party_names:
            held = str(len(job.features_of(name))) + (" and the label" if name == job.label_owner else "")
        role = report["roles"].get(name)
        cells = [kind, held]
        cells += ["", "", ""] if role is None else [
            size(report["bytes_sent"][name]), duration(role["cpu_seconds"]), size(role["peak_memory_bytes"])
        ]
        rows.append(
            element(
                "tr",
                element("th", name, scope="row"),
                *(element("td", cell, data_label=head) for head, cell in zip(heads[1:], cells, strict=True) if cell),
            )
            if not all(cells)
            else element(
                "tr",
                element("th", name, scope="row"),
                *(element("td", cell, data_label=head) for head, cell in zip(heads[1:], cells, strict=True)),
            )
        )
    head = element("tr", *(element("th", one, scope="col") for one in heads))
    return element("table", element("thead", head), element("tbody", *rows), class_="cards")


def _settings(job: Job, report: Mapping[str, Any]) -> list[Markup]:
    settings = report["settings"]
    shown = {name: value for name, value in settings["parameters"].items() if value is not None}
    return [
        element(
            "dl",
            *(element("div", element("dt", name), element("dd", _shown(value))) for name, value in shown.items()),
            class_="settings",
        ),
        element(
            "p",
            "Job file, SHA-256: ",
            element("code", settings["job_hash"]),
            f". veilboost {settings['veilboost']}, numpy {settings['numpy']}, {settings['cores']} cores.",
            class_="quiet",
        ),
    ]


def _section(title: str, *children: Markup) -> Markup:
    return element("section", element("h2", title), *children)


def _scroll(what: str, child: Markup) -> Markup:
    """A box of its own that scrolls sideways, with the keyboard too."""
    return element("div", child, class_="scroll", role="region", aria_label=what, tabindex="0")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds for people: "0.22 s", "5.4 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 1:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "0 s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
