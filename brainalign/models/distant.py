"""``DistantRidge``: predict a neuroid from the others of its system, but not from its neighbours, whose noise it shares."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.parameters import check_number, preview
from brainalign.core.schema import dim_of
from brainalign.core.tables import coords_of
from brainalign.engine.backend import move, to_numpy
from brainalign.engine.moments import column_status, is_constant
from brainalign.engine.solvers import RidgeSolution, solve_ridge
from brainalign.engine.subsets import Subsets
from brainalign.features.flat import flatten_time
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LinearMapping, Values
from brainalign.models.places import GRID, SPACE
from brainalign.models.ridge import Ridge, _warn_of_rounding

Labels = dict[str, Values]


class DistantRidge(LinearMapping):
    """Ridge regression of each target on those neuroids of its own system that lie beyond a radius, and on all of other systems.

    Neighbouring voxels (sensors, cells) share noise, by which one predicts the other without sharing any signal. Between two
    people, or a person and a network, there is nothing to leave out, and this is :class:`Ridge`.

    Parameters
    ----------
    radius : float
        Neuroids up to this distance from a target, itself included, are left out of its source: in mm where they have ``x_mm``,
        ``y_mm``, ``z_mm``; in places of a map where they have ``channel_x`` and ``channel_y``, and then within a ``layer`` only.
    alphas, cv, groups, fit_intercept, device, dtype
        As in :class:`Ridge`. The default alphas are relative to the summed variance of the features that a target keeps.

    Attributes
    ----------
    n_left_out_ : ndarray of int, (target,)
        Features within the radius.
    alpha_ : ndarray of float64, (target,)
        NaN for targets that are not fitted.
    coef_ : ndarray, (feature, target)
        0 for features that are left out or constant, NaN for targets that are NaN or have no source.
    intercept_, cv_score_ : ndarray of float64, (target,)
        As in :class:`Ridge`.
    alpha_at_edge_ : ndarray of bool, (target,)
    status_ : ndarray of str, (target,)
        As in :class:`Ridge`; and ``"no source"`` where no feature that varies lies beyond the radius. Predictions of all that are
        not ``"ok"`` are NaN.

    Raises
    ------
    CapabilityError
        In ``fit``: sides without labels or ``system``, or no coordinates for neuroids of a system that is on both sides.

    Notes
    -----
    Targets that leave out the same features are fitted together. Each such set costs a decomposition of about 9 k³ flops, k the
    smaller number of presentations or features, for which the Gram matrix is taken from that of the whole source
    (:mod:`brainalign.engine.subsets`): 13 CPU-milliseconds a voxel in 300 presentations, 0.14 s in 1000. The fit is exactly that of
    :class:`Ridge` on the features that are left. Source: Mell, St-Yves and Naselaris 2021 (voxel-to-voxel models).

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> noise = np.repeat(rng.normal(size=(200, 3)), 2, axis=1)  # of two neighbours each
    >>> brain = ba.responses(noise, stimulus_id=[f"s{i}" for i in range(200)], neuroid_id=range(6), modality="fmri", system="sub-01",
    ...                      x_mm=[0, 3, 50, 53, 90, 93])
    >>> [bool((ba.DistantRidge(radius).fit(brain, brain).cv_score_ > 0.1).any()) for radius in (1.0, 10.0)]
    [True, False]
    """

    def __init__(
        self,
        radius: float,
        alphas: Any = None,
        cv: Any = 5,
        groups: Any = None,
        fit_intercept: bool = True,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.radius = radius
        self.alphas = alphas
        self.cv = cv
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn to predict ``Y`` from what of ``X`` lies beyond the radius.

        Parameters
        ----------
        X, Y : DataArray, (presentation, neuroid[, time])
            With ``system``; the neuroids of a system that is on both sides with coordinates.

        Returns
        -------
        self
        """
        radius = check_number("radius", self.radius, owner="DistantRidge", low=0.0)
        self._neighbours = neighbours(X, Y, radius, owner="DistantRidge")
        return super().fit(X, Y)

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        plain = Ridge(self.alphas, fit_intercept=self.fit_intercept, device=self.device, dtype=self.dtype)
        device = plain._check("DistantRidge")
        alphas = plain._candidates(x, owner="DistantRidge")
        self.status_, t = column_status(y), y.shape[1]
        self._allocate(y)
        self.alpha_ = np.where(self.status_ == "constant", alphas[-1], np.nan)
        self.alpha_at_edge_, self.n_left_out_ = np.zeros(t, dtype=bool), np.zeros(t, dtype=np.int64)
        choose = len(alphas) > 1 and bool((self.status_ == "ok").any())
        splits = inner_splits(self.cv, self.groups, len(y), rows) if choose else None
        source = Subsets.of(move(x, device), splits, fit_intercept=self.fit_intercept, dtype=self.dtype)
        self._source_mean = to_numpy(source.mean)
        moving = (source.squares > 0) & (~is_constant(x) | (not self.fit_intercept))
        largest = 0.0
        for near, targets in self._neighbours:
            self.n_left_out_[targets] = len(near)
            targets = targets[self.status_[targets] == "ok"]
            kept = np.ones(len(self.features_used_), dtype=bool)
            kept[near] = False
            kept = self._select(kept[None])[0] & moving
            if not (targets.size and kept.any()):
                self.status_[targets], self.coef_[:, targets] = "no source", np.nan
                continue
            factor, grid = source.factor(kept), alphas
            if self.alphas is None:
                grid = alphas * (source.squares[kept].sum() / source.squares.sum())
            solution = solve_ridge(
                factor.centred, y[:, targets], grid, splits, fit_intercept=self.fit_intercept, search="screen", device=device,
                dtype=self.dtype, factor=factor,
            )  # fmt: skip
            self._take(solution, grid, targets, np.flatnonzero(self.features_used_)[kept])
            largest = max(largest, solution.largest)
        if self.alphas is not None and self.dtype == "float32":
            _warn_of_rounding(alphas, largest, len(x))

    def _take(self, solution: RidgeSolution, alphas: Values, targets: Values, features: Values) -> None:
        """Write what was fitted to some targets."""
        chosen, coef = solution.alpha_index, solution.coef
        self.alpha_[targets] = alphas[chosen]
        self.alpha_at_edge_[targets] = np.isin(chosen, (0, len(alphas) - 1)) & (len(alphas) > 1)
        if solution.heldout_score is not None:
            self.cv_score_[targets] = solution.heldout_score[chosen, np.arange(len(chosen))]
        failed = ~np.isfinite(coef).all(axis=0)
        self.status_[targets[failed]], coef[:, failed] = "failed", np.nan
        self.coef_[np.ix_(features, targets)] = coef
        self._target_mean[targets] = solution.target_mean
        self.intercept_[targets] = solution.target_mean - solution.source_mean @ coef.astype(np.float64)


def neighbours(X: Any, Y: Any, radius: float, *, owner: str) -> list[tuple[Values, Values]]:
    """Return which features lie within a radius of which targets, in the same system.

    Parameters
    ----------
    X, Y : DataArray, (presentation, neuroid[, time])
    radius : float
        In the unit of the coordinates; the boundary is within.
    owner : str
        For the messages.

    Returns
    -------
    list of (ndarray of int, ndarray of int)
        Positions among the flattened features, ascending, and the targets whose neighbours these are. Every target is in one.

    Raises
    ------
    CapabilityError
        Neuroids that are to be compared say nothing of their system, or of where they lie.
    """
    from scipy.spatial import KDTree

    source, target = (_neuroids(side, name, owner) for side, name in ((X, "source"), (Y, "target")))
    n, t = (len(side["neuroid_id"]) for side in (source, target))
    systems = _codes(source["system"], target["system"])
    near = [np.zeros(0, dtype=np.int64)] * t
    for code in np.intersect1d(systems[:n], systems[n:]):
        here, there = np.flatnonzero(systems[:n] == code), np.flatnonzero(systems[n:] == code)
        points, centres = _places(_some(source, here), _some(target, there), radius, owner)
        for k, found in zip(there, KDTree(points).query_ball_point(centres, radius, return_sorted=True), strict=True):
            near[k] = here[np.asarray(found, dtype=np.int64)]
    alike: dict[bytes, list[int]] = {}
    for k, features in enumerate(near):
        alike.setdefault(features.tobytes(), []).append(k)
    return [(near[targets[0]], np.array(targets)) for targets in alike.values()]


def _neuroids(side: Any, name: str, owner: str) -> Labels:
    """Return the labels of flattened features, which must name their system."""
    labels: Labels = {}
    if isinstance(side, xr.DataArray):
        labels = coords_of(flatten_time(side.isel(presentation=slice(0, 1))), "neuroid")
        shared = {str(label): c.values for label, c in side.coords.items() if c.dims == () and dim_of(str(label)) == "neuroid"}
        labels |= {label: np.repeat(value, len(labels["neuroid_id"])) for label, value in shared.items()}
    if "system" not in labels:
        what = "no `system` in" if labels else f"a plain {type(side).__name__} as"
        raise CapabilityError(
            f"{owner} got {what} the {name}. Expected the system of each neuroid, for only neuroids of one system are left out of each "
            "other's source: build both sides with `ba.responses(..., system=...)`, or use `ba.Ridge`."
        )
    return labels


def _places(source: Labels, target: Labels, radius: float, owner: str) -> tuple[Values, Values]:
    """Return the points of one system's neuroids on both sides, (neuroid, axis); those of other layers are out of reach on a grid."""
    sides = {"source": source, "target": target}
    given = [tuple(axis for axis in axes if any(_known(side, axis).any() for side in sides.values())) for axes in (GRID, SPACE)]
    names = given[0] or given[1] or SPACE
    points = []
    for name, side in sides.items():
        known = np.stack([_known(side, axis) for axis in names], axis=1)
        lost = np.flatnonzero(~known.all(axis=1))
        if lost.size:
            axes = ", ".join(f"`{axis}`" for axis in np.array(names)[~known.all(axis=0)])
            raise CapabilityError(
                f"{owner} got {lost.size} of {len(known)} {name} neuroids of {side['system'][0]!s} without {axes}, first "
                f"{preview(side['neuroid_id'][lost])}, and that system is on both sides. Expected a place for each, to tell its neighbours: "
                "assign the coordinates with `x.assign_coords(x_mm=('neuroid', values), ...)` (`channel_x`, `channel_y` for maps), drop "
                "neuroids that have none, and leave out steps that mix places (PCA, ba.Reduce)."
            )
        points.append(np.stack([side[axis].astype(np.float64) for axis in names], axis=1))
    if names[0] in GRID and "layer" in source and "layer" in target:
        layers = _codes(source["layer"], target["layer"]) * (2 * radius + 1.0)
        points = [np.column_stack([p, part]) for p, part in zip(points, np.split(layers, [len(points[0])]), strict=True)]
    return points[0], points[1]


def _known(side: Labels, axis: str) -> Values:
    """Say which neuroids have a coordinate; on a grid it is not negative (class and register tokens have no place)."""
    values = side[axis].astype(np.float64) if axis in side else np.full(len(side["neuroid_id"]), np.nan)
    return np.isfinite(values) & ((values >= 0) | (axis in SPACE))


def _codes(first: Values, second: Values) -> Values:
    return np.unique(np.concatenate([first, second]), return_inverse=True)[1]


def _some(labels: Labels, some: Values) -> Labels:
    return {name: values[some] for name, values in labels.items()}
