"""``HRF``: convolution with a canonical hemodynamic response, inside runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from brainalign.core.errors import ParameterError, require
from brainalign.core.parameters import check_choice, check_number
from brainalign.features.mixing import PresentationMixer
from brainalign.features.timing import (
    durations_of,
    onsets_of,
    ranges,
    run_codes,
    sampling_intervals,
    shared_run_codes,
)

Array = np.ndarray[Any, Any]

KERNEL_S = 32.0  # nilearn's kernel length
_LEAD_S = 24.0  # where nilearn's fine grid begins before the first volume; it decides how onsets are rounded to the grid
_SNAP = 1e-6  # of a fine step: an onset on the grid stays there in spite of rounding


class HRF(PresentationMixer):
    """Convolve with a canonical hemodynamic response.

    Every source row is an event of its own height that lasts for its duration; the response is read at the onset
    of every output row. Nothing crosses a run.

    Parameters
    ----------
    model : {"spm", "glover"}
        nilearn's kernel of that name: 32 s long, with sum 1.
    at : {"source", "target"}
        ``"source"``: the input is sampled regularly (features already brought to volumes) and keeps its rows; a row
        lasts for its ``duration_s``, or for the sampling interval. ``"target"``: the input is events (words, images
        with an onset) and the output has the target's volumes; an event lasts for its ``duration_s``; without one,
        or with 0, it is one fine step long.
    oversampling : int, at least 10
        Fine steps per sampling interval of the output.
    sample_offset_s : float
        Seconds after a volume's onset at which the response is read (nilearn's ``slice_time_ref`` times TR).

    Attributes
    ----------
    retimes : bool
        True for ``at="target"``.
    reach_s : (float, float)
        32 s back, from the end of an event.

    Notes
    -----
    The numbers are those of ``nilearn.glm.first_level.compute_regressor``: events are moved to the next fine step
    and convolved there. As there, the height of events without duration is in units of one fine step, so it changes
    with ``oversampling``. Unlike there, events more than 24 s before the first volume count too.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0], [0.0], [0.0], [0.0], [0.0]], stimulus_id=list("abcde"), neuroid_id=["u"], modality="ann",
    ...                  system="net", onset_s=[0.0, 2.0, 4.0, 6.0, 8.0], run="1")
    >>> ba.HRF("spm").fit_transform(x).values.ravel().round(2)
    array([0.  , 0.02, 0.24, 0.41, 0.31], dtype=float32)
    """

    def __init__(self, model: str = "spm", *, at: str = "source", oversampling: int = 50, sample_offset_s: float = 0.0) -> None:
        self.model = model
        self.at = at
        self.oversampling = oversampling
        self.sample_offset_s = sample_offset_s

    @property
    def retimes(self) -> bool:  # type: ignore[override]
        """True where the output rows are the target's volumes."""
        return check_choice("at", self.at, ("source", "target"), owner="HRF") == "target"

    @property
    def reach_s(self) -> tuple[float, float]:  # type: ignore[override]
        """How far before and after its onset an output row looks, in seconds."""
        offset = self._offset()
        return max(0.0, KERNEL_S - offset), max(0.0, offset)

    def mixing(self, source: pd.DataFrame, target: pd.DataFrame | None = None) -> list[sp.csr_matrix]:
        """Return the one convolution matrix.

        Parameters
        ----------
        source : DataFrame
            Presentation table with ``onset_s``, and ``run`` where there are several.
        target : DataFrame
            Volumes, read for ``at="target"`` only.

        Returns
        -------
        list of one csr_matrix, (output row, source row)

        Raises
        ------
        SchemaError
            No ``onset_s``.
        ParameterError
            The output rows are not regularly sampled, or no target was given.
        AlignmentError
            Source and target share no run.
        """
        check_choice("model", self.model, ("spm", "glover"), owner="HRF")
        check_number("oversampling", self.oversampling, owner="HRF", low=10, integer=True)
        start = onsets_of(source, owner="HRF", side="the source")
        if self.retimes:
            if target is None:
                raise ParameterError("HRF(at='target') needs the target's volumes, and got none: pass `presentations=`.")
            codes, out_codes = shared_run_codes(source, target, owner="HRF")
            length = np.nan_to_num(source["duration_s"].to_numpy(np.float64)) if "duration_s" in source else np.zeros(len(source))
            out = target
        else:
            out, codes, out_codes = source, run_codes(source), run_codes(source)
            length = durations_of(source, owner="HRF", side="the source")
        return [self._convolution(start, length, codes, out, out_codes)]

    def _convolution(self, start: Array, length: Array, codes: Array, out: pd.DataFrame, out_codes: Array) -> sp.csr_matrix:
        read = onsets_of(out, owner="HRF", side="the volumes") + self._offset()
        interval = sampling_intervals(out, owner="HRF", side="the volumes")
        parts = []
        for code in np.unique(out_codes):
            rows, events = np.flatnonzero(out_codes == code), np.flatnonzero(codes == code)
            if not len(events):
                continue
            rows = rows[np.argsort(read[rows], kind="stable")]
            if np.isnan(interval[rows[0]]):
                raise ParameterError(
                    f"HRF got a run of one volume (at {read[rows[0]]:g} s), which has no sampling interval. Expected at least two: drop it."
                )
            step = interval[rows[0]] / self.oversampling
            row, event, weight = _responses(read[rows], start[events], length[events], step, self._kernel(interval[rows[0]]))
            parts.append((rows[row], events[event], weight))
        row, column, data = (np.concatenate(part) for part in zip(*parts, strict=True))
        return sp.csr_matrix((data.astype(np.float32), (row, column)), shape=(len(out), len(start)))

    def _kernel(self, interval: float) -> Array:
        models = require("nilearn.glm.first_level", extra="fmri", purpose="HRF")
        kernel = models.spm_hrf if self.model == "spm" else models.glover_hrf
        return np.asarray(kernel(interval, self.oversampling, time_length=KERNEL_S))

    def _offset(self) -> float:
        return float(check_number("sample_offset_s", self.sample_offset_s, owner="HRF"))


def _responses(read: Array, start: Array, length: Array, step: float, kernel: Array) -> tuple[Array, Array, Array]:
    """Return (row, event, weight) of one run: the response to each event at each time that it reaches.

    An event that is on during fine steps ``on <= m < off`` gives ``sum_m kernel[t - m] = C(t - on) - C(t - off)``
    at fine step ``t``, with ``C`` the running sum of the kernel.
    """
    origin = read[0] - _LEAD_S
    on = np.ceil((start - origin) / step - _SNAP)
    off = np.maximum(np.ceil((start + length - origin) / step - _SNAP), on + 1)
    at = (read - origin) / step
    low = np.searchsorted(at, on - 1)
    event, row = ranges(low, np.maximum(np.searchsorted(at, off + len(kernel)), low))
    grid, total = np.arange(-1, len(kernel)), np.concatenate([[0.0], np.cumsum(kernel)])
    weight = np.interp(at[row] - on[event], grid, total) - np.interp(at[row] - off[event], grid, total)
    keep = weight != 0
    return row[keep], event[keep], weight[keep]
