"""The only place that knows file formats and model hubs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "networks.captioner": ["TransformersCaptioner"],
        "networks.diffusion": ["DiffusersGenerator"],
        "rsatoolbox": ["to_rsatoolbox"],
    },
)
