"""``identify_groups``: which region or layer a geometry belongs to, told by the geometries of other people or networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import check_number, check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.bootstrap import Drawn, draw_weights
from brainalign.engine.identification import distance_ratio, nearest, share_found, squared_to_centroids
from brainalign.engine.moments import Numbers
from brainalign.engine.rdm_bootstrap import pair_weights
from brainalign.geometry.rdm_pairs import pairs_of
from brainalign.geometry.transforms import whole

_ONE = "rdm"  # what the geometry is called where there is one


def identify_groups(
    rdms: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    by: str = "region",
    over: str = "subject",
    n_bootstraps: int = 0,
    level: float = 0.95,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Tell the region or layer of each RDM by the RDMs of others, and compare what different geometries tell.

    Parameters
    ----------
    rdms : DataArray (..., stimulus, stimulus_2), or dict of them
        With the dims ``by`` and ``over``; other leading dims, such as sessions, are further RDMs of the same unit. An RDM that is all
        NaN is missing. A dict holds several geometries of the same RDMs: the RDMs themselves, and what :func:`geo_topological` or
        :func:`geodesic` made of them, or ``ba.rdm`` with another metric.
    by : str
        What is to be told: ``"region"``, ``"layer"`` ...
    over : str
        Who is left out in turn: ``"subject"``, ``"seed"`` ...
    n_bootstraps : int
        In which units and stimuli are drawn anew.
    level : float
        Share of intervals that hold the truth.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over draws of stimuli.

    Returns
    -------
    Dataset
        ``score`` (geometry), the share of RDMs that are nearest to the mean of their group in the other units; ``identified``
        (geometry, <leading dims>), which they are; ``confusion`` (geometry, <by>, <by>_2), how often each group is taken for
        each; and ``distance_ratio`` (geometry, <leading dims>), the mean distance to the group in other units over that to
        other groups in them. The attr ``chance`` is one over the number of groups that there are; an RDM of a group that no
        other unit has is not found. With bootstraps also ``ci_low``, ``ci_high`` and ``score_bootstrap``; of several geometries
        ``difference`` (pair), the first minus the second, with ``difference_low``, ``difference_high``, bounds on its two-sided
        p-value (``p_value_bound``, ``p_value_bound_fdr``, ``p_value_bound_max``), and the coordinates ``first`` and ``second``.

    Raises
    ------
    ParameterError
        There is no such dim, or fewer than two units or groups.
    AlignmentError
        Geometries have different labels.
    SchemaError
        An RDM lacks some pairs, or one geometry an RDM that another has.

    Notes
    -----
    Lin and Kriegeskorte (2023): Euclidean distances to centroids. Units are resampled whole, and no copy of a unit is among those that it
    is compared with; where RDMs are drawn one by one, copies of those that are tested remain in training. Stimuli keep what transforms of
    all of them made of their pairs. Draws are paired over geometries, and the variance is corrected for two kinds of units
    (:func:`brainalign.engine.bootstrap.two_factor_variance`). They hold fewer different units and stimuli to learn from than there are, and
    so find less: intervals are their spread around the score, within 0 and 1. Taken as they are, 95% intervals would hold 60%. Hits and misses vary more
    over draws than over studies: of two geometries that know as much, .2% pass at .05, so that p is a bound.

    Examples
    --------
    >>> import brainalign as ba
    >>> network = ba.simulate(n_stimuli=20, random_state=0).network
    >>> people = [ba.simulate(network, snr=2.0, random_state=seed).brain for seed in range(3)]
    >>> rdms = xr.concat([ba.rdm(x, by="region") for x in people], "subject", join="inner", combine_attrs="override")
    >>> float(ba.geometry.identify_groups(rdms).score.item())
    1.0
    """
    check_number("n_bootstraps", n_bootstraps, owner="identify_groups", low=0, integer=True)
    check_number("level", level, owner="identify_groups", low=0.5, high=0.9999)
    seed = check_random_state(random_state, owner="identify_groups")
    named = dict(rdms) if isinstance(rdms, Mapping) else {_ONE: rdms}
    if not named or by == over:
        raise ParameterError(
            f"identify_groups got {len(named)} geometries, by={by!r} and over={over!r}. Expected one at least, and two different dims."
        )
    vectors = {name: pairs_of(x, name) for name, x in named.items()}
    first = next(iter(named.values()))
    _check_labels(named, by, over)
    places = np.indices(first.shape[:-2]).reshape(first.ndim - 2, -1)
    there = _present(vectors)
    units, groups = (places[first.dims.index(dim)][there] for dim in (over, by))
    if len(set(units)) < 2 or len(set(groups)) < 2:
        raise ParameterError(
            f"identify_groups got RDMs of {len(set(units))} {over} and {len(set(groups))} {by}. Expected at least two of each."
        )
    units = np.unique(units, return_inverse=True)[1]
    patterns = [whole(np.where(there[:, None], x, 0.0), named[name], name)[there] for name, x in vectors.items()]
    out = _scored(patterns, units, groups, there, first, by).assign_coords(geometry=as_labels(list(named)))
    if n_bootstraps:
        names = first["stimulus"].values.astype(object)
        found = _redrawn(out.score, patterns, units, groups, names, n_bootstraps, level, np.random.default_rng(seed), progress)
        out = out.assign(found).set_coords([name for name in ("first", "second") if name in found])
    params = {"by": by, "over": over, "n_bootstraps": n_bootstraps, "level": level}
    out.attrs = params | {"direction": "higher is more alike", "chance": 1.0 / len(set(groups))}
    return write_step(out, "identify_groups", params=params, inputs=named, seed=seed)


def _present(vectors: dict[str, Numbers]) -> Numbers:
    """Say which RDMs there are, after checking that all geometries have the same; (rdm,)."""
    present = {name: ~np.isnan(x).all(axis=1) for name, x in vectors.items()}
    everywhere: Numbers = np.any(list(present.values()), axis=0)
    for name, has in present.items():
        if (has != everywhere).any():
            raise SchemaError(
                f"{name} is undefined in {(everywhere & ~has).sum()} of {everywhere.sum()} RDMs that other geometries have. Expected the same in "
                "all, for they are compared on them: a transform under which an RDM is flat cannot be among them."
            )
    return everywhere


def _check_labels(named: dict[str, xr.DataArray], by: str, over: str) -> None:
    first_name, first = next(iter(named.items()))
    for name, dim in (("by", by), ("over", over)):
        if dim not in first.dims[:-2]:
            raise ParameterError(
                f"identify_groups got {name}={dim!r} for RDMs with the dims {first.dims}. Expected a leading dim: stack them with `xr.concat`."
            )
    for name, x in named.items():
        same = x.dims == first.dims and x.shape == first.shape
        if not same or any(dim in x.coords and (x.coords[dim].values != first.coords[dim].values).any() for dim in x.dims):
            raise AlignmentError(
                f"{name} has the dims {dict(x.sizes)} and {first_name} {dict(first.sizes)}, or other labels along them. Expected geometries of "
                "the same RDMs, in one order: make them with `ba.geometry.geo_topological(rdms, ...)` and its like."
            )


def _scored(patterns: list[Numbers], units: Numbers, groups: Numbers, there: Numbers, x: xr.DataArray, by: str) -> xr.Dataset:
    """Return what needs no draws."""
    ones, n_groups = np.ones((1, units.max() + 1)), x.sizes[by]
    shape, lead = (len(patterns), *x.shape[:-2]), ("geometry", *x.dims[:-2])
    columns: dict[str, list[Numbers]] = {"score": [], "confusion": [], "identified": [], "distance_ratio": []}
    for pattern in patterns:
        gram = pattern @ pattern.T
        found = nearest(squared_to_centroids(gram, units, groups, ones))
        columns["score"].append(share_found(found, groups, ones, units)[0])
        confusion = np.zeros((n_groups, n_groups))
        np.add.at(confusion, (groups[found[0] >= 0], found[0][found[0] >= 0]), 1.0)
        columns["confusion"].append(confusion)
        right = np.where(found[0] < 0, np.nan, found[0] == groups)
        for name, values in (("identified", right), ("distance_ratio", distance_ratio(gram, units, groups))):
            columns[name].append(np.full(there.shape, np.nan))
            columns[name][-1][there] = values
    coords = {name: c for name, c in x.coords.items() if not set(c.dims) & {"stimulus", "stimulus_2"}}
    if by in coords:
        coords[f"{by}_2"] = (f"{by}_2", x.coords[by].values)
    dims = {"score": ("geometry",), "confusion": ("geometry", by, f"{by}_2")}
    stacked = {name: np.stack(values) for name, values in columns.items()}
    return xr.Dataset(
        {name: (dims[name], v) if name in dims else (lead, v.reshape(shape)) for name, v in stacked.items()}, coords
    )


def _redrawn(
    score: xr.DataArray,
    patterns: list[Numbers],
    units: Numbers,
    groups: Numbers,
    names: Numbers,
    n: int,
    level: float,
    rng: np.random.Generator,
    progress: bool | None,
) -> dict[str, Any]:
    """Return intervals of shares and of their differences, over units and stimuli, which are drawn by name."""
    n_units, n_stimuli = int(units.max()) + 1, len(names)
    of_units = draw_weights(n_units, n, rng)
    of_stimuli = draw_weights(n_stimuli, n, rng)[:, np.argsort(np.argsort(names))]
    once = np.ones((1, n_units))
    draws = np.empty((3, n, len(patterns)))  # of units, of stimuli, of both

    def shares(gram: Numbers, weights: Numbers) -> Numbers:
        found = nearest(squared_to_centroids(gram, units, groups, weights))
        return share_found(found, groups, weights, units)

    for k, pattern in enumerate(patterns):
        draws[0, :, k] = shares(pattern @ pattern.T, of_units)
    for draw in progress_bar(range(n), progress=progress, desc="draws"):
        weight = pair_weights(of_stimuli[draw : draw + 1])[0]
        for k, pattern in enumerate(patterns):
            gram = (pattern * weight) @ pattern.T
            draws[1:, draw, k] = shares(gram, np.concatenate([once, of_units[draw : draw + 1]]))
    moved = draws + (score.values - np.nanmean(draws, axis=1, keepdims=True))
    drawn = Drawn(score.values, moved[2], (moved[0], moved[1]), [n_units, n_stimuli])
    low, high = (end.clip(0.0, 1.0) for end in drawn.interval(level))
    named: dict[str, Any] = {"ci_low": ("geometry", low), "ci_high": ("geometry", high)}
    named["score_bootstrap"] = (("bootstrap", "geometry"), draws[2])
    if len(patterns) > 1:
        first, second = np.triu_indices(len(patterns), 1)
        columns = drawn.minus(0, first, second).tested(level, "difference", "p_value_bound")
        columns |= {"first": score.geometry.values[first], "second": score.geometry.values[second]}
        named |= {name: ("pair", values) for name, values in columns.items()}
    return named
