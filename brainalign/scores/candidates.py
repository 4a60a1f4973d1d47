"""Candidates of an identification: which there are, how they are made comparable with predictions, and where the true one stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import SplitError
from brainalign.engine.moments import Numbers, is_constant
from brainalign.engine.precision import noise_covariance, whiten
from brainalign.engine.retrieval import match_spread, rank_true
from brainalign.scores.heldout import fit_fold, predict_training
from brainalign.scores.pairing import Pair

_LEAST = 1e-10  # of a variance, added to it: a covariance of noise without any has no inverse
_NONE = np.empty((0, 1))


@dataclass(frozen=True)
class Asked:
    """What :func:`identify` was asked, by the names of its parameters.

    Attributes
    ----------
    metric, query, candidates, by, centre, rescale, groups
        Further candidates as the rest of the model takes them.
    width : int
        Neuroids of the target, of which copies may lie side by side.
    """

    metric: str
    query: str
    candidates: Any
    by: str | None
    centre: bool
    rescale: str
    groups: str | None
    width: int


def rank_queries(both: Pair, *, asked: Asked) -> tuple[Numbers, Numbers, list[Any]]:
    """Return where the true candidate of each query stands.

    Parameters
    ----------
    both : Pair
        Of targets in other orders too, side by side.
    asked : Asked

    Returns
    -------
    ranks : ndarray of float64, (query, copy)
        From 0; NaN where there is no telling.
    n_candidates : ndarray of int, (query,)
    rows : list of (str, ndarray)
        The fold, and the stimuli of its queries.

    Raises
    ------
    SplitError
        A fold with a single candidate.
    """
    ranks, counts, rows = [], [], []
    for fold in both.folds:
        model, prediction, truth = fit_fold(both, fold)
        codes, names = pd.factorize(truth.stimulus_id.values.astype(object))
        more, labels = _beyond(asked, both, fold, model, names)
        classes = None
        if asked.by is not None:
            classes = pd.factorize(np.concatenate([_labels(truth, asked.by, codes), labels]))[0]
        n_candidates = len(names) + more.shape[1] if classes is None else classes.max() + 1
        if n_candidates < 2:
            raise SplitError(
                f"identify got the fold {fold.name!r} with a single candidate, which is always found. Expected two or more stimuli (or classes) in "
                "each test fold: use fewer folds, or candidates='all'."
            )
        inside = asked.metric == "likelihood" or asked.rescale == "train"
        learned = (both.target[fold.train].values, *(predict_training(both, fold, asked.groups) if inside else ()))
        sides = [_copies(np.asarray(x), asked.width) for x in (prediction, truth, *learned)]
        found = []
        for k, (guess, pattern, *known) in enumerate(zip(*sides, strict=True)):
            guess, pattern, others = _comparable(asked, guess, pattern, more[k % len(more)], *known)
            if asked.query == "target":
                query, true, mine = _means(pattern, codes), _means(guess, codes), np.arange(len(names))
            else:
                query, true, mine = guess, _means(pattern, codes), codes
            found.append(_rank(query, np.concatenate([true, others]), mine, classes, asked.metric))
        ranks.append(np.stack(found, axis=1))
        counts.append(np.full(len(ranks[-1]), n_candidates))
        rows.append((fold.name, names if asked.query == "target" else names[codes]))
    return np.concatenate(ranks), np.concatenate(counts), rows


def _comparable(
    asked: Asked,
    guess: Numbers,
    pattern: Numbers,
    others: Numbers,
    trained: Numbers,
    held: Numbers = _NONE,
    seen: Numbers = _NONE,
) -> tuple[Numbers, Numbers, Numbers]:
    """Return predictions, patterns and further candidates, to be compared by the plain similarity of the neuroids that tell something.

    ``trained`` are the target's training rows, ``held`` held-out predictions for them of the truth ``seen``.
    """
    known = np.isfinite(guess).any(axis=0) & np.isfinite(pattern).any(axis=0)  # a neuroid that never varied tells nothing
    if asked.rescale != "none":
        gain, offset = match_spread(guess if asked.rescale == "test" else held, trained)
        guess, held = guess * gain + offset, held * gain + offset
        others = others * gain + offset if asked.query == "target" else others
    if asked.metric != "likelihood":
        middle = trained.mean(axis=0) * asked.centre
        guess, pattern, others = (x[:, known] - middle[known] for x in (guess, pattern, others))
        return guess, pattern, others
    error = seen - held
    known &= np.isfinite(error).all(axis=0) & ~is_constant(error)
    error = error[:, known] - error[:, known].mean(axis=0)
    if not known.any():
        return guess[:, known], pattern[:, known], others[:, known]
    noise, _ = noise_covariance(error, "shrinkage-diagonal", dof=len(error) - 1)
    noise.flat[:: len(noise) + 1] *= 1 + _LEAST
    guess, pattern, others = (whiten(x[:, known].astype(np.float64), noise) for x in (guess, pattern, others))
    return guess, pattern, others


def _rank(query: Numbers, candidates: Numbers, mine: Numbers, classes: Numbers | None, metric: str) -> Numbers:
    """Return the rank of each query's own candidate, or of its class, whose mean leaves the query's stimulus out."""
    similarity = "euclidean" if metric == "likelihood" else metric
    if classes is None:
        return rank_true(query, candidates, mine, similarity=similarity)
    means, n = _means(candidates, classes), np.bincount(classes)[classes[mine], None]
    with np.errstate(invalid="ignore", divide="ignore"):  # alone in its class, it has none to be told by
        own = (means[classes[mine]] * n - candidates[mine]) / (n - 1)
    return rank_true(query, means, classes[mine], similarity=similarity, own=own)


def _copies(values: Numbers, width: int) -> Numbers:
    """Return (copy, row, neuroid) of copies that lie side by side."""
    return np.moveaxis(values.reshape(len(values), -1, width), 1, 0)


def _means(values: Numbers, codes: Numbers) -> Numbers:
    """Return the mean row of each stimulus."""
    n = codes.max(initial=-1) + 1
    if n == len(codes):
        return values
    out = np.zeros((n, values.shape[1]))
    np.add.at(out, codes, values)
    return out / np.bincount(codes)[:, None]


def _beyond(asked: Asked, both: Pair, fold: Any, model: Any, names: Any) -> tuple[Numbers, Numbers]:
    """Return further candidates, (copy, stimulus, neuroid), and their labels; of stimuli that the fold does not test."""
    if isinstance(asked.candidates, str) and asked.candidates == "test":
        return np.empty((1, 0, asked.width)), np.empty(0, dtype=object)
    pool = both.target if isinstance(asked.candidates, str) else asked.candidates
    ids = pd.Index(pool.stimulus_id.values.astype(object))
    met = ids.isin(names)
    if asked.query == "target":  # what a model predicts for its training rows was fitted to them
        met |= ids.isin(both.target.stimulus_id.values[fold.train].astype(object))
    pool = pool[~met]
    codes = pd.factorize(ids[~met])[0]
    values = pool.values if asked.query == "prediction" or not len(pool) else np.asarray(model.predict(pool))
    labels = np.empty(0, dtype=object) if asked.by is None else _labels(pool, asked.by, codes)
    if not len(pool):
        return np.empty((1, 0, asked.width)), labels
    return np.stack([_means(copy, codes) for copy in _copies(values, asked.width)]), labels


def _labels(x: xr.DataArray, by: str, codes: Numbers) -> Numbers:
    """Return the label of each stimulus."""
    return np.asarray(x.coords[by].values.astype(object)[np.unique(codes, return_index=True)[1]])
