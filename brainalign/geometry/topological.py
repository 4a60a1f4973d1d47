"""``trsa``: how similar two geometries are under a whole family of thresholds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.bootstrap import Drawn, draw_weights
from brainalign.engine.comparators import COMPARATORS
from brainalign.engine.families import FAMILIES, family_of, family_scores, grid, standardised
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import n_workers, side_by_side
from brainalign.engine.rdm_bootstrap import redrawn_parts
from brainalign.engine.resample import distinct_orders, false_discovery_rate, p_of_the_maximum, p_values
from brainalign.engine.topology import geo_topological, rescale
from brainalign.geometry.rdm_pairs import join_rdms, leading
from brainalign.geometry.transforms import check_thresholds, whole

METRICS = ("pearson", "cosine")


def trsa(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    family: str | Sequence[str] = "all",
    lower: Any = None,
    upper: Any = None,
    step: float = 0.05,
    scale: str = "rank",
    threshold: str = "quantile",
    metric: str = "pearson",
    join: str = "inner",
    n_permutations: int = 0,
    n_bootstraps: int = 0,
    level: float = 0.95,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Compare every source RDM with every target RDM after each of many geo-topological transforms.

    Parameters
    ----------
    source, target : DataArray, (..., stimulus, stimulus_2)
        From :func:`rdm` or :func:`open_rdms`; matched by stimulus. Both are transformed with the same thresholds.
    family : str, or several of them
        Which thresholds of the grid: ``"local"``, ``"global"``, ``"geometry-sensitive"``, ``"topology-sensitive"``, ``"intermediate"``,
        or ``"all"``.
    lower, upper : float or sequence of float, optional
        Pairs of thresholds instead of a grid. Where they are equal, the transform is a graph: 1 above them.
    step : float
        Of the grid over 0 ≤ l < u ≤ 1; 1 / step is a whole number.
    scale : {"rank", "minmax", "raw"}
        Of dissimilarities, for each RDM by itself.
    threshold : {"quantile", "fraction", "absolute"}
        Thresholds are quantiles of an RDM, fractions of its largest dissimilarity, or dissimilarities.
    metric : {"pearson", "cosine"}
        Between the pairs above the diagonal.
    join : {"inner", "exact"}
        Whether stimuli that one side lacks are left out (and reported) or an error.
    n_permutations : int
        Of stimuli. In each, all transforms are scored again.
    n_bootstraps : int
        Of stimuli, whose pairs keep what the transforms of all stimuli made of them.
    level : float
        Share of intervals that hold the truth.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over pairs of RDMs in other orders, and over transforms of redrawn ones.

    Returns
    -------
    Dataset
        ``score`` (transform, source_<dim>, target_<dim>), higher is more alike; coordinates ``lower``, ``upper`` and ``family`` (transform).
        NaN where a transform leaves all pairs of an RDM alike. With permutations also ``p_value``, ``p_value_fdr``, ``p_value_max``, which
        holds for all scores together, and ``p_value_family`` (source_<dim>, target_<dim>): of the most unlikely of a pair's transforms.
        With bootstraps also ``ci_low``, ``ci_high``, ``score_bootstrap`` (bootstrap, ...), ``score_left_out`` and ``n_units``, from which
        ``ba.bootstrap(out, over=("target_subject", "stimulus"), between="transform")`` draws subjects, too, and compares transforms.

    Raises
    ------
    AlignmentError
        Fewer than three stimuli in common; any that is not shared under ``join="exact"``.
    SchemaError
        A side is no set of symmetric matrices with unique stimuli, or lacks pairs.
    ParameterError
        Thresholds that are none.

    Notes
    -----
    Lin and Kriegeskorte (2023): with ranks and quantiles, l = 0 and u = 1 are RSA on ranks, and what lies between l and u is the geometry
    that the transform keeps. By chance scores scatter up to twice as much under wide transforms as under narrow ones. For ``p_value_max``
    and ``p_value_family`` each is taken in units of its own null, so that none drowns the others: what RSA misses where only near
    pairs are alike is found.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=40, random_state=0)
    >>> out = ba.trsa(ba.rdm(study.network, by="layer"), ba.rdm(study.brain, by="region"), step=0.1, n_permutations=99, random_state=0)
    >>> v1 = out.sel(transform="0.4-0.6", target_region="V1")
    >>> v1.score.dims, str(v1.source_layer[v1.score.argmax("source_layer")].item()), v1.p_value_max.min().item()
    (('source_layer',), 'layer1', 0.01)
    """
    check_choice("metric", metric, METRICS, owner="trsa")
    for name, n_draws in (("n_permutations", n_permutations), ("n_bootstraps", n_bootstraps)):
        check_number(name, n_draws, owner="trsa", low=0, integer=True)
    check_number("level", level, owner="trsa", low=0.5, high=0.9999)
    check_choice("join", join, ("inner", "exact"), owner="trsa")
    if lower is None and upper is None:
        lower, upper = _of_families(family, step)
    elif family != "all":
        raise ParameterError(f"trsa got family={family!r} and thresholds of its own. Expected one of the two.")
    low, high = check_thresholds(lower, upper, scale=scale, threshold=threshold, owner="trsa")
    both = join_rdms({"source": source, "target": target}, join)
    sides = (*(whole(both.vectors[name], x, name) for name, x in (("source", source), ("target", target))), low, high)
    options = {"scale": scale, "threshold": threshold, "metric": metric}
    score = family_scores(*sides, **options)
    seed = check_random_state(random_state, owner="trsa")
    shown = partial(progress_bar, progress=progress, desc="permutations")
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)]
    columns, n = {"score": score}, len(both.stimuli)
    if n_permutations:
        orders = distinct_orders(np.arange(n), n_permutations, streams[0])
        columns |= _chance(score, family_scores(*sides, orders=orders, shown=shown, **options))
        n_permutations = len(orders)
    if n_bootstraps:
        draws = _redrawn(*sides, draw_weights(n, n_bootstraps, streams[1]), **options, progress=progress)
        left_out = _redrawn(*sides, 1 - np.eye(n, dtype=np.int64), **options, progress=False)
        columns["ci_low"], columns["ci_high"] = Drawn(score, draws, (), [n], left_out=left_out).interval(level)
        columns |= {"score_bootstrap": draws, "score_left_out": left_out}
    out = _labelled(columns, source, target, low, high).assign({"n_units": n} if n_bootstraps else {})
    out.score.attrs["units"] = COMPARATORS[metric].units
    params = options | {"join": join, "n_permutations": n_permutations, "n_bootstraps": n_bootstraps, "level": level}
    out.attrs = params | {"direction": "higher is more alike", "report": json.dumps(both.report)}
    params |= {"lower": low, "upper": high}
    return write_step(out, "trsa", params=params, inputs={"source": source, "target": target}, seed=seed)


def _of_families(family: str | Sequence[str], step: float) -> tuple[Numbers, Numbers]:
    """Return the thresholds of a grid that belong to some families."""
    asked = [family] if isinstance(family, str) else list(family)
    for name in asked:
        check_choice("family", name, ("all", *FAMILIES), owner="trsa")
    check_number("step", step, owner="trsa", low=0.01, high=0.5)
    if abs(1 / step - round(1 / step)) > 1e-6:
        raise ParameterError(f"The 'step' parameter of trsa must divide 1 into equal parts, such as 0.05. Got {step!r} instead.")
    low, high = grid(step)
    kept = np.isin(family_of(low, high), FAMILIES if "all" in asked else asked)
    if not kept.any():
        raise ParameterError(f"trsa got family={family!r}, of which a grid of step={step} has none. Expected a finer one.")
    return low[kept], high[kept]


def _chance(score: Numbers, null: Numbers) -> dict[str, Numbers]:
    """Return p-values: of each score, of all together, and of each pair of matrices over its transforms."""
    p = p_values(score, null)
    z, z_null = standardised(score, null)
    highest, of_null = (np.where(np.isnan(x), -np.inf, x).max(axis=-3) for x in (z, z_null))
    of_pairs = p_values(np.where(np.isfinite(highest), highest, np.nan), of_null)
    return {
        "p_value": p,
        "p_value_fdr": false_discovery_rate(p),
        "p_value_max": p_of_the_maximum(z, z_null),
        "p_value_family": of_pairs,
    }


def _redrawn(
    source: Numbers,
    target: Numbers,
    lower: Numbers,
    upper: Numbers,
    counts: Numbers,
    *,
    scale: str,
    threshold: str,
    metric: str,
    progress: bool | None,
) -> Numbers:
    """Return the scores of redrawn stimuli, (draw, transform, matrix, other)."""
    out = np.empty((len(counts), len(lower), len(source), len(target)))
    scaled = [rescale(side, scale) for side in (source, target)]
    transforms = progress_bar(list(zip(lower, upper, strict=True)), progress=progress, desc="draws by transform")
    for k, between in enumerate(transforms):
        models, data = (geo_topological(side, *between, scale="raw", threshold=threshold) for side in scaled)
        made = redrawn_parts(models, data[None], metric, counts, ceiling=False)
        out[:, k] = np.concatenate(side_by_side(lambda part: part().scores, made, n_workers(models)))
    return out


def _labelled(columns: dict[str, Numbers], source: xr.DataArray, target: xr.DataArray, low: Numbers, high: Numbers) -> xr.Dataset:
    (first, shape, coords), (second, other_shape, other_coords) = leading(source, "source"), leading(target, "target")
    along = {
        "transform": as_labels([f"{a:g}-{b:g}" for a, b in zip(low, high, strict=True)]),
        "lower": ("transform", low),
        "upper": ("transform", high),
        "family": ("transform", as_labels(family_of(low, high))),
    }
    named = {
        name: (
            ("left_out" if name == "score_left_out" else "bootstrap", "transform", *first, *second)[4 - values.ndim :],
            values.reshape((*values.shape[:-2], *shape, *other_shape)),
        )
        for name, values in columns.items()
    }
    return xr.Dataset(named, coords | other_coords | along)
