"""Results as tidy tables: one row per score, with every label that it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_number
from brainalign.core.schema import group_label

KINDS = ("grid", "scores", "rdm", "attribution", "responses", "values", "neuroids", "check", "table")


def kind_of(result: Any) -> str:
    """Say what a result is, by its dims and names alone.

    Parameters
    ----------
    result : Dataset, DataArray or DataFrame

    Returns
    -------
    str
        ``"grid"`` (scores of groups × groups), ``"scores"`` (per neuroid), ``"rdm"``, ``"attribution"``, ``"responses"``,
        ``"values"`` (one number a neuroid), ``"neuroids"`` (several variables of neuroids, none of them a score), ``"check"`` (of a
        recording) or ``"table"``.

    Raises
    ------
    ParameterError
        It is none of them.

    Examples
    --------
    >>> kind_of(xr.DataArray(np.zeros((2, 2)), dims=("stimulus", "stimulus_2")))
    'rdm'
    """
    if isinstance(result, pd.DataFrame):
        return "table"
    if isinstance(result, xr.Dataset) and "findings" in result.attrs:
        return "check"
    if isinstance(result, xr.Dataset) and "score" in result.data_vars:
        return "scores" if "neuroid" in result["score"].dims else "grid"
    if isinstance(result, xr.Dataset) and _first_of_neuroids(result):
        return "neuroids"
    if isinstance(result, xr.DataArray):
        if {"stimulus", "stimulus_2"} <= set(result.dims):
            return "rdm"
        if "completeness_error" in result.coords or result.name == "attribution":
            return "attribution"
        if "presentation" in result.dims:
            return "responses"
        return "values" if "neuroid" in result.dims else "grid"
    raise ParameterError(
        f"reports got a {type(result).__name__}. Expected a result of brainalign (a Dataset with `score` or with variables of neuroids, "
        "an RDM, an attribution, responses, or one value a neuroid) or a DataFrame."
    )


def tidy(result: xr.Dataset | xr.DataArray | pd.DataFrame) -> pd.DataFrame:
    """Return a result as a tidy table.

    Parameters
    ----------
    result : Dataset, DataArray or DataFrame
        Of :func:`brainalign.evaluate`, :func:`~brainalign.compare`, :func:`~brainalign.rdm`,
        :func:`~brainalign.compare_rdms`, :func:`~brainalign.noise_ceiling` ...

    Returns
    -------
    DataFrame
        One row per score (per pair of stimuli for an RDM, per entry of the first variable of neuroids where there is no score), with
        its labels, its ceiling and what else belongs to it. Folds are left out: they are in ``result.score_by_fold``.

    Examples
    --------
    >>> result = xr.Dataset({"score": (("source_layer", "target_region"), [[0.1, 0.2]]), "ceiling": ("target_region", [0.8, 0.9])},
    ...                     coords={"source_layer": ["conv1"], "target_region": ["V1", "IT"]})
    >>> tidy(result)
      source_layer target_region  score  ceiling
    0        conv1            V1    0.1      0.8
    1        conv1            IT    0.2      0.9
    """
    kind = kind_of(result)
    if isinstance(result, pd.DataFrame):
        return result
    if kind == "rdm":
        return _pairs(result)
    if isinstance(result, xr.DataArray):
        return _columns(result.to_dataset(name=result.name or "value"), result.dims, str(result.name or "value"))
    first = _first_of_neuroids(result) if kind == "neuroids" else "score"
    return _columns(result, result[first].dims, first)


def summary(result: xr.Dataset | xr.DataArray, *, by: str | None = None, floor: float = 0.0) -> pd.DataFrame:
    """Summarise scores over the neuroids of each group.

    Parameters
    ----------
    result : Dataset or DataArray, (neuroid[, time])
        Scores per neuroid, or any one value per neuroid.
    by : str, optional
        Neuroid coordinate; default ``layer`` or ``region``, else all together.
    floor : float
        Reliability (the ceiling in R², or squared in r) below which a neuroid is left out of both means of the ratio, whatever its
        score is: picked by their score, neuroids of noise would have one.

    Returns
    -------
    DataFrame
        Per group (and source, time ...): ``n`` neuroids that have a score, ``n_left_out`` that have none, ``median``, ``q25``, ``q75``
        and, where known, ``n_significant`` (false discovery rate .05); ``n_reliable``, their mean ``ceiling``, and ``normalized``, the
        ratio of their means. The mean of ratios is too high where ceilings are low, and without a floor so is the ratio of means
        of a group at noise level: only ceilings that came out positive are there.

    Raises
    ------
    ParameterError
        No such neuroid coordinate, or a result without scores.

    Examples
    --------
    >>> result = xr.Dataset({"score": ("neuroid", [0.1, 0.3, np.nan])}, coords={"region": ("neuroid", ["V1", "V1", "V1"])})
    >>> summary(result)
      region  n  n_left_out  median   q25   q75
    0     V1  2           1     0.2  0.15  0.25
    """
    if kind_of(result) == "neuroids":
        raise ParameterError(
            f"summary got a result without `score`. Expected scores, or one of its variables: `result.{_first_of_neuroids(result)}`."
        )
    rows, value = tidy(result), "score" if isinstance(result, xr.Dataset) else str(result.name or "value")
    labels = result["score"] if isinstance(result, xr.Dataset) else result
    by = by or group_label(labels)
    if by is not None and by not in rows:
        raise ParameterError(f"summary got by={by!r}. Expected one of {', '.join(map(str, rows))}.")
    floor = check_number("floor", floor, owner="summary", low=0.0, high=1.0)
    squared = isinstance(result, xr.Dataset) and result.attrs.get("metric") == "r2"
    keys = [*([by] if by else []), *(str(dim) for dim in labels.dims if dim != "neuroid" and dim in rows)]
    parts = rows.groupby(keys, sort=False) if keys else [((), rows)]
    found = []
    for key, part in parts:
        entry = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
        found.append(entry | _spread(part, value) | _of_reliable(part, value, floor if squared else floor**0.5))
    return pd.DataFrame(found)


def beside(result: xr.Dataset) -> pd.DataFrame:
    """Set the score beside what each control scores.

    Parameters
    ----------
    result : Dataset
        With ``score`` and, where controls ran, ``score_control`` (control, ...).

    Returns
    -------
    DataFrame
        Columns ``source``, ``median`` and ``n_as_high``, in how many of the scores that control is no lower; empty without controls.

    Examples
    --------
    >>> result = xr.Dataset({"score": ("neuroid", [0.1, 0.3]), "score_control": (("control", "neuroid"), [[0.2, 0.1]])},
    ...                     coords={"control": ["shuffled"]})
    >>> beside(result)
         source  median  n_as_high
    0     score    0.20          0
    1  shuffled    0.15          1
    """
    if "score_control" not in result:
        return pd.DataFrame()
    score, controls = result["score"].values, result["score_control"].transpose("control", *result["score"].dims).values
    rows = {"score": score, **dict(zip(result["control"].values.tolist(), controls, strict=True))}
    as_high = [0 if name == "score" else int((values >= score).sum()) for name, values in rows.items()]
    medians = [
        pd.Series(np.ravel(values)).median() for values in rows.values()
    ]  # NaN where nothing is defined, without a warning
    return pd.DataFrame({"source": list(rows), "median": medians, "n_as_high": as_high})


def _first_of_neuroids(result: Any) -> str:
    """Return the first variable along neuroids, ``""`` where there is none."""
    return next((str(name) for name, variable in result.data_vars.items() if "neuroid" in variable.dims), "")


def _spread(part: pd.DataFrame, value: str) -> dict[str, Any]:
    scores = part[value].dropna()
    out: dict[str, Any] = {"n": len(scores), "n_left_out": len(part) - len(scores)}
    out |= dict(zip(("median", "q25", "q75"), scores.quantile([0.5, 0.25, 0.75]).to_numpy(), strict=True))
    fdr = next((name for name in ("p_value_fdr", "p_value_bound_fdr") if name in part), None)
    if fdr is not None:
        out["n_significant"] = int((part[fdr] <= 0.05).sum())
    return out


def _of_reliable(part: pd.DataFrame, value: str, floor: float) -> dict[str, Any]:
    """Return the ratio of the means over neuroids whose ceiling is not below the floor."""
    if "ceiling" not in part or value == "ceiling":
        return {}
    kept = part.loc[part["ceiling"] >= floor, [value, "ceiling"]].dropna()
    ceiling = kept["ceiling"].mean()
    return {"n_reliable": len(kept), "ceiling": ceiling, "normalized": kept[value].mean() / ceiling if ceiling > 0 else np.nan}


def _columns(data: xr.Dataset, dims: tuple[Any, ...], first: str) -> pd.DataFrame:
    """Return every variable and coordinate along some of ``dims``, one row per element."""
    shape = tuple(data.sizes[dim] for dim in dims)
    columns: dict[str, Any] = {}
    variables = {**data.coords, first: data[first], **data.data_vars}
    for name, variable in variables.items():
        if set(variable.dims) <= set(dims) and (variable.dims or name in data.data_vars):
            values = variable.variable.set_dims(dict(zip(dims, shape, strict=True))).transpose(*dims).values.ravel()
            columns[str(name)] = values.astype(object) if values.dtype.kind in "TU" else values
    order = sorted(columns, key=lambda name: name not in dims)  # the dims' own labels come first
    return pd.DataFrame({name: columns[name] for name in order})


def _pairs(rdm: xr.DataArray) -> pd.DataFrame:
    """Return an RDM as one row per unordered pair of stimuli."""
    i, j = np.triu_indices(rdm.sizes["stimulus"], 1)
    flat = rdm.transpose(..., "stimulus", "stimulus_2")
    groups = flat.dims[:-2]
    values = flat.values.reshape(-1, *flat.shape[-2:])[:, i, j]
    out = {
        "stimulus": np.tile(_names(rdm, "stimulus")[i], len(values)),
        "stimulus_2": np.tile(_names(rdm, "stimulus_2")[j], len(values)),
    }
    table = pd.DataFrame(out | {"dissimilarity": values.ravel()})
    for dim in groups[:1]:
        table.insert(0, str(dim), np.repeat(_names(rdm, dim), i.size))
    return table


def _names(x: xr.DataArray, dim: Any) -> np.ndarray[Any, Any]:
    values = x[dim].values
    return values.astype(object) if values.dtype.kind in "TU" else values
