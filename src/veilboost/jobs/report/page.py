"""What `report.html` says, section by section."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

from veilboost.jobs.entries import FEDERATED, SMPC
from veilboost.jobs.job import Job
from veilboost.jobs.report.charts import bar, learning_curve
from veilboost.jobs.report.costs import cost_section
from veilboost.jobs.report.disclosures import (
    amount,
    cautions,
    known_to_all,
    learned_nothing,
    not_disclosed,
    strangeness,
)
from veilboost.jobs.report.federated import settings_of
from veilboost.jobs.report.meanings import meaning_of
from veilboost.jobs.report.pieces import duration, scrolling, section, size
from veilboost.tables.schema import Kind
from veilboost.trees.ensemble import Ensemble
from veilboost.trees.importance import importance_of
from veilboost.trees.layout import lay_out, signed
from veilboost.trees.markup import Markup, element
from veilboost.trees.objective import to_margins
from veilboost.trees.parameters import Objective
from veilboost.trees.svg import tree_svg

_TEMPLATE: Final = Path(__file__).with_name("page.html")
_TREES_SHOWN: Final = 3
_FEATURES_SHOWN: Final = 30

_MEANING_OF_SUMS: Final[dict[Objective, str]] = {
    "binary:logistic": "a score that the logistic function turns into the probability of class 1",
    "reg:squarederror": "the prediction",
    "multi:softprob": "scores of the classes that the softmax function turns into their probabilities",
    "count:poisson": "the natural logarithm of the predicted count",
}

_HOW: Final = {SMPC: "secret shares of", FEDERATED: "securely aggregated sums of"}


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
    text = render(job, model, report, ledger, one_machine=one_machine)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
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
        section("Feature importance", *_importance(model)),
        section("The first trees", *_trees(model)),
        section("Learning curve", *_metrics(report)) if report.get("metrics") else None,
        section("Who learned what", *_ledger(job, report, ledger, one_machine)),
        section("Where time and bytes went", *cost_section(job, report)),
        section("Settings", *_settings(job, report)),
    ]
    where = "all roles on one machine" if one_machine else f"as {job.analyst} saw it"
    finished = str(report.get("finished", "")).replace("T", " ").replace("+00:00", " UTC")
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=element("", job.name),
        subtitle=element(
            "p",
            f"Boosted trees trained on {_HOW[job.method]} {len(job.parties)} tables; ",
            f"{where}{', finished ' if finished else ''}{finished}.",
        ),
        notice=element(
            "div",
            element(
                "p",
                element("strong", f"For {job.analyst if job.federated is None else 'the federation'} only."),
                " This page holds the trained model: do not pass it on to whoever may not have the model.",
            ),
            class_="notice",
        ),
        content=element("", *sections),
        footer=element("p", f"veilboost {report['settings']['veilboost']}. Not audited."),
    )


def _several(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} parties"


def _sharing(job: Job) -> str:
    """Who holds the secret shares."""
    return "owners" if job.federated is None else "aggregators"


def _facts(job: Job, model: Ensemble, report: Mapping[str, Any]) -> Markup:
    seconds, rows = report["seconds_per_tree"], report.get("rows")
    bytes_sent = report["bytes_sent"]
    facts: list[tuple[str, str, str]] = [
        ("Parties", str(len(job.parties)), ", ".join(job.party_names) if len(job.parties) <= 4 else ""),
        ("Columns", str(len(job.features)), f"and the label, at {_several(job.label_holders)}"),
        ("Trees", str(len(model.trees)), f"up to {job.parameters.max_depth} questions deep"),
    ]
    if rows:
        blocks = f"in {job.grid.blocks} blocks, each with parties of its own" if job.grid.blocks > 1 else ""
        blocks = blocks if job.federated is None else "of all parties together"
        facts.insert(1, ("Rows", f"{rows:,}", blocks or "the same at every party"))
    if report.get("dropped"):
        facts.insert(1, ("Lost", str(len(report["dropped"])), f"on the way: {_several(report['dropped'])}"))
    if seconds:
        rest = seconds[1:] or seconds
        first = f"median without the first, which took {duration(seconds[0])}" if len(seconds) > 1 else "of one tree"
        facts.append(("Time per tree", duration(statistics.median(rest)), first))
        trees = "all trees" if len(seconds) == model.rounds else f"the {len(seconds)} rounds of the last start"
        setup = duration(report["seconds_setup"])
        facts.append(("Training", duration(sum(seconds)), f"{trees}, after {setup} of setup"))
    sent = f"by {len(bytes_sent)} roles" if len(bytes_sent) > 1 else f"by {next(iter(bytes_sent))}"
    facts.append(("Sent", size(sum(bytes_sent.values())), sent))
    if report["rounds"]:
        facts.append(("Rounds", f"{report['rounds']:,}", f"turns of messages between {_sharing(job)}"))
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
    base = [signed(float(margin), 4) for margin in to_margins(model.objective, model.base_score)]
    flags = any(feature.kind is Kind.FLAG for feature in model.features)
    what = _MEANING_OF_SUMS[model.objective]
    several = f" the trees of a class, added to {', '.join(base[:-1])} or {base[-1]} for classes 0 to {len(base) - 1},"
    one = f" all trees, added to {base[0]},"
    return [
        element(
            "p",
            "A row answers the questions from the top down: yes goes left, no goes right. ",
            "Where it has no value, it goes the way that \u201cmissing\u201d says. ",
            "A question that only names a column asks whether a flag is set (1, yes or true). " if flags else None,
            f"The weights of the leaves it reaches in{one if len(base) == 1 else several} are {what}.",
            class_="quiet",
        ),
        *(_tree(model, number) for number in range(min(_TREES_SHOWN, len(model.trees)))),
    ]


def _tree(model: Ensemble, number: int) -> Markup:
    tree, name = model.trees[number], f"Tree {number + 1} of {len(model.trees)}"
    name += f", for class {number % model.outputs}" if model.outputs > 1 else ""
    picture = lay_out(tree, model.features)
    leaves = int(tree.leaf.sum())
    drawing = tree_svg(picture, f"{name}: questions: {tree.n_nodes - leaves}, leaves: {leaves}")
    # A narrow window first shows the root, in its middle, rather than the left edge.
    at = 100 * picture.boxes[0].x / picture.width
    place = f"left: {at:.2f}%; width: min(100cqw, {2 * min(at, 100 - at):.2f}%)"
    root = element("div", class_="root", style=place)
    sheet = element("div", root, drawing, class_="sheet", style=f"--natural: {picture.width:.0f}px")
    return element("figure", element("figcaption", name), scrolling(name, sheet))


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
            element("td"),
            element("td", "0 values", data_label="How much"),
            element("td"),
        )
        for role in learned_nothing(job, ledger)
    ]
    heads = element("tr", *(element("th", head, scope="col") for head in ("Who", "What", "Why", "How much", "When")))
    intro = "Every value that left the shared domain, from the disclosure ledger"
    intro += (
        " (ledger.json)." if one_machine else f" of {job.analyst}. The {_sharing(job)}' ledger.json must list the same."
    )
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
    meaning = meaning_of(entry["value"])
    number = entry["round"]
    when = f"rounds are counted by the {_sharing(job)}" if number is None else f"round {number:,}"
    when += f" of {rounds:,}" if number is not None and rounds else ""
    strange = strangeness(job, entry)
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


def _settings(job: Job, report: Mapping[str, Any]) -> list[Markup]:
    settings = report["settings"]
    given = settings_of(settings) | settings["parameters"]
    shown = {name: value for name, value in given.items() if value is not None}
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


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
