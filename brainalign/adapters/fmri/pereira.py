"""Sentences of Pereira et al. 2018: one MATLAB file a person and experiment, repeats averaged, sentences in passages."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import Format, check_finite, existing, naming, narrowed, record_opening
from brainalign.adapters.matfile import find_fields, is_mat, read_mat
from brainalign.core.errors import FormatError
from brainalign.core.parameters import check_number, preview
from brainalign.core.responses import responses

_FIELDS = ("examples", "keySentences", "labelsPassageForEachSentence", "keyPassages")


def open_pereira(
    path: Any,
    *,
    system: str | None = None,
    experiment: str | None = None,
    n_repeats: int = 3,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open the responses of one person to the sentences of one experiment.

    Parameters
    ----------
    path : str or Path
        ``examples_243sentences.mat`` or ``examples_384sentences.mat``.
    system : str, optional
        Default: the name of the folder, ``P01``.
    experiment : str, optional
        Default: from the name of the file, ``243sentences``.
    n_repeats : int
        Scans of each sentence that the file averages: three in the paper.
    units : str, optional
        The file does not say.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        ``stimulus_id`` is ``<experiment>.<index>``, counted from 0 in the order of the file, as Brain-Score has it; ``sentence``,
        ``passage`` (hold passages out, never sentences: ``ba.split(x, by="passage")``), ``passage_category`` and ``n_repeats``.
        ``neuroid_id`` counts the columns from 0; ``region`` is the area of the AAL atlas ("" outside); ``voxel_i``, ``voxel_j``,
        ``voxel_k`` are the file's coordinates, counted from 0 as well.

    Raises
    ------
    FormatError
        A damaged file, a field that is missing or of another length, an index that points nowhere.
    """
    file = existing(path)
    variables, source = read_mat(file), str(file)
    for field in _FIELDS:
        find_fields(variables, field, source)
    values = np.asarray(variables["examples"])
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise FormatError(
            f"{source!r} has 'examples' of shape {values.shape} and dtype {values.dtype}. Expected (sentence, voxel)."
        )
    sentences = _words(variables["keySentences"])
    which = _indices(variables["labelsPassageForEachSentence"], "labelsPassageForEachSentence", source)
    for field, n in (("keySentences", len(sentences)), ("labelsPassageForEachSentence", len(which))):
        if n != len(values):
            raise FormatError(
                f"{source!r} has {n} entries of {field!r}, and {len(values)} rows of 'examples'. Expected one each."
            )
    passages = _looked_up(which, _words(variables["keyPassages"]), "keyPassages", source)
    rows: dict[str, Any] = {"sentence": sentences, "passage": passages, **_categories(variables, which, source)}
    n_averaged = check_number("n_repeats", n_repeats, owner="open_pereira", low=1, integer=True)
    values = narrowed(values, np.float32, source)
    check_finite(values, source, np.arange(values.shape[1]), allow_nan)
    name = experiment or file.stem.removeprefix("examples_")
    who = system or file.absolute().parent.name  # a link of DataLad leads to a folder of another name
    with naming(repr(file.name)):
        x = responses(
            values, stimulus_id=[f"{name}.{index}" for index in range(len(values))], neuroid_id=np.arange(values.shape[1]), system=who,
            subject=who, modality="fmri", units=units, presentation={**rows, "n_repeats": np.full(len(values), n_averaged)},
            neuroid=_voxels(variables.get("meta"), values.shape[1], source), allow_nan=allow_nan,
        )  # fmt: skip
    params = {"experiment": name, "n_repeats": n_averaged, "index_base": "0 (1 in the file)", "scale": 1.0}
    return record_opening(x, "pereira", [file.name], params)


def _categories(variables: dict[str, Any], which: np.ndarray, source: str) -> dict[str, Any]:
    """Return the category of each sentence's passage, where the file has them."""
    if not {"labelsPassageCategory", "keyPassageCategory"} <= set(variables):
        return {}
    of_passage = _indices(variables["labelsPassageCategory"], "labelsPassageCategory", source)
    names = _words(variables["keyPassageCategory"])
    return {
        "passage_category": _looked_up(
            _looked_up(which, of_passage.tolist(), "labelsPassageCategory", source), names, "keyPassageCategory", source
        )
    }


def _voxels(meta: Any, n: int, source: str) -> dict[str, Any]:
    """Return where each voxel is, and its area in the AAL atlas."""
    if not isinstance(meta, dict):
        return {}
    out: dict[str, Any] = {}
    if "colToCoord" in meta:
        at = np.asarray(meta["colToCoord"])
        if at.shape != (n, 3) or at.dtype.kind not in "iuf" or (at < 1).any():
            raise FormatError(
                f"{source!r} has meta.colToCoord of shape {at.shape} and dtype {at.dtype}. Expected ({n}, 3) coordinates, counted from 1."
            )
        out |= {f"voxel_{axis}": at[:, column].astype(np.int64) - 1 for column, axis in enumerate("ijk")}
    if "roiMultimaskAAL" in meta:
        area = np.asarray(meta["roiMultimaskAAL"]).ravel()
        if len(area) != n:
            raise FormatError(f"{source!r} has {len(area)} entries of meta.roiMultimaskAAL, and {n} voxels. Expected one each.")
        names = _words(meta.get("roisAAL", []))
        if names:
            out["region"] = _looked_up(
                _indices(area, "meta.roiMultimaskAAL", source, low=0), ["", *names], "meta.roisAAL", source, base=0
            )
        else:
            out["aal"] = area.astype(np.int64)
    return out


def _words(cell: Any) -> list[str]:
    """Return the texts of a cell array, whether or not each lies in a cell of its own."""
    if isinstance(cell, str):
        return [cell.strip()]
    return [text for item in cell for text in _words(item)] if isinstance(cell, list) else []


def _indices(values: Any, field: str, source: str, *, low: int = 1) -> np.ndarray:
    """Return indices as they are in the file, checked to be whole numbers from ``low``."""
    numbers = np.asarray(values)
    if (
        numbers.dtype.kind not in "iuf"
        or not np.isfinite(numbers).all()
        or (numbers != np.round(numbers)).any()
        or (numbers < low).any()
    ):
        raise FormatError(
            f"{source!r} has {preview(numbers.ravel())} in {field!r}. Expected whole numbers from {low}, as MATLAB counts."
        )
    return numbers.ravel().astype(np.int64)


def _looked_up(indices: Any, names: list[Any], field: str, source: str, *, base: int = 1) -> list[Any]:
    past = [int(index) for index in indices if index - base >= len(names)]
    if past:
        raise FormatError(
            f"{source!r} points at entries {preview(past)} of {field!r}, which has {len(names)}. Expected them to be there."
        )
    return [names[index - base] for index in indices]


def is_pereira(source: Any) -> bool:
    """Return True for a MATLAB file that has the variables of this data set, by their names alone.

    Parameters
    ----------
    source : object

    Returns
    -------
    bool
    """
    if not is_mat(source):
        return False
    from scipy.io import whosmat

    try:
        return set(_FIELDS) <= {name for name, *_ in whosmat(source)}
    except Exception:  # scipy raises almost anything at damaged files, and at version 7.3
        return False


def _matches(source: Any) -> str:
    return "a MATLAB file with examples and keySentences, as Pereira 2018 has it" if is_pereira(source) else ""


adapter = Format("pereira", _matches, open_pereira)
