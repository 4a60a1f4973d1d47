"""Every tutorial runs, offline, and its conclusion holds."""

import ast
import runpy
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[2] / "tutorials").glob("*.py"))


def test_there_is_a_tutorial():
    assert TUTORIALS


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_ends_in_an_assertion(path):
    source = path.read_text(encoding="utf-8")
    assert isinstance(ast.parse(source).body[-1], ast.Assert)
    assert source.startswith("# %% [markdown]\n# # ")


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path, tmp_path, monkeypatch):
    """In this process: to load all libraries anew takes as long as a third of what a tutorial does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    runpy.run_path(str(path), run_name="__main__")
