"""What every file adapter shares: the shape of an adapter, and errors that name the file."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import BrainAlignError, FormatError, ParameterError, SchemaError
from brainalign.core.provenance import write_step

#: The ``index_base`` of sources whose stimuli and neuroids are named, not counted.
NAMES = "none: ids are names"


@dataclass(frozen=True)
class Format:
    """One file format: a name, a test of content, and a function that opens it.

    Attributes
    ----------
    name : str
        What ``format=`` calls it.
    matches : callable
        The reason why a path or object looks like this format, as a short text; falsy where it does not.
    open : callable
        ``open(path_or_object, **options)`` returns a labelled DataArray.
    save : callable, optional
        ``save(x, path, overwrite=False)`` writes responses as one file of this format.
    """

    name: str
    matches: Callable[[Any], str | bool]
    open: Callable[..., xr.DataArray]
    save: Callable[..., None] | None = None


def is_path(source: Any) -> bool:
    """Return True where ``source`` names an existing file.

    Parameters
    ----------
    source : object

    Returns
    -------
    bool
    """
    return isinstance(source, (str, Path)) and Path(source).is_file()


def existing(path: Any) -> Path:
    """Return ``path`` if it names a file with something in it.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        It is no path at all.
    FormatError
        There is no such file, or it is empty.
    """
    if not isinstance(path, (str, Path)):
        raise ParameterError(f"expected the path of a file. Got {path!r} ({type(path).__name__}) instead.")
    found = Path(path)
    if found.is_dir():
        raise FormatError(f"{str(found)!r} is a folder. Expected a file: name one in it, or another format with `format=`.")
    if not found.is_file():
        near = (
            f" The folder {str(found.parent)!r} exists."
            if found.parent.is_dir()
            else f" Nor is there a folder {str(found.parent)!r}."
        )
        raise FormatError(f"there is no file {str(found)!r}.{near} Check the path.")
    if found.stat().st_size == 0:
        raise FormatError(f"{str(found)!r} has 0 bytes. Expected a whole file: copy or download it again.")
    return found


def first_bytes(path: Path, n: int) -> bytes:
    """Return the first ``n`` bytes of a file, decompressed where it is gzip.

    Parameters
    ----------
    path : Path
    n : int

    Returns
    -------
    bytes
        Fewer where the file is shorter, none where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(n)
        if start[:2] != b"\x1f\x8b":
            return start
        with gzip.open(path, "rb") as file:
            return file.read(n)
    except (OSError, EOFError):
        return b""


@contextmanager
def reading(path: Any, what: str) -> Iterator[None]:
    """Turn whatever a file library raises into a :class:`FormatError` that names the file.

    Parameters
    ----------
    path : str or Path
    what : str
        The format, as the message calls it ("NIfTI").

    Raises
    ------
    FormatError
        The library could not read the file.
    """
    try:
        yield
    except (BrainAlignError, MemoryError, ImportError):
        raise
    except Exception as error:  # parsers of damaged files raise almost anything
        cause = " ".join(str(error).split())[:300]
        raise FormatError(
            f"{str(path)!r} could not be read as {what} ({type(error).__name__}: {cause}). Expected a whole, valid file: it may be "
            "truncated; compare its size or checksum with the source and copy it again."
        ) from error


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Put the name of the source in front of errors about what was built from it.

    Parameters
    ----------
    source : str
        A file name, or what an object is called.

    Raises
    ------
    SchemaError, ParameterError
        As raised inside, with the source named.
    """
    try:
        yield
    except (SchemaError, ParameterError) as error:
        raise type(error)(f"{source}: {error}") from error


def record_opening(x: xr.DataArray, adapter: str, sources: list[str], params: Mapping[str, Any]) -> xr.DataArray:
    """Return ``x`` with a provenance step that says what was opened, by which adapter, how.

    Parameters
    ----------
    x : DataArray
    adapter : str
    sources : list of str
        Files, by name without their folder: a study must not depend on where it lay.
    params : mapping
        The options that decided labels and values.

    Returns
    -------
    DataArray
    """
    given = {name: value for name, value in params.items() if value is not None}
    return write_step(x, f"open:{adapter}", params={"source": sources, **given}, inputs={"responses": x})


def per_run_ids(run: str, n_rows: int, letter: str) -> list[str]:
    """Return one id a row of a continuous recording: ``run-1/v00012``.

    Parameters
    ----------
    run : str
    n_rows : int
    letter : str
        ``v`` for volumes, ``b`` for bins.

    Returns
    -------
    list of str
    """
    return [f"run-{run}/{letter}{index:05d}" for index in range(n_rows)]


def check_finite(values: np.ndarray[Any, Any], source: str, labels: Any, allow_nan: bool, *, first_row: int = 0) -> None:
    """Refuse NaN and infinity, unless they are declared.

    Parameters
    ----------
    values : ndarray, (row, column)
    source : str
        The file, for the message.
    labels : sequence
        One name a column.
    allow_nan : bool
        NaN is declared.
    first_row : int
        Where in the recording the block of values starts.

    Raises
    ------
    FormatError
        A value is not finite; its row and column are named.
    """
    if allow_nan or values.dtype.kind != "f":
        return
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad.reshape(len(values), values.shape[1], -1).any(-1))[0])
        raise FormatError(
            f"{source!r} holds {int(bad.sum())} values that are NaN or infinite, the first in row {row + first_row} of {str(labels[column])!r}. "
            "Expected finite numbers: mask these neuroids out, or declare NaN with `allow_nan=True`."
        )


def narrowed(values: np.ndarray[Any, Any], dtype: Any, source: str) -> np.ndarray[Any, Any]:
    """Return values in another dtype, and refuse those that it cannot hold: they would become infinite.

    Parameters
    ----------
    values : ndarray
    dtype : dtype
        Of the same kind: complex numbers are not cut in half.
    source : str
        The file, for the message.

    Returns
    -------
    ndarray

    Raises
    ------
    FormatError
        A finite number is beyond the range of the dtype.
    """
    try:
        with np.errstate(over="raise"):
            return values.astype(dtype, copy=False, casting="same_kind")
    except FloatingPointError as error:
        largest, limit = np.abs(values[np.isfinite(values)]).max(), np.finfo(dtype).max
        raise FormatError(
            f"{source!r} holds numbers up to {largest:g}; {np.dtype(dtype)} ends at {limit:.3g}. Expected responses in a unit where they fit: it "
            "is damaged, marks missing values by a huge number, or has to be scaled; write it again with NaN there, or scaled."
        ) from error
