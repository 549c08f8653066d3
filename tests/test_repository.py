"""Promises of the repository as a whole: docstrings, sizes, public names, links, what the README says."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
MODULES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py"))
PROGRAMS = sorted(
    path.relative_to(SRC).as_posix() for suffix in ("py", "js", "css", "html") for path in SRC.rglob(f"*.{suffix}")
)
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "src/**/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)
MAX_LINES = 500
PUBLIC_NAMES = {
    *("XORBoostClassifier", "XORBoostRegressor", "FederatedClassifier", "FederatedRegressor"),
    *("share", "reveal", "__version__"),
}

#: ```python runnable ... ```: a complete program that a reader can paste into a file.
RUNNABLE = re.compile(r"^```python runnable\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def runnable_blocks(page: str) -> list[str]:
    return RUNNABLE.findall(page)


def run_block(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a program of its own in an empty folder, as a reader would."""
    program = folder / "block.py"
    program.write_text(block, encoding="utf-8")
    return subprocess.run(
        [sys.executable, program.name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


README_BLOCKS = runnable_blocks((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES)
def test_module_has_a_docstring(path: str) -> None:
    assert ast.get_docstring(ast.parse((SRC / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PROGRAMS)
def test_file_is_not_too_long(path: str) -> None:
    assert len((SRC / path).read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_package_is_marked_as_typed() -> None:
    assert (SRC / "veilboost" / "py.typed").is_file()


def test_public_names() -> None:
    veilboost = import_module("veilboost")
    assert set(veilboost.__all__) == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(veilboost, name) is not None


def test_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert import_module("veilboost").__version__ == project["version"]


@pytest.mark.parametrize("path", PAGES)
def test_links_between_files_lead_somewhere(path: str) -> None:
    page = ROOT / path
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readme_has_runnable_blocks() -> None:
    assert len(README_BLOCKS) >= 2


@pytest.mark.parametrize("number", range(len(README_BLOCKS)))
def test_readme_block_runs(number: int, tmp_path: Path) -> None:
    result = run_block(README_BLOCKS[number], tmp_path)
    assert result.returncode == 0, result.stderr


def test_block_runner_notices_a_failure(tmp_path: Path) -> None:
    page = "Text\n\n```python\nnot run\n```\n\n```python runnable\nassert 2 + 2 == 5\n```\n"
    (block,) = runnable_blocks(page)
    result = run_block(block, tmp_path)
    assert result.returncode != 0
    assert "AssertionError" in result.stderr


def test_readme_job_file_is_the_demonstrations() -> None:
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    shipped = tomllib.loads((SRC / "veilboost" / "data" / "heart.toml").read_text(encoding="utf-8"))
    excerpt = tomllib.loads(shown)
    assert {key: value for key, value in excerpt.items() if key not in ("feature", "party")} == {
        key: value for key, value in shipped.items() if key not in ("feature", "party")
    }
    assert all(feature in shipped["feature"] for feature in excerpt["feature"])
    assert excerpt["party"] == shipped["party"]


@pytest.mark.slow
def test_wheel_holds_the_whole_package(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build tool comes with the dev extra")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True,
        timeout=300,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        path.relative_to(SRC).as_posix()
        for path in SRC.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names
    assert {"veilboost/py.typed", "veilboost/data/heart_disease.csv", "veilboost/data/heart.toml"} <= sources
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
