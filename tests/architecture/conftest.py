"""The package as parsed source: these tests read it and import none of it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def package() -> dict[str, ast.Module]:
    """Return every module of the package by its path, ``"brainalign/core/schema.py"``, parsed."""
    paths = sorted((ROOT / "brainalign").rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
