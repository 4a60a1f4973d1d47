"""``split``: folds that do not leak, chosen by what the presentations are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SplitError
from brainalign.core.parameters import check_names, check_number, check_random_state, did_you_mean, preview
from brainalign.core.tables import presentation_table
from brainalign.dataset.folds import RUN_LABELS, Fold, Folds, check_sides, join_labels
from brainalign.dataset.repeats import group_rows, is_constant

__all__ = ["Fold", "Folds", "split"]

Array = np.ndarray[Any, Any]

DEFAULT_SPLITS = 5
DEFAULT_GAP_S = 10.0
_UNTIMED = ": without onset_s, neighbours may be alike; shuffle=True draws images shown in random order"


def split(
    responses: xr.DataArray | xr.Dataset | pd.DataFrame,
    by: str | Sequence[str] | None = None,
    *,
    n_splits: int | None = None,
    test: Any = None,
    gap_s: float | None = None,
    stratify: str | None = None,
    shuffle: bool | None = None,
    random_state: int | np.random.Generator | None = None,
    force: bool = False,
) -> Folds:
    """Divide presentations into folds for training and testing.

    Parameters
    ----------
    responses : DataArray (presentation, neuroid[, time]), Dataset or DataFrame
        Responses, a stimulus table, or a presentation table.
    by : str or sequence of str, optional
        Presentation coordinates whose values are kept together: each is left out once, or ``n_splits`` groups of them.
        Default: ``stimulus_id`` where stimuli repeat (unless in one order, as a film does); else runs, where there are
        several; else contiguous blocks, where there are onsets or a run; else ``stimulus_id``. Rows with a run and without
        onsets may be a recording in time, whose order is then that of the rows, or images: ``shuffle=True`` draws these.
    n_splits : int, optional
        Number of folds; default each group once with ``by`` or runs, else 5. More folds than runs are cut as blocks.
    test : mask (presentation,), sequence of str, or mapping, optional
        One fixed split instead of folds. What is tested: rows, ``stimulus_id`` values, or the values of coordinates
        (``{"run": ["7", "8"]}``).
    gap_s : float, optional
        Leave out training rows this close to a test row of the same run, in seconds. Default 10 for blocks of time (as long as
        a block, where that is shorter), else 0.
    stratify : str, optional
        Coordinate whose values are spread evenly over the folds.
    shuffle : bool, optional
        Draw the folds at random, by name: rows in another order get the same ones. Default for folds over stimuli that have neither
        onset nor run, or repeats. Otherwise they follow the order of time, or of the rows.
    random_state : int, Generator or None
        For folds that are drawn.
    force : bool
        Allow a split that leaks; ``describe()["forced"]`` then says so.

    Returns
    -------
    Folds
        ``folds.on(x)`` gives the rows; they follow labels, so ``x`` may have lost, reordered or averaged rows since.

    Raises
    ------
    SplitError
        A stimulus on both sides, a shuffled split of single presentations in time, too few groups, or an empty side.
    ParameterError
        An unknown coordinate, or options that exclude each other.

    Examples
    --------
    >>> import brainalign as ba
    >>> brain = ba.responses([[1.0], [2.0], [3.0], [4.0]], stimulus_id=["a", "b", "c", "d"], neuroid_id=[0],
    ...                      modality="fmri", system="sub-01", run=["1", "1", "2", "2"], onset_s=[0.0, 2.0, 0.0, 2.0])
    >>> folds = ba.split(brain)
    >>> folds.names, [fold.test.tolist() for fold in folds.on(brain)]
    (('1', '2'), [[0, 1], [2, 3]])
    """
    table = responses if isinstance(responses, pd.DataFrame) else presentation_table(responses)
    if "stimulus_id" not in table:
        raise ParameterError(
            f"split found no `stimulus_id` among {', '.join(map(str, table.columns))}. Expected one a presentation."
        )
    if n_splits is not None:
        n_splits = check_number("n_splits", n_splits, owner="split", low=2, integer=True)
    if not isinstance(stratify, str | None):
        raise ParameterError(f"The 'stratify' parameter of split must be a name, or None. Got {stratify!r} instead.")
    if test is not None:
        excluded = {"by": by, "n_splits": n_splits, "stratify": stratify, "shuffle": shuffle}
        plan = _fixed(table, test, excluded)
    else:
        names = None if by is None else check_names("by", by, owner="split")
        plan = _folded(table, _Request(names, n_splits, stratify, shuffle, random_state, force))
    gap = plan.gap_s if gap_s is None else check_number("gap_s", gap_s, owner="split", low=0)
    return _as_folds(table, plan, gap, stratify, force)


@dataclass(frozen=True)
class _Request:
    """What was asked of :func:`split`."""

    by: Sequence[str] | None
    n_splits: int | None
    stratify: str | None
    shuffle: bool | None
    random_state: Any
    force: bool


@dataclass(frozen=True)
class _Plan:
    """Which presentation is tested in which fold, and why."""

    kind: str
    names: tuple[str, ...]
    fold: Array
    by: tuple[str, ...] = ()
    gap_s: float = 0.0
    seed: int | None = None
    forced: bool = False


def folds_of(x: xr.DataArray, cv: Any, groups: str | None, *, owner: str, random_state: Any) -> Folds:
    """Return the folds that a verb was given, or those that it was asked to make.

    Parameters
    ----------
    x : DataArray
        Whose presentations are split.
    cv : int, Folds or None
    groups : str or None
        As ``by`` of :func:`split`.
    owner : str
        The verb, for the message.
    random_state : int, Generator or None

    Returns
    -------
    Folds

    Raises
    ------
    ParameterError
        Both folds and groups.
    SplitError
        See :func:`split`.
    """
    if hasattr(cv, "get_n_splits") and not isinstance(cv, Folds):
        raise ParameterError(
            f"{owner} got cv={cv!r}, which counts rows. Expected an int, or folds that follow labels: `ba.split(target, n_splits=5)`, or "
            "`ba.split(target, by='run')` to hold out runs."
        )
    if not isinstance(cv, Folds):
        return split(x, by=groups, n_splits=cv, random_state=random_state)
    if groups is not None:
        raise ParameterError(
            f"{owner} got both cv=Folds and groups={groups!r}. Expected one: make the folds with `ba.split(..., by={groups!r})`."
        )
    return cv


def _as_folds(table: pd.DataFrame, plan: _Plan, gap_s: float, stratify: str | None, force: bool) -> Folds:
    """Check a plan for leaks and empty sides, and key it by labels."""
    forced = plan.forced or _straddles(table, plan.fold, force)
    settings = {
        "kind": plan.kind, "by": list(plan.by), "n_splits": len(plan.names), "stratify": stratify, "shuffle": plan.seed is not None,
        "seed": plan.seed, "forced": forced,
    }  # fmt: skip
    kept = [name for name in ("stimulus_id", *RUN_LABELS, "onset_s", "repetition", *plan.by) if name in table]
    labels = table[list(dict.fromkeys(kept))].reset_index(drop=True)
    folds = Folds(plan.names, labels, plan.fold, gap_s, settings)
    folds.on(labels)  # an empty side is an error here, not in the middle of a fit
    return folds


def _folded(table: pd.DataFrame, ask: _Request) -> _Plan:
    """Choose the kind of folds, and make them."""
    timed, repeats = _is_timed(table), bool(table["stimulus_id"].duplicated().any())
    if timed and repeats and ask.by is None and _repeats_in_order(table):
        # A film shown twice is a film: its volumes have neighbours, and both showings of one go together.
        units, first = group_rows(table, ("stimulus_id",), owner="split")
        once = table.iloc[first].reset_index(drop=True)
        plan = _folded(once, ask)
        return replace(plan, fold=plan.fold[units], by=plan.by or ("stimulus_id",))
    in_time = (timed or "run" in table) and not repeats
    by = tuple(ask.by) if ask.by is not None else ()
    if not by and in_time and not ask.stratify and not ask.shuffle:
        runs = tuple(name for name in RUN_LABELS[1:] if name in table)
        n_runs = len(group_rows(table, runs, owner="split")[1]) if runs else 1
        if n_runs < 2 or (ask.n_splits or 0) > n_runs:
            return _blocks(table, runs, ask.n_splits or DEFAULT_SPLITS, timed)
        by = runs
    grouped = bool(by)
    by = by or ("stimulus_id",)
    units, first = group_rows(table, by, owner="split")
    if grouped and ask.n_splits is None and ask.stratify is None:
        _refuse_few(len(first), 2, by)
        maybe = "" if timed or ask.by is not None else _UNTIMED
        return _Plan(f"leave one {'+'.join(by)} out{maybe}", join_labels(table, by, first), units, by)
    n_splits = ask.n_splits or DEFAULT_SPLITS
    _refuse_few(len(first), n_splits, by)
    shuffle = (not grouped and not in_time) if ask.shuffle is None else ask.shuffle
    forced = shuffle and in_time and timed and _refuse_shuffle(table, units, by, ask.force)
    seed = check_random_state(ask.random_state, owner="split") if shuffle else None
    order = np.arange(len(first)) if seed is None else np.random.default_rng(seed).permutation(_by_name(table, by, first))
    strata = _strata(table, ask.stratify, units, first, by, n_splits) if ask.stratify else np.zeros(len(first), dtype=np.int64)
    fold = _spread(strata, order, n_splits)[units]
    kind = f"{'stratified ' if ask.stratify else ''}K-fold over {'+'.join(by)}"
    return _Plan(kind, _numbered(n_splits), fold, by, seed=seed, forced=forced)


def _by_name(table: pd.DataFrame, names: Sequence[str], first: Array) -> Array:
    """Return groups in the order of their names: rows in another order are still dealt to the same folds."""
    ranks = [pd.factorize(table[name].iloc[first], sort=True)[0] for name in names]
    return np.lexsort(ranks[::-1])


def _spread(strata: Array, order: Array, n_splits: int) -> Array:
    """Give each unit a fold: each stratum, in the given order, is cut into contiguous parts of equal size."""
    sorted_units = order[np.argsort(strata[order], kind="stable")]
    sorted_strata = strata[sorted_units]
    fold = np.empty(len(strata), dtype=np.int64)
    for stratum in np.unique(strata):
        # Every n-th place of the sorted strata says how many of this stratum a fold gets: sizes differ by one at most,
        # within each stratum and in all (as in scikit-learn's StratifiedKFold).
        places = np.flatnonzero(sorted_strata == stratum)
        sizes = np.bincount(places % n_splits, minlength=n_splits)
        fold[sorted_units[places]] = np.repeat(np.arange(n_splits), sizes)
    return fold


def _blocks(table: pd.DataFrame, runs: tuple[str, ...], n_splits: int, timed: bool) -> _Plan:
    """Cut the presentations, in the order of runs and of onsets or rows, into contiguous blocks."""
    run = np.zeros(len(table), dtype=np.int64)
    if runs:
        codes, first = group_rows(table, runs, owner="split")
        run = np.argsort(_by_name(table, runs, first))[codes]
    _refuse_few(len(table), n_splits, ("stimulus_id",))
    places = table["onset_s"].to_numpy(dtype=np.float64) if timed else np.arange(len(table))
    order = np.lexsort((places, run))
    fold = np.empty(len(table), dtype=np.int64)
    fold[order] = np.arange(len(table)) * n_splits // len(table)
    if not timed:
        return _Plan(f"contiguous blocks of rows{_UNTIMED}", _numbered(n_splits), fold)
    lasting = sum(float(np.ptp(places[run == each])) for each in np.unique(run))
    gap_s = min(DEFAULT_GAP_S, lasting / n_splits)  # a gap longer than a block would leave little of a short recording
    return _Plan("contiguous blocks of time", _numbered(n_splits), fold, gap_s=gap_s)


def _fixed(table: pd.DataFrame, test: Any, excluded: Mapping[str, Any]) -> _Plan:
    given = [name for name, value in excluded.items() if value is not None]
    if given:
        raise ParameterError(
            f"split got `test` and {preview(given)}. Expected one fixed split or folds, not both: leave one out."
        )
    mask = _by_values(table, test) if isinstance(test, Mapping) else _by_rows(table, test)
    by = tuple(test) if isinstance(test, Mapping) else ()
    return _Plan("fixed", ("test",), np.where(mask, 0, -1), by)


def _by_values(table: pd.DataFrame, test: Mapping[str, Any]) -> Array:
    mask = np.ones(len(table), dtype=bool)
    for name, values in test.items():
        group_rows(table, (name,), owner="split")
        labels = table[name].astype(str).to_numpy(dtype=object)
        wanted = [str(value) for value in ([values] if np.ndim(values) == 0 else np.asarray(values).tolist())]
        _refuse_unknown(name, wanted, labels)
        mask &= pd.Index(labels).isin(wanted)
    return mask


def _by_rows(table: pd.DataFrame, test: Any) -> Array:
    values = np.asarray([test] if isinstance(test, str) else test)
    if values.dtype.kind == "b" and values.shape == (len(table),):
        return values
    if values.dtype.kind not in "TUO" or values.ndim != 1:
        raise ParameterError(
            f"split got `test` of dtype {values.dtype} and shape {values.shape}. Expected a mask of shape ({len(table)},), "
            "`stimulus_id` values, or a mapping such as {'run': '8'}; row numbers would not survive reordering."
        )
    labels = table["stimulus_id"].to_numpy(dtype=object)
    wanted = [str(value) for value in values.tolist()]
    _refuse_unknown("stimulus_id", wanted, labels)
    return np.asarray(pd.Index(labels).isin(wanted))  # np.isin takes quadratic time on strings


def _refuse_unknown(name: str, wanted: list[str], labels: Array) -> None:
    known = pd.unique(labels)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise SplitError(
            f"split got {len(unknown)} values of `{name}` to test that no presentation has: {preview(unknown)}. Expected some of "
            f"{preview(known)}.{did_you_mean(unknown[0], known)}"
        )


def _is_timed(table: pd.DataFrame) -> bool:
    """Return True where every presentation has an onset; some with and some without cannot be ordered."""
    if "onset_s" not in table:
        return False
    missing = np.flatnonzero(~np.isfinite(table["onset_s"].to_numpy(dtype=np.float64)))
    if 0 < missing.size < len(table):
        raise SplitError(
            f"split found no `onset_s` in {missing.size} of {len(table)} presentations, first {preview(missing)}. Expected seconds for "
            "all or for none: drop these rows, or the coordinate."
        )
    return not missing.size


def _repeats_in_order(table: pd.DataFrame) -> bool:
    """Return True where repeated stimuli are mostly followed by what followed them the first time: a film, a story."""
    labels = [name for name in RUN_LABELS if name in table]
    run = group_rows(table, labels, owner="split")[0] if labels else np.zeros(len(table), dtype=np.int64)
    order = np.lexsort((table["onset_s"].to_numpy(dtype=np.float64), run))
    code = group_rows(table, ("stimulus_id",), owner="split")[0][order]
    steps = pd.DataFrame({"code": code[:-1], "next": code[1:]})[(run[order][1:] == run[order][:-1]) & (code[1:] != code[:-1])]
    again = steps["code"].duplicated().to_numpy()
    same = (steps["next"] == steps.groupby("code")["next"].transform("first")).to_numpy()
    return bool(again.any() and same[again].mean() > 0.5)


def _strata(table: pd.DataFrame, name: str, units: Array, first: Array, by: tuple[str, ...], n_splits: int) -> Array:
    strata, starts = group_rows(table, (name,), owner="split")
    if not is_constant(strata, units, first):
        row = int(np.flatnonzero(strata != strata[first][units])[0])
        raise SplitError(
            f"stratify={name!r} has several values within one {'+'.join(by)}, first in row {row} ({table[name].iloc[row]!r}). Expected one "
            "value in each group: group by something finer, or leave `stratify` out."
        )
    counts = np.bincount(strata[first], minlength=len(starts))
    if counts.min() < n_splits:
        rare = table[name].iloc[starts[counts.argmin()]]
        raise SplitError(
            f"stratify={name!r}: the value {rare!r} occurs in {counts.min()} {'+'.join(by)} groups, fewer than the {n_splits} folds. Expected "
            f"one for each fold: use n_splits={max(int(counts.min()), 2)} or fewer, or drop it."
        )
    return np.argsort(_by_name(table, (name,), starts))[strata[first]]


def _refuse_few(n_groups: int, n_splits: int, by: tuple[str, ...]) -> None:
    if n_groups < n_splits:
        own = " Trials that are named by their event need `stimulus_id` values of their own." if by == ("stimulus_id",) else ""
        raise SplitError(
            f"split found {n_groups} values of {'+'.join(by)} for {n_splits} folds. Expected at least one for each: use fewer folds, or "
            f"group by something finer.{own}"
        )


def _refuse_shuffle(table: pd.DataFrame, units: Array, by: tuple[str, ...], force: bool) -> bool:
    """Refuse to draw neighbours in time onto both sides; return True where that was forced."""
    labels = [name for name in RUN_LABELS if name in table]
    run, first = (
        group_rows(table, labels, owner="split") if labels else (np.zeros(len(table), dtype=np.int64), np.zeros(1, dtype=int))
    )
    if is_constant(units, run, first):
        return False  # whole runs are drawn: no neighbours are parted
    if force:
        return True
    raise SplitError(
        f"shuffle=True would draw {len(table)} presentations with onset times onto both sides by {'+'.join(by)}: neighbours in time are "
        "alike, and the score would be of that. Expected whole runs or blocks: leave `shuffle` out, use by='run', or pass force=True, "
        "which is recorded."
    )


def _straddles(table: pd.DataFrame, fold: Array, force: bool) -> bool:
    """Refuse a stimulus on both sides; return True where that was forced."""
    try:
        check_sides(table, fold)
    except SplitError:
        if not force:
            raise
        return True
    return False


def _numbered(n_splits: int) -> tuple[str, ...]:
    return tuple(f"fold-{number}" for number in range(1, n_splits + 1))
