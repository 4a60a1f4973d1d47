"""Streaming into a study: the face of the store for verbs that make responses block by block, or results part by part."""

from __future__ import annotations

import logging
import os
from typing import Any

import xarray as xr

from brainalign.adapters.store.matrices import save_parts
from brainalign.adapters.store.parts import ResultParts, asked_before
from brainalign.adapters.store.responses import adapter
from brainalign.adapters.store.streaming import ResponseWriter, stored_key
from brainalign.core.errors import StoreError

__all__ = ["ResultParts", "asked_before", "find_recording", "open_writer", "save_parts"]

_log = logging.getLogger(__name__)


def find_recording(store: str | os.PathLike[str], name: str, key: dict[str, Any]) -> xr.DataArray | None:
    """Return the stored recording made with this key, or None where it has to be made.

    Parameters
    ----------
    store : path
        A study, or a place that is free.
    name : str
        Name of the responses.
    key : dict
        What decides the values, part by part, in plain JSON.

    Returns
    -------
    DataArray, (presentation, neuroid), or None
        Lazy. A recording with another key is not returned; the log says which part differs.

    Raises
    ------
    StoreError
        Responses of this name are there that no recording made, or the store is damaged.
    """
    found = _key_of(store, name)
    if found is None or found == key:
        return None if found is None else adapter.open(store, name=name)
    _say_difference(name, found, key)
    return None


def open_writer(
    store: str | os.PathLike[str], name: str, template: xr.DataArray, key: dict[str, Any], *, resume: bool = True
) -> ResponseWriter:
    """Return a writer of one recording, to be used in a ``with`` statement.

    Parameters
    ----------
    store : path
    name : str
    template : DataArray, (presentation, neuroid)
        Labels, dtype and attrs; its values are not read.
    key : dict
        An unfinished recording with the same key is continued.
    resume : bool
        False starts anew.

    Returns
    -------
    ResponseWriter
        ``n_done`` rows are there; ``write(rows, values)`` adds the next ones; ``finish()`` makes the recording visible.

    Raises
    ------
    StoreError
        Responses of this name are there that no recording made: they are never replaced, whatever ``resume`` says.
    """
    _key_of(store, name)
    return ResponseWriter(store, name, template, key, resume=resume, on_mismatch=lambda found: _say_difference(name, found, key))


def _key_of(store: str | os.PathLike[str], name: str) -> dict[str, Any] | None:
    """Return the key of a finished recording, or None where there is none; measured responses are not a recording's to replace."""
    there, found = stored_key(store, name)
    if there and found is None:
        raise StoreError(
            f"{store} holds responses named {name!r} that `ba.record` did not make. Expected a free name: choose another `name=`."
        )
    return found


def _say_difference(name: str, found: dict[str, Any], key: dict[str, Any]) -> None:
    parts = [part for part in (*key, *(part for part in found if part not in key)) if found.get(part) != key.get(part)]
    _log.warning("recording %r anew: the stored one was made with other %s", name, ", ".join(parts) or "settings")
