"""Protocols on one geometry: where along a network an area lies, and how few of its dimensions tell stimuli apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_random_state, check_sizes, did_you_mean, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of, order_of_neuroids, order_of_presentations
from brainalign.dataset.repeats import average_if_repeated
from brainalign.engine.comparators import COMPARATORS
from brainalign.engine.correlate import correlation_matrix, ranks
from brainalign.engine.depth import centre_of_mass, depth_of_peak
from brainalign.engine.distances import pairwise_distances
from brainalign.engine.kernel_analysis import gaussian_error_curve
from brainalign.engine.moments import Numbers, is_constant
from brainalign.geometry.sides import check_by, joined, positions_of

METRICS = ("spearman", "pearson")
SUMMARIES = ("argmax", "centre-of-mass")
_LEAST_STIMULI, _LEAST_NEUROIDS = 4, 3


def pseudo_depth(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    by: tuple[str, str] = ("layer", "region"),
    n_neuroids: Any = None,
    n_stimuli: Any = None,
    n_draws: int = 50,
    metric: str = "spearman",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Place areas along the layers of a network by the likeness of their geometries, from fewer and fewer neuroids and stimuli.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid)
        Repeats are averaged; the stimuli that both sides have are used.
    by : tuple of two str
        Neuroid coordinates that group the source, in order of depth, and the target.
    n_neuroids, n_stimuli : int or sequence of int, optional
        How many of the target's neuroids (of each group) and of the stimuli are drawn, without replacement; default half of the
        smallest group, and all stimuli. All leave nothing to draw on that side.
    n_draws : int
    metric : {"spearman", "pearson"}
        Between the dissimilarities (1 − Pearson r) of all pairs of stimuli.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over draws.

    Returns
    -------
    Dataset
        ``score`` (n_stimuli, n_neuroids, source_<a>, target_<b>), the similarity, averaged over draws; ``share``, of draws in which this
        source group is the most similar; ``depth`` (n_stimuli, n_neuroids, summary, target_<b>), from 0 (first) to 1 (last), by
        ``"argmax"`` and ``"centre-of-mass"``, averaged over draws, with ``depth_low`` and ``depth_high``, which hold 95% of them.
        A draw in which no source group is similar at all, all being at 0 or below, has no depth and is left out: NaN where all are.

    Raises
    ------
    ParameterError
        No such coordinate; more neuroids or stimuli than there are.
    AlignmentError
        Fewer than four stimuli in common.
    SchemaError
        A group of fewer than three neuroids that are finite throughout; stimuli that several subjects saw, in one array; a stimulus to
        which all neuroids of a group respond alike.

    Warns
    -----
    DegenerateNeuroidWarning
        Neuroids with NaN are left out.

    Notes
    -----
    Shi, Shea-Brown and Buice (2019): the similarity of similarity matrices. The order of areas is robust; their depths move with the number
    of neuroids, so that areas are compared at equal numbers. :func:`recovery_study` says how often a known layer would be found.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=60, snr=4.0, random_state=0)
    >>> out = pseudo_depth(study.network, study.brain, n_neuroids=[5, 30], n_draws=10, random_state=0)
    >>> out.depth.sel(n_neuroids=30, n_stimuli=60, summary="argmax").values.round(2).tolist()
    [0.0, 0.33, 1.0]
    """
    check_by(by, owner="pseudo_depth", whole=False)
    check_choice("metric", metric, METRICS, owner="pseudo_depth")
    check_number("n_draws", n_draws, owner="pseudo_depth", low=1, integer=True)
    seed = check_random_state(random_state, owner="pseudo_depth")
    once = _once(source, "source", "pseudo_depth"), _once(target, "target", "pseudo_depth")
    source, target, _ = joined(*once, _LEAST_STIMULI)
    layers = _groups(source, by[0], "source", "pseudo_depth", least=_LEAST_NEUROIDS)
    areas = _groups(target, by[1], "target", "pseudo_depth", least=_LEAST_NEUROIDS)
    _refuse_constant({"source": layers, "target": areas}, source.stimulus_id.values)
    n_all = source.sizes["presentation"]
    n_stimuli = n_all if n_stimuli is None else n_stimuli
    stimuli = check_sizes("n_stimuli", n_stimuli, owner="pseudo_depth", low=_LEAST_STIMULI, high=n_all)
    smallest = min(area.shape[1] for area in areas.values())
    n_neuroids = max(_LEAST_NEUROIDS, smallest // 2) if n_neuroids is None else n_neuroids
    neuroids = check_sizes("n_neuroids", n_neuroids, owner="pseudo_depth", low=_LEAST_NEUROIDS, high=smallest)
    matrices = np.stack([pairwise_distances(values) for values in layers.values()])
    streams = progress_bar(np.random.SeedSequence(seed).spawn(n_draws), progress=progress, desc="draws")
    names = order_of_presentations(source)
    draws = np.stack([_one_draw(matrices, areas, names, stimuli, neuroids, metric, np.random.default_rng(s)) for s in streams])
    out = _summarised(draws, {"n_stimuli": list(stimuli), "n_neuroids": list(neuroids)}, by, list(layers), list(areas))
    out.score.attrs["units"] = COMPARATORS[metric].units
    params = {"by": by, "n_draws": n_draws, "metric": metric}
    return write_step(
        out.assign_attrs(metric=metric), "pseudo_depth", params=params, inputs={"source": source, "target": target}, seed=seed
    )


def kernel_analysis(
    responses: xr.DataArray,
    target: str,
    *,
    by: str | None = None,
    quantiles: float | Sequence[float] = (0.1, 0.5, 0.9),
    progress: bool | None = None,
) -> xr.Dataset:
    """Say how few dimensions of a representation hold what tells stimuli apart.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid)
        Repeats are averaged. Neuroids with NaN are left out.
    target : str
        Presentation coordinate to be told from the responses: classes, or a number where it is one with a fraction.
    by : str, optional
        Neuroid coordinate that groups them: ``"layer"`` or ``"region"``.
    quantiles : float or sequence of float
        In (0, 1], of the squared distances between stimuli, which are the widths of the Gaussian kernels; the best is taken at each
        dimension.
    progress : bool or None
        As in :func:`evaluate`, over groups.

    Returns
    -------
    Dataset
        ``error`` (n_components, <by>), the share of the variance of the target that the first components of the kernel leave, from 1 at
        none; ``area`` (<by>), its mean: lower is better. NaN where most stimuli have the same responses. Attr ``direction``.

    Raises
    ------
    ParameterError
        No such coordinate, or one that differs between the presentations of a stimulus; one class; no quantile, or one outside of (0, 1].
    SchemaError
        A group without a neuroid that is finite throughout; stimuli that several subjects saw, in one array.

    Notes
    -----
    Montavon, Braun and Müller (2011); Cadieu et al. (2014). The components come from all stimuli, with no stimuli left out: the error
    falls with their number whatever they hold, and is comparable between systems that saw the same stimuli.

    Examples
    --------
    >>> import brainalign as ba
    >>> network = ba.simulate(n_stimuli=60, random_state=0).network
    >>> network = network.assign_coords(large=("presentation", network.values[:, 0] > 0))
    >>> kernel_analysis(network, "large", by="layer").area.argmin("layer").item()
    0
    """
    chosen = [
        check_number("quantiles", q, owner="kernel_analysis", low=0.0, high=1.0, low_open=True) for q in np.atleast_1d(quantiles)
    ]
    if not chosen:
        raise ParameterError("kernel_analysis got quantiles=(). Expected at least one width of a kernel, as in (0.1, 0.5, 0.9).")
    once = _once(responses, "responses", "kernel_analysis")
    Y = _targets(once, target)
    groups = _groups(once, by, "responses", "kernel_analysis", least=1)
    shown = progress_bar(groups.values(), progress=progress, desc="groups")
    error = np.stack([gaussian_error_curve(values, Y, chosen) for values in shown], axis=1)
    out = xr.Dataset(
        {"error": (("n_components", by or "group"), error), "area": (by or "group", error.mean(axis=0))},
        coords={"n_components": np.arange(len(error)), **({by: as_labels(list(groups))} if by else {})},
        attrs={"direction": "lower is better"},
    )
    out = out if by else out.squeeze("group")
    return write_step(
        out, "kernel_analysis", params={"target": target, "by": by, "quantiles": chosen}, inputs={"responses": responses}
    )


def _targets(x: xr.DataArray, name: str) -> Numbers:
    """Return what is told from responses, (stimulus, class), or (stimulus, 1) for a number."""
    labels = coords_of(x, "presentation")
    if name not in labels:
        raise ParameterError(
            f"kernel_analysis got target={name!r}; its stimuli have the coordinates {', '.join(sorted(labels))}. Expected one that is the "
            f"same in all presentations of a stimulus.{did_you_mean(name, labels)}"
        )
    values = labels[name]
    is_number = values.dtype.kind == "f"
    if len(np.unique(values)) < 2 or (is_number and not np.isfinite(values).all()):
        raise ParameterError(
            f"kernel_analysis got target={name!r}, which is {preview(values)}. Expected two classes, or finite numbers that differ."
        )
    return (values[:, None] if is_number else pd.get_dummies(values.astype(object)).to_numpy()).astype(np.float64)


def _one_draw(
    matrices: Numbers,
    areas: dict[Any, Numbers],
    names: Numbers,
    stimuli: list[int],
    neuroids: list[int],
    metric: str,
    rng: np.random.Generator,
) -> Numbers:
    """Return similarities, (n_stimuli, n_neuroids, layer, area); smaller draws are part of larger ones, and all are drawn by name."""
    rows = rng.permutation(names)
    columns = {label: rng.permutation(areas[label].shape[1]) for label in sorted(areas, key=str)}
    out = np.full((len(stimuli), len(neuroids), len(matrices), len(areas)), np.nan)
    for i, n in enumerate(stimuli):
        first, second = np.triu_indices(n, 1)
        of_layers = matrices[:, rows[:n][:, None], rows[:n]][:, first, second].T
        for j, m in enumerate(neuroids):
            some = (area[np.ix_(rows[:n], columns[label][:m])] for label, area in areas.items())
            of_areas = np.stack([pairwise_distances(x)[first, second] for x in some], axis=1)
            known = np.isfinite(of_layers).all(axis=1) & np.isfinite(of_areas).all(axis=1)
            if known.sum() >= 3:
                pair = (of_layers[known], of_areas[known])
                out[i, j] = correlation_matrix(*((ranks(x) for x in pair) if metric == "spearman" else pair))
    return out


def _summarised(
    draws: Numbers, sizes: dict[str, list[int]], by: tuple[str, str], layers: list[Any], areas: list[Any]
) -> xr.Dataset:
    rows, columns = f"source_{by[0]}", f"target_{by[1]}"
    by_layer = np.moveaxis(draws, 3, 0)  # (layer, draw, n_stimuli, n_neuroids, area)
    depth = np.stack([depth_of_peak(by_layer), centre_of_mass(by_layer)], axis=-2)  # (draw, n_stimuli, n_neuroids, summary, area)
    best = draws == np.max(draws, axis=3, keepdims=True)
    dims = ("n_stimuli", "n_neuroids", "summary", columns)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|All-NaN slice", RuntimeWarning)
        low, high = np.nanquantile(depth, [0.025, 0.975], axis=0)
        named = {"depth": np.nanmean(depth, axis=0), "depth_low": low, "depth_high": high}
    grid = {"score": draws.mean(axis=0), "share": best.mean(axis=0)}
    coords = {**sizes, rows: as_labels(layers), columns: as_labels(areas), "summary": as_labels(list(SUMMARIES))}
    variables = {name: (("n_stimuli", "n_neuroids", rows, columns), values) for name, values in grid.items()}
    return xr.Dataset(variables | {name: (dims, values) for name, values in named.items()}, coords=coords)


def _once(x: xr.DataArray, name: str, owner: str) -> xr.DataArray:
    """Return one row a stimulus."""
    validate(x, name=name)
    if "time" in x.dims:
        raise ParameterError(
            f"{owner} got {name} with dims {x.dims}. Expected no time: select one, `x.sel(time=0.1, method='nearest')`."
        )
    return average_if_repeated(x, owner=owner)


def _groups(x: xr.DataArray, name: str | None, side: str, owner: str, *, least: int) -> dict[Any, Numbers]:
    """Return the responses of each group, (stimulus, neuroid), without neuroids that have NaN."""
    groups = {}
    for label, at in positions_of(x, name, side, owner=owner).items():
        part = x.isel(neuroid=at)
        values = part.values[:, order_of_neuroids(part)]  # what is drawn of them is drawn by name
        finite = np.isfinite(values).all(axis=0)
        if finite.sum() < least:
            raise SchemaError(
                f"{owner} found {finite.sum()} neuroids without NaN or infinity in {side} {label!r}. Expected at least {least}: drop the "
                "stimuli for which they have none, or this group."
            )
        if not finite.all():
            warnings.warn(
                f"{owner} leaves out {(~finite).sum()} of {len(finite)} neuroids of {side} {label!r}, which have NaN or infinity.",
                DegenerateNeuroidWarning,
                stacklevel=3,
            )
        groups[label] = values[:, finite].astype(np.float64)
    return groups


def _refuse_constant(sides: dict[str, dict[Any, Numbers]], stimuli: Numbers) -> None:
    for side, groups in sides.items():
        for label, values in groups.items():
            flat = is_constant(values, axis=1, unit=float(np.finfo(np.float32).eps))  # of what was stored
            if flat.any():
                raise SchemaError(
                    f"pseudo_depth got {flat.sum()} stimuli to which all neuroids of {side} {label!r} respond alike: {preview(stimuli[flat])}. "
                    "Expected patterns that vary, to be correlated: leave these stimuli out."
                )
