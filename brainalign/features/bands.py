"""``bands``: several named feature spaces side by side on one neuroid dim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import NEUROID_COORDS, STRING, as_labels, check_array, validate
from brainalign.core.tables import coords_of, numbered
from brainalign.dataset.folds import RUN_LABELS
from brainalign.features.mixing import table_of
from brainalign.features.timing import ticks

Array = np.ndarray[Any, Any]


def bands(**named: xr.DataArray) -> xr.DataArray:
    """Join feature spaces, recorded or made, along ``neuroid``; a ``band`` coordinate names each.

    Parameters
    ----------
    **named : DataArray, (presentation, neuroid[, time])
        All of the same presentations, in any order: rows are joined on ``stimulus_id`` where it is unique, on run
        and ``onset_s`` where it repeats, and on ``stimulus_id`` and its count where there are no onsets.

    Returns
    -------
    DataArray, (presentation, neuroid[, time])
        Rows and presentation coordinates of the first space; the neuroid coordinates of all, where a space lacks
        one ``""`` or NaN; ``neuroid_id`` is ``"<band>/<id>"``. Values are not scaled.

    Raises
    ------
    ParameterError
        No space, a space that has bands already, or different time axes.
    AlignmentError
        The presentations differ.

    Examples
    --------
    >>> import brainalign as ba
    >>> a = ba.responses([[1.0], [2.0]], stimulus_id=["x", "y"], neuroid_id=["u"], modality="ann", system="net")
    >>> b = ba.responses([[20.0], [10.0]], stimulus_id=["y", "x"], neuroid_id=["u"], modality="ann", system="net")
    >>> both = ba.bands(syntax=a, sound=b)
    >>> both.values.tolist(), both.band.values.tolist(), both.neuroid_id.values.tolist()
    ([[1.0, 10.0], [2.0, 20.0]], ['syntax', 'sound'], ['syntax/u', 'sound/u'])
    """
    if not named:
        raise ParameterError("bands got no feature space. Expected at least one by name: `ba.bands(syntax=a, sound=b)`.")
    for name, x in named.items():
        validate(x, name=name)
        if "band" in x.coords:
            found = preview(dict.fromkeys(np.atleast_1d(x.coords["band"].values)))
            raise ParameterError(
                f"bands got {name!r}, which has bands already ({found}). Expected plain spaces: join all at once."
            )
    first_name, first = next(iter(named.items()))
    _check_times(named)
    keys = _keys(named)
    spaces = {name: x[_order(keys[name], keys[first_name], name, first_name)] for name, x in named.items()}
    data = [x.data for x in spaces.values()]
    if len({block.dtype for block in data}) > 1:
        data = [block.astype(np.float32) for block in data]
    kept = {str(name): c for name, c in first.coords.items() if "neuroid" not in c.dims and name not in NEUROID_COORDS}
    columns = {name: ("neuroid", labels) for name, labels in _neuroids(spaces).items()}
    out = xr.DataArray(
        _concatenate(data), dims=first.dims, coords={**kept, **columns}, attrs=_attrs(list(named.values())), name=first.name
    )
    return write_step(validate(out, name="the result"), "bands", params={"bands": list(named)}, inputs=named)


def band_labels(bands: Any, X: Any, *, owner: str) -> tuple[Array, Array]:
    """Return the bands of a source, and the band of each of its features.

    Parameters
    ----------
    bands : str or sequence, (feature,)
        A neuroid coordinate of the source, or a label for each feature.
    X : DataArray or ndarray, (presentation, neuroid[, time])
        With a time dim, every neuroid at every time is a feature.
    owner : str
        What the user called, for the message.

    Returns
    -------
    names : ndarray of str, (band,)
        In order of first appearance.
    codes : ndarray of int, (feature,)
        Positions in ``names``.

    Raises
    ------
    ParameterError
        No such coordinate, or not one label a feature.
    SchemaError
        The source is a Dataset.
    """
    check_array(X, name="The source")
    times, n_features = int(np.prod(np.shape(X)[2:])), int(np.prod(np.shape(X)[1:]))
    known = coords_of(X, "neuroid") if isinstance(X, xr.DataArray) else {}
    if isinstance(bands, str) and bands not in known:
        names = preview(sorted(known), 8) if known else "none: the source is a plain array"
        raise ParameterError(
            f"The 'bands' parameter of {owner} is {bands!r}, which is no neuroid coordinate of the source ({names}). Expected one, or a "
            "label for each feature: join named spaces with `ba.bands(a=..., b=...)`."
        )
    labels = np.repeat(known[bands], times) if isinstance(bands, str) else np.asarray(bands)
    if labels.shape != (n_features,):
        raise ParameterError(
            f"The 'bands' parameter of {owner} has the shape {labels.shape}. Expected one label for each of {n_features} features, or the "
            "name of a neuroid coordinate."
        )
    codes, names = numbered(labels.astype(object), bands if isinstance(bands, str) else "bands", "feature")
    return as_labels([str(name) for name in names]), codes


def _check_times(named: dict[str, xr.DataArray]) -> None:
    (first_name, first), *others = named.items()
    for name, x in others:
        one, other = ("time" in y.coords and y.coords["time"].values for y in (first, x))
        if first.dims != x.dims or not np.array_equal(one, other):
            raise ParameterError(
                f"bands got {first_name!r} with {dict(first.sizes)} and {name!r} with {dict(x.sizes)}, on different time axes. Expected the "
                "same `time`, or none: bring them to it with `ba.BinTime`."
            )


def _keys(named: dict[str, xr.DataArray]) -> dict[str, pd.Index]:
    """Return what names the rows of every space; all by the same kind of name."""
    tables = {name: table_of(x) for name, x in named.items()}
    if all(table["stimulus_id"].is_unique for table in tables.values()):
        return {name: pd.Index(table["stimulus_id"].to_numpy(dtype=object)) for name, table in tables.items()}
    if all("onset_s" in table and table["onset_s"].notna().all() for table in tables.values()):
        labels = [x for x in RUN_LABELS if all(x in table for table in tables.values())]
        keys = {
            name: pd.MultiIndex.from_arrays([*(table[x].astype(str) for x in labels), ticks(table["onset_s"]) / 1e6])
            for name, table in tables.items()
        }
        if all(index.is_unique for index in keys.values()):
            return keys
    counted = {name: table.groupby("stimulus_id").cumcount() for name, table in tables.items()}
    return {name: pd.MultiIndex.from_arrays([table["stimulus_id"], counted[name]]) for name, table in tables.items()}


def _order(index: pd.Index, first: pd.Index, name: str, first_name: str) -> Array:
    """Return the rows of a space in the order of the first."""
    order = index.get_indexer(first)
    if len(index) != len(first) or (order < 0).any():
        lacking, extra = first.difference(index, sort=False), index.difference(first, sort=False)
        raise AlignmentError(
            f"bands: {first_name!r} has {len(first)} presentations and {name!r} {len(index)}; {name!r} lacks {preview(lacking)} and has "
            f"{preview(extra)} besides. Expected the same presentations: select the shared ones with `ba.align`."
        )
    return np.asarray(order)


def _neuroids(spaces: dict[str, xr.DataArray]) -> dict[str, Array]:
    tables = {name: _columns(x) for name, x in spaces.items()}
    widths = {name: x.sizes["neuroid"] for name, x in spaces.items()}
    out: dict[str, Array] = {}
    for label in dict.fromkeys(label for table in tables.values() for label in table):
        out[label] = _joined([table.get(label) for table in tables.values()], list(widths.values()))
    ids = [np.strings.add(as_labels([f"{name}/"]), table["neuroid_id"].astype(STRING)) for name, table in tables.items()]
    out["neuroid_id"] = np.concatenate(ids)
    out["band"] = np.repeat(as_labels(list(spaces)), list(widths.values()))
    return out


def _columns(x: xr.DataArray) -> dict[str, Array]:
    scalars = {name: x.coords[name].values for name in NEUROID_COORDS if name in x.coords and x.coords[name].dims == ()}
    spread = {name: as_labels([value.item()] * x.sizes["neuroid"]) for name, value in scalars.items()}
    return {**coords_of(x, "neuroid"), **spread}


def _joined(parts: list[Array | None], widths: list[int]) -> Array:
    """Concatenate one coordinate of all spaces: ``""`` or NaN where a space lacks it."""
    kinds = {part.dtype.kind for part in parts if part is not None}
    if kinds <= set("iuf") and all(part is not None for part in parts):
        return np.concatenate([part for part in parts if part is not None])
    if kinds <= set("iuf"):
        return np.concatenate(
            [np.full(n, np.nan) if p is None else p.astype(np.float64) for p, n in zip(parts, widths, strict=True)]
        )
    return np.concatenate(
        [np.full(n, "", dtype=STRING) if p is None else p.astype(STRING) for p, n in zip(parts, widths, strict=True)]
    )


def _concatenate(blocks: list[Any]) -> Any:
    if any(not isinstance(block, np.ndarray) for block in blocks):
        import dask.array as da

        return da.concatenate([da.asarray(block) for block in blocks], axis=1)
    return np.concatenate(blocks, axis=1)


def _attrs(spaces: list[xr.DataArray]) -> dict[str, Any]:
    """Return the attrs of the first, less what the others contradict; flags hold as far as they hold for all."""
    first = spaces[0].attrs
    alike = {name for name in ("units", "grid") if all(x.attrs.get(name) == first.get(name) for x in spaces)}
    out = {name: value for name, value in first.items() if name in alike or name not in ("units", "grid", "provenance")}
    out["deterministic"] = all(bool(x.attrs.get("deterministic", False)) for x in spaces)
    out["allow_nan"] = any(bool(x.attrs.get("allow_nan", False)) for x in spaces)
    return out
