import numpy as np
import pytest

import brainalign as ba
from brainalign.core.protocols import Captioner
from brainalign.neurons.captions.banks import texts_by_stimulus, words_of


def test_a_bank_holds_the_share_of_captions_that_say_a_word():
    bank = ba.neurons.caption_bank({"a": ["A red ball", "the ball"], "b": "red sky", "c": "sky"})
    assert bank.neuroid_id.values.tolist() == ["red", "sky"]  # the ball is of one stimulus only
    assert bank.values.tolist() == [[0.5, 0.0], [1.0, 1.0], [0.0, 1.0]]
    assert bank.attrs["units"] == "probability"
    whole = ba.neurons.caption_bank({"a": "x y", "b": ["x y", "z"], "c": "z"}, words=False, least=1)
    assert whole.sel(neuroid=0).values.tolist() == [1.0, 0.5, 0.0]


def test_a_stimulus_table_with_texts_is_a_set_of_captions():
    table = ba.stimuli.table(["one cat", "one dog"], stimulus_id=["s0", "s1"], kind="text")
    assert texts_by_stimulus(table) == {"s0": ["one cat"], "s1": ["one dog"]}
    assert ba.neurons.caption_bank(table, least=1).neuroid_id.values.tolist() == ["cat", "dog", "one"]


def test_words_keep_their_apostrophes_and_letters_of_all_scripts():
    assert words_of("L’été, c'est 2 BALLS_x") == ["l’été", "c'est", "balls", "x"]


def test_captions_that_are_none_are_refused():
    for wrong in ({}, ["a cat"], ba.stimuli.table(np.ones((2, 3)), stimulus_id=["a", "b"], kind="array")):
        with pytest.raises(ba.errors.ParameterError, match="Expected texts by stimulus_id"):
            ba.neurons.caption_bank(wrong)
    with pytest.raises(ba.errors.ParameterError, match="no text for 1 stimuli, first 'b'"):
        ba.neurons.caption_bank({"a": "x", "b": []})
    with pytest.raises(ba.errors.ParameterError, match="no word that 2 of them share"):
        ba.neurons.caption_bank({"a": "x", "b": "y"})


def test_the_nearest_caption_is_a_captioner():
    captioner = ba.neurons.NearestCaption(np.eye(3), ["red", "green", "blue"])
    assert isinstance(captioner, Captioner)
    assert captioner.caption([[0.1, 5.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]) == ["green", "blue", ""]
    with pytest.raises(ba.errors.ParameterError, match="3 embeddings and 1 texts"):
        ba.neurons.NearestCaption(np.eye(3), ["red"])
