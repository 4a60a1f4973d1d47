"""What drives a neuroid and what it says, be it a unit or a voxel; the rarer functions are found here only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "angles": ["tuning"],
        "captions": ["NearestCaption", "caption_bank"],
        "localiser": ["localise"],
        "novelty": ["coverage"],
        "outsized": ["massive", "tame"],
        "shared_sets": ["overlap"],
        "sparsity": ["sparseness"],
    },
)
