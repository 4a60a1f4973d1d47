import pytest

from brainalign.adapters.stimuli.transcripts import read_ctm, read_textgrid, read_word_table
from brainalign.core.errors import FormatError, ParameterError

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "word"
        xmin = 0
        xmax = 2.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "sp"
        intervals [2]:
            xmin = 0.5
            xmax = 1.25 ! a comment with 99 in it
            text = "she said ""no"" = 7"
        intervals [3]:
            xmin = 1.25
            xmax = 2.5
            text = ""
    item [2]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 2.5
        points: size = 1
        points [1]:
            number = 0.75
            mark = "ding"
"""
SHORT = """File type = "ooTextFile"
"TextGrid"

0
2.5
<exists>
2
"IntervalTier"
"word"
0
2.5
3
0
0.5
"sp"
0.5
1.25
"she said ""no"" = 7"
1.25
2.5
""
"TextTier"
"bell"
0
2.5
1
0.75
"ding"
"""


@pytest.fixture
def write(tmp_path):
    def put(text, name="story.TextGrid", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return put


@pytest.mark.parametrize("text", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_both_text_formats_hold_the_same(write, text, encoding):
    words = read_textgrid(write(text, encoding=encoding), tier="word")
    assert words.text.tolist() == ["sp", 'she said "no" = 7', ""]
    assert words.onset_s.tolist() == [0.0, 0.5, 1.25]
    assert words.duration_s.tolist() == [0.5, 0.75, 1.25]


def test_windows_line_ends(write):
    assert len(read_textgrid(write(LONG.replace("\n", "\r\n")), tier="word")) == 3


def test_points_last_no_time(write):
    bell = read_textgrid(write(LONG), tier="bell")
    assert bell.values.tolist() == [["ding", 0.75, 0.0]]


def test_several_tiers_must_be_named(write):
    with pytest.raises(FormatError, match=r"0 tiers named None. Its 2 tiers are 'word', 'bell'"):
        read_textgrid(write(LONG))
    with pytest.raises(FormatError, match="Did you mean 'word'"):
        read_textgrid(write(LONG), tier="words")


@pytest.mark.parametrize("lines", [1, 4, 8, 20, 30])
def test_a_truncated_file_is_named(write, lines):
    path = write("\n".join(LONG.split("\n")[:lines]))
    with pytest.raises(FormatError, match=r"story\.TextGrid' is no whole TextGrid: .*the file ends"):
        read_textgrid(path, tier="word")


def test_a_cut_within_a_string_is_named(write):
    with pytest.raises(FormatError, match="no whole TextGrid"):
        read_textgrid(write(LONG[: LONG.index("said")]), tier="word")


def test_tiers_that_hold_no_words_are_named(write):
    head = '"ooTextFile"\n"TextGrid"\n0\n1\n'
    for text, says in (
        (head + "<absent>\n", "has no tiers"),
        (head + '<exists>\n1\n"IntervalTier"\n"word"\n0\n1\n0\n', "has nothing in tier 'word'"),
        (head + '<exists>\n1\n"FormantTier"\n"word"\n0\n1\n0\n', "a tier of class 'FormantTier'. Expected 'IntervalTier'"),
    ):
        with pytest.raises(FormatError, match=says):
            read_textgrid(write(text))


def test_other_files_are_refused(write):
    with pytest.raises(FormatError, match=r"starts with \['ooTextFile', 'Pitch 1'\]"):
        read_textgrid(write(SHORT.replace('"TextGrid"', '"Pitch 1"')))
    with pytest.raises(FormatError, match="is not UTF-8 text"):
        read_textgrid(write("ooBinaryFile\x08TextGrid\xff\xfe", encoding="latin-1"))
    with pytest.raises(FormatError, match="there is no file"):
        read_textgrid("nowhere.TextGrid")


def test_times_that_run_backwards_are_refused(write):
    with pytest.raises(FormatError, match=r"row 1 lasts from 0.5 to 0.25 s"):
        read_textgrid(write(LONG.replace("xmax = 1.25", "xmax = 0.25")), tier="word")
    with pytest.raises(FormatError, match=r"2.5 s in row 0 is followed by 1 s"):
        read_ctm(write("a 1 2.5 0.1 x\na 1 1.0 0.1 y\n", "a.ctm"))


def test_an_interval_past_the_end_is_named(write):
    with pytest.raises(FormatError, match=r"has '' from 1\.25 to 9 s in tier 'word', which ends at 2\.5 s"):
        read_textgrid(write(SHORT.replace('1.25\n2.5\n""', '1.25\n9\n""')), tier="word")


def test_a_ctm_and_a_table_with_a_byte_order_mark(write):
    assert read_ctm(write("s 1 0.5 0.2 the\n", "a.ctm", "utf-8-sig")).text.tolist() == ["the"]
    assert read_ctm(write("s 1 0.5 0.2 thé\n", "b.ctm", "utf-16")).text.tolist() == ["thé"]
    table = write("w,t,d\nthe,0.5,0.25\n", "w.csv", "utf-8-sig")
    assert read_word_table(table, columns={"text": "w", "onset_s": "t", "duration_s": "d"}).text.tolist() == ["the"]


def test_damage(write, survives_damage):
    for text, encoding in ((LONG, "utf-8"), (SHORT, "utf-16")):
        file = write(text, encoding=encoding)
        assert survives_damage(file, lambda file=file: read_textgrid(file, tier="word"), header=100)
    file = write("s 1 0.5 0.2 the\ns 1 0.7 0.2 cat\n", "a.ctm")
    assert survives_damage(file, lambda: read_ctm(file))


def test_ctm(write):
    path = write(";; made by hand\nstory A 0.50 0.20 the 0.99\n\nstory A 0.70 0.30 cat\n", "story.ctm")
    assert read_ctm(path).values.tolist() == [["the", 0.5, 0.2], ["cat", 0.7, 0.3]]


def test_a_ctm_of_several_recordings(write):
    path = write("one 1 0.0 0.1 a\ntwo 1 0.0 0.1 b\n", "both.ctm")
    assert read_ctm(path, recording="two").text.tolist() == ["b"]
    with pytest.raises(FormatError, match="2 recordings are 'one', 'two'"):
        read_ctm(path)


def test_a_damaged_ctm_line_is_named(write):
    with pytest.raises(FormatError, match=r"'story A 0\.70 x cat' on line 2"):
        read_ctm(write("story A 0.5 0.2 the\nstory A 0.70 x cat\n", "story.ctm"))


@pytest.mark.parametrize(("mark", "name"), [("\t", "w.tsv"), (",", "w.csv")])
def test_tables_with_named_columns(write, mark, name):
    path = write(
        "\n".join(mark.join(row) for row in (["start", "word", "stop"], ["0.5", "the", "0.75"], ["0.75", "NA", "1.5"])), name
    )
    words = read_word_table(path, columns={"text": "word", "onset_s": "start", "end_s": "stop"})
    assert words.values.tolist() == [["the", 0.5, 0.25], ["NA", 0.75, 0.75]]


def test_a_table_with_durations(write):
    words = read_word_table(write("w,t,d\nthe,0.5,0.25\n", "w.csv"), columns={"text": "w", "onset_s": "t", "duration_s": "d"})
    assert words.values.tolist() == [["the", 0.5, 0.25]]


def test_tables_without_the_columns_are_refused(write):
    path = write("word\tstart\tstop\nthe\t0.5\t?\n", "w.tsv")
    with pytest.raises(FormatError, match=r"no column 'onset'. Its columns are 'word', 'start', 'stop'"):
        read_word_table(path, columns={"text": "word", "onset_s": "onset", "end_s": "stop"})
    with pytest.raises(FormatError, match="'?' in row 0 of column 'stop'".replace("?", r"\?")):
        read_word_table(path, columns={"text": "word", "onset_s": "start", "end_s": "stop"})
    with pytest.raises(ParameterError, match="Expected text, onset_s and either duration_s or end_s"):
        read_word_table(path, columns={"text": "word"})


def test_a_word_without_a_time_is_refused(write):
    with pytest.raises(FormatError, match="1 words without a time, first row 1"):
        read_word_table(
            write("w,t,d\nthe,0.5,0.1\ncat,n/a,0.1\n", "w.csv"), columns={"text": "w", "onset_s": "t", "duration_s": "d"}
        )


@pytest.mark.real
def test_the_alice_textgrid(shared_data):
    words = read_textgrid(shared_data("alice-fmri-roi") / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid", tier="word")
    assert len(words) == 2423
    assert words.text.iloc[1] == "Alice"
    assert words.onset_s.iloc[1] == 20.05891632653599
