"""Single-trial betas as GLMsingle writes them, from Python (HDF5) or MATLAB (version 7.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import as_id, numeric_columns, plain_cells, read_ids, read_table, require_columns
from brainalign.adapters.files import Format, existing, naming, reading, record_opening
from brainalign.adapters.fmri.betas import grid_map, mask_map, names_in
from brainalign.adapters.fmri.hdf5voxels import array_shape, first_key, lazy_trials
from brainalign.adapters.fmri.voxels import grid_json, places_mm
from brainalign.adapters.hdf5 import hdf5_file
from brainalign.adapters.matfile import is_mat
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import check_choice
from brainalign.core.responses import responses

#: Stages with a beta a trial, the last one first.
MODELS = ("TYPED_FITHRF_GLMDENOISE_RR", "TYPEC_FITHRF_GLMDENOISE", "TYPEB_FITHRF")
_SUFFIXES = (".hdf5", ".mat", ".npy")
_BETAS = ("betasmd", "modelmd")  # Python, MATLAB
_KEPT = ("R2", "noiseceiling")


def open_glmsingle(
    path: Any,
    *,
    system: str,
    stimulus_id: Any,
    presentation: pd.DataFrame | Mapping[str, Any] | str | Path | None = None,
    model: str | None = None,
    mask: Any = None,
    subject: str | None = None,
    session: str | None = None,
    units: str = "% signal change",
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open the betas of a GLMsingle fit.

    Parameters
    ----------
    path : str or Path
        The folder of its outputs, or one file of it: ``TYPED_FITHRF_GLMDENOISE_RR.hdf5`` (Python with ``wanthdf5=1``, array
        ``betasmd``) or ``.mat`` (MATLAB 7.3, array ``modelmd``), (x, y, z, trial) or (voxel, trial). The ``.npy`` files of Python
        are pickled, and never opened.
    system : str
        Whose brain this is.
    stimulus_id : sequence of str, or str
        One a trial, in the order of the betas: run after run, each in the order of onsets. A string is the name of a column
        of ``presentation``, or the path of a text file with one id a line. GLMsingle itself only numbers the conditions.
    presentation : DataFrame, mapping, or path of a table, optional
        Further labels of the trials, in the same order: the events of all runs.
    model : str, optional
        Which stage of the fit, one of :data:`MODELS`. Default: the last one that is there.
    mask : str, Path or ndarray, (x, y, z), optional
        1 inside. For betas of a volume: voxels to take. For betas (voxel, trial): the voxels that the fit was given, in C order
        (``data[mask]``), which get their places from it.
    subject, session : str, optional
    units : str
        Default as GLMsingle makes them unless ``wantpercentbold=0``.
    allow_nan : bool
        NaN is declared: GLMsingle leaves NaN or infinity where the mean signal is 0.

    Returns
    -------
    DataArray of float32, (presentation, neuroid), lazy
        ``neuroid_id`` is the flat index in the grid, C order, or the number of the row of (voxel, trial). ``R2`` (% of
        variance that the fit explains) and ``noiseceiling`` are kept where the file has them, as they are.

    Raises
    ------
    FormatError
        Pickled or damaged files, no betas by trial, another grid, undeclared NaN.
    ParameterError
        Ids of another number than trials, or none.
    OptionalDependencyError
        h5py is not installed.
    """
    file = _file(Path(path), model)
    matlab = is_mat(file)
    key = first_key(file, _BETAS, matlab=True) or _BETAS[matlab]
    shape = array_shape(file, key, reverse=matlab)
    space, n_trials = shape[:-1], shape[-1]
    table = _table(presentation)
    ids = _ids(stimulus_id, table, n_trials, file)
    keep, columns, grid = _places(space, mask, file)
    columns |= {name: values[keep] for name, values in _volumes(file, space, matlab).items()}
    values = lazy_trials(
        [file], [n_trials], key, np.argwhere(keep.reshape(space)), columns["neuroid_id"], reverse=matlab,
        allow_nan=allow_nan, what="GLMsingle",
    )  # fmt: skip
    rows = table.drop(columns=["stimulus_id", "repetition"], errors="ignore") if table is not None else None
    with naming(repr(file.name)):
        x = responses(
            values, stimulus_id=ids, neuroid_id=columns.pop("neuroid_id"), system=system, modality="fmri", units=units,
            presentation=rows, neuroid=columns, subject=subject, session=session, allow_nan=allow_nan,
        )  # fmt: skip
    if grid is not None:
        x.attrs["grid"] = grid
    return record_opening(x, "glmsingle", [file.name], {"key": key, "index_base": 0, "scale": 1.0, "n_voxels": int(keep.sum())})


def _file(path: Path, model: str | None) -> Path:
    check_choice("model", model, (None, *MODELS), owner="open_glmsingle")
    wanted = MODELS if model is None else (model,)
    file = path
    if path.is_dir():
        names = names_in(path)
        there = [name + suffix for name in wanted for suffix in _SUFFIXES if name + suffix in names]
        if not there:
            raise FormatError(
                f"{str(path)!r} holds none of {', '.join(wanted)} (.hdf5 or .mat). Expected the outputs of GLMsingle with a beta a trial: let "
                "it write them with `wantfileoutputs`."
            )
        file = path / there[0]
    elif model is not None:
        raise ParameterError(
            f"open_glmsingle got model={model!r} for the file {str(path)!r}. Expected its folder, or no `model=`."
        )
    if file.suffix == ".npy":
        raise FormatError(
            f"{str(file)!r} holds a pickled Python dict, which can run code and is never opened. Let GLMsingle write HDF5, "
            "`params['wanthdf5'] = 1`, or load the dict yourself and save its `betasmd` and `R2` with h5py under the same name, .hdf5."
        )
    if is_mat(existing(file)) and not first_key(file, _BETAS, matlab=True):
        raise FormatError(
            f"{str(file)!r} is a MATLAB file without {' or '.join(_BETAS)} in HDF5. Expected version 7.3 with the betas at its top: "
            "`save(file, '-struct', 'results', '-v7.3')`."
        )
    return file


def _table(presentation: Any) -> pd.DataFrame | None:
    if not isinstance(presentation, (str, Path)):
        return None if presentation is None else plain_cells(pd.DataFrame(presentation).reset_index(drop=True))
    table = read_table(presentation, header=True)
    numbers = {
        name: numeric_columns(table, [name], str(presentation))[:, 0] for name in ("onset_s", "duration_s") if name in table
    }
    return table.assign(**numbers)


def _ids(stimulus_id: Any, table: pd.DataFrame | None, n_trials: int, file: Path) -> list[str]:
    if isinstance(stimulus_id, str) and table is not None:
        require_columns(table, [stimulus_id], "the table of `presentation=`")
        ids: Sequence[Any] = table[stimulus_id].tolist()
    elif isinstance(stimulus_id, (str, Path)):
        ids = read_ids(stimulus_id)
    else:
        ids = np.atleast_1d(np.asarray(stimulus_id, dtype=object)).tolist()
    for what, n in (("`stimulus_id=`", len(ids)), ("`presentation=`", len(table) if table is not None else n_trials)):
        if n != n_trials:
            raise ParameterError(
                f"{str(file)!r} holds betas of {n_trials} trials, and {what} has {n} rows. Expected one a trial, of all runs, without "
                "events that were not in the design."
            )
    return [as_id(name) for name in ids]


def _places(space: tuple[int, ...], mask: Any, file: Path) -> tuple[np.ndarray[Any, Any], dict[str, Any], str | None]:
    """Return which places to take, what they are called, and the grid where there is one."""
    n = int(np.prod(space))
    flat = n == space[0]
    keep = np.ones(n, dtype=bool)
    if mask is None:
        return keep, {"neuroid_id": np.arange(n)}, None if flat else grid_json(space, None)
    shape = _mask_shape(mask) if flat else space
    values, affine = grid_map(mask, shape, file)
    inside = np.flatnonzero(mask_map(values, "the mask"))
    if flat and len(inside) != n:
        raise FormatError(
            f"{str(file)!r} holds betas of {n} voxels, and the mask takes {len(inside)}. Expected the mask that the fit was given."
        )
    if not flat:
        keep = np.isin(np.arange(n), inside)
    columns: dict[str, Any] = {"neuroid_id": inside}
    if affine is not None:
        columns |= places_mm(np.stack(np.unravel_index(inside, shape), axis=1), affine)
    return keep, columns, grid_json(shape, affine)


def _mask_shape(mask: Any) -> tuple[int, ...]:
    if isinstance(mask, np.ndarray):
        return mask.shape
    nibabel = require("nibabel", extra="fmri", purpose="reading images")
    with reading(existing(mask), "an image"):
        return tuple(nibabel.load(mask).shape[:3])


def _volumes(file: Path, space: tuple[int, ...], matlab: bool) -> dict[str, np.ndarray[Any, Any]]:
    """Return the maps of the fit that are kept, flat, in C order."""
    h5py = require("h5py", extra="spikes", purpose="reading HDF5")
    found = {}
    with hdf5_file(file, "GLMsingle") as opened:
        for name in _KEPT:
            stored = opened.get(name)
            if not isinstance(stored, h5py.Dataset) or not stored.shape or stored.dtype.kind not in "iuf":
                continue  # None, as GLMsingle writes what was not computed
            if stored.size != np.prod(space):
                raise FormatError(
                    f"{str(file)!r} has {name!r} of shape {stored.shape}, and betas of {space}. Expected one number a voxel."
                )
            values = np.asarray(stored[()])
            found[name] = (values.T if matlab else values).reshape(-1)
    return found


def _matches(source: Any) -> str:
    """Files that GLMsingle names in a folder, or an HDF5 file that holds its betas."""
    if {name + suffix for name in MODELS for suffix in _SUFFIXES} & set(names_in(source)):
        return "a folder of TYPE files: GLMsingle"
    key = first_key(source, _BETAS)
    return f"HDF5 with {key} at its top: GLMsingle" if key else ""


adapter = Format("glmsingle", _matches, open_glmsingle)
