"""``predicted_rdm``: the geometry of what a mapping predicts of held-out stimuli, for RSA by voxel encoding."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import ParameterError, SplitError
from brainalign.core.parameters import check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.dataset.align import align
from brainalign.dataset.repeats import average_if_repeated
from brainalign.dataset.split import folds_of
from brainalign.features.chain import chain
from brainalign.geometry.rdm import rdm

_LEAST = 3  # stimuli of a test fold


def predicted_rdm(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    model: Any,
    cv: Any = None,
    groups: str | None = None,
    metric: str = "correlation",
    by: str | None = None,
    join: str = "inner",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.DataArray:
    """Return RDMs of a target as it is predicted from a source, stimulus by held-out stimulus.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid)
        Joined on ``stimulus_id``; repeats are averaged first.
    model : mapping or chain
        Fitted in each training fold, such as ``ba.Ridge()``.
    cv : int or Folds, optional
        As in :func:`evaluate`.
    groups : str, optional
        Presentation coordinate whose values stay on one side.
    metric : str
        Dissimilarity of patterns, of those in :func:`rdm` that need neither folds nor noise.
    by : str, optional
        Neuroid coordinate of the target, such as ``"region"``: one RDM for each.
    join : {"inner", "exact"}
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over folds.

    Returns
    -------
    DataArray, ([by,] stimulus, stimulus_2)
        For :func:`compare_rdms` with ``rdm(target)``, which leaves out what is NaN: pairs of stimuli that were predicted in different
        folds.

    Raises
    ------
    ParameterError
        Responses with time; a model that mixes presentations, or predicts labels; ``groups`` beside folds.
    SplitError
        A fold that tests fewer than three stimuli.
    SchemaError
        Stimuli that several subjects saw, in one array.

    Notes
    -----
    A mapping weighs features anew, which an RDM of the source itself does not (Khaligh-Razavi et al. 2017); :func:`fit_rdms` weighs whole
    RDMs. Predictions of two folds differ by the means of their training stimuli, which move against those of the test stimuli: across
    folds, the RDM of what is predicted of noise resembles the RDM of that noise.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=60, snr=2.0, random_state=0)
    >>> predicted = predicted_rdm(study.network, study.brain, model=ba.Ridge(), by="region", random_state=0)
    >>> fits = ba.compare_rdms(predicted, ba.rdm(study.brain, by="region"), metric="pearson").score
    >>> bool((np.diag(fits) > 0.3).all())
    True
    """
    seed = check_random_state(random_state, owner="predicted_rdm")
    steps = chain(model)
    if steps.mixes or steps.is_classifier or "time" in (*source.dims, *target.dims):
        raise ParameterError(
            f"predicted_rdm got {steps!r}, source dims {source.dims} and target dims {target.dims}. Expected a mapping that predicts patterns "
            "from one presentation each, and no time: select one, `x.sel(time=0.1, method='nearest')`."
        )
    once = (average_if_repeated(side, owner="predicted_rdm") for side in (source, target))
    x, y, report = align(*once, join=join)
    folds = folds_of(y, cv, groups, owner="predicted_rdm", random_state=seed)
    of = partial(rdm, metric=metric, by=by, progress=False)
    whole = of(y)
    out = whole.copy(data=np.full_like(whole.values, np.nan))
    for fold in progress_bar(folds.on(y), progress=progress, desc="folds"):
        if len(fold.test) < _LEAST:
            raise SplitError(
                f"predicted_rdm got the fold {fold.name!r} with {len(fold.test)} test stimuli. Expected at least {_LEAST}: use fewer folds."
            )
        predicted = of(clone(steps).fit(x[fold.train], y[fold.train]).predict(x[fold.test]))
        out.loc[{"stimulus": predicted.stimulus, "stimulus_2": predicted.stimulus_2}] = predicted
    out.attrs["report"] = json.dumps(report | {"folds": dict(folds.settings)}, default=str)
    params = {"model": steps, "cv": dict(folds.settings), "metric": metric, "by": by, "join": join}
    return write_step(out, "predicted_rdm", params=params, inputs={"source": source, "target": target}, seed=seed)
