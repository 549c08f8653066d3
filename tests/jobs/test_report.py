"""`report.html`: what it says, that names cannot get out of their place, and how it looks in a real browser."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.browser import CHROMIUM, Browser, browser
from tests.processes.support import make_case, run_roles
from tests.training import draw_table, train_on_shares

from veilboost.jobs.alignment import Matching, disclosures_of
from veilboost.jobs.entries import DEALER
from veilboost.jobs.grid import Grid
from veilboost.jobs.job import Job
from veilboost.jobs.outcome import Outcome, collected
from veilboost.jobs.report.charts import COLOURS, bar, columns, learning_curve, legend, stacked_bar
from veilboost.jobs.report.disclosures import MEANINGS, amount, cautions, known_to_all, learned_nothing, not_disclosed
from veilboost.jobs.report.page import render, write_report
from veilboost.jobs.report.pieces import duration, size
from veilboost.jobs.spec import job_from_dict
from veilboost.mpc.phases import PhaseTotal
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.parameters import Parameters

ATTACK = "<script>alert('x')</script><img src=\"http://example.org/x.png\" onerror=\"alert('x')\">"
LONG = "a_laboratory_value_with_a_name_that_goes_on_and_on_and_on_number"
FEATURES: list[dict[str, Any]] = [
    {"name": "age", "kind": "discrete"},
    {"name": LONG[:64], "kind": "continuous", "missing": True},
    {"name": "' onload='alert(1)", "kind": "flag"},
    {"name": 'referral & "co" ${title} $', "kind": "categorical", "levels": ["gp", ATTACK, "er"], "missing": True},
]
#: All elements that the page is made of.
ALLOWED = """
    html head meta title style body header main footer section h1 h2 h3 p strong code div span ul li dl dt dd
    figure figcaption table caption thead tbody tr th td svg g rect line path text
"""
#: Elements without an end.
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, and its text; fails where elements do not nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += " ".join(data.split()) + " "

    def headings(self) -> list[str]:
        return re.findall("|".join(HEADINGS), self.text)


HEADINGS = (
    "Feature importance",
    "The first trees",
    "Learning curve",
    "Who learned what",
    "Where time and bytes went",
    "Settings",
)


def make_job(*, analyst: str = "university", name: str = "ms <b>&</b>", **model: Any) -> Job:
    names = [feature["name"] for feature in FEATURES]
    return job_from_dict(
        {
            "job": {"name": name, "method": "smpc", "analyst": analyst},
            "model": {"n_estimators": 5, "max_depth": 3} | model,
            "data": {"label": "ms"},
            "feature": FEATURES,
            "party": [
                {"name": "north", "address": "127.0.0.1:7101", "columns": [*names[:2], "ms"]},
                {"name": "south", "address": "127.0.0.1:7102", "columns": names[2:]},
            ],
            "dealer": {"address": "127.0.0.1:7100"},
        }
    )


def make_model(job: Job, *, depth: int = 3, trees: int = 5, gains: bool = False) -> Ensemble:
    """Trees that use every feature and every level."""
    rng = np.random.default_rng(4)
    inner = 2**depth - 1
    made = []
    for _ in range(trees):
        feature = np.arange(inner) % len(job.features)
        made.append(
            Tree.from_complete(
                depth,
                np.ones(inner),
                feature,
                np.where(feature == 2, 0.5, rng.normal(50, 10, inner)),
                np.where(feature == 3, rng.integers(0, 3, inner), -1),
                rng.random(inner) < 0.5,
                rng.normal(0, 0.2, inner + 1),
                rng.random(inner) * 9 if gains else None,
            )
        )
    return Ensemble(job.features, "binary:logistic", 0.25, tuple(made))


def make_report(job: Job, **more: Any) -> dict[str, Any]:
    """As `veilboost train` makes it, of roles that have taken known times."""
    outcomes = {}
    for number, name in enumerate(job.roles, start=1):
        outcome = Outcome(name, 736, 2.5, [0.9, 0.2, 0.25, 0.2, 0.3], {"peer": 1_000_000 * number}, 1234)
        if name in (*job.party_names, DEALER):
            outcome.phases = {
                phase: PhaseTotal(0.1 * at * number, 50_000 * at * number)
                for at, phase in enumerate(("setup", "gradients", "histograms", "split search", "checkpoint"), start=1)
            }
        outcomes[name] = outcome.to_dict()
    return {**collected(job, outcomes), **more}


def make_ledger(job: Job) -> list[dict[str, Any]]:
    shapes = {
        "base score": [1],
        "feature, categories and default direction of every split": [5, 7, 64],
        "threshold of every split": [5, 7, 32],
        "leaf weights": [5, 8],
    }
    return [
        {"receiver": job.analyst, "value": value, "why": "the trained model", "shape": shape, "round": 1230 + at}
        for at, (value, shape) in enumerate(shapes.items())
    ]


def made_page(job: Job, **more: Any) -> str:
    return render(job, make_model(job), make_report(job, **more), make_ledger(job), one_machine=True)


def test_what_the_page_says() -> None:
    job = make_job(min_rows_per_leaf=10)
    page = Page(made_page(job))
    assert page.headings() == [heading for heading in HEADINGS if heading != "Learning curve"]
    for words in (
        "ms <b>&</b>",
        "For university only. This page holds the trained model",
        "Parties 2 north, south",
        "Rows 736",
        "Columns 4 and the label, at north",
        "Trees 5 up to 3 questions deep",
        "Time per tree 0.23 s median without the first, which took 0.90 s",
        "Training 1.85 s all trees, after 2.50 s of setup",
        "Sent 10.0 MB by 4 roles",
        "Rounds 1,234",
        "By number of splits, over all 5 trees.",
        "Tree 1 of 5",
        "Tree 3 of 5",
        "university feature, categories and default direction of every split",
        "the trained model 35 values of 64 bits (5 trees \u00d7 7 nodes) round 1,231 of 1,234",
        "40 values (5 trees \u00d7 8 leaves)",
        "dealer nothing 0 values",
        "north and south received nothing of the model",
        "No leaf describes fewer than 10 of the rows",
        "the number of rows (736)",
        "All roles of this run were processes of one machine",
        "north data owner 2 and the label 1.0 MB",
        "min_rows_per_leaf 10",
        job.job_hash().hex(),
    ):
        assert words in page.text, words
    assert "Tree 4 of 5" not in page.text
    for feature in FEATURES:
        assert " ".join(feature["name"].split()) in page.text


def test_names_stay_in_their_place() -> None:
    """No element, attribute or style comes from a name, and the page refers to nothing outside itself."""
    job = make_job()
    harmless = make_job(name="harmless")
    source = made_page(job)
    page = Page(source)
    assert ATTACK[:12] in page.text
    assert ATTACK[:12] not in source
    assert {tag for tag, _ in page.elements} <= set(ALLOWED.split())
    used = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in used if name.startswith("on") or name in ("src", "href", "xlink:href", "action")]
    styles = [attributes["style"] or "" for _, attributes in page.elements if "style" in attributes]
    assert all(re.fullmatch(r"(left: [\d.]+%; width: min\(100cqw, [\d.]+%\)|--natural: \d+px)", one) for one in styles)
    assert len(page.elements) == len(Page(made_page(harmless)).elements)
    addresses = set(re.findall(r"\w+://[^\s\"'<]+", source.replace("&quot;", '"')))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://example.org/x.png"}
    assert "url(" not in source
    assert "@import" not in source
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert any(a.get("name") == "viewport" for tag, a in page.elements if tag == "meta")


def test_ledgers_with_odd_entries() -> None:
    job = make_job()
    odd = [
        {"receiver": "university", "value": ATTACK, "why": ATTACK, "shape": [2, 3], "round": None},
        {"receiver": "south", "value": "leaf weights", "why": "", "shape": [5, 8], "round": 7},
    ]
    source = render(job, make_model(job), make_report(job), odd, one_machine=False)
    page = Page(source)
    assert ATTACK[:12] not in source
    assert "This page knows no such entry" in page.text
    assert "6 values (2 \u00d7 3)" in page.text
    assert "The receiver is not university, the analyst of the job." in page.text
    assert "cannot say what was not disclosed" in page.text
    assert "received nothing of the model" not in page.text
    assert "of university. The owners' ledger.json must list the same." in page.text
    assert learned_nothing(job, odd) == ["north", DEALER]


def test_gains_give_another_importance() -> None:
    job = make_job(reveal_gain=True)
    model = make_model(job, gains=True)
    text = Page(render(job, model, make_report(job), make_ledger(job), one_machine=True)).text
    assert "By total gain" in text
    assert "no gains and no hessian sums" not in text
    assert "no gains and no hessian sums either." in Page(made_page(make_job())).text


def test_a_model_without_splits_and_a_resumed_run() -> None:
    job = make_job()
    report = make_report(job, seconds_per_tree=[0.5])
    text = Page(render(job, make_model(job, depth=0), report, make_ledger(job), one_machine=True)).text
    assert "No tree splits" in text
    assert "Time per tree 0.50 s of one tree" in text
    assert "the 1 rounds of the last start" in text
    text = Page(made_page(job, seconds_per_tree=[])).text
    assert "Time per tree" not in text
    assert "Seconds per tree" not in text


def test_sentences_follow_the_job() -> None:
    job = make_job(analyst="south", subsample=0.5)
    ledger = make_ledger(job)
    assert learned_nothing(job, ledger) == ["north", DEALER]
    lines = "\n".join(not_disclosed(job, ledger))
    assert "north received nothing of the model" in lines
    assert "south received nothing about nodes that do not split" in lines
    assert "The dealer received nothing but greetings" in lines
    assert known_to_all(job, None).endswith(
        "sizes and order of messages, and which rows and columns each tree may use."
    )
    assert "which rows" not in known_to_all(make_job(), None)
    conditions = "\n".join(cautions(job, one_machine=False))
    assert "south is a data owner too" in conditions
    assert "one machine" not in conditions
    assert "min_rows_per_leaf is 0, so a leaf may describe a single row" in conditions


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
def test_every_disclosure_has_words(objective: str) -> None:
    """What training discloses is what the page can explain; a new disclosure needs words here and in the docs."""
    table = draw_table(
        [Feature("a", Kind.DISCRETE), Feature("b", Kind.FLAG)], 40, 2, objective, np.random.default_rng(1)
    )
    parameters = Parameters(objective=objective, n_estimators=2, max_depth=2, max_bin=4, reveal_gain=True)  # type: ignore[arg-type]
    _, outcome = train_on_shares(table, parameters, 2)
    entries = [entry.to_dict() for entry in outcome.sessions[0].ledger]
    grid = Grid.of({"north": ["a", "b"], "south": ["c"]}, "job", str)
    matched = disclosures_of(Matching(("north", "south"), grid, ("north",), False), (40,))
    assert {entry["value"] for entry in entries} | {entry.value for entry in matched} == set(MEANINGS) - {
        "validation metric of every round"
    }
    documented = (Path(__file__).parents[2] / "docs" / "leakage.md").read_text(encoding="utf-8")
    for entry in [*entries, *(entry.to_dict() for entry in matched)]:
        assert f"| `{entry['value']}` |" in documented
        assert len(entry["shape"]) == len(MEANINGS[entry["value"]].dimensions) + MEANINGS[entry["value"]].bits
    assert [amount(entry) for entry in entries] == [
        "1 value",
        "6 values of 64 bits (2 trees \u00d7 3 nodes)",
        "6 values of 32 bits (2 trees \u00d7 3 nodes)",
        "8 values (2 trees \u00d7 4 leaves)",
        "6 values (2 trees \u00d7 3 nodes)",
        "14 values (2 trees \u00d7 7 nodes and leaves)",
    ]


def test_learning_curve_is_drawn_where_metrics_are_disclosed() -> None:
    metrics = {"north": {"logloss": [0.7, 0.5, 0.4], "auc": [0.6, 0.7, 0.8]}, ATTACK: {"logloss": [0.6, None, 0.3]}}
    page = Page(made_page(make_job(), metrics=metrics))
    assert page.headings() == list(HEADINGS)
    assert "logloss 0.7 0.3 tree 1 tree 3 north: 0.4 at the end" in page.text
    assert "auc 0.8 0.6" in page.text
    assert len([tag for tag, _ in page.elements if tag == "path"]) == 3


def paths(chart: str) -> list[str]:
    return [str(attributes["d"]) for tag, attributes in Page(chart).elements if tag == "path"]


def test_learning_curve() -> None:
    (line,) = paths(learning_curve({"south": [1.0, 0.5, 0.0]}))
    assert line == "M0 0h0L500 120L1000 240"
    (broken,) = paths(learning_curve({"south": [1.0, None, 0.0, float("nan")]}))
    assert broken == "M0 0h0M666.67 240h0"
    assert paths(learning_curve({"south": [0.5]})) == ["M0 120h0"]
    assert paths(learning_curve({"south": [], "north": [None]})) == ["", ""]
    many = {f"set {number}": [0.1, 0.2] for number in range(len(COLOURS) + 1)}
    styles = [
        (attributes.get("stroke"), attributes.get("stroke-dasharray"))
        for tag, attributes in Page(learning_curve(many)).elements
        if tag == "path"
    ]
    assert len(set(styles)) == len(many)


def rectangles(chart: str) -> list[dict[str, str | None]]:
    return [attributes for tag, attributes in Page(chart).elements if tag == "rect"]


def test_bars() -> None:
    assert rectangles(bar(0.25))[0]["width"] == "25%"
    colours = {"setup": COLOURS[0], "reveal": COLOURS[1]}
    first, second = rectangles(stacked_bar({"setup": 1.0, "reveal": 3.0}, colours, 8.0))
    assert (first["x"], first["width"], second["x"], second["width"]) == ("0%", "12.5%", "12.5%", "37.5%")
    assert rectangles(stacked_bar({"setup": 0.0}, colours, 0.0))[0]["width"] == "0%"
    assert Page(legend(colours)).text.split() == ["setup", "reveal"]


def test_columns() -> None:
    tallest, half = rectangles(columns([2.0, 1.0], " s"))
    assert (tallest["y"], tallest["height"], half["height"]) == ("0", "240", "120")
    averaged = rectangles(columns([1.0] * 9999 + [2.0], " s"))
    assert len(averaged) == 120
    assert "tree 10000" in Page(columns([1.0] * 10000, " s")).text
    assert rectangles(columns([0.0], " s"))[0]["height"] == "0"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.0123, "0.012 s"),
        (0.216, "0.22 s"),
        (5.432, "5.43 s"),
        (54.04, "54.0 s"),
        (200.4, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.2 kB"), (1.5e8, "150 MB"), (3e12, "3.0 TB")]
)
def test_sizes(count: float, words: str) -> None:
    assert size(count) == words


def test_page_is_written_at_once_or_not_at_all(tmp_path: Path) -> None:
    job = make_job()
    path = tmp_path / "report.html"
    arguments: tuple[Job, Ensemble, Mapping[str, Any], Sequence[Any]]
    arguments = (job, make_model(job), make_report(job), make_ledger(job))
    write_report(path, *arguments, one_machine=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(KeyError):
        write_report(path, job, make_model(job), {}, [], one_machine=True)
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("analyst", ["university", "south"])
def test_only_the_analyst_has_a_page(tmp_path: Path, analyst: str) -> None:
    """Roles that run by hand: the page lies beside the model, and nobody else's folder holds one."""
    case = make_case(tmp_path, analyst=analyst)
    out = tmp_path / "out"
    outcomes = run_roles(case, out)
    assert [path for path in out.rglob("*.html*")] == [out / "report.html"]
    assert (out / "model.json").is_file()
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    assert f"as {analyst} saw it" in text
    assert "Rows 60" in text
    assert "Tree 2 of 2" in text
    assert ("Seconds per tree" in text) == (analyst == "south")
    received = [{**entry.to_dict(), "round": None} for entry in outcomes["north"].ledger]
    assert [{**entry.to_dict(), "round": None} for entry in outcomes[analyst].ledger] == received
    stored = json.loads((out / ("ledger.json" if analyst == "university" else "south/ledger.json")).read_text())
    assert [{**entry, "round": None} for entry in stored] == received
    for entry in received:
        assert entry["value"] in text


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install Debian's package chromium")
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A page with wide trees and long names, and the page of an analyst that knows little else."""
    folder = tmp_path_factory.mktemp("pages")
    job = make_job(max_depth=6)
    metrics = {"north": {"logloss": [0.7, 0.5, 0.4]}, LONG * 4: {"logloss": [0.6, 0.4, 0.3]}}
    wide = make_model(job, depth=6)
    write_report(folder / "wide.html", job, wide, make_report(job, metrics=metrics), make_ledger(job), one_machine=True)
    lonely = collected(job, {"university": Outcome("university", 736, bytes_sent={"north": 5}).to_dict()})
    odd = [{"receiver": "south", "value": LONG * 4, "why": LONG * 4, "shape": [10**9] * 8, "round": None}]
    write_report(folder / "alone.html", job, make_model(job), lonely, odd, one_machine=False)
    return {path.stem: path.as_uri() for path in folder.iterdir()}


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("page", ["wide", "alone"])
def test_page_in_a_browser(tab: Browser, addresses: dict[str, str], page: str, width: int, dark: bool) -> None:
    visit = tab.visit(addresses[page], width, dark=dark)
    assert visit.complaints == []
    assert visit.requests == [addresses[page]]
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    # Nothing sticks out on the right but what scrolls in a box of its own.
    outside = """[...document.body.querySelectorAll("*")].filter(
        one => !one.closest(".scroll > *") && one.getBoundingClientRect().right > innerWidth + 0.5
    ).map(one => one.outerHTML.slice(0, 80))"""
    assert tab.evaluate(outside) == []
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground))) < 64) == dark


@pytest.mark.parametrize("width", [390, 1280])
def test_trees_in_a_browser(tab: Browser, addresses: dict[str, str], width: int) -> None:
    """Words lie in their boxes, boxes do not touch, and what is seen first is the root."""
    tab.visit(addresses["wide"], width)
    sticking_out = """[...document.querySelectorAll("svg.tree g")].filter(group => {
        const box = group.querySelector("rect").getBBox();
        return [...group.querySelectorAll("text")].some(text => {
            const words = text.getBBox();
            return words.x < box.x || words.x + words.width > box.x + box.width
                || words.y < box.y || words.y + words.height > box.y + box.height;
        });
    }).map(group => group.textContent)"""
    assert tab.evaluate("document.querySelectorAll('svg.tree g').length") == 3 * 127
    assert tab.evaluate(sticking_out) == []
    roots = """[...document.querySelectorAll(".scroll:has(.root)")].map(scroll => {
        const box = scroll.querySelector("svg g rect").getBoundingClientRect(), seen = scroll.getBoundingClientRect();
        return seen.left <= box.left && box.right <= seen.right && scroll.scrollWidth > scroll.clientWidth;
    })"""
    assert tab.evaluate(roots) == [True, True, True]


def test_page_on_paper(tab: Browser, addresses: dict[str, str]) -> None:
    tab.visit(addresses["wide"], 700, dark=True, media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.querySelector('svg.tree').getBoundingClientRect().right <= innerWidth")


def test_browser_notices_what_a_page_does(tab: Browser, tmp_path: Path) -> None:
    """A page with all the faults that the tests above look for."""
    path = tmp_path / "bad.html"
    path.write_text(
        "<!DOCTYPE html><body><div style='width: 2000px'>wide</div><img src='missing.png'>"
        "<script>console.error('wrong'); throw new Error('worse')</script>"
    )
    visit = tab.visit(path.as_uri(), 390)
    assert visit.requests == [path.as_uri(), (tmp_path / "missing.png").as_uri()]
    assert any("wrong" in complaint for complaint in visit.complaints)
    assert any("worse" in complaint for complaint in visit.complaints)
    assert tab.evaluate("document.documentElement.scrollWidth") > 390
