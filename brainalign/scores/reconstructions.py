"""``score_reconstructions``: how alike what was made is to what was shown, beside chance."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, DegeneratePredictionWarning, ParameterError, SchemaError
from brainalign.core.parameters import check_number, check_random_state, preview
from brainalign.core.progress import progress_bar
from brainalign.core.protocols import Responder, seeded
from brainalign.core.provenance import responder_params, write_step
from brainalign.core.schema import as_labels
from brainalign.core.tables import content_of, validate_stimuli
from brainalign.engine.correlate import correlation_matrix, ranks
from brainalign.engine.moments import Numbers
from brainalign.engine.reconstruction import structural_similarity
from brainalign.engine.resample import exchange_orders, p_values
from brainalign.engine.wording import LONGEST, bleu, shared_ngrams, tokens, unigram_f
from brainalign.features.record import record
from brainalign.neurons.captions.banks import texts_by_stimulus

_CHANCE = 20  # ways to move all rows, of which chance is the mean
_SMALLEST = 11  # pixels of a window of structural similarity
_PAIRS = 256  # that are compared at a time


def score_reconstructions(
    made: xr.Dataset,
    truth: xr.Dataset | Mapping[str, str | Sequence[str]],
    *,
    responder: Responder | None = None,
    n_permutations: int = 0,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Compare images or captions that were made with those that were shown.

    Parameters
    ----------
    made : Dataset, (presentation,)
        A stimulus table, as a generator returns it; one row a stimulus. Of captions: ``ba.stimuli.table(captions, stimulus_id=...,
        kind="text")``.
    truth : Dataset, (presentation,), or mapping of str to str or sequence of str
        Has all these ``stimulus_id`` values, and may have more. Of captions, one or several texts by ``stimulus_id``.
    responder : Responder, optional
        A network, or a readout of a brain, which sees both: its features tell what was made from the other stimuli.
    n_permutations : int
        Score again this often with the truth of other stimuli.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over pairs that are compared, for each measure.

    Returns
    -------
    Dataset
        ``score`` and ``chance`` (measure), all the higher the more alike: of arrays ``"pixcorr"``, Pearson's r over all values; of images also
        ``"ssim"``, structural similarity; of texts ``"bleu-1"`` to ``"bleu-4"``, over all texts together, and ``"unigram-f"``. For each layer
        of the responder ``"two-way <layer>"``, the share of the other stimuli that are less alike, and ``"feature-r <layer>"``, Pearson's r
        of features. ``score_by_presentation`` (measure, presentation); with permutations ``p_value`` (measure). Chance is the mean over
        stimuli that were all moved.

    Raises
    ------
    SchemaError
        Values of other sizes, or a stimulus made twice.
    AlignmentError
        A stimulus that was made and has no truth.
    ParameterError
        Nothing to compare by: files, and no responder.

    Warns
    -----
    DegeneratePredictionWarning
        What is constant has no correlation, and counts as chance.

    Notes
    -----
    The values of ``truth`` span the range L of structural similarity (:mod:`brainalign.engine.reconstruction`). The others, from which something
    is told, are those that were made: pass what was made of test stimuli only.

    Examples
    --------
    >>> import brainalign as ba
    >>> shown = ba.stimuli.table(["a red cat", "a blue dog", "two birds"], stimulus_id=list("abc"), kind="text")
    >>> said = ba.stimuli.table(["a red cat", "a red dog"], stimulus_id=["a", "b"], kind="text")
    >>> ba.scores.score_reconstructions(said, shown, random_state=0).score.sel(measure=["bleu-1", "unigram-f"]).round(2).values.tolist()
    [0.83, 0.83]
    """
    seed = check_random_state(random_state, owner="score_reconstructions")
    check_number("n_permutations", n_permutations, owner="score_reconstructions", low=0, integer=True)
    responder = None if responder is None else seeded(responder)
    ids = _stimuli_of(made)
    measures: dict[str, _Measure] = {}
    if content_of(made) == "text":
        texts = texts_by_stimulus(truth)
        measures = _measures_of_texts(made["text"].values.tolist(), [texts[name] for name in _found(ids, texts)])
    if isinstance(truth, xr.Dataset):
        table = _rows_of(truth, ids)
        if content_of(made) == "values":
            _check_alike(made, table)
            measures = _measures_of_values(made["values"], table["values"], float(truth["values"].max() - truth["values"].min()))
        if responder is not None:
            measures |= _measures_of_features(responder, made, table)
    if not measures or (responder is not None and not isinstance(truth, xr.Dataset)):
        raise ParameterError(
            f"score_reconstructions got `{content_of(made)}`, {type(truth).__name__} as truth and {'a' if responder else 'no'} responder. Expected "
            "values or texts to compare, or stimulus tables on both sides and `responder=` to look at them."
        )
    n = len(ids)
    itself = np.arange(n)
    moved = np.stack([np.roll(itself, 1 + k) for k in range(min(n - 1, _CHANCE))])
    orders = exchange_orders(itself, n_permutations, np.random.default_rng(seed))
    scores = _scored(measures, np.concatenate([itself[None], moved, orders]), progress)
    alone = [[measure.pool(row[None]) for row in measure.of(itself, itself)] for measure in measures.values()]
    out = xr.Dataset(
        {
            "score": ("measure", scores[0]),
            "chance": ("measure", scores[1 : 1 + len(moved)].mean(axis=0)),
            "score_by_presentation": (("measure", "presentation"), alone),
        },
        coords={"measure": as_labels(list(measures)), "stimulus_id": ("presentation", made.stimulus_id.values)},
    )
    if n_permutations:
        out["p_value"] = ("measure", p_values(scores[0], scores[1 + len(moved) :]))
        out.attrs["n_permutations"] = n_permutations
    params = {"n_permutations": n_permutations, **({"responder": None} if responder is None else responder_params(responder))}
    inputs = {"made": made} | ({"truth": truth} if isinstance(truth, xr.Dataset) else {})
    return write_step(out, "score_reconstructions", params=params, inputs=inputs, seed=seed)


@dataclass(frozen=True)
class _Measure:
    """What is found of pairs of a row that was made and one of the truth, (pair, ...), and the score of pairs together."""

    of: Callable[[Numbers, Numbers], Numbers]
    pool: Callable[[Numbers], float]


def _scored(measures: dict[str, _Measure], orders: Numbers, progress: bool | None) -> Numbers:
    """Return the scores of truths in some orders, (order, measure)."""
    n = orders.shape[1]
    pairs, where = np.unique(np.arange(n) * n + orders, return_inverse=True)
    blocks = [np.divmod(pairs[k : k + _PAIRS], n) for k in range(0, len(pairs), _PAIRS)]
    found: dict[Callable[[Numbers, Numbers], Numbers], Numbers] = {}
    for measure in measures.values():
        if measure.of not in found:
            shown = progress_bar(blocks, progress=progress, desc="pairs")
            found[measure.of] = np.concatenate([measure.of(*block) for block in shown])
    return np.array([[m.pool(found[m.of][rows]) for m in measures.values()] for rows in where.reshape(orders.shape)])


def _mean(rows: Numbers) -> float:
    return float(rows.mean())


def _of_table(table: Numbers) -> _Measure:
    return _Measure(lambda i, j: table[i, j], _mean)


def _measures_of_texts(texts: list[str], references: list[list[str]]) -> dict[str, _Measure]:
    said, shown = [tokens(text) for text in texts], [[tokens(text) for text in of_one] for of_one in references]

    def counts(i: Numbers, j: Numbers) -> Numbers:
        return np.array([shared_ngrams(said[a], shown[b]) for a, b in zip(i, j, strict=True)])

    def overlap(i: Numbers, j: Numbers) -> Numbers:
        return np.array([unigram_f(said[a], shown[b]) for a, b in zip(i, j, strict=True)])

    def pooled(rows: Numbers, n: int) -> float:
        return bleu(rows.sum(axis=0), n)

    found = {f"bleu-{n}": _Measure(counts, partial(pooled, n=n)) for n in range(1, LONGEST + 1)}
    return found | {"unigram-f": _Measure(overlap, _mean)}


def _measures_of_values(made: xr.DataArray, truth: xr.DataArray, span: float) -> dict[str, _Measure]:
    places = [dim for dim in ("y", "x") if dim in made.dims]
    order = ("presentation", *places, *(dim for dim in made.dims[1:] if dim not in places))
    a, b = (np.asarray(side.transpose(*order).values, dtype=np.float64) for side in (made, truth))
    found = {"pixcorr": _of_table(_correlations(a.reshape(len(a), -1), b.reshape(len(b), -1), "values"))}
    if len(places) == 2 and min(a.shape[1:3]) >= _SMALLEST:
        found["ssim"] = _Measure(lambda i, j: structural_similarity(a[i], b[j], data_range=span or 1.0), _mean)
    return found


def _measures_of_features(responder: Responder, made: xr.Dataset, truth: xr.Dataset) -> dict[str, _Measure]:
    features, others = (record(responder, table, progress=False) for table in (made, truth))
    group = next((name for name in ("layer", "region") if name in features.coords), None)
    labels = np.full(features.shape[1], "features") if group is None else features.coords[group].values
    found: dict[str, _Measure] = {}
    for label in dict.fromkeys(labels.tolist()):
        x, y = (side.values[:, labels == label].astype(np.float64) for side in (features, others))
        likeness = _correlations(x, y, f"features of {label}")
        beaten = (ranks(np.round(likeness, 12), axis=1) - 1) / (len(likeness) - 1)  # what differs by rounding is a tie
        found |= {f"two-way {label}": _of_table(beaten), f"feature-r {label}": _of_table(likeness)}
    return found


def _correlations(made: Numbers, truth: Numbers, what: str) -> Numbers:
    """Return r of each row that was made with each of the truth; 0 of what is constant, which makes all its ranks ties."""
    found = correlation_matrix(made.T, truth.T)
    lost = np.isnan(found)
    if lost.any():
        warnings.warn(
            f"{what} are constant for {lost.all(axis=1).sum()} stimuli as made and {lost.all(axis=0).sum()} as shown; their correlation counts "
            "as 0. Look at what was generated.",
            DegeneratePredictionWarning,
            stacklevel=4,
        )
    return np.where(lost, 0.0, found)


def _stimuli_of(made: xr.Dataset) -> list[str]:
    ids: list[str] = validate_stimuli(made, name="made").stimulus_id.values.tolist()
    if len(set(ids)) < max(2, len(ids)):
        raise SchemaError(
            f"made has {len(ids)} rows of {len(set(ids))} stimuli. Expected two or more, each once: average predictions, or score one trial "
            "of each at a time."
        )
    return ids


def _found(ids: list[str], known: Any) -> list[str]:
    lost = [name for name in ids if name not in known]
    if lost:
        raise AlignmentError(
            f"{len(lost)} of {len(ids)} stimuli that were made have no truth, first {preview(lost)}. Expected their `stimulus_id` in `truth`."
        )
    return ids


def _rows_of(truth: xr.Dataset, ids: list[str]) -> xr.Dataset:
    known = {name: row for row, name in enumerate(validate_stimuli(truth, name="truth").stimulus_id.values.tolist())}
    return truth.isel(presentation=[known[name] for name in _found(ids, known)])


def _check_alike(made: xr.Dataset, truth: xr.Dataset) -> None:
    sizes = [dict(table[content_of(table)].sizes) for table in (made, truth)]
    if content_of(truth) != "values" or sizes[0] != sizes[1]:
        raise SchemaError(
            f"made holds `values` of {sizes[0]} and truth `{content_of(truth)}` of {sizes[1]}. Expected the same content, in the same dims and "
            "sizes."
        )
