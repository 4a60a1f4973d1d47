import hashlib

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.provenance import provenance

# lists of texts

ITEMS = "item,w1,w2,w3,type,at\n7,THE,CAT,,S,0.5\n8,FLORP,DAX,ZIB,N,2\n"


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text(ITEMS, encoding="utf-8-sig")  # with the mark that spreadsheets write
    return path


def test_words_of_several_columns_are_joined_as_asked(items):
    x = ba.stimuli.from_table(
        items, text_column=["w1", "w2", "w3"], join=" ", id_column="item", condition_column="type", columns={"onset_s": "at"}
    )
    assert x.text.values.tolist() == ["THE CAT", "FLORP DAX ZIB"]
    assert x.stimulus_id.values.tolist() == ["7", "8"]
    assert x.condition.values.tolist() == ["S", "N"]
    assert x.onset_s.values.tolist() == [0.5, 2.0]
    assert x.attrs["kind"] == "text"
    assert x.sha256.values[0] == hashlib.sha256(b"THE CAT").hexdigest()
    assert provenance(x).steps[-1]["params"]["text_column"] == ["w1", "w2", "w3"]


def test_ids_without_a_column_count_from_zero(items):
    assert ba.stimuli.from_table(items, text_column="w1").stimulus_id.values.tolist() == ["items/00000", "items/00001"]
    named = ba.stimuli.from_table(items, text_column="w1", id_column="item", name="set1")
    assert named.stimulus_id.values.tolist() == ["set1/7", "set1/8"]
    both = ba.stimuli.from_table(items, text_column="w1", id_column=["type", "item"])
    assert both.stimulus_id.values.tolist() == ["S/7", "N/8"]


def test_what_does_not_fit_is_named(items, tmp_path):
    for text_column, join in ((["w1", "w2"], None), ("w1", " "), ([], " ")):
        with pytest.raises(ba.errors.ParameterError, match="Expected one column, or several and what stands between"):
            ba.stimuli.from_table(items, text_column=text_column, join=join)
    with pytest.raises(ba.errors.FormatError, match=r"no column 'sentence'. Its columns are 'item', 'w1'"):
        ba.stimuli.from_table(items, text_column="sentence")
    with pytest.raises(ba.errors.FormatError, match=r"no text in row 0 of \['w3'\]"):
        ba.stimuli.from_table(items, text_column="w3")
    with pytest.raises(ba.errors.ParameterError, match="unknown coordinate 'colour'"):
        ba.stimuli.from_table(items, text_column="w1", columns={"colour": "type"})
    twice = tmp_path / "twice.tsv"
    twice.write_text("id\ttext\n1\tone\n1\ttwo\n")
    with pytest.raises(ba.errors.SchemaError, match="two different contents: '1'"):
        ba.stimuli.from_table(twice, text_column="text", id_column="id")


# transcripts


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "story.ctm"
    path.write_text("s 1 20.0 0.5 sp\ns 1 20.5 0.5 the\ns 1 21.0 0.25 sil\ns 1 21.25 0.5 cat\n")
    return path


def test_words_of_a_transcript(story):
    x = ba.stimuli.from_transcript(story, run="2", offset_s=-20.0)
    assert x.attrs["kind"] == "word"
    assert x.text.values.tolist() == ["the", "cat"]
    assert x.onset_s.values.tolist() == [0.5, 1.25]
    assert x.duration_s.values.tolist() == [0.5, 0.5]
    assert x.run.values.tolist() == ["2", "2"]
    assert x.stimulus_id.values.tolist() == ["story/w00001", "story/w00003"]


def test_a_word_has_the_same_id_whatever_is_dropped(story):
    few, all_ = ba.stimuli.from_transcript(story, name="s"), ba.stimuli.from_transcript(story, name="s", drop=())
    assert all_.sizes["presentation"] == 4
    texts = dict(zip(all_.stimulus_id.values, all_.text.values, strict=True))
    assert [texts[name] for name in few.stimulus_id.values] == few.text.values.tolist()


def test_tables_need_columns_and_other_formats_do_not(story, tmp_path):
    table = tmp_path / "words.tsv"
    table.write_text("start\tstop\tw\n0.5\t1\tthe\n")
    columns = {"text": "w", "onset_s": "start", "end_s": "stop"}
    assert ba.stimuli.from_transcript(table, columns=columns).duration_s.values.tolist() == [0.5]
    with pytest.raises(ba.errors.ParameterError, match=r"columns=None for 'words\.tsv', read as table"):
        ba.stimuli.from_transcript(table)
    with pytest.raises(ba.errors.ParameterError, match="read as ctm"):
        ba.stimuli.from_transcript(story, columns=columns)
    with pytest.raises(ba.errors.ParameterError, match="tier='x' for a table"):
        ba.stimuli.from_transcript(table, columns=columns, tier="x")


def test_formats_and_silence_are_checked(story, tmp_path):
    with pytest.raises(ba.errors.ParameterError, match=r"suffix '\.doc'"):
        ba.stimuli.from_transcript(tmp_path / "x.doc")
    with pytest.raises(ba.errors.FormatError, match="its 4 labels are all in drop"):
        ba.stimuli.from_transcript(story, drop=("sp", "sil", "the", "cat"))


def test_words_that_overlap_are_refused_unless_they_may(tmp_path):
    path = tmp_path / "talk.ctm"
    path.write_text("t A 0.0 1.0 well\nt B 0.75 0.5 yes\nt A 1.25 0.5 now\n")
    with pytest.raises(
        ba.errors.FormatError, match=r"talk\.ctm' has 1 words that start .* first 'yes' at 0\.75 s while 'well' lasts to 1 s"
    ):
        ba.stimuli.from_transcript(path)
    assert ba.stimuli.from_transcript(path, allow_overlap=True).sizes["presentation"] == 3
    assert ba.stimuli.from_transcript(path, drop=("yes",)).sizes["presentation"] == 2  # silence may overlap


def test_rounding_is_no_overlap(tmp_path):
    path = tmp_path / "story.ctm"
    path.write_text("s 1 0.10 0.20 the\ns 1 0.30 0.20 cat\n")  # 0.1 + 0.2 > 0.3
    assert ba.stimuli.from_transcript(path).text.values.tolist() == ["the", "cat"]


@pytest.mark.real
def test_the_alice_words(shared_data):
    path = shared_data("alice-fmri-roi") / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
    x = ba.stimuli.from_transcript(path, tier="word", name="alice", offset_s=-20.0)
    assert x.sizes["presentation"] == 2127
    assert x.text.values[:4].tolist() == ["Alice", "was", "beginning", "to"]
    assert x.text.values[-1] == "cake"
    # 362 volumes of 2 s, the first of which starts 20 s after the scan did
    volume = np.floor(x.onset_s.values / 2)
    assert volume.min() == 0
    assert volume.max() < 362
