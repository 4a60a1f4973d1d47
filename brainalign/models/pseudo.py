"""``pseudo_population``: neurons of several animals side by side, as if they had been recorded together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SplitError
from brainalign.core.parameters import check_number, check_random_state, did_you_mean, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of, order_of_presentations
from brainalign.features.bands import bands
from brainalign.models.mapping import Values


def pseudo_population(
    recordings: Mapping[str, xr.DataArray],
    *,
    by: str = "condition",
    n_trials: int | None = None,
    random_state: int | np.random.Generator | None = None,
) -> xr.DataArray:
    """Join the neuroids of several systems in pseudo-trials of the same condition; each trial of each system is used once.

    Parameters
    ----------
    recordings : mapping of str to DataArray, (presentation, neuroid[, time])
        Aligned to events; animals by name, or networks. They need not have seen the same stimuli, but the same conditions.
    by : str
        Presentation coordinate that names the condition.
    n_trials : int, optional
        Pseudo-trials of each condition. Default: as many as the system with the fewest has of it.
    random_state : int, Generator or None
        Which trials meet, and which are left out where there are more.

    Returns
    -------
    DataArray, (presentation, neuroid[, time])
        ``stimulus_id`` is the condition and a number (with ``by="stimulus_id"`` the stimulus, which then matches); ``band``
        (neuroid) names the system, and ``trial_<name>`` (presentation) the row of its recording. Conditions in order of name.

    Raises
    ------
    ParameterError
        Fewer than two systems; no such coordinate; other times; a condition that a system lacks, or has too few trials of.
    SplitError
        A system has several trials of a stimulus: folds of pseudo-trials would have it on both sides.

    Notes
    -----
    Rows share no trial, so any folds of them train and test on different ones. Correlations between neuroids of different systems, within a
    condition, are broken, and those within a system are kept: what noise shared by the animals would do is not seen. Trials that meet in
    another draw give another score: repeat with other seeds for its spread, which is no error over animals.

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> def animal(name, n):
    ...     return ba.responses(rng.poisson(2, size=(n, 3, 4)), stimulus_id=[f"{name}{i}" for i in range(n)], neuroid_id=range(3),
    ...                         time=np.arange(4) / 10, modality="spikes", system=name, condition=np.resize(["left", "right"], n))
    >>> both = ba.models.pseudo_population({"m1": animal("m1", 10), "m2": animal("m2", 12)}, random_state=0)
    >>> both.shape, both.stimulus_id.values.tolist()[:2]
    ((10, 6, 4), ['left/000', 'left/001'])
    """
    if not isinstance(recordings, Mapping) or len(recordings) < 2:
        raise ParameterError("pseudo_population needs a dict of two or more recordings, by the name of the animal or network.")
    if n_trials is not None:
        check_number("n_trials", n_trials, owner="pseudo_population", low=1, integer=True)
    seed = check_random_state(random_state, owner="pseudo_population")
    rng = np.random.default_rng(seed)
    labels = {str(name): _conditions(validate(x, name=f"recording {name!r}"), by, str(name)) for name, x in recordings.items()}
    counts = (
        pd.DataFrame({name: pd.Series(own).value_counts() for name, own in labels.items()}).fillna(0).astype(int).sort_index()
    )
    least = n_trials or 1
    few = [(condition, name, int(n)) for condition, row in counts.iterrows() for name, n in row.items() if n < least]
    if few:
        condition, name, n = few[0]
        raise ParameterError(
            f"pseudo_population got {n} trials of {by}={condition!r} in {name!r}. Expected {least} or more of each condition in each recording: "
            + ("choose fewer `n_trials`, or " if n else "")
            + "leave the condition out."
        )
    sizes = counts.min(axis=1) if n_trials is None else pd.Series(n_trials, index=counts.index)
    parts, rows = {}, {}
    for name, x in recordings.items():
        own, order = labels[str(name)], order_of_presentations(x)  # trials are drawn by name
        chosen = [rng.permutation(order[own[order] == condition])[:size] for condition, size in sizes.items()]
        rows[str(name)] = np.concatenate(chosen)
        parts[str(name)] = _bare(x[rows[str(name)]], sizes, by)
    out = bands(**parts).assign_coords({f"trial_{name}": ("presentation", picked) for name, picked in rows.items()})
    return write_step(out, "pseudo_population", params={"by": by, "n_trials": n_trials}, inputs=dict(recordings), seed=seed)


def _conditions(x: xr.DataArray, by: str, name: str) -> Values:
    table = coords_of(x, "presentation")
    if by not in table:
        raise ParameterError(
            f"pseudo_population got by={by!r}; presentations of {name!r} have {', '.join(sorted(table))}.{did_you_mean(by, table)} Expected one."
        )
    stimulus = pd.Series(table["stimulus_id"].astype(object))
    if stimulus.duplicated().any():
        raise SplitError(
            f"pseudo_population got several trials of a stimulus in {name!r}: {preview(stimulus[stimulus.duplicated()].unique())}. Expected one each, "
            "for pseudo-trials of one stimulus would be on both sides of a fold: average repeats (`ba.average_repeats`), or where single trials "
            "are held out, give each a `stimulus_id` of its own."
        )
    return np.array([str(value) for value in table[by].tolist()], dtype=object)


def _bare(x: xr.DataArray, sizes: pd.Series, by: str) -> xr.DataArray:
    """Return trials under the names of pseudo-trials, without what was true of one system's trials only."""
    x = x.drop_vars([str(name) for name, c in x.coords.items() if c.dims == ("presentation",)])
    condition = as_labels(np.repeat(sizes.index, sizes).tolist())
    if by == "stimulus_id":
        return x.assign_coords(stimulus_id=("presentation", condition))
    trial = as_labels([f"{name}/{i:03d}" for name, size in sizes.items() for i in range(size)])
    return x.assign_coords({"stimulus_id": ("presentation", trial), by: ("presentation", condition)})
