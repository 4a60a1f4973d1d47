"""Captions as data: texts by stimulus, a bank of their words, and the nearest caption as the captioner that needs no network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import check_number, preview
from brainalign.core.provenance import write_step
from brainalign.core.responses import responses as make_responses
from brainalign.core.tables import validate_stimuli
from brainalign.engine.retrieval import prepared

#: The unit of a bank whose values are probabilities of concepts.
PROBABILITY = "probability"
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def caption_bank(captions: Any, *, words: bool = True, least: int = 2) -> xr.DataArray:
    """Make a bank of concepts from captions of stimuli, as another responses array.

    Parameters
    ----------
    captions : mapping of str to str or sequence of str, or Dataset (presentation,)
        One or several texts for each ``stimulus_id``, or a stimulus table with ``text``. What a captioner said:
        ``dict(zip(ids, captioner.caption(features)))``.
    words : bool
        Concepts are the words of the captions; otherwise whole captions.
    least : int
        A concept that fewer stimuli have is left out; 1 keeps all.

    Returns
    -------
    DataArray, (presentation, neuroid); probability
        The share of the captions of each stimulus that say so. ``neuroid_id`` is the concept.

    Raises
    ------
    ParameterError
        No captions, or no concept is left.

    Examples
    --------
    >>> import brainalign as ba
    >>> ba.neurons.caption_bank({"a": "A dog runs", "b": ["a dog", "one cat"], "c": "a cat"}).neuroid_id.values.tolist()
    ['a', 'cat', 'dog']
    """
    check_number("least", least, owner="caption_bank", low=1, integer=True)
    texts = texts_by_stimulus(captions)
    said = [[set(words_of(text)) if words else {text} for text in of_one] for of_one in texts.values()]
    counts = Counter(concept for of_one in said for concept in set().union(*of_one))
    concepts = sorted(concept for concept, n in counts.items() if n >= least)
    if not concepts:
        raise ParameterError(
            f"caption_bank got {len(texts)} stimuli and no {'word' if words else 'caption'} that {least} of them share. Expected some: pass a "
            "smaller `least`."
        )
    at = {concept: i for i, concept in enumerate(concepts)}
    values = np.zeros((len(texts), len(concepts)), dtype=np.float32)
    for row, of_one in zip(values, said, strict=True):
        for text in of_one:
            row[[at[concept] for concept in text if concept in at]] += 1 / len(of_one)
    bank = make_responses(
        values, stimulus_id=list(texts), neuroid_id=concepts, modality="behaviour", system="captions", units=PROBABILITY
    )
    return write_step(bank, "caption_bank", params={"words": words, "least": least})


def texts_by_stimulus(captions: Any) -> dict[str, list[str]]:
    """Return the captions of each stimulus, from a mapping or from a stimulus table with texts.

    Parameters
    ----------
    captions : mapping or Dataset

    Returns
    -------
    dict of str to list of str

    Raises
    ------
    ParameterError
        Neither of them, an empty one, or a stimulus without a caption.
    """
    if isinstance(captions, xr.Dataset) and "text" in validate_stimuli(captions):
        captions = dict(zip(captions["stimulus_id"].values.tolist(), captions["text"].values.tolist(), strict=True))
    if not isinstance(captions, Mapping) or isinstance(captions, xr.Dataset) or not captions:
        raise ParameterError(
            f"captions are an empty or unknown {type(captions).__name__}. Expected texts by stimulus_id, as {{'img-1': 'a cat'}}, or a stimulus "
            "table with `text`."
        )
    texts = {str(name): [text] if isinstance(text, str) else [str(t) for t in text] for name, text in captions.items()}
    bare = [name for name, of_one in texts.items() if not of_one]
    if bare:
        raise ParameterError(
            f"captions have no text for {len(bare)} stimuli, first {bare[0]!r}. Expected one or several for each."
        )
    return texts


def texts_of_neuroids(captions: Any, responses: xr.DataArray, *, owner: str) -> list[str]:
    """Return captions of neuroids as texts, after checking that they are those of the responses.

    Parameters
    ----------
    captions : DataArray or sequence of str, (neuroid,)
    responses : DataArray, (presentation, neuroid)
    owner : str
        The verb, for messages.

    Returns
    -------
    list of str, (neuroid,)

    Raises
    ------
    ParameterError
        Something else than a text for each.
    AlignmentError
        Captions of other neuroids, or in another order.
    """
    labelled = isinstance(captions, xr.DataArray)
    values = captions.values if labelled else np.asarray(captions, dtype=object)
    if values.ndim != 1 or any(not isinstance(text, str) for text in values.tolist()):
        raise ParameterError(
            f"{owner} got captions of shape {values.shape}, starting {preview(values.ravel(), 1)}. Expected a text for each neuroid: "
            "`caption(...).label`, or `describe(...).caption`."
        )
    ids = responses["neuroid_id"].values
    given = captions["neuroid_id"].values if labelled and "neuroid_id" in captions.coords else ids
    if len(values) != len(ids) or not np.array_equal(given.astype(object), ids.astype(object)):
        raise AlignmentError(
            f"{owner} got {len(values)} captions (of {preview(given)}) and {len(ids)} neuroids ({preview(ids)}). Expected those of the "
            "same neuroids in the same order: select them on both sides."
        )
    return [str(text) for text in values.tolist()]


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str

    Examples
    --------
    >>> words_of("A dog's ball, 2 cats.")
    ['a', "dog's", 'ball', 'cats']
    """
    return _WORD.findall(text.lower())


class NearestCaption:
    """A captioner without a network: each row of features gets the caption whose embedding is the most alike.

    Parameters
    ----------
    embeddings : ndarray, (caption, dimension)
        Of the captions, or of the stimuli that they were written for, in the space of the features.
    texts : sequence of str, (caption,)

    Raises
    ------
    ParameterError
        Not one text for each embedding.

    Examples
    --------
    >>> NearestCaption(np.eye(2), ["a cat", "a dog"]).caption([[0.2, 0.9]])
    ['a dog']
    """

    def __init__(self, embeddings: Any, texts: Sequence[str]) -> None:
        self._embeddings, self.texts = prepared(np.asarray(embeddings), "cosine"), [str(text) for text in texts]
        if len(self._embeddings) != len(self.texts):
            raise ParameterError(
                f"NearestCaption got {len(self._embeddings)} embeddings and {len(self.texts)} texts. Expected a text for each."
            )

    def caption(self, features: Any) -> list[str]:
        """Return the caption with the highest cosine for each row.

        Parameters
        ----------
        features : array_like, (row, dimension)

        Returns
        -------
        list of str
            ``""`` for a row without a direction.
        """
        likeness = prepared(np.asarray(features), "cosine") @ self._embeddings.T
        known = np.isfinite(likeness)
        best = np.where(known, likeness, -np.inf).argmax(axis=1)
        return [self.texts[i] if any_known else "" for i, any_known in zip(best, known.any(axis=1), strict=True)]
