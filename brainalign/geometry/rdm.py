"""``rdm``: how different the responses to each pair of conditions are."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_device, check_number, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import hashed_meanwhile, write_step
from brainalign.core.schema import as_labels, validate
from brainalign.dataset.repeats import refuse_several_subjects
from brainalign.engine.backend import resolve_device
from brainalign.geometry.conditions import APART, Array, Cell, cells_of, check_folds, labels_of, read_cells
from brainalign.geometry.measures import LEAST, MEASURES, Settings, dissimilarities, holes_of, refuse_few, summed
from brainalign.geometry.noise import check_noise, covariance_of, noise_of
from brainalign.geometry.tiles import store_tiles


def rdm(
    responses: xr.DataArray,
    *,
    metric: str = "correlation",
    by: str | Sequence[str] | None = None,
    condition: str = "stimulus_id",
    repeats: str = "average",
    folds: str | None = None,
    between: tuple[str, str] | None = None,
    noise: str | xr.DataArray | None = None,
    time: str = "match",
    prior: tuple[float, float] = (1.0, 0.1),
    dtype: str = "float64",
    device: str = "cpu",
    store: str | os.PathLike[str] | None = None,
    name: str = "rdm",
    max_memory: int = 2**30,
    progress: bool | None = None,
) -> xr.DataArray:
    """Return representational dissimilarity matrices.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
    metric : {"correlation", "cosine", "euclidean", "sqeuclidean", "mahalanobis", "crossnobis", "poisson", "poisson-cv"}
        1 − Pearson r over neuroids; 1 − cosine; √Σ(a−b)²; and, as means over neuroids: squared differences; these in units
        of noise; their product between folds, which is 0 on average where there is no difference; the symmetrised
        Kullback–Leibler divergence of Poisson rates, and its product between folds. The first two need three neuroids, as the direction
        of a pattern over fewer says little or nothing; for differences one is enough, such as a neuron, the mean of an area or a reaction
        time.
    by : str or sequence of str, optional
        One matrix for each value of this coordinate: of neuroids (``"layer"``, ``"region"``, ``"system"``) or of
        presentations (``"subject"``, ``"session"``). Several make a grid.
    condition : str
        Presentation coordinate that names the conditions to compare.
    repeats : {"average", "refuse"}
        Average the presentations of a condition (within a fold); or let there be one only.
    folds : str, optional
        Presentation coordinate (``"run"``, ``"session"``) of parts whose noise is independent. ``"crossnobis"`` and
        ``"poisson-cv"`` need it. The others then compare patterns of different folds only, and average over pairs of folds:
        the diagonal is no longer 0, but how far a condition is from itself.
    between : tuple of str, optional
        Two values of ``folds``: rows are patterns of the first, columns those of the second; not symmetric.
    noise : {"shrinkage-diagonal", "shrinkage-eye", "full", "diagonal"} or DataArray (..., neuroid, neuroid_2), optional
        Noise covariance, of the repeats or from :func:`brainalign.geometry.noise_covariance`: one for all, or one for each
        value of ``by`` or time, or for each fold (the distance is then the mean over pairs of folds, each in units of the
        mean noise of the two). One with the attr ``inverse=True`` is the inverse of a covariance, symmetric and positive definite:
        the fastest for ``"crossnobis"``. ``"mahalanobis"`` needs noise; ``"crossnobis"`` without it is a cross-validated Euclidean distance.
    time : {"match", "all"}
        Differences at one time, or at one time with those at every other (with ``folds`` only).
    prior : tuple of float
        Rate and weight towards which Poisson rates are drawn, so that none is 0.
    dtype : {"float64", "float32"}
        Of the computation and of the result.
    device : {"cpu", "cuda", "auto"}
    store : path, optional
        Write the matrices into the results of this study, tile by tile, for conditions by the ten thousand: never is one whole in
        memory, each half is computed once, and nothing is visible before all is there. For the first four metrics, without
        ``folds``; ``dtype="float32"`` takes half the disk. ``ba.open_rdms(store, key=name)`` opens it again.
    name : str
        Of the result in the study.
    max_memory : int
        Bytes for what is computed at a time with ``store``, and for the responses that groups share; the more, the less often lazy
        responses are read.
    progress : bool or None
        As in :func:`evaluate`, over matrices; with ``store``, over tiles.

    Returns
    -------
    DataArray, ([by...,] [time, [time_2,]] stimulus, stimulus_2); unit: that of the metric
        Conditions in the order of first appearance. Coordinate ``n_neuroids``. NaN, never 0, for a condition without a
        defined pattern: not presented in its group, or constant over neuroids at that time under ``"correlation"``. The attr
        ``symmetric`` is False where ``between`` made it so. Lazy with ``store``.

    Raises
    ------
    ParameterError
        No such coordinate or fold; folds or noise missing, or given to a metric that has none.
    SchemaError
        Fewer than three conditions, or neuroids under a correlation; a pattern that is constant over neuroids under one; a repeated
        condition under ``repeats="refuse"``; presentations of a condition to several subjects, which would be averaged: ``by="subject"``
        or ``folds="subject"`` keep them apart; folds that do not repeat the conditions; negative rates; noise that cannot be inverted.
    CapabilityError, StoreError
        A metric that is not made tile by tile; a name that is taken in the study.

    Notes
    -----
    Neuroids with NaN in any presentation of their group are left out with a warning, for they would leave nothing; with
    ``store`` they are an error, since the first tiles are written before the last responses are read.

    Cross-validated distances are means over all pairs of presentations in different folds, whatever their number. Where some
    conditions have fewer than others, the mean pattern of a run does not cancel: take it out first (``ba.ZScore``).

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], stimulus_id=["a", "b", "c"], neuroid_id=["u", "v"],
    ...                  modality="ann", system="net")
    >>> ba.rdm(x, metric="euclidean").sel(stimulus="a").values
    array([0., 5., 1.])
    """
    validate(responses)
    _check_choices(metric, repeats, time, prior, dtype)
    check_number("max_memory", max_memory, owner="rdm", low=1, integer=True)
    device = check_device(device, resolve_device(device), owner="rdm")
    _check_fit(metric, folds, between, noise, time == "all", responses.dims)
    conditions = labels_of(responses, condition, parameter="condition")
    if len(conditions[1]) < LEAST:
        raise SchemaError(
            f"rdm got {len(conditions[1])} conditions ({preview(conditions[1])}). Expected at least {LEAST}: look at `x.{condition}`."
        )
    runs = _folds(responses, folds, between)
    lead, cells = cells_of(responses, by)
    if between is not None:
        cells = [replace(cell, rows=cell.rows[runs[0][cell.rows] >= 0]) for cell in cells]
    for cell in cells:
        _check_means(responses.coords["stimulus_id"], cell, conditions, runs[0], repeats)
    noise = check_noise(noise, responses, tuple(lead), folds)
    by_fold = isinstance(noise, xr.DataArray) and folds is not None and folds in noise.dims
    inverse = isinstance(noise, xr.DataArray) and bool(noise.attrs.get("inverse"))
    ask = Settings(metric, folds, between, by_fold, inverse, time == "all", prior, dtype, device)
    attrs = _attrs(metric, condition, folds, between, noise)
    params = {
        "metric": metric, "by": by, "condition": condition, "repeats": repeats, "folds": folds, "between": between,
        "noise": noise if isinstance(noise, str) else None, "time": time, "prior": prior, "dtype": dtype,
    }  # fmt: skip
    inputs = hashed_meanwhile({"responses": responses} | ({"noise": noise} if isinstance(noise, xr.DataArray) else {}))
    if store is not None:
        template = _labelled(None, [len(cell.columns) for cell in cells], lead, conditions[1], responses, ask, attrs)
        template = write_step(template, "rdm", params=params, inputs=inputs)
        where = {"store": store, "name": name, "max_memory": max_memory, "progress": progress}
        out, holes = store_tiles(responses, cells, conditions[0], template, ask, **where)
        _warn_of_holes(list(holes), cells, conditions[1])
        return out
    found: dict[int, tuple[Array, int]] = {}
    with progress_bar(progress=progress, desc="rdm", total=len(cells)) as bar:
        for those, columns, block in read_cells(responses, cells, max_memory=max_memory):
            made = _of_same_rows(responses, [cells[i] for i in those], columns, block, conditions, runs, noise, ask, bar)
            found |= zip(those, made, strict=True)
    parts, counts = zip(*(found[i] for i in range(len(cells))), strict=True)
    _warn_of_holes([holes_of(matrix) for matrix in parts], cells, conditions[1])
    out = _labelled(np.stack(parts) if lead else parts[0], list(counts), lead, conditions[1], responses, ask, attrs)
    return write_step(out, "rdm", params=params, inputs=inputs)


def _attrs(metric: str, condition: str, folds: str | None, between: tuple[str, str] | None, noise: Any) -> dict[str, Any]:
    """Return what a reader of the result must know."""
    units = MEASURES["mahalanobis" if metric == "crossnobis" and noise is not None else metric].units
    attrs: dict[str, Any] = {"metric": metric, "units": units, "condition": condition}
    attrs |= {} if folds is None else {"folds": folds}
    return attrs if between is None else attrs | {"between": list(between), "symmetric": False}


def _check_choices(metric: Any, repeats: Any, time: Any, prior: Any, dtype: Any) -> None:
    check_choice("metric", metric, tuple(MEASURES), owner="rdm")
    check_choice("repeats", repeats, ("average", "refuse"), owner="rdm")
    check_choice("time", time, ("match", "all"), owner="rdm")
    check_choice("dtype", dtype, ("float64", "float32"), owner="rdm")
    if np.shape(prior) != (2,):
        raise ParameterError(f"The 'prior' parameter of rdm must be a rate and a weight, (1.0, 0.1). Got {prior!r} instead.")
    for value in prior:
        check_number("prior", value, owner="rdm", low=0, low_open=True)


def _check_fit(metric: str, folds: Any, between: Any, noise: Any, across_times: bool, dims: tuple[Any, ...]) -> None:
    """Refuse what the metric needs and was not given, and what it has no use for."""
    wanted = {"folds": "a presentation coordinate such as 'run' or 'session'", "noise": "'shrinkage-diagonal', or a covariance"}
    for name, value in (("folds", folds), ("noise", noise)):
        rule, those = getattr(MEASURES[metric], name), [m for m in MEASURES if getattr(MEASURES[m], name) != "never"]
        if rule == "must" and value is None:
            raise ParameterError(f"rdm needs `{name}=` for metric={metric!r}, got None. Expected {wanted[name]}.")
        if rule == "never" and value is not None:
            raise ParameterError(
                f"rdm got `{name}=` for metric={metric!r}, which has none. Expected one of {', '.join(map(repr, those))}: choose it, or leave "
                f"`{name}` out."
            )
    if between is not None and (folds is None or MEASURES[metric].folds == "must"):
        raise ParameterError(
            f"rdm got between={between!r} with folds={folds!r} and metric={metric!r}. Expected `folds`, whose values these are, and a metric "
            "of patterns of two folds, which a cross-validated one is not: its matrix is symmetric."
        )
    by_time = isinstance(noise, xr.DataArray) and "time" in noise.dims
    if across_times and (folds is None or "time" not in dims or by_time):
        raise ParameterError(
            f"rdm got time='all' with folds={folds!r}, responses {dims} and {'one noise covariance a time' if by_time else 'no noise by time'}. "
            "Expected folds, responses with a time, and one noise covariance for all times."
        )
    if metric != "crossnobis" and isinstance(noise, xr.DataArray) and folds is not None and folds in noise.dims:
        raise ParameterError(
            f"rdm got a noise covariance for each fold with metric={metric!r}. Expected one for all, or 'crossnobis'."
        )


def _folds(responses: xr.DataArray, folds: str | None, between: Any) -> tuple[Array, Array]:
    """Return the number of the fold of each presentation, -1 where it is in none of those asked for, and the folds."""
    if folds is None:
        return np.zeros(len(responses), dtype=np.int64), np.array(["all"], dtype=object)
    codes, names = labels_of(responses, folds, parameter="folds")
    if between is None:
        return codes, names
    known = [str(name) for name in names]
    if not isinstance(between, (tuple, list)) or len({str(fold) for fold in between}) != 2 or len(between) != 2:
        raise ParameterError(
            f"between={between!r} must name two folds of {folds!r}. Expected one for the rows and one for the columns."
        )
    for fold in between:
        if str(fold) not in known:
            raise ParameterError(f"between={between!r} names {fold!r}. Expected two values of {folds!r}: {preview(known, 8)}.")
    chosen = [known.index(str(fold)) for fold in between]
    new = np.full(len(names), -1)
    new[chosen] = [0, 1]
    return new[codes], names[chosen]


def _check_means(presentations: xr.DataArray, cell: Cell, conditions: tuple[Array, Array], folds: Array, repeats: str) -> None:
    """Refuse means over subjects, and under ``repeats="refuse"`` over anything."""
    if repeats == "average" and "subject" not in presentations.coords:
        return
    rows, names = cell.rows, conditions[1]
    codes = conditions[0][rows]
    groups = folds[rows] * len(names) + codes
    twice = np.unique(codes[pd.Series(groups).duplicated().to_numpy()])
    if repeats == "refuse" and len(twice):
        raise SchemaError(
            f"rdm got {len(twice)} conditions that are presented more than once: {preview(names[twice])}. Expected one presentation each: use "
            "`repeats='average'`, or name another `condition`."
        )
    refuse_several_subjects(presentations[rows], groups, owner="rdm", mend=APART)


def _of_same_rows(
    responses: xr.DataArray,
    cells: list[Cell],
    columns: Array,
    block: Array,
    conditions: tuple[Array, Array],
    folds: tuple[Array, Array],
    noise: Any,
    ask: Settings,
    bar: Any,
) -> list[tuple[Array, int]]:
    """Return the matrix of each cell, and its number of neuroids; the responses of all are summed at once."""
    rows, names = cells[0].rows, conditions[1]
    codes, fold_codes, fold_names = conditions[0][rows], folds[0][rows], folds[1]
    if ask.between is None:
        present, fold_codes = np.unique(fold_codes, return_inverse=True)
        fold_names = fold_names[present]
    finite = np.asarray(np.isfinite(block).all(axis=(0, *range(2, block.ndim))))
    ids = responses.coords["neuroid_id"].values[columns]
    if not finite.all():
        warnings.warn(
            f"{int((~finite).sum())} of {len(finite)} neuroids have NaN or infinity and are left out of the dissimilarities: "
            f"{preview(ids[~finite])}.",
            DegenerateNeuroidWarning,
            stacklevel=3,
        )
    if ask.metric.startswith("poisson"):
        _refuse_negative(block[:, finite], ids[finite], ask.metric)
    sums = summed(block, codes, fold_codes, (len(fold_names), len(names)))
    full = [cell for cell in cells if len(rows) and len(cell.columns)]
    if full and ask.folds is not None and ask.between is None:
        check_folds(sums.counts, names, fold_names, ask.folds, complete=ask.metric == "poisson-cv", where=full[0])
    made = []
    for cell in cells:
        bar.update()
        if not len(rows) or not len(cell.columns):  # a layer that this system lacks
            times = [responses.sizes["time"]] * (1 + ask.across_times) if "time" in responses.dims else []
            made.append((np.full((*times, len(names), len(names)), np.nan, dtype=ask.dtype), 0))
            continue
        own = np.searchsorted(columns, cell.columns)
        own = own[finite[own]]
        refuse_few(len(own), cell, ask.metric)
        covariance = None
        if isinstance(noise, str):
            covariance, _ = covariance_of(block[:, own], codes, noise, ids[own], cell)
        elif noise is not None:
            covariance = noise_of(noise, cell, columns[own], ask.folds if ask.noise_by_fold else None, fold_names)
        made.append((dissimilarities(sums.of(own), names, covariance, cell, ask), len(own)))
    return made


def _refuse_negative(block: Array, ids: Array, metric: str) -> None:
    negative = (block < 0).any(axis=(0, *range(2, block.ndim)))
    if negative.any():
        raise SchemaError(
            f"{metric} got negative responses, down to {block.min():.4g}, of {int(negative.sum())} of {len(ids)} neuroids: "
            f"{preview(ids[negative])}. Expected counts or rates."
        )


def _labelled(
    matrices: Array | None,
    n_neuroids: list[int],
    lead: dict[str, Array],
    names: Array,
    responses: xr.DataArray,
    ask: Settings,
    attrs: dict[str, Any],
) -> xr.DataArray:
    """Label the matrices of all cells; without any, an array of their shape that cannot be read yet."""
    times = ["time", "time_2"][: 1 + ask.across_times] if "time" in responses.dims else []
    coords: dict[str, Any] = {**lead, **{dim: responses.coords["time"].values for dim in times}}
    coords |= dict.fromkeys(("stimulus", "stimulus_2"), as_labels(names))
    shape = [len(values) for values in coords.values()]
    if matrices is None:
        import dask.array as da

        values = da.empty(shape, dtype=ask.dtype, chunks=-1)
    else:
        values = matrices.reshape(shape)
    coords["n_neuroids"] = (list(lead), np.reshape(n_neuroids, shape[: len(lead)]))
    return xr.DataArray(values, dims=[*lead, *times, "stimulus", "stimulus_2"], coords=coords, name="rdm", attrs=attrs)


def _warn_of_holes(holes: Sequence[Array], cells: list[Cell], names: Array) -> None:
    for hole, cell in zip(holes, cells, strict=True):
        if hole.any():
            warnings.warn(
                f"{int(hole.sum())} of {len(names)} conditions have no defined pattern in group {cell} (not presented, without "
                f"neuroids, or constant over them at some times), so that their dissimilarities are NaN: {preview(names[hole])}.",
                DegenerateNeuroidWarning,
                stacklevel=3,
            )
