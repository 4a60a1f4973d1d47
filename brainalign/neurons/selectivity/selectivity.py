"""``selectivity``: which neuroids respond to which categories, the same for a unit and a voxel, as many as there are."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.engine.auroc import dampening
from brainalign.engine.bootstrap import Drawn
from brainalign.engine.chance import Chance
from brainalign.engine.information import kinds_of_activation
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.selective import NAMES, Selectivity, activation_probability, active_above, measure
from brainalign.neurons.labelling import blocks_of, labels_of, neuroid_labels, rows_of

_BAR = 0.95  # quantile of all activation probabilities, above which one is high: Tang et al. 2024
_VALUES = 2**23  # scores of permutations that are held at a time: 64 MB


def selectivity(
    responses: xr.DataArray,
    target: str | xr.DataArray,
    *,
    metric: str = "auroc",
    groups: str | None = "stimulus_id",
    within: str | None = None,
    two_sided: bool = False,
    threshold: float | None = None,
    n_bins: int = 4,
    n_permutations: int = 0,
    n_bootstraps: int = 0,
    max_memory: int = 2**30,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Say of every neuroid how well its response tells each category from all others.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Lazy values are read block by block; all presentations of a neuroid are held.
    target : str, or DataArray of bool (presentation, category)
        A presentation coordinate that holds labels, or whether each presentation shows each of several things.
    metric : {"auroc", "dprime", "mutual-information", "lape"}
        The share of pairs in which the category gives the higher response; the distance of means, in standard deviations; what
        the response, in ``n_bins`` bins of equal size, says of the category, in bits (corrected, so that chance is 0); or the
        entropy of how often categories make a neuroid active, one value a neuroid, low where it is selective.
    groups : str or None
        Presentation coordinate whose rows keep together when labels are exchanged or rows drawn; None for single presentations,
        which says nothing of other stimuli than these.
    within : str, optional
        Presentation coordinate, such as ``"session"``, within which labels are exchanged.
    two_sided : bool
        Test lower responses too, of "auroc" and "dprime".
    threshold : float, optional
        Of "lape": from which response on a neuroid is active. Default 0 for a neuroid whose lowest response is exactly 0, and one
        standard deviation above its mean for others.
    n_bins : int
        Of "mutual-information".
    n_permutations : int
        How often labels change places. Rows in time (with ``onset_s``) are shifted instead, each run in a circle.
    n_bootstraps : int
        How often groups, or stretches of 20 s, are drawn with replacement.
    max_memory : int
        Bytes for the responses that are held at a time.
    random_state : int, Generator or None
    progress : bool or None
        Show a progress bar. None: on a terminal or in a notebook, once it takes more than five seconds.

    Returns
    -------
    Dataset
        ``score`` (neuroid, category[, time]); of "lape" (neuroid[, time]). With permutations ``p_value``, ``p_value_fdr`` and
        ``p_value_max``, which holds for all scores together; with bootstraps ``ci_low`` and ``ci_high`` (95%).
        ``n_presentations`` (category). Of "auroc" ``dampening``, by which AurA would multiply the neuroid. Of "lape"
        ``probability`` (neuroid, category) and ``threshold``; ``expert``, the hundredth of neuroids with the lowest entropy among
        those with a high probability (above the 95th percentile of all); ``member`` (neuroid, category), of which categories; and
        ``kind``: "specific", "related" or "agnostic" as one, several or all categories reach half of its highest probability.
        Coordinates ``status`` ("ok", "constant", "nan") of neuroids, and ``category_status`` ("ok", or "few" where under two
        presentations lie on either side); their scores are NaN.

    Raises
    ------
    ParameterError
        See the messages; each category being a single group, whose labels cannot be exchanged.
    SchemaError
        A presentation without a label, or a target of other presentations.

    Warns
    -----
    DegenerateNeuroidWarning
        Neuroids are constant or NaN.

    Notes
    -----
    AUROC is the statistic of Mann and Whitney; experts after Suau et al. 2024 (AurA), entropy after Tang et al. 2024 (LAPE). For
    ``p_value_max`` scores of categories are brought to one spread under chance.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> label = np.repeat(["face", "house"], 20)
    >>> values = np.random.default_rng(0).normal(size=(40, 3)) + np.outer(label == "face", [4, 0, 0])
    >>> x = ba.responses(values, stimulus_id=range(40), neuroid_id=list("abc"), modality="ann", system="net", condition=label)
    >>> out = ba.selectivity(x, "condition", n_permutations=99, random_state=0)
    >>> out.score.values[:, 0].round(2), out.p_value_max.values[0].tolist()
    (array([1.  , 0.5 , 0.36]), [0.01, 1.0])
    """
    check_choice("metric", metric, NAMES, owner="selectivity")
    for name, number, low in (("n_permutations", n_permutations, 0), ("n_bootstraps", n_bootstraps, 0), ("n_bins", n_bins, 2)):
        check_number(name, number, owner="selectivity", low=low, integer=True)
    check_number("max_memory", max_memory, owner="selectivity", low=1, integer=True)
    if threshold is not None:
        check_number("threshold", threshold, owner="selectivity")
    if two_sided and metric not in NAMES[:2]:
        raise ParameterError(
            f"selectivity got two_sided=True for metric={metric!r}, which has one side. Expected 'auroc' or 'dprime'."
        )
    seed = check_random_state(random_state, owner="selectivity")
    validate(responses)
    names, member = labels_of(responses, target, owner="selectivity")
    rows = rows_of(responses, groups, within, owner="selectivity")
    if n_permutations and not rows.timed and isinstance(groups, str):
        _refuse_single_groups(rows.groups, member, groups)
    what = measure(metric, threshold=threshold, n_bins=n_bins)
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(2)]
    found = _Found(responses, names, member, what, two_sided)
    orders = rows.orders(n_permutations, streams[0]) if n_permutations else None
    weights = rows.weights(n_bootstraps, streams[1]) if n_bootstraps else None
    found.run(orders, weights, threshold, max_memory, progress)
    params: dict[str, Any] = {"metric": metric, "target": target if isinstance(target, str) else None, "groups": groups}
    params |= {"within": within, "two_sided": two_sided, "threshold": threshold, "n_bins": n_bins}
    params |= {"n_permutations": n_permutations, "n_bootstraps": n_bootstraps}
    inputs = {"responses": responses} | ({} if isinstance(target, str) else {"target": target})
    return write_step(
        found.labelled(0 if orders is None else len(orders)), "selectivity", params=params, inputs=inputs, seed=seed
    )


class _Found:
    """Scores and what goes with them, filled block by block; columns are neuroids × times."""

    def __init__(self, x: xr.DataArray, names: Numbers, member: Numbers, what: Selectivity, two_sided: bool) -> None:
        self.x, self.names, self.what, self.two_sided = x, names, what, two_sided
        self.above = member.sum(axis=0)
        self.known = np.minimum(self.above, len(member) - self.above) > 1
        self.member = member[:, self.known]
        self.n_times = x.shape[2] if x.ndim > 2 else 1
        n = x.shape[1] * self.n_times
        self.joint = what.name == "lape"
        least = 2 if self.joint else 1
        if self.known.sum() < least:
            raise ParameterError(
                f"selectivity got metric={what.name!r} for {int(self.known.sum())} categories of two presentations or more, of "
                f"{len(names)} ({preview(names)}). Expected {least} at least{', over which activation is spread' * self.joint}: name "
                "a coordinate whose labels come again."
            )
        self.status = np.empty(n, dtype=np.dtypes.StringDType())
        shape = (n, 1 if self.joint else len(self.above))
        self.values = {"score": np.full(shape, np.nan)}
        self.chance: Chance | None = None

    def run(
        self,
        orders: Numbers | None,
        weights: tuple[Numbers, int] | None,
        threshold: float | None,
        max_memory: int,
        progress: bool | None,
    ) -> None:
        draws = max(len(orders) if orders is not None else 0, len(weights[0]) if weights is not None else 0, 1)
        together = int(np.clip(_VALUES // (draws * max(1, self.member.shape[1])), 1, 512))
        shape = self.values["score"].shape
        self.chance = None if orders is None else Chance((shape[0], self._columns.size), len(orders))
        if weights is not None:
            self.values |= {name: np.full(shape, np.nan) for name in ("ci_low", "ci_high")}
        if self.joint:
            n = shape[0]
            self.values |= {"probability": np.full((n, len(self.above)), np.nan), "threshold": np.full((n, 1), np.nan)}
        blocks = blocks_of(self.x, max_memory=max_memory, owner="selectivity", together=together)
        for unit, values in progress_bar(blocks, progress=progress, desc="selectivity"):
            at = slice(unit.start * self.n_times, unit.stop * self.n_times)
            self.status[at] = column_status(values)
            self._score(at, np.where(self.status[at] == "ok", values, 0), orders, weights, threshold)

    @property
    def _columns(self) -> Numbers:
        """Positions of scores along categories that can be scored."""
        return np.arange(1) if self.joint else np.flatnonzero(self.known)

    def _score(self, at: slice, values: Numbers, orders: Any, weights: Any, threshold: float | None) -> None:
        bad = self.status[at] != "ok"
        prepared = self.what.prepare(values)

        def with_nan(scores: Numbers) -> Numbers:
            scores[..., bad, :] = np.nan
            return scores

        observed = with_nan(self.what.score(prepared, self.member[:, None], None)[0])
        cells = np.ix_(np.arange(at.start, at.stop), self._columns)
        self.values["score"][cells] = observed
        if self.joint:
            probability = with_nan(activation_probability(prepared, self.member[:, None])[0])
            self.values["probability"][at, self.known] = probability
            self.values["threshold"][at, 0] = np.where(bad, np.nan, active_above(values, threshold))
        if orders is not None and self.chance is not None:
            null = with_nan(self.what.among(prepared, self.member, orders))
            scale = 1.0 if self.joint else self.what.scale(self.above, len(self.member) - self.above)[self.known]
            self.chance.add(at, self._height(observed), self._height(null), scale)
        if weights is not None:
            draws = with_nan(self.what.drawn(prepared, self.member, weights[0]))
            self.values["ci_low"][cells], self.values["ci_high"][cells] = Drawn(observed, draws, (), [weights[1]]).interval(0.95)

    def _height(self, scores: Numbers) -> Numbers:
        """Return scores so that more selective ones are higher, around 0 where labels differ in their chance."""
        if self.what.lower:
            return -scores
        return np.abs(scores - self.what.chance) if self.two_sided else scores - self.what.chance

    def labelled(self, n_permutations: int) -> xr.Dataset:
        bad = ~(self.status == "ok").reshape(-1, self.n_times).all(axis=1)
        if bad.any():
            warnings.warn(
                f"{int(bad.sum())} of {bad.size} neuroids are constant or NaN, and have no score: "
                f"{preview(self.x.neuroid_id.values[bad])}.",
                DegenerateNeuroidWarning,
                stacklevel=3,
            )
        found = dict(self.values)
        if self.chance is not None:
            for name, p in self.chance.found().items():
                found[name] = np.full(self.values["score"].shape, np.nan)
                found[name][:, self._columns] = p
        if self.joint:
            found |= _of_probabilities(found["score"][:, 0], found["probability"], self.known)
        if self.what.name == "auroc":
            found["dampening"] = dampening(found["score"])
        variables = {name: self._variable(values) for name, values in found.items()}
        status = self.status.reshape(-1, self.n_times)
        first = np.where((status == "ok").all(axis=1), "ok", np.where((status == "nan").any(axis=1), "nan", "constant"))
        coords = neuroid_labels(self.x) | {"category": self.names, "status": ("neuroid", as_labels(first))}
        coords["category_status"] = ("category", as_labels(np.where(self.known, "ok", "few")))
        out = xr.Dataset(variables, coords).assign(n_presentations=("category", self.above.astype(np.int64)))
        out.attrs = {"metric": self.what.name, "units": self.what.units, "n_permutations": n_permutations}
        out.attrs["direction"] = f"{'lower' if self.what.lower else 'higher'} is more selective"
        return out if np.isnan(self.what.chance) else out.assign_attrs(chance=self.what.chance)

    def _variable(self, values: Numbers) -> tuple[tuple[str, ...], Numbers]:
        """Return dims and values of a variable, (column, category) or (column,), or (column, 1) of all categories together."""
        lead = ("category",) if values.shape[1:] == self.above.shape else ()
        wide = values.reshape(-1, self.n_times, *(self.above.shape if lead else ()))
        wide = np.moveaxis(wide, 1, -1) if "time" in self.x.dims else wide[:, 0]
        return ("neuroid", *lead, *(("time",) if "time" in self.x.dims else ())), wide


def _of_probabilities(entropy: Numbers, probability: Numbers, scored: Numbers) -> dict[str, Numbers]:
    """Return which neuroids are experts, of which categories, and of what kind each is."""
    known = np.isfinite(probability)
    bar = np.quantile(probability[known], _BAR) if known.any() else np.inf
    p = np.where(known, probability, 0.0)
    candidate = (p.max(axis=1) > bar) & np.isfinite(entropy)
    n_experts = min(int(candidate.sum()), max(1, round(0.01 * np.isfinite(entropy).sum())))
    expert = np.zeros(len(entropy), dtype=bool)
    expert[np.argsort(np.where(candidate, entropy, np.inf), kind="stable")[:n_experts]] = True
    kind = as_labels(kinds_of_activation(p[:, scored]))
    return {"expert": expert, "member": expert[:, None] & (p > bar), "kind": kind}


def _refuse_single_groups(codes: Numbers, member: Numbers, groups: str) -> None:
    if all(len(np.unique(codes[column > 0])) < 2 for column in member.T):
        raise ParameterError(
            f"selectivity got n_permutations= where each category is one {groups!r}, so that labels of whole groups cannot "
            "change places. Expected several in a category; or groups=None, to exchange single presentations, which says "
            "nothing of other stimuli."
        )
