"""Sphinx configuration. Pages are Markdown; the tutorials are rendered from their percent-format scripts."""

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


def setup(app: object) -> None:
    """Render the tutorials before the pages are read."""
    app.connect("builder-inited", render_tutorials)
