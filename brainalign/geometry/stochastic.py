"""Metrics of systems that do not respond alike each time: the distributions of responses to each stimulus, up to a rotation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from brainalign.core.parameters import check_choice, check_number
from brainalign.engine.energy import centred_trials, energy_distance
from brainalign.engine.moments import Numbers
from brainalign.engine.similarity import SimilarityMetric, full_name
from brainalign.engine.stochastic import GROUPS, response_moments, stochastic_distances

_BLIND = {"orthogonal": ("translate", "permute", "rotate"), "permutation": ("translate", "permute"), "identity": ("translate",)}


def stochastic_shape(
    alpha: float = 1.0, *, group: str = "orthogonal", n_restarts: int = 4, random_state: int = 0
) -> SimilarityMetric:
    """Return the distance between means and covariances of the responses to each stimulus (Duong et al. 2023).

    Parameters
    ----------
    alpha : float
        0 compares covariances only, 1 is the 2-Wasserstein distance of Gaussians, 2 compares means only.
    group : {"orthogonal", "permutation", "identity"}
        Maps that neuroids may go through; with any but the first, "identity" in particular, both sides should have the same neuroids.
    n_restarts : int
        Random maps to start from, each with its inverse, beside the one that fits the means.
    random_state : int
        Of these maps, so that the distance is a function of the two systems.

    Returns
    -------
    SimilarityMetric
        Means and covariances come from repeats; a system whose attr ``deterministic`` is true has covariances of zero.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=10, n_neuroids=4, n_repeats=3, random_state=0)
    >>> out = ba.similarity(study.brain, study.brain, metric=stochastic_shape(alpha=0.5), by=("region", "region"))
    >>> bool(abs(out.score.values.diagonal()).max() < 1e-5)
    True
    """
    check_number("alpha", alpha, owner="stochastic_shape", low=0.0, high=2.0)
    _check("stochastic_shape", group, n_restarts, random_state)

    def distances(systems: Sequence[Numbers], pairs: Numbers) -> Numbers:
        return stochastic_distances(systems, pairs, alpha=alpha, group=group, n_restarts=n_restarts, seed=random_state)

    def grid(first: Sequence[Numbers], second: Sequence[Numbers]) -> Numbers:
        n, m = len(first), len(second)
        if n == m and all(map(np.array_equal, first, second)):  # systems among themselves: each pair once
            out, pairs = np.zeros((n, n)), np.triu_indices(n, 1)
            out[pairs] = distances(first, np.transpose(pairs))
            return out + out.T
        pairs = np.stack([np.repeat(np.arange(n), m), n + np.tile(np.arange(m), n)], axis=1)
        return distances([*first, *second], pairs).reshape(n, m)

    return SimilarityMetric(
        full_name("stochastic-shape", alpha, group, n_restarts, random_state, usual=(1.0, "orthogonal", 4, 0)),
        response_moments,
        lambda a, b: float(grid([a], [b])[0, 0]),
        _BLIND[group],
        higher_is_alike=False,
        is_metric=True,
        trials=True,
        grid=grid,
    )


def stochastic_energy(*, group: str = "orthogonal", n_restarts: int = 4, random_state: int = 0) -> SimilarityMetric:
    """Return the energy distance between the responses to each stimulus, which sees more of a distribution than mean and covariance.

    Parameters
    ----------
    group : {"orthogonal", "permutation", "identity"}
        Maps that neuroids may go through.
    n_restarts : int
        Random maps to start from, each with its inverse, beside the one that fits the means.
    random_state : int
        Of these maps.

    Returns
    -------
    SimilarityMetric
        An unbiased estimate from repeats, which is 0 for systems that differ less than their repeats do.

    Examples
    --------
    >>> stochastic_energy(group="permutation").invariances
    ('translate', 'permute')
    """
    _check("stochastic_energy", group, n_restarts, random_state)
    score = partial(energy_distance, group=group, n_restarts=n_restarts, seed=random_state)
    name = full_name("stochastic-energy", group, n_restarts, random_state, usual=("orthogonal", 4, 0))
    return SimilarityMetric(name, centred_trials, score, _BLIND[group], higher_is_alike=False, trials=True)


def _check(owner: str, group: str, n_restarts: int, random_state: int) -> None:
    check_choice("group", group, GROUPS, owner=owner)
    check_number("n_restarts", n_restarts, owner=owner, low=0, integer=True)
    check_number("random_state", random_state, owner=owner, low=0, integer=True)


STOCHASTIC_SHAPE, STOCHASTIC_ENERGY = stochastic_shape(), stochastic_energy()
