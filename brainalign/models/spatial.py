"""``SpatialReadout``: mappings that know where on a map each target looks, and with what weights it reads the channels there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_number
from brainalign.engine.backend import move, to_numpy
from brainalign.engine.factorised import fit_factorised
from brainalign.engine.moments import column_status, deviations
from brainalign.engine.solvers import Splits
from brainalign.engine.spatial import gaussian_masks, pools, search_pools
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LabelledMapping, Values, working_device
from brainalign.models.places import FieldOfView, Maps, field_of_view

#: Penalties of pooled channels, in units of their summed variance.
RELATIVE_ALPHAS = np.logspace(-2, 5, 8)
#: Penalties of mask and weights, in units of what the Gaussian pool explains.
PENALTIES = np.logspace(-2.5, -0.5, 5)
_MOST_POSITIONS = 256  # of pools, without being asked for more


class SpatialReadout(LabelledMapping):
    """Readout of maps: each target has a receptive field, and one weight per channel within it.

    y_v = Σ s_v[place] u_v[channel] M[place, channel] + b_v: places + channels parameters a target, where ridge regression of
    the flattened maps has places × channels.

    Parameters
    ----------
    method : {"fwrf", "factorised"}
        ``"fwrf"``: s_v is a Gaussian pool, the best of a grid of positions and sizes that all targets and all maps share, maps of
        any resolution. ``"factorised"``: s_v is free, fitted from that pool on by alternating ridge; all channels on one grid.
    n_positions : int, optional
        Pool centres along the longer side; default one a place, at most 16 (6 in a volume). Where no place is, is no centre.
    sizes : int or sequence of float
        Standard deviations of the pools in fields of view; an int is their number, log-spaced from a quarter of the distance of
        two centres to half a field of view.
    alphas : float or sequence of float, optional
        Penalties of the pooled channels, in scikit-learn's convention. Default: one a decade from 1e-2 to 1e5, times the summed
        variance of the pooled channels.
    penalties : sequence of float, optional
        ``"factorised"``: candidates of α in Σ(y − ŷ)² + α(‖s‖² + ‖u‖²), as fractions of the covariance Σ y ŷ of what the pool
        predicts (s and u of unit length), above which nothing is left. Default: two a decade from 10^-2.5 to 10^-0.5.
    n_steps : int
        ``"factorised"``: alternations, at most. The number taken is chosen on held-out rows, and 0 keeps the pool.
    cv, groups : see :class:`Ridge`
        Inner folds on which pools, penalties and steps are compared.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    dtype : {"float32", "float64"}
        Of products over rows; decompositions are float64.
    max_memory : float
        Bytes that pooled maps and designs may take at a time, besides one copy of the maps. Less memory, the same result.

    Attributes
    ----------
    rf_ : dict of str to ndarray of float64, (target,)
        ``rf_x``, ``rf_y`` and ``rf_size``: centre and standard deviation of the receptive field in fields of view, from the middle
        of the maps, x to the right and y upward; the longer side of a map is 1. Of a source in space ``rf_x_mm``, ``rf_y_mm``,
        ``rf_z_mm`` and ``rf_size_mm``, in mm. Of a fitted mask the centre is the place with the largest weight, and the size the
        root mean square distance from it per axis, weighted by s². They are neuroid coordinates of what is predicted.
    channel_ : ndarray of float64, (channel, target)
        u_v, in the order of layers (regions, bands) and of the units in each.
    alpha_, alpha_at_edge_, cv_score_, status_, intercept_
        As in :class:`Ridge`.
    steps_ : ndarray of int, (target,)
        Alternations taken. ``alpha_`` is the penalty of the pooled channels where it is 0, and that of the objective elsewhere.
    field_of_view_ : FieldOfView

    Raises
    ------
    CapabilityError
        In ``fit``: the source has no grid or coordinates, maps with holes, or for ``"factorised"`` several grids or one channel.

    Notes
    -----
    Sources: St-Yves and Naselaris 2018 (feature-weighted receptive field); Klindt et al. 2017 (what × where). With voxels as the
    source, and ``x_mm`` ... as space, the Gaussian pool is a connective field (Haak et al. 2013).

    Examples
    --------
    >>> import brainalign as ba
    >>> maps = np.random.default_rng(0).normal(size=(200, 4, 6, 6))          # presentation, channel, y, x
    >>> y = maps[:, :2, 0, 5].sum(axis=1, keepdims=True)                       # reads the upper right corner
    >>> model = ba.SpatialReadout().fit(maps, y)
    >>> {name: round(float(value[0]), 2) for name, value in model.rf_.items()}
    {'rf_x': 0.42, 'rf_y': 0.42, 'rf_size': 0.04}
    """

    separate_targets = True

    def __init__(
        self,
        method: str = "fwrf",
        *,
        n_positions: int | None = None,
        sizes: Any = 4,
        alphas: Any = None,
        penalties: Any = None,
        n_steps: int = 6,
        cv: Any = 5,
        groups: Any = None,
        device: str = "cpu",
        dtype: str = "float32",
        max_memory: float = 2**29,
    ) -> None:
        self.method = method
        self.n_positions = n_positions
        self.sizes = sizes
        self.alphas = alphas
        self.penalties = penalties
        self.n_steps = n_steps
        self.cv = cv
        self.groups = groups
        self.device = device
        self.dtype = dtype
        self.max_memory = max_memory

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn receptive fields and channel weights.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time]), or ndarray, (presentation, channel, y, x)
            With ``channel_x`` and ``channel_y``, or ``x_mm``, ``y_mm``, ``z_mm``.
        Y : DataArray or ndarray, (presentation, neuroid[, time])

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            A parameter out of its range.
        CapabilityError
            One channel where ``method="factorised"``.
        """
        check_choice("method", self.method, ("fwrf", "factorised"), owner="SpatialReadout")
        check_choice("dtype", self.dtype, ("float32", "float64"), owner="SpatialReadout")
        check_number("max_memory", self.max_memory, owner="SpatialReadout", low=0, low_open=True)
        check_number("n_steps", self.n_steps, owner="SpatialReadout", low=1, integer=True)
        self.field_of_view_ = field_of_view(X, owner="SpatialReadout")
        if self.method == "factorised":
            grid = self.field_of_view_.one_grid("SpatialReadout(method='factorised')")
            if grid.columns.shape[1] == 1:
                raise CapabilityError(
                    f"SpatialReadout(method='factorised') got one channel at {len(grid.points)} places: mask × weight is then nothing but "
                    "ridge regression. Expected several channels (units, bands, times or delays) at the same places: use `ba.Ridge`, or "
                    "method='fwrf'."
                )
            self.field_of_view_ = replace(self.field_of_view_, maps=[grid])
        super().fit(X, Y)
        if self.target_coords_ is not None:
            dims = ("neuroid", "time")[: len(self.target_shape_)]
            self.target_coords_ |= {name: (dims, values.reshape(self.target_shape_)) for name, values in self.rf_.items()}
        return self

    def masks(self) -> xr.DataArray:
        """Return where each target looks: the weight of every place.

        Returns
        -------
        DataArray, (neuroid[, time], place)
            With the coordinates of the places (``channel_x``, ``channel_y``; ``layer`` where there are several maps), and the
            target's neuroids. Gaussian pools have a mass near 1 over the places of a map, fitted masks unit length; degenerate targets are NaN.

        Raises
        ------
        ParameterError
            The mapping was fitted on a plain target array.
        """
        labels = self.per_target(self.status_)
        maps = self.field_of_view_.maps
        values = np.concatenate(self._masks, axis=1)[self._kind]
        values[self.status_ != "ok"] = np.nan
        values = values.reshape(*labels.shape, -1)
        coords = {name: ("place", np.concatenate([m.places[name] for m in maps])) for name in maps[0].places}
        return xr.DataArray(values, dims=(*labels.dims, "place"), coords={**labels.coords, **coords}, name="mask")

    @property
    def coef_(self) -> Values:
        """Weights of the flattened maps, (feature, target): s_v u_vᵀ."""
        coef = np.zeros((len(self.features_used_), len(self._kind)), dtype=self.dtype)
        start = 0
        for m, mask in zip(self.field_of_view_.maps, self._masks, strict=True):
            weights = self.channel_[start : start + m.columns.shape[1]]
            coef[m.columns] = mask.T[:, None, self._kind] * weights[None]
            start += len(weights)
        coef[~self.features_used_] = 0
        return coef

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        self.status_ = column_status(y)
        ok = self.status_ == "ok"
        self._source_mean = x.mean(axis=0, dtype=np.float64)
        centred = deviations(y[:, ok])
        scale = centred.std(axis=0)
        found = _Found.empty(self.field_of_view_)
        if ok.any():
            found = self._search(self._blocks(x), centred / scale, inner_splits(self.cv, self.groups, len(y), rows))
        self._masks, self._kind = [mask.astype(self.dtype) for mask in found.masks], _spread(found.kind, ok, 0)
        self.channel_ = _spread(found.channel * scale, ok, 0.0)
        self.channel_[:, self.status_ == "nan"] = np.nan
        self.alpha_ = _spread(np.where(found.steps > 0, found.alpha * scale, found.alpha), ok)
        self.alpha_at_edge_, self.steps_ = _spread(found.alpha_at_edge, ok, False), _spread(found.steps, ok, 0)
        self.cv_score_ = _spread(found.cv_score, ok)
        self.rf_ = self._receptive_fields(_spread(found.place.T, ok))
        # Degenerate targets predict NaN; of a constant one the intercept is still known.
        self._target_mean = _spread(y[:, ok].mean(axis=0, dtype=np.float64), ok)
        self.intercept_ = self._predict_values(np.zeros((1, x.shape[1])))[0].astype(np.float64)
        constant = self.status_ == "constant"
        self.intercept_[constant] = y[0, constant]

    def _search(self, maps: list[Any], y: Values, splits: Splits) -> _Found:
        """Find the pool, or fit the mask, of each target."""
        targets = move(y.astype(self.dtype), working_device(self.device, owner="SpatialReadout"))
        centres, sizes = self._candidates()
        candidates = [gaussian_masks(m.points, m.cell, centres, sizes) for m in self.field_of_view_.maps]
        alphas = RELATIVE_ALPHAS if self.alphas is None else _positive("alphas", self.alphas)
        pool = search_pools(maps, candidates, targets, alphas, splits, relative=self.alphas is None, max_memory=self.max_memory)
        used, kind = np.unique(pool.candidate, return_inverse=True)
        masks, place = [mask[used] for mask in candidates], np.column_stack([centres, sizes])[pool.candidate]
        spread = np.sum([(deviations(y[test]) ** 2).sum(axis=0) for _, test in splits], axis=0)
        spread[spread == 0] = np.nan  # nothing varies in any held-out rows
        if self.method == "fwrf":
            steps, score = np.zeros(len(kind), dtype=np.int64), 1 - pool.error / spread
            return _Found(masks, kind, pool.channel, pool.alpha, pool.alpha_at_edge, steps, score, place)
        penalties = PENALTIES if self.penalties is None else _positive("penalties", self.penalties)
        spatial, channel, alpha, steps, error = fit_factorised(
            maps[0], targets, masks[0][kind].T, pool.alpha, penalties, splits, n_steps=self.n_steps, max_memory=self.max_memory
        )
        spatial, channel = _unit_length(spatial, channel)
        place = np.where(steps[:, None] > 0, _peak_and_spread(spatial, self.field_of_view_.maps[0]), place)
        at_edge = (steps == 0) & pool.alpha_at_edge
        return _Found([spatial.T], np.arange(len(alpha)), channel, alpha, at_edge, steps, 1 - error / spread, place)

    def _predict_values(self, x: Values) -> Values:
        out = np.empty((len(x), len(self._kind)), dtype=self.dtype)
        order = np.argsort(self._kind, kind="stable")
        edges = np.searchsorted(self._kind[order], np.arange(len(self._masks[0]) + 1))
        for k, pooled in pools(self._blocks(x), self._masks, self.max_memory):
            own = order[edges[k] : edges[k + 1]]
            out[:, own] = to_numpy(pooled) @ self.channel_[:, own].astype(self.dtype) + self._target_mean[own]
        return out

    def _blocks(self, x: Values) -> list[Any]:
        """Return the centred maps of each layer (region, band), (row, place, channel)."""
        full = np.zeros((len(x), len(self.features_used_)), dtype=self.dtype)
        # Means first, in float64: features far from 0 would drown their variance in the rounding of a product.
        full[:, self.features_used_] = x - self._source_mean
        device = working_device(self.device, owner="SpatialReadout")
        return [move(full[:, m.columns], device) for m in self.field_of_view_.maps]

    def _candidates(self) -> tuple[Values, Values]:
        """Return centre and size of every pool: the places, averaged within each cell of a lattice that holds any."""
        points = np.concatenate([m.points for m in self.field_of_view_.maps])
        finest = int(np.ceil(np.ptp(points, axis=0).max() / min(m.cell.min() for m in self.field_of_view_.maps) - 1e-9)) + 1
        n = min(finest, round(_MOST_POSITIONS ** (1 / points.shape[1])))
        if self.n_positions is not None:
            n = check_number("n_positions", self.n_positions, owner="SpatialReadout", low=1, integer=True)
        cells = np.clip(np.floor((points + 0.5) * n), 0, n - 1)
        _, home = np.unique(cells, axis=0, return_inverse=True)
        count = np.bincount(home.ravel())
        centres = np.stack([np.bincount(home.ravel(), axis) / count for axis in points.T], axis=1)
        sizes = self._sizes(1 / n)
        return np.repeat(centres, len(sizes), axis=0), np.tile(sizes, len(centres))

    def _sizes(self, spacing: float) -> Values:
        if isinstance(self.sizes, (int, np.integer)) and not isinstance(self.sizes, bool):
            return np.geomspace(spacing / 4, 0.5, check_number("sizes", self.sizes, owner="SpatialReadout", low=1, integer=True))
        return _positive("sizes", self.sizes)

    def _receptive_fields(self, place: Values) -> dict[str, Values]:
        view = self.field_of_view_
        unit = "_mm" if view.axes[0].endswith("_mm") else ""
        centre = {f"rf_{name}": place[k] * view.scale + view.centre[k] for k, name in enumerate(view.axes)}
        return {**centre, f"rf_size{unit}": place[-1] * view.scale}


@dataclass(frozen=True)
class _Found:
    """What was fitted: masks (kind, place) of each map, which of them each target has, and its state."""

    masks: list[Values]
    kind: Values
    channel: Values
    alpha: Values
    alpha_at_edge: Values
    steps: Values
    cv_score: Values
    place: Values

    @classmethod
    def empty(cls, view: FieldOfView) -> _Found:
        none = np.zeros(0)
        masks = [np.zeros((1, len(m.points))) for m in view.maps]
        channel = np.zeros((sum(m.columns.shape[1] for m in view.maps), 0))
        place = np.zeros((0, len(view.axes) + 1))
        return cls(masks, none.astype(int), channel, none, none.astype(bool), none.astype(int), none, place)


def _positive(name: str, values: Any) -> Values:
    """Return positive numbers, ascending."""
    try:
        found = np.unique(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.size == 0 or not np.isfinite(found).all() or found[0] <= 0:
        raise ParameterError(f"The {name!r} parameter of SpatialReadout must be positive finite numbers. Got {values!r} instead.")
    return found


def _unit_length(spatial: Values, channel: Values) -> tuple[Values, Values]:
    """Give masks unit length and a positive peak; the weights take up the rest."""
    peak = spatial[np.argmax(np.abs(spatial), axis=0), np.arange(spatial.shape[1])]
    length = np.linalg.norm(spatial, axis=0) * np.where(peak < 0, -1, 1)
    length[length == 0] = 1.0
    return spatial / length, channel * length


def _peak_and_spread(spatial: Values, maps: Maps) -> Values:
    """Return (target, axis + 1): the place of the peak, and the root mean square distance from it per axis."""
    peak = maps.points[np.argmax(np.abs(spatial), axis=0)]
    away = ((maps.points[:, None] - peak[None]) ** 2).sum(axis=2)
    spread = np.sqrt((spatial**2 * away).sum(axis=0) / np.maximum((spatial**2).sum(axis=0), 1e-300) / peak.shape[1])
    return np.column_stack([peak, spread])


def _spread(values: Values, ok: Values, fill: float = np.nan) -> Values:
    """Return values of all targets, last dim, from those of the targets that can be fitted."""
    out = np.full((*values.shape[:-1], len(ok)), fill, dtype=values.dtype)
    out[..., ok] = values
    return out
