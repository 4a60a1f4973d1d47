"""How well one system predicts another, and how well it could; the rarer functions are found here only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"ablation": ["ablate"], "reconstructions": ["score_reconstructions"]}
)
