"""Opening recordings of any format, and saving them: the door between files and labelled arrays."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.store.filling import MAX_MEMORY
from brainalign.adapters.store.responses import open_tree, save_dataset, save_responses
from brainalign.adapters.store.study import is_study
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_options, missing_options
from brainalign.core.provenance import provenance, write_step
from brainalign.core.registry import Registry
from brainalign.core.schema import validate
from brainalign.core.tables import CONTENT, KINDS, validate_stimuli

_log = logging.getLogger("brainalign")

FORMATS = Registry(
    "brainalign.adapters",
    {
        "store": "brainalign.adapters.store.responses:adapter",
        "nifti": "brainalign.adapters.fmri.nifti:adapter",
        "bids": "brainalign.adapters.bids.recordings:adapter",
        "confounds": "brainalign.adapters.bids.confounds:adapter",
        "gifti": "brainalign.adapters.fmri.gifti:adapter",
        "cifti": "brainalign.adapters.fmri.cifti:adapter",
        "timecourses": "brainalign.adapters.fmri.timecourses:adapter",
        "arrays": "brainalign.adapters.arrays:adapter",
        "brainscore": "brainalign.adapters.brainscore:adapter",
        "tuckute": "brainalign.adapters.fmri.tuckute:adapter",
        "pereira": "brainalign.adapters.fmri.pereira:adapter",
        "lebel": "brainalign.adapters.fmri.lebel:adapter",
        "algonauts": "brainalign.adapters.fmri.algonauts:adapter",
        "features": "brainalign.adapters.networks.features:adapter",
        "meeg": "brainalign.adapters.meeg.recordings:adapter",
        "source-estimates": "brainalign.adapters.meeg.sources:adapter",
        "things-meg": "brainalign.adapters.meeg.things_meg:adapter",
        "things-eeg2": "brainalign.adapters.meeg.things_eeg2:adapter",
        "spikes": "brainalign.adapters.spikes.trains:adapter",
        "matlab": "brainalign.adapters.matlab:adapter",
        "bold5000": "brainalign.adapters.fmri.bold5000:adapter",
        "things-fmri": "brainalign.adapters.fmri.things_fmri:adapter",
        "glmsingle": "brainalign.adapters.fmri.glmsingle:adapter",
        "alf": "brainalign.adapters.spikes.alf:adapter",
        "suite2p": "brainalign.adapters.spikes.suite2p:adapter",
        "nsd": "brainalign.adapters.fmri.nsd:adapter",
        "nwb": "brainalign.adapters.spikes.nwb:adapter",
        "rsatoolbox": "brainalign.adapters.rsatoolbox:adapter",
    },
)


#: How an option looks, for messages that end in a call to start from.
_EXAMPLES = {
    "system": "'sub-01'", "subject": "'sub-01'", "tr_s": "2.0", "modality": "'fmri'", "units": "'V'", "stimulus_id": "'ids.txt'",
    "values": "'responses'", "dims": "('presentation', 'neuroid')", "time_unit": "'s'", "edges_s": "[0.0, 0.05, 0.1]",
    "stimulus_column": "'stim_file'", "events": "'events.tsv'", "mask": "'mask.nii.gz'", "task": "'rest'",
}  # fmt: skip


def open_responses(path_or_object: Any, *, format: str | None = None, **options: Any) -> xr.DataArray:
    """Open a recording, of a brain or of a network.

    Parameters
    ----------
    path_or_object : path or object
        A study store, a file of any known format, or an object of another package (MNE ``Epochs``, ``Evoked``,
        rsatoolbox ``Dataset``).
    format : str, optional
        ``"alf"``, ``"algonauts"``, ``"arrays"``, ``"bids"``, ``"bold5000"``, ``"brainscore"``, ``"cifti"``,
        ``"confounds"``, ``"features"``, ``"gifti"``, ``"glmsingle"``, ``"lebel"``, ``"matlab"``, ``"meeg"``,
        ``"nifti"``, ``"nsd"``, ``"nwb"``, ``"pereira"``, ``"rsatoolbox"``, ``"source-estimates"``, ``"spikes"``, ``"store"``,
        ``"suite2p"``, ``"things-eeg2"``, ``"things-fmri"``, ``"things-meg"``, ``"timecourses"``, ``"tuckute"``,
        or one that an installed package adds under the entry-point group ``brainalign.adapters``. By default the
        content decides; the log ("brainalign", at INFO) says for which reason, and so does the provenance
        (``because``).
    **options
        Of the format, e.g. ``name="sub-01"`` for a store of several responses.

    Returns
    -------
    DataArray, (presentation, neuroid[, time])
        Lazy from a store. Its provenance names the format; what a store holds comes back as it was saved.

    Raises
    ------
    FormatError
        There is no such file, no format fits, or several do; these are listed, each with its reason.
    ParameterError
        The format has no such option, or needs one that is missing: the message ends in a call to start from.
    UnknownNameError
        No format of this name.
    StoreError
        A store that is damaged, or holds no such responses.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> x = ba.responses([[1.0, 2.0]], stimulus_id=["a"], neuroid_id=[0, 1], modality="ann", system="net")
    >>> study = tempfile.mkdtemp() + "/study.zarr"
    >>> ba.save(x, study)
    >>> ba.open_responses(study).identical(x)
    True
    """
    if isinstance(path_or_object, (str, os.PathLike)) and not os.path.exists(path_or_object):  # never raises, whatever the text
        raise FormatError(f"{os.fspath(path_or_object)} does not exist. Expected a file or folder: look at the path.")
    source = _absolute(path_or_object)
    chosen, because = find_format(source) if format is None else (format, "`format=` says so")
    reader = FORMATS.get(chosen).open
    _log.info("%s is opened as %r: %s", _shown(path_or_object), chosen, because)
    missing = missing_options(reader, options)
    # a misspelt option is named before the one that it leaves missing
    check_options(reader, {**options, **dict.fromkeys(missing)}, owner=f"open_responses of format {chosen!r}")
    _refuse_missing(path_or_object, chosen, because, missing, options)
    x = reader(source, **options)
    if chosen == "store":
        return x
    params = {"path": _shown(path_or_object), "format": chosen, "because": because, **options}
    return write_step(x, "open_responses", params=params, inputs={"opened": x})


def find_format(path_or_object: Any) -> tuple[str, str]:
    """Return the one format whose adapter recognises the content, and its reason.

    Parameters
    ----------
    path_or_object : path or object
        As for :func:`open_responses`.

    Returns
    -------
    tuple of (str, str)
        Name of the format, and why it was chosen.

    Raises
    ------
    FormatError
        No format fits, or several do.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> file = tempfile.mkdtemp() + "/x.npy"
    >>> np.save(file, np.zeros((2, 3)))
    >>> find_format(file)
    ('arrays', 'it starts as files of numpy do')
    """
    fits, unasked = {}, []
    for name in FORMATS.names():
        try:
            reason = FORMATS.get(name).matches(path_or_object)
        except ImportError as error:  # an optional package is not installed: the other formats are still asked
            unasked.append(f"{name} ({error})")
            continue
        if reason:
            fits[name] = reason if isinstance(reason, str) else "its adapter recognises the content"
    if len(fits) == 1:
        return next(iter(fits.items()))
    what, known = _shown(path_or_object), ", ".join(repr(name) for name in FORMATS.names())
    if fits:
        options = "; ".join(f"{name!r}, since {reason}" for name, reason in fits.items())
        raise FormatError(f"{what} fits {len(fits)} formats: {options}. Expected one: choose with `format=`.")
    missing = f" Not asked: {'; '.join(unasked)}" if unasked else ""
    raise FormatError(
        f"{what} fits none of the formats {known}. Expected one of them: pass `format=` where you know it, or build the array with "
        f"`ba.responses`.{_what_else(path_or_object)}{missing}"
    )


def _what_else(source: Any) -> str:
    """Say what is often meant by a path that fits no format."""
    if not isinstance(source, Path):
        return ""
    if source.is_dir():
        return (
            " Of a folder that is no data set of a known layout, give the files: `sorted(Path(folder).rglob('*_bold.nii.gz'))`."
        )
    if source.suffix in (".csv", ".tsv"):
        return " A table that names its stimuli in another column opens with `format='arrays', stimulus_column=...`."
    return ""


def open_rdms(path_or_object: Any, *, stimulus_id: Any = None, **options: Any) -> xr.DataArray:
    """Open dissimilarity matrices from a ``.mat`` or ``.npz`` file, from a study, or from an rsatoolbox ``RDMs`` stack.

    Parameters
    ----------
    path_or_object : path or rsatoolbox.rdm.RDMs
        A study holds what ``ba.save`` or ``ba.rdm(store=...)`` put into its results.
    stimulus_id : sequence of str, or str, optional
        Names of the conditions in the order of rows; or the text file, the array in the file or the descriptor that holds them.
    **options
        ``key=`` names the variable in a file, or the result in a study, that holds several; see
        :func:`brainalign.adapters.rdms.open_rdms` and :func:`brainalign.adapters.rsatoolbox.open_rdms`.

    Returns
    -------
    DataArray, ([rdm,] stimulus, stimulus_2)
        Lazy from a study.

    Raises
    ------
    FormatError
        The file holds no such matrices.
    ParameterError
        There is no such option.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, tempfile
    >>> file = tempfile.mkdtemp() + "/rdms.npz"
    >>> np.savez(file, it=np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> ba.open_rdms(file, key="it", stimulus_id=["cat", "dog"]).sizes["stimulus_2"]
    2
    """
    from brainalign.adapters import rdms, rsatoolbox
    from brainalign.adapters.store import matrices

    of_files = matrices if is_study(path_or_object) else rdms
    read = rsatoolbox.open_rdms if rsatoolbox.is_of(path_or_object, "rdm") else of_files.open_rdms
    check_options(read, options, owner="open_rdms")
    return read(path_or_object, stimulus_id=stimulus_id, **options)


def open_study(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open a whole study lazily.

    Parameters
    ----------
    path : path
        What :func:`save` and :func:`record` write to.

    Returns
    -------
    DataTree
        ``/stimuli/<name>``, ``/responses/<system>`` (a Dataset of the one variable ``responses``) and ``/results/<name>``, whose numbers
        ``.load()`` reads.

    Raises
    ------
    StoreError
        It is no study, or a part of it is missing, truncated or of a newer version.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> x = ba.responses([[1.0, 2.0]], stimulus_id=["a"], neuroid_id=[0, 1], modality="ann", system="net")
    >>> study = tempfile.mkdtemp() + "/study.zarr"
    >>> ba.save(x, study)
    >>> ba.open_study(study)["responses/net"].responses.shape
    (1, 2)
    """
    return open_tree(path)


def save(
    x: xr.DataArray | xr.Dataset,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    overwrite: bool = False,
    format: str | None = None,
    max_memory: int = MAX_MEMORY,
    progress: bool | None = None,
) -> None:
    """Save responses, stimuli or a result into a study, which is made where there is none; or responses as a file.

    Parameters
    ----------
    x : DataArray or Dataset
        Responses go to ``responses/<name>``, a stimulus table to ``stimuli/<name>``, anything else (scores, RDMs,
        attributions) to ``results/<name>``. It becomes visible only when it is whole.
    path : path
        The folder of the study.
    name : str, optional
        By default the one ``system`` of responses, the ``kind`` of stimuli, or the verb that made a result.
    overwrite : bool
        Replace what has this name.
    format : {"brainscore"}, optional
        Write one file for other packages instead; ``open_responses`` reads it back.
    max_memory : int
        Bytes that saving lazy responses may take, however they are chunked. Where the bound allows, each chunk of the source
        is read once; otherwise as few times as can be.
    progress : bool or None
        Show a progress bar while responses are saved. None: on a terminal or in a notebook, once it takes more than five seconds.

    Raises
    ------
    ParameterError
        There is no default name, it is not responses that are to be a file, or ``max_memory`` does not hold one chunk of the store.
    SchemaError
        It is not valid; nothing is written.
    StoreError
        The name is taken, another process is writing it, or the path holds something else.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> x = ba.responses([[1.0, 2.0]], stimulus_id=["a"], neuroid_id=[0, 1], modality="ann", system="net")
    >>> study = tempfile.mkdtemp() + "/study.zarr"
    >>> ba.save(x, study)
    >>> ba.save(x, study, name="again")
    >>> sorted(ba.open_study(study)["responses"])
    ['again', 'net']
    """
    if not isinstance(x, (xr.DataArray, xr.Dataset)):
        raise ParameterError(f"The 'x' parameter of save must be a DataArray or Dataset. Got {type(x).__name__} instead.")
    if format not in (None, "store"):
        _save_file(x, path, name, overwrite, format)
    elif (
        isinstance(x, xr.DataArray) and "presentation" in x.dims and "node" not in x.dims and "completeness_error" not in x.coords
    ):
        validate(x)
        save_responses(
            x, path, name=_system(x) if name is None else name, overwrite=overwrite, max_memory=max_memory, progress=progress
        )
    elif isinstance(x, xr.Dataset) and _is_stimuli(x):
        validate_stimuli(x)
        save_dataset(x, path, section="stimuli", name=x.attrs["kind"] if name is None else name, overwrite=overwrite)
    else:
        result = x if isinstance(x, xr.Dataset) else x.to_dataset(name="values" if x.name is None else x.name)
        save_dataset(result, path, section="results", name=_verb(x) if name is None else name, overwrite=overwrite)


def _refuse_missing(source: Any, chosen: str, because: str, missing: list[str], options: dict[str, Any]) -> None:
    """Name the format, why it was chosen, and what it needs, with a call to start from."""
    if not missing:
        return
    given = {**{name: repr(value) for name, value in options.items()}, **{name: _EXAMPLES.get(name, "...") for name in missing}}
    opened = "files" if isinstance(source, (list, tuple)) else repr(_shown(source))
    call = ", ".join([opened, *(f"{name}={text}" for name, text in given.items())])
    raise ParameterError(
        f"{_shown(source)} is opened as {chosen!r}: {because}. This format needs {', '.join(f'`{name}=`' for name in missing)}, got "
        f"{', '.join(options) or 'no options'}. Expected a call like `ba.open_responses({call})`, with your own values; another format is "
        "chosen with `format=`."
    )


def _absolute(source: Any) -> Any:
    """Return paths that still lead there when lazy values are read from another working folder."""
    if isinstance(source, (list, tuple)):
        return [_absolute(item) for item in source]
    return Path(source).absolute() if isinstance(source, (str, os.PathLike)) else source


def _shown(source: Any) -> str:
    """Return a path as text, and the name of the type of anything else."""
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    named = os.fspath(first) if isinstance(first, (str, os.PathLike)) else type(first).__name__
    return named if first is source or len(source) == 1 else f"{named} and {len(source) - 1} more"


def _save_file(
    x: xr.DataArray | xr.Dataset, path: str | os.PathLike[str], name: str | None, overwrite: bool, format: str
) -> None:
    writer = getattr(FORMATS.get(format), "save", None)
    if writer is None:
        able = [known for known in FORMATS.names() if getattr(FORMATS.get(known), "save", None)]
        raise ParameterError(
            f"The 'format' parameter of save must be one of {', '.join(map(repr, able))}. Got {format!r} instead."
        )
    if isinstance(x, xr.Dataset) or name is not None:
        raise ParameterError(
            f"save got {type(x).__name__} and name={name!r} for one file of format {format!r}. Expected responses, and no name."
        )
    writer(x, path, overwrite=overwrite)


def _system(x: xr.DataArray) -> str:
    found = np.unique(x.coords["system"].values.astype(object)) if "system" in x.coords else []
    if len(found) != 1:
        raise ParameterError(
            f"The 'name' parameter of save must be given for responses of {len(found)} systems. Got None instead."
        )
    return str(found[0])


def _is_stimuli(x: xr.Dataset) -> bool:
    return x.attrs.get("kind") in KINDS or ("stimulus_id" in x.coords and any(name in x.data_vars for name in CONTENT))


def _verb(x: xr.DataArray | xr.Dataset) -> str:
    steps = provenance(x, verify=False).steps
    if not steps:
        raise ParameterError("The 'name' parameter of save must be given for a result without provenance. Got None instead.")
    return str(steps[-1]["verb"])
