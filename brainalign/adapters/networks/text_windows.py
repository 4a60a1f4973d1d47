"""Words in context: windows over a transcript, their tokens, and which tokens make which response row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import preview


@dataclass(frozen=True)
class Window:
    """Rows of a stimulus table that go through a network together.

    Attributes
    ----------
    first : int
        First row, of the context.
    start, stop : int
        The rows that get a response here: ``start`` up to, not including, ``stop``.
    """

    first: int
    start: int
    stop: int


@dataclass(frozen=True)
class Tokens:
    """The tokens of one window.

    Attributes
    ----------
    ids : ndarray of int, (position,)
    rows : ndarray of int, (position,)
        Row of the stimulus table that each token belongs to; -1 for special tokens.
    window : Window
    """

    ids: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    window: Window


@dataclass(frozen=True)
class Gather:
    """Which tokens of a padded batch are pooled into which response row.

    Attributes
    ----------
    tokens : ndarray of int, (token,)
        Flat positions ``window * width + position``, row by row.
    counts : ndarray of int, (row,)
        How many of them make each row.
    rows : ndarray of int, (row,)
        Rows of the stimulus table.
    n_tokens : int
        Positions of the padded batch.
    """

    tokens: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    n_tokens: int


def word_windows(table: pd.DataFrame, context_words: int, stride_words: int) -> list[Window]:
    """Cut a transcript into windows of new words with left context; none crosses a run.

    Parameters
    ----------
    table : DataFrame, one row a word
        Consecutive rows with the same ``subject``, ``session`` and ``run`` (as far as there are such columns) make a run.
    context_words : int
        Words before the new ones that are read but give no response here; fewer at the start of a run.
    stride_words : int
        New words of a window.

    Returns
    -------
    list of Window
        Together they respond for every row once, in order.

    Examples
    --------
    >>> word_windows(pd.DataFrame({"run": ["1"] * 5 + ["2"] * 2}), 2, 3)
    [Window(first=0, start=0, stop=3), Window(first=1, start=3, stop=5), Window(first=5, start=5, stop=7)]
    """
    changes = np.zeros(max(len(table) - 1, 0), dtype=bool)
    for name in ("subject", "session", "run"):
        if name in table:
            codes = pd.factorize(table[name])[0]
            changes |= codes[1:] != codes[:-1]
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(table)]
    return [
        Window(max(begin, start - context_words), start, min(start + stride_words, end))
        for begin, end in pairwise(edges)
        for start in range(begin, end, stride_words)
    ]


def encode_words(tokenizer: Any, windows: Sequence[Window], words: Sequence[str], offset: int = 0) -> list[Tokens]:
    """Tokenise each window as running text and find the word of every token by character offsets.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    windows : sequence of Window
    words : sequence of str
        Of all rows that the windows need.
    offset : int
        Row of the first of them.

    Returns
    -------
    list of Tokens

    Raises
    ------
    CapabilityError
        The tokenizer has no offsets.
    ParameterError
        A word that gives no token.
    """
    _check_fast(tokenizer)
    texts = [list(words[window.first - offset : window.stop - offset]) for window in windows]
    encoded = tokenizer([" ".join(text) for text in texts], return_offsets_mapping=True, **_ENCODE)
    found = []
    for i, (window, text) in enumerate(zip(windows, texts, strict=True)):
        owner = _owners(text, np.asarray(encoded["offset_mapping"][i]), np.asarray(encoded["special_tokens_mask"][i]))
        missing = np.setdiff1d(np.arange(len(text)), owner)
        if missing.size:
            at = int(missing[0])
            raise ParameterError(
                f"The word {text[at]!r} in row {window.first + at} gives no token. Expected at least one: drop such rows from the "
                "stimulus table."
            )
        found.append(Tokens(np.asarray(encoded["input_ids"][i]), np.where(owner < 0, -1, owner + window.first), window))
    return found


_ENCODE = {
    # A tokenizer file may carry a truncation and a padding of its own; every token counts here.
    "truncation": False, "padding": False, "add_special_tokens": True, "return_special_tokens_mask": True,
    "return_attention_mask": False, "verbose": False,
}  # fmt: skip


def _owners(words: list[str], offsets: np.ndarray[Any, Any], special: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the word that each token ends in, -1 for special tokens; a leading space belongs to the word after it."""
    lengths = np.asarray([len(word) + 1 for word in words[:-1]], dtype=np.int64)
    starts = np.r_[-1, np.cumsum(lengths) - 1]  # of the space before each word
    owner = np.searchsorted(starts, offsets[:, 1] - 1, side="right") - 1
    return np.where((special != 0) | (offsets[:, 1] <= offsets[:, 0]), -1, owner)


def encode_texts(tokenizer: Any, rows: np.ndarray[Any, Any], texts: Sequence[str], limit: int | None) -> list[Tokens]:
    """Tokenise whole texts, one window each.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
    rows : ndarray of int, (text,)
    texts : sequence of str
    limit : int or None
        Cut each text to this many tokens.

    Returns
    -------
    list of Tokens
    """
    options = _ENCODE if limit is None else {**_ENCODE, "truncation": True, "max_length": limit}
    encoded = tokenizer(list(texts), **options)
    return [
        Tokens(
            np.asarray(ids, dtype=np.int64), np.where(np.asarray(special) != 0, -1, row), Window(int(row), int(row), int(row) + 1)
        )
        for row, ids, special in zip(rows, encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    ]


def check_length(encoded: Sequence[Tokens], limit: int | None, mend: str) -> None:
    """Refuse a window that does not fit the network.

    Parameters
    ----------
    encoded : sequence of Tokens
    limit : int or None
    mend : str
        What to do about it.

    Raises
    ------
    ParameterError
        A window has more tokens than the limit, or none.
    """
    for tokens in encoded:
        if limit is not None and len(tokens.ids) > limit:
            raise ParameterError(
                f"Rows {tokens.window.first} to {tokens.window.stop - 1} have {len(tokens.ids)} tokens. Expected at most {limit}: {mend}."
            )
        if not len(tokens.ids):
            raise ParameterError(f"Row {tokens.window.start} has no token. Expected a text with at least one: drop it.")


def by_length(lengths: Sequence[int], pass_tokens: int) -> list[np.ndarray[Any, Any]]:
    """Group the windows of a batch by length, so that little of what a network computes is padding.

    Parameters
    ----------
    lengths : sequence of int, (window,)
        Tokens of each.
    pass_tokens : int
        What a forward pass costs beside its tokens, in tokens.

    Returns
    -------
    list of ndarray of int
        Positions of the windows of each pass; padded tokens plus ``pass_tokens`` a pass are fewest.

    Notes
    -----
    Sorted by length, the best groups are runs: best(stop) = min over start of best(start) + (stop - start) * longest + pass_tokens.

    Examples
    --------
    >>> by_length([3, 20, 4, 21], pass_tokens=10)
    [array([3, 1]), array([2, 0])]
    >>> by_length([3, 20, 4, 21], pass_tokens=100)
    [array([3, 1, 2, 0])]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    longest = np.asarray(lengths)[order]
    best, starts = np.zeros(len(order) + 1), np.zeros(len(order) + 1, dtype=np.int64)
    for stop in range(1, len(order) + 1):
        costs = best[:stop] + (stop - np.arange(stop)) * longest[:stop]
        starts[stop] = np.argmin(costs)
        best[stop] = costs[starts[stop]] + pass_tokens
    edges = [len(order)]
    while edges[-1]:
        edges.append(int(starts[edges[-1]]))
    return [order[start:stop] for start, stop in pairwise(reversed(edges))]


def pad(encoded: Sequence[Tokens], pad_id: int | None) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return token ids and attention mask, padded on the right, (window, position).

    Parameters
    ----------
    encoded : sequence of Tokens
    pad_id : int or None
        Masked out; 0 where the tokenizer has none.

    Returns
    -------
    ids, mask : ndarray of int64, (window, position)
    """
    width = max(len(tokens.ids) for tokens in encoded)
    ids = np.full((len(encoded), width), pad_id or 0, dtype=np.int64)
    mask = np.zeros((len(encoded), width), dtype=np.int64)
    for i, tokens in enumerate(encoded):
        ids[i, : len(tokens.ids)] = tokens.ids
        mask[i, : len(tokens.ids)] = 1
    return ids, mask


def gather(encoded: Sequence[Tokens], wanted: np.ndarray[Any, Any], pool: str, special_tokens: bool) -> Gather:
    """Say which tokens of the padded batch make which of the wanted rows.

    Parameters
    ----------
    encoded : sequence of Tokens
    wanted : ndarray of int
        Rows of the stimulus table; those that no window responds for are left out.
    pool : {"first", "last", "mean", "max", "cls", "all"}
    special_tokens : bool
        Special tokens count as tokens of their window's only text.

    Returns
    -------
    Gather

    Raises
    ------
    ParameterError
        A row has no token, or ``pool="all"`` and rows of different length.
    """
    width = max(len(tokens.ids) for tokens in encoded)
    whole = special_tokens or pool == "cls"
    spans = [_span(tokens, whole) for tokens in encoded]
    positions = np.concatenate([i * width + span for i, span in enumerate(spans)])
    owners = np.concatenate(
        [np.full(len(span), t.window.start) if whole else t.rows[span] for t, span in zip(encoded, spans, strict=True)]
    )
    answered = np.concatenate([np.arange(tokens.window.start, tokens.window.stop) for tokens in encoded])
    missing = np.setdiff1d(np.intersect1d(answered, wanted), owners)
    if missing.size:
        raise ParameterError(f"Row {missing[0]} has no token that is not special. Expected at least one: drop it.")
    keep = np.isin(owners, wanted)
    positions, owners = positions[keep], owners[keep]
    rows, starts, counts = np.unique(owners, return_index=True, return_counts=True)  # tokens follow their rows
    if pool == "all" and len(set(counts.tolist())) > 1:
        raise ParameterError(
            f"pool='all' got texts of {preview(sorted(set(counts.tolist())))} tokens. Expected the same number in each, as every token is a "
            "neuroid of its own: use pool='mean', 'max', 'first' or 'last'."
        )
    if pool in ("first", "cls", "last"):
        positions = positions[starts + counts - 1 if pool == "last" else starts]
        counts = np.ones_like(counts)
    return Gather(positions, counts, rows, len(encoded) * width)


def _span(tokens: Tokens, whole: bool) -> np.ndarray[Any, Any]:
    """Return the positions of the tokens that may be pooled: all of a text, or those of the new words."""
    if whole:
        return np.arange(len(tokens.ids))
    return np.flatnonzero((tokens.rows >= tokens.window.start) & (tokens.rows < tokens.window.stop))


def _check_fast(tokenizer: Any) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise CapabilityError(
            f"{type(tokenizer).__name__} cannot say which characters a token covers. Expected a fast tokenizer (tokenizer.json): "
            "convert it with transformers, or use whole texts with pool='mean'."
        )
