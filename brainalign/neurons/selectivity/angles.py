"""``tuning``: how every neuroid depends on the direction or the orientation of what was shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.engine.bootstrap import Drawn, draw_weights
from brainalign.engine.chance import Chance
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.tuning import circular_index, fit_curves, harmonic
from brainalign.neurons.labelling import blocks_of, labelled, neuroid_labels, rows_of

_VALUES = 2**22  # means of permutations that are held at a time: 32 MB
_ORDERS = {"orientation": 2, "direction": 1}


def tuning(
    responses: xr.DataArray,
    angle: str,
    *,
    period: int = 360,
    within: str | None = None,
    n_permutations: int = 0,
    n_bootstraps: int = 0,
    max_memory: int = 2**30,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Describe how neuroids depend on an angle: selectivity, preferred angle, width, and whether chance does as well.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Single presentations; lazy values are read block by block.
    angle : str
        Presentation coordinate, in degrees; evenly spaced over the period.
    period : {360, 180}
        360 for directions of motion, which have an orientation too; 180 for orientations.
    within : str, optional
        Presentation coordinate within which presentations change places.
    n_permutations : int
        How often presentations change places; rows in time (with ``onset_s``) are shifted instead, each run in a circle.
    n_bootstraps : int
        How often the presentations of each angle are drawn with replacement.
    max_memory : int
        Bytes for the responses that are held at a time.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over blocks of neuroids.

    Returns
    -------
    Dataset
        ``response`` and ``response_sem`` (angle, neuroid[, time]), mean and standard error. By ``tuning`` ("orientation" and, of
        directions, "direction"), (tuning, neuroid[, time]): ``score``, the circular selectivity index ``|Σ r e^{ikθ}| / Σ r`` of
        rectified mean responses, 0 to 1 (of orientation one less the circular variance); ``preferred_deg``, the angle of that
        sum; ``amplitude``, that of the harmonic, in the unit of the responses. With permutations ``chance``, the mean index of
        presentations that changed places (noise has one too), and ``p_value``, ``p_value_fdr`` and ``p_value_max`` of the
        amplitude. With bootstraps ``ci_low`` and ``ci_high`` (95%) of the score. Of a von Mises curve, (neuroid[, time]):
        ``fit_preferred_deg``, ``half_width_deg`` (half width at half height, no less than the spacing of angles can tell),
        ``fit_r2`` over angles, ``fit_kappa``, ``fit_base``, ``fit_height`` and, of directions, ``fit_opposite``, of a second lobe
        of the same width at 180°. Coordinate ``status``: "ok", "constant", "nan", or "silent" where no mean response is above 0
        at any time, so that there is no index.

    Raises
    ------
    ParameterError
        Angles that are no numbers, too few (under five directions, four orientations) or unevenly spaced.
    SchemaError
        A presentation without an angle.

    Notes
    -----
    The index divides by the sum of responses, which is near 0 in noise; significance is that of the harmonic's amplitude instead,
    from responses as they are. Orientation: Ringach, Shapley and Hawken 2002; Mazurek, Kager and Van Hooser 2014.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> angles = np.tile(np.arange(0, 360, 45), 8)
    >>> rate = np.exp(2 * (np.cos(2 * np.deg2rad(angles - 45)) - 1))
    >>> x = ba.responses(rate[:, None], stimulus_id=angles, neuroid_id=["cell"], modality="spikes", system="m",
    ...                  presentation={"deg": angles})
    >>> out = ba.neurons.tuning(x, "deg")
    >>> out.score.values[:, 0].round(2), out.preferred_deg.values[0].round(1), out.half_width_deg.values.round(0)
    (array([0.76, 0.  ]), array([45.]), array([27.]))
    """
    check_choice("period", period, (360, 180), owner="tuning")
    for name, number, low in (
        ("n_permutations", n_permutations, 0),
        ("n_bootstraps", n_bootstraps, 0),
        ("max_memory", max_memory, 1),
    ):
        check_number(name, number, owner="tuning", low=low, integer=True)
    seed = check_random_state(random_state, owner="tuning")
    validate(responses)
    degrees, codes = _angles(responses, angle, period)
    rows = rows_of(responses, None, within, owner="tuning")
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(2)]
    found = _Tuned(responses, degrees, codes, period)
    if n_bootstraps and found.counts.min() < 2:
        raise ParameterError(
            f"tuning got n_bootstraps={n_bootstraps} with a single presentation of an angle. Expected two of each."
        )
    found.run(
        rows.orders(n_permutations, streams[0]) if n_permutations else None,
        _weights(codes, n_bootstraps, streams[1]) if n_bootstraps else None,
        max_memory,
        progress,
    )
    out = found.labelled().assign_attrs(
        metric="circular selectivity", units=str(responses.attrs.get("units", "")), period_deg=period
    )
    params = {"angle": angle, "period": period, "within": within, "n_permutations": n_permutations, "n_bootstraps": n_bootstraps}
    return write_step(out, "tuning", params=params, inputs={"responses": responses}, seed=seed)


class _Tuned:
    """What is found, block by block; columns are neuroids × times."""

    def __init__(self, x: xr.DataArray, degrees: Numbers, codes: Numbers, period: int) -> None:
        self.x, self.degrees, self.period = x, degrees, period
        self.member = np.eye(len(degrees))[codes]
        self.counts = self.member.sum(axis=0)
        self.kinds = [kind for kind in _ORDERS if kind == "orientation" or period == 360]
        self.harmonics = [_ORDERS[kind] for kind in self.kinds]
        self.angles = np.deg2rad(degrees)
        self.n_times = x.shape[2] if x.ndim > 2 else 1
        self.parts: dict[str, list[Numbers]] = {}
        self.chance: Chance | None = None

    def run(self, orders: Numbers | None, weights: Numbers | None, max_memory: int, progress: bool | None) -> None:
        draws = max(len(x) if x is not None else 1 for x in (orders, weights))
        together = int(np.clip(_VALUES // (draws * len(self.degrees)), 1, 512))
        if orders is not None:
            self.chance = Chance((self.x.shape[1] * self.n_times, len(self.kinds)), len(orders))
        blocks = blocks_of(self.x, max_memory=max_memory, owner="tuning", together=together)
        for unit, values in progress_bar(blocks, progress=progress, desc="tuning"):
            status = column_status(values)
            usable = np.where(status == "ok", values, 0).astype(np.float64)
            means = self.member.T @ usable / self.counts[:, None]
            found = {"response": means.T, "response_sem": self._sem(usable, means).T} | self._indices(means) | self._fitted(means)
            if orders is not None and self.chance is not None:
                amplitudes, chance = self._of_orders(usable, orders)
                at, sd = slice(unit.start * self.n_times, unit.stop * self.n_times), usable.std(axis=0)[:, None]
                scale = 1.0 / np.where(sd > 0, sd, np.nan)
                self.chance.add(at, found["amplitude"] * scale, amplitudes * scale)
                found["chance"] = chance
            if weights is not None:
                found["ci_low"], found["ci_high"] = self._interval(usable, weights, found["score"])
            found = {
                name: np.where((status == "ok").reshape(-1, *[1] * (part.ndim - 1)), part, np.nan) for name, part in found.items()
            }
            found["status"] = np.where((status == "ok") & ~(means > 0).any(axis=0), "silent", status)
            for name, part in found.items():
                self.parts.setdefault(name, []).append(part)

    def _sem(self, values: Numbers, means: Numbers) -> Numbers:
        squares = self.member.T @ np.square(values - self.member @ means)
        n = self.counts[:, None]
        return np.asarray(np.sqrt(squares / np.where(n > 1, n - 1, np.nan) / n))

    def _indices(self, means: Numbers) -> dict[str, Numbers]:
        """Return indices, angles and amplitudes, (column, tuning)."""
        rates = np.maximum(means, 0.0)
        phases = [np.rad2deg(np.angle(harmonic(rates, self.angles, k))) / k % (360 / k) for k in self.harmonics]
        preferred = np.where(rates.any(axis=0), phases, np.nan).T
        return {"score": self._index(means), "preferred_deg": preferred, "amplitude": self._amplitude(means)}

    def _index(self, means: Numbers) -> Numbers:
        return np.stack([circular_index(means, self.angles, k) for k in self.harmonics], axis=-1)

    def _amplitude(self, means: Numbers) -> Numbers:
        return np.stack([2.0 / len(means) * np.abs(harmonic(means, self.angles, k)) for k in self.harmonics], axis=-1)

    def _fitted(self, means: Numbers) -> dict[str, Numbers]:
        two = self.period == 360
        curves = fit_curves(means, self.angles if two else 2 * self.angles, lobes=2 if two else 1)
        widths = np.rad2deg([curves.preferred, curves.half_width]) / (1 if two else 2)
        found = {"fit_preferred_deg": widths[0], "half_width_deg": widths[1], "fit_r2": curves.r2, "fit_kappa": curves.kappa}
        found |= {"fit_base": curves.base, "fit_height": curves.height}
        return found | ({"fit_opposite": curves.opposite} if two else {})

    def _of_orders(self, values: Numbers, orders: Numbers) -> tuple[Numbers, Numbers]:
        """Return amplitudes of presentations that changed places, (draw, column, tuning), and the mean index."""
        means = np.stack([self.member[order].T @ values / self.counts[:, None] for order in orders], axis=1)
        indices = self._index(means)
        return self._amplitude(means), np.where(np.isnan(indices), 0.0, indices).mean(axis=0)

    def _interval(self, values: Numbers, weights: Numbers, score: Numbers) -> tuple[Numbers, Numbers]:
        means = np.stack([(self.member * w[:, None]).T @ values / self.counts[:, None] for w in weights], axis=1)
        low, high = Drawn(score, self._index(means), (), [int(self.counts.min())]).centred().interval(0.95)
        return np.maximum(low, 0.0), np.minimum(high, 1.0)

    def labelled(self) -> xr.Dataset:
        found = {name: np.concatenate(parts) for name, parts in self.parts.items()}
        status = found.pop("status").reshape(-1, self.n_times)
        worst = [next((word for word in ("nan", "constant", "ok") if word in row.tolist()), "silent") for row in status]
        if self.chance is not None:
            found |= self.chance.found()
        variables = {}
        for name, values in found.items():
            wide = np.moveaxis(values.reshape(-1, self.n_times, *values.shape[1:]), [0, 1], [-2, -1])
            lead = {2: (), 3: ("angle" if name.startswith("response") else "tuning",)}[wide.ndim]
            variables[name] = ((*lead, "neuroid", "time"), wide) if "time" in self.x.dims else ((*lead, "neuroid"), wide[..., 0])
        coords: dict[str, Any] = neuroid_labels(self.x) | {"status": ("neuroid", as_labels(worst))}
        coords |= {"angle": ("angle", self.degrees, {"units": "degrees"}), "tuning": as_labels(self.kinds)}
        return xr.Dataset(variables, coords).assign(n_presentations=("angle", self.counts.astype(np.int64)))


def _weights(codes: Numbers, n: int, rng: np.random.Generator) -> Numbers:
    """Return how often each row is drawn, each angle's rows among themselves."""
    weights = np.empty((n, len(codes)))
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        weights[:, rows] = draw_weights(len(rows), n, rng)
    return weights


def _angles(x: xr.DataArray, name: str, period: int) -> tuple[Numbers, Numbers]:
    """Return the angles that were shown, ascending, in degrees, and which one each presentation showed."""
    values = labelled(x, name, owner="tuning")
    if np.asarray(values).dtype.kind not in "iuf":
        raise ParameterError(f"tuning got {name!r} with values {preview(values)}. Expected numbers, in degrees.")
    degrees, codes = np.unique(np.round(np.asarray(values, dtype=np.float64) % period, 6), return_inverse=True)
    steps = np.diff(np.r_[degrees, degrees[0] + period])
    least = 5 if period == 360 else 4
    if len(degrees) < least or not np.allclose(steps, period / len(degrees), atol=1e-3):
        raise ParameterError(
            f"tuning got {len(degrees)} angles in {name!r}: {preview(degrees, 8)}. Expected {least} or more, evenly "
            f"spaced over {period} degrees, on which harmonics are independent; of orientations pass period=180."
        )
    return degrees, codes
