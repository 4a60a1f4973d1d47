"""Representational geometry: RDMs, their comparison, and where along a network an area lies by them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["metrics", "protocols", "stochastic"],
    submod_attrs={
        "dependence": ["adaptive_dependence"],
        "flexible": ["fit_rdms", "regress_rdms"],
        "identification": ["identify_groups"],
        "noise": ["noise_covariance"],
        "predicted": ["predicted_rdm"],
        "protocols": ["kernel_analysis", "pseudo_depth"],
        "scaling": ["trajectories"],
        "spike_trains": ["spike_distance"],
        "transforms": ["geo_topological", "geodesic"],
    },
)
