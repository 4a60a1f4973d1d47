"""Claims: a result with the hypothesis it was made for, and the evidence that a reader should ask for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.provenance import write_step

_MEND = {
    "interval": "score with `n_bootstraps=1000`",
    "null percentile": "score with `n_permutations=1000`",
    "best control": "score with `controls=` of `ba.evaluate` or `ba.compare`",
    "ceiling": "score with `ceiling=` of `ba.evaluate` or `ba.compare`, where stimuli are repeated",
    "n": "keep `n_presentations` in the result",
}


def claim(result: xr.Dataset, *, hypothesis: str, alternative: str, test: str) -> xr.Dataset:
    """Return a result that carries what it is claimed to show.

    Parameters
    ----------
    result : Dataset
        Of :func:`brainalign.evaluate` or :func:`~brainalign.compare`, or the part of it that the claim is about.
    hypothesis : str
        What the result is held to show.
    alternative : str
        What else could explain it, and would have to be given up.
    test : str
        Which outcome decides between the two, stated so that it could have come out otherwise.

    Returns
    -------
    Dataset
        With the attr ``claim`` (JSON), which ``ba.reports.report`` shows beside the evidence.

    Raises
    ------
    ParameterError
        No result with scores, or one of the three is empty.

    Examples
    --------
    >>> result = xr.Dataset({"score": ("neuroid", [0.3, 0.5])}, attrs={"metric": "pearson"})
    >>> claimed = claim(result, hypothesis="V1 reads layer 1", alternative="any layer would do",
    ...                 test="layer 1 scores higher than untrained layer 1 in 95 of 100 bootstraps")
    >>> evidence(claimed).set_index("evidence").value["null percentile"]
    'missing: score with `n_permutations=1000`'
    """
    _check_scores(result, "claim")
    said = {"hypothesis": hypothesis, "alternative": alternative, "test": test}
    for name, text in said.items():
        if not isinstance(text, str) or not text.strip():
            raise ParameterError(f"The {name!r} parameter of claim must be a sentence. Got {text!r} instead.")
    return write_step(result.assign_attrs(claim=json.dumps(said)), "claim", params=said, inputs={"result": result})


def claim_of(result: Any) -> dict[str, str]:
    """Return the claim that a result carries: ``hypothesis``, ``alternative``, ``test``; empty where it has none.

    Parameters
    ----------
    result : Dataset or DataArray

    Returns
    -------
    dict
    """
    text = getattr(result, "attrs", {}).get("claim")
    return dict(json.loads(text)) if isinstance(text, str) else {}


def evidence(result: xr.Dataset) -> pd.DataFrame:
    """Return what stands behind a result, and say of each part that is missing how it could be had.

    Parameters
    ----------
    result : Dataset
        With ``score``. Several scores are summed up by their median.

    Returns
    -------
    DataFrame
        Columns ``evidence`` and ``value``: hypothesis, alternative and test (of a :func:`claim`), effect, interval, null
        percentile, best control, ceiling, n.

    Raises
    ------
    ParameterError
        No result with scores.

    Examples
    --------
    >>> result = xr.Dataset({"score": ("neuroid", [0.3, 0.5])}, attrs={"metric": "pearson"})
    >>> evidence(result).set_index("evidence").value["effect"]
    'pearson 0.400, median of 2 scores (quartiles 0.350 and 0.450)'
    """
    _check_scores(result, "evidence")
    said = claim_of(result)
    rows = {name: said.get(name, "missing: `ba.reports.claim`") for name in ("hypothesis", "alternative", "test")}
    numbers = {
        "effect": _effect(result), "interval": _interval(result), "null percentile": _null_percentile(result),
        "best control": _best_control(result), "ceiling": _ceiling(result), "n": _n(result),
    }  # fmt: skip
    rows |= {name: text or f"missing: {_MEND[name]}" for name, text in numbers.items()}
    return pd.DataFrame({"evidence": list(rows), "value": list(rows.values())})


def _check_scores(result: Any, owner: str) -> None:
    if not isinstance(result, xr.Dataset) or "score" not in result:
        raise ParameterError(
            f"{owner} got a {type(result).__name__} without `score`. Expected a result of `ba.evaluate` or `ba.compare`."
        )


def _effect(result: xr.Dataset) -> str:
    score = _finite(result["score"])
    metric = result.attrs.get("metric", "score")
    if not score.size:
        return f"{metric} is not defined"
    if score.size == 1:
        return f"{metric} {score[0]:.3f}"
    low, middle, high = np.quantile(score, [0.25, 0.5, 0.75])
    return f"{metric} {middle:.3f}, median of {score.size} scores (quartiles {low:.3f} and {high:.3f})"


def _interval(result: xr.Dataset) -> str:
    if not {"ci_low", "ci_high"} <= set(result.data_vars):
        return ""
    low, high = _finite(result["ci_low"]), _finite(result["ci_high"])
    text = f"{_middle(low)} to {_middle(high)}"
    if low.size == 1:
        return text
    chance = next((name for name in ("chance", "score_chance") if name in result), None)
    above = int((result["ci_low"] > (result[chance] if chance else 0.0)).sum())
    return f"{text} (medians); {above} of {low.size} lie above {'chance' if chance else 0}"


def _null_percentile(result: xr.Dataset) -> str:
    """Say where the observed score lies among those of the null, which p = (1 + #{null ≥ score}) / (1 + B) tells."""
    name = next((name for name in ("p_value", "p_value_bound") if name in result), "")
    if not name:
        return ""
    p, n = _finite(result[name]), int(result.attrs.get("n_permutations", 0))
    whole = f"{name}_max" if f"{name}_max" in result else name
    passed = f"{int((_finite(result[whole]) <= 0.05).sum())} of {p.size} pass {whole} ≤ .05"
    if name == "p_value_bound":
        return f"{f'p ≤ {p[0]:.2g}' if p.size == 1 else passed}: a bound, score with `n_refits=20` for p itself"
    below = 100 * (1 - (p * (n + 1) - 1) / n) if n else 100 * (1 - p)
    of = f" of {n} null scores" if n else ""
    return f"{below[0]:.1f}%{of} (p = {p[0]:.2g})" if p.size == 1 else f"{_middle(below, 1)}%{of} (median); {passed}"


def _best_control(result: xr.Dataset) -> str:
    if "score_minus_best_control" not in result:
        return ""
    ahead = _finite(result["score_minus_best_control"])
    if ahead.size == 1:
        return f"{abs(ahead[0]):.3f} {'below' if ahead[0] >= 0 else 'above'} the score"
    text = f"score less best control {_middle(ahead)}"
    return f"{text} (median); {int((ahead > 0).sum())} of {ahead.size} are ahead of every control"


def _ceiling(result: xr.Dataset) -> str:
    if {"ceiling_low", "ceiling_high"} <= set(result.data_vars):  # of geometries
        low, high = _finite(result["ceiling_low"]), _finite(result["ceiling_high"])
        return f"{_middle(low)} to {_middle(high)}" + (" (medians)" if low.size > 1 else "")
    values = _finite(result["ceiling"]) if "ceiling" in result else np.array([])
    return f"{values.mean():.3f}" + (f", mean of {values.size}" if values.size > 1 else "") if values.size else ""


def _n(result: xr.Dataset) -> str:
    name = next((name for name in ("n_presentations", "n_stimuli") if name in result), None)
    if name is None:
        return ""
    counts = np.unique(np.asarray(result[name].values))
    shown = f"{counts[0]:,}" if counts.size == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f"{shown} {name.removeprefix('n_')}, {_finite(result['score']).size} scores"


def _finite(x: xr.DataArray) -> np.ndarray[Any, Any]:
    values = np.asarray(x.values, dtype=np.float64).ravel()
    return values[np.isfinite(values)]


def _middle(values: np.ndarray[Any, Any], digits: int = 3) -> str:
    return f"{np.median(values):.{digits}f}" if values.size else "not defined"
