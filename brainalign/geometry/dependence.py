"""``adaptive_dependence``: whether two geometries depend on each other, at whatever thresholds that is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.engine.comparators import square
from brainalign.engine.dependence import adaptive_correlations, distance_correlation
from brainalign.engine.families import standardised
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import distinct_orders, false_discovery_rate, p_of_the_maximum, p_values
from brainalign.geometry.rdm_pairs import join_rdms, leading
from brainalign.geometry.transforms import whole

STATISTICS = ("standardised", "raw")


def adaptive_dependence(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    n_thresholds: int = 8,
    statistic: str = "standardised",
    join: str = "inner",
    n_permutations: int = 1000,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Test every source RDM against every target RDM at all pairs of thresholds on both sides, and pay for the search.

    Parameters
    ----------
    source, target : DataArray, (..., stimulus, stimulus_2)
        From :func:`rdm` or :func:`open_rdms`; matched by stimulus. What is below 0 counts as 0.
    n_thresholds : int
        On each side, from 0 to the largest dissimilarity; each pair l < u of them clips that side. With 8 there are 28² combinations.
    statistic : {"standardised", "raw"}
        Which combination is the best: that of the highest distance correlation in standard deviations above what permuted stimuli give
        at the same thresholds, or of the highest as it is.
    join : {"inner", "exact"}
        Whether stimuli that one side lacks are left out (and reported) or an error.
    n_permutations : int
        Of stimuli; in each the search is repeated.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over pairs of RDMs; of a single one, over permutations.

    Returns
    -------
    Dataset
        All (source_<dim>, target_<dim>): ``score``, the distance correlation at the best thresholds, higher is more alike;
        ``source_lower``, ``source_upper``, ``target_lower`` and ``target_upper``, these thresholds, as fractions of the largest
        dissimilarity; ``distance_correlation`` without any; ``p_value`` of the best, ``p_value_fdr``, and ``p_value_max``, which holds
        for all RDMs together. The score and p are NaN where an RDM is flat.

    Raises
    ------
    AlignmentError, SchemaError
        As :func:`trsa`.

    Notes
    -----
    AGTIC of Lin and Kriegeskorte (2018). The highest raw correlation is often of thresholds between which hardly any pair lies, where
    unrelated RDMs reach as much; ``"raw"`` then has no power. Means and standard deviations are those of the permutations and the data
    together, which chance does not tell apart, so that p is exact.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = np.random.default_rng(0).normal(size=(40, 1))
    >>> line, curve = (ba.rdm(ba.responses(y, stimulus_id=range(40), neuroid_id=["u", "v"], modality="ann", system="net"), metric="euclidean")
    ...                for y in (np.hstack([x, x]), np.hstack([np.sin(3 * x), np.cos(3 * x)])))
    >>> float(ba.geometry.adaptive_dependence(line, curve, n_permutations=99, random_state=0).p_value)
    0.01
    """
    check_choice("statistic", statistic, STATISTICS, owner="adaptive_dependence")
    check_choice("join", join, ("inner", "exact"), owner="adaptive_dependence")
    check_number("n_thresholds", n_thresholds, owner="adaptive_dependence", low=2, integer=True)
    check_number("n_permutations", n_permutations, owner="adaptive_dependence", low=1, integer=True)
    seed = check_random_state(random_state, owner="adaptive_dependence")
    both = join_rdms({"source": source, "target": target}, join)
    a, b = (square(whole(both.vectors[name], x, name)) for name, x in (("source", source), ("target", target)))
    orders = distinct_orders(np.arange(len(both.stimuli)), n_permutations, np.random.default_rng(seed))
    levels = np.linspace(0.0, 1.0, n_thresholds)
    one = len(a) * len(b) == 1
    pairs = progress_bar(list(product(a.clip(0), b.clip(0))), progress=not one and progress, desc="pairs of RDMs")
    shown = partial(progress_bar, progress=one and progress, desc="permutations")
    found = [_best(x, y, levels, orders, statistic, shown) for x, y in pairs]
    (first, shape, coords), (second, other_shape, other_coords) = leading(source, "source"), leading(target, "target")
    best, null = (np.array([pair[part] for pair in found]).reshape(len(a), len(b), -1) for part in (0, 1))
    observed, null = best[..., 0], np.moveaxis(null, -1, 0)
    p = p_values(observed, null)
    columns = {"score": best[..., 1], "distance_correlation": distance_correlation(a.clip(0)[:, None], b.clip(0)[None])}
    columns |= {name: best[..., 2 + k] for k, name in enumerate(("source_lower", "source_upper", "target_lower", "target_upper"))}
    columns |= {"p_value": p, "p_value_fdr": false_discovery_rate(p), "p_value_max": p_of_the_maximum(observed, null)}
    dims, sizes = [*first, *second], [*shape, *other_shape]
    out = xr.Dataset({name: (dims, values.reshape(sizes)) for name, values in columns.items()}, coords | other_coords)
    params = {"n_thresholds": n_thresholds, "statistic": statistic, "join": join, "n_permutations": len(orders)}
    out.attrs = params | {"direction": "higher is more alike", "report": json.dumps(both.report)}
    return write_step(out, "adaptive_dependence", params=params, inputs={"source": source, "target": target}, seed=seed)


def _best(
    x: Numbers, y: Numbers, levels: Numbers, orders: Numbers, statistic: str, shown: Callable[[Any], Any]
) -> tuple[Numbers, Numbers]:
    """Return the highest statistic, the correlation and the thresholds there; and the highest of each permutation."""
    correlations, of_null = adaptive_correlations(x, y, levels, orders=orders, shown=shown)
    values, null = (correlations, of_null) if statistic == "raw" else standardised(correlations, of_null)
    if np.isnan(values).all():
        return np.full(6, np.nan), np.full(len(orders), np.nan)
    k, other = np.unravel_index(np.nanargmax(values), values.shape)
    at = np.stack(np.triu_indices(len(levels), 1))
    ends = levels[[*at[:, k], *at[:, other]]]
    return np.array([values[k, other], correlations[k, other], *ends]), np.nanmax(null, axis=(1, 2))
