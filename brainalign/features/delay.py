"""``Delay``: copies of the features at earlier or later times, inside runs only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_number
from brainalign.core.schema import STRING, as_labels
from brainalign.features.mixing import Coords, PresentationMixer
from brainalign.features.timing import onsets_of, rows_by_run, run_codes, sampling_intervals

_TOLERANCE = 0.01  # of the sampling interval


class Delay(PresentationMixer):
    """Copies of the features, each delayed by some seconds; a finite impulse response when a ridge follows.

    Row ``i`` takes the row of the same run whose onset is ``onset_s[i] - delay`` (within 1% of the sampling
    interval), and zeros where there is none: the first rows of every run see no other run. Rows need not be sorted.

    Parameters
    ----------
    delays_s : sequence of float
        Seconds, multiples of the sampling interval. Positive: the output lags the features (a brain lags its
        stimulus); negative: it looks ahead (decoding a stimulus from later volumes).

    Raises
    ------
    ParameterError
        They are no numbers, or not different ones.

    Attributes
    ----------
    retimes : bool
        False: the rows stay those of the input.
    reach_s : (float, float)
        Seconds back and seconds ahead.

    Notes
    -----
    ``neuroid_id`` becomes ``"<id>@+2s"`` and the neuroid coordinate ``delay_s`` holds the seconds. Public delayers
    without a run label take ``(R - 1) * D`` rows from the previous run.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0], [2.0], [3.0]], stimulus_id=["a", "b", "c"], neuroid_id=["u"], modality="ann",
    ...                  system="net", onset_s=[0.0, 2.0, 4.0], run="1")
    >>> late = ba.Delay([2, -2]).fit_transform(x)
    >>> late.values.tolist(), late.neuroid_id.values.tolist()
    ([[0.0, 2.0], [1.0, 3.0], [2.0, 0.0]], ['u@+2s', 'u@-2s'])
    """

    def __init__(self, delays_s: Sequence[float]) -> None:
        self.delays_s = delays_s
        self._delays()  # what is no delay is told where it is written

    @property
    def reach_s(self) -> tuple[float, float]:  # type: ignore[override]
        """How far before and after its onset a row looks, in seconds."""
        delays = self._delays()
        return max(0.0, *delays), max(0.0, *(-d for d in delays))

    def mixing(self, source: pd.DataFrame, target: pd.DataFrame | None = None) -> list[sp.csr_matrix]:
        """Return one shift matrix per delay.

        Parameters
        ----------
        source : DataFrame
            Presentation table with ``onset_s``, and ``run`` where there are several.
        target : DataFrame, optional
            Not read.

        Returns
        -------
        list of csr_matrix, (row, row)

        Raises
        ------
        SchemaError
            No ``onset_s``.
        ParameterError
            A delay is no multiple of the sampling interval of a run, or the rows are not regularly sampled.
        """
        delays = self._delays()
        onset, codes = onsets_of(source, owner="Delay"), run_codes(source)
        interval = sampling_intervals(source, owner="Delay")
        known = np.unique(interval[np.isfinite(interval)])
        if not known.size:
            raise ParameterError(
                f"Delay got {len(source)} rows, no two of them in one run. Expected regularly sampled runs: look at `x.run` and "
                "`x.onset_s`."
            )
        for delay in delays:
            _check_multiple(delay, known)
        runs = rows_by_run(codes, onset)
        return [_shift(onset, interval, runs, delay) for delay in delays]

    def labels(self, coords: Coords) -> Coords:
        """Return the neuroid coordinates, repeated for every delay.

        Parameters
        ----------
        coords : dict of str to ndarray (neuroid,)

        Returns
        -------
        dict of str to ndarray (n_delays * neuroid,)
            ``delay_s`` adds up where the input was delayed before.
        """
        delays = self._delays()
        n = len(coords["neuroid_id"])
        ids = coords["neuroid_id"].astype(STRING)
        out = {name: np.concatenate([values] * len(delays)) for name, values in coords.items()}
        out["neuroid_id"] = np.concatenate([np.strings.add(ids, as_labels([f"@{d:+g}s"])) for d in delays])
        out["delay_s"] = np.concatenate([np.asarray(coords.get("delay_s", np.zeros(n))) + d for d in delays])
        return out

    def _delays(self) -> list[float]:
        if isinstance(self.delays_s, str) or not np.iterable(self.delays_s) or len(list(self.delays_s)) == 0:
            raise ParameterError(
                f"The 'delays_s' parameter of Delay must be a sequence of at least one number of seconds. Got {self.delays_s!r} instead."
            )
        delays: list[Any] = [check_number("delays_s", _plain(d), owner="Delay") for d in self.delays_s]
        if len({f"{d:+g}" for d in delays}) < len(delays):
            raise ParameterError(f"The 'delays_s' parameter of Delay must hold different delays. Got {self.delays_s!r} instead.")
        return delays


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _check_multiple(delay: float, intervals: np.ndarray[Any, Any]) -> None:
    for interval in intervals:
        ratio = delay / interval
        if abs(ratio - np.rint(ratio)) > _TOLERANCE:
            low, high = np.floor(ratio) * interval, np.ceil(ratio) * interval
            raise ParameterError(
                f"The 'delays_s' parameter of Delay holds {delay:g} s, no multiple of the sampling interval {interval:g} s. "
                f"Expected {low:g} or {high:g}, or responses resampled to another interval."
            )


def _shift(
    onset: np.ndarray[Any, Any], interval: np.ndarray[Any, Any], runs: list[np.ndarray[Any, Any]], delay: float
) -> sp.csr_matrix:
    rows, columns = [], []
    for run in runs:
        times, wanted = onset[run], onset[run] - delay
        tolerance = _TOLERANCE * np.nan_to_num(interval[run[0]])
        at = np.minimum(np.searchsorted(times, wanted - tolerance), len(run) - 1)
        found = np.abs(times[at] - wanted) <= tolerance
        rows.append(run[found])
        columns.append(run[at[found]])
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(len(onset), len(onset)))
