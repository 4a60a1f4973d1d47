import h5py
import numpy as np
import pytest

from brainalign.adapters.spikes.nwb_tables import (
    bounds,
    column,
    columns,
    event_table,
    event_tables,
    labels,
    member,
    open_file,
    row_ids,
    text_of,
)
from brainalign.core.errors import FormatError


@pytest.fixture
def path(nwb):
    table = {
        "number": [1.5, 2.5, 3.5],
        "name": ["a", "b", "c"],
        "tags": [["x", "y"], ["z"], ["x"]],
        "numbers": [np.array([1, 2]), np.array([], dtype=int), np.array([3])],
        "waveforms": [[[1.0, 2.0], [3.0]], [[4.0]], []],
        "image": np.zeros((3, 4, 4)),
    }
    file = nwb().table("things", table, ids=[7, 5, 9]).text("general/subject/subject_id", "mouse-1")
    file.table("intervals/trials", {"start_time": [0.0, 1.0], "stop_time": [0.5, 1.5], "image": ["a", "b"]}, kind="TimeIntervals")
    series = file.file.create_group("stimulus/presentation/images")
    series["timestamps"], series["data"] = [3.0, 4.0], [0, 1]
    series.attrs["neurodata_type"] = "IndexSeries"
    return file.done()


def test_columns_ragged_and_doubly_ragged(path):
    with open_file(path) as file:
        things = file["things"]
        assert columns(things) == ["number", "name", "tags", "numbers", "waveforms", "image"]
        assert row_ids(things).tolist() == [7, 5, 9]
        assert column(things, "name").tolist() == ["a", "b", "c"]
        assert [list(row) for row in column(things, "tags")] == [["x", "y"], ["z"], ["x"]]
        assert [list(row) for row in column(things, "numbers")] == [[1, 2], [], [3]]
        assert [[list(w) for w in row] for row in column(things, "waveforms")] == [[[1.0, 2.0], [3.0]], [[4.0]], []]
        assert bounds(things, "numbers_index", 3).tolist() == [0, 2, 2, 3]
        found = labels(things)
        assert {name: values.tolist() for name, values in found.items()} == {
            "number": [1.5, 2.5, 3.5], "name": ["a", "b", "c"], "tags": ["x+y", "z", "x"]
        }  # fmt: skip


def test_an_index_of_one_byte_does_not_wrap(nwb):
    path = nwb().table("t", {"x": [np.arange(200), np.arange(55)]}).done()
    with open_file(path) as file:
        assert file["t/x_index"].dtype == np.uint8
        assert bounds(file["t"], "x_index", 255).tolist() == [0, 200, 255]


def test_tables_and_series_of_events(path):
    with open_file(path) as file:
        assert sorted(event_tables(file)) == ["intervals/trials", "stimulus/presentation/images"]
        table, name = event_table(file, "trials")
        assert (name, table["image"].tolist()) == ("intervals/trials", ["a", "b"])
        assert event_table(file, "stimulus/presentation/images")[0].to_dict("list") == {"start_time": [3.0, 4.0], "data": [0, 1]}
        with pytest.raises(
            FormatError, match=r"0 tables of events named 'trial'. It has 'intervals/trials'.*Did you mean 'trials'"
        ):
            event_table(file, "trial")
        assert text_of(file, "general/subject/subject_id") == "mouse-1"
        assert text_of(file, "general/session_id") is None
        with pytest.raises(FormatError, match=r"no column 'nam' in '/things'.*Did you mean 'name'"):
            column(file["things"], "nam")


@pytest.mark.parametrize(
    ("index", "says"),
    [([2, 1, 3], "goes back"), ([1, 2, 9], "ends at 9 and never goes back; .* 3 entries"), ([0.5], "no integers")],
)
def test_an_index_that_lies(path, index, says):
    with h5py.File(path, "r+") as file:
        del file["things/numbers_index"]
        file["things/numbers_index"] = index
    with open_file(path) as file, pytest.raises(FormatError, match=says):
        column(file["things"], "numbers")


def test_columns_of_another_length_are_named(path):
    with h5py.File(path, "r+") as file:
        del file["things/number"]
        file["things/number"] = [1.0]
    with open_file(path) as file, pytest.raises(FormatError, match="'number' of '/things' has 1 rows, and the table 3"):
        labels(file["things"])


def test_nothing_outside_the_file_is_read(path, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = [1.0]
    with h5py.File(path, "r+") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/secret")
        file["soft"] = h5py.SoftLink("/link")
        file["gone"] = h5py.SoftLink("/nowhere")
        layout = h5py.VirtualLayout((1,), dtype=float)
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "secret", shape=(1,))
        file.create_virtual_dataset("virtual", layout)
    with open_file(path) as file:
        for name in ("link", "soft", "virtual"):
            with pytest.raises(FormatError, match=r"Expected one whole file"):
                member(file, name)
        assert member(file, "gone") is None
        assert member(file, "things/name/deeper") is None


def test_other_files_are_refused(nwb, tmp_path):
    with pytest.raises(FormatError, match=r"nwb_version '1.0.6'. Expected NWB 2"), open_file(nwb(version="1.0.6").done()):
        pass
    (tmp_path / "a.nwb").write_bytes(b"no hdf5 at all")
    with pytest.raises(FormatError, match="could not be read as NWB"), open_file(tmp_path / "a.nwb"):
        pass
