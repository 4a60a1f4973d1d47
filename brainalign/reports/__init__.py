"""Figures, tables and HTML pages of results."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["brainmap", "datacheck", "datafigures", "diagnoses", "figures", "table", "html"],
    submod_attrs={
        "brainmap": ["to_brain"],
        "datacheck": ["check", "findings"],
        "html": ["report"],
        "table": ["summary", "tidy"],
    },
)
