"""``exemplars``: the stimuli that a neuroid answers most, be it a unit or a voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_random_state, did_you_mean
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, group_label
from brainalign.core.tables import content_of, coords_of, validate_stimuli
from brainalign.dataset.repeats import average_if_repeated, average_repeats
from brainalign.engine.concepts import column_blocks, top_rows
from brainalign.engine.correlate import ranks
from brainalign.engine.moments import Numbers, column_status
from brainalign.neurons.addresses import columns_of, names_of
from brainalign.neurons.labelling import neuroid_labels, without_time

#: Where in a stimulus, or in a map, a response was.
PLACES = ("channel_x", "channel_y", "channel_z", "token", "x_mm", "y_mm", "z_mm")


def exemplars(
    responses: xr.DataArray,
    *,
    stimuli: xr.Dataset | None = None,
    k: int = 9,
    neuroid: Any = None,
    by: str | None = None,
    repeats: str = "average",
    held_out: bool = False,
    random_state: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Return the stimuli with the highest responses of each neuroid.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid)
    stimuli : Dataset, (presentation,), optional
        A stimulus table whose content (``text`` or ``path``) is put beside the names.
    k : int
        How many.
    neuroid : str, int, or sequence of them, optional
        ``neuroid_id`` values or addresses ``"group/id"``; default all.
    by : str, optional
        Neuroid coordinate whose values stand for one neuroid each, which answers with the highest response in it: ``"unit"`` for
        the feature maps of a layer (each layer for itself), ``"region"`` for an area. Neuroids with NaN are left out.
    repeats : {"average", "keep"}
        One row a stimulus, or each presentation for itself.
    held_out : bool
        Stimuli are ranked by every other presentation of each, and the responses are the means of those left out: the highest of
        many noisy responses are high in part by noise, and fall back to what they are. Stimuli that were presented once are left
        out.
    random_state : int, Generator or None
        Stimuli with equal responses come in random order.

    Returns
    -------
    Dataset, (neuroid, rank)
        ``stimulus_id``, ``response``, ``percentile`` (of that response among all, ties counted half) and the content; with
        ``by``, also where the response was (``channel_x``, ``token``, ``x_mm`` ...), and of maps how large they are (attrs);
        ``status`` of each. A neuroid that is constant or NaN has none: ``""`` and NaN.

    Raises
    ------
    ParameterError
        A coordinate or neuroid that is unknown; more exemplars than stimuli.
    SchemaError
        Responses with a time dim, or no stimulus that was presented twice for ``held_out``; stimuli that several subjects saw, in
        one array, where repeats are averaged.
    AlignmentError
        A stimulus that the table does not hold.

    Examples
    --------
    >>> import brainalign as ba
    >>> brain = ba.responses([[0.1], [0.9], [0.5]], stimulus_id=["dog", "cat", "cow"], neuroid_id=["v1"], modality="fmri", system="s")
    >>> ba.exemplars(brain, k=2).stimulus_id.values.tolist()
    [['cat', 'cow']]
    """
    check_choice("repeats", repeats, ("average", "keep"), owner="exemplars")
    check_number("k", k, owner="exemplars", low=1, integer=True)
    seed = check_random_state(random_state, owner="exemplars")
    x = without_time(responses, "exemplars")
    chosen = x if neuroid is None else x.isel(neuroid=columns_of(*names_of(x), neuroid, owner="exemplars"))
    ranked, shown = _sides(chosen, repeats, held_out)
    if k > len(ranked):
        raise ParameterError(f"exemplars got k={k} and {len(ranked)} stimuli. Expected no more exemplars than stimuli.")
    first, where = _pooled(ranked, by)
    second, where = (first, where) if shown is ranked else _pooled(shown, by)
    out = _table(first, second, k, np.random.default_rng(seed))
    if where is not None:
        rows = out["row"].clip(0).values
        for name in (name for name in PLACES if name in x.coords):
            at = chosen[name].values[where[rows, np.arange(len(rows))[:, None]]].astype(np.float64)
            out[name] = ("neuroid", "rank"), np.where(out["row"] < 0, np.nan, at)
        sides = {"map_width": "channel_x", "map_height": "channel_y"}
        out.attrs |= {side: int(chosen[name].max()) + 1 for side, name in sides.items() if name in x.coords}
    if stimuli is not None:
        _add_content(out, stimuli)
    out.attrs |= {"n_presentations": len(first), "by": by or "", "held_out": int(held_out), "repeats": repeats}
    params = {"k": k, "by": by, "repeats": repeats, "held_out": held_out}
    return write_step(out.drop_vars("row"), "exemplars", params=params, inputs={"responses": responses}, seed=seed)


def _sides(x: xr.DataArray, repeats: str, held_out: bool) -> tuple[xr.DataArray, xr.DataArray]:
    """Return what stimuli are ranked by, and the responses that are shown, in the same rows."""
    averaged = x if repeats == "keep" and not held_out else average_if_repeated(x, owner="exemplars")
    if not held_out:
        return averaged, averaged
    ids = pd.Series(x["stimulus_id"].values.astype(object))
    odd = (ids.groupby(ids).cumcount() % 2).to_numpy() == 1
    again = ids.isin(ids[odd]).to_numpy()
    if not odd.any():
        raise SchemaError(
            f"exemplars got held_out=True and {len(ids)} stimuli that were presented once. Expected repeats, one half to rank by and one to "
            "respond: use held_out=False."
        )
    first, second = (average_repeats(x[rows & again]) for rows in (~odd, odd))
    order = pd.Index(second["stimulus_id"].values.astype(object)).get_indexer(first["stimulus_id"].values.astype(object))
    return first, second[order]


def _pooled(x: xr.DataArray, by: str | None) -> tuple[xr.DataArray, Numbers | None]:
    """Return the highest response of each group of neuroids, and the column that it is of."""
    if by is None:
        return x, None
    if by not in x.coords or x[by].dims != ("neuroid",):
        known = [str(name) for name, c in x.coords.items() if c.dims == ("neuroid",)]
        raise ParameterError(
            f"exemplars got by={by!r}. Expected a neuroid coordinate: {', '.join(known)}.{did_you_mean(by, known)}"
        )
    keys = pd.DataFrame({name: x[name].values.astype(object) for name in {by: 0, group_label(x) or by: 0}})
    codes = keys.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()  # unit 3 of one layer is not unit 3 of another
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    shape = len(x), len(members)
    values, where = np.empty(shape, dtype=x.dtype), np.empty(shape, dtype=np.int64)
    for g, columns in enumerate(members):
        part = x[:, columns].values
        known = np.isfinite(part).all(axis=0)
        if known.any():
            part, columns = part[:, known], columns[known]
        best = part.argmax(axis=1)
        where[:, g], values[:, g] = columns[best], part[np.arange(len(part)), best]
    labels, firsts = {}, [columns[0] for columns in members]
    for name, label in coords_of(x, "neuroid").items():
        if name != "neuroid_id" and all((label[columns] == label[columns[0]]).all() for columns in members):
            labels[name] = ("neuroid", label[firsts])
    labels["neuroid_id"] = ("neuroid", x[by].values[firsts])
    rows = {name: ("presentation", label) for name, label in coords_of(x, "presentation").items()}
    return xr.DataArray(values, dims=("presentation", "neuroid"), coords=rows | labels, attrs=x.attrs), where


def _table(ranked: xr.DataArray, shown: xr.DataArray, k: int, rng: np.random.Generator) -> xr.Dataset:
    n = ranked.sizes["neuroid"]
    row, response, percentile = np.full((n, k), -1), np.full((n, k), np.nan), np.full((n, k), np.nan)
    status = []
    for block in column_blocks(n, len(ranked), 1):
        values = ranked[:, block].values
        answers = values if shown is ranked else shown[:, block].values
        state = column_status(values)
        fine = np.flatnonzero(state == "ok")
        status.append(state)
        at = top_rows(values[:, fine], k, rng)
        columns = np.arange(n)[block][fine]
        row[columns] = at
        response[columns] = np.take_along_axis(answers[:, fine], at.T, axis=0).T
        place = 100 * (ranks(answers[:, fine]) - 0.5) / len(answers)
        percentile[columns] = np.take_along_axis(place, at.T, axis=0).T
    ids = ranked["stimulus_id"].values.astype(object)
    names = np.where(row < 0, "", ids[row])
    pair = ("neuroid", "rank")
    out = xr.Dataset(
        {
            "stimulus_id": (pair, as_labels(names)),
            "response": (pair, response),
            "percentile": (pair, percentile),
            "row": (pair, row),
        },
        coords=neuroid_labels(ranked) | {"rank": np.arange(k)},
    )
    out["status"] = "neuroid", np.concatenate(status)
    return out


def _add_content(out: xr.Dataset, stimuli: xr.Dataset) -> None:
    kind = content_of(validate_stimuli(stimuli))
    if kind == "values":
        return
    known = pd.Index(stimuli["stimulus_id"].values.astype(object))
    first = pd.Series(stimuli[kind].values.astype(object), index=known)[~known.duplicated()]
    names = out["stimulus_id"].values.astype(object)
    lacking = sorted(set(names[names != ""]) - set(known))
    if lacking:
        raise AlignmentError(
            f"exemplars got stimuli without {len(lacking)} of the exemplars, first {lacking[0]!r} (the table starts {known[0]!r}). Expected "
            "the table that was shown: `ba.stimuli.of(responses)`."
        )
    content = [first.get(name, "") for name in names.ravel()]
    out[kind] = ("neuroid", "rank"), as_labels(content).reshape(names.shape)
    out.attrs |= {"root": stimuli.attrs["root"]} if kind == "path" and "root" in stimuli.attrs else {}
