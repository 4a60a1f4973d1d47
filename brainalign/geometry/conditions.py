"""Which presentations show which condition, in which fold, and which of them and of the neuroids make one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.schema import as_labels
from brainalign.core.tables import numbered

Array = np.ndarray[Any, Any]
#: What to do instead of averaging over subjects.
APART = "`by='subject'` keeps subjects apart, and `x.drop_vars('subject')` does not."


@dataclass(frozen=True)
class Cell:
    """The presentations and the neuroids of one matrix.

    Attributes
    ----------
    labels : dict of str to object
        Its place along each dim of ``by``.
    rows, columns : ndarray of int
        Positions; a layer that one system lacks has none.
    """

    labels: dict[str, Any]
    rows: Array
    columns: Array

    def __str__(self) -> str:
        return ", ".join(f"{name}={preview([label])}" for name, label in self.labels.items()) or "all presentations and neuroids"


def labels_of(responses: xr.DataArray, name: str, *, parameter: str) -> tuple[Array, Array]:
    """Return the number of the label of each presentation, and the labels.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
    name : str
        A presentation coordinate.
    parameter : str
        Of ``rdm``, for the message.

    Returns
    -------
    codes : ndarray of int, (presentation,)
    labels : ndarray
        In the order in which they first appear; text, whatever the coordinate is.

    Raises
    ------
    ParameterError
        No such coordinate.
    SchemaError
        A presentation without a label.
    """
    known = [str(key) for key, c in responses.coords.variables.items() if c.dims == ("presentation",)]
    if name not in known:
        raise ParameterError(
            f"{parameter}={name!r} is no presentation coordinate. Expected one of {', '.join(known)}.{did_you_mean(name, known)}"
        )
    codes, labels = numbered(responses.coords[name].values, name, str(responses.coords[name].dims[0]))
    return codes, np.asarray(labels if labels.dtype == object else labels.astype(str), dtype=object)


def cells_of(responses: xr.DataArray, by: str | Sequence[str] | None) -> tuple[dict[str, Array], list[Cell]]:
    """Return the labels along each dim of ``by``, and the cells of their grid, in row-major order.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
    by : str, sequence of str or None
        Coordinates of neuroids or of presentations.

    Returns
    -------
    labels : dict of str to ndarray
    cells : list of Cell

    Raises
    ------
    ParameterError
        No such coordinate, or one twice.
    SchemaError
        A presentation or a neuroid without a label.
    """
    names = () if by is None else tuple(by) if np.iterable(by) and not isinstance(by, str) else (by,)
    if len(set(names)) < len(names):
        raise ParameterError(f"by={by!r} names a coordinate twice. Expected each once.")
    own = ("stimulus_id", "stimulus", "stimulus_2")  # the conditions, and the dims of the result
    own_dims = (("presentation",), ("neuroid",))
    known = [str(key) for key, c in responses.coords.variables.items() if c.dims in own_dims and key not in own]
    members: list[list[tuple[str, Any, str, Array]]] = []
    for name in names:
        if name not in known:
            raise ParameterError(
                f"by={name!r} is no coordinate of neuroids or presentations. Expected one of {', '.join(known)}.{did_you_mean(name, known)}"
            )
        dim = str(responses.coords[name].dims[0])
        codes, values = numbered(responses.coords[name].values, name, dim)
        members.append([(name, label, dim, codes == code) for code, label in enumerate(values)])
    cells = []
    for chosen in product(*members):
        kept = {dim: np.ones(responses.sizes[dim], dtype=bool) for dim in ("presentation", "neuroid")}
        for _, _, dim, mask in chosen:
            kept[dim] &= mask
        labels = {name: label for name, label, _, _ in chosen}
        cells.append(Cell(labels, np.flatnonzero(kept["presentation"]), np.flatnonzero(kept["neuroid"])))
    return {group[0][0]: as_labels([label for _, label, _, _ in group]) for group in members}, cells


def read_cells(responses: xr.DataArray, cells: list[Cell], *, max_memory: int) -> Iterator[tuple[list[int], Array, Array]]:
    """Read the responses of cells that are of the same presentations together, as far as memory allows.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Where it is lazy, its chunks are read once for many cells.
    cells : list of Cell
    max_memory : int
        Bytes of float64 for those read together; one that is larger is read alone.

    Yields
    ------
    those : list of int
        Which cells.
    columns : ndarray of int
        The neuroids of any of them, ascending.
    block : ndarray, (row, column[, time])
    """
    alike: dict[bytes, list[int]] = {}
    for i, cell in enumerate(cells):
        alike.setdefault(cell.rows.tobytes(), []).append(i)
    for group in alike.values():
        rows = cells[group[0]].rows
        room = max_memory // (8 * max(1, len(rows)) * responses.sizes.get("time", 1)) + 1
        ends = np.cumsum([len(cells[i].columns) for i in group])
        for those in np.split(group, np.flatnonzero(np.diff((ends - 1) // room)) + 1):
            columns = np.sort(np.concatenate([cells[i].columns for i in those]))  # of no two cells, where they have presentations
            whole = len(rows) == responses.shape[0] and len(columns) == responses.shape[1]
            # the variable alone: labels would take longer to select than what is small to compute
            yield those.tolist(), columns, (responses if whole else responses.variable[rows, columns]).values


def check_folds(counts: Array, conditions: Array, folds: Array, name: str, *, complete: bool, where: Cell) -> None:
    """Refuse folds between which nothing can be compared.

    Parameters
    ----------
    counts : ndarray of int, (fold, condition)
        Presentations.
    conditions, folds : ndarray
        Their labels.
    name : str
        The coordinate of the folds.
    complete : bool
        Every condition must be in every fold.
    where : Cell
        For the message.

    Raises
    ------
    SchemaError
        Fewer than two folds, or conditions that are not in two of them, or not in all.
    """
    if len(folds) < 2:
        raise SchemaError(f"folds={name!r} has {len(folds)} value ({preview(folds)}) in {where}. Expected at least two folds.")
    n_folds = (counts > 0).sum(axis=0)
    alone = conditions[n_folds == 1]
    if len(alone):
        raise SchemaError(
            f"{len(alone)} of {len(conditions)} conditions are in one fold of {name!r} only, in {where}: {preview(alone)}. Expected each "
            "in two or more: leave these out, or name folds that repeat the conditions."
        )
    partly = conditions[(n_folds > 0) & (n_folds < len(folds))]
    if complete and len(partly):
        raise SchemaError(
            f"{len(partly)} of {len(conditions)} conditions are missing from some of the {len(folds)} folds of {name!r}, in {where}: "
            f"{preview(partly)}. Expected each condition in each fold, for rates of all other folds to meet those of one: leave these out."
        )
