"""Recordings written block by block, that survive the death of the writer at any moment.

A block of rows goes to a staging file. When the last row of a chunk has come, the chunks are compressed out of the staging file.
Once a second a line of the journal says how many rows are safe, after all that they need has reached the disk. Everything done
between two lines can be done again with the same bytes; so what counts is only the last whole line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, Self

import numpy as np
import xarray as xr

from brainalign.adapters.store.responses import create_responses, groups_of, open_array_for_writing, open_item
from brainalign.adapters.store.study import (
    JOURNAL,
    check_study,
    claim,
    item_folder,
    items,
    prepare_study,
    publish,
    withdraw_study,
)
from brainalign.adapters.store.zarrays import drop_stray_files, seal_array
from brainalign.adapters.store.zgroups import META, discard, read_group, writing
from brainalign.core.errors import StoreError
from brainalign.core.tiles import part_of

_STAGING = ".staging"
#: Seconds of work that a kill may cost. Reaching the disk takes milliseconds, which each block of a small network would feel.
_CHECKPOINT_S = 1.0


def stored_key(path: str | os.PathLike[str], name: str) -> tuple[bool, dict[str, Any] | None]:
    """Say whether responses of this name are in a study, and with which recording key.

    Parameters
    ----------
    path : path
        A study, or a place that is still free.
    name : str

    Returns
    -------
    tuple of (bool, dict or None)
        The key is None where the responses were not made by a recording.
    """
    if not (Path(path) / META).is_file():
        return False, None  # free, or what :func:`prepare_study` refuses
    folder = items(check_study(path), "responses").get(name)
    return (False, None) if folder is None else (True, read_group(folder)[0].get("recording"))


class ResponseWriter:
    """Writes one recording into a study, row by row; used as a context manager.

    Parameters
    ----------
    path : path
        The study; made where there is none.
    name : str
        Name of the responses.
    template : DataArray, (presentation, neuroid)
        Labels, dtype and attrs; its values are not read.
    key : dict
        What decides the values, in plain JSON. An unfinished recording with the same key is continued.
    resume : bool
        False starts anew.
    on_mismatch : callable, optional
        Called with the key of an unfinished recording that cannot be continued because it has another one.

    Attributes
    ----------
    n_done : int
        Rows that need not be computed again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str,
        template: xr.DataArray,
        key: dict[str, Any],
        *,
        resume: bool = True,
        on_mismatch: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._root, self._name, self._template, self._key, self._resume = Path(path), name, template, key, resume
        self._on_mismatch = on_mismatch
        self.n_done = 0
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        item_folder(Path(), "responses", self._name)  # an impossible name is refused before a study is made
        self._fresh = not self._root.exists()
        self._final = item_folder(prepare_study(self._root), "responses", self._name)
        with writing(self._root):
            self._folder = self._cleanup.enter_context(claim(self._final))
        try:
            with writing(self._root):
                self._begin()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        # what is unfinished stays, for the next call to continue; where nothing is done, nothing stays
        nothing_done = error[0] is not None and self.n_done == 0
        try:
            if nothing_done:
                discard(self._folder)
            elif (self._folder / _STAGING).exists():
                self._checkpoint()
        finally:
            self._cleanup.close()
        if nothing_done and self._fresh:
            withdraw_study(self._root)

    def write(self, rows: slice, values: np.ndarray[Any, Any]) -> None:
        """Add the next rows.

        Parameters
        ----------
        rows : slice
            Starts where the last one ended.
        values : ndarray, (row, neuroid)

        Raises
        ------
        StoreError
            They are not the next rows, or the disk refuses them.
        """
        if rows.start != self.n_done:
            raise StoreError(
                f"{self._name!r} got rows from {rows.start}. Expected the next row, {self.n_done}: blocks come in order."
            )
        with writing(self._root):
            for band in range(rows.start // self._band, (rows.stop - 1) // self._band + 1):
                first, last = self._band_rows(band)
                a, b = max(first, rows.start), min(last, rows.stop)
                self._stage(band, a - first, values[a - rows.start : b - rows.start])
                if b == last:
                    self._compress(band)
            self.n_done = rows.stop
            if monotonic() - self._checked_at >= _CHECKPOINT_S:
                self._checkpoint()

    def finish(self) -> xr.DataArray:
        """Make the recording visible, and open it.

        Returns
        -------
        DataArray, (presentation, neuroid)
            Lazy.

        Raises
        ------
        StoreError
            Rows are missing.
        """
        if self.n_done != self._template.shape[0]:
            raise StoreError(f"{self._name!r} has {self.n_done} rows. Expected {self._template.shape[0]} before it is finished.")
        self._checkpoint()
        for array in self._arrays:
            seal_array(Path(array.store.root))
        discard(self._folder / _STAGING)
        publish(self._final)
        # only now: a writer killed before the rename must find its journal
        (self._final / JOURNAL).unlink()
        return open_item(self._final)

    def _begin(self) -> None:
        journal = _read_journal(self._folder / JOURNAL)
        groups = groups_of(self._template)
        if journal is not None and self._resume and journal[0] == self._key:
            drop_stray_files(self._folder)
            (self._folder / _STAGING).mkdir(exist_ok=True)
            self.n_done = journal[1]
            _drop_torn_line(self._folder / JOURNAL)
            header, _ = read_group(self._folder)
            paths = [self._folder / name for name in header["arrays"]]
        else:
            if journal is not None and journal[0] != self._key and self._on_mismatch is not None:
                self._on_mismatch(journal[0])
            paths = create_responses(self._folder, self._template, self._name, self._key)
            (self._folder / _STAGING).mkdir()
            _start_journal(self._folder / JOURNAL, self._key)
        self._arrays = [open_array_for_writing(path) for path in paths]
        self._band = self._arrays[0].chunks[0]
        self._checked_at = monotonic()
        self._tiles = [
            (array, slice(a, min(a + array.chunks[1], array.shape[1])), positions)
            for array, (_, positions) in zip(self._arrays, groups, strict=True)
            for a in range(0, array.shape[1], array.chunks[1])
        ]

    def _checkpoint(self) -> None:
        """Say in the journal what is done, and drop the staging files that are no longer needed."""
        staged = {int(file.name): file for file in (self._folder / _STAGING).iterdir()}
        for file in staged.values():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        with open(self._folder / JOURNAL, "a") as journal:
            journal.write(f"{self.n_done}\n")
            journal.flush()
            os.fsync(journal.fileno())
        for band, file in staged.items():
            if self._band_rows(band)[1] <= self.n_done:
                file.unlink()
        self._checked_at = monotonic()

    def _band_rows(self, band: int) -> tuple[int, int]:
        return band * self._band, min((band + 1) * self._band, self._template.shape[0])

    def _staging(self, band: int) -> Path:
        return self._folder / _STAGING / str(band)

    def _stage(self, band: int, at: int, values: np.ndarray[Any, Any]) -> None:
        """Put rows into the staging file of their band, in which the future chunks lie one after the other."""
        first, last = self._band_rows(band)
        offset = 0
        handle = os.open(self._staging(band), os.O_RDWR | os.O_CREAT)
        try:
            for _, columns, positions in self._tiles:
                part = np.ascontiguousarray(values[:, part_of(positions, columns)], dtype=self._template.dtype)
                width = part.shape[1] * part.itemsize
                _write_all(handle, memoryview(part).cast("B"), offset + at * width)
                offset += (last - first) * width
        finally:
            os.close(handle)

    def _compress(self, band: int) -> None:
        first, last = self._band_rows(band)
        with open(self._staging(band), "rb") as staged:
            for array, columns, _ in self._tiles:
                width = columns.stop - columns.start
                tile = np.fromfile(staged, dtype=self._template.dtype, count=(last - first) * width)
                array[first:last, columns] = tile.reshape(last - first, width)


def _write_all(handle: int, view: memoryview, offset: int) -> None:
    while view:
        n = os.pwrite(handle, view, offset)
        view, offset = view[n:], offset + n


def _start_journal(path: Path, key: dict[str, Any]) -> None:
    _replace(path, json.dumps(key) + "\n")


def _drop_torn_line(path: Path) -> None:
    """Remove what follows the last whole line, to which the next one would be joined."""
    text = path.read_text()
    if not text.endswith("\n"):
        _replace(path, text[: text.rindex("\n") + 1])


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}-new")
    beside.write_text(text)
    beside.replace(path)


def _read_journal(path: Path) -> tuple[dict[str, Any], int] | None:
    """Return the key and the number of rows done; a last line without its end does not count."""
    if not path.exists():
        return None
    lines = path.read_text().split("\n")[:-1]
    try:
        return json.loads(lines[0]), int(lines[-1]) if len(lines) > 1 else 0
    except (ValueError, IndexError):
        return None
