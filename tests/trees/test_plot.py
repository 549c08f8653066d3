"""Pictures of trees: where nodes go, what they say, and that both drawings say the same."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.processes.support import environment

from veilboost.errors import InputError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.importance import importance_of
from veilboost.trees.layout import FONT_SIZE, MARGIN, Picture, lay_out, shortened, signed, text_width
from veilboost.trees.markup import Markup, element, escape, visible
from veilboost.trees.svg import tree_svg

FEATURES = (
    Feature("age", Kind.DISCRETE),
    Feature("dose of the drug that was given in the first week, in mg", Kind.CONTINUOUS, (), True),
    Feature("smoker", Kind.FLAG, (), True),
    Feature("referral", Kind.CATEGORICAL, ("gp", "er", "<script>alert(1)</script>"), True),
    Feature("収縮期血圧の測定値および拡張期血圧の測定値と脈拍", Kind.DISCRETE),
)


@pytest.fixture
def pyplot() -> Iterator[Any]:
    """matplotlib without a window; figures are closed afterwards."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def draw_tree(depth: int, seed: int, part: float = 1.0) -> Tree:
    """A tree of this depth in which about `part` of the nodes that may split do."""
    rng = np.random.default_rng(seed)
    inner = 2**depth - 1
    feature = rng.integers(0, 4, inner)
    threshold = np.where(feature == 2, 0.5, rng.normal(0, 100, inner))
    return Tree.from_complete(
        depth,
        rng.random(inner) < part,
        feature,
        threshold,
        np.where(feature == 3, rng.integers(0, 3, inner), -1),
        rng.random(inner) < 0.5,
        rng.normal(0, 0.3, inner + 1),
    )


def one_split(feature: int, threshold: float = 0.0, category: int = -1, default_left: bool = False) -> Tree:
    """A root whose left leaf has the weight 1 and whose right leaf has the weight -2."""
    return Tree.from_complete(1, [True], [feature], [threshold], [category], [default_left], [1.0, -2.0])


def ensemble(*trees: Tree, features: tuple[Feature, ...] = FEATURES) -> Ensemble:
    return Ensemble(features, "binary:logistic", 0.5, trees)


def overlapping(picture: Picture) -> list[tuple[int, int]]:
    """Pairs of nodes whose boxes touch."""
    rows: dict[float, list[Any]] = {}
    for box in picture.boxes:
        rows.setdefault(box.y, []).append(box)
    pairs = []
    for boxes in rows.values():
        boxes.sort(key=lambda box: box.x)
        for left, right in pairwise(boxes):
            if left.x + left.width / 2 >= right.x - right.width / 2:
                pairs.append((left.node, right.node))
    return pairs


@given(depth=st.integers(0, 9), seed=st.integers(0, 1000), part=st.sampled_from([0.5, 0.8, 0.95, 1.0]))
@settings(max_examples=60, deadline=None)
def test_layout_is_tidy(depth: int, seed: int, part: float) -> None:
    tree = draw_tree(depth, seed, part)
    picture = lay_out(tree, FEATURES)
    assert [box.node for box in picture.boxes] == list(range(tree.n_nodes))
    assert overlapping(picture) == []
    for box in picture.boxes:
        assert box.x - box.width / 2 >= MARGIN - 1e-6
        assert box.x + box.width / 2 <= picture.width - MARGIN + 1e-6
        assert box.y + box.height <= picture.height
        assert text_width(box.text) <= box.width
        assert (box.strength is not None) == (tree.left[box.node] < 0)
        if box.strength is None:
            children = sorted(picture.boxes[child].x for child in (tree.left[box.node], tree.right[box.node]))
            assert box.x == pytest.approx(sum(children) / 2)
            assert picture.boxes[tree.left[box.node]].y > box.y + box.height
    assert len(picture.edges) == tree.n_nodes - 1
    for yes, no in zip(picture.edges[::2], picture.edges[1::2], strict=True):
        assert (yes.answer, no.answer) == ("yes", "no")
        assert (yes.x1, yes.y1) == (no.x1, no.y1)
        assert yes.x2 < no.x2


def test_a_checker_that_finds_overlaps() -> None:
    picture = lay_out(draw_tree(2, 1), FEATURES)
    (first, *rest) = picture.boxes
    same_row = [box for box in rest if box.y == rest[0].y]
    squeezed = Picture(9, 9, (first, *(type(box)(**{**vars(box), "x": 5.0}) for box in same_row)), ())
    assert len(overlapping(squeezed)) == len(same_row) - 1


@pytest.mark.parametrize(
    ("tree", "text", "missing", "yes"),
    [
        (one_split(0, 50.5), "age < 50.5", "", 1.0),
        (one_split(0, -0.25), "age < \u22120.25", "", 1.0),
        (one_split(0, 1234567), "age < 1.23457e+06", "", 1.0),
        (one_split(2, 0.5, default_left=True), "smoker?", "missing: right", -2.0),
        (one_split(2, 0.5), "smoker?", "missing: left", -2.0),
        (one_split(2, 1.5, default_left=True), "smoker < 1.5", "missing: left", 1.0),
        (one_split(3, category=0, default_left=True), "referral is gp", "missing: right", -2.0),
        (one_split(3, category=0), "referral is gp", "missing: left", -2.0),
        (one_split(3, category=7), "referral is category 7", "missing: left", -2.0),
    ],
)
def test_questions(tree: Tree, text: str, missing: str, yes: float) -> None:
    """A category goes right and so do flags that are set, but "yes" is always drawn on the left."""
    picture = lay_out(tree, FEATURES)
    root, *leaves = picture.boxes
    assert (root.text, root.missing) == (text, missing)
    on_the_left = min(leaves, key=lambda box: box.x)
    assert tree.weight[on_the_left.node] == yes
    assert on_the_left.text == ("+1" if yes > 0 else "\u22122")


@pytest.mark.parametrize("feature", [0, 1, 2, 3])
@pytest.mark.parametrize("value", [0.0, 1.0, 50.0, np.nan])
@pytest.mark.parametrize("default_left", [True, False])
def test_the_picture_says_what_the_model_does(feature: int, value: float, default_left: bool) -> None:
    """Who follows the words of the picture ends in the leaf that the model predicts."""
    tree = one_split(feature, 0.5 if feature == 2 else 20.0, 1 if feature == 3 else -1, default_left)
    picture = lay_out(tree, FEATURES)
    root, *leaves = sorted(picture.boxes, key=lambda box: (box.y, box.x))
    if np.isnan(value):
        if not root.missing:
            return  # the column is never empty
        goes_left = root.missing == "missing: left"
    elif feature == 2:
        goes_left = value >= 0.5
    elif feature == 3:
        goes_left = value == 1.0
    else:
        goes_left = value < 20
    row = np.zeros((1, len(FEATURES)), dtype=np.float32)
    row[0, feature] = value
    reached = int(ensemble(tree).leaf_index(row)[0, 0])
    assert reached == leaves[0 if goes_left else 1].node


def test_all_about_a_node_is_in_full() -> None:
    tree = Tree.from_complete(1, [True], [1], [0.1], [-1], [True], [0.25, -0.5], [3.25], [40.0, 30.0, 10.0])
    root, left, _ = lay_out(tree, FEATURES).boxes
    assert "\u2026" in root.text
    assert root.full == f"node 0: {FEATURES[1].name} < 0.1? missing: left, gain 3.25, hessian sum 40"
    assert left.full == "leaf 1: weight +0.25, hessian sum 30"
    assert lay_out(one_split(0, 5.0), FEATURES).boxes[0].full == "node 0: age < 5.0?"


def test_shortened() -> None:
    assert shortened("age", 100) == "age"
    long = "measurement of the blood pressure 17"
    short = shortened(long, 120)
    start, end = short.split("\u2026")
    assert long.startswith(start)
    assert long.endswith(end)
    assert end
    assert text_width(short, FONT_SIZE) <= 120
    assert len(shortened("W" * 100, 1)) <= 2
    assert signed(-0.125) == "\u22120.125"
    assert signed(0.0) == "+0"


def test_markup_is_escaped() -> None:
    made = element("p", '<b> & "quotes" \'', element("br"), class_="x", aria_label='"><script>', data_x=1.5, left=None)
    assert made == (
        '<p class="x" aria-label="&quot;&gt;&lt;script&gt;" data-x="1.5">'
        "&lt;b&gt; &amp; &quot;quotes&quot; &#x27;<br></br></p>"
    )
    assert isinstance(made, Markup)
    assert element("", "a<b", None) == "a&lt;b"
    assert escape("tab\there\u202ereversed\x00\u2028next\ud800") == "tab here\ufffdreversed\ufffd next\ufffd"
    assert visible(" kept ") == " kept "


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_svg() -> None:
    tree = one_split(3, category=2)
    svg = tree_svg(lay_out(tree, FEATURES), 'tree "1"')
    assert "<script" not in svg
    assert "href" not in svg
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'tree "1"'
    assert texts(svg) == ["yes", "no", *texts(svg)[2:4], "+1", "\u22122"]
    assert texts(svg)[2].startswith("referral is <script")
    titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "node 0: referral is <script>alert(1)</script>? missing: left"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}rect")) == 3


def test_importance() -> None:
    counted = importance_of(ensemble(draw_tree(3, 1), draw_tree(3, 2)))
    assert (counted.kind, counted.scores.sum(), counted.title) == ("weight", 14, "number of splits")
    assert counted.order() == sorted(counted.order(), key=lambda feature: (-counted.scores[feature], feature))
    assert 4 not in counted.order()
    split = ([True], [1], [0.5], [-1], [True], [0.25, -0.5])
    gained = ensemble(Tree.from_complete(1, *split, [3.25]), Tree.from_complete(1, *split, [1.5]), one_split(0))
    assert importance_of(gained).scores.tolist() == [0, 4.75, 0, 0, 0]
    assert importance_of(gained, "weight").scores.tolist() == [1, 2, 0, 0, 0]
    assert importance_of(gained).shown(1) == "4.75"
    with pytest.raises(InputError, match="gains were not disclosed: train with reveal_gain=True"):
        importance_of(ensemble(one_split(0)), "total_gain")
    with pytest.raises(InputError, match="importance_type 'cover': give 'weight'"):
        importance_of(gained, "cover")


def outlines(axes: Any) -> tuple[list[Any], list[Any]]:
    """Extents in data coordinates of the boxes of nodes and of the words in them."""
    from matplotlib.patches import FancyBboxPatch, PathPatch

    boxes = [p.get_path().transformed(p.get_patch_transform()) for p in axes.patches if isinstance(p, FancyBboxPatch)]
    words = [p.get_path() for p in axes.patches if isinstance(p, PathPatch) and p.get_zorder() > 2]
    return [box.get_extents() for box in boxes], [word.get_extents() for word in words if len(word.vertices)]


@pytest.mark.parametrize(("width", "height"), [(None, None), (3, 3), (12, 4)])
def test_words_stay_in_their_boxes(pyplot: Any, width: float | None, height: float | None) -> None:
    from veilboost.trees.plot import plot_tree

    model = ensemble(draw_tree(6, 7, 0.9), features=FEATURES[:4])
    ax = None if width is None else pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    drawn = plot_tree(model, 0, ax)
    assert ax is None or drawn is ax
    drawn.figure.canvas.draw()
    boxes, words = outlines(drawn)
    assert len(boxes) == model.trees[0].n_nodes
    answers = 2 * int((~model.trees[0].leaf).sum())
    inside = [
        sum(box.x0 <= word.x0 and word.x1 <= box.x1 and box.y0 <= word.y0 and word.y1 <= box.y1 for box in boxes)
        for word in words
    ]
    assert inside.count(1) == len(words) - answers
    assert inside.count(0) == answers


def test_dollars_are_no_formula(pyplot: Any) -> None:
    from veilboost.trees.plot import plot_importance, plot_tree

    features = (Feature(r"cost $x^2$ or \$", Kind.CONTINUOUS), Feature("$\\frac{$", Kind.CONTINUOUS))
    model = ensemble(one_split(0), one_split(0), one_split(1), features=features)
    plot_tree(model).figure.canvas.draw()
    ax = plot_importance(model)
    ax.figure.canvas.draw()
    assert ax.get_xlabel() == "number of splits"
    assert [bar.get_width() for bar in ax.patches] == [2, 1]
    assert [label.get_text() for label in ax.texts] == ["2", "1"]


def test_importance_of_many_and_of_none(pyplot: Any) -> None:
    from veilboost.trees.plot import plot_importance

    model = ensemble(draw_tree(4, 3))
    _, ax = pyplot.subplots()
    assert plot_importance(model, ax, max_num_features=2) is ax
    assert len(ax.patches) == 2
    ax = plot_importance(ensemble(draw_tree(0, 1)))
    ax.figure.canvas.draw()
    assert ax.get_title() == "Feature importance: no tree splits"


@pytest.mark.parametrize("number", [1, -1])
def test_no_such_tree(number: int) -> None:
    from veilboost.trees.plot import plot_tree

    with pytest.raises(InputError, match=rf"tree {number}: the model has 1 trees, counted from 0"):
        plot_tree(ensemble(one_split(0)), number)


def run_without(modules: Sequence[str], program: str) -> str:
    """Standard output of a program in a Python that lacks some modules."""
    lack = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {tuple(modules)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""
    result = subprocess.run(
        [sys.executable, "-c", lack + program],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_without_matplotlib() -> None:
    said = run_without(
        ["matplotlib"],
        """
from veilboost.errors import InputError
from veilboost.trees.plot import plot_importance, plot_tree
for plot in (plot_tree, plot_importance):
    try:
        plot(None)
    except InputError as error:
        print(error)
""",
    )
    assert said.splitlines() == [
        "plot_tree needs matplotlib: install 'veilboost[analyst]'",
        "plot_importance needs matplotlib: install 'veilboost[analyst]'",
    ]
