"""Data flows down the house and imports run only up it (design, section 3): the contracts of pyproject.toml, with file and line."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Higher rooms may import lower ones; two rooms of one rank do not import each other.
RANK = {
    "cli": 7, "reports": 6, "scores": 5, "models": 4, "geometry": 4, "neurons": 4, "features": 3, "dataset": 2, "adapters": 1,
    "engine": 0, "core": 0,
}  # fmt: skip
REACH_ADAPTERS = {"adapters", "dataset", "cli"}
#: Package to the rooms that may import it.
ONLY_IN = {
    "nibabel": {"adapters", "reports"},
    "mne": {"adapters", "reports"},
    "h5py": {"adapters", "reports"},
    "diffusers": {"adapters", "reports"},
    "transformers": {"adapters", "reports"},
    "nilearn": {"adapters", "reports", "features"},
    **{package: set(RANK) - {"engine"} for package in ("xarray", "pandas", "dask", "zarr")},
    "torch": set(RANK) - {"core"},
}


def imports(tree: ast.Module, path: str) -> list[tuple[int, str]]:
    """Return (line, dotted name) of everything that a module imports, at its top, in functions or by a string."""
    found = []
    here = path.removesuffix(".py").removesuffix("/__init__").split("/")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            depth = len(here) - node.level + (1 if path.endswith("/__init__.py") else 0)
            base = [*here[:depth], *([node.module] if node.module else [])] if node.level else [node.module]
            found += [(node.lineno, ".".join([*base, alias.name])) for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "require",
        ):
            found += [(node.lineno, str(arg.value)) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"brainalign[\w.]+:\w+", node.value):
            found.append((node.lineno, node.value.replace(":", ".")))  # a registry's "module:attribute"
    return found


def violations(tree: ast.Module, path: str) -> list[str]:
    """Return what a module imports against the rules, as messages with file and line."""
    room = path.split("/")[1].removesuffix(".py")
    if room not in RANK:
        return [] if path == "brainalign/__init__.py" else [f"{path}:1 is in no room of the house: {sorted(RANK)}"]
    found = []
    for line, name in imports(tree, path):
        top, other = name.split(".")[0], [*name.split("."), ""][1]
        if top != "brainalign":
            if room not in ONLY_IN.get(top, RANK):
                found.append(f"{path}:{line} imports {top}; only {sorted(ONLY_IN[top])} may")
        elif other == "adapters" and room not in REACH_ADAPTERS:
            found.append(f"{path}:{line} imports {name}; adapters are reached through {sorted(REACH_ADAPTERS - {'adapters'})}")
        elif other in RANK and other != room and RANK[other] >= RANK[room]:
            found.append(f"{path}:{line} imports {name}; {room} may import only rooms below it")
        elif other and other not in RANK:
            found.append(f"{path}:{line} imports {name} from the package's front door; import from the module that defines it")
    return found


def test_imports_run_only_up_the_house(package):
    found = [message for path, tree in package.items() for message in violations(tree, path)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("brainalign/core/x.py", "from brainalign.dataset.align import align"),
        ("brainalign/core/x.py", "from brainalign.engine import gram"),
        ("brainalign/core/x.py", "def f():\n    import torch"),
        ("brainalign/engine/x.py", "import xarray as xr"),
        ("brainalign/engine/x.py", "from pandas.api import types"),
        ("brainalign/models/x.py", "from brainalign.geometry.rdm import rdm"),
        ("brainalign/models/x.py", "from ..geometry import rdm"),
        ("brainalign/models/x.py", "from brainalign import geometry"),
        ("brainalign/scores/x.py", "def f():\n    from brainalign.adapters.store.responses import read"),
        ("brainalign/features/x.py", "METRICS = {'r': 'brainalign.scores.evaluate:evaluate'}"),
        ("brainalign/features/x.py", "importlib.import_module('mne')"),
        ("brainalign/dataset/x.py", "nib = require('nibabel', extra='fmri', purpose='x')"),
        ("brainalign/geometry/x.py", "import nilearn.image"),
        ("brainalign/scores/x.py", "from brainalign import evaluate"),
        ("brainalign/helpers/x.py", ""),
    ],
)
def test_a_planted_import_is_caught_with_its_line(path, source):
    found = violations(ast.parse(source), path)
    assert found, source
    assert all(message.startswith(f"{path}:{len(source.splitlines()) or 1} ") for message in found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("brainalign/features/x.py", "from brainalign.core.schema import validate\nimport nilearn"),
        ("brainalign/scores/x.py", "from brainalign.geometry.rdm import rdm\nimport xarray, torch"),
        ("brainalign/adapters/x.py", "import mne, h5py, nibabel, transformers"),
        ("brainalign/dataset/x.py", "Registry('brainalign.adapters', {'nwb': 'brainalign.adapters.nwb:read'})"),
        ("brainalign/engine/x.py", "import numpy, scipy.linalg, torch"),
    ],
)
def test_a_rightful_import_passes(path, source):
    assert violations(ast.parse(source), path) == []


def test_no_module_imports_itself_in_a_circle(package):
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in package}
    edges = {}
    for module, path in names.items():
        targets = {name if name in names else name.rpartition(".")[0] for _, name in imports(package[path], path)}
        edges[module] = {target for target in targets if target in names and target != module}

    def circle(module: str, trail: tuple[str, ...]) -> tuple[str, ...]:
        if module in trail:
            return (*trail[trail.index(module) :], module)
        if module in seen:
            return ()
        seen.add(module)
        return next((found for target in sorted(edges[module]) if (found := circle(target, (*trail, module)))), ())

    seen: set[str] = set()
    found = next((loop for module in sorted(edges) if (loop := circle(module, ()))), ())
    assert not found, " -> ".join(found)


def test_pyproject_states_the_same_contracts_without_exceptions(root):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert "ignore_imports" not in text, f"pyproject.toml:{text[: text.find('ignore_imports')].count(chr(10)) + 1} has an ignore"
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["type"] == "layers")
    ranks = {room.strip(): rank for rank, layer in enumerate(reversed(layers["layers"])) for room in layer.split("|")}
    assert ranks == RANK
    assert layers["exhaustive"] is True
    forbidden = {
        (source.removeprefix("brainalign."), target)
        for contract in contracts
        if contract["type"] == "forbidden"
        for source in contract["source_modules"]
        for target in contract["forbidden_modules"]
    }
    stated = {(room, name) for name in ONLY_IN if name != "torch" for room in set(RANK) - ONLY_IN[name]}
    stated |= {(room, "brainalign.adapters") for room in set(RANK) - REACH_ADAPTERS}
    assert forbidden == stated


def test_what_computes_imports_without_the_libraries_that_read_files():
    """A machine that lends its accelerator may have no more than numpy, scipy, scikit-learn, pandas, xarray and torch."""
    rooms = ("core", "engine", "dataset", "features", "geometry", "models", "neurons", "scores")
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in rooms
        for path in sorted((ROOT / "brainalign" / room).glob("*.py"))
        if path.name != "__init__.py"
    ]
    code = (
        "import sys, importlib\n"
        "for name in ('dask', 'h5py', 'mne', 'nibabel', 'nilearn', 'transformers', 'zarr'): sys.modules[name] = None\n"
        f"for name in {modules}: importlib.import_module(name)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
