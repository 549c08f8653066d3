import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from veilboost.errors import JobError
from veilboost.jobs.entries import Address
from veilboost.jobs.spec import job_from_dict, job_to_toml, load_job
from veilboost.tables.schema import Feature, Kind
from veilboost.tables.table import LabelSpec

TEXT = """# a comment: the hash is of the bytes
[job]
name = "ms-diagnosis"
method = "smpc"
analyst = "university"
[model]
objective = "binary:logistic"
n_estimators = 20
max_depth = 4
eta = 0.25
[data]
label = "ms"
[[feature]]
name = "age"
kind = "continuous"
[[feature]]
name = "prior drugs"
kind = "discrete"
missing = true
[[feature]]
name = "referral"
kind = "categorical"
levels = ["gp", "er", "other"]
[[party]]
name = "north"
address = "127.0.0.1:7101"
columns = ["referral", "age", "ms"]
[[party]]
name = "insurer"
address = "127.0.0.1:7102"
columns = ["prior drugs"]
[dealer]
address = "127.0.0.1:7100"
"""


def tables() -> dict[str, Any]:
    return {
        "job": {"name": "ms-diagnosis", "method": "smpc", "analyst": "university"},
        "model": {"objective": "binary:logistic", "n_estimators": 20, "max_depth": 4, "learning_rate": 0.25},
        "data": {"label": "ms"},
        "feature": [
            {"name": "age", "kind": "continuous"},
            {"name": "prior drugs", "kind": "discrete", "missing": True},
            {"name": "referral", "kind": "categorical", "levels": ["gp", "er", "other"]},
        ],
        "party": [
            {"name": "north", "address": "127.0.0.1:7101", "columns": ["referral", "age", "ms"]},
            {"name": "insurer", "address": "127.0.0.1:7102", "columns": ["prior drugs"]},
        ],
        "dealer": {"address": "127.0.0.1:7100"},
    }


def regression() -> dict[str, Any]:
    given = tables()
    given["model"] = {"objective": "reg:squarederror"}
    given["data"] = {"label": "ms", "label_range": [0, 500]}
    return given


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "job.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_load_job(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, TEXT))
    assert (job.name, job.method, job.analyst) == ("ms-diagnosis", "smpc", "university")
    assert job.parameters.n_estimators == 20 and job.parameters.learning_rate == 0.25
    assert job.features == (
        Feature("age", Kind.CONTINUOUS),
        Feature("prior drugs", Kind.DISCRETE, missing=True),
        Feature("referral", Kind.CATEGORICAL, ("gp", "er", "other")),
    )
    assert job.party_names == ("north", "insurer")
    assert job.roles == ("north", "insurer", "dealer", "university")
    assert job.label_holders == ("north",)
    assert job.label_spec == LabelSpec("ms", "binary:logistic", None)
    assert job.holders_of("prior drugs") == job.holders_of(job.features[1]) == ("insurer",)
    assert [feature.name for feature in job.features_of("north")] == ["age", "referral"]
    assert job.features_of(job.parties[1]) == (job.features[1],)
    assert job.party("insurer").address == Address(host="127.0.0.1", port=7102)
    assert (job.dealer.host, job.dealer.port, str(job.dealer)) == ("127.0.0.1", 7100, "127.0.0.1:7100")
    for wrong in (job.holders_of, job.features_of, job.party):
        with pytest.raises(KeyError):
            wrong("nobody")


def test_hash_is_of_the_bytes(tmp_path: Path) -> None:
    assert load_job(write(tmp_path, TEXT)).job_hash() == hashlib.sha256(TEXT.encode()).digest()
    with_mark = b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()
    changed = load_job(write(tmp_path, with_mark))
    assert changed.job_hash() == hashlib.sha256(with_mark).digest()
    assert changed.model_dump() == job_from_dict(tables()).model_dump()


def test_job_is_frozen() -> None:
    job = job_from_dict(tables())
    with pytest.raises(ValidationError):
        job.name = "other"
    with pytest.raises(ValidationError):
        job.parties[0].name = "other"


def constrained() -> dict[str, Any]:
    given = tables()
    given["model"]["monotone_constraints"] = {"age": 1, "prior drugs": -1}
    return given


@pytest.mark.parametrize("make", [tables, regression, constrained])
def test_round_trip(make: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    job = job_from_dict(make())
    again = load_job(write(tmp_path, job_to_toml(job)))
    assert again == job
    assert again.job_hash() == job.job_hash()


label = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="[]<"), min_size=1, max_size=20)


@settings(max_examples=50)
@given(
    names=st.lists(label, min_size=2, max_size=6, unique=True),
    levels=st.lists(label, min_size=1, max_size=5, unique=True),
    rate=st.floats(0.001, 1),
    low=st.floats(-1e300, 1e300),
)
def test_round_trip_of_any_text(
    names: list[str], levels: list[str], rate: float, low: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given_tables = regression()
    given_tables["model"]["subsample"] = rate
    given_tables["data"] = {"label": names[0], "label_range": [low, 1e301]}
    given_tables["feature"] = [{"name": name, "kind": "categorical", "levels": levels} for name in names[1:]]
    given_tables["party"][0]["columns"] = names[:1]
    given_tables["party"][1]["columns"] = names[1:]
    job = job_from_dict(given_tables)
    assert load_job(write(tmp_path_factory.getbasetemp(), job_to_toml(job))) == job


def test_analyst_may_be_a_party() -> None:
    given = tables()
    given["job"]["analyst"] = "insurer"
    assert job_from_dict(given).roles == ("north", "insurer", "dealer")


def test_a_party_may_hold_the_label_alone_and_model_may_be_left_out() -> None:
    given = tables()
    given["party"][0]["columns"] = ["ms"]
    given["party"][1]["columns"] = ["age", "prior drugs", "referral"]
    del given["model"]
    job = job_from_dict(given)
    assert job.features_of("north") == ()
    assert job.parameters.max_depth == 6


def test_many_parties() -> None:
    given = tables()
    for extra in range(62):
        name = f"x{extra}"
        given["feature"].append({"name": name, "kind": "flag"})
        given["party"].append({"name": name, "address": f"127.0.0.1:{8000 + extra}", "columns": [name]})
    assert len(job_from_dict(given).parties) == 64
    given["feature"].append({"name": "y", "kind": "flag"})
    given["party"].append({"name": "y", "address": "127.0.0.1:9000", "columns": ["y"]})
    with pytest.raises(JobError, match=r"there are 65 .* at most 64"):
        job_from_dict(given)


Change = Callable[[dict[str, Any]], object]

BAD: list[tuple[Change, str, str]] = [
    (lambda t: t.update(modle={}), "unknown table 'modle'", "did you mean 'model'?"),
    (
        lambda t: t.update(aggregator=[]),
        "[[aggregator]]",
        'is not used by smpc: remove it, or write method = "federated"',
    ),
    (lambda t: t.update(federated={}), "[federated]", 'is not used by smpc: remove it, or write method = "federated"'),
    (lambda t: t["job"].update(analyst="courier"), "[job], key 'analyst'", "reserved"),
    (lambda t: t.pop("job"), "[job]", "missing"),
    (lambda t: t.pop("data"), "[data]", "missing"),
    (lambda t: t.pop("feature"), "[[feature]]", "missing"),
    (lambda t: t.pop("party"), "[[party]]", "missing"),
    (lambda t: t.pop("dealer"), "[dealer]", "missing"),
    (lambda t: t.update(job="x"), "[job]", "must be a table"),
    (lambda t: t.update(model=[]), "[model]", "must be a table"),
    (lambda t: t.update(feature={}), "[[feature]]", "double square brackets"),
    (lambda t: t.update(feature=[]), "[[feature]]", "is empty"),
    (lambda t: t["party"].append(3), "[[party]] number 3", "must be a table"),
    (lambda t: t["job"].update(analist="x"), "[job]", "unknown key 'analist': did you mean 'analyst'?"),
    (lambda t: t["job"].pop("analyst"), "[job], key 'analyst'", "missing"),
    (lambda t: t["job"].update(analyst=3), "[job], key 'analyst'", "text in double quotes"),
    (lambda t: t["job"].update(analyst="a b"), "[job], key 'analyst'", "1 to 64 letters"),
    (lambda t: t["job"].update(analyst="dealer"), "[job], key 'analyst'", "reserved"),
    (lambda t: t["job"].update(analyst="North"), "[job], key 'analyst'", "capitals"),
    (lambda t: t["job"].update(name=""), "[job], key 'name'", "1 to 200"),
    (lambda t: t["job"].update(name="a\nb"), "[job], key 'name'", "printable"),
    (lambda t: t["job"].update(method="federated"), "[[party]] 'north'", "'prior drugs' is missing: all parties of a"),
    (lambda t: t["job"].update(method="mpc"), "[job], key 'method'", 'must be "smpc" or "federated"'),
    (lambda t: t["model"].update(max_dept=3), "[model]", "did you mean max_depth?"),
    (lambda t: t["model"].update(max_depth=30), "[model]", "1 to 10"),
    (lambda t: t["model"].update(monotone_constraints={"agee": 1}), "monotone_constraints", "no [[feature]] 'agee'"),
    (lambda t: t["model"].update(monotone_constraints={"referral": 1}), "monotone_constraints", "is categorical"),
    (lambda t: t["model"].update(monotone_constraints={"age": 2}), "monotone_constraints", "-1, 0 or 1"),
    (lambda t: t["model"].update(monotone_constraints=[1, 0]), "monotone_constraints", "names of numeric features"),
    (lambda t: t["data"].update(id="ms"), "[data], key 'id'", "'ms' is the label too"),
    (lambda t: t["data"].update(id="age"), "[data], key 'id'", "'age' is a [[feature]] too"),
    (lambda t: t["data"].update(join="left"), "[data], key 'join'", "name its column with id"),
    (lambda t: t["data"].update(id="patient", join="outer"), "[data], key 'join'", "must be"),
    (lambda t: t["data"].update(weight="w"), "[data], key 'weight_range'", "is missing"),
    (lambda t: t["data"].update(weight="w", weight_range=[0, 1]), "[data], key 'weight'", "no party has 'w'"),
    (lambda t: t["data"].update(weight="age", weight_range=[0, 1]), "[data], key 'weight'", "is a [[feature]] too"),
    (lambda t: t["data"].update(weight="w", weight_range=[-1, 1]), "[data], key 'weight_range'", "of at least 0"),
    (lambda t: t["data"].update(weight_range=[0, 1]), "[data], key 'weight_range'", "has no meaning without weight"),
    (lambda t: t["data"].update(lable="ms"), "[data]", "unknown key 'lable': did you mean 'label'?"),
    (lambda t: t["data"].pop("label"), "[data], key 'label'", "missing"),
    (lambda t: t["data"].update(label="age"), "[data], key 'label'", "is a [[feature]] too"),
    (lambda t: t["party"][0].update(columns=["referral", "age"]), "[data], key 'label'", "no party has 'ms'"),
    (lambda t: t["data"].update(label="sm"), "[data], key 'label'", "no party has 'sm' in its columns: check the name"),
    (lambda t: t["data"].update(label_range=[0, 1]), "[data], key 'label_range'", "remove it"),
    (lambda t: t["model"].update(objective="reg:squarederror"), "[data], key 'label_range'", "is missing"),
    (lambda t: t["feature"][0].update(kind="number"), "[[feature]] 'age', key 'kind'", "continuous, discrete"),
    (lambda t: t["feature"][0].update(kind="flags"), "[[feature]] 'age', key 'kind'", "did you mean 'flag'?"),
    (lambda t: t["feature"][0].pop("kind"), "[[feature]] 'age', key 'kind'", "missing"),
    (lambda t: t["feature"][0].pop("name"), "[[feature]] number 1, key 'name'", "missing"),
    (lambda t: t["feature"][0].update(missing="yes"), "[[feature]] 'age', key 'missing'", "true or false"),
    (lambda t: t["feature"][0].update(missing=1), "[[feature]] 'age', key 'missing'", "true or false"),
    (lambda t: t["feature"][0].update(name="a<b"), "[[feature]] 'a<b', key 'name'", "XGBoost"),
    (lambda t: t["feature"][0].update(name=" age"), "[[feature]] ' age', key 'name'", "blanks"),
    (lambda t: t["feature"][0].update(name="x" * 65), "[[feature]] number 1, key 'name'", "1 to 64"),
    (lambda t: t["feature"][0].update(name="a\tb"), "[[feature]] number 1, key 'name'", "printable"),
    (lambda t: t["feature"][1].update(name="age"), "[[feature]] 'age', key 'name'", "two of that name"),
    (lambda t: t["feature"][0].update(levels=["a"]), "[[feature]] 'age', key 'levels'", "continuous column has none"),
    (lambda t: t["feature"][2].pop("levels"), "[[feature]] 'referral', key 'levels'", "missing"),
    (lambda t: t["feature"][2].update(levels=[]), "[[feature]] 'referral', key 'levels'", "empty"),
    (lambda t: t["feature"][2].update(levels="gp"), "[[feature]] 'referral', key 'levels'", "must be a list"),
    (lambda t: t["feature"][2].update(levels=["gp", 3]), "key 'levels'", "entry 2 must be text in double quotes"),
    (lambda t: t["feature"][2].update(levels=["gp", ""]), "key 'levels'", "not empty"),
    (lambda t: t["feature"][2].update(levels=["gp", " er"]), "key 'levels'", "blanks around"),
    (lambda t: t["feature"][2].update(levels=["gp", "er", "gp"]), "key 'levels'", "'gp' is there twice"),
    (lambda t: t["feature"][2].update(levels=[str(n) for n in range(4097)]), "key 'levels'", "at most 4096"),
    (lambda t: t["feature"].append({"name": "bmi", "kind": "flag"}), "[[feature]] 'bmi'", "no party has it"),
    (lambda t: t["party"].pop(), "[[party]]", "two data owners are the least"),
    (lambda t: t["party"][0].update(name="dealer"), "[[party]] 'dealer', key 'name'", "reserved"),
    (lambda t: t["party"][0].update(name="ca"), "[[party]] 'ca', key 'name'", "reserved"),
    (lambda t: t["party"][0].update(name="nörd"), "[[party]] 'nörd', key 'name'", "1 to 64 letters"),
    (lambda t: t["party"][0].update(name="../x"), "[[party]] '../x', key 'name'", "1 to 64 letters"),
    (lambda t: t["party"][0].update(name=""), "[[party]] number 1, key 'name'", "1 to 64 letters"),
    (lambda t: t["party"][1].update(name="north"), "[[party]] 'north', key 'name'", "another party has that name"),
    (lambda t: t["party"][1].update(name="NORTH"), "[[party]] 'NORTH', key 'name'", "capitals"),
    (lambda t: t["party"][1].update(adress="x:1"), "[[party]] 'insurer'", "did you mean 'address'?"),
    (lambda t: t["party"][1].pop("address"), "[[party]] 'insurer', key 'address'", "missing"),
    (lambda t: t["party"][1].update(address="127.0.0.1:7101"), "[[party]] 'insurer', key 'address'", "'north' too"),
    (lambda t: t["party"][1].update(address="localhost:7100"), "[[party]] 'insurer', key 'address'", "dealer too"),
    (lambda t: t["party"][0].update(columns=[]), "[[party]] 'north', key 'columns'", "empty"),
    (lambda t: t["party"][0].update(columns="age"), "[[party]] 'north', key 'columns'", "must be a list"),
    (lambda t: t["party"][0]["columns"].append("age"), "[[party]] 'north', key 'columns'", "'age' is listed twice"),
    (lambda t: t["party"][0]["columns"].append("bmi"), "[[party]] 'north', key 'columns'", "neither the label nor"),
    (lambda t: t["party"][1]["columns"].append("age"), "[[party]] 'north', key 'columns'", "'age' is also at insurer"),
    (lambda t: t["party"][1]["columns"].append("ms"), "[[party]] 'north', key 'columns'", "'ms' is also at insurer"),
    (lambda t: t["dealer"].update(port=1), "[dealer]", "unknown key 'port'"),
]


@pytest.mark.parametrize(("change", "where", "why"), BAD)
def test_bad_job(change: Change, where: str, why: str) -> None:
    given = copy.deepcopy(tables())
    change(given)
    with pytest.raises(JobError) as refused:
        job_from_dict(given)
    message = str(refused.value)
    assert message.startswith("job: ") and "\n" not in message
    assert where in message and why in message


@pytest.mark.parametrize(
    "bad", [[0], [0, 1, 2], [1, 1], [2, 1], [0, float("inf")], [float("nan"), 1], ["0", "1"], [False, True], 5]
)
def test_bad_label_range(bad: Any) -> None:
    given = regression()
    given["data"]["label_range"] = bad
    with pytest.raises(JobError, match=r"^job: \[data\], key 'label_range': .*$"):
        job_from_dict(given)


@pytest.mark.parametrize(
    "address",
    [
        7101,
        "",
        "7101",
        "127.0.0.1",
        ":7101",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "h:7 1",
        "h:1e3",
        "h:٣",
        "a b:1",
        "::1:7101",
        "[::1:1",
        "[127.0.0.1]:1",
        "300.1.1.1:1",
        "0.0.0.0:1",
        "[::]:1",
        "http://h:1",
    ],
)
def test_bad_address(address: object) -> None:
    given = tables()
    given["party"][0]["address"] = address
    with pytest.raises(JobError, match=r"^job: \[\[party\]\] 'north', key 'address': .*$"):
        job_from_dict(given)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("[::1]:7101", "::1", 7101), ("node-1.example.org:1", "node-1.example.org", 1), ("db_1:65535", "db_1", 65535)],
)
def test_good_address(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, str(address)) == (host, port, text)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (TEXT.replace('name = "north"', "name = north"), "line 25"),
        (TEXT + "[job]\n", "line 34"),
        (TEXT + 'x = "', "line 34"),
        (TEXT.encode().replace(b"other", b"\xe9"), "line 23 is not UTF-8"),
        (b"x = " + b"[" * 100_000, "nested too deeply|not valid TOML"),
        (b"", r"\[job\] is missing"),
    ],
)
def test_bad_file(content: str | bytes, why: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(JobError, match=why) as refused:
        load_job(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


def test_bad_path(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no such job file"):
        load_job(tmp_path / "none.toml")
    with pytest.raises(JobError, match="is a directory"):
        load_job(tmp_path)
    with pytest.raises(JobError, match="cannot be read"):
        load_job(str(tmp_path / ("x" * 300)))


def test_two_jobs_differ_in_their_hash() -> None:
    one, other = job_from_dict(tables()), job_from_dict(regression())
    assert len(one.job_hash()) == 32
    assert one.job_hash() != other.job_hash()
    assert one.job_hash() == job_from_dict(tables()).job_hash()
