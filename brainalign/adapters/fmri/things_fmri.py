"""Single-trial responses of THINGS-fMRI in table format: one HDF5 table of pandas and two csv files a person."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import read_table, require_columns
from brainalign.adapters.files import Format, existing, naming, reading, record_opening
from brainalign.adapters.fmri.betas import image_ids, names_in, region_of, scaled
from brainalign.adapters.fmri.hdf5voxels import array_shape, lazy_trials
from brainalign.adapters.hdf5 import hdf5_file, members
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import preview
from brainalign.core.responses import responses

_FILE = re.compile(r"(sub-\d+)_ResponseData\.h5")
_STIMULUS_COLUMNS = ("stimulus", "trial_type", "session", "run")
_PLACES = ("voxel_id", "subject_id", "voxel_x", "voxel_y", "voxel_z")
_MEASURES = re.compile(r"nc_|splithalf_|prf-")


def open_things_fmri(
    path: Any,
    *,
    subject: str | None = None,
    system: str | None = None,
    regions: Sequence[str] | None = None,
    zscore: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open the single-trial responses of one person of THINGS-fMRI.

    Parameters
    ----------
    path : str or Path
        Folder (``betas_csv``) of ``sub-01_ResponseData.h5``, ``sub-01_StimulusMetadata.csv`` and ``sub-01_VoxelMetadata.csv``, or
        the first of them.
    subject : str, optional
        ``"sub-01"``; needed where the folder holds several.
    system : str, optional
        Default: the subject.
    regions : sequence of str, optional
        Columns of 0 and 1 in the voxel table (``V1``, ``lFFA``, ``glasser-FFC``) whose voxels to take; they become ``region`` and
        must not overlap. Default: all voxels, without ``region``.
    zscore : {None, "session"}
        ``"session"``: mean 0 and standard deviation 1 (divided by n) over the trials of each session, for each voxel.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid), lazy
        ``stimulus_id`` is the image without its suffix, ``aardvark_01b``, and ``condition`` its concept, ``aardvark``; presentations carry
        ``trial_type`` (``train``, ``test``), ``session``, ``run`` and ``trial``. ``neuroid_id`` is the voxel id; neuroids carry ``voxel_x
        voxel_y voxel_z``, ``nc_singletrial`` and ``nc_testset`` (%, 0 to 100), ``splithalf_*``, ``prf-*`` and ``roi_<name>`` for each
        region.

    Raises
    ------
    FormatError
        Missing or damaged files; tables that do not name the voxels and trials of the responses.
    ParameterError
        Several subjects, unknown or overlapping regions.
    OptionalDependencyError
        h5py is not installed.
    """
    file, name = _file(Path(path), subject)
    tables = [file.with_name(f"{name}_{what}Metadata.csv") for what in ("Stimulus", "Voxel")]
    rows, voxels = read_table(tables[0], header=True, delimiter=","), _voxels(tables[1])
    require_columns(rows, _STIMULUS_COLUMNS, str(tables[0]))
    key = _check_table(file, tables, rows, voxels)
    columns, members = _columns(voxels, tables[1])
    keep = np.ones(len(voxels), dtype=bool)
    region: dict[str, Any] = {}
    if regions is not None:
        keep, region["region"] = region_of(members, regions, repr(str(tables[1])))
    columns |= {f"roi_{label}": inside for label, inside in members.items()}
    ids = image_ids(rows["stimulus"].tolist(), repr(str(tables[0])))
    presentation, lengths = _presentation(rows, ids, name, tables[0])
    voxel_id = voxels["voxel_id"].to_numpy()[keep]
    values = lazy_trials(
        [file], [len(rows)], key, np.flatnonzero(keep)[:, None], voxel_id, allow_nan=allow_nan, what="THINGS-fMRI"
    )
    with naming(repr(file.name)):
        x = responses(
            scaled(values, lengths, zscore, owner="open_things_fmri"), stimulus_id=ids,
            neuroid_id=voxel_id, system=system or name, modality="fmri",
            units="z-score within session" if zscore else "a.u.", presentation=presentation,
            neuroid={label: values[keep] for label, values in columns.items()} | region, allow_nan=allow_nan,
        )  # fmt: skip
    params = {"regions": regions, "zscore": zscore, "index_base": 0, "scale": 1.0, "key": key}
    return record_opening(x, "things-fmri", [file.name, *(table.name for table in tables)], params)


def _file(path: Path, subject: str | None) -> tuple[Path, str]:
    if not path.is_dir():
        match = _FILE.fullmatch(existing(path).name)
        if match is None or subject not in (None, match[1]):
            wanted = subject or "sub-01"
            raise FormatError(f"{str(path)!r} is no table of responses. Expected {wanted}_ResponseData.h5, or its folder.")
        return path, match[1]
    found = sorted(match[1] for match in map(_FILE.fullmatch, names_in(path)) if match)
    if not found:
        raise FormatError(f"{str(path)!r} holds no sub-01_ResponseData.h5. Expected the folder 'betas_csv' of THINGS-fMRI.")
    if len(found) > 1 if subject is None else subject not in found:
        raise ParameterError(
            f"{str(path)!r} holds {preview(found)}, and subject={subject!r}. Expected one of them: `subject={found[0]!r}`."
        )
    return path / f"{subject or found[0]}_ResponseData.h5", subject or found[0]


def _voxels(path: Path) -> pd.DataFrame:
    """Read the table of voxels; 200000 rows of 220 numbers are too many for a table of strings."""
    with reading(existing(path), "csv"), warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the header would be dropped
        table = pd.read_csv(path, index_col=False)
    require_columns(table, ["voxel_id"], str(path))
    wrong = [
        column for column in table if table[column].dtype.kind not in "iuf" or (column in _PLACES and table[column].isna().any())
    ]
    if wrong:
        raise FormatError(
            f"{str(path)!r} holds cells that are no numbers in {preview(wrong)}. Expected numbers: it may be truncated."
        )
    return table


def _check_table(file: Path, tables: list[Path], rows: pd.DataFrame, voxels: pd.DataFrame) -> str:
    """Return where the responses lie, after their rows and columns were found to be those of the two tables.

    What pandas pickled, labels of mixed kind, is never touched.
    """
    h5py = require("h5py", extra="spikes", purpose="reading HDF5")
    with hdf5_file(file) as opened:
        frames = [name for name, item in members(opened).items() if isinstance(item, h5py.Group) and "block0_values" in item]
        blocks = {f"{name}/{at}": opened[name][at] for name in frames for at in opened[name] if at.endswith("_values")}
        wide = [at for at, block in blocks.items() if block.dtype.kind == "f" and block.ndim == 2]
        if len(frames) != 1 or len(wide) != 1:
            raise FormatError(
                f"{str(file)!r} holds {len(frames)} tables of pandas and {len(wide)} blocks of floats, at its top {sorted(opened)[:20]}. "
                "Expected one table in the format 'fixed', as `DataFrame.to_hdf` writes it."
            )
        shape = array_shape(file, wide[0])
        if shape != (len(voxels), len(rows)):
            raise FormatError(
                f"{str(file)!r} holds responses of {shape[0]} voxels × {shape[1]} trials; {tables[1].name!r} has {len(voxels)} rows and "
                f"{tables[0].name!r} has {len(rows)}. Expected one row for each: are they of one person, and whole?"
            )
        items = opened.get(wide[0].replace("_values", "_items"))
        labels = items[()].tolist() if items is not None and items.dtype.kind in "Siu" and items.shape == shape[1:] else None
        ids = [block for block in blocks.values() if block.dtype.kind in "iu" and block.shape == (shape[0], 1)]
        named = ids[0][:, 0].tolist() if ids else voxels["voxel_id"].tolist()
    known = rows["trial_id"].str.strip().tolist() if "trial_id" in rows else [str(i) for i in range(len(rows))]
    given = [label.decode(errors="replace") if isinstance(label, bytes) else str(label) for label in labels or known]
    _same(given, known, "trial", file, tables[0])
    _same(named, voxels["voxel_id"].tolist(), "voxel", file, tables[1])
    return wide[0]


def _same(given: list[Any], known: list[Any], what: str, file: Path, table: Path) -> None:
    if given != known:
        at = next(i for i, pair in enumerate(zip(given, known, strict=True)) if pair[0] != pair[1])
        raise FormatError(
            f"{str(file)!r} has {what} {given[at]} at position {at}, and {table.name!r} has {known[at]} in that row. Expected one order: "
            "sort the table as the responses are."
        )


def _columns(voxels: pd.DataFrame, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the labels of voxels, and which of them lie in each region."""
    labels = [name for name in voxels if name in _PLACES[2:] or _MEASURES.match(name)]
    members = {}
    for name in voxels.columns.difference([*labels, *_PLACES], sort=False):
        values = voxels[name].to_numpy()
        fits = (values == 0) | (values == 1)
        if not fits.all():
            bad = int(np.argmin(fits))
            raise FormatError(
                f"{str(path)!r} has {values[bad]:g} in row {bad} of the region {str(name)!r}. Expected 0 or 1: mend the cell, or is the table truncated?"
            )
        members[str(name)] = values.astype(bool)
    return {name: voxels[name].to_numpy() for name in labels}, members


def _presentation(rows: pd.DataFrame, ids: list[str], subject: str, path: Path) -> tuple[dict[str, Any], list[int]]:
    """Return the labels of trials, and how many there are in each session."""
    label = {name: rows[name].str.strip().to_numpy(object) for name in ("trial_type", "session", "run")}
    edges = np.flatnonzero(label["session"][1:] != label["session"][:-1]) + 1
    starts = label["session"][[0, *edges]]
    if len(set(starts)) != len(starts):
        raise FormatError(f"{str(path)!r} has the sessions {preview(starts, 40)}. Expected the trials of a session in one piece.")
    named = rows["concept"].str.strip().tolist() if "concept" in rows else [name.rpartition("_")[0] for name in ids]
    columns = {**label, "condition": named, "trial": np.arange(len(rows)), "subject": [subject] * len(rows)}
    return columns, np.diff([0, *edges, len(rows)]).tolist()


def _matches(source: Any) -> str:
    """Responses and the table of their stimuli, in a folder or beside each other."""
    names = names_in(Path(source).parent if isinstance(source, (str, Path)) and Path(source).is_file() else source)
    wanted = [Path(source).name] if isinstance(source, (str, Path)) and Path(source).is_file() else names
    found = [match[1] for match in map(_FILE.fullmatch, wanted) if match and f"{match[1]}_StimulusMetadata.csv" in names]
    return f"{found[0]}_ResponseData.h5 with its table of stimuli: THINGS-fMRI" if found else ""


adapter = Format("things-fmri", _matches, open_things_fmri)
