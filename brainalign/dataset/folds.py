"""``Folds``: who is trained on and who is tested, by label, so that it survives dropped, reordered and averaged rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import SplitError
from brainalign.core.parameters import check_number
from brainalign.core.provenance import hash_array
from brainalign.core.tables import presentation_table
from brainalign.dataset.align import SAME_TIME_S, shared_codes
from brainalign.dataset.repeats import group_rows, is_constant

Array = np.ndarray[Any, Any]

#: What tells one run from another; a gap never reaches into another run.
RUN_LABELS = ("subject", "session", "run")


class Fold(NamedTuple):
    """One split into training and test presentations.

    Attributes
    ----------
    name : str
    train, test : ndarray of int
        Row numbers, ascending. Rows inside the gap are in neither.
    """

    name: str
    train: Array
    test: Array


@dataclass(frozen=True, eq=False)
class Folds:
    """Folds over presentations, made by :func:`brainalign.split`.

    Attributes
    ----------
    names : tuple of str
        One for each fold.
    presentations : DataFrame
        Labels of the presentations that were split.
    fold : ndarray of int, (presentation,)
        The fold in which each is tested; -1 for those that are only trained on.
    gap_s : float
        Training rows this close to a test row of the same run, or closer, are left out, in seconds.
    settings : dict
        How the folds were made; plain values.
    """

    names: tuple[str, ...]
    presentations: pd.DataFrame = field(repr=False)
    fold: Array = field(repr=False)
    gap_s: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def on(self, x: xr.DataArray | xr.Dataset | pd.DataFrame) -> list[Fold]:
        """Return the training and test rows of an array that holds the presentations that were split, or some of them.

        Parameters
        ----------
        x : DataArray, Dataset or DataFrame
            Responses, stimuli or a presentation table, in any order; rows may be missing, repeated or averaged. Rows are
            found by ``stimulus_id``; those of a continuous recording also by run and time; where a split was forced to
            put one stimulus on both sides, by what it was grouped by, by run and time, or by repetition.

        Returns
        -------
        list of Fold

        Raises
        ------
        SplitError
            Presentations that were not split, a fold with nothing left to train on or to test, or a gap and no times.
        """
        table = x if isinstance(x, pd.DataFrame) else presentation_table(x)
        stored_codes, codes = self._locate(table)
        fold = _lookup(stored_codes, self.fold, codes)
        near = self._nearness(table, fold, stored_codes, codes) if self.gap_s > 0 else None
        out = []
        for number, name in enumerate(self.names):
            test = fold == number
            train = ~test if near is None else ~test & ~near(number)
            _refuse_empty(name, train, test, self.gap_s)
            out.append(Fold(name, np.flatnonzero(train), np.flatnonzero(test)))
        return out

    def widen(self, gap_s: float) -> Folds:
        """Return the same folds with a gap of at least this size.

        Parameters
        ----------
        gap_s : float
            Seconds; a step that looks 12 s back needs 12.

        Returns
        -------
        Folds
        """
        wanted = check_number("gap_s", gap_s, owner="Folds.widen", low=0)
        return self if wanted <= self.gap_s else replace(self, gap_s=wanted)

    def describe(self) -> dict[str, Any]:
        """Return how the folds were made, as plain values for provenance.

        Returns
        -------
        dict
            ``kind``, ``by``, ``n_splits``, ``gap_s``, ``stratify``, ``shuffle``, ``seed``, ``forced``, ``names``,
            ``n_presentations`` and ``assignment``, a hash of which stimulus is tested in which fold.
        """
        ids = self.presentations["stimulus_id"].to_numpy(dtype=object)
        return {
            **self.settings,
            "gap_s": self.gap_s,
            "names": list(self.names),
            "n_presentations": len(ids),
            "assignment": hash_array(ids + "\t" + self.fold.astype(str).astype(object)),
        }

    def _locate(self, table: pd.DataFrame) -> tuple[Array, Array]:
        """Return codes of the stored presentations and of the rows of ``table``, by the first key that knows every row."""
        tried = []
        for names in self._keys:
            if not set(names) <= set(table.columns):
                tried.append(f"by {'+'.join(names)}: no such coordinate")
                continue
            stored_codes, codes = shared_codes(self.presentations, table, names, names=("the folds", "the array"))
            unknown = np.flatnonzero(~np.isin(codes, stored_codes) | (codes < 0))
            if not unknown.size:
                self._refuse_straddling(table, names, _lookup(stored_codes, self.fold, codes))
                return stored_codes, codes
            first = " / ".join(str(table[name].iloc[unknown[0]]) for name in names)
            tried.append(f"by {'+'.join(names)}: {unknown.size} of {len(table)} are unknown, first {first!r} in row {unknown[0]}")
        raise SplitError(
            f"these folds were made on other presentations ({'; '.join(tried)}). Expected those of the array that was split, or some "
            "of them: split this array, or join it to the other with `ba.align` first."
        )

    @cached_property
    def _keys(self) -> tuple[tuple[str, ...], ...]:
        """The labels by which a presentation's fold can be told, best first."""
        table, by, found = self.presentations, tuple(self.settings.get("by") or ()), []
        straddles = not self._decides(("stimulus_id",))
        if not straddles:
            found.append(("stimulus_id",))
        elif by:
            found.append(by)
        # Two event tables may share onsets and not stimuli: only rows that are named by their time are found by it.
        if _has_times(table) and (straddles or not table["stimulus_id"].duplicated().any()):
            timed = (*(name for name in RUN_LABELS[1:] if name in table), "onset_s")
            if self._decides(timed):
                found.append(timed)
        if straddles and "repetition" in table and self._decides(("stimulus_id", "repetition")):
            found.append(("stimulus_id", "repetition"))
        return tuple(found)

    def _decides(self, names: tuple[str, ...]) -> bool:
        table = self.presentations
        if table[list(names)].isna().to_numpy().any():
            return False
        return is_constant(self.fold, *group_rows(table, names, owner="split"))

    def _refuse_straddling(self, table: pd.DataFrame, names: tuple[str, ...], fold: Array) -> None:
        if names == ("stimulus_id",) or "stimulus_id" not in table or self.settings.get("forced"):
            return
        check_sides(table, fold)

    def _nearness(self, table: pd.DataFrame, fold: Array, stored_codes: Array, codes: Array) -> Any:
        """Return a function: fold number -> which rows of ``table`` lie within the gap around its test rows."""
        stored, runs = self.presentations, [name for name in RUN_LABELS if name in self.presentations and name in table]
        if not _has_times(stored) and not _has_times(table):
            raise SplitError(
                f"a gap of {self.gap_s:g} s needs times, and these presentations have no `onset_s`. Expected seconds for each: "
                "`x.assign_coords(onset_s=('presentation', seconds))`, or gap_s=0."
            )
        clock, clock_fold = stored, self.fold
        if _has_times(table):
            own = _same_presentations(stored, table, runs, stored_codes, codes)
            if own is not None:
                stored_codes, codes = own  # the same recording: dropped test rows still cast their gap
            else:
                clock, clock_fold, stored_codes, codes = table, fold, np.arange(len(table)), np.arange(len(table))
        line = _time_line(clock, self.gap_s)

        def near(number: int) -> Array:
            flags = _within(line, clock_fold == number, self.gap_s)
            hit = np.bincount(stored_codes[flags], minlength=max(codes.max(), stored_codes.max()) + 1) > 0
            return hit[codes]

        return near


def check_sides(table: pd.DataFrame, fold: Array) -> None:
    """Refuse folds that put one stimulus on both sides.

    Parameters
    ----------
    table : DataFrame
        With ``stimulus_id``.
    fold : ndarray of int, (presentation,)
        The fold in which each presentation is tested.

    Raises
    ------
    SplitError
        Some stimulus has presentations in several folds.
    """
    codes, first = group_rows(table, ("stimulus_id",), owner="split")
    apart = np.flatnonzero(fold != fold[first][codes])
    if not apart.size:
        return
    n_stimuli = np.unique(codes[apart]).size
    row = apart[0]
    raise SplitError(
        f"{n_stimuli} of {len(first)} stimuli would be on both sides, first {table['stimulus_id'].iloc[row]!r} in rows "
        f"{first[codes[row]]} and {row}: a model could know its test stimuli by heart. Expected the repeats of a stimulus in one fold: use "
        "`ba.split(x)` or by='stimulus_id', give presentations that differ ids of their own, or pass force=True, which is recorded."
    )


def _same_presentations(
    stored: pd.DataFrame, table: pd.DataFrame, runs: list[str], stored_codes: Array, codes: Array
) -> tuple[Array, Array] | None:
    """Return codes by which each row of ``table`` is one stored presentation, at its time; None where some row is not."""
    if not _has_times(stored):
        return None
    row = _lookup(stored_codes, np.arange(len(stored)), codes)
    same = np.abs(stored["onset_s"].to_numpy(np.float64)[row] - table["onset_s"].to_numpy(np.float64)) <= SAME_TIME_S
    for name in runs:
        same &= stored[name].to_numpy(object)[row] == table[name].to_numpy(object)
    if same.all():
        return np.arange(len(stored)), row
    by_time = shared_codes(stored, table, ("stimulus_id", *runs, "onset_s"))
    return by_time if (by_time[1] >= 0).all() and np.isin(by_time[1], by_time[0]).all() else None


def _has_times(table: pd.DataFrame) -> bool:
    return "onset_s" in table and bool(np.isfinite(table["onset_s"].to_numpy(dtype=np.float64)).any())


def _lookup(stored_codes: Array, values: Array, codes: Array) -> Array:
    table = np.zeros(max(stored_codes.max(), codes.max()) + 1, dtype=values.dtype)
    table[stored_codes] = values
    return table[codes]


def rows_near(table: pd.DataFrame, rows: Array, gap_s: float, names: Sequence[str] = RUN_LABELS) -> Array:
    """Return which presentations start within some seconds of any of these, in the same run.

    Parameters
    ----------
    table : DataFrame
        With ``onset_s``.
    rows : ndarray of bool, (presentation,)
    gap_s : float
    names : sequence of str
        What tells runs apart; those that the table has.

    Returns
    -------
    ndarray of bool, (presentation,)
        The rows themselves among them.
    """
    return _within(_time_line(table, gap_s, names), rows, gap_s)


def _time_line(table: pd.DataFrame, gap_s: float, names: Sequence[str] = RUN_LABELS) -> Array:
    """Onsets on one line, with runs set so far apart that no gap reaches from one into the next."""
    onset = table["onset_s"].to_numpy(dtype=np.float64)
    onset = onset - np.nanmin(onset)
    labels = [name for name in names if name in table]
    runs = group_rows(table, labels, owner="split")[0] if labels else np.zeros(len(table), dtype=np.int64)
    return runs * (np.nanmax(onset) + 2 * gap_s + 1) + onset


def _within(line: Array, test: Array, gap_s: float) -> Array:
    """Rows whose nearest test row is no further than the gap."""
    times = np.sort(line[test & np.isfinite(line)])
    if not times.size:
        return np.zeros(line.shape, dtype=bool)
    after = np.searchsorted(times, line).clip(1, None)
    left, right = times[after - 1], times[after.clip(None, times.size - 1)]
    return np.minimum(np.abs(line - left), np.abs(line - right)) <= gap_s + SAME_TIME_S


def _refuse_empty(name: str, train: Array, test: Array, gap_s: float) -> None:
    for side, rows in (("test", test), ("train on", train)):
        if not rows.any():
            because = f" with a gap of {gap_s:g} s" if side == "train on" and gap_s > 0 else ""
            raise SplitError(
                f"fold {name!r} has nothing to {side}{because}: {int(test.sum())} test and {int(train.sum())} training rows of {len(test)}. "
                "Expected at least one on each side: keep more presentations, use fewer folds, or a smaller gap: `cv=ba.split(x, gap_s=...)`."
            )


def join_labels(table: pd.DataFrame, names: Sequence[str], rows: Array) -> tuple[str, ...]:
    """Return names for groups of rows, several labels joined with ``/``.

    Parameters
    ----------
    table : DataFrame
    names : sequence of str
    rows : ndarray of int, (group,)
        A row of each group.

    Returns
    -------
    tuple of str
    """
    parts = [[str(value) for value in table[name].iloc[rows].tolist()] for name in names]
    return tuple("/".join(values) for values in zip(*parts, strict=True))
