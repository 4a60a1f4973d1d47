"""Sphinx configuration. Pages are Markdown; the tutorials are rendered from their percent-format scripts."""

import re
from pathlib import Path

project = "brainalign"
author = "The brainalign developers"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode", "numpydoc", "myst_parser"]
myst_heading_anchors = 2  # links to sections, as they work on the pages of a repository
html_theme = "furo"
exclude_patterns = ["_build"]
autosummary_generate = False
numpydoc_show_class_members = False
autodoc_typehints = "none"

HERE = Path(__file__).parent


def to_markdown(script: str) -> str:
    """Return a percent-format script as Markdown: ``# %% [markdown]`` cells as text, the others as code."""
    pages = []
    for cell in script.split("# %%")[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            pages.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()))
        elif body.strip():
            pages.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(pages) + "\n"


def render_tutorials(app: object) -> None:
    """Write a page for each tutorial."""
    (HERE / "_tutorials").mkdir(exist_ok=True)
    for script in sorted((HERE.parent / "tutorials").glob("*.py")):
        page = HERE / "_tutorials" / f"{script.stem}.md"
        page.write_text(to_markdown(script.read_text(encoding="utf-8")), encoding="utf-8")


def link_tutorials(app: object, page: str, source: list[str]) -> None:
    """Lead links to a script, which work on the pages of a repository, to its page."""
    source[0] = re.sub(r"\]\(\.\./tutorials/(\w+)\.py\)", r"](_tutorials/\1.md)", source[0])


def link_public_name(app: object, env: object, node: object, text: object) -> object:
    """Link a name that a docstring of another room uses to the one public name that ends in it, if there is one."""
    domain, name = env.domains["py"], node.get("reftarget", "")
    found = [full for full in domain.objects if full.rpartition(".")[2] == name]
    if node.get("refdomain") != "py" or node["reftype"] not in ("func", "class") or len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], found[0], node, text)


def setup(app: object) -> None:
    """Render the tutorials before the pages are read."""
    app.connect("builder-inited", render_tutorials)
    app.connect("source-read", link_tutorials)
    app.connect("missing-reference", link_public_name)
