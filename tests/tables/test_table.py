import csv
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilboost.errors import DataError
from veilboost.tables.schema import Feature, Kind
from veilboost.tables.table import LabelSpec, WeightSpec, encode_frame, load_table

AGE = Feature("age", Kind.CONTINUOUS)
VISITS = Feature("visits", Kind.DISCRETE, missing=True)
SMOKER = Feature("smoker", Kind.FLAG, missing=True)
REFERRAL = Feature("referral", Kind.CATEGORICAL, ("gp", "er", "3"), missing=True)
FEATURES = (AGE, VISITS, SMOKER, REFERRAL)
MS = LabelSpec("ms", "binary:logistic")
COST = LabelSpec("cost", "reg:squarederror", (0.0, 500.0))

GOOD = """age,note,visits,smoker,referral,ms,cost
41.5,x,3, YES ,gp,1,10
-0.0,"a, b",,f, er ,false,500
1e3,,NaN,1.0,3.0,t,0.25
 7 ,"say ""no""
twice",2,,,No,3
"""


def as_polars(text: str) -> pl.DataFrame:
    return pl.read_csv(BytesIO(text.encode()))


def as_pandas(text: str) -> pd.DataFrame:
    return pd.read_csv(BytesIO(text.encode()))


def as_bytes(text: str) -> BytesIO:
    return BytesIO(text.encode())


def as_parquet(text: str) -> BytesIO:
    buffer = BytesIO()
    as_polars(text).write_parquet(buffer)
    return buffer


@pytest.mark.parametrize("source", [as_bytes, as_polars, as_pandas, as_parquet])
def test_all_sources_give_the_same_table(source: Callable[[str], Any]) -> None:
    table = load_table(source(GOOD), features=FEATURES, label=MS)
    nan = np.nan
    assert table.rows == 4
    assert table.features == FEATURES
    for name, wanted in {
        "age": [41.5, 0, 1000, 7],
        "visits": [3, nan, nan, 2],
        "smoker": [1, 0, 1, nan],
        "referral": [0, 1, 2, nan],
    }.items():
        assert table.values(name).dtype == np.float32
        np.testing.assert_array_equal(table.values(name), wanted)
    assert table.label is not None and table.label.dtype == np.float64
    np.testing.assert_array_equal(table.label, [1, 0, 1, 0])
    cost = load_table(source(GOOD), features=(), label=COST)
    assert cost.label is not None
    np.testing.assert_array_equal(cost.label, [10, 500, 0.25, 3])


def test_files_of_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "data[1]*.txt"
    odd.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_table(odd, features=FEATURES, label=MS).rows == 4
    parquet = tmp_path / "year=2020[x].data"
    as_polars(GOOD).write_parquet(parquet)
    assert load_table(str(parquet), features=FEATURES, label=MS).rows == 4


def test_columns_not_listed_cannot_break_reading() -> None:
    rows = [
        b"age,free text,free text,free text_duplicated_0,,smoker",
        b'1,5" pipe,\xe9\xff,"a\n,""b",,1',
        b"2,,#,inf,x,0",
        b'3,6" pipe,",,",,,1',
    ]
    table = load_table(BytesIO(b"\n".join(rows)), features=(AGE, SMOKER))
    np.testing.assert_array_equal(table.values("age"), [1, 2, 3])
    np.testing.assert_array_equal(table.values("smoker"), [1, 0, 1])
    frame = pl.DataFrame({"age": [1.0], "list": [[1, 2]], "object": [b"x"]})
    assert load_table(frame, features=(AGE,)).rows == 1


def test_frames_of_many_types() -> None:
    options: list[Any] = [
        pd.Series([1, 0, None], dtype="Int64"),
        pd.Series([True, False, None], dtype="boolean"),
        pd.Series([True, False, None], dtype=object),
        pd.Series(["yes", "NO", pd.NA], dtype="string"),
        pd.Series(["1", "0", None], dtype="category"),
        pd.Series([1.0, 0.0, np.nan]),
    ]
    for series in options:
        table = load_table(pd.DataFrame({"smoker": series}), features=(SMOKER,))
        np.testing.assert_array_equal(table.values("smoker"), [1, 0, np.nan])
    for dtype in (pl.Int8, pl.UInt64, pl.Float32, pl.Decimal(10, 2), pl.Boolean):
        cells = pl.Series("smoker", [1, 0, None]).cast(dtype)
        np.testing.assert_array_equal(load_table(cells.to_frame(), features=(SMOKER,)).values("smoker"), [1, 0, np.nan])
    texts = pl.Series("referral", ["er", None, "gp"])
    for text_type in (pl.Categorical, pl.Enum(["gp", "er"])):
        table = load_table(texts.cast(text_type).to_frame(), features=(REFERRAL,))
        np.testing.assert_array_equal(table.values("referral"), [1, np.nan, 0])
    nothing = pl.DataFrame({name: [None, None] for name in ("visits", "smoker", "referral")})
    for feature in (VISITS, SMOKER, REFERRAL):
        assert np.isnan(load_table(nothing, features=(feature,)).values(feature.name)).all()


@pytest.mark.parametrize(
    ("levels", "cells", "codes"),
    [
        (("3", "10"), [3.0, 10.0, None], [0, 1, np.nan]),
        (("3", "10"), [3, 10, 4], [0, 1, -1]),
        (("3.0", "3"), ["3", "3.0", "3.00"], [1, 0, 1]),
        (("3.0", "x"), [3, 3, None], [0, 0, np.nan]),
        (("2.5", "1"), [2.5, 1.0, float("nan")], [0, 1, np.nan]),
        (("01", "1"), ["01", "1", "001"], [0, 1, -1]),
        (("true", "false"), [True, False, None], [0, 1, np.nan]),
        (("False", "True"), [True, False, None], [1, 0, np.nan]),
        (("NaN", "b"), ["NaN", "nan", "b"], [0, np.nan, 1]),
        (("gp", "er"), ["GP", " gp\t", "  "], [-1, 0, np.nan]),
    ],
)
def test_levels(levels: tuple[str, ...], cells: list[Any], codes: list[float]) -> None:
    feature = Feature("c", Kind.CATEGORICAL, levels)
    polars = pl.DataFrame({"c": cells})
    frames = [polars, pd.DataFrame({"c": cells}), BytesIO(polars.write_csv().encode())]
    for frame in frames:
        np.testing.assert_array_equal(encode_frame(frame, [feature])[:, 0], codes)


# Every bad cell holds a value that the message must not repeat: "zqx" or 777.
BAD_CELLS = [
    (AGE, ["1", "2", "zqx"], "row 3, column 'age'", "not a number"),
    (AGE, ["1", "7,77", "2"], "row 2, column 'age'", "not a number"),
    (AGE, ["1", "true", "2"], "row 2, column 'age'", "not a number"),
    (AGE, ["1", "777_777", "2"], "row 2, column 'age'", "not a number"),
    (AGE, ["inf", "2", "3"], "row 1, column 'age'", "infinite"),
    (AGE, ["2", "-Infinity", "3"], "row 2, column 'age'", "infinite"),
    (AGE, ["2", "3", "777e77"], "row 3, column 'age'", "beyond the range of float32"),
    (AGE, ["2", "3.4028234663852886e38", "3"], "row 2, column 'age'", "beyond the range of float32"),
    (AGE, ["2", "-3.4028235e38", "3"], "row 2, column 'age'", "beyond the range of float32"),
    (AGE, ["2", "", "3"], "row 2, column 'age'", "missing = true"),
    (AGE, ["2", "  ", "3"], "row 2, column 'age'", "missing = true"),
    (AGE, ["2", "3", "NaN"], "row 3, column 'age'", "missing = true"),
    (SMOKER, ["1", "0", "777"], "row 3, column 'smoker'", "true/false"),
    (SMOKER, ["1", "zqx", "0"], "row 2, column 'smoker'", "true/false"),
    (SMOKER, ["inf", "yes", "0"], "row 1, column 'smoker'", "true/false"),
    (REFERRAL, ["gp", "gp", "zqx"], "row 3, column 'referral'", "job file"),
    (REFERRAL, ["GP", "gp", "gp"], "row 1, column 'referral'", "job file"),
]


@pytest.mark.parametrize("source", ["csv", "polars", "pandas"])
@pytest.mark.parametrize(("feature", "cells", "where", "why"), BAD_CELLS)
def test_bad_cells_are_named_by_row_and_column(
    feature: Feature, cells: list[str], where: str, why: str, source: str
) -> None:
    frame = pl.DataFrame({"other": [1, 2, 3], feature.name: cells})
    given: Any = {
        "csv": BytesIO(frame.write_csv().encode()),
        "polars": frame,
        "pandas": pd.DataFrame(frame.to_dict(as_series=False)),
    }[source]
    with pytest.raises(DataError) as refused:
        load_table(given, features=(feature,), name_for_errors="north.csv")
    message = str(refused.value)
    assert message.startswith(f"north.csv: {where}: ")
    assert why in message
    assert "\n" not in message
    for secret in ("zqx", "777", "7,77", "GP", "3.4028", "e38", "Infinity"):
        assert secret not in message


@pytest.mark.parametrize(
    ("label", "cells", "where", "why"),
    [
        (MS, [1, 0, 777], "row 3, column 'ms'", "not a flag"),
        (MS, ["1", "0", "zqx"], "row 3, column 'ms'", "not a flag"),
        (MS, ["1", None, "0"], "row 2, column 'ms'", "empty"),
        (MS, [1, 1, 1], "column 'ms'", "one class"),
        (MS, ["f", "no", "0"], "column 'ms'", "one class"),
        (COST, [1.0, 2.0, 777.0], "row 3, column 'cost'", "label_range"),
        (COST, [-777.0, 2.0, 3.0], "row 1, column 'cost'", "label_range"),
        (COST, [1.0, None, 3.0], "row 2, column 'cost'", "empty"),
        (COST, [1.0, float("inf"), 3.0], "row 2, column 'cost'", "infinite"),
        (COST, ["1", "zqx", "2"], "row 2, column 'cost'", "not a number"),
        (COST, [True, False, True], "column 'cost'", "not numbers"),
    ],
)
def test_bad_labels(label: LabelSpec, cells: list[Any], where: str, why: str) -> None:
    with pytest.raises(DataError) as refused:
        load_table(pl.DataFrame({label.name: cells}), features=(), label=label, name_for_errors="north.csv")
    message = str(refused.value)
    assert message.startswith(f"north.csv: {where}") and why in message
    assert "777" not in message and "zqx" not in message and "\n" not in message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"age\n", "no rows"),
        (b"age", "no rows"),
        (b"\n\n", "the file is blank"),
        (b"Age\n1\n", "other capitals"),
        (b"41,zqx\n42,zqx\n", "there is no column 'age'"),
        (b"age;zqx\n1;2\n", "not to be separated by commas"),
        (b"age,zqx,age\n1,2,3\n", "column 'age' is there twice"),
        (b"age,b\n1,2\n1,zqx,3\n", "row 2 has 3 cells where the header has 2"),
        (b"b,age\n1,2\nzqx,3,4\n", "row 2 has 3 cells where the header has 2"),
        (b"age,b\n1,2\n1,2\n3\n", "row 3 has 1 cells where the header has 2"),
        (b"age,b\n1,2\n\n3,4\n", "row 2 is blank"),
        (b'age,b\n1,"zqx\n2,3\n', "is not valid CSV"),
        (b'age,b\n1,"z"qx"\n2,3\n', "line 2 is not valid CSV"),
        (b"PAR1zqxzqxzqxzqxPAR1", "Parquet file is damaged"),
        (b"PAR1", "Parquet file is damaged"),
        (b"PK\x03\x04\x14\x00\x06\x00zqx", "neither CSV in UTF-8 nor Parquet"),
        ("age,b\n1,2\n".encode("utf-16"), "neither CSV in UTF-8 nor Parquet"),
        ("b,age\n1,2\n3,Müller zqx\n".encode("latin-1"), "row 2, column 'age': the cell is not UTF-8: save the table"),
        ("age,größe\n1,2\n".encode("latin-1"), "the header is not UTF-8: save the table as UTF-8"),
        (b"age,b\n1,2\n\xe2\x82,2", "row 2, column 'age': the cell is not UTF-8"),
        (b"\xef\xbb\xbfage\n\xed\xa0\x80\n", "row 1, column 'age': the cell is not UTF-8"),
    ],
)
@pytest.mark.parametrize("from_file", [True, False])
def test_bad_files(content: bytes, why: str, from_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "north.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        load_table(path if from_file else BytesIO(content), features=(AGE,), name_for_errors="north.csv")
    message = str(refused.value)
    assert message.startswith("north.csv: ") and why in message
    assert "zqx" not in message and "\n" not in message


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_letters_across_the_parts_that_are_checked(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("veilboost.tables.csv_text._CHUNK", chunk)
    text = Feature("näme", Kind.CATEGORICAL, ("Ł€😀", "é"))
    good = "age,näme\n1,Ł€😀\n2,é\n".encode()
    np.testing.assert_array_equal(load_table(BytesIO(good), features=(text,)).values("näme"), [0, 1])
    for at, row in ((good.index("é".encode()), 2), (good.index("😀".encode()) + 2, 1)):
        with pytest.raises(DataError, match=f"row {row}, column 'näme': the cell is not UTF-8"):
            load_table(BytesIO(good[:at] + b"\xff" + good[at + 1 :]), features=(text,))


def test_ids_of_another_encoding_are_not_made_equal() -> None:
    """Müller and Möller: one byte differs, and each would have become the same sign."""
    with pytest.raises(DataError, match="row 1, column 'id': the cell is not UTF-8"):
        load_table(BytesIO("id,age\nMüller,1\nMöller,2\n".encode("latin-1")), features=(AGE,), row_id="id")


def test_pandas_text_with_halves_of_letters_is_refused() -> None:
    frame = pd.DataFrame({"age": [1.0, 2.0], "referral": ["gp", "\ud800"]})
    with pytest.raises(DataError, match="north: column 'referral' holds half letters"):
        load_table(frame, features=(AGE, REFERRAL), name_for_errors="north")


def test_damaged_parquet_is_refused() -> None:
    good = as_parquet(GOOD).getvalue()
    for length in range(4, len(good) - 1, 97):
        with pytest.raises(DataError, match="damaged"):
            load_table(BytesIO(good[:length]), features=(AGE,))


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "is a directory"),
        (Path("/dev/null"), "not a regular file"),
        ("a\0b.csv", "cannot be read|no such file"),
        (str(tmp_path / ("x" * 300)), "cannot be read"),
    ):
        with pytest.raises(DataError, match=why) as refused:
            load_table(path, features=(AGE,))
        assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (pl.DataFrame({"age": []}), "no rows"),
        (pl.DataFrame({"b": [1]}), "there is no column 'age'"),
        (pl.DataFrame({"age": [[777]]}), "column 'age' holds List"),
        (pl.DataFrame({"age": [b"777"]}), "column 'age' holds Binary"),
        (pl.DataFrame({"age": pl.Series([777]).cast(pl.Duration)}), "column 'age' holds Duration"),
        (pl.DataFrame({"age": [True]}), 'kind = "flag"'),
        (pl.DataFrame({"age": ["2020-01-01"]}).with_columns(pl.col("age").str.to_date()), "row 1, column 'age'"),
        (pd.DataFrame([[1, 2]], columns=["age", "age"]), "column 'age' is there twice"),
        (pd.DataFrame({"age": pd.to_datetime(["2020-01-01"])}), "row 1, column 'age'"),
        (np.array([[777.0]]), "cannot read a ndarray"),
        ({"age": [777]}, "cannot read a dict"),
    ],
)
def test_bad_frames(frame: Any, why: str) -> None:
    with pytest.raises(DataError) as refused:
        load_table(frame, features=(AGE,))
    message = str(refused.value)
    assert message.startswith("table: ") and why in message
    assert "777" not in message and "2020" not in message and "\n" not in message


def test_blank_lines_at_the_end_are_no_rows_but_an_empty_cell_of_one_column_is() -> None:
    assert load_table(BytesIO(b"\n\nage,b\n1,2\n3,4\n\r\n\n"), features=(AGE,)).rows == 2
    table = load_table(BytesIO(b"visits\n1\n\n3\n"), features=(VISITS,))
    np.testing.assert_array_equal(table.values("visits"), [1, np.nan, 3])


def test_old_line_ends_are_read() -> None:
    np.testing.assert_array_equal(load_table(BytesIO(b"age,b\r1,2\r3,4\r"), features=(AGE,)).values("age"), [1, 3])


def test_encode_frame_allows_what_training_refuses() -> None:
    frame = pl.DataFrame({"referral": ["gp", "elsewhere", None], "age": [None, 2.0, float("nan")], "x": ["a"] * 3})
    encoded = encode_frame(frame, [AGE, REFERRAL])
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, [[np.nan, 0], [2, -1], [np.nan, np.nan]])
    with pytest.raises(DataError, match="row 2, column 'age': the number is infinite"):
        encode_frame(pl.DataFrame({"age": [1.0, np.inf]}), [AGE])


def test_repr_shows_no_cell() -> None:
    table = load_table(pl.DataFrame({"age": [777.0], "cost": [333.0]}), features=(AGE,), label=COST)
    assert repr(table) == str(table) == "Table(1 rows x 1 features, with label)"


def test_pandas_is_not_imported() -> None:
    program = (
        "import sys; from io import BytesIO; from veilboost.tables.table import load_table; "
        "from veilboost.tables.schema import Feature, Kind; "
        "load_table(BytesIO(b'a\\n1\\n'), features=[Feature('a', Kind.CONTINUOUS)]); "
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


cells = st.text(alphabet='ab,"\n\r 1', max_size=4)


@given(rows=st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=6), end=st.sampled_from(["\n", ""]))
def test_well_formed_csv_keeps_rows_aligned(rows: list[list[str]], end: str) -> None:
    """Whatever stands in the other columns, the listed ones keep their cells."""
    quoted = ['"' + '","'.join(cell.replace('"', '""') for cell in row) + f'",{at}' for at, row in enumerate(rows)]
    text = "\n".join(["x,y,z,visits", *quoted]) + end
    table = load_table(BytesIO(text.encode()), features=(VISITS,))
    np.testing.assert_array_equal(table.values("visits"), range(len(rows)))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.text(alphabet='a,"\n1', max_size=6), max_size=6))
def test_any_text_is_read_as_the_csv_module_does_or_refused(noise: list[str]) -> None:
    """Malformed quotes never make rows disappear or cells change places."""
    text = "\n".join(["note,visits", *(f"{cell},{at}" for at, cell in enumerate(noise))])
    try:
        table = load_table(BytesIO(text.encode()), features=(VISITS,))
    except DataError as error:
        assert str(error).startswith("table: ") and "\n" not in str(error)
        well_formed = noise and not any(mark in cell for cell in noise for mark in ',"\n')
        assert not well_formed
        return
    rows = list(csv.reader(StringIO(text, newline=""), strict=True))[1:]
    while not rows[-1]:
        rows.pop()
    wanted = [float(row[1].strip() or "nan") for row in rows]
    np.testing.assert_array_equal(table.values("visits"), wanted)


@given(st.lists(st.floats(width=32, allow_infinity=False) | st.none(), min_size=1, max_size=30))
def test_numbers_are_float32_of_float64(numbers: list[float | None]) -> None:
    limit = np.finfo(np.float32).max
    numbers = [None if number is not None and abs(number) >= limit else number for number in numbers]
    frame = pl.DataFrame({"visits": pl.Series(numbers, dtype=pl.Float64)})
    wanted = np.array([np.nan if number is None else number for number in numbers], dtype=np.float32)
    for source in (frame, BytesIO(frame.write_csv().encode()), pd.DataFrame(frame.to_dict(as_series=False))):
        np.testing.assert_array_equal(load_table(source, features=(VISITS,)).values("visits"), wanted)


def test_weights_that_would_round_to_nothing_are_refused() -> None:
    spec = WeightSpec("w", (0.0, 8.0), 2.0**-17)
    sound = load_table(pl.DataFrame({"w": [0.0, 2.0**-17, 8.0]}), features=(), weight=spec).weight
    assert sound is not None and sound.tolist() == [0.0, 2.0**-17, 8.0]
    with pytest.raises(DataError, match="north: row 2, column 'w': the weight is above 0 and below 7"):
        load_table(pl.DataFrame({"w": [0.0, 2.0**-18, 1.0]}), features=(), weight=spec, name_for_errors="north")
