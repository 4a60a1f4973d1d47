"""Words in context: windows, tokens, and which tokens make which row."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.adapters.networks.text_windows import (
    Tokens,
    Window,
    by_length,
    check_length,
    encode_texts,
    encode_words,
    gather,
    pad,
    word_windows,
)
from brainalign.core.errors import CapabilityError, ParameterError

transformers = pytest.importorskip("transformers")
TEXT = "the cat don't sat on the mats ünïcode 42 , new york mats"
WORDS = ["the", "cat", "don't", "sat", "on", "the", "mats", "ünïcode", "42", ",", "new york", "mats"]


def wordpiece():
    pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat don ' t sat on mat ##s uni ##code 4 ##2 , new york".split()
    return transformers.BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})


def byte_pairs():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend)


def encode(tokenizer, words, windows):
    return encode_words(tokenizer, windows, words)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 5), st.integers(1, 6))
@settings(max_examples=30)
def test_windows_cover_every_word_once_and_stay_in_their_run(lengths, context, stride):
    runs = np.repeat(np.arange(len(lengths)), lengths)
    windows = word_windows(pd.DataFrame({"run": runs.astype(str)}), context, stride)
    assert np.concatenate([np.arange(w.start, w.stop) for w in windows]).tolist() == list(range(len(runs)))
    for window in windows:
        assert len(set(runs[window.first : window.stop])) == 1
        assert window.stop - window.start <= stride
        begin = np.flatnonzero(runs == runs[window.start])[0]
        assert window.start - window.first == min(context, window.start - begin)


def test_runs_of_two_people_do_not_join():
    table = pd.DataFrame({"subject": ["a", "a", "b"], "run": ["1", "1", "1"]})
    assert word_windows(table, 4, 4) == [Window(0, 0, 2), Window(2, 2, 3)]
    assert word_windows(table[[]], 1, 2) == [Window(0, 0, 2), Window(1, 2, 3)]


def test_word_pieces_belong_to_their_word():
    tokenizer = wordpiece()
    (tokens,) = encode(tokenizer, WORDS, [Window(0, 0, len(WORDS))])
    reference = tokenizer([WORDS], is_split_into_words=True)
    assert tokens.ids.tolist() == reference["input_ids"][0]
    assert [None if row < 0 else row for row in tokens.rows.tolist()] == reference.word_ids(0)
    assert (tokens.rows == 2).sum() == 3


def test_byte_pairs_belong_to_the_word_that_they_end_in():
    tokenizer = byte_pairs()
    (tokens,) = encode(tokenizer, WORDS, [Window(0, 0, len(WORDS))])
    decoded = [tokenizer.decode(tokens.ids[tokens.rows == i]).strip() for i in range(len(WORDS))]
    assert decoded == WORDS
    assert (np.diff(tokens.rows) >= 0).all()


def test_rows_count_from_the_start_of_the_table():
    (tokens,) = encode(wordpiece(), WORDS, [Window(3, 5, 7)])
    assert tokens.rows.tolist() == [-1, 3, 4, 5, 6, 6, -1]
    (same,) = encode_words(wordpiece(), [Window(3, 5, 7)], WORDS[2:], 2)
    assert same.ids.tolist() == tokens.ids.tolist()
    assert same.rows.tolist() == tokens.rows.tolist()


def test_a_word_without_tokens_is_named():
    with pytest.raises(ParameterError, match=r"'\\u200b' in row 1 gives no token"):
        encode(wordpiece(), ["the", "\u200b", "cat"], [Window(0, 0, 3)])


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(CapabilityError, match="fast tokenizer"):
        encode(object(), ["the"], [Window(0, 0, 1)])


def test_settings_in_the_tokenizer_file_do_not_count():
    tokenizer = wordpiece()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=40)
    (tokens,) = encode(tokenizer, WORDS[:6], [Window(0, 0, 6)])
    assert len(tokens.ids) == 10
    (text,) = encode_texts(tokenizer, np.array([4]), ["the cat sat on the mats"], None)
    assert text.rows.tolist() == [-1, *[4] * 7, -1]
    (short,) = encode_texts(tokenizer, np.array([4]), ["the cat sat on the mats"], 5)
    assert len(short.ids) == 5
    assert short.rows.tolist() == [-1, 4, 4, 4, -1]


def tokens(rows, window):
    return Tokens(np.arange(len(rows)) + 10, np.asarray(rows), Window(*window))


ENCODED = [tokens([-1, 0, 0, 1, -1], (0, 0, 2)), tokens([-1, 1, 2, -1], (1, 2, 3))]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=7), cost=st.integers(0, 60))
def test_passes_by_length_pad_least(lengths, cost):
    """Against every way to cut the windows, sorted by length, into runs."""

    def padded(groups):
        return sum(len(group) * max(lengths[i] for i in group) + cost for group in groups)

    groups = by_length(lengths, cost)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    cuts = (np.flatnonzero([(code >> i) & 1 for i in range(len(order) - 1)]) + 1 for code in range(2 ** (len(order) - 1)))
    assert padded(groups) == min(padded(np.split(order, cut)) for cut in cuts)


def test_padding_is_on_the_right_and_masked():
    ids, mask = pad(ENCODED, 7)
    assert ids.tolist() == [[10, 11, 12, 13, 14], [10, 11, 12, 13, 7]]
    assert mask.tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
    assert pad(ENCODED, None)[0][1, 4] == 0


@pytest.mark.parametrize(
    ("pool", "expected"),
    [("mean", [1, 2, 3, 7]), ("max", [1, 2, 3, 7]), ("first", [1, 3, 7]), ("last", [2, 3, 7])],
)
def test_rows_gather_their_new_words_only(pool, expected):
    chosen = gather(ENCODED, np.arange(3), pool, False)
    assert chosen.tokens.tolist() == expected
    assert chosen.rows.tolist() == [0, 1, 2]
    assert chosen.counts.sum() == len(expected)
    assert chosen.n_tokens == 10


def test_only_wanted_rows_are_gathered():
    chosen = gather(ENCODED, np.array([1]), "mean", False)
    assert (chosen.tokens.tolist(), chosen.rows.tolist()) == ([3], [1])


def test_special_tokens_are_a_choice():
    text = [tokens([-1, 5, 5, -1], (5, 5, 6))]
    assert gather(text, np.array([5]), "mean", True).tokens.tolist() == [0, 1, 2, 3]
    assert gather(text, np.array([5]), "last", True).tokens.tolist() == [3]
    assert gather(text, np.array([5]), "mean", False).tokens.tolist() == [1, 2]
    assert gather(text, np.array([5]), "cls", False).tokens.tolist() == [0]


def test_impossible_poolings_are_refused():
    texts = [tokens([0, 0], (0, 0, 1)), tokens([1], (1, 1, 2))]
    with pytest.raises(ParameterError, match=r"texts of 1, 2 tokens"):
        gather(texts, np.arange(2), "all", True)
    with pytest.raises(ParameterError, match="Row 0 has no token"):
        gather([tokens([-1], (0, 0, 1))], np.array([0]), "mean", False)


def test_lengths_are_checked():
    check_length(ENCODED, 5, "mend")
    check_length(ENCODED, None, "mend")
    with pytest.raises(ParameterError, match=r"Rows 0 to 1 have 5 tokens\. Expected at most 4: cut them"):
        check_length(ENCODED, 4, "cut them")
    with pytest.raises(ParameterError, match="Row 3 has no token"):
        check_length([tokens([], (3, 3, 4))], 4, "")
