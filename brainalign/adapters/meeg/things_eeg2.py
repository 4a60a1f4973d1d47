"""THINGS-EEG2 as it is published: pickled dicts of preprocessed trials by image and repeat, and a table of image names."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import Format, check_finite, existing, is_path, naming, narrowed, reading, record_opening
from brainalign.adapters.meeg.things_meg import concept_of
from brainalign.adapters.pickled import is_pickled, read_pickled
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice
from brainalign.core.responses import responses

_KEY = "preprocessed_eeg_data"
_NAMES = {"training": ("train_img_files", "train_img_concepts"), "test": ("test_img_files", "test_img_concepts")}
_UNITS = "baseline-corrected, multivariate noise normalised"


def open_things_eeg2(
    path: Any,
    *,
    system: str,
    image_metadata: Any = None,
    partition: str | None = None,
    unpickle: bool = False,
    subject: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open one person and partition of THINGS-EEG2.

    Parameters
    ----------
    path : str or Path
        ``preprocessed_eeg_training.npy`` or ``preprocessed_eeg_test.npy``.
    system : str
        Whose recording this is.
    image_metadata : str or Path, optional
        ``image_metadata.npy`` of the image set, which names the images. Default: the one beside ``path``.
    partition : {"training", "test"}, optional
        Whose images these are. Default: the one of which there are as many.
    unpickle : bool
        Both files are pickles, which can run code when they are loaded. True reads them with a reader that rebuilds arrays, text, dicts and
        lists only, and refuses anything else by name.
    subject : str, optional
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid, time)
        In memory. One row an image and repeat, images in the order of the file: ``stimulus_id`` is the image without its suffix
        (``aardvark_01b``), ``condition`` its concept (``aardvark``), ``concept`` as the metadata write it (``00001_aardvark``), ``image_index`` its place
        (from 0). Repeats are in the order of the file, which the authors shuffled
        over sessions; the session is lost. Neuroids are electrodes without positions; time in seconds from image onset.

    Raises
    ------
    ParameterError
        ``unpickle`` is not True, or no image names were given.
    FormatError
        Damaged files, other contents, or another number of images than names.
    """
    file = existing(path)
    held = _dict(read_pickled(file, unpickle=unpickle), (_KEY, "ch_names", "times"), file)
    with reading(file, "THINGS-EEG2"):
        channels, times = [str(name) for name in held["ch_names"]], np.asarray(held["times"], dtype=np.float64).ravel()
        values = np.asarray(held[_KEY])
    if values.ndim != 4 or values.dtype.kind not in "fiu" or values.shape[2:] != (len(channels), times.size):
        raise FormatError(
            f"{str(file)!r} holds {_KEY} of shape {values.shape} and dtype {values.dtype}, {len(channels)} channels and {times.size} times. Expected "
            "numbers, (image, repeat, channel, time)."
        )
    table = _metadata(file, image_metadata)
    with reading(table, "image names"):
        names, concepts, partition = _images(read_pickled(table, unpickle=unpickle), table, len(values), partition)
    n_images, n_repeats = values.shape[:2]
    of_images = {"image_index": range(n_images), "condition": [concept_of(name) for name in names], "concept": concepts}
    rows = {name: np.repeat(list(labels), n_repeats) for name, labels in of_images.items()}
    flat = np.ascontiguousarray(narrowed(values.reshape(n_images * n_repeats, *values.shape[2:]), np.float32, str(file)))
    check_finite(flat, str(file), channels, allow_nan)
    with naming(repr(file.name)):
        x = responses(
            flat, stimulus_id=[name for name in names for _ in range(n_repeats)], neuroid_id=channels, time=times,
            presentation=rows, neuroid={"channel": channels}, modality="eeg", system=system, units=_UNITS, subject=subject,
            allow_nan=allow_nan,
        )  # fmt: skip
    record = {
        "partition": partition,
        "index_base": 0,
        "scale": 1.0,
        "unpickle": True,
        "session": "lost: repeats are shuffled over sessions",
    }
    return record_opening(x, "things-eeg2", [file.name, table.name], record)


def _dict(held: Any, keys: tuple[str, ...], file: Path) -> dict[str, Any]:
    missing = [key for key in keys if not isinstance(held, dict) or key not in held]
    if missing:
        what = f"a dict of {sorted(map(str, held))[:12]}" if isinstance(held, dict) else f"a {type(held).__name__}"
        raise FormatError(f"{str(file)!r} holds {what}. Expected THINGS-EEG2's dict with {missing[0]!r}.")
    return dict(held)


def _metadata(file: Path, given: Any) -> Path:
    if given is not None:
        return existing(given)
    beside = file.with_name("image_metadata.npy")
    if not beside.is_file():
        raise ParameterError(
            f"open_things_eeg2 got no image_metadata= and there is no {str(beside)!r}. Expected the file of the image set that names the images: "
            "positions are no names."
        )
    return beside


def _images(held: Any, file: Path, n_images: int, partition: str | None) -> tuple[list[str], list[str], str]:
    """Return the names and concepts of a partition's images, and which it is."""
    table = _dict(held, tuple(key for keys in _NAMES.values() for key in keys), file)
    counts = {name: len(table[files]) for name, (files, _) in _NAMES.items()}
    fits = [name for name, count in counts.items() if count == n_images]
    if partition is not None:
        check_choice("partition", partition, tuple(_NAMES), owner="open_things_eeg2")
        fits = [name for name in fits if name == partition]
    if len(fits) != 1:
        raise FormatError(
            f"the recording has {n_images} images and {str(file)!r} names {counts['training']} for training and {counts['test']} for test "
            f"(partition={partition!r}). Expected one of them to fit: pass the image_metadata.npy of this data set, or `partition=`."
        )
    names, concepts = ([str(item) for item in table[key]] for key in _NAMES[fits[0]])
    if len(concepts) != len(names) or len(set(names)) != len(names):
        raise FormatError(
            f"{str(file)!r} has {len(names)} image names, {len(set(names))} of them different, and {len(concepts)} concepts. Expected one of each an image."
        )
    return [PurePosixPath(name).stem for name in names], concepts, fits[0]


def is_things_eeg2(source: Any) -> bool:
    """Return True for a pickled dict with THINGS-EEG2's key near its start; nothing is loaded.

    Parameters
    ----------
    source : object

    Returns
    -------
    bool
    """
    if not is_path(source) or not is_pickled(Path(source)):
        return False
    with Path(source).open("rb") as file:
        return _KEY.encode() in file.read(4096)


def _matches(source: Any) -> str:
    return f"a pickled dict with {_KEY!r}: THINGS-EEG2" if is_things_eeg2(source) else ""


adapter = Format("things-eeg2", _matches, open_things_eeg2)
