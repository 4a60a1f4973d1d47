"""Sets of RDMs from MATLAB and numpy files, beside the ids of their conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import read_ids
from brainalign.adapters.files import Format, existing, first_bytes, is_path, reading
from brainalign.adapters.matfile import find_fields, is_mat, read_mat
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels

_SYMMETRY = 1e-6  # relative to the largest dissimilarity: files hold float32
_MATRIX_FIELDS, _NAME_FIELDS = ("RDM", "rdm"), ("name", "Name")


def open_rdms(
    path: Any,
    *,
    stimulus_id: Any = None,
    key: str | None = None,
    names: Sequence[str] | None = None,
    dim: str = "rdm",
    metric: str | None = None,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open a set of RDMs.

    Parameters
    ----------
    path : str or Path
        A MATLAB or an npz file. Each RDM is a square matrix, or a vector in the order of scipy's ``squareform``; a set is a
        stack of them, or an array of structs with the fields ``RDM`` and ``name``.
    stimulus_id : sequence of str, str or Path
        What the rows are, in the order of the file: names, a text file with one a line, or the name of an array in the
        file. Required: positions are no names.
    key : str, optional
        Which variable holds the RDMs; needed where several do.
    names : sequence of str, optional
        One name an RDM; required for several that the file does not name.
    dim : str
        What the first dim is called: ``"rdm"``, ``"subject"``, ``"region"`` ...
    metric : str, optional
        The dissimilarity that the file holds, ``"correlation"``.
    units : str, optional
        ``"1 - r"``.
    allow_nan : bool
        NaN is declared: pairs that were not measured.

    Returns
    -------
    DataArray of float64, (rdm, stimulus, stimulus_2)
        Indexed by name, so that ``x.sel(rdm="hIT", stimulus="face_01")`` works.

    Raises
    ------
    FormatError
        Damaged file, no such variable, matrices that are no RDMs (not symmetric, a diagonal that is not zero), NaN.
    ParameterError
        Ids or names that are missing, repeated or of another number.
    """
    variables = _variables(existing(path))
    source = str(path)
    chosen = key if key is not None else _only_key(variables, source)
    value = next(iter(find_fields(variables, chosen, source).values()))
    matrices, own_names = _matrices(value, chosen, source)
    _check(matrices, f"{source!r}, {chosen!r}", allow_nan)
    n_rdms, n_stimuli = matrices.shape[:2]
    ids = _ids(stimulus_id, variables, n_stimuli, source)
    if names is None and own_names is None and n_rdms == 1:
        own_names = [chosen]
    labels = names if names is not None else own_names
    if labels is None or len(labels) != n_rdms or len(set(labels)) != n_rdms:
        raise ParameterError(
            f"{source!r}, {chosen!r} holds {n_rdms} RDMs, and their names are {labels if labels is None else preview(labels)}. Expected one "
            "for each, none twice: pass `names=[...]` in the order of the file."
        )
    x = xr.DataArray(
        matrices,
        dims=(dim, "stimulus", "stimulus_2"),
        coords={dim: as_labels(list(labels)), "stimulus": ids, "stimulus_2": ids},
        attrs={"metric": metric or "unspecified", "units": units or "unspecified"},
        name="rdm",
    )
    return write_step(x, "open_rdms", params={"source": Path(path).name, "key": chosen, "dim": dim, "metric": metric})


def _variables(file: Path) -> dict[str, Any]:
    if is_mat(file):
        return read_mat(file)
    if first_bytes(file, 4) == b"PK\x03\x04":
        with reading(file, "npz"), np.load(file, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    raise FormatError(
        f"{str(file)!r} starts with {first_bytes(file, 8)!r}. Expected a MATLAB file or a numpy .npz archive of plain arrays."
    )


def _only_key(variables: Mapping[str, Any], source: str) -> str:
    found = [name for name, value in variables.items() if _holds_rdms(value, name, source)]
    # A list of 3, 6 or 10 numbers could be an RDM by its length alone: matrices and structs come first.
    found = [name for name in found if isinstance(variables[name], (list, dict)) or _is_square(variables[name])] or found
    if len(found) != 1:
        raise ParameterError(
            f"{source!r} holds RDMs under {found or 'no name'}, of the variables {preview(variables, 12)}. Expected one: name it with `key=`."
        )
    return found[0]


def _is_square(array: np.ndarray) -> bool:
    return array.ndim > 1 and any(array.shape[i] == array.shape[i - 1] for i in range(array.ndim))


def _holds_rdms(value: Any, name: str, source: str) -> bool:
    try:
        matrices, _ = _matrices(value, name, source)
    except FormatError:
        return False
    return bool(np.abs(np.diagonal(matrices, axis1=1, axis2=2)).max() == 0)


def _matrices(value: Any, key: str, source: str) -> tuple[np.ndarray, list[str] | None]:
    """Return a stack (rdm, stimulus, stimulus) and the names in the file, if there are any."""
    structs = [value] if isinstance(value, dict) else value
    if isinstance(structs, list):
        found, names = [], []
        for i, item in enumerate(structs):
            field = next((name for name in _MATRIX_FIELDS if isinstance(item, dict) and name in item), None)
            if field is None:
                fields = list(item) if isinstance(item, dict) else type(item).__name__
                raise FormatError(
                    f"{source!r}: item {i} of {key!r} has the fields {fields}. Expected an array of structs with a field 'RDM'."
                )
            found.append(_stack(np.asarray(item[field]), f"{key}[{i}].{field}", source))
            names.append(next((str(item[name]).strip() for name in _NAME_FIELDS if name in item), ""))
        shapes = {part.shape for part in found}
        if len(shapes) != 1 or next(iter(shapes))[0] != 1:
            raise FormatError(
                f"{source!r}: the RDMs of {key!r} have the shapes {preview(sorted(shapes))}. Expected one RDM each, of one size."
            )
        return np.concatenate(found), names if all(names) else None
    return _stack(np.asarray(value), key, source), None


def _stack(array: np.ndarray, key: str, source: str) -> np.ndarray:
    """Return RDMs as (rdm, stimulus, stimulus), from matrices or from vectors in squareform order."""
    if array.dtype.kind not in "iufb" or array.ndim not in (1, 2, 3) or 0 in array.shape:
        raise FormatError(
            f"{source!r}: {key!r} has shape {array.shape} and dtype {array.dtype}. Expected matrices or vectors of dissimilarities."
        )
    values = array.astype(np.float64)
    if values.ndim == 3:
        if values.shape[1] == values.shape[2] and values.shape[0] != values.shape[1]:
            return values
        if values.shape[0] == values.shape[1] and values.shape[2] != values.shape[0]:
            return np.moveaxis(values, 2, 0)  # MATLAB stacks along the third axis
        if len(set(values.shape)) == 1 and not np.diagonal(values, axis1=1, axis2=2).any():
            return values
        raise FormatError(
            f"{source!r}: {key!r} has shape {values.shape}. Expected a stack of square matrices, (rdm, n, n) or (n, n, rdm)."
        )
    if values.ndim == 2 and values.shape[0] == values.shape[1] and values.shape[0] > 1:
        return values[None]
    vectors = np.atleast_2d(values)
    if vectors.shape[1] == 1:
        vectors = vectors.T  # one column vector
    n = (1 + math.isqrt(1 + 8 * vectors.shape[1])) // 2
    if n * (n - 1) // 2 != vectors.shape[1]:
        raise FormatError(
            f"{source!r}: {key!r} has shape {array.shape}. Expected square matrices, or vectors of n (n - 1) / 2 dissimilarities, which "
            f"{vectors.shape[1]} is not for any n."
        )
    from scipy.spatial.distance import squareform

    return np.stack([squareform(vector) for vector in vectors])


def _check(matrices: np.ndarray, source: str, allow_nan: bool) -> None:
    if not allow_nan and not np.isfinite(matrices).all():
        rdm, row, column = (int(i) for i in np.argwhere(~np.isfinite(matrices))[0])
        raise FormatError(
            f"{source}: RDM {rdm} is {matrices[rdm, row, column]} at ({row}, {column}). Expected finite dissimilarities, or `allow_nan=True`."
        )
    scale = max(float(np.nanmax(np.abs(matrices))), np.finfo(float).tiny)
    apart = np.nan_to_num(np.abs(matrices - np.swapaxes(matrices, 1, 2)))
    diagonal = np.nan_to_num(np.abs(np.diagonal(matrices, axis1=1, axis2=2)))
    for what, worst in (("differs from its transpose by", apart), ("has a diagonal of up to", diagonal)):
        if worst.max() > _SYMMETRY * scale:
            rdm = int(np.argmax(worst.reshape(len(worst), -1).max(axis=1)))
            raise FormatError(
                f"{source}: RDM {rdm} {what} {worst.max():.4g}. Expected dissimilarities: symmetric, zero on the diagonal. Is it a matrix of "
                "similarities, or responses?"
            )


def _ids(given: Any, variables: Mapping[str, Any], n: int, source: str) -> np.ndarray:
    if given is None:
        raise ParameterError(
            f"{source!r} holds {n} conditions, and positions are no names. Expected `stimulus_id=`: a list of {n} names in the order of the "
            "file, a text file with one a line, or the name of an array in the file."
        )
    if isinstance(given, str) and given in variables:
        given = variables[given]
    elif isinstance(given, Path) or is_path(given):
        given = read_ids(given)
    if isinstance(given, str):
        raise ParameterError(
            f"stimulus_id={given!r} is neither a file nor one of the variables {preview(variables, 12)} of {source!r}."
        )
    ids = [str(item) for item in given]
    twice = [item for item, count in pd.Series(ids).value_counts().items() if count > 1]
    if len(ids) != n or twice:
        raise ParameterError(
            f"`stimulus_id` has {len(ids)} names, {len(twice)} of them repeated ({preview(twice)}). {source!r} holds {n} conditions: name each "
            "once, in the order of the file."
        )
    return as_labels(ids)


def _matches(source: Any) -> bool:
    """Return True for a MATLAB or npz file in which exactly one variable holds RDMs."""
    if not is_path(source) or not (is_mat(source) or first_bytes(Path(source), 4) == b"PK\x03\x04"):
        return False
    try:
        _only_key(_variables(Path(source)), str(source))
    except (FormatError, ParameterError):
        return False
    return True


adapter = Format("rdms", _matches, open_rdms)
