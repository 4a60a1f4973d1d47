"""Mappings from source to target responses; the rarer ones are found here only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "generators": ["LinearGenerator", "NearestNeighbourGenerator"],
        "motifs": ["MotifDetector"],
        "poisson": ["PoissonGLM"],
        "pseudo": ["pseudo_population"],
        "shared_latent": ["SharedLatentDecoder"],
    },
)
