"""Figures, tables and HTML pages of results."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "brainmap",
        "claims",
        "datacheck",
        "datafigures",
        "diagnoses",
        "exemplarfigures",
        "figures",
        "geometryfigures",
        "selectivityfigures",
        "table",
        "html",
    ],
    submod_attrs={
        "brainmap": ["to_brain"],
        "claims": ["claim", "evidence"],
        "datacheck": ["check", "findings"],
        "html": ["report"],
        "table": ["summary", "tidy"],
    },
)
