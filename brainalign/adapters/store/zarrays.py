"""Arrays and datasets as folders of zarr v3: lossless, checked when opened, read lazily.

Nothing here knows what a study is; :mod:`brainalign.adapters.store.responses` puts these pieces together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import ceil, isqrt, prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.store.zgroups import (
    MARK,
    META,
    decode_attrs,
    encode_attrs,
    quote,
    read_group,
    read_json,
    write_group,
    write_json,
)
from brainalign.core.errors import SchemaError, StoreError
from brainalign.core.schema import STRING

_CHUNK_ELEMENTS = 2**20


def response_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the chunk shape of one group of responses: 4 MB of float32, square in presentations and neuroids.

    A square chunk over-reads equally for the two reads that matter: all neuroids of some presentations (RSA), and all
    presentations of some neuroids (encoding). 1,024 x 1,024 float32 is 4 MB; time is kept whole up to 4,096 samples, and the
    square shrinks with it. The number of rows does not depend on the width of the group, so that a recording of several
    layers fills the chunks of all of them at the same row.

    Parameters
    ----------
    shape : tuple of int, (presentation, neuroid[, time])

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> response_chunks((73_000, 1600)), response_chunks((100, 800_000)), response_chunks((2000, 300, 500))
    ((1024, 1024), (100, 10485), (45, 46, 500))
    """
    times = tuple(max(1, min(n, 4096)) for n in shape[2:])
    budget = _CHUNK_ELEMENTS // prod(times)
    rows = max(1, min(shape[0], isqrt(budget)))
    return (rows, max(1, min(shape[1], budget // rows)), *times)


def leading_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks of at most 2**20 elements that cut the first dims and keep the last ones whole (one image, one matrix).

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> leading_chunks((1000, 3, 224, 224)), leading_chunks((12, 5000, 5000))
    ((6, 3, 224, 224), (1, 209, 5000))
    """
    chunks, budget = [], _CHUNK_ELEMENTS
    for size in reversed(shape):
        chunks.append(max(1, min(size, budget)))
        budget //= chunks[-1]
    return tuple(reversed(chunks))


@dataclass(frozen=True)
class StoredArray:
    """One array on disk; indexing reads.

    Attributes
    ----------
    path : Path
    dims : tuple of str
    attrs : dict
    dtype : numpy dtype
        Of what indexing returns.
    array : zarr.Array
    stamp : tuple of int
        Tells this array from one that took its place later.
    """

    path: Path
    dims: tuple[str, ...]
    attrs: dict[str, Any]
    dtype: np.dtype[Any]
    array: Any
    stamp: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dim."""
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.array.shape)

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        if _stamp(self.path) != self.stamp:
            raise StoreError(f"{self.path} was replaced or removed after it was opened. Expected what was opened: open it again.")
        try:
            return _from_stored(np.asarray(self.array[key]), self.dtype)
        except MemoryError:
            raise
        except Exception as error:  # what codecs raise for a chunk that changed on disk, or for codecs whose options did
            raise StoreError(
                f"{self.path} has a damaged chunk ({error}). Expected the bytes that were written: copy it again, or record it anew."
            ) from error

    def lazy(self) -> Any:
        """Return the values as a dask array with the stored chunks."""
        import dask.array as da
        from dask.base import tokenize

        name = f"stored-{tokenize(str(self.path), self.stamp)}"
        meta = np.empty((0,) * self.ndim, dtype=self.dtype)
        return da.from_array(self, chunks=self.array.chunks, name=name, asarray=False, meta=meta)


def create_array(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    dims: tuple[str, ...],
    chunks: tuple[int, ...],
    attrs: dict[Any, Any] | None = None,
) -> Any:
    """Create an empty array; :func:`seal_array` ends the writing.

    Parameters
    ----------
    path : Path
    shape, chunks : tuple of int
    dtype : numpy dtype
        Of the values in memory; strings and dates are stored portably and come back as they were.
    dims : tuple of str
    attrs : dict, optional

    Returns
    -------
    zarr.Array
    """
    import zarr  # here and below: a machine that only computes may lack it
    from zarr.codecs import Crc32cCodec, ZstdCodec

    stored = _stored_dtype(dtype)
    return zarr.create_array(
        path,
        shape=shape,
        chunks=chunks,
        dtype=stored,
        # a checksum in each chunk, since a flipped bit in compressed floats may well decompress
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        fill_value="" if stored == STRING else 0,
        attributes={**encode_attrs(attrs or {}, reserved=MARK), MARK: {"dtype": _dtype_name(dtype)}},
        dimension_names=dims,
        # zarr would leave out chunks of zeros, and a missing chunk could then mean either
        config={"write_empty_chunks": True},
    )


def seal_array(path: Path) -> None:
    """Write the size of every chunk file into the array's metadata, which is what opening checks against.

    Parameters
    ----------
    path : Path
    """
    metadata = read_json(path / META)
    metadata["attributes"][MARK]["chunk_bytes"] = [chunk.stat().st_size for chunk in _chunk_files(path, metadata)]
    write_json(path / META, metadata)


def write_array(path: Path, values: Any, dims: tuple[str, ...], attrs: dict[Any, Any] | None = None) -> None:
    """Write a whole array, chunk by chunk where it is lazy.

    Parameters
    ----------
    path : Path
    values : ndarray or dask array
    dims : tuple of str
    attrs : dict, optional
    """
    chunks = leading_chunks(values.shape)
    array = create_array(path, values.shape, values.dtype, dims=dims, chunks=chunks, attrs=attrs)
    if prod(values.shape):
        step = chunks[0] if chunks else 1
        parts = [slice(a, a + step) for a in range(0, values.shape[0], step)] if chunks else [...]
        for part in parts:
            array[part] = to_stored(np.asarray(values[part]))
    seal_array(path)


def open_array(path: Path) -> StoredArray:
    """Open an array after checking that its chunk files are all there, each of the size it was written with.

    Parameters
    ----------
    path : Path

    Returns
    -------
    StoredArray

    Raises
    ------
    StoreError
        Metadata or a chunk is missing or truncated.
    """
    import zarr

    path = path.absolute()  # it is read later, perhaps from another working folder
    stamp = _stamp(path)
    metadata = read_json(path / META)
    try:
        mark = metadata["attributes"].pop(MARK)
        expected, n_chunks = list(mark["chunk_bytes"]), prod(_grid(metadata))
        files = _chunk_files(path, metadata) if n_chunks == len(expected) else []  # a damaged shape may promise billions
        dtype = STRING if mark["dtype"] == "string" else np.dtype(mark["dtype"])
        dims, attrs = tuple(metadata.get("dimension_names") or ()), decode_attrs(metadata["attributes"])
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StoreError(f"{path / META} lacks {error}. Expected a finished array: copy it again, or record it anew.") from error
    if n_chunks != len(expected):
        raise StoreError(f"{path / META} counts {len(expected)} chunks for {n_chunks}. Expected one size a chunk: copy it again.")
    _check_chunks(files, expected)
    # zarr would answer a missing chunk with zeros, hence the check above
    try:
        array = zarr.open_array(path, mode="r")
    except Exception as error:  # zarr raises almost anything at metadata that are damaged
        raise StoreError(
            f"{path / META} is damaged ({error!s:.300}). Expected zarr metadata: copy it again, or record it anew."
        ) from error
    return StoredArray(path, dims, attrs, dtype, array, stamp)


def drop_stray_files(path: Path) -> None:
    """Remove the temporary files that a killed writer left among the chunks.

    Parameters
    ----------
    path : Path
        An array or a group.
    """
    for pattern in ("*.partial", ".partial-*"):  # zarr's own, and those of :func:`write_json`
        for stray in path.rglob(pattern):
            if stray.is_file():
                stray.unlink()


def write_dataset(folder: Path, dataset: xr.Dataset, header: dict[str, Any]) -> None:
    """Write a Dataset, one array a variable.

    Parameters
    ----------
    folder : Path
    dataset : Dataset
    header : dict
        Our own description, in plain JSON; names of coords and indexes are added.

    Raises
    ------
    SchemaError
        It has names that are not strings, a MultiIndex, or objects that are not strings.
    """
    _refuse_unstorable(dataset)
    names = {"coords": list(dataset.coords), "data_vars": list(dataset.data_vars), "indexes": list(dataset.xindexes)}
    write_group(folder, {**header, **names}, dataset.attrs)
    for name, variable in dataset.variables.items():
        data = variable.data if hasattr(variable.data, "dask") else variable.values
        write_array(folder / quote(str(name)), data, tuple(map(str, variable.dims)), variable.attrs)


def open_dataset(folder: Path) -> xr.Dataset:
    """Open a Dataset: coordinates and strings in memory, numbers lazily.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Dataset

    Raises
    ------
    StoreError
        A part is missing or damaged.
    """
    header, attrs = read_group(folder)
    coords = {name: _variable(folder / quote(name), lazy=False) for name in header["coords"]}
    data = {name: _variable(folder / quote(name), lazy=True) for name in header["data_vars"]}
    dataset = xr.Dataset(data, coords=xr.Coordinates(coords, indexes={}), attrs=attrs)
    for name in header["indexes"]:
        dataset = dataset.set_xindex(name)
    return dataset


def to_stored(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return values as they are put on disk: strings as ``StringDType``, dates as integers, native byte order.

    Parameters
    ----------
    values : ndarray

    Returns
    -------
    ndarray
    """
    if values.dtype.kind in "mM":
        return values.astype(values.dtype.newbyteorder("="), copy=False).view(np.int64)
    if values.dtype.kind == "O" and not all(isinstance(item, str) for item in values.flat):
        odd = next(item for item in values.flat if not isinstance(item, str))
        raise SchemaError(f"cannot store the object {odd!r} in an array. Expected numbers or strings: convert it with `.astype`.")
    return values.astype(_stored_dtype(values.dtype), copy=False)


def _from_stored(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if dtype.kind in "mM":
        return values.astype(np.int64, copy=False).view(dtype.newbyteorder("=")).astype(dtype, copy=False)
    return values.astype(dtype, copy=False)


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind in "TUO":
        return STRING
    return np.dtype(np.int64) if dtype.kind in "mM" else dtype.newbyteorder("=")


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.kind == "T" else dtype.str


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path / META)
    except OSError:
        return (0, 0)
    return status.st_ino, status.st_mtime_ns


def _grid(metadata: dict[str, Any]) -> tuple[int, ...]:
    chunks = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    return tuple(ceil(size / chunk) for size, chunk in zip(metadata["shape"], chunks, strict=True))


def _chunk_files(path: Path, metadata: dict[str, Any]) -> list[Path]:
    return [path.joinpath("c", *map(str, index)) for index in np.ndindex(*_grid(metadata))]


def _check_chunks(files: list[Path], expected: list[int]) -> None:
    for file, size in zip(files, expected, strict=True):
        try:
            found = os.stat(file).st_size
        except OSError:
            raise StoreError(
                f"{file} is missing. Expected all {len(files)} chunks of this array: copy the store again, or record it anew."
            ) from None
        if found != size:
            raise StoreError(
                f"{file} has {found} bytes. Expected {size}: it is truncated, copy the store again or record it anew."
            )


def _variable(path: Path, *, lazy: bool) -> xr.Variable:
    stored = open_array(path)
    data = stored.lazy() if lazy and stored.dtype.kind in "biufc" and stored.ndim else stored[...]
    return xr.Variable(stored.dims, data, attrs=stored.attrs)


def _refuse_unstorable(dataset: xr.Dataset) -> None:
    odd = next((name for name in (*dataset.variables, *dataset.dims) if not isinstance(name, str)), None)
    if odd is not None:
        raise SchemaError(f"cannot store a variable or dim named {odd!r}. Expected a string: use `.rename`.")
    for name, index in dataset.xindexes.items():
        if not isinstance(index, xr.indexes.PandasIndex) or isinstance(index, xr.indexes.PandasMultiIndex):
            raise SchemaError(
                f"cannot store the {type(index).__name__} on {name!r}. Expected plain coordinates: use `.reset_index({name!r})`."
            )
