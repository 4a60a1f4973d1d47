"""What drives a neuroid and what it says, be it a unit or a voxel; the rarer functions are found here only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "angles": ["tuning"],
        "caption_scores": ["score_captions"],
        "captions": ["NearestCaption", "caption_bank"],
        "captum_bridge": ["captum_forward"],
        "description": ["describe"],
        "dissociation": ["double_dissociation"],
        "gates": ["in_out_cosines", "mlp_weights"],
        "interchange": ["mediation"],
        "localisation": ["localisation"],
        "localiser": ["localise"],
        "novelty": ["coverage"],
        "outsized": ["massive", "tame"],
        "projection": ["project_weights", "weight_patterns"],
        "sanity": ["sanity_check"],
        "shared_sets": ["overlap"],
        "relevance": ["lrp_rules"],
        "removals": ["deletion_insertion", "removal_agreement"],
        "sparsity": ["sparseness"],
        "stability": ["stability"],
        "weights": ["read_weights"],
    },
)
