import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilboost.errors import ModelError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.xgboost_json import load_model, save_model, to_json_dict
from veilboost.trees.xgboost_parse import parse_model

FEATURES = (
    Feature("age", Kind.CONTINUOUS, missing=True),
    Feature("referral", Kind.CATEGORICAL, ("gp", "other", "er", "Ärztin"), missing=True),
    Feature("smoker", Kind.FLAG),
    Feature("visits", Kind.DISCRETE),
)


def model(threshold: float = 0.1, weight: float = 0.3) -> Ensemble:
    tree = Tree.from_complete(
        2,
        [True, True, False],
        [0, 1, 0],
        [threshold, 0, 0],
        [-1, 2, -1],
        [True, False, False],
        [weight, -1.5, 0, 2.25],
        gain=[5, 2.5, 0],
        cover=[10, 6, 4, 3, 3, 0, 4],
    )
    return Ensemble(FEATURES, "binary:logistic", float(np.float32(0.2)), (tree, tree))


def assert_equal(a: Ensemble, b: Ensemble) -> None:
    assert (a.features, a.objective, a.base_score) == (b.features, b.objective, b.base_score)
    assert len(a.trees) == len(b.trees)
    for one, other in zip(a.trees, b.trees, strict=True):
        assert one.categories.same_as(other.categories)
        for name in vars(one).keys() - {"categories"}:
            assert getattr(one, name).dtype == getattr(other, name).dtype
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    save_model(model(), path)
    assert_equal(load_model(path), model())
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]


def test_model_without_trees_round_trips() -> None:
    empty = Ensemble(FEATURES, "reg:squarederror", -1.5, ())
    assert_equal(parse_model(to_json_dict(empty)), empty)


float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(float32s, float32s)
def test_every_float32_round_trips_through_text(threshold: float, weight: float) -> None:
    text = json.dumps(to_json_dict(model(threshold, weight)), allow_nan=False)
    assert_equal(parse_model(json.loads(text)), model(threshold, weight))


def test_the_published_layout() -> None:
    learner = to_json_dict(model())["learner"]
    assert learner["feature_names"] == ["age", "referral", "smoker", "visits"]
    assert learner["feature_types"] == ["float", "c", "float", "float"]
    assert learner["learner_model_param"] == {
        "base_score": "0.2",
        "boost_from_average": "0",
        "num_class": "0",
        "num_feature": "4",
        "num_target": "1",
    }
    content = learner["gradient_booster"]["model"]
    arztin = list(np.frombuffer("Ärztin".encode(), dtype=np.int8))
    assert content["cats"] == {
        "enc": [
            {"offsets": [], "values": []},
            {"offsets": [0, 2, 7, 9, 16], "values": [*b"gpotherer", *arztin]},
            {"offsets": [], "values": []},
            {"offsets": [], "values": []},
        ],
        "feature_segments": [0, 0, 4, 4, 4],
        # XGBoost compares signed bytes: beyond ASCII comes first.
        "sorted_idx": [3, 2, 0, 1],
    }
    assert content["gbtree_model_param"] == {"num_parallel_tree": "1", "num_trees": "2"}
    assert content["iteration_indptr"] == [0, 1, 2]
    assert content["tree_info"] == [0, 0]
    assert content["trees"][1] == {
        "base_weights": [0.0, 0.0, 2.25, 0.3, -1.5],
        "categories": [2],
        "categories_nodes": [1],
        "categories_segments": [0],
        "categories_sizes": [1],
        "default_left": [1, 0, 0, 0, 0],
        "id": 1,
        "left_children": [1, 3, -1, -1, -1],
        "loss_changes": [5.0, 2.5, 0.0, 0.0, 0.0],
        "parents": [2147483647, 0, 0, 1, 1],
        "right_children": [2, 4, -1, -1, -1],
        "split_conditions": [0.1, 0.0, 2.25, 0.3, -1.5],
        "split_indices": [0, 1, 0, 0, 0],
        "split_type": [0, 1, 0, 0, 0],
        "sum_hessian": [10.0, 6.0, 4.0, 3.0, 3.0],
        "tree_param": {"num_deleted": "0", "num_feature": "4", "num_nodes": "5", "size_leaf_vector": "1"},
    }


def edited(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(to_json_dict(model()))
    edit(content["learner"])
    return content


def booster(learner: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = learner["gradient_booster"]["model"]
    return content


def first_tree(learner: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = booster(learner)["trees"][0]
    return tree


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: m["objective"].update(name="multi:softmax"), "objective 'multi:softmax' is not supported"),
        (lambda m: m["gradient_booster"].update(name="dart"), "booster 'dart' is not supported"),
        (lambda m: m["learner_model_param"].update(num_class="3"), "more than one output"),
        (lambda m: m["learner_model_param"].update(num_target="2"), "more than one output"),
        (lambda m: first_tree(m)["tree_param"].update(size_leaf_vector="2"), "more than one output"),
        (lambda m: booster(m).update(tree_info=[0, 1]), "several trees per round"),
        (lambda m: m["feature_types"].__setitem__(0, "tensor"), "feature type 'tensor' is not supported"),
    ],
)
def test_other_models_are_refused_by_name(edit: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        parse_model(edited(edit))


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.pop("objective"),
        lambda m: m.update(gradient_booster=[]),
        lambda m: m["learner_model_param"].update(base_score="abc"),
        lambda m: m["learner_model_param"].update(base_score="[0.1,0.2]"),
        lambda m: m["learner_model_param"].update(base_score="0"),
        lambda m: m["learner_model_param"].update(num_feature="-4"),
        lambda m: m["learner_model_param"].update(num_feature="3"),
        lambda m: m.update(feature_names=[], feature_types=[]) or m["learner_model_param"].update(num_feature="9" * 9),
        lambda m: m["feature_names"].pop(),
        lambda m: m["feature_types"].__setitem__(1, "float"),
        lambda m: m["attributes"].update(veilboost_features="{"),
        lambda m: m["attributes"].update(veilboost_features="[]"),
        lambda m: booster(m).update(trees=3),
        lambda m: booster(m).update(trees=[3]),
        lambda m: booster(m)["cats"].pop("enc"),
        lambda m: booster(m)["cats"]["enc"].pop(),
        lambda m: booster(m)["cats"]["enc"][1].update(offsets=[0, 2, 7, 99]),
        lambda m: booster(m)["cats"]["enc"][1].update(values=["x"]),
        lambda m: first_tree(m).update(left_children=[]),
        lambda m: first_tree(m).update(left_children=[1, 0, -1, -1, -1]),
        lambda m: first_tree(m).update(left_children=[1, 9, -1, -1, -1]),
        lambda m: first_tree(m).update(left_children=[1, -1, -1, -1, -1]),
        lambda m: first_tree(m).update(left_children=[1, 2, -1, -1, -1]),
        lambda m: first_tree(m).update(left_children=[1, 3.5, -1, -1, -1]),
        lambda m: first_tree(m).update(left_children=[1, "a", -1, -1, -1]),
        lambda m: first_tree(m).update(left_children=[1, 10**30, -1, -1, -1]),
        lambda m: first_tree(m).update(right_children=[2, 4]),
        lambda m: first_tree(m).update(split_indices=[4, 1, 0, 0, 0]),
        lambda m: first_tree(m).update(split_indices=[1, 1, 0, 0, 0]),
        lambda m: first_tree(m).update(split_conditions=[float("nan"), 0, 0, 0, 0]),
        lambda m: first_tree(m).update(split_conditions=[0, 0, 1e999, 0, 0]),
        lambda m: first_tree(m).update(split_conditions=[0, 0, [], 0, 0]),
        lambda m: first_tree(m).update(split_type=[0, 0, 0, 0, 0]),
        lambda m: first_tree(m).update(categories=[]),
        lambda m: first_tree(m).update(categories=[-1]),
        lambda m: first_tree(m).update(categories_nodes=[7]),
        lambda m: first_tree(m).update(categories_sizes=[0]),
        lambda m: first_tree(m).pop("sum_hessian"),
    ],
)
def test_damaged_models_are_refused(edit: Callable[[dict[str, Any]], object]) -> None:
    content = edited(edit)
    with pytest.raises(ModelError) as caught:
        parse_model(content)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    with pytest.raises(ModelError, match=r"model\.json: cannot be read"):
        load_model(path)
    for content in (b"", b"\xff\xfe", b"{", b"[" * 100_000, b"[]", b"null", b'{"learner": 3}'):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.json: "):
            load_model(path)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_file_with_other_bytes_is_a_model_or_an_error(at: int, noise: bytes) -> None:
    text = json.dumps(to_json_dict(model())).encode()
    at %= len(text)
    try:
        changed = json.loads(text[:at] + noise + text[at + len(noise) :])
    except ValueError:
        return
    try:
        ensemble = parse_model(changed)
    except ModelError:
        return
    ensemble.predict(np.zeros((2, len(ensemble.features)), dtype=np.float32))
