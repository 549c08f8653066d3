"""The import rule, and what may not be imported or called at all.

Every module under src/veilboost is parsed, not run: imports inside functions and under TYPE_CHECKING count too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "veilboost"

#: For each part of the package, the parts it may import. `veilboost` stands for the public names in __init__.py.
BASE = {"errors", "data", "version"}
ENGINE = BASE | {"mpc", "trees", "tables"}
MODES = ENGINE | {"splitting"}
JOBS = MODES | {"xorboost", "federated", "ppxgboost"}
FRONT = JOBS | {"jobs", "estimators"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "data": set(),
    "version": set(),
    "mpc": BASE,
    "tables": BASE,
    "trees": BASE | {"tables"},
    "splitting": ENGINE,
    "xorboost": MODES,
    "federated": MODES,
    "ppxgboost": MODES,
    "jobs": JOBS,
    "estimators": JOBS | {"jobs"},
    "veilboost": FRONT,
    "web": FRONT | {"veilboost"},
    "cli": FRONT | {"veilboost", "web"},
    "__main__": {"cli"},
}

#: Outside modules that only these files may import.
RESERVED = {
    "numba": {"mpc/kernels.py", "trees/kernels.py", "ppxgboost/kernels.py"},
    "nvflare": {"federated/nvflare_app.py"},
    "numpy.random": {"trees/sampling.py"},  # sampling by a public seed; everything secret comes from mpc/prg.py
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "random"}
FORBIDDEN_NAMES = {"eval", "exec", "__import__", "allow_pickle"}


def violations(path: str, source: str) -> list[str]:
    """Breaches of the rules by one module; `path` is relative to the package, as in "mpc/ring.py"."""
    part = part_of_file(path)
    if part not in ALLOWED:
        return [f"{path}: {part} is no known part of the package: give it its place in ALLOWED"]
    found = []
    for line, name in references(path, ast.parse(source)):
        top, _, rest = name.partition(".")
        if top == "veilboost":
            target = rest.partition(".")[0]
            target = target if target in ALLOWED else "veilboost"
            if target != part and target not in ALLOWED[part]:
                found.append(f"{path}:{line}: {part} may not import {target}")
        for module, files in RESERVED.items():
            if is_inside(name, module) and path not in files:
                found.append(f"{path}:{line}: {module} may only be used in {', '.join(sorted(files))}")
        if top in FORBIDDEN_MODULES or name in FORBIDDEN_NAMES or name == "?":
            found.append(f"{path}:{line}: {'an import of a computed name' if name == '?' else name} is forbidden")
    return found


def part_of_file(path: str) -> str:
    part = path.partition("/")[0].removesuffix(".py")
    return "veilboost" if part == "__init__" else part


def is_inside(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def references(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, of attributes of imported modules, and of forbidden names."""
    package = ["veilboost", *path.split("/")[:-1]]
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                aliases[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*origin, *([node.module] if node.module else [])])
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{module}.{alias.name}"
                yield node.lineno, f"{module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = dotted(node, aliases)
            if name:
                yield node.lineno, name
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.lineno, node.id
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield node.value.lineno, "allow_pickle"
        if isinstance(node, ast.Call) and dotted(node.func, aliases) == "importlib.import_module":
            first = node.args[0] if node.args else None
            constant = isinstance(first, ast.Constant) and isinstance(first.value, str)
            yield node.lineno, str(first.value) if constant and isinstance(first, ast.Constant) else "?"


def dotted(node: ast.expr, aliases: dict[str, str]) -> str | None:
    """`np.random.default_rng` as "numpy.random.default_rng" if np was imported; None for anything else."""
    if isinstance(node, ast.Name):
        name = aliases.get(node.id)
        return name.removeprefix("builtins.") if name else None
    if isinstance(node, ast.Attribute):
        value = dotted(node.value, aliases)
        return f"{value}.{node.attr}".removeprefix("builtins.") if value else None
    return None


MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES)
def test_module_keeps_the_rules(path: str) -> None:
    assert violations(path, (PACKAGE / path).read_text(encoding="utf-8")) == []


def test_there_are_modules_to_check() -> None:
    assert {"errors.py", "tables/schema.py", "mpc/ring.py"} <= set(MODULES)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("mpc/ring.py", "from veilboost.tables.schema import Kind"),
        ("mpc/ring.py", "import veilboost.trees.ensemble"),
        ("mpc/ring.py", "from veilboost import trees"),
        ("mpc/ring.py", "from .. import trees"),
        ("mpc/protocols/divide.py", "from ...trees import ensemble"),
        ("mpc/ring.py", "def later():\n    from veilboost.tables import schema"),
        ("tables/binning.py", "from veilboost.trees import ensemble"),
        ("tables/binning.py", "from veilboost import share"),
        ("splitting/gain.py", "from veilboost.xorboost import train"),
        ("xorboost/train.py", "from veilboost.federated import local"),
        ("federated/local.py", "from veilboost.ppxgboost import paillier"),
        ("ppxgboost/proxy.py", "from veilboost.xorboost import train"),
        ("xorboost/train.py", "from veilboost.jobs import spec"),
        ("jobs/run.py", "from veilboost.cli import main"),
        ("jobs/run.py", "from veilboost.estimators import XORBoostClassifier"),
        ("errors.py", "import veilboost.tables"),
        ("web/page.py", "from veilboost.cli import main"),
        ("newcomer.py", ""),
        ("mpc/ring.py", "import numba"),
        ("mpc/protocols/kernels.py", "from numba import njit"),
        ("federated/local.py", "from nvflare.collab import collab"),
        ("xorboost/train.py", "import numpy as np\nnp.random.default_rng(1)"),
        ("mpc/prg.py", "from numpy.random import default_rng"),
        ("mpc/prg.py", "from numpy import random"),
        ("mpc/prg.py", "import numpy.random as nr"),
        ("mpc/prg.py", "import numpy\nnumpy.random.seed(0)"),
        ("jobs/checkpoint.py", "import pickle"),
        ("jobs/checkpoint.py", "from marshal import loads"),
        ("jobs/checkpoint.py", "import random"),
        ("jobs/spec.py", "value = eval('1')"),
        ("jobs/spec.py", "import builtins\nbuiltins.exec('1')"),
        ("jobs/spec.py", "run = exec"),
        ("jobs/spec.py", "__import__('pickle')"),
        ("jobs/spec.py", "import importlib\nimportlib.import_module('pickle')"),
        ("jobs/spec.py", "from importlib import import_module\nimport_module(name)"),
        ("jobs/checkpoint.py", "import numpy as np\nnp.load(path, allow_pickle=True)"),
        ("mpc/ring.py", "import importlib\nimportlib.import_module('veilboost.trees')"),
    ],
)
def test_checker_rejects(path: str, source: str) -> None:
    assert violations(path, source) != []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("mpc/kernels.py", "import numba\nfrom veilboost.errors import InputError"),
        ("trees/kernels.py", "from numba import njit\nfrom ..tables.schema import Kind"),
        ("trees/sampling.py", "import numpy as np\nnp.random.Generator"),
        ("mpc/ring.py", "from . import kernels\nfrom veilboost.mpc import ring"),
        ("xorboost/train.py", "from veilboost.splitting import gain\nfrom veilboost.mpc import ring"),
        ("estimators/base.py", "import veilboost.jobs.run\nfrom veilboost.trees import ensemble"),
        ("__init__.py", "from veilboost.estimators import XORBoostClassifier"),
        ("cli/__init__.py", "from veilboost import __version__\nfrom veilboost.jobs import run"),
        (
            "jobs/run.py",
            "import importlib, re\nimportlib.import_module('xgboost')\nself.random.eval(1)",
        ),
    ],
)
def test_checker_accepts(path: str, source: str) -> None:
    assert violations(path, source) == []
