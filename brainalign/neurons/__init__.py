"""What drives a neuroid and what it says, be it a unit or a voxel; the rarer functions are found here only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "selectivity.angles": ["tuning"],
        "captions.caption_scores": ["score_captions"],
        "captions.banks": ["NearestCaption", "caption_bank"],
        "attribution.captum_bridge": ["captum_forward"],
        "captions.description": ["describe"],
        "interventions.dissociation": ["double_dissociation"],
        "weights.gates": ["in_out_cosines", "mlp_weights"],
        "interventions.interchange": ["mediation"],
        "attribution.localisation": ["localisation"],
        "selectivity.localiser": ["localise"],
        "selectivity.novelty": ["coverage"],
        "selectivity.outsized": ["massive", "tame"],
        "weights.projection": ["project_weights", "weight_patterns"],
        "attribution.sanity": ["sanity_check"],
        "selectivity.shared_sets": ["overlap"],
        "interventions.relevance": ["lrp_rules"],
        "attribution.removals": ["deletion_insertion", "removal_agreement"],
        "selectivity.sparsity": ["sparseness"],
        "attribution.stability": ["stability"],
        "weights.reading": ["read_weights"],
    },
)
