"""Where a result comes from: a JSON list of steps in ``attrs``, with fingerprints of the values.

xarray keeps attrs through arithmetic, so a step list alone would lie after ``x * 2``. The fingerprint of
the values is stored beside it, and :func:`provenance` says when the two no longer match.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from brainalign.core.errors import SchemaError

Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)

PACKAGES = ("brainalign", "numpy", "scipy", "scikit-learn", "xarray", "torch")
_FULL_HASH_BYTES = 2**29  # above this, evenly spaced pages are hashed: a fingerprint must stay cheaper than a fit
_HEX = 32  # digits of a fingerprint
_PAGE_BYTES, _N_PAGES = 2**16, 2**12
_WORTH_A_THREAD = 2**22  # bytes: these take some milliseconds to hash, a thread a tenth of one to start


@dataclass(frozen=True)
class Provenance:
    """What was done to get a result.

    Attributes
    ----------
    steps : tuple of dict
        ``{verb, params, versions, inputs, seed, time_utc}``, oldest first.
    fingerprint : str or None
        Of the values when the last step was written.
    altered : bool or None
        True where the values no longer match the fingerprint; None where they were not read (lazy data).

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0], [3.0]], stimulus_id=["a", "a"], neuroid_id=[0], modality="ann", system="net")
    >>> [step["verb"] for step in ba.core.provenance(ba.average_repeats(x)).steps]
    ['responses', 'average_repeats']
    """

    steps: tuple[dict[str, Any], ...]
    fingerprint: str | None
    altered: bool | None

    def __str__(self) -> str:
        lines = [
            f"{i}. {s['verb']}({', '.join(f'{k}={v!r}' for k, v in s['params'].items())})" for i, s in enumerate(self.steps, 1)
        ]
        state = {True: "values altered since the last step", False: "values as written", None: "values not checked (lazy)"}
        return "\n".join([*(lines or ["no recorded step"]), state[self.altered]])


def is_lazy(x: xr.DataArray | xr.Dataset) -> bool:
    """Return True where the values are not in memory (dask, or opened from a store)."""
    variables = x.data_vars.values() if isinstance(x, xr.Dataset) else (x,)
    return any(not isinstance(variable.variable._data, np.ndarray) for variable in variables)


def hash_array(values: np.ndarray[Any, Any]) -> str:
    """Return a short content hash of an array: dtype, shape and values.

    Parameters
    ----------
    values : ndarray
        Strings (``StringDType``, ``U`` or object) are hashed as UTF-8. Numbers above 512 MiB are hashed on
        4,096 evenly spaced pages, and the hash then starts with ``sampled-``.

    Returns
    -------
    str
    """
    # processors have instructions for SHA-256: twice the speed of BLAKE2
    digest = hashlib.sha256(f"{values.shape}".encode())
    if values.dtype.kind in "TUO":
        texts, others = values.ravel().tolist(), values.dtype.kind == "O" or hasattr(values.dtype, "na_object")
        digest.update("\x00".join(map(str, texts) if others else texts).encode())
        return digest.hexdigest()[:_HEX]
    digest.update(values.dtype.str.encode())
    pages = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if pages.nbytes <= _FULL_HASH_BYTES:
        digest.update(pages.data)
        return digest.hexdigest()[:_HEX]
    for start in np.linspace(0, pages.nbytes - _PAGE_BYTES, _N_PAGES).astype(np.int64):
        digest.update(pages[start : start + _PAGE_BYTES].data)
    return "sampled-" + digest.hexdigest()[:_HEX]


def fingerprint(x: xr.DataArray | xr.Dataset) -> str:
    """Return a hash of the values and of the ids and times that name them.

    Parameters
    ----------
    x : DataArray or Dataset
        Read into memory where it is lazy.

    Returns
    -------
    str

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0, 2.0]], stimulus_id=["a"], neuroid_id=[0, 1], modality="ann", system="net")
    >>> fingerprint(x) == fingerprint(x.assign_attrs(note="attrs do not count")), fingerprint(x) == fingerprint(2 * x)
    (True, False)
    """
    if isinstance(x, xr.Dataset):
        parts = [f"{name}:{fingerprint(x[name])}" for name in sorted(map(str, x.data_vars))]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:_HEX]
    labels = [x.coords[name].values for name in ("stimulus_id", "neuroid_id", "time") if name in x.coords]
    parts = [hash_array(np.asarray(part)) for part in (x.values, *labels)]
    prefix = "sampled-" if parts[0].startswith("sampled-") else ""
    return prefix + hashlib.sha256("|".join(parts).encode()).hexdigest()[:_HEX]


def hashed_meanwhile(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Begin to hash large inputs, in a thread beside the work on them.

    Parameters
    ----------
    inputs : mapping of str to DataArray or Dataset
        Not to be altered until they are given to :func:`write_step`.

    Returns
    -------
    dict
        What :func:`write_step` takes for them.
    """
    large = {name: x for name, x in inputs.items() if not is_lazy(x) and x.nbytes >= _WORTH_A_THREAD}
    if not large:
        return dict(inputs)
    pool = ThreadPoolExecutor(1)
    begun = {name: pool.submit(_lineage, x) for name, x in large.items()}
    pool.shutdown(wait=False)  # its thread ends with the last of them
    return {**inputs, **begun}


def write_step(
    result: Labelled,
    verb: str,
    *,
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Labelled:
    """Return ``result`` with one more step in its provenance.

    Parameters
    ----------
    result : DataArray or Dataset
        What the verb made. It is not modified.
    verb : str
    params : mapping
        The verb's arguments; what JSON cannot hold is kept as its ``repr``.
    inputs : mapping of str to DataArray or Dataset
        What the verb read, by argument name, or what :func:`hashed_meanwhile` made of it. One input hands down its steps; several are
        nested by name.
    seed : int, optional

    Returns
    -------
    DataArray or Dataset
        A shallow copy with the attr ``provenance``.
    """
    known: dict[str, dict[str, Any]] = {
        name: x.result() if isinstance(x, Future) else _lineage(x)
        for name, x in (inputs or {}).items()
        if isinstance(x, (xr.DataArray, xr.Dataset, Future))
    }
    step = {
        "verb": verb,
        "params": {k: plain(v) for k, v in (params or {}).items()},
        "versions": versions(PACKAGES),
        "inputs": {name: entry["fingerprint"] for name, entry in known.items()},
        "seed": seed,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if len(known) == 1:
        steps = [*next(iter(known.values()))["steps"], step]
    else:
        step["lineage"] = {name: entry["steps"] for name, entry in known.items()}
        steps = [step]
    mark = None if is_lazy(result) else fingerprint(result)
    out = result.copy(deep=False)
    out.attrs = {**result.attrs, "provenance": json.dumps({"steps": steps, "fingerprint": mark})}
    return out


def responder_params(responder: Any) -> dict[str, Any]:
    """Return what provenance says of a responder.

    Parameters
    ----------
    responder : Responder

    Returns
    -------
    dict
        ``responder``, its fingerprint; and ``responder_random_state``, the seed of what it draws, or its weights were drawn from.
    """
    seed = getattr(responder, "random_state", None)
    return {"responder": responder.fingerprint()} | ({"responder_random_state": seed} if isinstance(seed, int) else {})


def provenance(x: xr.DataArray | xr.Dataset, *, verify: bool | None = None) -> Provenance:
    """Say where ``x`` comes from, and whether its values were altered since.

    Parameters
    ----------
    x : DataArray or Dataset
    verify : bool, optional
        Compare the values with their fingerprint. By default only where they are in memory.

    Returns
    -------
    Provenance

    Raises
    ------
    SchemaError
        The attr holds something that brainalign did not write.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0, 2.0]], stimulus_id=["a"], neuroid_id=[0, 1], modality="ann", system="net")
    >>> provenance(x).altered, provenance(x * 2).altered
    (False, True)
    """
    entry = _read(x)
    mark = entry["fingerprint"]
    check = not is_lazy(x) if verify is None else verify
    altered = None if mark is None or not check else fingerprint(x) != mark
    return Provenance(tuple(entry["steps"]), mark, altered)


def all_steps(steps: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Walk the steps of a result and of everything that went into it.

    Parameters
    ----------
    steps : iterable of dict
        Of :class:`Provenance`.

    Yields
    ------
    dict
        A step before the steps of its inputs.
    """
    for step in steps:
        yield step
        for lineage in step.get("lineage", {}).values():
            yield from all_steps(lineage)


def _read(x: xr.DataArray | xr.Dataset) -> dict[str, Any]:
    text = x.attrs.get("provenance")
    if text is None:
        return {"steps": [], "fingerprint": None}
    try:
        entry = json.loads(text)
        return {"steps": list(entry["steps"]), "fingerprint": entry["fingerprint"]}
    except (TypeError, ValueError, KeyError) as error:
        raise SchemaError(
            f"the array has the attr provenance {str(text)[:60]!r}. Expected JSON that brainalign wrote, with its steps and fingerprint: "
            "drop it with `del x.attrs['provenance']`, or keep it under another name."
        ) from error


def _lineage(x: xr.DataArray | xr.Dataset) -> dict[str, Any]:
    entry = _read(x)
    # Lazy values are not read for their name's sake; the fingerprint they were stored with stands for them.
    return {"steps": entry["steps"], "fingerprint": entry["fingerprint"] if is_lazy(x) else fingerprint(x)}


@cache  # reading the packages' metadata costs more than most steps
def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those packages that are installed, or were imported from a folder of theirs.

    Parameters
    ----------
    packages : tuple of str

    Returns
    -------
    dict of str to str
        Kept, and shared by all who ask: not to be changed.
    """
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if (own := getattr(sys.modules.get(package), "__version__", None)) is not None:
                found[package] = own
    return found


def plain(value: Any) -> Any:
    """Return what JSON can hold of an argument: large arrays as their hash, other objects as their ``repr``.

    Parameters
    ----------
    value : object

    Returns
    -------
    str, int, float, bool, None, list or dict
    """
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()] if value.size <= 64 else f"array{value.shape} {hash_array(value)}"
    return " ".join(repr(value).split())
