import pickle

import h5py
import numpy as np
import pytest

from brainalign.adapters.spikes.nwb_tables import open_file
from brainalign.adapters.spikes.nwb_units import check_observed, lazy_counts, read_units, spikes_span, unseen_bins
from brainalign.core.errors import FormatError, ParameterError


@pytest.fixture
def path(nwb):
    observed = [np.array([[5.0, 9.0], [0.0, 5.0]]), np.array([[0.0, 3.0]])]
    return (
        nwb()
        .table("units", {"spike_times": [np.array([1.0, 8.0]), np.array([2.0])], "obs_intervals": observed}, ids=[4, 2])
        .done()
    )


def read(path):
    with open_file(path) as file:
        return read_units(file, None, "'session.nwb'")


def test_intervals_that_touch_are_one(path):
    units = read(path)
    assert units.observed[0].tolist() == [[0.0, 9.0]]
    assert (units.starts.tolist(), units.stops.tolist()) == ([0, 2], [2, 3])
    assert units.region_from is None


def test_the_span_of_the_spikes_takes_as_many_units_as_needed(nwb):
    path = nwb().table("units", {"spike_times": [np.array([2.0]), np.array([3.0, 8.0]), np.array([])]}).done()
    with open_file(path) as file:
        units = read_units(file, None, "s")
        assert spikes_span(file, units, 4.0, 7.0) == (3.0, 8.0)
        assert spikes_span(file, units, 2.5, 9.0) == (2.0, 8.0)


def test_a_bin_is_seen_only_inside_one_interval():
    seen = ~unseen_bins(np.array([[0.0, 1.0], [1.5, 3.0]]), np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5, 1.0]))
    assert seen.tolist() == [[True, True], [False, True], [True, True]]
    assert unseen_bins(np.empty((0, 2)), np.zeros(2), np.array([0.0, 1.0])).all()


def test_counts_outside_are_marked_or_refused(path):
    units, onsets, edges = read(path), np.array([0.0, 4.0]), np.array([0.0, 2.0, 4.5])
    assert check_observed(units, onsets, edges, "nan", "s").tolist() == [0, 3]
    with pytest.raises(ParameterError, match=r"unit 2 was not observed in 3 bins, the first from 2 to 4.5 s .* from 0 to 3 s"):
        check_observed(units, onsets, edges, "refuse", "s")
    counts = lazy_counts(path, units, True)(onsets, edges)
    np.testing.assert_array_equal(counts.compute(), [[[1, 0], [0, np.nan]], [[0, 1], [np.nan, np.nan]]])
    assert lazy_counts(path, units, False)(onsets, edges).dtype == np.int32


def test_counts_travel_to_another_process(path):
    counts = lazy_counts(path, read(path), False)(np.array([0.0]), np.array([0.0, 9.0]))
    assert pickle.loads(pickle.dumps(counts)).compute().tolist() == [[[2], [1]]]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("obs_intervals", np.array([[0.0, 5.0], [5.0, 4.0], [0.0, 1.0]]), "end before they start"),
        ("obs_intervals", np.zeros(3), r"shape \(2,\) in row 0"),
        ("spike_times", np.zeros((3, 2)), "units without `spike_times`"),
        ("spike_times_index", np.array([3]), "2 units and spike times of 1"),
    ],
)
def test_damaged_tables(path, name, value, says):
    with h5py.File(path, "r+") as file:
        del file["units"][name]
        file["units"][name] = value
    with pytest.raises(FormatError, match=says):
        read(path)


def test_what_the_table_of_units_lacks_is_named(path):
    with h5py.File(path, "r+") as file:
        ends = file["units/obs_intervals_index"][()][:-1]
        del file["units/obs_intervals_index"]
        file["units/obs_intervals_index"] = ends
        file["units/obs_intervals_index"][-1] = len(file["units/obs_intervals"])
    with pytest.raises(FormatError, match=r"obs_intervals for 1 units, and 2 units"):
        read(path)
    with h5py.File(path, "r+") as file:
        del file["units/id"]
    with pytest.raises(FormatError, match=r"the table '/units' has no `id`"):
        read(path)


def test_spike_times_in_another_unit(path):
    with h5py.File(path, "r+") as file:
        file["units/spike_times"].attrs["unit"] = "samples"
    with pytest.raises(FormatError, match=r"has 'spike_times' in 'samples'. Expected seconds"):
        read(path)
