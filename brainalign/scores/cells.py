"""From scores of neuroids to cells of a grid, one for each group of the source and group of the target."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.schema import as_labels
from brainalign.engine.moments import Numbers, known_mean
from brainalign.scores.controls import with_best
from brainalign.scores.draws import interval
from brainalign.scores.inference import with_p_values


@dataclass(frozen=True)
class Grid:
    """The cells of a comparison.

    Attributes
    ----------
    rows, columns : str
        Dims: ``source_layer`` and ``target_region``.
    source_groups, target_groups : dict of object to ndarray of int
        Positions of the neuroids of each group.
    aggregate : {"median", "mean"}
    """

    rows: str
    columns: str
    source_groups: dict[Any, Numbers]
    target_groups: dict[Any, Numbers]
    aggregate: str

    def assemble(self, parts: Sequence[xr.Dataset], shared: Sequence[str]) -> xr.Dataset:
        """Return the grid of the results of all source groups.

        Parameters
        ----------
        parts : sequence of Dataset
            Of :func:`brainalign.evaluate`, one a source group, of the same target and folds.
        shared : sequence of str
            Controls that only the first part has, because they are the same for all.

        Returns
        -------
        Dataset
        """
        dims = parts[0].score.dims
        cell_dims = (self.rows, self.columns, *dims[1:])
        # A source group that says nothing takes no neuroid from the others.
        ok = np.any([part.status.values == "ok" for part in parts], axis=0)
        cells = [positions[ok[positions]] for positions in self.target_groups.values()]
        scores = np.stack([part.score.values for part in parts])  # (group, neuroid[, time])
        variables: dict[str, Any] = {
            "score": (cell_dims, self._reduced(scores, cells), parts[0].score.attrs),
            "score_neuroid": ((self.rows, *dims), scores),
            "n_features": ((self.rows,), [len(positions) for positions in self.source_groups.values()]),
            "n_neuroids": ((self.columns,), [len(cell) for cell in cells]),
        }
        variables |= {name: parts[0][name] for name in ("n_presentations",) if name in parts[0]}
        if all("alpha_at_edge" in part for part in parts):
            at_edge = np.stack([known_mean(part.alpha_at_edge.values) for part in parts])
            variables["alpha_at_edge"] = (cell_dims, _per_cell(at_edge, cells, known_mean))
        if "ceiling" in parts[0]:
            ceilings = parts[0].ceiling.values[None]
            known = np.isfinite(ceilings)  # at each time: a sensor without a ceiling before the response may have one during it
            top, mean_ceiling = (_per_cell(np.where(known, x, np.nan), cells, known_mean) for x in (scores, ceilings))
            variables["ceiling"] = (cell_dims[1:], mean_ceiling[0])
            variables["score_normalized"] = (cell_dims, top / mean_ceiling)
        coords: dict[str, Any] = {
            self.rows: as_labels(list(self.source_groups)),
            self.columns: as_labels(list(self.target_groups)),
        }
        coords |= {name: coord for name, coord in parts[0].coords.items() if coord.dims in (("neuroid",), ("time",), ("fold",))}
        coords["status"] = ("neuroid", as_labels(np.where(ok, "ok", parts[0].status.values)))
        out = self._with_choice(xr.Dataset(variables, coords=coords), parts, cells)
        if any("score_control" in part for part in parts):
            out = self._with_controls(out, parts, cells, shared)
        if "null_score" in parts[0]:
            null = self._stacked([part.null_score for part in parts], cells, "permutation", cell_dims)
            out = with_p_values(out, null).assign_attrs(null=parts[0].attrs["null"])
        if "score_bootstrap" in parts[0]:
            out["score_bootstrap"] = self._stacked([part.score_bootstrap for part in parts], cells, "bootstrap", cell_dims)
            out = out.assign(interval(out.score_bootstrap)).assign(n_units=parts[0].n_units)
        if "score_refit" in parts[0]:
            out["score_refit"] = self._stacked([part.score_refit for part in parts], cells, "refit", cell_dims)
        return out

    def _reduced(self, values: Numbers, cells: list[Numbers]) -> Numbers:
        return _per_cell(values, cells, np.nanmedian if self.aggregate == "median" else np.nanmean)

    def _stacked(self, draws: list[xr.DataArray], cells: list[Numbers], dim: str, cell_dims: tuple[str, ...]) -> xr.DataArray:
        # read one after the other, where they come from a store
        return xr.DataArray(np.stack([self._reduced(part.values, cells) for part in draws], axis=1), dims=(dim, *cell_dims))

    def _with_controls(
        self, out: xr.Dataset, parts: Sequence[xr.Dataset], cells: list[Numbers], shared: Sequence[str]
    ) -> xr.Dataset:
        found = [dict(zip(part.control.values.tolist(), part.score_control.values, strict=True)) for part in parts]
        names = list(dict.fromkeys(name for part in found for name in part))
        nothing = np.full(parts[0].score.shape, np.nan)
        columns = [
            [part.get(name, found[0].get(name, nothing) if name in shared else nothing) for part in found] for name in names
        ]
        values = np.stack([self._reduced(np.stack(column), cells) for column in columns])
        scores = xr.DataArray(values, dims=("control", *out.score.dims))
        return with_best(out.assign_coords(control=("control", as_labels(names))), scores)

    def _with_choice(self, out: xr.Dataset, parts: Sequence[xr.Dataset], cells: list[Numbers]) -> xr.Dataset:
        """Add what the best source group scores where it is chosen without the rows that it is scored on."""
        inner = [part.cv_score.values for part in parts if "cv_score" in part]
        if len(inner) < len(parts) or len(parts) == 1:
            return out.assign_attrs(
                choice="not held out: the mapping compares nothing on inner folds, or there is one source group"
            )
        folds = np.stack([self._reduced(x, cells) for x in inner])  # (group, fold, cell[, time])
        outer = np.stack([self._reduced(part.score_by_fold.values, cells) for part in parts])
        best = np.argmax(np.where(np.isnan(folds), -np.inf, folds), axis=0)
        score = known_mean(np.take_along_axis(outer, best[None], axis=0)[0], axis=0)
        names = as_labels(list(self.source_groups))[best]
        dims = out.score.dims[1:]
        chosen = f"chosen_{self.rows.removeprefix('source_')}"
        return out.assign({"score_of_chosen": (dims, score), chosen: (("fold", *dims), names)}).assign_attrs(choice="held out")


def _per_cell(values: Numbers, cells: list[Numbers], reduce: Any) -> Numbers:
    """Reduce (group, neuroid[, time]) over the neuroids of each cell; an empty cell is NaN."""
    empty = np.full((values.shape[0], *values.shape[2:]), np.nan)
    with warnings.catch_warnings():  # where every neuroid is NaN, NaN is the answer and no news
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.stack([reduce(values[:, cell], axis=1) if cell.size else empty for cell in cells], axis=1)
