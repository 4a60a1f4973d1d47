import pytest

from brainalign.core.errors import ParameterError
from brainalign.reports.writing import write_whole


def test_folders_are_made_files_replaced_and_nothing_is_left_beside(tmp_path):
    file = tmp_path / "deep" / "x.bin"
    assert write_whole(file, b"one", owner="report") == file
    write_whole(file, b"two", owner="report")
    assert file.read_bytes() == b"two"
    assert list(file.parent.iterdir()) == [file]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ParameterError, match=r"must be a file that can be written.*x\.bin"):
        write_whole(tmp_path / "file" / "x.bin", b"", owner="to_brain")
