"""The calls on the pages of formats: each is a call that exists, with options that exist and none missing."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import brainalign as ba
from brainalign.core.parameters import missing_options
from brainalign.core.registry import Registry
from brainalign.dataset.open import FORMATS

FOLDER = Path(__file__).parents[2] / "docs" / "formats"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "index.md")


def calls(page: Path) -> list[tuple[str, ast.Call]]:
    """Return the calls of public functions in the Python blocks of a page."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    return [(name, node) for node in nodes if re.fullmatch(r"ba(\.\w+)+", name := ast.unparse(node.func))]


def reader_of(page: Path, call: ast.Call):
    """Return the function behind an ``open_responses`` call: by its ``format=``, else by the page it stands on."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    known = Registry("no.plugins", FORMATS._builtin).names()
    name = given["format"].value if "format" in given else page.stem.replace("_", "-")
    return FORMATS.get(name).open if name in known else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_calls_on_the_page_exist(page):
    found = calls(page)
    assert found, "a page without a working call"
    for name, call in found:
        function = ba
        for part in name.split(".")[1:]:
            function = getattr(function, part)
        words = {keyword.arg for keyword in call.keywords if keyword.arg} - {"format"}
        if name == "ba.open_responses":
            function = reader_of(page, call)
            if function is None:
                continue
            if all(keyword.arg for keyword in call.keywords):  # none hidden behind **
                assert not set(missing_options(function, {})) - words, ast.unparse(call)
        parameters = inspect.signature(function).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        assert open_ended or not words - set(parameters), f"{ast.unparse(call)}: no such option {sorted(words - set(parameters))}"
