"""``BinTime``: fewer, wider time bins, or windows of a continuous recording around presentations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import validate
from brainalign.features.mixing import PresentationMixer
from brainalign.features.timing import durations_of, onsets_of, pairs_in_windows, shared_run_codes, ticks

Array = np.ndarray[Any, Any]


class BinTime(PresentationMixer):
    """Mean or sum over time: of a time dim between edges, or of continuous rows around presentations.

    With ``edges_s``, responses with a ``time`` dim keep their presentations, and samples with
    ``edge[i] <= time < edge[i + 1]`` become bin ``i``. Without, the input is continuous (one row a volume or sample),
    the output has the rows of the target, and each takes the samples of its run within
    ``[onset_s + start, onset_s + duration_s + stop)``, with ``window_s = (start, stop)``.

    Parameters
    ----------
    edges_s : sequence of float, optional
        Strictly increasing seconds, one more than bins.
    how : {"mean", "sum"}
        The sum of integers stays an integer, so that spike counts are conserved.
    baseline_s : (float, float), optional
        Half-open window whose mean is subtracted from every sample first; on the ``time`` axis, or relative to
        ``onset_s`` of each presentation.
    window_s : (float, float), optional
        Continuous input only; default ``(0, 0)``, the presentation itself.
    squeeze : bool
        With a single bin, leave the time dim out.

    Attributes
    ----------
    stateless : bool
        True with ``edges_s``: a labelled step that keeps the presentations.
    retimes : bool
        True without: a presentation step.
    reach_s : (float, float)
        Of the windows, beyond the presentation itself.

    Notes
    -----
    A bin or window without samples is an error, never a zero. ``time`` becomes the middle of each bin, with the edges
    in ``time_start`` and ``time_stop``.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[[1, 2, 3, 4]]], stimulus_id=["a"], neuroid_id=["u"], modality="spikes", system="s",
    ...                  time=[0.0, 0.1, 0.2, 0.3])
    >>> ba.BinTime([0.0, 0.2, 0.4], how="sum").fit_transform(x).values.tolist()
    [[[3, 7]]]
    """

    def __init__(
        self,
        edges_s: Sequence[float] | None = None,
        *,
        how: str = "mean",
        baseline_s: tuple[float, float] | None = None,
        window_s: tuple[float, float] | None = None,
        squeeze: bool = True,
    ) -> None:
        self.edges_s = edges_s
        self.how = how
        self.baseline_s = baseline_s
        self.window_s = window_s
        self.squeeze = squeeze

    @property
    def stateless(self) -> bool:
        """True where bins are taken on the time dim."""
        return self.edges_s is not None

    @property
    def retimes(self) -> bool:  # type: ignore[override]
        """True where the output rows are the target's presentations."""
        return self.edges_s is None

    @property
    def reach_s(self) -> tuple[float, float]:  # type: ignore[override]
        """How far before its onset and after its end a presentation looks, in seconds."""
        if self.stateless:
            return 0.0, 0.0
        (start, stop), base = self._window(), self._baseline()
        return max(0.0, -start, -base[0] if base else 0.0), max(0.0, stop, base[1] if base else 0.0)

    def transform(self, X: xr.DataArray, presentations: Any = None) -> xr.DataArray:
        """Bin the time dim, or take windows around the presentations.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid, time), or (presentation, neuroid) of a continuous recording
        presentations : DataArray, Dataset or DataFrame, optional
            Needed for a continuous recording: blocks or events, as a DataFrame with ``stimulus_id``, ``onset_s``, ``duration_s`` and, where
            there are several, ``run`` (the names of BIDS are ``onset``, ``duration`` and ``trial_type``: rename them).

        Returns
        -------
        DataArray
            float32; integer for sums of integers on a time dim.

        Raises
        ------
        ParameterError
            Edges and no time dim, or the reverse; edges that do not increase; a bin without samples.
        AlignmentError
            A window without samples.
        """
        self._check()
        validate(X, name="X")
        if self.stateless != ("time" in X.dims):
            has, needs = ("no time dim", "one: leave `edges_s` out") if self.stateless else ("a time dim", "`edges_s`: pass them")
            raise ParameterError(
                f"BinTime(edges_s={self.edges_s!r}) got X with dims {X.dims}, which has {has}. Expected {needs}, or bin other responses."
            )
        if not self.stateless:
            return super().transform(X, presentations)
        return write_step(validate(self._bin(X), name="the result"), "BinTime", params=self.get_params(), inputs={"X": X})

    def mixing(self, source: pd.DataFrame, target: pd.DataFrame | None = None) -> list[sp.csr_matrix]:
        """Return the one matrix (presentation, sample).

        Parameters
        ----------
        source : DataFrame
            Continuous rows with ``onset_s``, and ``run`` where there are several.
        target : DataFrame
            Presentations with ``onset_s`` and ``duration_s``.

        Returns
        -------
        list of one csr_matrix

        Raises
        ------
        ParameterError
            ``edges_s`` was given (then the step mixes no presentations), or no target.
        AlignmentError
            A window without samples, or no shared run.
        """
        self._check()
        if target is None or self.stateless:
            raise ParameterError(
                f"BinTime(edges_s={self.edges_s!r}) mixes presentations of a continuous recording only without `edges_s` and with a "
                "target: pass `presentations=`."
            )
        onset = onsets_of(target, owner="BinTime", side="the presentations")
        (start, stop), base = self._window(), self._baseline()
        end = onset + durations_of(target, owner="BinTime")
        matrix = _window_means(source, target, onset + start, end + stop)
        if self.how == "sum":
            matrix = matrix.sign()
        if base is not None:
            weight = sp.diags_array(np.asarray(matrix.sum(axis=1)).ravel())
            matrix = matrix - weight @ _window_means(source, target, onset + base[0], onset + base[1])
        return [sp.csr_matrix(matrix, dtype=np.float32)]

    def _bin(self, X: xr.DataArray) -> xr.DataArray:
        edges, time = np.asarray(self.edges_s, dtype=np.float64), X.coords["time"].values
        cuts = np.searchsorted(ticks(time), ticks(edges))
        empty = np.flatnonzero(np.diff(cuts) == 0)
        if empty.size:
            raise ParameterError(
                f"BinTime: bins {preview(empty)} hold no sample (bin {empty[0]} is {edges[empty[0]]:g} to {edges[empty[0] + 1]:g} s, `time` "
                f"runs from {time[0]:g} to {time[-1]:g} s). Expected at least one sample in each: use wider bins, or fewer."
            )
        values, base = X.data, self._baseline()
        if base is not None:
            low, high = np.searchsorted(ticks(time), ticks(base))
            if low == high:
                raise ParameterError(
                    f"The 'baseline_s' parameter of BinTime holds no sample: {base[0]:g} to {base[1]:g} s, `time` runs from {time[0]:g} to "
                    f"{time[-1]:g} s. Expected a window inside."
                )
            values = values - values[..., low:high].mean(axis=-1, keepdims=True, dtype=np.float64)
        binned = [_aggregate(values[..., low:high], self.how) for low, high in itertools.pairwise(cuts)]
        coords = {name: c for name, c in X.coords.items() if "time" not in c.dims}
        if len(binned) == 1 and self.squeeze:
            attrs = {name: value for name, value in X.attrs.items() if name != "time_reference"}
            return xr.DataArray(binned[0], dims=X.dims[:2], coords=coords, attrs=attrs, name=X.name)
        coords |= {"time": ("time", (edges[:-1] + edges[1:]) / 2)}
        coords |= {"time_start": ("time", edges[:-1]), "time_stop": ("time", edges[1:])}
        return xr.DataArray(np.stack(binned, axis=-1), dims=X.dims, coords=coords, attrs=X.attrs, name=X.name)

    def _check(self) -> None:
        check_choice("how", self.how, ("mean", "sum"), owner="BinTime")
        self._baseline()
        if self.edges_s is None:
            self._window()
            return
        if self.window_s is not None:
            raise ParameterError(
                f"BinTime got edges_s={self.edges_s!r} and window_s={self.window_s!r}. Expected one: edges cut a time dim, a window is "
                "laid around presentations of a continuous recording."
            )
        edges = np.atleast_1d(np.asarray(self.edges_s, dtype=np.float64))
        if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not (np.diff(ticks(edges)) > 0).all():
            raise ParameterError(
                f"The 'edges_s' parameter of BinTime must be at least two strictly increasing numbers of seconds. Got {self.edges_s!r} instead."
            )

    def _window(self) -> tuple[float, float]:
        return (0.0, 0.0) if self.window_s is None else _two_numbers("window_s", self.window_s)

    def _baseline(self) -> tuple[float, float] | None:
        if self.baseline_s is None:
            return None
        start, stop = _two_numbers("baseline_s", self.baseline_s)
        if ticks(stop) <= ticks(start):
            raise ParameterError(
                f"The 'baseline_s' parameter of BinTime must end after it starts. Got {self.baseline_s!r} instead."
            )
        return start, stop


def _two_numbers(name: str, value: Any) -> tuple[float, float]:
    if isinstance(value, str) or not np.iterable(value) or len(list(value)) != 2:
        raise ParameterError(
            f"The {name!r} parameter of BinTime must be two numbers of seconds, (start, stop). Got {value!r} instead."
        )
    start, stop = (check_number(name, float(v), owner="BinTime") for v in value)
    return start, stop


def _aggregate(values: Any, how: str) -> Any:
    if how == "sum" and values.dtype.kind in "iub":
        return values.sum(axis=-1, dtype=np.int64)
    return getattr(values, how)(axis=-1, dtype=np.float64).astype(np.float32)


def _window_means(source: pd.DataFrame, target: pd.DataFrame, start: Array, stop: Array) -> sp.csr_array:
    """Return the matrix (window, sample) whose rows are means; every window has a sample."""
    samples, windows = shared_run_codes(source, target, owner="BinTime")
    onset = onsets_of(source, owner="BinTime", side="the source")
    window, sample = pairs_in_windows(onset, samples, start, stop, windows)
    count = np.bincount(window, minlength=len(target))
    empty = np.flatnonzero(count == 0)
    if empty.size:
        raise AlignmentError(
            f"BinTime: {empty.size} of {len(target)} presentations have no sample in their window (row {empty[0]}: {start[empty[0]]:g} to "
            f"{stop[empty[0]]:g} s; samples run from {onset.min():g} to {onset.max():g} s). Expected at least one each: widen `window_s`, "
            "or drop these presentations."
        )
    return sp.csr_array((1 / count[window], (window, sample)), shape=(len(target), len(source)))
