"""Results that are made part by part, and survive the death of their maker: each finished part is kept by one rename."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import xarray as xr

from brainalign.adapters.store.study import (
    JOURNAL,
    check_study,
    claim,
    item_folder,
    items,
    partial_folder,
    prepare_study,
    publish,
    withdraw_study,
)
from brainalign.adapters.store.zarrays import open_dataset, write_dataset
from brainalign.adapters.store.zgroups import META, discard, read_group, read_json, write_json, writing
from brainalign.core.errors import StoreError
from brainalign.core.schema import SCHEMA_VERSION

_PARTS, _NEW = ".parts", ".new"
_SMALL = 2**23  # bytes of a variable up to which it is read when a result is opened: 8 MB
_HASH = 32  # characters of one, which says nothing to a reader


def asked_before(path: str | os.PathLike[str], name: str) -> dict[str, Any] | None:
    """Return what was asked of a result that is in a study, finished or not.

    Parameters
    ----------
    path : path
        A study, or a place that is still free.
    name : str

    Returns
    -------
    dict or None
        None where there is no such result; empty where it was saved whole.
    """
    if not (Path(path) / META).is_file():
        return None  # free, or what :func:`prepare_study` refuses
    root = check_study(path)
    folder = items(root, "results").get(name)
    if folder is not None:
        return dict(read_group(folder)[0].get("asked", {}))
    journal = partial_folder(item_folder(root, "results", name)) / JOURNAL
    return read_json(journal) if journal.is_file() else None


class ResultParts:
    """The parts of one result, and at the end the result itself; used as a context manager.

    Parameters
    ----------
    path : path
        The study; made where there is none.
    name : str
        Name of the result.
    asked : dict
        What decides the result, by argument name, in plain JSON.
    resume : bool
        False where there must be no such result yet.

    Attributes
    ----------
    done : set of str
        Names of the parts that are there.
    result : Dataset or None
        The finished result, where it is there: small variables in memory, so that whatever numpy can do can be done with scores and
        intervals; those of more than 8 MB lazy.

    Raises
    ------
    StoreError
        There is a result of this name that is not to be continued, or that was asked for with other arguments; or another process
        is making it.
    """

    def __init__(self, path: str | os.PathLike[str], name: str, asked: Mapping[str, Any], *, resume: bool) -> None:
        self._root, self._name, self._asked = Path(path), name, json.loads(json.dumps(asked))
        self._resume = resume
        self._cleanup = ExitStack()
        self.done: set[str] = set()
        self.result: xr.Dataset | None = None

    def __enter__(self) -> Self:
        self._fresh = not self._root.exists()
        self._final = item_folder(prepare_study(self._root), "results", self._name)
        with writing(self._root):
            self._folder = self._cleanup.enter_context(claim(self._final))
        try:
            self._refuse_another(asked_before(self._root, self._name))
            with writing(self._root):
                self._begin()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        nothing_done = self.result is None and not self.done
        try:
            if nothing_done:
                discard(self._folder)
        finally:
            self._cleanup.close()
        if nothing_done and self._fresh:
            withdraw_study(self._root)

    def write(self, part: str, dataset: xr.Dataset) -> None:
        """Keep one more part.

        Parameters
        ----------
        part : str
        dataset : Dataset
        """
        new = self._folder / _PARTS / _NEW
        with writing(self._root):
            discard(new)
            write_dataset(new, dataset, {"kind": "part", "label": part})
            new.rename(self._folder / _PARTS / part)
        self.done.add(part)

    def read(self, part: str) -> xr.Dataset:
        """Open a part.

        Parameters
        ----------
        part : str

        Returns
        -------
        Dataset
            Lazy.
        """
        return open_dataset(self._folder / _PARTS / part)

    def finish(self, dataset: xr.Dataset) -> xr.Dataset:
        """Make the result visible, drop its parts, and open it.

        Parameters
        ----------
        dataset : Dataset
            It may be lazy, and made of parts.

        Returns
        -------
        Dataset
            As ``result``.
        """
        header = {"kind": "results", "label": self._name, "schema_version": SCHEMA_VERSION, "asked": self._asked}
        with writing(self._root):
            for entry in self._folder.iterdir():  # what one that was killed in this place has written
                if entry.is_dir() and entry.name != _PARTS:
                    discard(entry)
            write_dataset(self._folder, dataset, header)
            publish(self._final)
            # only now: one that is killed before the rename must find its parts
            discard(self._final / _PARTS)
            (self._final / JOURNAL).unlink()
        self.result = self._opened()
        return self.result

    def _opened(self) -> xr.Dataset:
        found = open_dataset(self._final)
        return found.assign({name: x.load() for name, x in found.data_vars.items() if x.nbytes <= _SMALL})

    def _begin(self) -> None:
        if self._final.exists():
            discard(self._final / _PARTS)  # of one that was killed after the rename
            self.result = self._opened()
            return
        (self._folder / _PARTS).mkdir(parents=True, exist_ok=True)
        if not (self._folder / JOURNAL).is_file():
            write_json(self._folder / JOURNAL, self._asked)
        self.done = {part.name for part in (self._folder / _PARTS).iterdir() if part.name != _NEW}

    def _refuse_another(self, found: dict[str, Any] | None) -> None:
        if found is None:
            return
        what = f"{self._root} holds {'' if self._final.exists() else 'the beginnings of '}results named {self._name!r}"
        if not self._resume:
            raise StoreError(f"{what}. Expected a free place: pass `resume=True` to go on with them, or another `store=`.")
        if not found:
            raise StoreError(f"{what} that were saved whole. Expected a free place: pass another `store=`.")
        names = [name for name in dict.fromkeys((*self._asked, *found)) if found.get(name) != self._asked.get(name)]
        if names:
            differences = ", ".join(_difference(name, found.get(name), self._asked.get(name)) for name in names)
            raise StoreError(
                f"{what} that were asked for with another {differences}. Expected the same arguments, to go on with them: pass those, or "
                "another `store=`."
            )


def _difference(name: str, found: Any, asked: Any) -> str:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (found, asked)]
    return f"`{name}` ({texts[0]} there, {texts[1]} here)" if max(map(len, texts)) < _HASH else f"`{name}`"
