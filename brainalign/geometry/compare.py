"""``compare_rdms``: how similar two geometries are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, preview
from brainalign.core.provenance import write_step
from brainalign.engine.comparators import COMPARATORS, centred_gram, square
from brainalign.engine.moments import Numbers
from brainalign.engine.rdm_models import residual_units
from brainalign.geometry.rdm_inference import with_inference
from brainalign.geometry.rdm_pairs import SQUARE, JoinedRdms, join_rdms, label_of, leading
from brainalign.geometry.rdm_plan import make_plan

METRICS = tuple(COMPARATORS)
DIRECTIONS = {True: "higher is more alike", False: "lower is more alike"}
_PARTIAL = {"both": ("source", "target"), "source": ("source",), "target": ("target",)}
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of eigenvalues, per condition: RDMs are often stored as float32


def compare_rdms(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    metric: str = "spearman",
    controlling: xr.DataArray | Mapping[str, xr.DataArray] | None = None,
    partial: str = "both",
    covariance: xr.DataArray | None = None,
    n_bootstraps: int = 0,
    over: str | Sequence[str] = "stimulus",
    between: str | None = None,
    level: float = 0.95,
    ceiling: str | None = None,
    n_permutations: int = 0,
    null: str = "exchange",
    within: str | None = None,
    clusters: str | None = None,
    join: str = "inner",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Compare every source RDM with every target RDM.

    Parameters
    ----------
    source, target : DataArray, (..., stimulus, stimulus_2)
        From :func:`rdm` or :func:`open_rdms`. They are matched by stimulus, never by position; swapping them swaps the
        dims of the result and changes nothing else, but under ``"riemannian"``.
    metric : str
        Of the pairs above the diagonal: ``"cosine"``, ``"pearson"``, ``"spearman"`` (which flatters RDMs with ties: a model of
        categories beats a better one), ``"rho-a"`` (Spearman's, expected when ties are broken at random: it does not),
        ``"tau-a"``, ``"tau-b"``; ``"whitened-cosine"`` and ``"whitened-pearson"``, which weigh pairs by how their noise is
        correlated; of the patterns that squared distances come from: ``"bures"``, and ``"riemannian"``, a distance.
    controlling : DataArray (..., stimulus, stimulus_2), or dict of them, optional
        RDMs that are held constant: those of what is low-level, of another layer ... All at once; under ``"cosine"``,
        ``"pearson"``, ``"spearman"`` (of ranks) and the whitened metrics.
    partial : {"both", "source", "target"}
        Which side they are taken out of: both (partial correlation) or one (semi-partial).
    covariance : DataArray, (stimulus, stimulus_2), optional
        Of the estimates of the conditions, for the whitened metrics and the noise of ``"riemannian"``; default: independent, of
        one variance. Matched by stimulus.
    n_bootstraps : int
        Draws of what ``over`` names, for intervals, differences, and whether scores reach the ceiling.
    over : str, or two of them
        What a claim generalises to: ``"stimulus"``, a leading dim of one side that measures one geometry several times
        (``"subject"``; sessions, or seeds of a network), or both, as ``("subject", "stimulus")``. Scores are averaged over that
        dim.
    between : str, optional
        Dim of the score along which every pair is compared, on the same draws, such as ``"source_layer"``.
    level : float
        Share of intervals that hold the truth.
    ceiling : str, optional
        Leading dim of one side that noise ceilings are made of; default that of ``over``, when there are draws.
    n_permutations : int
        Draws of ``null``; each serves all scores.
    null : {"exchange", "sign"}
        Stimuli of one side change names, or scores along the dim of ``over`` change sign.
    within : str, optional
        Coordinate of stimuli, such as ``"category"``: they change names within its groups only.
    clusters : {"mass", "tfce"}, optional
        Test clusters over the one or two times of the score: the sum of t (of null="sign") or z beyond p ≤ .05, or threshold-free
        enhancement. It says that there is an effect, not at which of the times.
    join : {"inner", "exact"}
        Whether stimuli that one side lacks are left out (and reported) or an error.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over draws of stimuli and over permutations.

    Returns
    -------
    Dataset
        ``score`` (source_<dim>, target_<dim>), for every leading dim of the two sides, in its attr ``units``; ``n_stimuli``, ``n_pairs`` and
        ``n_pairs_dropped`` (pairs that are NaN on a side) of the same shape. NaN where fewer than three pairs are left, or
        where a side does not vary. Attrs: ``direction``; ``report`` (JSON) counts the stimuli of one side only. A dim in ``over``
        is averaged over: ``score_by_<dim>`` has it.

        With draws ``ci_low``, ``ci_high``, ``score_bootstrap`` (bootstrap, ...) and ``n_undefined``, how many of them have no
        score (a warning says so too); of stimuli alone ``n_units``, how many there are, and ``score_left_out`` (left_out, ...), without
        each of them. Intervals end where the scores of a metric do. With a ceiling ``ceiling_low`` and ``ceiling_high``, the mean
        likeness of each unit to the pooled others, which the true model reaches, and to all pooled, which hardly any passes; with
        draws their intervals (``ceiling_low_ci_low`` ...) and ``ceiling_difference``, of score and lower bound. With ``between``
        also ``difference`` (pair, ...), the first minus the second; both with ``_low``, ``_high`` and two-sided ``_p_value``,
        ``_p_value_fdr`` and ``_p_value_max`` (for all of them together).

        With permutations ``p_value``, ``p_value_fdr`` and ``p_value_max`` of more likeness than chance gives, and
        ``p_value_cluster``.

    Raises
    ------
    AlignmentError
        Fewer than three stimuli in common; any that is not shared under ``join="exact"``.
    SchemaError
        A side is no set of symmetric matrices with unique stimuli. Under ``"bures"`` and ``"riemannian"``: a negative dissimilarity (of a
        cross-validated distance), dissimilarities that are no squared distances of any patterns, a missing pair.
    ParameterError
        A covariance, or RDMs to control for, that the metric has no use for; options that do not go together.
    CapabilityError
        Stimuli are to be redrawn under a metric that needs all pairs (a stimulus drawn twice has no distance to itself), or with a
        covariance; or renamed where RDMs are held constant. A dim of the source is to be drawn under ``"riemannian"``.

    Warns
    -----
    UndefinedDrawsWarning
        Draws of few stimuli that have no score.

    Notes
    -----
    Whitened: d₁ᵀV⁻¹d₂ / √(d₁ᵀV⁻¹d₁ · d₂ᵀV⁻¹d₂), V the covariance of the noise of squared distances (Diedrichsen et al. 2020). Of
    squared Euclidean distances, ``"whitened-cosine"`` is linear CKA and ``"bures"`` is ‖XᵀY‖_* / (‖X‖‖Y‖). ``"riemannian"`` is
    √Σ log² λ over the generalised eigenvalues of source and target, the scale and the noise of the source free (Shahbazi et
    al. 2021).

    Pairs of a redrawn stimulus with itself are left out. Of draws of two factors the variance is corrected, and percentiles are
    stretched, as in :func:`bootstrap` (Schütt et al. 2023). Draws of stimuli count the noise of single pairs three times, of which
    whitened metrics have much: with stimuli alone it is brought back to once by leaving each out, which takes as many draws more as there
    are stimuli (:func:`brainalign.engine.bootstrap.pair_variance`). For the ceiling, matrices are pooled as the metric compares them:
    scaled, z-scored or ranked (Nili et al. 2014).

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> x = ba.responses(np.random.default_rng(0).normal(size=(12, 30)), stimulus_id=[f"s{i}" for i in range(12)],
    ...                  neuroid_id=range(30), modality="ann", system="net", layer=["a"] * 15 + ["b"] * 15)
    >>> both = ba.compare_rdms(ba.rdm(x), ba.rdm(x[::-1], by="layer"))   # the other order of rows
    >>> both.score.dims, both.score.shape
    (('target_layer',), (2,))
    >>> tested = ba.compare_rdms(ba.rdm(x), ba.rdm(x, by="layer"), n_permutations=99, n_bootstraps=200, random_state=0)
    >>> tested.p_value.values.tolist(), bool((tested.ci_low > 0).all())
    ([0.01, 0.01], True)
    """
    check_choice("metric", metric, METRICS, owner="compare_rdms")
    check_choice("partial", partial, tuple(_PARTIAL), owner="compare_rdms")
    check_choice("join", join, ("inner", "exact"), owner="compare_rdms")
    sides, controls = {"source": source, "target": target}, _controls(controlling, metric, partial)
    both = join_rdms(sides | controls, join)
    held = np.concatenate([both.vectors[name] for name in controls]) if controls else None
    noise = _covariance(covariance, both.stimuli, metric)
    (dims, shape, coords), (more_dims, more_shape, more_coords) = leading(source, "source"), leading(target, "target")
    asked = {"n_bootstraps": n_bootstraps, "over": over, "between": between, "level": level, "ceiling": ceiling}
    asked |= {
        "n_permutations": n_permutations,
        "null": null,
        "within": within,
        "clusters": clusters,
        "progress": progress,
        "random_state": random_state,
    }
    sizes = dict(zip(dims + more_dims, shape + more_shape, strict=True))
    plan = make_plan(asked, sizes, both, sides, metric, noise, held, _PARTIAL[partial])
    named = _scores(both, sides, metric, noise, held, _PARTIAL[partial])
    out = xr.Dataset(
        {name: (dims + more_dims, values.reshape(shape + more_shape)) for name, values in named.items()},
        coords=coords | more_coords,
    )
    params = {"metric": metric, "join": join} | ({"controlling": list(controls), "partial": partial} if controls else {})
    out.attrs = params | {"direction": DIRECTIONS[COMPARATORS[metric].higher_is_alike], "report": json.dumps(both.report)}
    inputs = sides | controls | ({} if covariance is None else {"covariance": covariance})
    if plan is not None:
        out, params = with_inference(out.assign_attrs(plan.params), both.vectors, plan), params | plan.params
    for name in out.data_vars:
        if name == "score" or str(name).startswith("score_by_"):
            out[name].attrs["units"] = COMPARATORS[metric].units
    return write_step(out, "compare_rdms", params=params, inputs=inputs, seed=plan.seed if plan else None)


def _controls(given: Any, metric: str, partial: str) -> dict[str, xr.DataArray]:
    """Return the sets of matrices that are held constant, by the name that messages use."""
    if given is None and partial != "both":
        raise ParameterError(
            f"compare_rdms got partial={partial!r} without controlling=. Expected RDMs to take out of the {partial}."
        )
    if given is None:
        return {}
    if isinstance(given, Mapping) and not given:
        raise ParameterError("compare_rdms got controlling={}. Expected RDMs by name, or None where nothing is held constant.")
    able = [name for name, measure in COMPARATORS.items() if measure.of_units]
    if metric not in able:
        raise ParameterError(
            f"compare_rdms got controlling= under metric={metric!r}. Expected one of {', '.join(able)}, whose scores are cosines, for RDMs "
            "can be taken out of those."
        )
    return {f"controlling[{name!r}]": x for name, x in given.items()} if isinstance(given, Mapping) else {"controlling": given}


def _covariance(given: Any, stimuli: list[str], metric: str) -> Numbers | None:
    """Return the covariance of the estimates in the order of the stimuli."""
    if given is None:
        return None
    able = [name for name, measure in COMPARATORS.items() if measure.takes_covariance]
    if metric not in able:
        raise ParameterError(
            f"compare_rdms got covariance= under metric={metric!r}. Expected one of {', '.join(able)}, which use it."
        )
    if not isinstance(given, xr.DataArray) or given.dims != SQUARE or not set(SQUARE) <= set(given.coords):
        raise ParameterError(
            f"The 'covariance' parameter of compare_rdms must be a DataArray {SQUARE} labelled on both. Got "
            f"{given.dims if isinstance(given, xr.DataArray) else type(given).__name__} instead."
        )
    places = [{str(name): k for k, name in enumerate(given.coords[dim].values.tolist())} for dim in SQUARE]
    missing = [name for name in stimuli if any(name not in known for known in places)]
    if missing:
        raise AlignmentError(
            f"covariance lacks {len(missing)} of the {len(stimuli)} stimuli that are compared: {preview(missing)}. Expected all of them: they "
            "are matched by name."
        )
    values = given.values[np.ix_(*([known[name] for name in stimuli] for known in places))].astype(np.float64)
    least = np.linalg.eigvalsh((values + values.T) / 2)[0] if np.allclose(values, values.T) else np.nan
    if not least > 0:
        raise ParameterError(
            f"The 'covariance' parameter of compare_rdms must be symmetric and positive definite. Got a least eigenvalue of {least:.3g} "
            "instead: shrink it towards its diagonal."
        )
    return values


def _scores(
    both: JoinedRdms,
    sides: dict[str, xr.DataArray],
    metric: str,
    covariance: Numbers | None,
    controls: Numbers | None,
    partial: tuple[str, ...],
) -> dict[str, Numbers]:
    """Return scores, stimuli, pairs and dropped pairs, each (source matrix, target matrix)."""
    a, b = both.vectors["source"], both.vectors["target"]
    known = np.ones(a.shape[1], dtype=bool) if controls is None else np.asarray(np.isfinite(controls).all(axis=0))
    score, n_stimuli, n_pairs = (np.full((len(a), len(b)), fill) for fill in (np.nan, 0, 0))
    # Matrices with the same holes go together: usually all of them, in one product.
    for valid_a, some in _by_holes(a):
        for valid_b, others in _by_holes(b):
            cell, valid = np.ix_(some, others), valid_a & valid_b & known
            there = np.asarray(square(valid).any(axis=0))
            n_pairs[cell], n_stimuli[cell] = valid.sum(), there.sum()
            if valid.sum() < 3:
                continue
            within = (there[:, None] & there)[np.triu_indices(len(there), 1)]
            parts = {"source": a[some], "target": b[others]} | ({} if controls is None else {"controls": controls})
            if not valid.all():
                parts = {name: np.where(valid, x, np.nan)[:, within] for name, x in parts.items()}
            noise = None if covariance is None else covariance[np.ix_(there, there)]
            _check_needs(metric, parts, sides, (some, others), np.array(both.stimuli)[there], noise)
            score[cell] = _likeness(metric, parts, noise, partial)
    return {"score": score, "n_stimuli": n_stimuli, "n_pairs": n_pairs, "n_pairs_dropped": a.shape[1] - n_pairs}


def _likeness(metric: str, parts: dict[str, Numbers], covariance: Numbers | None, partial: tuple[str, ...]) -> Numbers:
    measure = COMPARATORS[metric]
    prepared = {name: measure.prepare(x, covariance) for name, x in parts.items()}
    if "controls" in prepared:
        prepared |= {name: residual_units(prepared[name], prepared["controls"]) for name in partial}
    return measure.product(prepared["source"], prepared["target"])


def _by_holes(x: Numbers) -> list[tuple[Numbers, Numbers]]:
    """Return the distinct patterns of finite pairs, and the matrices that have each."""
    finite, groups = np.isfinite(x), dict[bytes, list[int]]()
    for k in range(len(x)):
        groups.setdefault(np.packbits(finite[k]).tobytes(), []).append(k)
    return [(finite[rows[0]], np.array(rows)) for rows in groups.values()]


def _check_needs(
    metric: str, parts: dict[str, Numbers], sides: dict[str, xr.DataArray], members: Any, stimuli: Numbers, covariance: Any
) -> None:
    """Raise where a measure cannot take what it is given."""
    measure = COMPARATORS[metric]
    if (measure.complete or covariance is not None) and np.isnan(parts["source"][0]).any():
        i, j = (index[np.isnan(parts["source"][0])][0] for index in np.triu_indices(len(stimuli), 1))
        raise SchemaError(
            f"A side lacks the pair {str(stimuli[i])!r}, {str(stimuli[j])!r} and has other pairs of both. Expected all pairs of the stimuli under "
            f"metric={metric!r}{' with a covariance' if not measure.complete else ''}: select stimuli without NaN, or use a metric that "
            "leaves pairs out, such as 'cosine'."
        )
    if measure.from_patterns:
        for (name, x), rows in zip(sides.items(), members, strict=True):
            definite = name == "target" and metric == "riemannian"
            for row, vector in zip(rows, parts[name], strict=True):
                _check_patterns(vector, f"{name}{label_of(x, row)}", metric, stimuli, definite=definite)


def _check_patterns(vector: Numbers, name: str, metric: str, stimuli: Numbers, *, definite: bool) -> None:
    """Raise where dissimilarities are no squared distances of any patterns, or of too few where there must be a full rank."""
    negative = np.flatnonzero(vector < 0)
    if negative.size:
        i, j = (index[negative[0]] for index in np.triu_indices(len(stimuli), 1))
        raise SchemaError(
            f"{name} has {len(negative)} negative dissimilarities, first {vector[negative[0]]:.3g} between {str(stimuli[i])!r} and "
            f"{str(stimuli[j])!r}. Expected none under metric={metric!r}, which compares the patterns that squared distances come from; "
            "cross-validated ones come from none: use 'whitened-cosine', 'cosine' or a rank metric."
        )
    values = np.linalg.eigvalsh(centred_gram(vector[None])[0])
    floor = _ROUNDING * len(values) * values[-1]
    if values[0] < -floor:
        raise SchemaError(
            f"{name} holds no squared distances of any patterns: its Gram matrix has eigenvalues from {values[0]:.3g} to {values[-1]:.3g}. "
            f"Expected none below 0 under metric={metric!r}: use 'whitened-cosine', 'cosine' or a rank metric."
        )
    if definite and values[-1] > 0 and values[1] <= floor:
        rank = int((values > floor).sum())
        raise SchemaError(
            f"{name} has {rank} independent patterns for {len(stimuli)} stimuli. Expected {len(stimuli) - 1} under metric={metric!r}, whose "
            "target must have full rank: use distances from more neuroids or with noise in them, swap the sides, or use 'bures'."
        )
