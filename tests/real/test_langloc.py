"""Sentences and nonword lists of the language localiser: all that the README of the files states."""

import csv

import numpy as np
import pytest

import brainalign as ba

pytestmark = pytest.mark.real

WORDS = [f"stim{i}" for i in range(2, 14)]


@pytest.fixture(scope="module")
def sets(shared_data):
    folder = shared_data("langloc-stimuli")
    return [folder / f"langloc_fmri_run1_stim_set{i}.csv" for i in range(1, 6)]


def open_set(path):
    return ba.stimuli.from_table(
        path, text_column=WORDS, join=" ", id_column=["stim14", "stim1"], condition_column="stim14", name=path.stem
    )


def test_48_items_of_12_words_half_of_them_sentences(sets):
    for path in sets:
        x = open_set(path)
        assert x.sizes["presentation"] == 48
        # item numbers count from 1 within a condition, so that they name an item only together with it
        ids = {f"{path.stem}/{condition}/{item}" for condition in "SN" for item in range(1, 25)}
        assert set(x.stimulus_id.values) == ids
        assert {len(text.split(" ")) for text in x.text.values} == {12}
        assert dict(zip(*np.unique(x.condition.values.astype(object), return_counts=True), strict=True)) == {"N": 24, "S": 24}


def test_every_word_of_the_files_and_nothing_else(sets):
    for path in sets:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        assert header == [f"stim{i}" for i in range(1, 15)]
        x = open_set(path)
        assert x.text.values.tolist() == [" ".join(row[1:13]) for row in rows]
        assert x.condition.values.tolist() == [row[13] for row in rows]


def test_known_items(sets):
    x = open_set(sets[0])
    assert x.text.values[0] == "JUST THE BAREST SUGGESTION OF A HEEL IS FOUND ON TEENAGE PUMPS"
    assert x.condition.values[0] == "S"
    with pytest.raises(ba.errors.SchemaError, match="two different contents: '1', '2', '3', "):
        ba.stimuli.from_table(sets[0], text_column=WORDS, join=" ", id_column="stim1")
    with pytest.raises(ba.errors.FormatError, match=r"no column 'condition'.*'stim14'"):
        ba.stimuli.from_table(sets[0], text_column="stim2", condition_column="condition")


def test_all_sets_hold_240_different_items(sets):
    texts = [text for path in sets for text in open_set(path).text.values]
    assert len(texts) == len(set(texts)) == 240
