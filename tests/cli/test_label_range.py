"""`label_range` too wide for its labels, or out of all proportion: refused by the label's holder, in one line."""

import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.processes.support import LABEL, Case, make_case

from veilboost.cli import main
from veilboost.errors import InputError
from veilboost.trees.parameters import Parameters
from veilboost.xorboost.objectives.choose import objective_of

Start = Callable[..., str]

#: What the holder of the labels says first once nothing is wrong with its table: it has no certificates.
SOUND = "there is no such file: make it with 'veilboost certs'"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Start:
    """Start south, which holds the labels (0 to 100), with a `label_range` and maybe other labels; its one line."""

    def run(low: str, high: str, labels: pl.Series | None = None) -> str:
        case: Case = make_case(tmp_path / "case", objective="reg:squarederror")
        text = case.path.read_text()
        assert "label_range = [0.0, 100.0]" in text
        case.path.write_text(text.replace("label_range = [0.0, 100.0]", f"label_range = [{low}, {high}]"))
        table = case.tables["south"] if labels is None else case.tables["south"].with_columns(labels.alias(LABEL))
        path = tmp_path / "patients.csv"
        table.write_csv(path)
        words = ["party", case.path, "--name", "south", "--data", path, "--certs", tmp_path / "none", "--quiet"]
        monkeypatch.setattr(sys, "argv", ["veilboost", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        (line,) = captured.err.splitlines()
        assert (ended.value.code, captured.out) == (2, "")
        return line

    return run


@pytest.mark.parametrize(
    ("low", "high"),
    [("-1e31", "1e31"), ("0", "1e31"), ("-1.0e300", "1.0e300"), ("-1.7e308", "1.7e308"), ("0", "1.1e30")],
)
def test_bounds_out_of_all_proportion(start: Start, low: str, high: str) -> None:
    assert "label_range: bounds must lie within +-1e+30 and at least 1e-30 apart: scale the label" in start(low, high)


def test_bounds_next_to_each_other(start: Start) -> None:
    labels = pl.Series([0.0] * 59 + [1e-31])
    assert "at least 1e-30 apart: scale the label" in start("0", "1e-31", labels)


@pytest.mark.parametrize(("low", "high"), [("0", "1e6"), ("-1e30", "1e30"), ("-200000", "0.0"), ("0", "100001")])
def test_much_wider_than_the_labels(start: Start, low: str, high: str) -> None:
    labels = pl.Series([-float(n) if low == "-200000" else float(n) for n in range(60)])
    line = start(low, high, labels)
    assert "patients.csv: label_range in the job file is over 1000 times as wide as the labels: narrow it" in line


@pytest.mark.parametrize(("low", "high"), [("0", "100"), ("0", "59000"), ("-1000", "1000"), ("0.0", "59")])
def test_wide_enough_but_not_too_wide(start: Start, low: str, high: str) -> None:
    assert SOUND in start(low, high, pl.Series([float(n) for n in range(60)]))


def test_equal_labels_have_no_spread(start: Start) -> None:
    assert SOUND in start("0", "1e30", pl.Series([7.0] * 60))


@pytest.mark.parametrize("bounds", [(-1e30, 1e30), (0.0, 1e-30), (1e30 - 1e23, 1e30), (-1e-30, 0.0)])
def test_bounds_that_are_just_allowed(bounds: tuple[float, float]) -> None:
    unit = objective_of(Parameters(objective="reg:squarederror"), bounds, None).unit
    assert unit.half_width > 0


@pytest.mark.parametrize("bounds", [(-1.01e30, 0.0), (0.0, 9.9e-31), (0.0, 1.7e308), (-1.7e308, 1.7e308)])
def test_bounds_that_are_not(bounds: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="scale the label"):
        objective_of(Parameters(objective="reg:squarederror"), bounds, None)
