"""``match``: the neuroid of another system that responds most alike, and whether a rotated basis would have one as good."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import linear_sum_assignment

from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.dataset.align import align
from brainalign.dataset.repeats import average_if_repeated
from brainalign.engine.chance import Chance
from brainalign.engine.matching import unit_columns
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.reliability import split_half
from brainalign.engine.resample import p_values
from brainalign.engine.universal import CrossSums, best_of, random_rotation, rotated
from brainalign.neurons.labelling import rows_of

_SPLITS = 20  # random halves of repeats
_ROWS = 2**22  # values of a block of rows: 32 MB


def match(
    source: xr.DataArray,
    target: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    absolute: bool = False,
    rotation: str = "haar",
    n_rotations: int = 5,
    universal: float = 0.5,
    one_to_one: bool = False,
    ceiling: str | None = None,
    n_permutations: int = 0,
    join: str = "inner",
    max_memory: int = 2**30,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Find for every neuroid of one system the most similar one of another: another seed, layer, person or species.

    Parameters
    ----------
    source : DataArray, (presentation, neuroid[, time])
        Repeats are averaged. Lazy values are read in blocks of rows.
    target : DataArray, or dict of str to DataArray
        One system, or several by name. Both sides have times, which then count as further rows, or neither has.
    absolute : bool
        Whether a neuroid that responds in the opposite way is as good a match.
    rotation : {"haar", "gaussian"}
        What the target is compared with: its standardised neuroids in a random orthogonal basis; or random directions drawn one
        by one.
    n_rotations : int
        0 for no baseline, which needs the square of the target's number of neuroids in memory.
    universal : float
        Mean excess over all targets from which on a neuroid is called universal.
    one_to_one : bool
        Add partners such that no neuroid has two, with the highest sum of correlations.
    ceiling : "repeat" or None
        Add the geometric mean of both matched neuroids' reliability, from split halves of the repeats; a side without repeats
        counts as without noise.
    n_permutations : int
        How often stimuli of the target change places (rows in time are shifted); the responses are then held in memory.
    join : {"inner", "exact"}
        Whether stimuli that one side lacks are left out (and reported) or an error.
    max_memory : int
        Bytes for correlations that are held at a time.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over targets; of a single one, over rotations and permutations of each band of the source that memory holds.

    Returns
    -------
    Dataset
        By ``neuroid`` of the source, and by ``target`` where a dict is given: ``score``, the highest Pearson r; ``match``, the
        ``neuroid_id`` that has it, and ``match_position``; ``baseline``, the highest r with a rotated target, mean over
        rotations; ``excess``, the difference; and ``p_value_rotation``, (1 + the rotations with as high a score) / (1 + all).
        With permutations ``p_value``, ``p_value_fdr`` and ``p_value_max`` of the score. With ``one_to_one`` ``partner`` ("" for
        none), ``partner_position`` (-1) and ``partner_score``; with a ceiling ``ceiling`` and ``score_normalized``. Over all
        targets: ``excess_mean``, ``excess_min`` and ``universal``. Coordinate ``status``: "ok" or "undefined" (constant, NaN).
        Attr ``report`` (JSON).

    Raises
    ------
    ParameterError
        See the messages; ``max_memory`` is too small for the baseline or one-to-one partners.
    AlignmentError
        No stimuli in common.
    SchemaError
        Fewer than three stimuli in common; stimuli that several subjects saw, in one array.

    Warns
    -----
    DegenerateNeuroidWarning
        Neuroids of the source are constant or NaN.

    Notes
    -----
    Excess after Gurnee et al. 2024, whose rotations are Gaussian and of neurons as they are: here neuroids are standardised, as
    correlations are blind to scale, and rotations orthogonal. The highest of many correlations is high by chance; that is what
    the baseline and the permutations say. ``p_value_rotation`` asks whether the axes of the target matter, ``p_value`` whether
    its responses do.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> values = np.random.default_rng(0).normal(size=(200, 30))
    >>> a, b = (ba.responses(v, stimulus_id=range(200), neuroid_id=range(30), modality="ann", system=name)
    ...         for name, v in (("a", values), ("b", values[:, ::-1])))
    >>> out = ba.match(a, b, random_state=0)
    >>> out.score.values.min().round(3), out.match.values[:3].tolist(), bool(out.universal.all())
    (np.float64(1.0), ['29', '28', '27'], True)
    """
    check_choice("rotation", rotation, ("haar", "gaussian"), owner="match")
    for name, number, low in (
        ("n_rotations", n_rotations, 0),
        ("n_permutations", n_permutations, 0),
        ("max_memory", max_memory, 1),
    ):
        check_number(name, number, owner="match", low=low, integer=True)
    check_number("universal", universal, owner="match", low=-1, high=2)
    if ceiling is not None:
        check_choice("ceiling", ceiling, ("repeat",), owner="match")
    seed = check_random_state(random_state, owner="match")
    targets = dict(target) if isinstance(target, Mapping) else {"": target}
    if not targets:
        raise ParameterError("match got an empty dict of targets. Expected one system at least.")
    ask = _Ask(absolute, rotation, n_rotations, one_to_one, ceiling, n_permutations, join, max_memory)
    streams = np.random.SeedSequence(seed).spawn(len(targets))
    found, reports = {}, {}
    several = len(targets) > 1
    shown = partial(progress_bar, progress=not several and progress)
    sides = list(zip(targets.items(), streams, strict=True))
    for (name, x), stream in progress_bar(sides, progress=several and progress, desc="targets"):
        found[name], reports[name] = _one(source, x, name, ask, np.random.default_rng(stream), shown)
    out = xr.concat(found.values(), "target").assign_coords(target=as_labels(list(found)))
    if n_rotations:
        mean, least = out["excess"].mean("target", skipna=False), out["excess"].min("target", skipna=False)
        out = out.assign(excess_mean=mean, excess_min=least, universal=mean > universal)
    out = out if isinstance(target, Mapping) else out.isel(target=0, drop=True)
    out = _with_labels(out, source)
    out.attrs = {"metric": "pearson", "direction": "higher is more alike", "threshold": universal}
    out.attrs["report"] = json.dumps(
        {"join": reports[""]} if "" in reports else {"each": {name: {"join": r} for name, r in reports.items()}}
    )
    inputs = {"source": source} | {f"target {name}".strip(): x for name, x in targets.items()}
    return write_step(out, "match", params=asdict(ask) | {"universal": universal}, inputs=inputs, seed=seed)


@dataclass(frozen=True)
class _Ask:
    """What :func:`match` was asked for."""

    absolute: bool
    rotation: str
    n_rotations: int
    one_to_one: bool
    ceiling: str | None
    n_permutations: int
    join: str
    max_memory: int

    def height(self, r: Numbers) -> Numbers:
        """Return correlations so that better ones are higher."""
        return np.abs(r) if self.absolute else r

    def refuse_little(self, n: int, m: int) -> int:
        """Return how many neuroids of the source are matched together, or say how much memory it takes."""
        width = self.max_memory // (48 * m)  # correlations of a band of the source, and what is made of them
        squared = 48 * m * m if self.n_rotations else 0
        if width < 1 or squared > self.max_memory or (self.one_to_one and width < n):
            raise ParameterError(
                f"The 'max_memory' parameter of match is {self.max_memory:,} bytes, for {n} neuroids and a target of {m}. "
                f"Expected at least {max(48 * m * (n if self.one_to_one else 1), squared):,}; n_rotations=0 and "
                "one_to_one=False take less."
            )
        return width


def _one(
    source: xr.DataArray, target: xr.DataArray, name: str, ask: _Ask, rng: np.random.Generator, shown: Callable[..., Any]
) -> tuple[xr.Dataset, dict[str, Any]]:
    """Return the matches in one target, and what was joined."""
    names = ("source", f"target {name!r}" if name else "target")
    x, y, report = align(
        *(
            average_if_repeated(validate(side, name=label), owner="match")
            for side, label in zip((source, target), names, strict=True)
        ),
        join=ask.join,
        source_name=names[0],
        target_name=names[1],
    )
    if ("time" in x.dims) != ("time" in y.dims):
        raise ParameterError(
            f"match got `time` on one side only ({x.dims} and {y.dims}). Expected both or neither: average over it, or take "
            "one time."
        )
    if len(x) * (x.shape[2] if x.ndim > 2 else 1) < 3:
        raise SchemaError(f"match got {len(x)} shared stimuli. Expected three or more.")
    n, m = x.shape[1], y.shape[1]
    width = ask.refuse_little(n, m)
    orders = rows_of(y, None, None, owner="match").orders(ask.n_permutations, rng) if ask.n_permutations else None
    turn = np.random.SeedSequence(int(rng.integers(2**63)))  # the same rotations for every band
    parts, gram, chance = [], np.empty(0), None if orders is None else Chance((n,), len(orders))
    for start in range(0, n, width):
        band = slice(start, min(start + width, n))
        sums = CrossSums(band.stop - start, m, gram=ask.n_rotations > 0 and start == 0)
        for a, b in _row_blocks(x, y, band):
            sums.add(a, b)
        if not sums.varying().any():
            raise SchemaError(f"match got a {names[1]} whose {m} neuroids are all constant or NaN. Expected some that vary.")
        r = sums.correlations()
        part: dict[str, Numbers] = dict(zip(("score", "match_position"), best_of(r, absolute=ask.absolute), strict=True))
        if ask.n_rotations:
            gram = sums.gram() if start == 0 else gram
            part |= _baseline(part["score"], r, gram, ask, np.random.default_rng(turn), shown)
        if ask.one_to_one:
            part |= _partners(r, ask)
        if orders is not None and chance is not None:
            chance.add(band, *_permuted(x, y, band, orders, ask, shown))
        parts.append(part)
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} | ({} if chance is None else chance.found())
    return _labelled(found, source, target, (x, y), ask, rng), report


def _row_blocks(x: xr.DataArray, y: xr.DataArray, band: slice) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield rows of both sides; times are rows."""
    step = max(1, _ROWS // max(1, (band.stop - band.start + y.shape[1]) * (x.shape[2] if x.ndim > 2 else 1)))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        yield _as_rows(x.data[rows, band]), _as_rows(y.data[rows])


def _as_rows(values: Any) -> Numbers:
    array = np.asarray(values)
    return array if array.ndim == 2 else np.moveaxis(array, 2, 1).reshape(-1, array.shape[1])


def _baseline(
    score: Numbers, r: Numbers, gram: Numbers, ask: _Ask, rng: np.random.Generator, shown: Callable[..., Any]
) -> dict[str, Numbers]:
    """Return the highest correlations with rotated targets, and how the score compares with them."""
    known = np.isfinite(np.diag(gram))
    r, gram, best = r[:, known], gram[np.ix_(known, known)], []
    for _ in shown(range(ask.n_rotations), desc="rotations"):
        turned = rotated(r, gram, random_rotation(len(gram), rng, orthogonal=ask.rotation == "haar"))
        best.append(ask.height(best_of(turned, absolute=ask.absolute)[0]))
    own, mean = ask.height(score), np.mean(best, axis=0)
    return {"baseline": mean, "excess": own - mean, "p_value_rotation": p_values(own, np.stack(best))}


def _partners(r: Numbers, ask: _Ask) -> dict[str, Numbers]:
    usable = np.ix_(*(np.flatnonzero(np.isfinite(r).any(axis=axis)) for axis in (1, 0)))
    rows, columns = linear_sum_assignment(ask.height(r[usable]), maximize=True)
    place, score = np.full(len(r), -1), np.full(len(r), np.nan)
    rows, columns = usable[0][:, 0][rows], usable[1][0][columns]
    place[rows], score[rows] = columns, r[rows, columns]
    return {"partner_position": place, "partner_score": score}


def _permuted(
    x: xr.DataArray, y: xr.DataArray, band: slice, orders: Numbers, ask: _Ask, shown: Callable[..., Any]
) -> tuple[Numbers, Numbers]:
    """Return the highest correlation of each neuroid, and those with rows of the target in other orders."""
    sides = [_as_rows(x.data[:, band]), _as_rows(y.data)]
    usable = [column_status(side) == "ok" for side in sides]
    a, b = (unit_columns(side[:, known]) for side, known in zip(sides, usable, strict=True))
    b = b.reshape(len(y), -1, b.shape[1])  # times of a stimulus stay together
    out = np.full((1 + len(orders), usable[0].size), np.nan)
    every = list(zip(out, [np.arange(len(y)), *orders], strict=True))
    for row, order in shown(every, desc="permutations"):
        row[usable[0]] = ask.height(a.T @ b[order].reshape(a.shape[0], -1)).max(axis=1)
    return out[0], out[1:]


def _labelled(
    found: dict[str, Numbers],
    source: xr.DataArray,
    target: xr.DataArray,
    joined: tuple[xr.DataArray, xr.DataArray],
    ask: _Ask,
    rng: np.random.Generator,
) -> xr.Dataset:
    """Name matches and partners, and add the ceiling."""
    ids = np.array([str(name) for name in target.neuroid_id.values.tolist()], dtype=object)
    place, known = found["match_position"], np.isfinite(found["score"])
    found["match"] = as_labels(np.where(known, ids[place], ""))
    found["match_position"] = np.where(known, place, -1)
    if "partner_position" in found:
        partner = found["partner_position"]
        found["partner"] = as_labels(np.where(partner < 0, "", ids[partner]))
    if ask.ceiling is not None:
        own, theirs = (_reliability(side, rows, rng) for side, rows in zip((source, target), joined, strict=True))
        if own is None and theirs is None:
            raise SchemaError("match got ceiling='repeat', and no stimulus is repeated on either side. Expected repeats of some.")
        one, other = (np.ones(side.shape[1]) if r is None else r for r, side in ((own, source), (theirs, target)))
        found["ceiling"] = np.where(known, np.sqrt(one * other[place]), np.nan)
        found["score_normalized"] = found["score"] / found["ceiling"]
    return xr.Dataset({name: ("neuroid", values) for name, values in found.items()})


def _reliability(x: xr.DataArray, joined: xr.DataArray, rng: np.random.Generator) -> Numbers | None:
    """Return the reliability of averages over repeats of the joined stimuli; None where none has any."""
    codes = pd.Index(joined.stimulus_id.values.astype(object)).get_indexer(x.stimulus_id.values.astype(object))
    rows = np.flatnonzero(codes >= 0)
    if (np.bincount(codes[rows]) > 1).sum() < 3:
        return None
    values, times = np.asarray(x.data[rows]), x.shape[2] if x.ndim > 2 else 1
    stacked = _as_rows(values)
    return split_half(stacked, (codes[rows][:, None] * times + np.arange(times)).ravel(), _SPLITS, rng)


def _with_labels(out: xr.Dataset, source: xr.DataArray) -> xr.Dataset:
    score = out["score"].values.reshape(-1, source.shape[1])
    bad = np.isnan(score).any(axis=0)
    if bad.any():
        warnings.warn(
            f"{int(bad.sum())} of {bad.size} neuroids of the source are constant or NaN, and match none: "
            f"{preview(source.neuroid_id.values[bad])}.",
            DegenerateNeuroidWarning,
            stacklevel=3,
        )
    labels: dict[str, Any] = {name: ("neuroid", values) for name, values in coords_of(source, "neuroid").items()}
    return out.assign_coords(labels | {"status": ("neuroid", as_labels(np.where(bad, "undefined", "ok")))})
