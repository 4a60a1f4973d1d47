"""``score_captions``: whether a neuroid does what its caption says, on presentations that the caption was not made from."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.parameters import check_number, check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.concepts import column_blocks, f1_parts
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.resample import false_discovery_rate, p_values
from brainalign.engine.retrieval import prepared
from brainalign.neurons.captions.banks import texts_of_neuroids, words_of
from brainalign.neurons.captions.captioning import described
from brainalign.neurons.labelling import neuroid_labels, rows_of


def score_captions(
    captions: Any,
    responses: xr.DataArray,
    bank: xr.DataArray,
    *,
    threshold: float = 0.5,
    n_permutations: int = 1000,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Score captions by how well they predict responses, and by how well they tell when a neuroid is active.

    Parameters
    ----------
    captions : DataArray or sequence of str, (neuroid,)
        ``label`` of :func:`caption`, or ``caption`` of :func:`describe`: a concept of the bank, or a text with words that are.
    responses : DataArray, (presentation, neuroid)
        Other presentations than those that the captions were made from.
    bank : DataArray, (presentation, neuroid)
        What each concept says of them; joined by ``stimulus_id``. Of a text the mean over its words that are in the bank counts.
    threshold : float
        A neuroid is active, and a concept there, above this share of its highest value.
    n_permutations : int
        Of what the captions say, over presentations; 0 for none.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over blocks of neuroids.

    Returns
    -------
    Dataset, (neuroid,)
        ``score``, Pearson's r of the responses with what the caption says, with ``p_value`` and ``p_value_fdr`` against shuffled
        presentations; ``precision``, the share of active presentations among those with the concept, ``recall``, the share of
        presentations with the concept among the active, ``f1``, with ``f1_chance``, its mean over shuffled presentations, and
        ``f1_p_value``. NaN where the ``status`` is not ``"ok"``: constant or NaN responses, or a caption that says nothing of
        these presentations (``"unsaid"``).

    Raises
    ------
    AlignmentError
        Captions of other neuroids, or no common stimulus.
    ParameterError
        A threshold out of range.

    Notes
    -----
    Observational scores of Huang et al. (2023), and the correlation with simulated responses of Bills et al. (2023). Both tell
    that a neuroid goes with a concept, not that it is used: see :func:`mediation`.

    Examples
    --------
    >>> import brainalign as ba
    >>> bank = ba.neurons.caption_bank({str(i): "a cat" if i % 3 else "a dog" for i in range(30)})
    >>> voxel = ba.responses(bank.values[:, [1]] + 0.1, stimulus_id=range(30), neuroid_id=["v1"], modality="fmri", system="sub-01")
    >>> out = ba.neurons.score_captions(["a cat"], voxel, bank, n_permutations=99, random_state=0)
    >>> out.f1.item(), round(out.score.item(), 3), out.p_value.item()
    (1.0, 1.0, 0.01)
    """
    check_number("threshold", threshold, owner="score_captions", low=0.0, high=1.0)
    check_number("n_permutations", n_permutations, owner="score_captions", low=0, integer=True)
    seed = check_random_state(random_state, owner="score_captions")
    texts = texts_of_neuroids(captions, responses, owner="score_captions")
    x, concepts, names, report = described(responses, bank, owner="score_captions")
    said = _simulated(texts, concepts, names.tolist())
    status, told = column_status(x.values), column_status(said)
    status = as_labels(np.where(status != "ok", status.astype(object), np.where(told == "ok", "ok", "unsaid")))
    fine = np.flatnonzero(status == "ok")
    orders = rows_of(x, None, None, owner="score_captions").orders(n_permutations, np.random.default_rng(seed))
    found, null = np.full((4, len(status)), np.nan), np.full((2, len(orders), len(status)), np.nan)
    blocks = list(column_blocks(len(fine), len(x), 1))
    for block in progress_bar(blocks, progress=progress, desc="score_captions"):
        columns = fine[block]
        found[:, columns], null[:, :, columns] = _scores(x.values[:, columns], said[:, columns], orders, threshold)
    labels = dict(zip(("score", "precision", "recall", "f1"), found, strict=True))
    if len(orders):
        p = p_values(found[0], null[0])
        labels |= {"p_value": p, "p_value_fdr": false_discovery_rate(p), "f1_chance": null[1].mean(axis=0)}
        labels["f1_p_value"] = p_values(found[3], null[1])
    out = xr.Dataset({name: ("neuroid", values) for name, values in labels.items()}, neuroid_labels(x))
    out = out.assign(status=("neuroid", status)).assign_coords(caption=("neuroid", as_labels(texts)))
    params = {"threshold": threshold, "n_permutations": len(orders)}
    out.attrs = params | {"n_presentations": len(x), "report": json.dumps({"join": report})}
    return write_step(out, "score_captions", params=params, inputs={"responses": responses, "bank": bank}, seed=seed)


def _simulated(texts: list[str], concepts: Numbers, names: list[str]) -> Numbers:
    """Return what each caption says of each presentation; NaN where it has no word of the bank."""
    at = {name.casefold(): i for i, name in enumerate(names)}
    out = np.full((len(concepts), len(texts)), np.nan)
    for n, text in enumerate(texts):
        whole = at.get(text.casefold())
        columns = [at[word] for word in dict.fromkeys(words_of(text)) if word in at] if whole is None else [whole]
        if columns:
            out[:, n] = concepts[:, columns].mean(axis=1)
    return out


def _scores(x: Numbers, said: Numbers, orders: Numbers, threshold: float) -> tuple[Numbers, Numbers]:
    """Return r, precision, recall and F1 of columns, and r and F1 in each order of what is said."""
    active, there = (values > threshold * values.max(axis=0) for values in (x, said))
    defined = (x.max(axis=0) > 0) & (said.max(axis=0) > 0)  # a share of a highest value below 0 is above it
    unit, other = (prepared(values.T, "pearson") for values in (x, said))
    precision, recall, f1 = np.where(defined, f1_parts(active, there), np.nan)
    found = np.stack([(unit * other).sum(axis=1), precision, recall, f1])
    null = np.empty((2, len(orders), x.shape[1]))
    for i, order in enumerate(orders):
        null[0, i] = (unit * other[:, order]).sum(axis=1)
        null[1, i] = np.where(defined, f1_parts(active, there[order])[2], np.nan)
    return found, null
