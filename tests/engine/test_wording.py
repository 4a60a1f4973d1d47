"""N-grams in common: examples that can be counted by hand."""

import numpy as np
import pytest

from brainalign.engine.wording import bleu, shared_ngrams, tokens, unigram_f


@pytest.mark.parametrize("text", ["cat", "a red cat", "a red cat sat on the mat and slept"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_text_is_itself(text, n):
    assert bleu(shared_ngrams(text.split(), [text.split()]), n) == unigram_f(text.split(), [text.split()]) == 1.0


def test_the_example_of_papineni_is_clipped():
    references = ["the cat is on the mat".split(), "there is a cat on the mat".split()]
    counts = shared_ngrams("the the the the the the the".split(), references)
    assert counts[0] / counts[4] == pytest.approx(2 / 7)
    assert bleu(counts, 1) == pytest.approx(2 / 7)
    assert bleu(counts, 2) == 0.0


def test_what_is_too_short_pays_and_the_nearest_reference_counts():
    counts = shared_ngrams("the cat".split(), ["the cat is on the mat".split(), "the cat sat".split()])
    assert counts[-2:].tolist() == [2, 3]
    assert bleu(counts, 2) == pytest.approx(np.exp(1 - 3 / 2))


def test_texts_of_a_corpus_are_counted_together():
    one, two = shared_ngrams("a b c d".split(), ["a b c d".split()]), shared_ngrams("e f".split(), ["g h".split()])
    assert bleu(one + two, 1) == pytest.approx(4 / 6)
    assert bleu(one + two, 2) == pytest.approx(np.sqrt(4 / 6 * 3 / 4))
    assert (
        bleu(two, 1)
        == unigram_f("e f".split(), ["g h".split()])
        == bleu(shared_ngrams([], [["a"]]), 1)
        == unigram_f([], [["a"]])
        == 0.0
    )


def test_words_of_a_text_without_points_and_capitals():
    assert tokens("Two cats; 3 dogs' tails!") == ["two", "cats", "3", "dogs'", "tails"]
