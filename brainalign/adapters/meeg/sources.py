"""Source estimates as neuroids: MNE objects and ``.stc`` files, on the cortical surface or in a volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import Format, check_finite, existing, is_path, naming, narrowed, reading, record_opening
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.responses import responses

_FRAMES = {4: "head", 5: "MRI"}
_PAIR = {"-lh.stc": "-rh.stc", "-rh.stc": "-lh.stc"}
_HEMISPHERES = ("L", "R")


def open_sources(
    source: Any,
    *,
    system: str,
    stimulus_id: str | Sequence[str],
    units: str,
    modality: str = "meg",
    source_space: Any = None,
    presentation: Any = None,
) -> xr.DataArray:
    """Open estimates of the activity of sources.

    Parameters
    ----------
    source : path, mne.SourceEstimate, or a list of either
        ``.stc`` files (``-lh.stc`` or ``-rh.stc``, the other is read too; ``-vl.stc`` or ``-vol.stc`` of a volume) or objects of MNE:
        surface, volume, or vector estimates. One a presentation.
    system : str
        Whose sources these are.
    stimulus_id : str or sequence of str, (presentation,)
        What was presented; an estimate does not know.
    units : str
        ``"nA·m"`` or ``"A·m"`` of a minimum norm, ``"dSPM"``, ``"sLORETA"`` ... without a unit: an estimate does not say.
    modality : {"meg", "eeg", "ieeg"}
    source_space : mne.SourceSpaces or path, optional
        Gives each neuroid its place.
    presentation : DataFrame or mapping, optional
        Further labels of presentations.

    Returns
    -------
    DataArray of float32, (presentation, neuroid, time)
        In memory, values as they are. Neuroids ``lh/123``, ``rh/123`` or ``vol/123``, with ``vertex`` (from 0, in the whole surface or
        grid), ``hemisphere`` (``L``, ``R``) on a surface, ``orientation`` (0, 1, 2) of a vector estimate, and with a source space ``x_mm y_mm z_mm`` in
        the frame named by ``coordinate_frame``.

    Raises
    ------
    FormatError
        Truncated file, a hemisphere that is missing or of other times, estimates on different vertices, times or people.
    ParameterError
        Another number of names than estimates.
    OptionalDependencyError
        MNE is not installed.
    """
    mne = require("mne", extra="meeg", purpose="reading source estimates")
    items = list(source) if isinstance(source, (list, tuple)) else [source]
    ids = [str(each) for each in np.atleast_1d(np.asarray(stimulus_id, dtype=object))]
    if not items or len(ids) != len(items):
        raise ParameterError(
            f"open_sources got {len(items)} estimates and {len(ids)} stimulus_id. Expected one name an estimate."
        )
    names = [Path(item).name if isinstance(item, (str, Path)) else type(item).__name__ for item in items]
    estimates = [_load(mne, item) if isinstance(item, (str, Path)) else item for item in items]
    _refuse_unlike(estimates, names)
    first = estimates[0]
    places = first.vertices if isinstance(first.vertices, list) else [first.vertices]
    labels, ids_of = _labels(first, places, source_space, mne)
    values = np.stack([np.asarray(each.data) for each in estimates])
    if values.dtype.kind != "f":
        raise FormatError(
            f"{names[0]!r} holds values of dtype {values.dtype}. Expected real numbers: take their power or absolute value."
        )
    values = values.reshape(len(estimates), -1, values.shape[-1])  # vertex by orientation, as the labels
    values = narrowed(values, np.float32, names[0])
    check_finite(values, names[0], ids_of, allow_nan=False)
    with naming(repr(names[0])):
        x = responses(
            values, stimulus_id=ids, neuroid_id=ids_of, time=first.times, neuroid=labels, presentation=presentation, modality=modality,
            system=system, units=units, sampling_rate_hz=float(first.sfreq) if first.tstep > 0 else np.nan,
        )  # fmt: skip
    return record_opening(x, "source-estimates", names, {"index_base": 0, "scale": 1.0, "anatomy_of": first.subject})


def _load(mne: Any, path: Any) -> Any:
    file = existing(path)
    end = next((end for end in ("-lh.stc", "-rh.stc", "-vl.stc", "-vol.stc") if file.name.endswith(end)), None)
    if end is None:
        raise FormatError(
            f"{str(file)!r} does not say what it is of. Expected a name that ends in -lh.stc, -rh.stc, -vl.stc or -vol.stc, as MNE wrote it."
        )
    start = _whole(file)
    if end in _PAIR:
        other = file.with_name(file.name.removesuffix(end) + _PAIR[end])
        if not other.is_file():
            raise FormatError(
                f"{str(file)!r} is one hemisphere, and {other.name!r} is not beside it. Expected both: copy that one too."
            )
        if _whole(other) != start:
            raise FormatError(
                f"{file.name!r} has its first sample, step (ms) and number of samples {start}, and {other.name!r} {_whole(other)}. Expected the same: "
                "they are of different estimates."
            )
    with reading(file, "stc"):
        return mne.read_source_estimate(file)


def _whole(file: Path) -> tuple[float, float, int]:
    """Return first sample and step in ms, and how many samples, of a file that holds as much as its header says."""
    found, size = _header(file)
    if found is None or found[4] != size:
        promised = "no header" if found is None else f"{found[4]} ({found[2]} sources, {found[3]} samples)"
        raise FormatError(
            f"{str(file)!r} has {size} bytes and promises {promised}. Expected a whole .stc file: it is truncated, copy it again."
        )
    return found[0], found[1], found[3]


def _header(file: Path) -> tuple[tuple[float, float, int, int, int] | None, int]:
    """Return first sample, step, sources, samples and the bytes that they make; None where there is no header."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(12)
        n_sources = int.from_bytes(start[8:12], "big")
        if len(start) < 12 or 16 + 4 * n_sources > size:
            return None, size
        opened.seek(12 + 4 * n_sources)
        n_samples = int.from_bytes(opened.read(4), "big")
    first, step = (float(value) for value in np.frombuffer(start[:8], dtype=">f4"))
    return (first, step, n_sources, n_samples, 4 * (4 + n_sources + n_sources * n_samples)), size


def _refuse_unlike(estimates: list[Any], names: list[str]) -> None:
    """Refuse estimates that are not on the same sources and samples of the same anatomy."""
    first = estimates[0]
    for name, each in zip(names, estimates, strict=True):
        if not hasattr(each, "vertices") or not hasattr(each, "tstep"):
            raise ParameterError(
                f"open_sources got a {type(each).__name__}. Expected source estimates of MNE, or paths of .stc files."
            )
        if each.subject != first.subject:
            raise FormatError(
                f"{name!r} is of the anatomy {each.subject!r} and {names[0]!r} of {first.subject!r}. Expected one: morph them to a common one."
            )
        theirs, ours = (est.vertices if isinstance(est.vertices, list) else [est.vertices] for est in (each, first))
        if len(theirs) != len(ours) or not all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True)):
            raise FormatError(
                f"{name!r} has {[len(part) for part in theirs]} sources and {names[0]!r} {[len(part) for part in ours]}, not the same ones. Expected one "
                "source space: restrict or morph them."
            )
        if each.data.shape != first.data.shape or np.abs(each.times - first.times).max() > 1e-6:
            raise FormatError(
                f"{name!r} runs from {each.times[0]:g} to {each.times[-1]:g} s and {names[0]!r} from {first.times[0]:g} to {first.times[-1]:g} s. Expected "
                "the same samples: crop or resample them."
            )


def _labels(first: Any, places: list[Any], source_space: Any, mne: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the labels of each neuroid, and its name."""
    surface = "Vol" not in type(first).__name__
    parts = ("lh", "rh") if surface else ("vol",) if len(places) == 1 else tuple(f"vol{i}" for i in range(len(places)))
    if len(parts) != len(places):
        raise FormatError(
            f"a {type(first).__name__} has {len(places)} parts. Expected two hemispheres, or volumes: open the parts of a mixed one."
        )
    vertex = np.concatenate([np.asarray(part, dtype=np.int64) for part in places])
    part = np.repeat(parts, [len(each) for each in places])
    n_orientations = first.data.shape[1] if first.data.ndim == 3 else 1
    labels: dict[str, Any] = {"vertex": vertex}
    if surface:
        labels["hemisphere"] = np.array(_HEMISPHERES, dtype=object)[(part == "rh").astype(int)]
    if source_space is not None:
        labels |= _positions(source_space, places, mne)
    ids = [f"{where}/{number}" for where, number in zip(part, vertex, strict=True)]
    if n_orientations == 1:
        return labels, ids
    labels = {name: np.repeat(value, n_orientations) for name, value in labels.items()}
    labels["orientation"] = np.tile(np.arange(n_orientations), len(vertex))
    return labels, [f"{name}/{axis}" for name in ids for axis in range(n_orientations)]


def _positions(source_space: Any, places: list[Any], mne: Any) -> dict[str, Any]:
    if isinstance(source_space, (str, Path)):
        with reading(source_space, "source space"):
            source_space = mne.read_source_spaces(existing(source_space), verbose="error")
    spaces = list(source_space)
    if len(spaces) != len(places) or any(
        len(part) and max(part) >= len(space["rr"]) for part, space in zip(places, spaces, strict=False)
    ):
        raise ParameterError(
            f"source_space= has {len(spaces)} parts of {[len(space['rr']) for space in spaces]} points; the estimate has {len(places)} parts with vertices up "
            f"to {[int(max(part)) if len(part) else None for part in places]}. Expected the source space that it was computed on."
        )
    place = np.concatenate([space["rr"][part] for space, part in zip(spaces, places, strict=True)]) * 1e3
    frames = [_FRAMES.get(int(space["coord_frame"]), "unknown") for space in spaces]
    return {
        "coordinate_frame": np.repeat(np.array(frames, dtype=object), [len(part) for part in places]),
        **{axis: place[:, i] for i, axis in enumerate(("x_mm", "y_mm", "z_mm"))},
    }


def _matches(source: Any) -> str:
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    if is_path(first):
        if not str(first).endswith(".stc"):
            return ""
        found, size = _header(Path(first))
        return "an .stc file whose header fits its size" if found is not None and found[4] == size else ""
    return f"a {type(first).__name__} of MNE" if type(first).__module__ == "mne.source_estimate" else ""


adapter = Format("source-estimates", _matches, open_sources)
