"""``compare_rdms``: how similar two geometries are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, SchemaError
from brainalign.core.parameters import check_choice, preview
from brainalign.core.provenance import write_step
from brainalign.engine.correlate import correlation_matrix, ranks

METRICS = ("spearman", "pearson")
SQUARE = ("stimulus", "stimulus_2")


def compare_rdms(source: xr.DataArray, target: xr.DataArray, *, metric: str = "spearman", join: str = "inner") -> xr.Dataset:
    """Correlate the dissimilarities of every source matrix with those of every target matrix.

    Parameters
    ----------
    source, target : DataArray, (..., stimulus, stimulus_2)
        From :func:`rdm` or :func:`open_rdms`. They are matched by stimulus, never by position; swapping them swaps the
        dims of the result and changes nothing else.
    metric : {"spearman", "pearson"}
        Over the pairs above the diagonal.
    join : {"inner", "exact"}
        Whether stimuli that one side lacks are left out (and reported) or an error.

    Returns
    -------
    Dataset
        ``score`` (source_<dim>, target_<dim>), for every leading dim of the two sides; ``n_stimuli``, ``n_pairs`` and
        ``n_pairs_dropped`` (pairs that are NaN on either side) of the same shape. NaN where fewer than three pairs are
        left, or where either side does not vary. The attr ``report`` (JSON) counts the stimuli of one side only.

    Raises
    ------
    AlignmentError
        Fewer than three stimuli in common; any that is not shared under ``join="exact"``.
    SchemaError
        A side is no set of symmetric matrices with unique stimuli.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> x = ba.responses(np.random.default_rng(0).normal(size=(12, 30)), stimulus_id=[f"s{i}" for i in range(12)],
    ...                  neuroid_id=range(30), modality="ann", system="net", layer=["a"] * 15 + ["b"] * 15)
    >>> both = ba.compare_rdms(ba.rdm(x), ba.rdm(x[::-1], by="layer"))   # the other order of rows
    >>> both.score.dims, both.score.shape
    (('target_layer',), (2,))
    """
    check_choice("metric", metric, METRICS, owner="compare_rdms")
    check_choice("join", join, ("inner", "exact"), owner="compare_rdms")
    ids = {"source": _checked_ids(source, "source"), "target": _checked_ids(target, "target")}
    shared = _shared(ids["source"], ids["target"], join)
    a, b = _pairs(source, ids["source"], shared), _pairs(target, ids["target"], shared)
    score, n_pairs, n_stimuli = _scores(a, b, metric, len(shared))
    dims, shape, coords = [], [], {}
    for side, x in (("source", source), ("target", target)):
        for dim in x.dims[:-2]:
            dims.append(f"{side}_{dim}")
            shape.append(x.sizes[dim])
        coords |= {
            f"{side}_{name}": (tuple(f"{side}_{d}" for d in c.dims), c.values)
            for name, c in x.coords.items()
            if not set(c.dims) & set(SQUARE)
        }
    named = {"score": score, "n_stimuli": n_stimuli, "n_pairs": n_pairs, "n_pairs_dropped": a.shape[0] - n_pairs}
    out = xr.Dataset({name: (dims, values.reshape(shape)) for name, values in named.items()}, coords=coords)
    only = {side: [i for i in names if i not in set(shared)] for side, names in ids.items()}
    report = {"n_shared": len(shared), "source_only": len(only["source"]), "target_only": len(only["target"])}
    report |= {f"first_{side}_only": left[:3] for side, left in only.items() if left}
    out.attrs = {"metric": metric, "join": join, "report": json.dumps(report)}
    return write_step(out, "compare_rdms", params={"metric": metric, "join": join}, inputs={"source": source, "target": target})


def _checked_ids(x: Any, name: str) -> list[str]:
    """Return the stimuli of a set of matrices, after checking that it is one."""
    if not isinstance(x, xr.DataArray) or x.dims[-2:] != SQUARE or not set(SQUARE) <= set(x.coords):
        seen = f"dims {x.dims}" if isinstance(x, xr.DataArray) else f"type {type(x).__name__}"
        raise SchemaError(
            f"{name} has {seen}. Expected a DataArray (..., 'stimulus', 'stimulus_2') labelled on both: make it with `ba.rdm`, or open "
            "it with `ba.open_rdms`."
        )
    first, second = ([str(i) for i in x.coords[dim].values.tolist()] for dim in SQUARE)
    if first != second:
        at = next((i for i, (u, v) in enumerate(zip(first, second, strict=False)) if u != v), min(len(first), len(second)))
        raise SchemaError(
            f"{name} names its rows and columns differently, first at position {at}. Expected the same order on both."
        )
    if len(set(first)) < len(first):
        seen_once: set[Any] = set()
        twice = [i for i in first if i in seen_once or seen_once.add(i)]
        raise SchemaError(
            f"{name} has {len(twice)} repeated stimuli: {preview(twice)}. Expected each once: average them in `ba.rdm`."
        )
    values = x.values
    mirrored = values.swapaxes(-1, -2)
    scale = np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values))
    if not np.allclose(values, mirrored, rtol=1e-5, atol=1e-6 * scale, equal_nan=True):
        gap = np.nanmax(np.abs(values - mirrored))
        raise SchemaError(
            f"{name} is not symmetric: entries differ from their mirror image by up to {gap:.3g}. Expected symmetric dissimilarities: "
            "average the two triangles if they estimate the same thing."
        )
    return first


def _shared(source: list[str], target: list[str], join: str) -> list[str]:
    in_source, in_target = set(source), set(target)
    shared = [i for i in target if i in in_source]
    where = f"(source starts {source[0]!r}, target starts {target[0]!r})"
    if len(shared) < 3:
        raise AlignmentError(
            f"source and target share {len(shared)} of {len(source)} / {len(target)} stimuli {where}. Expected at least 3: name the same "
            "stimuli on both sides, with `x.assign_coords(stimulus=ids, stimulus_2=ids)`."
        )
    if join == "exact" and not len(shared) == len(in_source) == len(in_target):
        lost = [i for i in source if i not in in_target] + [i for i in target if i not in in_source]
        raise AlignmentError(
            f"source and target share {len(shared)} of {len(source)} / {len(target)} stimuli; one side lacks {preview(lost)}. Expected "
            "the same on both under join='exact': use join='inner', or select the shared ones."
        )
    return shared


def _pairs(x: xr.DataArray, ids: list[str], shared: list[str]) -> np.ndarray[Any, Any]:
    """Return the pairs above the diagonal in the shared order, (pair, matrix)."""
    position = {name: i for i, name in enumerate(ids)}
    order = np.array([position[name] for name in shared])
    first, second = np.triu_indices(len(shared), 1)
    flat = x.values.reshape(-1, len(ids), len(ids))
    return flat[:, order[first], order[second]].T.astype(np.float64)


def _scores(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], metric: str, n: int) -> tuple[Any, Any, Any]:
    """Return scores, pairs and stimuli used, each (source matrix, target matrix)."""
    score, n_pairs, n_stimuli = (np.full((a.shape[1], b.shape[1]), fill) for fill in (np.nan, 0, 0))
    first, second = np.triu_indices(n, 1)
    # Matrices with the same holes go together: usually all of them, in one product.
    for valid_a, some in _by_holes(a):
        for valid_b, others in _by_holes(b):
            cell = np.ix_(some, others)
            valid = valid_a & valid_b
            n_pairs[cell] = valid.sum()
            n_stimuli[cell] = len(np.union1d(first[valid], second[valid]))
            if valid.sum() >= 3:
                u, v = a[np.ix_(valid, some)], b[np.ix_(valid, others)]
                score[cell] = correlation_matrix(*((ranks(u), ranks(v)) if metric == "spearman" else (u, v)))
    return score, n_pairs, n_stimuli


def _by_holes(x: np.ndarray[Any, Any]) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Return the distinct patterns of finite pairs, and the matrices that have each."""
    finite, groups = np.isfinite(x), dict[bytes, list[int]]()
    for k in range(x.shape[1]):
        groups.setdefault(np.packbits(finite[:, k]).tobytes(), []).append(k)
    return [(finite[:, columns[0]], np.array(columns)) for columns in groups.values()]
