"""The Algonauts challenges: images of 2023 (NSD on fsaverage) and films of 2025 (parcels of CNeuroMod)."""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.containers import headers, kind_of
from brainalign.adapters.delimited import read_table, require_columns
from brainalign.adapters.files import Format, existing, is_path, naming, record_opening
from brainalign.adapters.fmri.nsd import REGIONS
from brainalign.adapters.fmri.nsd_design import IMAGES
from brainalign.adapters.fmri.runs import LONGEST_TR_S
from brainalign.adapters.hdf5 import open_hdf5
from brainalign.adapters.joining import joined
from brainalign.adapters.lazy import open_npy
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_number, preview
from brainalign.core.responses import responses

TR_S = 1.49  # of the films
_SIDES = {"lh": "L", "rh": "R"}
_IMAGE = re.compile(r"(?:train|test)-(\d+)_(nsd-\d+)\.png")
_KEY = re.compile(r"(?:ses-(?P<session>[^_]+)_)?(?:task-)?(?P<film>[A-Za-z]+\d*[A-Za-z0-9]*)(?:_run-(?P<run>\d+))?")
_WORD_COLUMNS = ("words_per_tr", "onsets_per_tr", "durations_per_tr")


def open_algonauts(
    path: Any,
    *,
    system: str | None = None,
    split: str = "training",
    region: str | None = None,
    region_names: Mapping[str, Mapping[int, str]] | None = None,
    films: str | Sequence[str] | None = None,
    tr_s: float = TR_S,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open one person of the Algonauts challenge of 2023 or 2025.

    Parameters
    ----------
    path : str or Path
        2023: the folder ``subjNN``. 2025: a file ``sub-0N_task-..._bold.h5``, or the folder ``func`` that holds several.
    system : str, optional
        Whose brain this is. Default: ``subjNN`` or ``sub-0N``, as the folder or file is called.
    split : {"training", "test"}
        2023: which images.
    region : str, optional
        2023: which of the masks in ``roi_masks`` becomes ``region``: ``"streams"``, ``"prf-visualrois"``, ``"floc-faces"`` ...
    region_names : mapping of mask to mapping of int to str, optional
        2023: what the numbers of a mask stand for. Default: the names of NSD (:data:`brainalign.adapters.fmri.nsd.REGIONS`), from
        which the masks were made. The files ``mapping_*.npy`` that say so too are pickled, and are not read.
    films : str or sequence of str, optional
        2025: which films, by name or glob (``"s01e*"``, ``"life*"``). Default all.
    tr_s : float, seconds
        2025: the files do not hold it.
    units : str, optional
        Default: 2023 ``"z"`` (per vertex and session, before repeats were averaged); 2025 none, as the files do not say.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid), lazy
        2023: a row an image, ``stimulus_id`` ``nsd-00013`` counts the 73,000 images of NSD from 0; the mean of up to three
        presentations, of which the files do not say how many: ``n_repeats`` is NaN. ``hemisphere``, ``vertex`` of fsaverage, and the
        name that each mask gives it, ``roi_streams`` ... (the number, of masks that have no names).
        2025: a row a volume; ``run``, ``film``, ``session``, ``onset_s`` after the start of the film. ``stimulus_id`` is
        ``<film>/v<volume>``, so that a film that is shown again (``life01_run-2``) repeats it. ``neuroid_id`` counts parcels from 1.

    Raises
    ------
    FormatError
        A file that is missing or damaged, another number of images than of rows, masks of another length, films with different
        numbers of parcels.
    ParameterError
        No such film or mask; a number that has no name; no system.

    Notes
    -----
    2025: a film's stimulus and its volumes differ in length by a few samples; nothing is cut or padded here.
    """
    found = Path(path)
    common = {"modality": "fmri", "allow_nan": allow_nan}
    if found.is_dir() and (found / f"{split}_split").is_dir():
        x = _images(found, system or found.name, split, region, dict(region_names or {}), {**common, "units": units or "z"})
        params = {"split": split, "region": region, "index_base": 0, "scale": 1.0}
        return record_opening(x, "algonauts", [f"{side}_{split}_fmri.npy" for side in _SIDES], params)
    files = sorted(found.glob("[!.]*_bold.h5")) if found.is_dir() else [existing(found)]
    if not files:
        raise FormatError(
            f"{str(found)!r} has no folder '{split}_split' (2023) and no '*_bold.h5' (2025). Expected the folder of one person, or one of its files."
        )
    step = check_number("tr_s", tr_s, owner="open_algonauts", low=0, low_open=True, high=LONGEST_TR_S)
    x = _films(files, system, films, step, {**common, "units": units})
    params = {"tr_s": step, "films": films, "index_base": 1, "scale": 1.0}
    return record_opening(x, "algonauts", [file.name for file in files], params)


def _images(
    folder: Path, system: str, split: str, region: str | None, names: dict[str, Mapping[int, str]], common: dict[str, Any]
) -> xr.DataArray:
    part = folder / f"{split}_split"
    axis = None if common["allow_nan"] else 1
    sides = {
        side: open_npy(part / f"{split}_fmri" / f"{side}_{split}_fmri.npy", dtype=np.float32, finite_axis=axis) for side in _SIDES
    }
    ids = _image_ids(part / f"{split}_images")
    for side, values in sides.items():
        if values.ndim != 2 or len(values) != len(ids):
            raise FormatError(
                f"'{side}_{split}_fmri.npy' in {str(part)!r} has shape {values.shape}, and there are {len(ids)} images. Expected a row an image: "
                "a file is missing or of another person."
            )
    neuroid = _vertices(folder / "roi_masks", {side: values.shape[1] for side, values in sides.items()}, names)
    if region is not None:
        wanted = f"roi_{_plain(region)}"
        if wanted not in neuroid:
            raise ParameterError(
                f"open_algonauts got region={region!r}; the masks of {str(folder)!r} are {preview(neuroid, 12)}."
            )
        if neuroid[wanted].dtype.kind in "iu":
            raise ParameterError(
                f"open_algonauts got region={region!r} without names. Expected `region_names={{{region!r}: {{1: ..., 2: ...}}}}`, one for each number."
            )
        neuroid["region"] = neuroid[wanted]
    with naming(repr(folder.name)):
        return responses(
            joined(list(sides.values()), axis=1), stimulus_id=ids, system=system, neuroid_id=neuroid.pop("neuroid_id"), neuroid=neuroid,
            presentation={"n_repeats": np.full(len(ids), np.nan)}, subject=system, **common,
        )  # fmt: skip


def _image_ids(folder: Path) -> list[str]:
    """Return the ids of the images in the order of the rows, which their names count from 1."""
    found = {file.name: _IMAGE.fullmatch(file.name) for file in folder.glob("[!.]*.png")} if folder.is_dir() else {}
    numbered = {int(match[1]): match[2] for match in found.values() if match}
    strange = [
        name for name, match in found.items() if not match or int(match[2][4:]) >= IMAGES
    ]  # an id past the last counts from 1
    if not found or strange or sorted(numbered) != list(range(1, len(found) + 1)):
        lacking = sorted(set(range(1, max(numbered, default=0) + 1)) - set(numbered))
        raise FormatError(
            f"{str(folder)!r} holds {len(found)} images; numbers {preview(lacking)} are missing, other names are {preview(strange)}. Expected "
            f"'train-0001_nsd-00013.png' and so on, one for each row, up to nsd-{IMAGES - 1}: they say what each row is."
        )
    return [numbered[number] for number in sorted(numbered)]


def _vertices(folder: Path, widths: Mapping[str, int], names: Mapping[str, Mapping[int, str]]) -> dict[str, np.ndarray]:
    """Return the labels of the vertices of both hemispheres: where they are, and what each mask says of them."""
    where = {side: np.flatnonzero(_mask(folder / f"{side}.all-vertices_fsaverage_space.npy")) for side in widths}
    for side, vertices in where.items():
        if len(vertices) != widths[side]:
            raise FormatError(
                f"'{side}.all-vertices_fsaverage_space.npy' in {str(folder)!r} keeps {len(vertices)} vertices; the responses have {widths[side]}. "
                "Expected one each: the mask is of another person."
            )
    letters = np.repeat([_SIDES[side] for side in where], [len(vertices) for vertices in where.values()]).astype(object)
    vertex = np.concatenate(list(where.values()))
    out = {"neuroid_id": letters + vertex.astype(str).astype(object), "hemisphere": letters, "vertex": vertex}
    masks = sorted({file.name[3:].removesuffix("_challenge_space.npy") for file in folder.glob("?h.*_challenge_space.npy")})
    unknown = [name for name in names if name not in masks]
    if unknown:
        raise ParameterError(f"region_names= names the masks {preview(unknown)}; {str(folder)!r} has {preview(masks, 12)}.")
    known = {name: dict(enumerate(regions, 1)) for name, regions in REGIONS.items()} | dict(names)
    for name in masks:
        parts = {side: _mask(folder / f"{side}.{name}_challenge_space.npy") for side in widths}
        for side, part in parts.items():
            if part.shape != (widths[side],):
                raise FormatError(
                    f"'{side}.{name}_challenge_space.npy' has shape {part.shape}. Expected {widths[side]} vertices."
                )
        out[f"roi_{_plain(name)}"] = _named(np.concatenate(list(parts.values())), known.get(name), name)
    return out


def _named(numbers: np.ndarray, names: Mapping[int, str] | None, mask: str) -> np.ndarray:
    if names is None:
        return numbers.astype(np.int64)
    lacking = sorted(set(numbers.tolist()) - {0, *names})
    if lacking:
        raise ParameterError(
            f"region_names[{mask!r}] has no name for {preview(lacking)}. Expected one for each number but 0, which is none."
        )
    return np.array([names.get(number, "") for number in numbers.tolist()], dtype=object)


def _mask(file: Path) -> np.ndarray:
    values = np.asarray(open_npy(file).compute())
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        raise FormatError(f"{str(file)!r} has shape {values.shape} and dtype {values.dtype}. Expected a number a vertex.")
    return values


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _films(files: list[Path], system: str | None, films: Any, step: float, common: dict[str, Any]) -> xr.DataArray:
    people = {match[0] for file in files if (match := re.match(r"sub-[^_]+", file.name))}
    if len(people) > 1 or not (people or system):
        raise ParameterError(
            f"the names of {preview([f.name for f in files])} name {len(people)} people, and system={system!r}. Expected the files of one person in a "
            "folder, or one file; `system=` where the names do not say whose it is."
        )
    wanted = ["*"] if films is None else [films] if isinstance(films, str) else list(films)
    runs = [(file, key, match) for file in files for key, match in _keys(file).items()]
    known = list(dict.fromkeys(match["film"] for *_, match in runs))
    missing = [pattern for pattern in wanted if not fnmatch.filter(known, pattern)]
    if missing:
        raise ParameterError(
            f"open_algonauts got films={films!r}; there is none for {preview(missing)}. There are {preview(known, 12)}."
        )
    runs = [item for item in runs if any(fnmatch.fnmatchcase(item[2]["film"], pattern) for pattern in wanted)]
    axis = None if common["allow_nan"] else 1
    arrays = [open_hdf5(file, key, dtype=np.float32, finite_axis=axis) for file, key, _ in runs]
    for (file, key, _), array in zip(runs, arrays, strict=True):
        if array.ndim != 2 or array.shape[1] != arrays[0].shape[1]:
            raise FormatError(
                f"{str(file)!r} has shape {array.shape} at {key!r}, and {runs[0][1]!r} {arrays[0].shape}. Expected (volume, parcel), and one "
                "number of parcels."
            )
    lengths = [len(array) for array in arrays]
    labels = {
        "film": [match["film"] for *_, match in runs],
        "run": [match["film"] + (f"_run-{match['run']}" if match["run"] else "") for *_, match in runs],
        "session": [match["session"] or "" for *_, match in runs],
    }
    rows = {name: np.repeat(np.array(values, dtype=object), lengths) for name, values in labels.items() if any(values)}
    volume = np.concatenate([np.arange(n) for n in lengths])
    rows |= {"onset_s": step * volume, "duration_s": np.full(len(volume), step)}
    who = system or people.pop()
    with naming(repr(files[0].name)):
        return responses(
            joined(arrays), stimulus_id=[f"{film}/v{index:05d}" for film, index in zip(rows["film"], volume, strict=True)],
            neuroid_id=np.arange(1, arrays[0].shape[1] + 1), system=who, subject=who, sampling_rate_hz=1 / step, presentation=rows, **common,
        )  # fmt: skip


def _keys(file: Path) -> dict[str, re.Match[str]]:
    found = {key: _KEY.fullmatch(key) for key in headers(file)}
    strange = [key for key, match in found.items() if not match]
    if strange or not found:
        raise FormatError(
            f"{str(file)!r} holds {preview(strange or found)}. Expected arrays named 'ses-001_task-s01e01a', 's01e01a' or 'life01_run-1'."
        )
    return {key: match for key, match in found.items() if match}


def read_words_per_tr(path: Any) -> pd.DataFrame:
    """Read the transcript of a film of 2025: a table with a row a volume, whose cells are lists in text.

    Parameters
    ----------
    path : str or Path
        A tsv with the columns ``words_per_tr``, ``onsets_per_tr`` and ``durations_per_tr``.

    Returns
    -------
    DataFrame
        ``text``, ``onset_s``, ``duration_s`` and ``volume`` (the row of the file, from 0), one row a word.

    Raises
    ------
    FormatError
        A cell that is no list, lists of different length in one row, an onset that is no number, or no word at all.
    """
    file = existing(path)
    table = read_table(file, header=True, delimiter="\t")
    require_columns(table, _WORD_COLUMNS, str(file))
    rows = []
    for number, cells in enumerate(zip(*(table[name] for name in _WORD_COLUMNS), strict=True)):
        words, onsets, durations = (_list(cell, file, number, name) for cell, name in zip(cells, _WORD_COLUMNS, strict=True))
        if not len(words) == len(onsets) == len(durations):
            raise FormatError(
                f"{str(file)!r} has {len(words)} words, {len(onsets)} onsets and {len(durations)} durations in row {number}. Expected one each."
            )
        if not all(isinstance(time, (int, float)) and np.isfinite(time) for time in (*onsets, *durations)):
            raise FormatError(f"{str(file)!r} has onsets {onsets} and durations {durations} in row {number}. Expected seconds.")
        rows += [(str(word), float(at), float(length), number) for word, at, length in zip(words, onsets, durations, strict=True)]
    if not rows:
        raise FormatError(f"{str(file)!r} holds no word in {len(table)} rows. Expected lists of words in 'words_per_tr'.")
    return pd.DataFrame(rows, columns=["text", "onset_s", "duration_s", "volume"])


def _list(cell: str, file: Path, row: int, column: str) -> list[Any]:
    text = cell.strip()
    if text in ("", "n/a", "nan"):
        return []
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise FormatError(
            f"{str(file)!r} has {text[:60]!r} in row {row} of {column!r}. Expected a list, such as ['a', 'word']."
        ) from error
    if not isinstance(value, list):
        raise FormatError(f"{str(file)!r} has {text[:60]!r} in row {row} of {column!r}. Expected a list, such as ['a', 'word'].")
    return value


def _matches(source: Any) -> str:
    """Recognise a person's folder of 2023, or a file of 2025 by the names of its arrays."""
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        if (Path(source) / "training_split" / "training_fmri").is_dir():
            return "training_split/training_fmri, as Algonauts 2023 has it"
        return "files *_bold.h5, as Algonauts 2025 has them" if any(Path(source).glob("sub-*_bold.h5")) else ""
    if not is_path(source) or kind_of(source) != "hdf5" or not str(source).endswith("_bold.h5"):
        return ""
    try:
        _keys(Path(source))
    except FormatError:
        return ""
    return "HDF5 with arrays named by films, as Algonauts 2025 has them"


adapter = Format("algonauts", _matches, open_algonauts)
