import numpy as np
import pytest

from brainalign.adapters.delimited import numeric_columns, read_ids, read_table, require_columns, sniff
from brainalign.core.errors import FormatError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    ["a\tb\n1\t2\n3\t4\n", "a,b\n1,2\n3,4\n", "a;b\n1;2\n3;4", "# c\n\na  b\n 1   2\n 3  4\n\n", "\ufeffa,b\r\n1,2\r\n3,4\r\n"],
)
def test_dialects_read_alike(tmp_path, text):
    table = read_table(write(tmp_path / "t.txt", text))
    assert list(table.columns) == ["a", "b"]
    np.testing.assert_array_equal(numeric_columns(table, ["b", "a"], "t"), [[2, 1], [4, 3]])


def test_numbers_alone_have_no_header(tmp_path):
    table = read_table(write(tmp_path / "t.txt", "   7.2e+01   8.8e+01\n   7.3e+01  n/a\n"))
    assert list(table.columns) == [0, 1]
    np.testing.assert_array_equal(numeric_columns(table, [0, 1], "t"), [[72, 88], [73, np.nan]])


def test_marks_inside_cells_are_no_comments(tmp_path):
    table = read_table(write(tmp_path / "t.csv", 'stim,x\n"a, b",1\n#2,2\n'))
    assert list(table["stim"]) == ["a, b", "#2"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3", "1 cells in row 2"),
        ("a,b\n1,2\n3,4,5\n", "different length|3 cells"),
        ("1 2\n3\n", "1 cells in row 1"),
        ("a,a\n1,2\n", "names the column 'a' twice"),
        ("a,\n1,2\n", "no name for column 1"),
        ("a,b\n", "header .* and no rows"),
        ("# only\n\n", "no rows"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, text, says):
    with pytest.raises(FormatError, match=says):
        read_table(write(tmp_path / "t.csv", text))


def test_bytes_are_no_text(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    with pytest.raises(FormatError, match="not UTF-8"):
        read_table(tmp_path / "t.csv")


def test_a_cell_that_is_no_number_is_named(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "a,b\n1,2\n3,x7\n"))
    with pytest.raises(FormatError, match=r"'x7' in row 1 of column 'b'"):
        numeric_columns(table, ["a", "b"], "t.csv")


def test_missing_columns_list_what_is_there(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "onset,stim_type\n1,2\n"))
    with pytest.raises(FormatError, match=r"no column 'stim_typ'.*'onset', 'stim_type'.*Did you mean 'stim_type'"):
        require_columns(table, ["stim_typ"], "t.csv")


def test_sidecar_ids(tmp_path):
    assert read_ids(write(tmp_path / "ids.txt", "a\nb c\n")) == ["a", "b c"]
    with pytest.raises(FormatError, match="no id on line 2"):
        read_ids(write(tmp_path / "gap.txt", "a\n\nb\n"))


def test_sniff_sees_header_and_numbers_and_declines_the_rest(tmp_path):
    header, rows = sniff(write(tmp_path / "t.tsv", "a\tb\n1\tx\n"))
    assert header == ["a", "b"]
    np.testing.assert_array_equal(rows, [[1, np.nan]])
    assert sniff(write(tmp_path / "u.txt", "1 2\n3\n")) is None
    assert sniff(write(tmp_path / "v.csv", "a,b\n1,2\n3,4\n5"))[1].tolist() == [[1, 2], [3, 4]]  # cut: its reader says so
    assert sniff(write(tmp_path / "w.csv", "a,b\n1,2\n3,4\n5,6,7\n")) is None
    (tmp_path / "b.bin").write_bytes(b"\x00\x01")
    assert sniff(tmp_path / "b.bin") is None
    assert sniff(np.zeros(3)) is None
