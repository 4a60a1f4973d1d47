"""Confounds of fMRIPrep, by the strategies of nilearn, labelled so that ``ba.Clean`` joins them with the volumes."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.bids.entities import ENTITIES, BidsFile, check_entities, find, parse, refuse_absent, refuse_several
from brainalign.adapters.bids.layout import (
    KINDS,
    companions,
    dataset_folder,
    in_order,
    one_session,
    run_names,
    start_s,
    told_apart,
)
from brainalign.adapters.delimited import numeric_columns, read_table
from brainalign.adapters.files import Format, record_opening
from brainalign.adapters.fmri.runs import common_tr, run_rows, stated_tr
from brainalign.adapters.fmri.volumes import header_tr, load_image
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import check_choice, did_you_mean, preview
from brainalign.core.responses import responses

SUFFIXES = ("timeseries", "regressors")  # since and before fMRIPrep 20.2
PRESETS = ("simple", "scrubbing", "compcor", "ica_aroma")
# One column a component that was found in this run: where it is absent, there was none, which a column of zeros says.
_COUNTED = re.compile(r"(cosine|[atcw]_comp_cor_|aroma_motion_|motion_outlier)\d+")
_NON_STEADY = re.compile(r"non_steady_state_outlier_?\d+")


def read_confounds(
    root: str | Path,
    *,
    subject: str | None = None,
    task: str | None = None,
    strategy: str | Sequence[str] = "simple",
    session: str | Sequence[str] | None = None,
    run: str | Sequence[str] | None = None,
    derivatives: str | None = None,
    tr_s: float | None = None,
    override_tr: bool = False,
    first_onset_s: float | None = None,
    **options: Any,
) -> xr.DataArray:
    """Read the confounds of one person and task, all runs, with a row a volume: what ``ba.Clean(confounds=...)`` takes.

    Parameters
    ----------
    root : str or Path
        The derivative, or the raw data set with ``derivatives=``.
    subject, task : str, optional
        May be left out where there is only one.
    strategy : {"simple", "scrubbing", "compcor", "ica_aroma"} or sequence of str
        A preset of ``nilearn.interfaces.fmriprep.load_confounds_strategy``, or the components of ``load_confounds``
        (``"motion"``, ``"high_pass"``, ``"wm_csf"``, ``"global_signal"``, ``"compcor"``, ``"scrub"``). CompCor needs
        ``"high_pass"`` beside it: its components were found after these cosines had been removed.
    session, run : str or sequence of str, optional
        Which of them. Default: all.
    derivatives : str, optional
        Name of the pipeline below ``derivatives/`` of a raw data set.
    tr_s, override_tr, first_onset_s : optional
        As for the recording, from which TR and start are read where its files are there.
    **options
        Of nilearn (``motion="basic"``, ``n_compcor=5``, ``fd_threshold=0.2``), or parts of the file names (``acq="x"``). Means
        are not removed unless ``demean=True``.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        One neuroid a confound, in the order of the file; rows are named as those of the volumes, with ``run``, ``onset_s`` and,
        where known, ``session`` and ``subject``. ``kept`` is False for volumes that the strategy leaves out: before the steady
        state, or scrubbed. Nothing is dropped. The attr ``report`` (JSON) says which columns had no first row (nilearn repeats
        the second), and which are zero in runs that lack them: a component is only there where it was found.

    Raises
    ------
    FormatError
        No such files, a table of another length than its run, missing or NaN values, columns that some runs lack.
    ParameterError
        An unknown strategy or option, or CompCor without the cosines.
    OptionalDependencyError
        nilearn is not installed.

    Notes
    -----
    Clean before rows are left out: filters need every volume.
    """
    folder = dataset_folder(root, derivatives)
    names = {key: value for key, value in options.items() if key in ENTITIES}
    chosen = {key: value for key, value in options.items() if key not in ENTITIES}
    _check_strategy(strategy, chosen)
    wanted = check_entities({"sub": subject, "task": task, "ses": session, "run": run, **names}, owner="read_confounds")
    files = find(folder, {"desc": "confounds", **wanted}, suffix=SUFFIXES, extensions=[".tsv"], what="confounds")
    refuse_several(files, but=("ses", "run"), what="confounds")
    refuse_absent(files)
    files = in_order(files)
    tables = [_columns(file, strategy, chosen) for file in files]
    step, start = _clock(files, tables, tr_s, override_tr, first_onset_s)
    values, absent = _same_columns([file.path.name for file in files], [table.values for table in tables])
    lengths = [len(table.kept) for table in tables]
    ids, rows = run_rows(
        run_names(files), lengths, step, start, {"subject": files[0].entities["sub"], "session": one_session(files)}
    )
    x = responses(
        values.to_numpy(np.float32), stimulus_id=ids, neuroid_id=list(values.columns), modality="fmri",
        presentation={**rows, "kept": np.concatenate([table.kept for table in tables])}, system=f"sub-{files[0].entities['sub']}",
    )  # fmt: skip
    x = told_apart(x, files)
    filled = {file.path.name: table.filled for file, table in zip(files, tables, strict=True) if table.filled}
    x.attrs["report"] = json.dumps({"first_row_repeated": filled, "zero_where_absent": absent})
    params = {
        "strategy": strategy if isinstance(strategy, str) else list(strategy),
        **chosen,
        "tr_s": step,
        "first_onset_s": start,
        "index_base": 0,
        "scale": 1.0,
    }
    return record_opening(x, "confounds", [file.path.name for file in files], params)


def non_steady_state(file: BidsFile, n_volumes: int) -> np.ndarray[Any, Any] | None:
    """Return which volumes of a recording came before the steady state, as its table of confounds says.

    Parameters
    ----------
    file : BidsFile
    n_volumes : int
        Of the run.

    Returns
    -------
    ndarray of bool, (volume,), or None
        None where there is no such table.

    Raises
    ------
    FormatError
        A table of another length than the run, or two tables.
    """
    found = companions(file, SUFFIXES, [".tsv"], desc="confounds")
    if not found:
        return None
    if len(found) > 1:
        raise FormatError(
            f"{str(found[0])!r} and {found[1].name!r} are confounds of one run. Expected one table: remove the other."
        )
    table = read_table(found[0], header=True, delimiter="\t")
    _check_rows(found[0], len(table), file.path, n_volumes)
    columns = [name for name in table.columns if _NON_STEADY.fullmatch(name)]
    return np.asarray((numeric_columns(table, columns, str(found[0])) > 0).any(axis=1))


@dataclass(frozen=True)
class _Table:
    """Confounds of one run."""

    values: pd.DataFrame
    kept: np.ndarray[Any, Any]
    filled: list[str]


def _check_strategy(strategy: str | Sequence[str], options: Mapping[str, Any]) -> None:
    nilearn = require("nilearn.interfaces.fmriprep", extra="fmri", purpose="reading confounds")
    known = [name for name in inspect.signature(nilearn.load_confounds).parameters if name not in ("img_files", "strategy")]
    for name in options:
        if name not in known:
            raise ParameterError(
                f"read_confounds got an unknown option {name!r}.{did_you_mean(name, [*known, *ENTITIES])} Expected one of {', '.join(known)}, or a "
                "key of BIDS names."
            )
    if isinstance(strategy, str):
        check_choice("strategy", strategy, PRESETS, owner="read_confounds")
    elif "compcor" in strategy and "high_pass" not in strategy:
        raise ParameterError(
            f"read_confounds got strategy={list(strategy)!r}. Expected 'high_pass' beside 'compcor': fMRIPrep finds these components after it has "
            "removed the cosines, and without them slow drifts come back."
        )


def _columns(file: BidsFile, strategy: str | Sequence[str], options: Mapping[str, Any]) -> _Table:
    nilearn = require("nilearn.interfaces.fmriprep", extra="fmri", purpose="reading confounds")
    raw = read_table(file.path, header=True, delimiter="\t")
    desc, aroma = "preproc", "ica_aroma" in ([strategy] if isinstance(strategy, str) else strategy)
    if aroma and options.get("ica_aroma", "full") == "full":
        desc = "smoothAROMAnonaggr"
    # nilearn starts from the name of an image, which need not be there
    image = file.path.with_name(file.path.name.replace(f"_desc-confounds_{file.suffix}.tsv", f"_desc-{desc}_bold.nii.gz"))
    load = nilearn.load_confounds_strategy if isinstance(strategy, str) else nilearn.load_confounds
    said = f"the strategy {strategy!r}{''.join(f', {name}={value!r}' for name, value in options.items())}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an option that would not be heeded
            warnings.simplefilter("ignore", RuntimeWarning)  # all volumes scrubbed: see below
            table, sample = load(str(image), strategy, **{"demean": False, **options})
    except UserWarning as error:
        raise ParameterError(f"read_confounds got {said}, and nilearn warns: {error}. Expected options that it heeds.") from error
    except Exception as error:  # nilearn raises almost anything
        raise FormatError(
            f"{str(file.path)!r} does not give {said} ({type(error).__name__}: {' '.join(str(error).split())[:300]}). Expected the columns that "
            "it needs, and the json beside the table for CompCor: choose another strategy, or look at the table."
        ) from error
    table = table[[name for name in raw.columns if name in set(table.columns)]]  # nilearn's own order is that of a set
    kept = np.ones(len(raw), dtype=bool) if sample is None else np.isin(np.arange(len(raw)), sample)
    if not kept.any():
        raise ParameterError(f"{said} leaves 0 of {len(raw)} volumes of {file.path.name!r}. Expected some: raise its thresholds.")
    missing = np.argwhere(~np.isfinite(table.to_numpy(np.float64)))
    if missing.size or table.shape[1] == 0:
        row, column = missing[0] if missing.size else (0, None)
        raise FormatError(
            f"{str(file.path)!r} gives {table.shape[1]} columns for the strategy {strategy!r}"
            f"{f', and no value in row {row} of {table.columns[column]!r}' if column is not None else ''}. Expected finite numbers (only the first "
            "row of a derivative may be n/a): mend the table, or choose another strategy."
        )
    first = numeric_columns(raw.iloc[:1], list(table.columns), str(file.path))[0]
    return _Table(table, kept, [name for name, value in zip(table.columns, first, strict=True) if np.isnan(value)])


def _same_columns(names: Sequence[str], tables: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Return the rows of all runs, and which columns were absent where; only counted components may be."""
    every = list(dict.fromkeys(column for table in tables for column in table.columns))
    lacking = {column: [name for name, table in zip(names, tables, strict=True) if column not in table] for column in every}
    lacking = {column: files for column, files in lacking.items() if files}
    wrong = [column for column in lacking if not _COUNTED.fullmatch(column)]
    if wrong:
        raise FormatError(
            f"confounds {preview(wrong)} are not in all runs: {preview(lacking[wrong[0]])} lack {wrong[0]!r}. Expected the same columns in all: "
            "choose a strategy without them, or open the runs one by one."
        )
    order = [column for column in every if not _COUNTED.fullmatch(column)] + sorted(c for c in every if _COUNTED.fullmatch(c))
    return pd.concat(tables, ignore_index=True).reindex(columns=order).fillna(0.0), lacking


def _clock(
    files: Sequence[BidsFile], tables: Sequence[_Table], tr_s: float | None, override: bool, first_onset_s: float | None
) -> tuple[float, float]:
    """Return TR and start of the recording that the confounds come from."""
    steps, images = [], []
    for file, table in zip(files, tables, strict=True):
        image = _recording(file)
        images.append(image or file)
        stated, header = None, "no recording beside it"
        if image is not None and KINDS[image.extension] == "nifti":
            loaded = load_image(image.path, n_dims=4)
            stated, header = header_tr(loaded)
            _check_rows(file.path, len(table.kept), image.path, loaded.shape[3])
        said = stated_tr((image or file).path, tr_s, override, header_s=stated, header=header, owner="read_confounds")
        steps.append(float(said or 0.0))
    return common_tr([file.path for file in images], steps), start_s(images, first_onset_s, owner="read_confounds")


def _recording(file: BidsFile) -> BidsFile | None:
    """Return a bold file beside a table of confounds that belongs to it; volumes first."""
    mine = {key: value for key, value in file.entities.items() if key != "desc"}.items()
    beside = [parse(path) for path in sorted(file.path.parent.glob("*_bold.*")) if path.is_file()]
    beside = [found for found in beside if found.extension in KINDS and mine <= found.entities.items()]
    return min(beside, key=lambda found: (KINDS[found.extension] != "nifti", found.path.name)) if beside else None


def _check_rows(table: Path, n_rows: int, image: Path, n_volumes: int) -> None:
    if n_rows != n_volumes:
        raise FormatError(
            f"{str(table)!r} has {n_rows} rows and {image.name!r} {n_volumes} volumes. Expected a row a volume: one of them is not whole, or of "
            "another run."
        )


def _matches(source: Any) -> str:
    """Never by content: the recording is what a folder is opened for."""
    return ""


adapter = Format("confounds", _matches, read_confounds)
