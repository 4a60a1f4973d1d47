"""Story listening of LeBel et al.: one HDF5 file a story, rows are volumes and columns are cortical voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.containers import headers, kind_of
from brainalign.adapters.files import Format, existing, naming, record_opening
from brainalign.adapters.fmri.runs import LONGEST_TR_S
from brainalign.adapters.hdf5 import check_stored, hdf5_file, open_hdf5, whole_chunks
from brainalign.adapters.joining import joined
from brainalign.adapters.lazy import Spans, lazy_array
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, check_number, did_you_mean, preview
from brainalign.core.responses import responses

TR_S = 2.0045
_MEAN, _EACH = "data", "individual_repeats"


def open_lebel(
    path: Any,
    *,
    first_onset_s: float,
    system: str | None = None,
    stories: str | Sequence[str] | None = None,
    repeats: str = "average",
    trim: tuple[int, int] = (0, 0),
    tr_s: float = TR_S,
    units: str | None = "z",
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open the preprocessed stories of one person.

    Parameters
    ----------
    path : str or Path
        The folder ``UTS0X`` with a file ``<story>.hf5`` a story, or one such file.
    first_onset_s : float, seconds
        When the first row of each file was recorded, on the clock of the transcripts: the files do not say. The authors' encoding
        code lets volumes start 10 s before the story and cuts ten of them off to meet these rows: 10.0 with its TR of 2 s,
        10 * 2.0045 - 10 = 10.045 with that of the scanner.
    system : str, optional
        Default: the name of the folder.
    stories : str or sequence of str, optional
        Which, in this order. Default: all, by name.
    repeats : {"average", "keep"}
        The test story was heard several times: the average that its file holds, or (``"keep"``) each presentation as a run.
    trim : (int, int)
        Volumes to cut off at the start and at the end of each story; ``onset_s`` counts on. None by default.
    tr_s : float, seconds
    units : str, optional
    allow_nan : bool
        NaN is declared: voxels outside the imaged volume are NaN in some stories.

    Returns
    -------
    DataArray of float32, (presentation, neuroid), lazy
        ``stimulus_id`` is ``<story>/v<volume>``, ``run`` the story (``<story>_run-2`` where repeats are kept), ``onset_s`` as said above,
        ``n_repeats`` the presentations that a row averages. ``neuroid_id`` counts the voxels of the cortical mask from 0.

    Raises
    ------
    FormatError
        A damaged file, one without ``data``, stories with different voxels, NaN in a block that is computed.
    ParameterError
        No such story, or fewer volumes than are to be cut off.
    """
    folder = Path(path)
    if folder.is_dir():
        found = {file.stem: file for file in sorted(folder.glob("*.hf5")) if not file.name.startswith(".")}
    else:
        file = existing(folder)
        found, folder = {file.stem: file}, file.absolute().parent
    if not found:
        raise FormatError(f"{str(folder)!r} holds no '*.hf5'. Expected the folder of one person, a file a story.")
    step = check_number("tr_s", tr_s, owner="open_lebel", low=0, low_open=True, high=LONGEST_TR_S)
    start = check_number("first_onset_s", first_onset_s, owner="open_lebel")
    check_choice("repeats", repeats, ("average", "keep"), owner="open_lebel")
    cut = _trim(trim)
    chosen = _chosen(found, stories, folder)
    runs = [run for story in chosen for run in _runs(found[story], story, repeats, allow_nan)]
    width = runs[0][1].shape[1]
    for name, values, _ in runs:
        if values.shape[1] != width or len(values) <= sum(cut):
            raise FormatError(
                f"the story {name!r} in {str(folder)!r} has shape {values.shape}. Expected {width} voxels as in {runs[0][0]!r}, and more volumes "
                f"than trim={cut} cuts off."
            )
    kept = [(name, values[cut[0] : len(values) - cut[1]], n) for name, values, n in runs]
    lengths = [len(values) for _, values, _ in kept]
    volume = np.concatenate([cut[0] + np.arange(n) for n in lengths])
    names = np.repeat(np.array([name for name, *_ in kept], dtype=object), lengths)
    rows = {
        "run": names,
        "onset_s": start + step * volume,
        "duration_s": np.full(len(volume), step),
        "n_repeats": np.repeat([n for *_, n in kept], lengths),
    }
    who = system or folder.name
    with naming(repr(folder.name)):
        x = responses(
            joined([values for _, values, _ in kept]), stimulus_id=[f"{name.partition('_run-')[0]}/v{at:05d}" for name, at in zip(names, volume, strict=True)],
            neuroid_id=np.arange(width), system=who, subject=who, modality="fmri", units=units, sampling_rate_hz=1 / step, presentation=rows,
            allow_nan=allow_nan,
        )  # fmt: skip
    params = {"tr_s": step, "first_onset_s": start, "trim": list(cut), "repeats": repeats, "index_base": 0, "scale": 1.0}
    return record_opening(x, "lebel", [f"{story}.hf5" for story in chosen], params)


def _trim(trim: Any) -> tuple[int, int]:
    try:
        first, last = trim
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"The 'trim' parameter of open_lebel must be two counts of volumes. Got {trim!r} instead."
        ) from error
    return tuple(check_number("trim", n, owner="open_lebel", low=0, integer=True) for n in (first, last))  # type: ignore[return-value]


def _chosen(found: dict[str, Path], stories: str | Sequence[str] | None, folder: Path) -> list[str]:
    wanted = list(found) if stories is None else [stories] if isinstance(stories, str) else list(stories)
    for story in wanted:
        if story not in found:
            raise ParameterError(
                f"open_lebel got stories={stories!r}; {str(folder)!r} has no {story!r} among {preview(found, 5)}.{did_you_mean(story, found)}"
            )
    if not wanted or len(set(wanted)) != len(wanted):
        raise ParameterError(f"open_lebel got stories={stories!r}. Expected at least one, none twice.")
    return wanted


def _runs(file: Path, story: str, repeats: str, allow_nan: bool) -> list[tuple[str, Any, int]]:
    """Return the runs of a file: name, values (volume, voxel), and how many presentations they average."""
    held = headers(file)
    n_repeats = held[_EACH][0][0] if _EACH in held and len(held[_EACH][0]) == 3 else 1
    if repeats == "keep" and n_repeats > 1:
        return [(f"{story}_run-{number + 1}", _one_repeat(file, number, allow_nan), 1) for number in range(n_repeats)]
    if _MEAN not in held or len(held[_MEAN][0]) != 2:
        raise FormatError(
            f"{str(file)!r} holds { ({name: shape for name, (shape, _) in held.items()}) }. Expected 'data', (volume, voxel)."
        )
    return [(story, open_hdf5(file, _MEAN, dtype=np.float32, finite_axis=None if allow_nan else 1), n_repeats)]


def _one_repeat(file: Path, number: int, allow_nan: bool) -> Any:
    with hdf5_file(file) as opened:
        item = opened[_EACH]
        check_stored(item, file)
        chunks = whole_chunks(item.shape[1:], item.chunks and item.chunks[1:], item.dtype.itemsize)
        shape = item.shape[1:]
    read, axis = _Repeat(file, number), None if allow_nan else 1
    return lazy_array(read, shape, np.float32, files=[file], what="HDF5", chunks=chunks, finite_axis=axis)


@dataclass(frozen=True)
class _Repeat:
    """Reads a block of one presentation."""

    file: Path
    number: int

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        with hdf5_file(self.file) as opened:
            return np.asarray(opened[_EACH][(self.number, *spans)])


def _matches(source: Any) -> str:
    """Recognise a story, or a folder of them, by the suffix and the array ``data``."""
    if not isinstance(source, (str, Path)):
        return ""
    file = next(iter(sorted(Path(source).glob("*.hf5"))), None) if Path(source).is_dir() else Path(source)
    if file is None or file.suffix != ".hf5" or kind_of(file) != "hdf5":
        return ""
    try:
        fits = len(headers(file).get(_MEAN, ((),))[0]) == 2
    except FormatError:
        return ""
    return "hf5 files with 'data', as the stories of LeBel et al. have them" if fits else ""


adapter = Format("lebel", _matches, open_lebel)
