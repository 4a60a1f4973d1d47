"""What a score is worth: the same model, folds and target, with a source that should explain little or nothing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, BrainAlignError, ParameterError
from brainalign.core.parameters import check_choice
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of, presentation_table
from brainalign.engine.moments import Numbers
from brainalign.features.chain import Chain
from brainalign.features.timing import run_codes
from brainalign.scores.inference import null_orders, runs_of
from brainalign.scores.pairing import Pair

#: What each control is made of, from the pair itself; ``shifted`` and ``autocorrelation`` need rows in time, ``shuffled`` others.
CONTROLS = {
    "constant": "the source's neuroids, all 1",
    "random-projection": "Gaussian features of the stimulus's identity, as many as the source has",
    "shuffled": "the target's stimuli exchanged",
    "shifted": "each run of the target shifted in a circle, by half its length",
    "autocorrelation": "the time of each row alone: Gaussian bumps along each run, as wide as the gap of the folds",
}
#: Those that do not depend on which neuroids the source has.
SAME_FOR_ALL = ("constant", "autocorrelation")
_MOST_BUMPS = 1000  # of a long recording they are wider than two rows
SEED_OF = re.compile(r"-\d+$")  # "untrained-0", "untrained-1": seeds of one control


@dataclass(frozen=True)
class Controls:
    """Which controls run beside a score.

    Attributes
    ----------
    names : tuple of str
        Of :data:`CONTROLS`; those that need times are left out where there are none.
    sources : dict of str to DataArray
        Further sources, scored in the place of the real one.
    """

    names: tuple[str, ...] = ()
    sources: Mapping[str, xr.DataArray] | None = None

    @classmethod
    def asked(cls, controls: Any) -> Controls:
        """Read the argument ``controls``: ``"auto"``, ``"none"``, names, or further sources by name.

        Parameters
        ----------
        controls : str, sequence of str or mapping

        Returns
        -------
        Controls

        Raises
        ------
        ParameterError
            A name that is none, or a source that holds no responses.
        """
        if isinstance(controls, Mapping):
            for name, x in controls.items():
                if str(name) in CONTROLS or not isinstance(x, xr.DataArray):
                    raise ParameterError(
                        f"controls[{name!r}] is a {type(x).__name__}. Expected responses by a name of their own (not one of "
                        f"{', '.join(CONTROLS)}): `ba.record` makes them."
                    )
                validate(x, name=f"controls[{name!r}]")
            return cls(tuple(CONTROLS), {str(name): x for name, x in controls.items()})
        if isinstance(controls, str):
            check_choice("controls", controls, ("auto", "none"), owner="evaluate")
            return cls(tuple(CONTROLS) if controls == "auto" else ())
        if controls is None or not isinstance(controls, Sequence):
            raise ParameterError(
                f"The 'controls' parameter of evaluate must be 'auto', 'none', names, or responses by name. Got {controls!r} instead."
            )
        for name in controls:
            check_choice("controls", name, tuple(CONTROLS), owner="evaluate")
        return cls(tuple(controls))

    def of_group(self, name: str, label: Any, *, first: bool) -> Controls:
        """Return the controls of one group of source neuroids, such as a layer.

        Parameters
        ----------
        name : str
            The neuroid coordinate that groups.
        label : object
        first : bool
            The first group runs the controls that are the same for all.

        Returns
        -------
        Controls
            A source that has the coordinate is cut to the same group: an untrained layer controls its trained self.
        """
        sources = {}
        for key, x in (self.sources or {}).items():
            same = coords_of(x, "neuroid").get(name)
            if same is not None and (same == label).any():
                sources[key] = x.isel(neuroid=np.flatnonzero(same == label))
            elif first and same is None:
                sources[key] = x
        return Controls(tuple(n for n in self.names if first or n not in SAME_FOR_ALL), sources)

    def shared(self, name: str) -> tuple[str, ...]:
        """Return the names of controls that are the same for all groups.

        Parameters
        ----------
        name : str
            The neuroid coordinate that groups.

        Returns
        -------
        tuple of str
        """
        whole = [SEED_OF.sub("", key) for key, x in (self.sources or {}).items() if name not in coords_of(x, "neuroid")]
        return (*SAME_FOR_ALL, *whole)

    def __bool__(self) -> bool:
        return bool(self.names or self.sources)


def with_controls(
    out: xr.Dataset,
    controls: Controls,
    both: Pair,
    source: xr.DataArray,
    *,
    mapping: Any,
    pair_of: Callable[[xr.DataArray], Pair],
    score: Callable[[Pair], xr.Dataset],
    seed: int,
) -> xr.Dataset:
    """Add what the controls score, and how far the score is above the best of them.

    Parameters
    ----------
    out : Dataset
        With ``score`` (neuroid[, time]), and ``null_score`` where permutations were made.
    controls : Controls
    both : Pair
        What was scored.
    source : DataArray
        As it was given, before any step.
    mapping : mapping
        Of the model.
    pair_of : callable
        From another source to its pair with the same target, model and folds.
    score : callable
        From a pair to its result.
    seed : int

    Returns
    -------
    Dataset
        With ``score_control`` (control, neuroid[, time]) and ``score_minus_best_control``; NaN where a control predicts nothing, as a
        constant does, and so cannot be correlated. Seeds of one control are averaged. Controls that the model refused are named in
        ``both.report["controls_failed"]``.
    """
    found: dict[str, list[Numbers]] = {}
    failed: dict[str, str] = {}
    for name, make in _pairs(controls, both, source, mapping, pair_of, seed):
        drawn = out.null_score.values if name == _null_of(both) and "null_score" in out else None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of features that are constant, as these are meant to be
                values = score(make()).score.values if drawn is None else np.nanmean(drawn, axis=0)
        except AlignmentError:
            raise
        except (BrainAlignError, ValueError) as error:
            failed[name] = " ".join(str(error).split())
            continue
        found.setdefault(SEED_OF.sub("", name), []).append(values)
    if failed:
        both.report["controls_failed"] = failed
    if not found:
        return out
    scores = xr.DataArray(
        np.stack([np.mean(columns, axis=0) for columns in found.values()]).astype(np.float64), dims=("control", *out.score.dims)
    )
    return with_best(out.assign_coords(control=("control", as_labels(list(found)))), scores)


def with_best(out: xr.Dataset, scores: xr.DataArray) -> xr.Dataset:
    """Add the scores of controls, and the distance to the best of them.

    Parameters
    ----------
    out : Dataset
        With ``score`` and the coordinate ``control``.
    scores : DataArray, (control, ...)

    Returns
    -------
    Dataset
    """
    best = np.fmax.reduce(scores.values, axis=0)
    return out.assign(score_control=scores, score_minus_best_control=(out.score.dims, out.score.values - best))


def _pairs(
    controls: Controls, both: Pair, source: xr.DataArray, mapping: Any, pair_of: Callable[[xr.DataArray], Pair], seed: int
) -> Iterator[tuple[str, Callable[[], Pair]]]:
    """Yield each control that applies, and how its pair is made."""
    timed = "onset_s" in coords_of(both.target, "presentation")
    made = {
        "constant": lambda: pair_of(source.copy(data=np.ones(source.shape, dtype=np.float32))),
        "random-projection": lambda: pair_of(_projection(source, seed)),
        "shuffled": lambda: _shuffled(both, seed),
        "shifted": lambda: replace(both, target=_half_a_run_later(both.target)),
        "autocorrelation": lambda: replace(both, source=_bumps(both), model=Chain((_at_once(mapping),))),
    }
    absent = ("shuffled",) if timed else ("shifted", "autocorrelation")
    yield from ((name, made[name]) for name in controls.names if name not in absent)
    for name, x in (controls.sources or {}).items():
        yield name, lambda name=name, x=x: _complete(pair_of(x), both, name)  # type: ignore[misc]


def _at_once(mapping: Any) -> Any:
    """Return a mapping that has lags of its own without them: bumps are smooth in time already, and many."""
    return mapping.without_lags() if hasattr(mapping, "without_lags") else mapping


def _null_of(both: Pair) -> str:
    return "shifted" if "onset_s" in coords_of(both.target, "presentation") else "shuffled"


def _shuffled(both: Pair, seed: int) -> Pair:
    order = null_orders(both, null="exchange", n_permutations=1, seed=seed)[0]
    return replace(both, target=both.target.copy(data=both.target.values[order]))


def _half_a_run_later(target: xr.DataArray) -> xr.DataArray:
    """Shift each run in a circle as far as it can be."""
    values = target.values.copy()
    for run in runs_of(presentation_table(target)):
        values[run] = values[np.roll(run, len(run) // 2)]
    return target.copy(data=values)


def _projection(source: xr.DataArray, seed: int) -> xr.DataArray:
    """One row of Gaussian features for each stimulus: a random projection of which stimulus it is."""
    codes = pd.factorize(source.stimulus_id.values.astype(object), sort=True)[0]
    rows = np.random.default_rng(seed).standard_normal((codes.max() + 1, *source.shape[1:]), dtype=np.float32)
    return source.copy(data=rows[codes])


def _bumps(both: Pair) -> xr.DataArray:
    """Where in time each row lies, as Gaussian bumps along each run that a fold cuts.

    They are as wide as the gap of the folds: narrower ones reach from no training row to a test row. Without one they are two rows wide, or
    more, a thousand in all. A run that no fold cuts is held out whole, and nothing is learned of its times: it has one bump, without an end.
    """
    target, table = both.target, presentation_table(both.target)
    onsets, codes = table["onset_s"].to_numpy(dtype=np.float64), run_codes(table)
    cut = np.isin(codes, np.concatenate([np.intersect1d(codes[fold.train], codes[fold.test]) for fold in both.folds]))
    runs, blocks = runs_of(table), []
    least = sum(np.ptp(onsets[run]) for run in runs if cut[run[0]]) / _MOST_BUMPS
    for run in runs:
        times, centres, width = onsets[run], onsets[run[:1]], np.inf
        if cut[run[0]]:
            width = max(2 * np.median(np.diff(times)), least, both.report["folds"]["gap_s"]) or 1.0
            centres = np.arange(times[0], times[-1] + width, width)
        block = np.zeros((len(table), len(centres)), dtype=np.float32)
        block[run] = np.exp(-0.5 * ((times[:, None] - centres) / width) ** 2)
        blocks.append(block)
    values = np.concatenate(blocks, axis=1)
    coords: dict[str, Any] = {name: ("presentation", column) for name, column in coords_of(target, "presentation").items()}
    coords |= {
        "neuroid_id": ("neuroid", np.arange(values.shape[1])),
        "system": ("neuroid", as_labels(["time"] * values.shape[1])),
    }
    attrs = {name: target.attrs[name] for name in ("modality", "schema_version") if name in target.attrs}
    return xr.DataArray(values, dims=("presentation", "neuroid"), coords=coords, attrs=attrs, name="responses")


def _complete(control: Pair, both: Pair, name: str) -> Pair:
    refuse_partial(name, len(control.target), len(both.target))
    return control


def refuse_partial(name: str, n: int, n_scored: int) -> None:
    """Refuse a control that lacks some of the rows that were scored: it would be compared on others.

    Parameters
    ----------
    name : str
    n, n_scored : int
        Presentations that the control has, and those that are scored.

    Raises
    ------
    AlignmentError
    """
    if n != n_scored:
        raise AlignmentError(
            f"controls[{name!r}] has {n} of the {n_scored} presentations that are scored. Expected all of them, and "
            "no more: record the control on the same stimuli."
        )
