"""Names, attributes and metadata files of a zarr v3 folder: any name, any attribute, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote as _percent

import numpy as np

from brainalign.core.errors import SchemaError, StoreError
from brainalign.core.schema import STRING

#: Our own entry in the attributes of every group and array.
MARK = "brainalign"
META = "zarr.json"
_TYPE = "__type__"
_LONGEST_NAME = 120


def quote(name: str) -> str:
    """Return a file name for any name, percent-encoded: never hidden, never a path, never a name that zarr reserves.

    Parameters
    ----------
    name : str
        A very long one keeps its start and a hash; the full name then stands in the header only.

    Returns
    -------
    str

    Examples
    --------
    >>> [quote(name) for name in ("h.24", "encoder/0", "..", "", "zarr.json")]
    ['h.24', 'encoder%2F0', '%2E.', '%', 'zarr%2Ejson']
    """
    quoted = _percent(name, safe="") or "%"
    if quoted[0] in "._":
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if quoted == META:
        quoted = "zarr%2Ejson"
    if len(quoted) > _LONGEST_NAME:
        quoted = f"{quoted[:_LONGEST_NAME]}%~{blake2b(name.encode(), digest_size=8).hexdigest()}"
    return quoted


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a metadata file so that it is there whole or not at all.

    Parameters
    ----------
    path : Path
    content : dict
    """
    beside = path.with_name(f".partial-{os.getpid()}-{path.name}")
    beside.write_text(json.dumps(content, allow_nan=False))
    beside.replace(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the place.

    Parameters
    ----------
    path : Path

    Raises
    ------
    StoreError
        No permission, a file where a folder should be, a full disk.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{str(path)!r} cannot be written ({error}). Expected a place with room, where you may write: choose another path."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a metadata file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    StoreError
        It is missing or truncated.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(
            f"{path} is missing. Expected the metadata of a stored item: copy it again, or record it anew."
        ) from None
    except (ValueError, OSError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}). Expected zarr metadata in JSON: the file is damaged, copy it again or record it anew."
        ) from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} holds a {type(content).__name__}. Expected zarr metadata, a JSON object: copy it again.")
    return content


def write_group(folder: Path, header: dict[str, Any], attrs: dict[Any, Any]) -> None:
    """Make ``folder`` a zarr group.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    header : dict
        Our own description, in plain JSON.
    attrs : dict
        Attributes of the user's object.
    """
    folder.mkdir(parents=True, exist_ok=True)
    attributes = {**encode_attrs(attrs, reserved=MARK), MARK: header}
    write_json(folder / META, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def read_group(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the user's attributes of a group.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    tuple of dict

    Raises
    ------
    StoreError
        It is not a group that brainalign wrote.
    """
    attributes = read_json(folder / META).get("attributes", {})
    header = attributes.pop(MARK, None) if isinstance(attributes, dict) else None
    if not isinstance(header, dict):
        raise StoreError(f"{folder} is a zarr group of other origin. Expected one written by `ba.save` or `ba.record`.")
    return header, decode_attrs(attributes)


def discard(folder: Path) -> None:
    """Remove a folder and all in it, if it is there.

    Parameters
    ----------
    folder : Path
    """
    if folder.exists():
        shutil.rmtree(folder)


def encode_attrs(attrs: Mapping[Any, Any], *, reserved: str) -> dict[str, Any]:
    """Return attributes that JSON can hold and :func:`decode_attrs` restores.

    Parameters
    ----------
    attrs : mapping
    reserved : str
        A name that is not free.

    Returns
    -------
    dict

    Raises
    ------
    SchemaError
        A name is not a string or is reserved, or a value is of a kind that cannot be stored.
    """
    for name in attrs:
        if not isinstance(name, str) or name == reserved:
            raise SchemaError(f"cannot store the attribute named {name!r}. Expected a string other than {reserved!r}: rename it.")
    return {name: _encode(value, name) for name, value in attrs.items()}


def decode_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as they were before :func:`encode_attrs`.

    Parameters
    ----------
    attrs : mapping

    Returns
    -------
    dict
    """
    return {name: _decode(value) for name, value in attrs.items()}


def _encode(value: Any, name: str) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if np.isfinite(value) else {_TYPE: "float", "value": repr(value)}
    if type(value) is list:
        return [_encode(item, name) for item in value]
    if type(value) is tuple:
        return {_TYPE: "tuple", "value": [_encode(item, name) for item in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value) and _TYPE not in value:
        return {key: _encode(item, name) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufTU":
        dtype = "string" if value.dtype.kind == "T" else value.dtype.str
        items = [_encode(item, name) for item in np.asarray(value).ravel().tolist()]
        return {
            _TYPE: "array" if isinstance(value, np.ndarray) else "scalar",
            "dtype": dtype,
            "shape": value.shape,
            "value": items,
        }
    raise SchemaError(
        f"cannot store the attribute {name!r} of type {type(value).__name__}. Expected text, numbers, or lists and dicts of them: "
        "convert it, or drop it with `del x.attrs[...]`."
    )


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_TYPE)
    if kind is None:
        return {key: _decode(item) for key, item in value.items()}
    if kind == "float":
        return float(value["value"])
    if kind == "tuple":
        return tuple(_decode(item) for item in value["value"])
    dtype = STRING if value["dtype"] == "string" else np.dtype(value["dtype"])
    array = np.array([_decode(item) for item in value["value"]], dtype=dtype).reshape(value["shape"])
    return array if kind == "array" else array[()]
