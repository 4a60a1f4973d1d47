"""fMRI on cortical surfaces from GIFTI, one row a volume or a map, one neuroid a vertex; both hemispheres side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import Format, check_finite, existing, first_bytes, is_path, naming, record_opening
from brainalign.adapters.fmri.giftixml import GiftiFile, describe, read_arrays
from brainalign.adapters.fmri.runs import (
    LONGEST_TR_S,
    check_one_person,
    common_tr,
    map_rows,
    run_files,
    run_names,
    run_rows,
    stated_tr,
)
from brainalign.adapters.lazy import Spans, lazy_array
from brainalign.core.errors import FormatError
from brainalign.core.parameters import check_number, preview
from brainalign.core.responses import responses

_STRUCTURES = {"CORTEXLEFT": "L", "CORTEXRIGHT": "R"}
_HEMISPHERE = re.compile(r"(?:^|_)hemi-([LR])(?=[_.])|^([lr])h\.|\.([LR])\.")
_NO_VALUES = {"POINTSET", "TRIANGLE", "LABEL", "NODE_INDEX", "VECTOR", "RGB_VECTOR", "RGBA_VECTOR"}
_UNNAMED = ("", "???")  # names of what no region was given to


def open_gifti(
    path: Any,
    *,
    system: str,
    labels: Any = None,
    tr_s: float | None = None,
    override_tr: bool = False,
    run: str | Sequence[str] | None = None,
    first_onset_s: float = 0.0,
    subject: str | None = None,
    session: str | None = None,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open surface data from GIFTI files, one row a volume (or a map) and one neuroid a vertex.

    Parameters
    ----------
    path : str, Path or list of them
        ``*.func.gii`` or ``*.shape.gii``: one array a volume, one file a hemisphere and run. The hemisphere is stated by
        ``AnatomicalStructurePrimary`` inside, else by the name (``hemi-L``, ``lh.``, ``.L.``).
    system : str
        Whose brain this is.
    labels : str, Path or list of them, optional
        ``*.label.gii``, one a hemisphere: their names become ``region``. Vertices of key 0, or named ``???``, are left out.
    tr_s : float, seconds, optional
        Time from one volume to the next. Default: ``RepetitionTime`` of the json beside the file, else ``TimeStep`` inside,
        which is in milliseconds (as FreeSurfer writes it) from 50 on and else in seconds.
    override_tr : bool
        ``tr_s`` holds even where the sidecar or the file say otherwise.
    run : str or sequence of str, optional
        Names of the runs, one a file; the two hemispheres of a run have the same. Default: the ``run-`` entity of each file
        name; ``"1"`` for a single file a hemisphere.
    first_onset_s : float, seconds
        When the first volume of each run was recorded, on the clock of its events.
    subject, session : str, optional
    units : str, optional
        Physical unit of the values.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        Lazy by file: XML is parsed from its start, so what needs a value of a file reads that file. ``neuroid_id`` is
        hemisphere and vertex (``"L731"``, counted from 0), which are the coordinates ``hemisphere`` and ``vertex`` too; left
        comes first. Volumes are named as by :func:`open_images`; arrays without a TR that are no time series are maps, named
        by their ``Name``, and have no onsets. The attr ``grid`` (JSON: ``kind``, ``n_vertices``) is what a map needs to be
        written back.

    Raises
    ------
    FormatError
        A damaged file; a mesh instead of values; a hemisphere that is not stated, stated twice differently, or missing from a
        run; vertex counts, lengths or TRs that differ; undeclared NaN.
    ParameterError
        Runs without names.
    """
    files = run_files(path)
    names, sides = _by_run([_surface(file) for file in files], run)
    kept = _kept(labels, {side: surfaces[0] for side, surfaces in sides.items()})
    every = [surface for surfaces in sides.values() for surface in surfaces]
    stated = [_repetition_time(surface, tr_s, override_tr) for surface in every]
    timed = [(surface.file, step) for surface, step in zip(every, stated, strict=True) if step is not None]
    step = common_tr(*zip(*timed, strict=True)) if timed else None
    start = check_number("first_onset_s", first_onset_s, owner="open_gifti")
    constant = {"subject": subject, "session": session}
    lengths = [surface.n_arrays for surface in next(iter(sides.values()))]
    ids, rows = run_rows(names, lengths, step, start, constant) if step else map_rows(names, _map_names(sides), constant)
    with naming(repr(files[0].name)):
        x = responses(
            _values(sides, kept, allow_nan), stimulus_id=ids, presentation=rows, **_vertices(kept), system=system, modality="fmri",
            sampling_rate_hz=1.0 / step if step else None, units=units, allow_nan=allow_nan,
        )  # fmt: skip
    n_vertices = {side: surfaces[0].n_vertices for side, surfaces in sides.items()}
    x.attrs["grid"] = json.dumps({"kind": "gifti", "n_vertices": n_vertices})
    params = {"tr_s": step, "override_tr": override_tr, "run": names, "index_base": 0, "scale": 1.0, "units": units}
    labelled = [Path(item).name for item in _listed(labels)] or None
    return record_opening(x, "gifti", [file.name for file in files], {**params, "labels": labelled})


@dataclass(frozen=True)
class _Surface:
    """What a file says before its values are read."""

    file: Path
    side: str
    n_arrays: int
    n_vertices: int
    is_series: bool
    time_step: str
    names: tuple[str, ...]


def _listed(paths: Any) -> list[Any]:
    return [] if paths is None else [paths] if isinstance(paths, (str, Path)) else list(paths)


def _surface(file: Path) -> _Surface:
    said = describe(file)
    first = said.arrays[0]
    for array in said.arrays:
        if array.intent in _NO_VALUES or len(array.shape) > 2 or array.shape[1:] not in ((), (1,)):
            raise FormatError(
                f"{str(file)!r} holds an array of intent {array.intent} and shape {array.shape}. Expected values, one array of one number a "
                "vertex for each volume or map: a mesh is no recording, and labels go in as `labels=`."
            )
        if array.shape[0] != first.shape[0]:
            raise FormatError(
                f"{str(file)!r} holds arrays of {first.shape[0]} and {array.shape[0]} vertices. Expected one number."
            )
    return _Surface(
        file,
        _side(file, said),
        said.n_arrays,
        first.shape[0],
        first.intent == "TIME_SERIES",
        said.meta.get("TimeStep", first.meta.get("TimeStep", "")),
        tuple(array.meta.get("Name", "") for array in said.arrays),
    )


def _side(file: Path, said: GiftiFile) -> str:
    """Return the hemisphere, which the metadata and the name may state; what they state must agree."""
    structure = said.meta.get("AnatomicalStructurePrimary") or said.arrays[0].meta.get("AnatomicalStructurePrimary", "")
    match = _HEMISPHERE.search(file.name)
    named = next(side for side in match.groups() if side).upper() if match else None
    inside = _STRUCTURES.get(structure.upper().replace("_", "").removeprefix("CIFTISTRUCTURE"))
    if (structure and inside is None) or (inside and named and inside != named) or not (inside or named):
        raise FormatError(
            f"{str(file)!r} states the hemisphere {structure or None!r} as AnatomicalStructurePrimary and {named!r} in its name. Expected "
            "CortexLeft or CortexRight there, or `hemi-L` or `hemi-R` in the name, and no contradiction: mend the wrong one."
        )
    return inside or named or ""


def _by_run(surfaces: list[_Surface], run: str | Sequence[str] | None) -> tuple[list[str], dict[str, list[_Surface]]]:
    """Return the names of the runs and, for each hemisphere, its surfaces in that order."""
    check_one_person([surface.file for surface in surfaces])
    given = None if run is None or isinstance(run, (str, int)) else [str(name) for name in run]
    if not surfaces or (given is not None and len(given) != len(surfaces)):
        run_names(given, [surface.file for surface in surfaces])  # says what is wrong
    sides: dict[str, dict[str, _Surface]] = {}
    for side in sorted({surface.side for surface in surfaces}):
        at = [i for i, surface in enumerate(surfaces) if surface.side == side]
        names = run_names(run if given is None else [given[i] for i in at], [surfaces[i].file for i in at])
        sides[side] = {name: surfaces[i] for name, i in zip(names, at, strict=True)}
    first = next(iter(sides.values()))
    for found in sides.values():
        for name in first.keys() ^ found.keys():
            raise FormatError(
                f"run {name!r} has a file of one hemisphere only ({str({**first, **found}[name].file)!r}). Expected both for each run: add the "
                "other, or open one hemisphere alone."
            )
    ordered = {side: [found[name] for name in first] for side, found in sides.items()}
    _check_sizes(list(first), ordered)
    return list(first), ordered


def _check_sizes(names: list[str], sides: dict[str, list[_Surface]]) -> None:
    left = next(iter(sides.values()))
    for surfaces in sides.values():
        for name, one, other in zip(names, left, surfaces, strict=True):
            if one.n_arrays != other.n_arrays:
                raise FormatError(
                    f"run {name!r} has {one.n_arrays} arrays in {str(one.file)!r} and {other.n_arrays} in {str(other.file)!r}. Expected as many "
                    "in both hemispheres."
                )
            if other.n_vertices != surfaces[0].n_vertices:
                raise FormatError(
                    f"{str(other.file)!r} has {other.n_vertices} vertices and {str(surfaces[0].file)!r} {surfaces[0].n_vertices}. Runs must lie "
                    "on one surface: resample one."
                )


def _repetition_time(surface: _Surface, tr_s: float | None, override: bool) -> float | None:
    try:
        value = float(surface.time_step or 0)
    except ValueError:
        value = 0.0
    value = value / 1000 if value >= LONGEST_TR_S else value
    return stated_tr(
        surface.file, tr_s, override, header_s=value if 0 < value < np.inf else None, header=f"TimeStep {surface.time_step!r} inside",
        owner="open_gifti", required=surface.is_series,
    )  # fmt: skip


def _map_names(sides: dict[str, list[_Surface]]) -> list[list[str]]:
    """Return the names of the maps of each run, where both hemispheres name them alike."""
    found = []
    for surfaces in zip(*sides.values(), strict=True):
        names = [surface.names for surface in surfaces]
        if names[0] != names[-1] and set(names[0]) == set(names[-1]):
            raise FormatError(
                f"{str(surfaces[-1].file)!r} holds the maps {preview(names[-1])} and {str(surfaces[0].file)!r} {preview(names[0])}. Expected one "
                "order in both hemispheres: write one of them anew."
            )
        found.append([one if one == other else "" for one, other in zip(names[0], names[-1], strict=True)])
    return found


def _kept(labels: Any, sides: dict[str, _Surface]) -> dict[str, tuple[np.ndarray[Any, Any], Any]]:
    """Return the vertices of each hemisphere to take, and the region of each (None without labels)."""
    if labels is None:
        return {side: (np.arange(surface.n_vertices), None) for side, surface in sides.items()}
    kept = {}
    for file in (existing(item) for item in _listed(labels)):
        said = describe(file)
        side = _side(file, said)
        if side in kept or side not in sides:
            why = "twice" if side in kept else "and no data are"
            raise FormatError(
                f"`labels` are given for hemisphere {side} {why}: {str(file)!r}. Expected one file for each hemisphere."
            )
        kept[side] = _regions(file, said, sides[side])
    missing = sorted(sides.keys() - kept.keys())
    if missing:
        raise FormatError(
            f"`labels` are given for {sorted(kept)} and not for hemisphere {missing[0]}. Expected one file for each."
        )
    if not sum(len(vertices) for vertices, _ in kept.values()):
        raise FormatError(
            f"the labels in {preview([Path(item).name for item in _listed(labels)])} leave no vertex. Expected some."
        )
    return {side: kept[side] for side in sides}


def _regions(file: Path, said: GiftiFile, surface: _Surface) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    arrays = list(read_arrays(file))
    if [array.intent for array, _ in arrays] != ["LABEL"] or arrays[0][1].dtype.kind not in "iu":
        raise FormatError(
            f"{str(file)!r} holds the intents {preview([array.intent for array, _ in arrays])}. Expected one array LABEL of whole numbers."
        )
    keys = arrays[0][1].reshape(-1)
    if keys.size != surface.n_vertices:
        raise FormatError(
            f"{str(file)!r} labels {keys.size} vertices and {str(surface.file)!r} has {surface.n_vertices}. Expected one surface."
        )
    names = {**said.labels, 0: ""}
    unknown = [int(key) for key in np.unique(keys) if int(key) not in names]
    if unknown:
        raise FormatError(
            f"{str(file)!r} holds the keys {preview(unknown)}, which its label table does not name. Mend the table."
        )
    regions = np.array([names[int(key)] for key in keys], dtype=object)
    vertices = np.flatnonzero(~np.isin(regions, _UNNAMED))
    return vertices, regions[vertices]


def _vertices(kept: dict[str, tuple[np.ndarray[Any, Any], Any]]) -> dict[str, Any]:
    """Return the labels of the neuroids."""
    columns: dict[str, Any] = {
        "neuroid_id": [f"{side}{vertex}" for side, (vertices, _) in kept.items() for vertex in vertices],
        "hemisphere": [side for side, (vertices, _) in kept.items() for _ in vertices],
        "vertex": np.concatenate([vertices for vertices, _ in kept.values()]),
    }
    regions = [regions for _, regions in kept.values()]
    return columns if any(region is None for region in regions) else {**columns, "region": np.concatenate(regions)}


def _values(sides: dict[str, list[_Surface]], kept: dict[str, tuple[np.ndarray[Any, Any], Any]], allow_nan: bool) -> Any:
    """Return (volume, vertex) as a dask array, a block a file: a smaller one would parse as much."""
    import dask.array as da

    columns = []
    for side, surfaces in sides.items():
        vertices = kept[side][0]
        blocks = []
        for surface in surfaces:
            shape = (surface.n_arrays, vertices.size)
            read = _Read(surface.file, surface.n_arrays, surface.n_vertices, side, vertices, allow_nan)
            blocks.append(lazy_array(read, shape, np.float32, files=[surface.file], what="GIFTI", chunks=shape))
        columns.append(da.concatenate(blocks, axis=0))
    return da.concatenate(columns, axis=1)


@dataclass(frozen=True, eq=False)
class _Read:
    """Parses a file and keeps the wanted vertices of the wanted volumes; to its end, so that damage there is found."""

    file: Path
    n_arrays: int
    n_vertices: int
    side: str
    vertices: np.ndarray[Any, Any]
    allow_nan: bool

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        rows, vertices = spans[0], self.vertices[spans[1]]
        out = np.empty((rows.stop - rows.start, vertices.size), dtype=np.float32)
        for i, (array, values) in enumerate(read_arrays(self.file)):
            if values.size != self.n_vertices or array.intent in _NO_VALUES:
                raise FormatError(
                    f"{str(self.file)!r} holds as array {i} one of intent {array.intent} and shape {array.shape}. Expected {self.n_vertices} "
                    "values as in the first one."
                )
            if rows.start <= i < rows.stop:
                out[i - rows.start] = values.reshape(-1)[vertices]
        if not (self.allow_nan or np.isfinite(out).all()):
            check_finite(out, str(self.file), [f"{self.side}{vertex}" for vertex in vertices], False, first_row=rows.start)
        return out


def _matches(source: Any) -> str:
    """XML with a GIFTI element."""
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    return "it is XML with a GIFTI element" if is_path(first) and b"<GIFTI" in first_bytes(Path(first), 1024) else ""


adapter = Format("gifti", _matches, open_gifti)
