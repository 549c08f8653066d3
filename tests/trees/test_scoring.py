"""Scoring models from files: what is kept, which rounds, what is refused. Parity with XGBoost is in tests/parity."""

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from veilboost.errors import DataError, ModelError
from veilboost.tables.schema import Feature, Kind
from veilboost.trees.ensemble import Ensemble, Tree
from veilboost.trees.links import LINKS, to_base_margins, to_predictions
from veilboost.trees.model_features import FEATURES_ATTRIBUTE
from veilboost.trees.scoring_file import parse_scoring_model, read_scoring_model
from veilboost.trees.xgboost_json import save_model, to_json_dict

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "xgboost_models.json").read_text(encoding="utf-8"))
ROWS = np.array(VECTORS["rows"], dtype=np.float32)
FEATURES = (
    Feature("age", Kind.CONTINUOUS, missing=True),
    Feature("referral", Kind.CATEGORICAL, ("gp", "other", "er"), missing=True),
    Feature("visits", Kind.DISCRETE),
)


def stump(weight: float, feature: int = 0, category: int = -1) -> Tree:
    return Tree.from_complete(1, [True], [feature], [0.5 if category < 0 else 0], [category], [True], [-weight, weight])


def ensemble(objective: Any = "binary:logistic", rounds: int = 4, best: int | None = None) -> Ensemble:
    base: Any = (0.1, -0.2, 0.3) if objective == "multi:softprob" else 0.25
    outputs = 3 if objective == "multi:softprob" else 1
    trees = tuple(stump(2.0**-k, *((1, 2) if k % 2 else (0, -1))) for k in range(rounds * outputs))
    return Ensemble(FEATURES, objective, base, trees, best, None if best is None else 0.5)


def values(rows: int = 200) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.normal(size=rows), rng.integers(0, 5, rows), rng.normal(size=rows)])
    table[rng.random(table.shape) < 0.2] = np.nan
    return table.astype(np.float32)


@pytest.mark.parametrize("record", VECTORS["models"], ids=lambda record: f"{record['xgboost']}-{record['objective']}")
def test_files_of_old_and_new_versions_predict_what_these_versions_predicted(record: dict[str, Any]) -> None:
    data = base64.b64decode(record["ubj"]) if "ubj" in record else json.dumps(record["json"]).encode()
    model = read_scoring_model(data)
    assert model.objective == record["objective"]
    margins = np.array(record["margins"], dtype=np.float32)
    assert model.outputs == margins.shape[1]
    assert model.predict_margin(ROWS) == pytest.approx(margins, rel=1e-6, abs=1e-6)
    assert model.predict(ROWS).ravel() == pytest.approx(np.array(record["predictions"]), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror", "count:poisson", "multi:softprob"])
def test_an_ensemble_and_its_file_score_as_it_predicts(objective: str, tmp_path: Path) -> None:
    ours = ensemble(objective)
    save_model(ours, tmp_path / "model.json")
    for source in (ours, tmp_path / "model.json", str(tmp_path / "model.json")):
        model = read_scoring_model(source)
        assert model.features == FEATURES
        assert model.base_margins.dtype == np.float32 and model.output_of.dtype == np.int32
        margins = model.predict_margin(values())
        assert margins.shape == (200, ours.outputs) and margins.dtype == np.float32
        assert margins.reshape(ours.predict_margin(values()).shape) == pytest.approx(ours.predict_margin(values()))
        assert model.predict(values()) == pytest.approx(ours.predict(values()), abs=1e-6)
        assert np.array_equal(model.leaf_index(values()), ours.leaf_index(values()))


def test_a_model_without_trees_predicts_its_base_score(tmp_path: Path) -> None:
    empty = ensemble(rounds=0)
    save_model(empty, tmp_path / "model.json")
    for source in (empty, tmp_path / "model.json"):
        model = read_scoring_model(source)
        assert model.predict(values()) == pytest.approx(np.full(200, 0.25))
        assert model.leaf_index(values()).shape == (200, 0)


def test_a_table_of_another_width_is_refused() -> None:
    with pytest.raises(DataError, match="3 features"):
        read_scoring_model(ensemble()).predict(values()[:, :2])


@pytest.mark.parametrize("from_file", [True, False])
def test_rounds(from_file: bool) -> None:
    def kept(best: int | None, rounds: tuple[int, int] | None) -> list[float]:
        ours = ensemble(best=best)
        model = parse_scoring_model(to_json_dict(ours), rounds) if from_file else read_scoring_model(ours, rounds)
        assert len(model.trees) == len(model.output_of)
        assert model.best_iteration == best
        return [float(tree.weight[2]) for tree in model.trees]

    assert kept(None, None) == kept(1, (0, 0)) == kept(None, (0, 4)) == [1, 0.5, 0.25, 0.125]
    assert kept(1, None) == kept(None, (0, 2)) == [1, 0.5]
    assert kept(None, (1, 3)) == [0.5, 0.25]
    assert kept(1, (2, 0)) == [0.25, 0.125]
    assert kept(None, (1, 1)) == []
    for wrong in ((0, 5), (3, 2), (-1, 2), (0, -1), (5, 0)):
        with pytest.raises(ModelError, match="outside the 4 rounds"):
            kept(None, wrong)
    with pytest.raises(ModelError, match="best_iteration 7 lies outside"):
        kept(7, None)


def edited(edit: Callable[[dict[str, Any]], object], objective: str = "binary:logistic") -> dict[str, Any]:
    content = copy.deepcopy(to_json_dict(ensemble(objective)))
    edit(content["learner"])
    return content


def content_of(learner: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = learner["gradient_booster"]["model"]
    return content


def as_of_version_1_1(learner: dict[str, Any]) -> None:
    """Without what younger versions write."""
    del learner["feature_names"], learner["feature_types"], learner["attributes"]
    del content_of(learner)["iteration_indptr"], content_of(learner)["cats"]
    content_of(learner)["gbtree_model_param"] = {"num_trees": "4", "size_leaf_vector": "0"}
    for name in ("num_target", "boost_from_average"):
        del learner["learner_model_param"][name]


def test_rounds_of_files_that_do_not_tell_them_apart() -> None:
    old = edited(as_of_version_1_1)
    assert len(parse_scoring_model(old).trees) == 4
    assert [feature.name for feature in parse_scoring_model(old).features] == ["f0", "f1", "f2"]
    with pytest.raises(ModelError, match="how many trees a round has"):
        parse_scoring_model(old, (0, 1))
    old["learner"]["attributes"] = {"best_iteration": "0"}
    with pytest.raises(ModelError, match="how many trees a round has"):
        parse_scoring_model(old)
    old["learner"]["attributes"]["best_ntree_limit"] = "2"
    assert len(parse_scoring_model(old).trees) == 2
    content_of(old["learner"])["gbtree_model_param"]["num_parallel_tree"] = "4"
    assert len(parse_scoring_model(old).trees) == 4


def test_a_column_is_categorical_by_its_splits_where_the_file_names_no_types() -> None:
    model = parse_scoring_model(edited(as_of_version_1_1))
    assert [feature.kind for feature in model.features] == [Kind.CONTINUOUS, Kind.CATEGORICAL, Kind.CONTINUOUS]
    assert model.features[1].levels == ()
    assert np.array_equal(model.predict(values()), read_scoring_model(ensemble()).predict(values()))


@pytest.mark.parametrize(
    ("encoding", "levels"),
    [
        ({"type": 15, "values": [3, 7, 1000]}, ("3", "7", "1000")),
        ({"offsets": [0, 1, 3], "values": [98, 97, 99]}, ("b", "ac")),
        ({"offsets": [0, 1, 2], "values": [98, -61]}, ()),  # XGBoost 3.2 kept one byte of two of "Ä"
        ({"offsets": [0, 2, 4], "values": [-61, -124, -61, -124]}, ()),  # and here of "Äa" and "Äb" both "Ä"
        ({"offsets": [0, 2, 3], "values": [-61, -124, 98]}, ()),  # "Ä", or "Äa"?
    ],
)
def test_levels_of_files_of_others(encoding: dict[str, Any], levels: tuple[str, ...]) -> None:
    def edit(learner: dict[str, Any]) -> None:
        del learner["attributes"][FEATURES_ATTRIBUTE]
        content_of(learner)["cats"]["enc"][1] = encoding

    assert parse_scoring_model(edited(edit)).features[1].levels == levels


def test_levels_of_our_own_files_are_complete() -> None:
    encoding = {"offsets": [0, 2, 3], "values": [-61, -124, 98]}
    model = parse_scoring_model(edited(lambda m: content_of(m)["cats"]["enc"].__setitem__(1, encoding)))
    assert model.features[1].levels == ("Ä", "b")


@pytest.mark.parametrize("written", ["2.5E-1", "[2.5E-1]", "0.250000", " 0.25", "[ 2.5e-01 ]"])
def test_notations_of_a_base_score(written: str) -> None:
    model = parse_scoring_model(edited(lambda m: m["learner_model_param"].update(base_score=written)))
    assert model.base_margins == pytest.approx(np.log([1 / 3]))


def test_base_margins_and_predictions_of_every_objective() -> None:
    scores = np.array([0.25], dtype=np.float32)
    margins = np.array([[-100.0], [-1.0], [0.0], [2.0], [100.0]], dtype=np.float32)
    for objective, link in LINKS.items():
        base, predictions = to_base_margins(objective, scores), to_predictions(objective, margins)
        assert base.dtype == predictions.dtype == np.float32
        assert predictions.shape == (5,)
        assert base == pytest.approx({"logistic": np.log(1 / 3), "exponential": np.log(0.25)}.get(link, 0.25), rel=1e-6)
    assert to_base_margins("binary:logistic", np.array([0, 1], dtype=np.float32)) == pytest.approx(
        [-13.81551, 13.74516], rel=1e-6
    )
    three = np.array([[1, 3, 3], [2, 1, 0]], dtype=np.float32)
    assert to_predictions("multi:softmax", three).tolist() == [1, 0]
    assert to_predictions("multi:softprob", three).sum(axis=1) == pytest.approx([1, 1])
    assert np.array_equal(to_predictions("reg:quantileerror", three), three)
    assert to_predictions("binary:hinge", margins).tolist() == [0, 0, 0, 1, 1]
    assert to_predictions("reg:gamma", margins)[-1] == np.inf


REFUSED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda m: m["objective"].update(name="reg:expectileerror"), "objective 'reg:expectileerror' is not supported"),
    (lambda m: m["objective"].update(name=["x"]), "objective .* is not supported"),
    (lambda m: m["gradient_booster"].update(name="gblinear"), "booster 'gblinear' is not supported"),
    (lambda m: content_of(m)["trees"][0]["tree_param"].update(size_leaf_vector="2"), "tree 0: vector leaves"),
    (lambda m: content_of(m)["trees"][1].update(leaf_weights=[]), "tree 1: vector leaves"),
    (lambda m: content_of(m)["trees"][1].update(tree_param=[]), "tree 1: damaged: tree_param"),
    (lambda m: content_of(m)["trees"].__setitem__(1, 3), "tree 1: damaged"),
    (lambda m: m["feature_types"].__setitem__(0, "tensor"), "feature type 'tensor' is not supported"),
    (lambda m: m["feature_names"].__setitem__(1, "age"), "two features have one name"),
    (lambda m: m["feature_types"].__setitem__(1, "float") or m.pop("attributes"), "does not fit its column's"),
    (lambda m: m["learner_model_param"].update(num_class="2", num_target="2"), "do not belong together"),
    (lambda m: m["learner_model_param"].update(num_class="9" * 9), "do not belong together"),
    (lambda m: m["objective"].update(name="multi:softmax"), "do not belong together"),
    (lambda m: m["learner_model_param"].update(base_score="[0.1,0.2]"), "too few or too many"),
    *((lambda m, s=score: m["learner_model_param"].update(base_score=s), "base_score is") for score in
      ("", "[]", "nan", "1_0", "0x1", "-1", "2", "1e999", None)),
    (lambda m: content_of(m).update(tree_info=[0, 0, 0, 1]), "damaged: tree_info"),
    (lambda m: content_of(m).update(tree_info=[0]), "damaged: tree_info"),
    (lambda m: content_of(m).update(iteration_indptr=[0, 2, 1, 4]), "damaged: iteration_indptr"),
    (lambda m: content_of(m).update(iteration_indptr=[]), "damaged: iteration_indptr"),
    (lambda m: m["attributes"].update(best_iteration="-1"), "damaged: attribute best_iteration"),
    (lambda m: m.update(attributes=3), "attributes"),
    (lambda m: m.update(gradient_booster={"name": "dart", "gbtree": m["gradient_booster"], "weight_drop": [1]}),
     "damaged: weight_drop"),
    (lambda m: m.update(gradient_booster={"name": "dart", "gbtree": m["gradient_booster"], "weight_drop": [1e39] * 4}),
     "damaged: weight_drop"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "words"), REFUSED)
def test_other_and_damaged_models_are_refused_by_name(edit: Callable[[dict[str, Any]], object], words: str) -> None:
    content = edited(edit)
    with pytest.raises(ModelError, match=words) as caught:
        parse_scoring_model(content)
    assert "\n" not in str(caught.value)


def test_logitraw_of_versions_that_read_its_base_score_otherwise_is_refused() -> None:
    content = edited(lambda m: m["objective"].update(name="binary:logitraw"))
    assert parse_scoring_model(content).base_margins == pytest.approx([0.25])
    content["version"] = [1, 5, 2]
    with pytest.raises(ModelError, match=r"binary:logitraw.* before 1\.6"):
        parse_scoring_model(content)


def test_sources_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.ubj: cannot be read"):
        read_scoring_model(tmp_path / "model.ubj")
    for data in (b"", b"binf\x00\x00", b"bs64", b"\x00\x00\x00\x3f", b"{", b'{"', b"[]", b'{"a":' * 100_000, b"{}"):
        (tmp_path / "model.ubj").write_bytes(data)
        for source in (data, tmp_path / "model.ubj"):
            with pytest.raises(ModelError):
                read_scoring_model(source)
    with pytest.raises(ModelError, match="binary format"):
        read_scoring_model(b"binf")
    wrong: Any = 3
    with pytest.raises(ModelError, match="int is no model"):
        read_scoring_model(wrong)


def test_estimators_that_have_an_ensemble() -> None:
    class Estimator:
        ensemble_ = ensemble()

    model = read_scoring_model(Estimator())  # type: ignore[arg-type]
    np.testing.assert_array_equal(model.predict(values()), read_scoring_model(ensemble()).predict(values()))
