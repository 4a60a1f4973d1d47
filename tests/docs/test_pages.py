"""The words of the front door are true: the README's lines run, links lead somewhere, the API page lists every public name."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "formats").glob("*.md"))]


def code(language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)[0]


def test_the_readme_opens_with_the_two_commands():
    assert code("console").splitlines()[0].startswith("make demo")
    assert code("console").splitlines()[1].startswith("make test")
    assert README.index("```console") < 60


def test_the_main_job_has_ten_lines_or_so():
    statements = ast.parse(code("python")).body
    assert len(statements) <= 12


def test_the_main_job_runs_as_it_stands(tmp_path):
    run = subprocess.run([sys.executable, "-c", code("python")], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "layers.html").read_text(encoding="utf-8")
    assert "layers × regions" in page
    assert "RSA" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_api_page_lists_every_public_name():
    import brainalign

    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"auto(?:class|function):: ([\w.]+)", page)) | set(re.findall(r"`ba\.(\w+)`", page))
    assert set(brainalign.__all__) - listed == set()
    rarer = {
        f"brainalign.{room}.{name}"
        for room in ("adapters", "core", "geometry", "models", "neurons", "reports", "scores")
        for name in getattr(brainalign, room).__all__
        if not inspect.ismodule(getattr(getattr(brainalign, room), name))
    }
    assert rarer - listed == set()


def test_the_api_page_says_what_each_similarity_is():
    from brainalign.geometry.metrics import METRICS, similarity_metric

    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*`) \| [^|]+ \| (higher|lower) \| ([\w ]+) \|$", page, flags=re.MULTILINE)
    said = {name: (way, blind.split()) for names, way, blind in rows for name in re.findall(r"`([\w.-]+)`", names)}
    known = {name: similarity_metric(name) for name in METRICS}
    assert said == {name: ("higher" if x.higher_is_alike else "lower", list(x.invariances)) for name, x in known.items()}


def test_every_format_has_its_row_and_its_page():
    from brainalign.core.registry import Registry
    from brainalign.dataset.open import FORMATS

    page = ROOT / "docs" / "formats" / "index.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    pages = {name: re.findall(r"\((\w+\.md)\)", row)[0] for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert sorted(pages) == Registry("no.plugins", FORMATS._builtin).names()
    assert [name for name, file in pages.items() if not (page.parent / file).is_file()] == []
    assert [name for name, file in pages.items() if name not in (page.parent / file).read_text(encoding="utf-8")] == []


def test_every_extra_that_the_readme_names_exists():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {extra for group in re.findall(r'\.\[([\w,]+)\]"', README) for extra in group.split(",")}
    assert named <= set(extras)
    assert named >= set(extras) - {"docs"}


def test_the_versions_agree():
    import tomllib

    import brainalign

    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert brainalign.__version__ == version
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_every_direct_dependency_is_pinned_exactly():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(name for group in project["optional-dependencies"].values() for name in group)]
    names = {re.split(r"[\[<>=!~ ]", name)[0].lower().replace("_", "-") for name in wanted} - {"brainalign"}
    lines = [
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line)] == []
    assert names - {line.split("==")[0] for line in lines} == set()
