"""``ablate``: what a decoder owes to each network of a brain, or to each layer of a network: its score without one, and by one alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, clone

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_number, check_options, check_random_state, did_you_mean
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of, numbered, order_of_neuroids
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import p_values
from brainalign.engine.retrieval import SIGNS
from brainalign.features.chain import Chain, chain
from brainalign.models.ridge import Ridge
from brainalign.scores.evaluate import evaluate
from brainalign.scores.identify import identify
from brainalign.scores.tiled import keeping_sources

_VERBS: dict[str, tuple[Callable[..., xr.Dataset], dict[str, Any]]] = {
    "evaluate": (evaluate, {"controls": "none", "progress": False}),
    "identify": (identify, {"progress": False}),
}


def ablate(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    by: str = "region",
    method: str = "refit",
    verb: str = "evaluate",
    model: Any = None,
    n_draws: int = 0,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
    **options: Any,
) -> xr.Dataset:
    """Score a model again without each group of the source's neuroids, and by each group alone.

    Parameters
    ----------
    source : DataArray, (presentation, neuroid[, time])
        A recording of several regions, or a network of several layers.
    target : DataArray, (presentation, neuroid)
        What is decoded: latents, joined by :func:`bands`; an embedding; another recording.
    by : str
        Neuroid coordinate of the source that names the groups.
    method : {"refit", "silence"}
        Leave neuroids out before the model is fitted, which asks what the others can make up for; or fit it to all, and put what is tested at
        their training mean, which asks what this model reads from them.
    verb : {"evaluate", "identify"}
        What scores.
    model : mapping or chain, optional
        Default ``Ridge()``.
    n_draws : int
        As many random sets of the size of each group are left out too, from among all neuroids.
    random_state : int, Generator or None
        Of folds, which all scores share, and of random sets.
    progress : bool or None
        As in :func:`evaluate`, over groups.
    **options
        Of the verb: ``cv``, ``groups``, ``metric`` and so on.

    Returns
    -------
    Dataset
        ``score`` of all neuroids together, with the dims of the verb's (neuroid, or measure); ``score_without`` and
        ``score_alone`` (group, ...), the dim named by ``by``, with ``n_neuroids`` (such a label of the target's becomes
        ``target_<by>``); ``effect``, what leaving it out costs. With draws ``effect_random`` (draw, group, ...) and
        ``p_value``, that a random set of the size costs as much.

    Raises
    ------
    ParameterError
        No such coordinate, one group, or an option that the verb does not have.
    CapabilityError
        A model that mixes presentations is to be silenced.

    Notes
    -----
    The attr ``causal_scope`` is ``"virtual"``: it is a model of the recording that loses neuroids, not the system. Regions that say the same
    make up for each other: a small effect under ``"refit"`` beside a high ``score_alone`` is such a region. For a single fitted mapping, units
    of one's own choice and other kinds of lesion there is :func:`lesion`.

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> ids = [f"s{i}" for i in range(100)]
    >>> latent = ba.responses(rng.normal(size=(100, 3)), stimulus_id=ids, neuroid_id=range(3), modality="ann", system="embedding")
    >>> values = np.hstack([latent.values @ rng.normal(size=(3, 5)), np.zeros((100, 5))]) + rng.normal(size=(100, 10))
    >>> brain = ba.responses(values, stimulus_id=ids, neuroid_id=range(10), modality="fmri", system="sub-01", region=["V1"] * 5 + ["A1"] * 5)
    >>> out = ba.scores.ablate(brain, latent, cv=4, random_state=0)
    >>> out.region.values.tolist(), (out.effect.mean("neuroid") > 0.2).values.tolist()
    (['V1', 'A1'], [True, False])
    """
    check_choice("method", method, ("refit", "silence"), owner="ablate")
    check_choice("verb", verb, tuple(_VERBS), owner="ablate")
    check_number("n_draws", n_draws, owner="ablate", low=0, integer=True)
    function, usual = _VERBS[verb]
    check_options(function, options, owner="ablate")
    seed = check_random_state(random_state, owner="ablate")
    codes, names = _groups(validate(source, name="source"), by)
    steps = chain(Ridge() if model is None else model)
    if method == "silence":
        _refuse_mixing(steps)
        steps = keeping_sources(steps)  # fitted to the same rows again and again
    params = {"by": by, "method": method, "verb": verb, "model": steps, "n_draws": n_draws} | options

    def score(kept: Numbers) -> xr.DataArray:
        x, used = (source[:, kept], steps) if method == "refit" else (source, Silenced(steps, ~kept))
        return function(x, target, model=used, random_state=seed, **usual | options).score

    order, streams = order_of_neuroids(source), np.random.SeedSequence(seed).spawn(len(names))
    rngs = {name: np.random.default_rng(stream) for name, stream in zip(sorted(names), streams, strict=True)}
    whole, without, alone, random = score(np.ones(len(codes), dtype=bool)), [], [], []
    whole = whole.rename({by: f"target_{by}"}) if by in whole.coords else whole  # both sides may have regions, or layers
    for code in progress_bar(range(len(names)), progress=progress, desc="groups"):
        mine = codes == code
        without.append(score(~mine).values)
        alone.append(score(mine).values)
        sets = (rngs[names[code]].permutation(order)[: mine.sum()] for _ in range(n_draws))  # drawn by name
        random.append([score(~np.isin(np.arange(len(mine)), some)).values for some in sets])
    out = whole.to_dataset(name="score").assign_coords({by: as_labels(names), "n_neuroids": (by, np.bincount(codes))})
    dims = (by, *whole.dims)
    out["score_without"], out["score_alone"] = (dims, np.stack(without)), (dims, np.stack(alone))
    sign = 1.0 if verb == "evaluate" else SIGNS
    out["effect"] = (dims, sign * (whole.values - out.score_without.values))
    if n_draws:
        drawn = sign * (whole.values - np.moveaxis(np.array(random), 1, 0))
        out["effect_random"], out["p_value"] = (("draw", *dims), drawn), (dims, p_values(out.effect.values, drawn))
    out.attrs["causal_scope"] = "virtual"
    return write_step(out, "ablate", params=params, inputs={"source": source, "target": target}, seed=seed)


class Silenced(BaseEstimator):
    """A mapping that is fitted to all neuroids, and tested with some of them at their training mean.

    Parameters
    ----------
    model : Chain
    silent : ndarray of bool, (neuroid,)

    Attributes
    ----------
    model_ : Chain
        Fitted.
    """

    def __init__(self, model: Any, silent: Numbers) -> None:
        self.model = model
        self.silent = silent

    @property
    def separate_targets(self) -> bool:
        """True where those of the model are."""
        return bool(self.model.separate_targets)

    def fit(self, X: xr.DataArray, Y: xr.DataArray) -> Self:
        """Fit the model to all neuroids.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time])
        Y : DataArray, (presentation, neuroid)

        Returns
        -------
        self
        """
        self.mean_ = X.values.mean(axis=0)
        self.model_ = clone(self.model).fit(X, Y)
        return self

    def predict(self, X: xr.DataArray) -> xr.DataArray:
        """Predict from what is left.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time])

        Returns
        -------
        DataArray, (presentation, neuroid)
        """
        values = X.values.copy()
        values[:, self.silent] = self.mean_[self.silent]
        return self.model_.predict(X.copy(data=values))


def _groups(source: xr.DataArray, by: str) -> tuple[Numbers, list[str]]:
    known = coords_of(source, "neuroid")
    if by not in known:
        raise ParameterError(
            f"ablate got by={by!r}, which is no neuroid coordinate of the source. Expected one of {', '.join(sorted(known))}."
            f"{did_you_mean(by, known)}"
        )
    codes, names = numbered(known[by].astype(object), by, "neuroid")
    if len(names) < 2:
        raise ParameterError(f"ablate got by={by!r}, which names the single group {names[0]!s}. Expected two or more.")
    return codes, [str(name) for name in names]


def _refuse_mixing(steps: Chain) -> None:
    if steps.mixes or steps.is_classifier:
        what = "predicts labels" if steps.is_classifier else "mixes presentations"
        raise CapabilityError(
            f"ablate(method='silence') got {steps!r}, which {what}. Expected a model of patterns whose steps keep presentations apart: use "
            "method='refit'."
        )
