"""``describe``: sentences for voxels and units from captions of what drives a model of them, each step replaceable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import hypergeom

from brainalign.core.errors import AlignmentError
from brainalign.core.parameters import check_number, check_random_state
from brainalign.core.protocols import Captioner
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.concepts import top_rows
from brainalign.engine.moments import column_status
from brainalign.neurons.captions.banks import texts_by_stimulus, words_of
from brainalign.neurons.labelling import neuroid_labels, without_time
from brainalign.neurons.weights.reading import bank_rows, vectors_of

_LEVEL = 0.05  # of all words of a neuroid together
_LEAST = 1 / 3  # of the score of the best word: a model that is fitted on few stimuli leaks a little of other concepts


def describe(
    weights: Any,
    pool: xr.DataArray,
    captions: Any,
    *,
    k: int = 50,
    n_keywords: int = 5,
    keywords: Callable[[Sequence[str], Sequence[str]], Sequence[tuple[str, float]]] | None = None,
    compose: Callable[[Sequence[str]], str] | None = None,
    random_state: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Describe each neuroid by what captions say of the stimuli of a pool for which the highest response is predicted.

    Parameters
    ----------
    weights : fitted mapping, DataArray or array_like, (feature, neuroid)
        A mapping predicts by itself; other weights are multiplied with the features.
    pool : DataArray, (presentation, neuroid)
        Features of stimuli that were not in the fit.
    captions : mapping of str to str, Dataset (presentation,), or Captioner
        A text for each stimulus of the pool, as in :func:`caption_bank`, or what makes one of its features.
    k : int
        Stimuli that a neuroid is described by.
    n_keywords : int
        At most.
    keywords : callable, optional
        From the captions of the k stimuli and those of the pool to (keyword, score), the best first. Default: words that the k
        captions say more often than chance, :func:`distinctive_words`.
    compose : callable, optional
        From the keywords of a neuroid to its caption; a language model, for example. Default: ``"a, b and c"``.
    random_state : int, Generator or None
        Of the order of stimuli with equal predictions.

    Returns
    -------
    Dataset, (neuroid, rank)
        ``keyword`` and ``keyword_score``, ``""`` and NaN where there are no more; ``caption`` by neuroid, ``""`` without a
        keyword, and ``status`` of the predictions.

    Raises
    ------
    AlignmentError
        A stimulus of the pool without a caption, or other features than those of the weights.

    Notes
    -----
    The steps of LaVCa (Matsuyama et al., 2025): encoding model, stimuli that it answers most, captions, keywords, sentence. How
    good a caption is tells :func:`score_captions`, on responses that nothing was fitted to.

    Examples
    --------
    >>> import brainalign as ba
    >>> pool = ba.responses(np.repeat(np.eye(2), 20, axis=0), stimulus_id=range(40), neuroid_id=["x", "y"], modality="ann", system="net")
    >>> texts = {str(i): "a dog outside" if i < 20 else "a cat outside" for i in range(40)}
    >>> ba.neurons.describe(np.array([[0.0, 1.0], [1.0, 0.0]]), pool, texts, k=10, random_state=0).caption.values.tolist()
    ['cat', 'dog']
    """
    check_number("n_keywords", n_keywords, owner="describe", low=1, integer=True)
    check_number("k", k, owner="describe", low=1, high=len(without_time(pool, "describe")), integer=True)
    seed = check_random_state(random_state, owner="describe")
    predicted, coords = _predictions(weights, pool)
    texts = _texts(captions, pool)
    status = column_status(predicted)
    found: list[Sequence[tuple[str, float]]] = [()] * len(status)
    everything = [text for of_one in texts for text in of_one]
    fine = np.flatnonzero(status == "ok")
    for n, rows in zip(fine, top_rows(predicted[:, fine], k, np.random.default_rng(seed)), strict=True):
        some = [text for row in rows for text in texts[row]]
        found[n] = list((keywords or distinctive_words)(some, everything))[:n_keywords]
    said = [[word for word, _ in of_one] for of_one in found]
    pair = ("neuroid", "rank")
    words = np.full((len(status), n_keywords), "", dtype=object)
    scores = np.full(words.shape, np.nan)
    for row, score, of_one in zip(words, scores, found, strict=True):
        row[: len(of_one)], score[: len(of_one)] = [word for word, _ in of_one], [value for _, value in of_one]
    sentences = [(compose or list_of_words)(of_one) if of_one else "" for of_one in said]
    out = xr.Dataset({"keyword": (pair, as_labels(words)), "keyword_score": (pair, scores)}, coords)
    out = out.assign(caption=("neuroid", as_labels(sentences)), status=("neuroid", status)).assign_coords(
        rank=np.arange(n_keywords)
    )
    params = {
        "k": k,
        "n_keywords": n_keywords,
        "keywords": keywords or "distinctive_words",
        "compose": compose or "list_of_words",
    }
    params |= {"captions": type(captions).__name__}
    return write_step(out, "describe", params=params, inputs={"pool": pool}, seed=seed)


def distinctive_words(some: Sequence[str], everything: Sequence[str]) -> list[tuple[str, float]]:
    """Return the words that some captions say more often than so many drawn from all would.

    Parameters
    ----------
    some, everything : sequence of str
        Captions; the first are among the second.

    Returns
    -------
    list of (str, float)
        The word and its share among some times the logarithm of that over its share among all, the highest first. Left out are
        words that chance gives as often, one word in twenty lists of captions drawn at random (hypergeometric, Bonferroni), and
        those that score under a third of the best.

    Examples
    --------
    >>> [word for word, _ in distinctive_words(["a cat"] * 8, ["a cat"] * 10 + ["a dog"] * 30)]
    ['cat']
    """
    here, all_in_all = (Counter(word for text in texts for word in set(words_of(text))) for texts in (some, everything))
    if not here:
        return []
    words = sorted(here)
    n, total = len(some), len(everything)
    counts, of_all = (np.array([counted[word] for word in words]) for counted in (here, all_in_all))
    p = hypergeom.sf(counts - 1, total, of_all, n)
    score = counts / n * np.log((counts / n) / (of_all / total))
    best = np.flatnonzero((p * len(words) <= _LEVEL) & (score >= _LEAST * score.max()))
    return [(words[i], float(score[i])) for i in best[np.argsort(-score[best], kind="stable")]]


def list_of_words(words: Sequence[str]) -> str:
    """Return words as a list in a sentence.

    Parameters
    ----------
    words : sequence of str

    Returns
    -------
    str

    Examples
    --------
    >>> list_of_words(["dog", "ball", "grass"])
    'dog, ball and grass'
    """
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _predictions(weights: Any, pool: xr.DataArray) -> tuple[Any, dict[str, Any]]:
    if hasattr(weights, "predict"):
        predicted = weights.predict(pool)
        if isinstance(predicted, xr.DataArray):
            predicted = without_time(predicted, "describe")
            return predicted.values, neuroid_labels(predicted)
        return np.asarray(predicted), {"neuroid_id": ("neuroid", np.arange(np.shape(predicted)[1]))}
    vectors, coords, ids = vectors_of(weights, owner="describe")
    return bank_rows(pool, vectors, ids, owner="describe") @ vectors, coords


def _texts(captions: Any, pool: xr.DataArray) -> list[list[str]]:
    """Return the captions of each row of the pool."""
    if isinstance(captions, Captioner):
        return [[text] for text in captions.caption(pool.values)]
    texts, ids = texts_by_stimulus(captions), pool["stimulus_id"].values.tolist()
    lacking = [name for name in ids if name not in texts]
    if lacking:
        raise AlignmentError(
            f"describe got captions without {len(lacking)} of {len(ids)} stimuli of the pool, first {lacking[0]!r} (captions start "
            f"{next(iter(texts))!r}). Expected a caption for each: select the others, or pass a captioner."
        )
    return [texts[name] for name in ids]
