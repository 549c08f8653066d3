"""The demonstration tells where its report is; `tests/processes` compares its model with XGBoost's."""

from pathlib import Path

import pytest
from tests.processes.support import complaints, veilboost


@pytest.mark.slow
def test_demo_keeps_its_report_where_it_says(tmp_path: Path) -> None:
    out = tmp_path / "folder with [a long] name" / ("x" * 90)
    result = veilboost("demo", "--out", out, timeout=300)
    assert (result.returncode, complaints(result.stderr)) == (0, [])
    assert "20 trees in " in result.stdout
    assert " s for the first, then " in " ".join(result.stdout.split())
    assert result.stdout.splitlines()[-1].endswith(str(out / "report.html"))
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path for path in out.rglob("report.html")] == [out / "report.html"]
    assert "With --out DIR the demo keeps" not in result.stdout
