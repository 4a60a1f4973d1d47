import pytest

import brainalign as ba
from brainalign.core.errors import FormatError, ParameterError
from brainalign.dataset.stimulus_sets import from_stimulus_set, from_words_per_tr


def write(file, text):
    file.write_text(text)
    return file


def test_a_set_names_its_files_and_keeps_its_columns(tmp_path):
    (tmp_path / "a.png").write_bytes(b"image")
    table = from_stimulus_set(
        write(tmp_path / "s.csv", "stimulus_id,filename,size,region,run\na,a.png,1.5,V4,2\nb,sub/b.png,2,IT,3\n")
    )
    assert table.stimulus_id.values.tolist() == ["a", "b"]
    assert table["path"].values.tolist() == ["a.png", "sub/b.png"]
    assert (table.attrs["kind"], table.attrs["root"]) == ("image", str(tmp_path))
    assert [bool(found) for found in table.sha256.values] == [True, False]
    assert table["size"].values.tolist() == [1.5, 2.0]
    assert table["set_region"].values.tolist() == ["V4", "IT"]  # the name belongs to neuroids
    assert table["set_run"].values.tolist() == [2, 3]


def test_older_names_and_a_folder_elsewhere(tmp_path):
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked/x.wav").write_bytes(b"sound")
    table = from_stimulus_set(write(tmp_path / "s.csv", "filename,image_id\nx.wav,x\n"), folder=tmp_path / "unpacked")
    assert (table.attrs["kind"], table.stimulus_id.values.tolist(), bool(table.sha256.values[0])) == ("audio", ["x"], True)


def test_sets_that_are_damaged(tmp_path):
    with pytest.raises(FormatError, match=r"no column 'filename'. Its columns are 'stimulus_id', 'file'"):
        from_stimulus_set(write(tmp_path / "s.csv", "stimulus_id,file\na,a.png\n"))
    with pytest.raises(FormatError, match=r"'../a.png' leads out of"):
        from_stimulus_set(write(tmp_path / "s.csv", "stimulus_id,filename\na,../a.png\n"))
    with pytest.raises(ParameterError, match=r"'kind' .* Got \"suffixes '.exe'\""):
        from_stimulus_set(write(tmp_path / "s.csv", "stimulus_id,filename\na,a.exe\n"))


@pytest.mark.real
def test_the_set_of_the_brain_score_project(shared_data):
    table = from_stimulus_set(shared_data("brainio-assembly") / "image_test_ten_images.csv")
    assert table.stimulus_id.values.tolist() == [f"n{i}" for i in range(10)]
    assert table["path"].values.tolist() == [f"n{i}.png" for i in range(10)]
    assert table["thing"].values.tolist() == [f"foo{i}" for i in range(10)]


def transcript(file, *rows):
    return write(file, "\n".join(["words_per_tr\tonsets_per_tr\tdurations_per_tr", *rows]) + "\n")


def test_words_of_a_film_carry_the_name_that_its_recording_has(tmp_path):
    file = transcript(
        tmp_path / "friends_s01e01a.tsv", "['There', 'is']\t[0.5, 1.0]\t[0.2, 0.2]", "[]\t[]\t[]", "['nothing']\t[3.2]\t[0.4]"
    )
    words = from_words_per_tr(file, offset_s=1.0)
    assert words.text.values.tolist() == ["There", "is", "nothing"]
    assert words.onset_s.values.tolist() == [1.5, 2.0, 4.2]
    assert words.volume.values.tolist() == [0, 0, 2]
    assert set(words.run.values.tolist()) == {"s01e01a"}
    assert words.attrs["kind"] == "word"
    assert from_words_per_tr(file, name="x", run="life01_run-2").stimulus_id.values[0] == "x/w00000"
    assert ba.core.provenance(words).steps[-1]["verb"] == "stimuli.from_words_per_tr"


def test_words_that_go_back_in_time(tmp_path):
    file = transcript(tmp_path / "a.tsv", "['b']\t[2.0]\t[0.2]", "['a']\t[1.0]\t[0.2]")
    with pytest.raises(FormatError, match=r"'a' at 1 s after 'b' at 2 s"):
        from_words_per_tr(file)
