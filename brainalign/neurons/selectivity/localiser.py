"""``localise``: neuroids that respond more to one set of conditions than to another, and what other neuroids would show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_number, check_random_state, did_you_mean, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.chance import Chance
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.resample import p_values
from brainalign.engine.selective import Selectivity, measure
from brainalign.neurons.labelling import Rows, blocks_of, labelled, neuroid_labels, rows_of, without_time

_VALUES = 2**23


def localise(
    responses: xr.DataArray,
    condition: str,
    contrast: tuple[Any, Any],
    *,
    n_selected: int,
    groups: str | None = "stimulus_id",
    within: str | None = None,
    n_permutations: int = 0,
    n_draws: int = 1000,
    max_memory: int = 2**30,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Rank neuroids by a contrast of two sets of conditions, as a functional localiser does.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid)
        Lazy values are read block by block.
    condition : str
        Presentation coordinate.
    contrast : tuple of two labels, or of two sequences of labels
        Values of it: what neuroids should prefer, and to what. ``("sentence", "nonword")``.
    n_selected : int
        How many neuroids are selected.
    groups, within, n_permutations, max_memory
        As in :func:`brainalign.selectivity`.
    n_draws : int
        Draws of as many random neuroids.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over blocks of neuroids.

    Returns
    -------
    Dataset
        (neuroid): ``score``, d′ of the contrast; ``rank``, 1 for the highest; ``selected``; with permutations ``p_value``,
        ``p_value_fdr``, ``p_value_max``. And of sets: ``selected_score``, the mean score, in a random half of the groups (of a
        recording in time, the earlier or the later half), of the neuroids that the other half would select; ``random_score`` (random), that of random neuroids in the same half; and
        ``p_value_random``, of neuroids that are independent of each other (see the notes). Coordinate ``status`` of neuroids.

    Raises
    ------
    ParameterError
        A condition that no presentation has, or fewer neuroids that can be scored than are to be selected; under four groups in a
        set, or two presentations in half of a recording in time.
    SchemaError
        A presentation without a condition, or a time dim.

    Notes
    -----
    Neuroids that were selected on the rows that score them would beat random ones in noise, too (Kriegeskorte et al. 2009).
    Random sets take neuroids for exchangeable. Where neighbours share their noise, as voxels and electrodes do, ``p_value_random``
    is too low: of noise that ten neighbours share it is .05 or less in 16 of 100 sets. Trust ``p_value`` of the permutations, which
    leave the neuroids of a presentation together.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> label = np.tile(["face", "house"], 20)
    >>> values = np.random.default_rng(0).normal(size=(40, 50)) + np.outer(label == "face", np.r_[2, 2, 2, np.zeros(47)])
    >>> x = ba.responses(values, stimulus_id=range(40), neuroid_id=range(50), modality="ann", system="net", condition=label)
    >>> out = ba.neurons.localise(x, "condition", ("face", "house"), n_selected=3, random_state=0)
    >>> out.neuroid_id.values[out.selected.values].tolist(), out.p_value_random.item() < 0.01
    ([0, 1, 2], True)
    """
    for name, number, low in (("n_selected", n_selected, 1), ("n_permutations", n_permutations, 0), ("n_draws", n_draws, 1)):
        check_number(name, number, owner="localise", low=low, integer=True)
    check_number("max_memory", max_memory, owner="localise", low=1, integer=True)
    seed = check_random_state(random_state, owner="localise")
    without_time(responses, "localise")
    first, second = _sides(labelled(responses, condition, owner="localise"), contrast)
    x = responses.isel(presentation=np.flatnonzero(first | second))
    member = first[first | second].astype(np.float64)[:, None]
    rows = rows_of(x, groups, within, owner="localise")
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(3)]
    halves = (_halves_in_time if rows.timed else _halves)(rows, member[:, 0] > 0, streams[1])
    orders = rows.orders(n_permutations, streams[0]) if n_permutations else None
    found = _scored(x, member, orders, halves, max_memory, progress)
    status, score, on_halves = found.pop("status"), found["score"], found.pop("halves")
    usable = np.flatnonzero(np.isfinite(score) & np.isfinite(on_halves).all(axis=0))
    if len(usable) < n_selected:
        raise ParameterError(
            f"localise got n_selected={n_selected} for {len(usable)} neuroids that vary. Expected no more than these."
        )
    rank = np.argsort(np.argsort(np.where(np.isnan(score), np.inf, -score), kind="stable")) + 1
    found |= {"rank": rank, "selected": rank <= n_selected}
    coords: dict[str, Any] = neuroid_labels(x) | {"status": ("neuroid", as_labels(status))}
    out = xr.Dataset({name: ("neuroid", values) for name, values in found.items()}, coords)
    chosen, random = _of_sets(on_halves[:, usable], n_selected, n_draws, streams[2])
    out = out.assign(
        selected_score=chosen, random_score=("random", random), p_value_random=float(p_values(np.array(chosen), random))
    )
    out.attrs = {"metric": "dprime", "units": "d′", "direction": "higher is more selective"}
    out.attrs["n_permutations"] = 0 if orders is None else len(orders)
    params = {"condition": condition, "contrast": contrast, "n_selected": n_selected, "groups": groups, "within": within}
    params |= {"n_permutations": n_permutations, "n_draws": n_draws}
    return write_step(out, "localise", params=params, inputs={"responses": responses}, seed=seed)


def _scored(
    x: xr.DataArray,
    member: Numbers,
    orders: Numbers | None,
    halves: tuple[Numbers, Numbers],
    max_memory: int,
    progress: bool | None,
) -> dict[str, Numbers]:
    """Return scores of all rows, their p-values, and scores of both halves, (half, neuroid)."""
    what, n = measure("dprime"), x.shape[1]
    found: dict[str, Numbers] = {"score": np.full(n, np.nan), "status": np.empty(n, dtype=np.dtypes.StringDType())}
    found["halves"] = np.full((2, n), np.nan)
    chance = None if orders is None else Chance((n,), len(orders))
    together = int(np.clip(_VALUES // (1 if orders is None else len(orders)), 1, 512))
    blocks = blocks_of(x, max_memory=max_memory, owner="localise", together=together)
    for at, values in progress_bar(blocks, progress=progress, desc="localise"):
        status = column_status(values)
        usable = np.where(status == "ok", values, 0)
        prepared = what.prepare(usable)
        found["status"][at], found["score"][at] = status, what.score(prepared, member[:, None], None)[0, :, 0]
        found["halves"][:, at] = [_of_rows(what, usable[half], member[half]) for half in halves]
        if orders is not None and chance is not None:
            chance.add(at, found["score"][at], what.among(prepared, member, orders)[..., 0])
    return found if chance is None else found | chance.found()


def _of_rows(what: Selectivity, values: Numbers, member: Numbers) -> Numbers:
    return np.asarray(what.score(what.prepare(values), member[:, None], None)[0, :, 0])


def _halves_in_time(rows: Rows, first: Numbers, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Return the earlier and the later half of the rows in random order: mixed, they would share noise that is slow."""
    ordered = np.concatenate(rows.in_time())
    parts = np.array_split(ordered, 2)
    fewest = min(int((first[part] == side).sum()) for part in parts for side in (True, False))
    if fewest < 2:
        raise ParameterError(
            f"localise got a recording in time, of which one half has {fewest} presentations of a set. Expected two in each half at "
            "least, to select on one and measure on the other; drop `onset_s` where presentations are independent of their neighbours."
        )
    one, other = rng.permutation(2)
    return parts[one], parts[other]


def _halves(rows: Rows, first: Numbers, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Return random halves of the rows; groups stay whole, and each half has half of the groups of either set."""
    codes = rows.groups
    sets = [np.unique(codes[side]) for side in (first, ~first)]
    if min(map(len, sets)) < 4:
        raise ParameterError(
            f"localise got sets of {len(sets[0])} and {len(sets[1])} groups. Expected four in each at least, to select on one "
            "half and measure on the other; groups=None takes single presentations apart."
        )
    some = np.isin(codes, np.concatenate([rng.permutation(names)[: len(names) // 2] for names in sets]))
    return np.flatnonzero(some), np.flatnonzero(~some)


def _of_sets(halves: Numbers, k: int, n_draws: int, rng: np.random.Generator) -> tuple[float, Numbers]:
    """Return the mean score on the second half of what the first selects, and that of random sets."""
    selected = np.argsort(-halves[0], kind="stable")[:k]
    random = [halves[1, rng.choice(halves.shape[1], k, replace=False)].mean() for _ in range(n_draws)]
    return float(halves[1, selected].mean()), np.array(random)


def _sides(values: Numbers, contrast: tuple[Any, Any]) -> tuple[Numbers, Numbers]:
    """Return which presentations are in the one set, and which in the other."""
    if not isinstance(contrast, Sequence) or isinstance(contrast, str) or len(contrast) != 2:
        raise ParameterError(
            f"localise got contrast={contrast!r}. Expected two labels, or two sequences of labels: ('face', 'house')."
        )
    known = [str(value) for value in values.tolist()]
    sides = []
    for part in contrast:
        wanted = [str(name) for name in ([part] if np.ndim(part) == 0 else np.asarray(part).tolist())]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ParameterError(
                f"localise got {unknown[0]!r} in the contrast, which no presentation has. Expected some of "
                f"{preview(dict.fromkeys(known))}.{did_you_mean(unknown[0], known)}"
            )
        sides.append(np.isin(np.array(known, dtype=object), wanted))
    if (sides[0] & sides[1]).any():
        raise ParameterError(f"localise got contrast={contrast!r}, whose sets overlap. Expected two sets apart.")
    return sides[0], sides[1]
