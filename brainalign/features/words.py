"""``WordsToVolumes``: from one row a word to one row a volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import check_choice, check_number
from brainalign.features.mixing import PresentationMixer
from brainalign.features.timing import durations_of, onsets_of, pairs_in_windows, shared_run_codes

Array = np.ndarray[Any, Any]

_HOW = ("sum", "mean", "last", "lanczos")
_LONGEST_VOLUME_S = 3.0  # the bound on `reach_s` where the filter's cutoff follows the volumes
_LEAST_WEIGHT = 0.5  # of one word: a mean over less than that would blow up what lies in the filter's side lobes


class WordsToVolumes(PresentationMixer):
    """Bring events (words, sentences, image flashes) to the volumes in which they began.

    An event belongs to the volume with ``onset_s <= event onset < onset_s + duration_s`` of the same run. Where the
    volumes have no ``duration_s``, it is the step to the next volume.

    Parameters
    ----------
    how : {"sum", "mean", "last", "lanczos"}
        Sum or mean of the events of a volume, the last of them, or a low-pass filter of the event train, read in
        the middle of each volume (an event counts at the middle of its duration).
    normalize : {"sum", "mean"}, required for "lanczos"
        ``"sum"``: the plain filter, whose row sums follow the word rate. ``"mean"``: rows divided by their sum.
    window : int
        Lobes of the Lanczos filter on either side.
    cutoff_hz : float, optional
        Of the Lanczos filter; default one over the duration of the volume, which may then be 3 s at most.
    causal : bool
        Lanczos only: leave out events that begin after the volume has ended.

    Attributes
    ----------
    retimes : bool
        True: the output rows are the target's volumes.
    reach_s : (float, float)
        0, but for a Lanczos filter ``window / cutoff_hz`` on either side; at the default cutoff that of volumes of 3 s.

    Notes
    -----
    Volumes without events are zero rows, for the sum, which is exact, as for a mean, where zero stands for "nothing
    said"; a Lanczos mean treats rows with less than half a word's weight as such. Events outside all volumes are
    counted in the provenance (``report``).

    Lanczos: ``w(t) = a sin(pi f t) sin(pi f t / a) / (pi f t)^2`` for ``|f t| <= a``, as in the public story-encoding
    code of A. Huth's laboratory. Its row sums correlate about 0.94 with the words per volume, so it is a sum filter.

    Examples
    --------
    >>> import brainalign as ba
    >>> words = ba.responses([[1.0], [3.0], [5.0]], stimulus_id=["w0", "w1", "w2"], neuroid_id=["u"], modality="ann",
    ...                      system="net", onset_s=[0.1, 1.9, 2.0], run="1")
    >>> bold = ba.responses([[0.0], [0.0]], stimulus_id=["v0", "v1"], neuroid_id=["v"], modality="fmri", system="s",
    ...                     onset_s=[0.0, 2.0], duration_s=2.0, run="1")
    >>> ba.WordsToVolumes("mean").transform(words, presentations=bold).values.ravel().tolist()
    [2.0, 5.0]
    """

    retimes = True

    def __init__(
        self,
        how: str = "sum",
        *,
        normalize: str | None = None,
        window: int = 3,
        cutoff_hz: float | None = None,
        causal: bool = False,
    ) -> None:
        self.how = how
        self.normalize = normalize
        self.window = window
        self.cutoff_hz = cutoff_hz
        self.causal = causal

    @property
    def reach_s(self) -> tuple[float, float]:  # type: ignore[override]
        """How far before and after a volume the step looks, in seconds."""
        self._check()
        if self.how != "lanczos":
            return 0.0, 0.0
        reach = self.window * _LONGEST_VOLUME_S if self.cutoff_hz is None else self.window / self.cutoff_hz
        return reach, 0.0 if self.causal else reach

    def mixing(self, source: pd.DataFrame, target: pd.DataFrame | None = None) -> list[sp.csr_matrix]:
        """Return the one matrix (volume, event).

        Parameters
        ----------
        source : DataFrame
            Events with ``onset_s``, and ``run`` where there are several.
        target : DataFrame
            Volumes with ``onset_s``.

        Returns
        -------
        list of one csr_matrix

        Raises
        ------
        AlignmentError
            No event falls into any volume, or the sides share no run.
        ParameterError
            A parameter is impossible, or no target was given.
        SchemaError
            No ``onset_s``, or no duration of the volumes.
        """
        self._check()
        pairs = _pairs(source, target)
        if target is None or not len(pairs[0]):
            raise AlignmentError(_nothing_inside(source, target))
        if self.how == "lanczos":
            volume, word, weight = self._lanczos(source, target)
        else:
            volume, word, weight = _weigh(*pairs, how=self.how)
        return [sp.csr_matrix((weight.astype(np.float32), (volume, word)), shape=(len(target), len(source)))]

    def report(self, source: pd.DataFrame, target: pd.DataFrame | None = None) -> dict[str, Any]:
        """Count the events outside all volumes and the volumes without events.

        Parameters
        ----------
        source, target : DataFrame

        Returns
        -------
        dict
            ``n_events, n_events_outside, first_outside_onset_s, n_volumes, n_volumes_empty``.
        """
        volume, word = _pairs(source, target)
        outside = np.setdiff1d(np.arange(len(source)), word)
        n_volumes = 0 if target is None else len(target)
        return {
            "n_events": len(source),
            "n_events_outside": len(outside),
            "first_outside_onset_s": float(source["onset_s"].iloc[outside[0]]) if len(outside) else None,
            "n_volumes": n_volumes,
            "n_volumes_empty": n_volumes - len(np.unique(volume)),
        }

    def _check(self) -> None:
        check_choice("how", self.how, _HOW, owner="WordsToVolumes")
        if self.how != "lanczos":
            given = {"normalize": self.normalize, "cutoff_hz": self.cutoff_hz, "causal": self.causal or None}
            for name, value in given.items():
                if value is not None:
                    raise ParameterError(
                        f"The {name!r} parameter of WordsToVolumes is for how='lanczos' only. Got {value!r} with how={self.how!r}: leave "
                        "it out."
                    )
            return
        if self.normalize not in ("sum", "mean"):
            raise ParameterError(
                f"The 'normalize' parameter of WordsToVolumes must be 'sum' or 'mean' for how='lanczos'. Got {self.normalize!r} instead. "
                "The plain filter ('sum') is no average: its row sums correlate about 0.94 with the word rate, so features of non-zero "
                "mean become a word-rate regressor; 'mean' divides by them."
            )
        check_number("window", self.window, owner="WordsToVolumes", low=1, integer=True)
        if self.cutoff_hz is not None:
            check_number("cutoff_hz", self.cutoff_hz, owner="WordsToVolumes", low=0, low_open=True)

    def _lanczos(self, source: pd.DataFrame, target: pd.DataFrame) -> tuple[Array, Array, Array]:
        word_codes, volume_codes = shared_run_codes(source, target, owner="WordsToVolumes")
        onset = onsets_of(source, owner="WordsToVolumes", side="the words")
        spoken = np.nan_to_num(source["duration_s"].to_numpy(np.float64)) if "duration_s" in source else np.zeros(len(source))
        start, length = _volumes(target)
        if self.cutoff_hz is None and length.max() > _LONGEST_VOLUME_S:
            raise ParameterError(
                f"The 'cutoff_hz' parameter of WordsToVolumes follows the volumes up to {_LONGEST_VOLUME_S:g} s, and these last "
                f"{length.max():g} s. Expected a number: cutoff_hz={1 / length.max():.4g}, so that the reach of the filter is known."
            )
        middle, time = onset + spoken / 2, start + length / 2
        cutoff = np.full(len(target), self.cutoff_hz) if self.cutoff_hz is not None else 1 / length
        reach = self.window / cutoff
        volume, word = pairs_in_windows(middle, word_codes, time - reach, time + reach, volume_codes)
        if self.causal:
            begun = onset[word] < (start + length)[volume]
            volume, word = volume[begun], word[begun]
        lag = (time[volume] - middle[word]) * cutoff[volume]
        weight = np.sinc(lag) * np.sinc(lag / self.window)
        if self.normalize == "mean":
            total = np.bincount(volume, weight, minlength=len(target))
            enough = total[volume] >= _LEAST_WEIGHT
            volume, word, weight = volume[enough], word[enough], (weight / np.where(total == 0, 1, total)[volume])[enough]
        return volume, word, weight


def _volumes(target: pd.DataFrame) -> tuple[Array, Array]:
    start = onsets_of(target, owner="WordsToVolumes", side="the volumes")
    return start, durations_of(target, owner="WordsToVolumes", side="the volumes")


def _pairs(source: pd.DataFrame, target: pd.DataFrame | None) -> tuple[Array, Array]:
    """Return (volume, word) for every word that begins in a volume."""
    if target is None:
        raise ParameterError("WordsToVolumes needs the target's volumes, and got none: pass `presentations=`.")
    onset = onsets_of(source, owner="WordsToVolumes", side="the words")
    word_codes, volume_codes = shared_run_codes(source, target, owner="WordsToVolumes")
    start, length = _volumes(target)
    return pairs_in_windows(onset, word_codes, start, start + length, volume_codes)


def _weigh(volume: Array, word: Array, *, how: str) -> tuple[Array, Array, Array]:
    if how == "sum":
        return volume, word, np.ones(len(word))
    if how == "mean":
        return volume, word, 1 / np.bincount(volume)[volume]
    last = np.flatnonzero(np.diff(volume, append=-1))
    return volume[last], word[last], np.ones(len(last))


def _nothing_inside(source: pd.DataFrame, target: pd.DataFrame | None) -> str:
    spans = [f"{table['onset_s'].min():g} to {table['onset_s'].max():g} s" for table in (source, target) if table is not None]
    return (
        f"WordsToVolumes: none of {len(source)} words begins in any volume of its run (words from {spans[0]}, volumes from {spans[-1]}). "
        "Expected both times in seconds from the start of the same run: shift or rescale `onset_s` of one side."
    )
