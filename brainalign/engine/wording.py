"""How alike two texts are, word by word: n-grams that a caption shares with its references."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from brainalign.engine.moments import Numbers

_WORD = re.compile(r"[\w']+")
LONGEST = 4  # n-grams that are counted


def tokens(text: str) -> list[str]:
    """Return words and numbers of a text in lower case, without punctuation.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str

    Examples
    --------
    >>> tokens("A dog's ball, 2 cats.")
    ['a', "dog's", 'ball', '2', 'cats']
    """
    return _WORD.findall(text.lower())


def shared_ngrams(words: Sequence[str], references: Sequence[Sequence[str]]) -> Numbers:
    """Count what BLEU is made of, for one text.

    Parameters
    ----------
    words : sequence of str
    references : sequence of sequence of str
        Texts that say the same.

    Returns
    -------
    ndarray of float64, (2 * 4 + 2,)
        For n from 1 to 4, n-grams that are in a reference too, each as often as in the one that has it most often; n-grams in all; the number
        of words, and that of the reference whose number is the nearest, the smaller of two. Counts of many texts may be added.

    Examples
    --------
    >>> shared_ngrams("the the cat".split(), ["the cat sat".split()]).tolist()
    [2.0, 1.0, 0.0, 0.0, 3.0, 2.0, 1.0, 0.0, 3.0, 3.0]
    """
    found, total = np.zeros(LONGEST), np.zeros(LONGEST)
    for n in range(1, LONGEST + 1):
        mine, theirs = _ngrams(words, n), Counter[tuple[str, ...]]()
        for reference in references:
            theirs |= _ngrams(reference, n)
        found[n - 1], total[n - 1] = (mine & theirs).total(), mine.total()
    nearest = min((len(reference) for reference in references), key=lambda length: (abs(length - len(words)), length))
    return np.array([*found, *total, len(words), nearest])


def bleu(counts: Numbers, n: int) -> float:
    """Return BLEU-n of a text, or of many whose counts were added.

    Parameters
    ----------
    counts : ndarray, (2 * 4 + 2,)
        From :func:`shared_ngrams`.
    n : int
        The longest n-grams.

    Returns
    -------
    float
        0 to 1.

    Notes
    -----
    exp(min(0, 1 − r / c)) times the geometric mean of the precisions of 1- to n-grams (Papineni et al. 2002), unsmoothed. Of texts that are
    all shorter than n words, those that there are.

    Examples
    --------
    >>> bleu(shared_ngrams("a red cat".split(), ["a red cat".split()]), 4)
    1.0
    """
    found, total = counts[:n], counts[LONGEST : LONGEST + n]
    found, total = found[total > 0], total[total > 0]
    if not len(total) or not found.all():
        return 0.0
    return float(np.exp(min(0.0, 1 - counts[-1] / counts[-2]) + np.log(found / total).mean()))


def unigram_f(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the harmonic mean of precision and recall of words, of the reference that has the best.

    Parameters
    ----------
    words : sequence of str
    references : sequence of sequence of str

    Returns
    -------
    float
        0 to 1.

    Examples
    --------
    >>> unigram_f("a red cat".split(), ["a cat sat here".split()])
    0.5714285714285714
    """
    mine = Counter(words)
    return max(2 * (mine & Counter(other)).total() / max(1, len(words) + len(other)) for other in references)


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
