"""Files named as ALF says: ``object.attribute.ext`` in collections and revisions, found, chosen and read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.delimited import MISSING, read_table
from brainalign.adapters.files import existing, reading
from brainalign.adapters.lazy import open_npy
from brainalign.core.errors import FormatError, OptionalDependencyError
from brainalign.core.parameters import did_you_mean, preview

# As `one.alf.spec` has it: _namespace_object.attribute[_times|_intervals][_timescale][.extra parts].extension
_NAME = re.compile(
    r"(?:_(?P<namespace>[a-zA-Z0-9]+)_)?(?P<object>[a-zA-Z0-9]\w*)\.(?P<attribute>(?:_[a-z]+_)?[a-zA-Z0-9]+(?:_times(?=[_.])|_intervals(?=[_.]))?)"
    r"(?P<timescale>(?:_\w+)?)(?P<extra>(?:\.[\w-]+)*)\.(?P<extension>npy|tsv|csv|pqt)"
)
_REVISION = re.compile(r"#([\w.-]+)#")
_DEPTH = 4


@dataclass(frozen=True)
class Dataset:
    """One file of a collection.

    Attributes
    ----------
    object, attribute : str
        ``"spikes"``, ``"times"``; without the namespace of the object (``_ibl_trials``).
    path : Path
    revision : str
        Empty for files that lie in the collection itself.
    timescale : str
        Empty on the clock that the session shares.
    """

    object: str
    attribute: str
    path: Path
    revision: str
    timescale: str


def parse(path: Path) -> Dataset | None:
    """Return what a file name says, or None where it is no name of ALF.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Dataset or None

    Examples
    --------
    >>> found = parse(Path("_ibl_trials.stimOn_times.2622b17c-9408-4910-99cb-abf16d9225b9.npy"))
    >>> found.object, found.attribute, found.timescale
    ('trials', 'stimOn_times', '')
    >>> parse(Path("spikes.times_ephysClock.npy")).timescale
    'ephysClock'
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    attribute, suffix = match["attribute"].lstrip("_"), match["timescale"]
    if not attribute.endswith(
        ("times", "intervals", "timestamps")
    ):  # only times have a clock; visualStim_contrastLeft is one name
        attribute, suffix = attribute + suffix, ""
    revision = _REVISION.fullmatch(path.parent.name)
    return Dataset(match["object"], attribute, path, revision[1] if revision else "", suffix.removeprefix("_"))


def collections(root: Path) -> dict[Path, dict[tuple[str, str], Dataset]]:
    """Return the files of a session by collection, object and attribute; of several revisions the newest.

    Parameters
    ----------
    root : Path
        The session, its ``alf`` folder, or a folder of flat files.

    Returns
    -------
    dict of Path to dict
        A revision ``#2024-05-06#`` belongs to the collection that holds it; revisions are in the order of their names, as in
        ONE, and come after files without one. Files on another clock are left out.

    Raises
    ------
    FormatError
        Two files of one name in one revision: which of them holds is not known.
    """
    found: dict[Path, dict[tuple[str, str], Dataset]] = {}
    for file in sorted(_below(root, _DEPTH)):
        dataset = parse(file)
        if dataset is None or dataset.timescale:
            continue
        folder = file.parent.parent if dataset.revision else file.parent
        known = found.setdefault(folder, {})
        key = (dataset.object, dataset.attribute)
        if key in known and known[key].revision == dataset.revision:
            raise FormatError(
                f"{str(file.parent)!r} holds {known[key].path.name!r} and {file.name!r}, two files of {'.'.join(key)}. Expected one: remove the other."
            )
        if key not in known or dataset.revision > known[key].revision:
            known[key] = dataset
    return found


def _below(folder: Path, depth: int) -> list[Path]:
    try:
        items = [item for item in folder.iterdir() if not item.name.startswith(".")]
    except OSError as error:
        raise FormatError(f"the folder {str(folder)!r} could not be listed ({error}). Expected a session.") from error
    files = [item for item in items if item.is_file()]
    inner = [item for item in items if item.is_dir() and not item.is_symlink()] if depth else []
    return files + [file for item in inner for file in _below(item, depth - 1)]


def values(dataset: Dataset) -> Any:
    """Read one file.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    ndarray, (row,) or (row, ...), or DataFrame of a table

    Raises
    ------
    FormatError
        Damaged, or pickled objects.
    OptionalDependencyError
        A parquet table, and pyarrow is not installed.
    """
    file = existing(dataset.path)
    if file.suffix == ".npy":
        lazy = open_npy(file)  # looks at the header before anything is allocated
        if lazy.dtype.kind in "US":
            with reading(file, "numpy"):
                array = np.load(file, allow_pickle=False)
        else:
            array = lazy.compute()
        return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if file.suffix in (".tsv", ".csv"):
        table = read_table(file, header=True)
        return table.apply(_as_numbers)
    return _parquet(file)


def _parquet(file: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise OptionalDependencyError(
            f"reading {file.name!r} needs pyarrow, which could not be imported ({error}). Install it with `pip install pyarrow`, or export the "
            "table as one npy file a column."
        ) from error
    with reading(file, "parquet"):
        return parquet.read_table(file).to_pandas()


def columns(known: dict[tuple[str, str], Dataset], name: str, *, skip: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return what is known of each row of an object: one value a row and attribute.

    Parameters
    ----------
    known : dict
        Of one collection.
    name : str
        The object: ``"trials"``.
    skip : sequence of str
        Attributes that are not read.

    Returns
    -------
    dict of str to ndarray, (row,)
        The columns of tables go by their own names; two columns of an interval are ``intervals_0`` and ``intervals_1``; arrays
        with more values a row (waveforms) are left out.

    Raises
    ------
    FormatError
        Files of different length.
    """
    out: dict[str, np.ndarray] = {}
    first = None
    for (object_, attribute), dataset in known.items():
        if object_ != name or attribute in skip or _is_wide(dataset):
            continue
        found = values(dataset)
        if isinstance(found, pd.DataFrame):
            new = {str(column): found[column].to_numpy() for column in found}
        elif found.ndim == 2 and found.shape[1] == 2:
            new = {f"{attribute}_0": found[:, 0], f"{attribute}_1": found[:, 1]}
        else:
            new = {attribute: found}
        for key, column in new.items():
            first = (dataset.path.name, len(column)) if first is None else first
            if len(column) != first[1]:
                raise FormatError(
                    f"{dataset.path.name!r} has {len(column)} rows and {first[0]!r} {first[1]}. Expected one row a {name.removesuffix('s')} in both: "
                    "they are of different sessions or revisions."
                )
            out[key] = column
    return out


def _is_wide(dataset: Dataset) -> bool:
    """Say whether an array has more than two values a row; waveforms are large and label nothing."""
    if dataset.path.suffix != ".npy":
        return False
    shape = open_npy(dataset.path).shape
    return len(shape) != 1 and not (len(shape) == 2 and shape[1] in (1, 2))


def require(known: dict[tuple[str, str], Dataset], name: str, attribute: str, folder: Path) -> Dataset:
    """Return one file of a collection, or say which there are.

    Parameters
    ----------
    known : dict
    name, attribute : str
    folder : Path
        The collection, for the message.

    Returns
    -------
    Dataset

    Raises
    ------
    FormatError
        There is no such file.
    """
    if (name, attribute) not in known:
        there = [".".join(key) for key in known]
        raise FormatError(
            f"{str(folder)!r} has no {name}.{attribute}. It has {preview(there, 30)}.{did_you_mean(f'{name}.{attribute}', there)}"
        )
    return known[name, attribute]


def _as_numbers(cells: pd.Series) -> pd.Series:
    plain = cells.str.strip()
    missing = plain.isin(MISSING)
    numbers = pd.to_numeric(plain.where(~missing, "nan"), errors="coerce")
    return numbers if bool((numbers.notna() | missing).all()) and not missing.all() else plain.astype(object)
