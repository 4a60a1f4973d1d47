"""``caption``: which concepts of a bank say when a neuroid answers, and whether shuffled presentations would say as much."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.dataset.align import align
from brainalign.dataset.repeats import average_if_repeated
from brainalign.engine.concepts import (
    PENALTIES,
    Evidence,
    column_blocks,
    labels_of,
    prepare_evidence,
    prior_of_others,
    rate,
    top_rows,
)
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.resample import false_discovery_rate, p_values
from brainalign.engine.retrieval import prepared
from brainalign.neurons.addresses import short_names
from brainalign.neurons.captions.banks import PROBABILITY
from brainalign.neurons.labelling import neuroid_labels, rows_of, without_time


def caption(
    responses: xr.DataArray,
    bank: xr.DataArray,
    *,
    method: str = "softwpmi",
    k: int | None = None,
    sharpness: float = 1.0,
    penalty: float | None = None,
    normalize: str = "presentations",
    null: Any = "permutation",
    n_permutations: int = 1000,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Label each neuroid by the concept of a bank that best says which presentations drive it.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid)
    bank : DataArray, (presentation, neuroid)
        Responses whose neuroids are concepts: ratings of attributes, similarities of pictures to words, another network. Joined
        with the others by ``stimulus_id``. Of texts it is made by :func:`brainalign.neurons.caption_bank`.
    method : {"softwpmi", "wpmi", "pmi", "pearson", "cosine"}
        How often the exemplars have the concept, against how often all have it, exemplars weighted by rank (``softwpmi``), or
        equally, as the mean of logarithms (``wpmi``) or the logarithm of the mean (``pmi``); or the likeness of the two columns
        over all rows.
    k : int, optional
        Exemplars of a neuroid; default a fifth of the presentations, from 5 to 100.
    sharpness : float
        Concepts become z-scores, and probabilities by a softmax over concepts of ``sharpness`` times these. A bank in units of
        ``"probability"`` stays as it is.
    penalty : float, optional
        λ in log p(d | E) − λ log p(d). Default 1, 0.6 and 0.2 for the three.
    normalize : {"presentations", "neuroids"}
        What p(d) is taken over: exemplars drawn at random, or the exemplars of all neuroids given.
    null : "permutation" or DataArray
        What the best concept of chance is: of presentations in another order (those of a recording in time, ``onset_s``, are
        shifted in a circle within runs), or of the neuroids of a random system that saw the same, such as a network before
        training.
    n_permutations : int
        0 for none.
    random_state : int, Generator or None
        Of permutations, and of the order of presentations with equal responses.
    progress : bool or None
        As in :func:`evaluate`, over blocks of neuroids.

    Returns
    -------
    Dataset, (neuroid, concept)
        ``score``; by neuroid ``label``, ``label_score``, ``p_value`` of having any concept of this score, ``p_value_fdr`` over
        neuroids, and ``status``. Constant neuroids have the label ``""`` and NaN; concepts that do not vary,
        or have NaN, score NaN.

    Raises
    ------
    AlignmentError
        No common stimulus, or one that the random system has not seen.
    SchemaError
        A time dim, a concept of two columns, or none that varies.
    ParameterError
        Fewer presentations than exemplars, or a single neuroid to be normalised by neuroids.

    Notes
    -----
    soft-WPMI of CLIP-dissect (Oikarinen and Weng, 2023): log p(d | E) = Σ_i log(1 + p_i (S_id − 1)), p falling from .998 to .97.
    There p(d) is the mean over neuroids (``normalize="neuroids"``), so that a label depends on which neuroids are labelled with
    it, and no score exceeds log N: with as many concepts as neuroids several share the highest, and right labels are lost (a
    quarter of 60 neuroids, of 50 concepts and a signal as strong as the noise, where the default finds all). PMI of captions:
    MILAN (Hernandez et al., 2022).

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> ratings = ba.responses(rng.normal(size=(80, 3)), stimulus_id=range(80), neuroid_id=["furry", "round", "red"],
    ...                        modality="behaviour", system="judges")
    >>> voxel = ba.responses(ratings.values[:, [1]] + rng.normal(size=(80, 1)), stimulus_id=range(80), neuroid_id=["v1"],
    ...                      modality="fmri", system="sub-01")
    >>> out = ba.caption(voxel, ratings, n_permutations=99, random_state=0)
    >>> out.label.item(), out.p_value.item()
    ('round', 0.01)
    """
    check_choice("method", method, tuple(PENALTIES), owner="caption")
    check_choice("normalize", normalize, ("presentations", "neuroids"), owner="caption")
    check_number("sharpness", sharpness, owner="caption", low=0.0, low_open=True)
    check_number("n_permutations", n_permutations, owner="caption", low=0, integer=True)
    penalty = PENALTIES[method] if penalty is None else check_number("penalty", penalty, owner="caption", low=0.0)
    seed = check_random_state(random_state, owner="caption")
    x, concepts, names, report = described(responses, bank, owner="caption")
    k = min(100, max(5, len(x) // 5)) if k is None else check_number("k", k, owner="caption", low=1, integer=True)
    if k > len(x):
        raise ParameterError(
            f"caption got {k} exemplars and {len(x)} common presentations. Expected fewer exemplars: pass a smaller `k`, or more stimuli."
        )
    varies = column_status(concepts) == "ok"
    if not varies.any():
        raise SchemaError(
            f"caption got a bank in which none of the {len(names)} concepts varies over the {len(x)} common presentations, first {names[0]!r}. "
            "Expected concepts that some stimuli have and others have not."
        )
    probable = bank.attrs.get("units") == PROBABILITY
    evidence = prepare_evidence(concepts[:, varies], method, n_top=k, sharpness=None if probable else sharpness)
    rater = _Rater(evidence, method, seed, penalty, normalize == "neuroids")
    permuted = not isinstance(null, xr.DataArray) and check_choice("null", null, ("permutation",), owner="caption") == null
    orders = rows_of(x, None, None, owner="caption").orders(n_permutations if permuted else 0, np.random.default_rng(seed))
    random = None
    if not permuted:
        same = align(average_if_repeated(without_time(null, "caption"), owner="caption"), x, source_name="null")[0]
        if len(same) < len(x):
            raise AlignmentError(
                f"caption got a null that saw {len(same)} of {len(x)} common stimuli. Expected all of them: leave the others out of the "
                "responses, or record the random system for them."
            )
        random = rater.rate(same, orders)[1].max(axis=1)
    status, scores, p = rater.rate(x, orders, random, progress)
    out = _labelled(x, names, status, varies, scores)
    if not permuted or len(orders):
        out["p_value"] = "neuroid", np.full(len(status), np.nan)
        out["p_value"][status == "ok"] = p
        out["p_value_fdr"] = "neuroid", false_discovery_rate(out["p_value"].values)
    params = {"method": method, "k": k, "sharpness": sharpness, "penalty": penalty, "normalize": normalize}
    params |= {"null": "permutation" if permuted else "system", "n_permutations": len(orders)}
    out.attrs = params | {"n_presentations": len(x), "report": json.dumps({"join": report})}
    inputs = {"responses": responses, "bank": bank} | ({} if permuted else {"null": null})
    return write_step(out, "caption", params=params, inputs=inputs, seed=seed)


class _Rater:
    """Scores all concepts for the neuroids of any system that saw the same presentations, block by block."""

    def __init__(self, evidence: Evidence, method: str, seed: int, penalty: float, by_neuroids: bool) -> None:
        self.evidence, self.method, self.seed, self.penalty, self.by_neuroids = evidence, method, seed, penalty, by_neuroids

    def rate(
        self, x: xr.DataArray, orders: Numbers, random: Numbers | None = None, progress: bool | None = False
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Return the status of all neuroids; of those that vary the scores (neuroid, concept), and p against orders or random scores."""
        _, n_rows, n_concepts = self.evidence.table.shape
        blocks = list(enumerate(column_blocks(x.shape[1], n_rows, n_concepts)))
        against = self._against(x, blocks)
        status, scores, p = [], [], []
        for number, block in progress_bar(blocks, progress=progress, desc="caption"):
            state, drivers = self._drivers(x, number, block)
            options = {"penalty": self.penalty, **next(against)}
            found, null = labels_of(self.evidence, drivers, orders, **options)
            best = null if random is None else np.broadcast_to(random[:, None], (len(random), len(found)))
            status.append(state)
            scores.append(found)
            p.append(p_values(found.max(axis=1), best))
        return np.concatenate(status), np.concatenate(scores), np.concatenate(p)

    def _against(self, x: xr.DataArray, blocks: list[tuple[int, slice]]) -> Iterator[dict[str, Any]]:
        """Yield for each block what the others say, where p(d) is taken over neuroids."""
        if not self.by_neuroids:
            yield from ({} for _ in blocks)
            return
        rated = [rate(self.evidence, self._drivers(x, number, block)[1]) for number, block in blocks]
        n = sum(map(len, rated))
        if n < 2:
            raise ParameterError(
                f"caption got normalize='neuroids' and {n} neuroids that vary. Expected two or more, for p(d) is the mean over them: use "
                "normalize='presentations'."
            )
        others = np.split(prior_of_others(np.concatenate(rated)), np.cumsum([len(part) for part in rated])[:-1])
        yield from ({"against": part, "n_columns": n} for part in others)

    def _drivers(self, x: xr.DataArray, number: int, block: slice) -> tuple[Numbers, Numbers]:
        values = x[:, block].values
        status = column_status(values)
        fine = values[:, status == "ok"]
        if self.evidence.n_top:
            return status, top_rows(fine, self.evidence.n_top, np.random.default_rng([self.seed, number]))
        return status, prepared(fine.T, self.method).T


def described(
    responses: xr.DataArray, bank: xr.DataArray, *, owner: str
) -> tuple[xr.DataArray, Numbers, Numbers, dict[str, Any]]:
    """Join responses and a bank of concepts, each stimulus once.

    Parameters
    ----------
    responses, bank : DataArray, (presentation, neuroid)
    owner : str
        The verb, for messages.

    Returns
    -------
    responses : DataArray, (presentation, neuroid)
    concepts : ndarray, (presentation, concept)
    names : ndarray of str, (concept,)
        ``neuroid_id``, or addresses ``"group/id"`` where two groups have one of a name.
    report : dict
        Of :func:`align`.

    Raises
    ------
    AlignmentError
        No common stimulus.
    SchemaError
        A concept of two columns, or a time dim.
    """
    sides = (average_if_repeated(without_time(x, owner), owner=owner) for x in (bank, responses))
    concepts, x, report = align(*sides, source_name="bank", target_name="responses")
    names = pd.Series(short_names(concepts))
    twice = names[names.duplicated()]
    if len(twice):
        raise SchemaError(
            f"{owner} got a bank with {len(twice)} concepts that it holds twice: {preview(twice)}. Expected a column each: "
            "rename or average them."
        )
    return x, concepts.values, as_labels(names), report


def _labelled(x: xr.DataArray, names: Numbers, status: Numbers, varies: Numbers, scores: Numbers) -> xr.Dataset:
    fine = status == "ok"
    score = np.full((len(status), len(names)), np.nan)
    score[np.ix_(fine, varies)] = scores
    label, top = np.full(len(status), "", dtype=object), np.full(len(status), np.nan)
    label[fine], top[fine] = names[varies][scores.argmax(axis=1)], scores.max(axis=1)
    columns = {"label": as_labels(label), "label_score": top, "status": status}
    out = xr.Dataset({"score": (("neuroid", "concept"), score)} | {name: ("neuroid", values) for name, values in columns.items()})
    return out.assign_coords(neuroid_labels(x) | {"concept": names})
