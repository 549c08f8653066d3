"""Compiled kernels where no cache can be written: a read-only installation and no home folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "veilboost"

COMPILE = """
import numba
import numpy as np
from veilboost.mpc import kernels

words = np.array([1, 2, 3], dtype=np.uint64)
assert kernels.gather_words(kernels.transpose_bits(words, 64), 3).tolist() == [1, 2, 3]
assert not getattr(kernels._gather, "_cache").__class__.__name__.startswith("FunctionCache")
try:
    numba.njit(cache=True)(kernels.words_for_test)
except RuntimeError as error:
    print("as expected:", str(error).split(" for ")[0])
"""


def installation(folder: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the package in which nothing can be cached, by the superuser neither, and the environment for it.

    Where numba makes folders there are files already.
    """
    copy = folder / "site" / "veilboost"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "mpc" / "kernels.py").open("a") as file:
        file.write("\n\ndef words_for_test(count: int) -> int:\n    return count + 1\n")
    for directory in (copy / "mpc", copy / "trees"):
        (directory / "__pycache__").write_text("")
    nowhere = folder / "file"
    nowhere.write_text("")
    changed = {
        "PYTHONPATH": str(copy.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(nowhere / "home"),
        "XDG_CACHE_HOME": str(nowhere / "cache"),
        "NUMBA_CACHE_DIR": "",
    }
    return copy, {**os.environ, **changed}


def run(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_kernels_compile_where_nothing_can_be_cached(tmp_path: Path) -> None:
    copy, environment = installation(tmp_path)
    result = run(COMPILE, environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip() == "as expected: cannot cache function 'words_for_test': no locator available"
    assert not list(copy.rglob("*.nbi"))


@pytest.mark.slow
def test_trees_kernels_too(tmp_path: Path) -> None:
    copy, environment = installation(tmp_path)
    result = run("import veilboost.trees.kernels; print('compiled')", environment)
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "compiled\n")
    assert not list(copy.rglob("*.nbi"))
