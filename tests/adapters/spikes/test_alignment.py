import json

import numpy as np
import pandas as pd
import pytest

from brainalign.adapters.spikes.alignment import check_edges, check_events, check_recorded, check_spike_times, first_and_last
from brainalign.adapters.spikes.trains import open_spikes
from brainalign.core.errors import FormatError, ParameterError, SchemaError


@pytest.mark.parametrize(
    ("edges", "says"),
    [([0.0], "at least two"), ([0.0, 1.0, 1.0], "1 s followed by 1 s at position 2"), ([0.0, np.nan], "finite")],
)
def test_impossible_edges_are_refused(edges, says):
    with pytest.raises(ParameterError, match=says):
        check_edges(edges, owner="bin_spikes")


def test_times_that_go_back_are_refused_with_the_place():
    with pytest.raises(ParameterError, match=r"unit 'a' go back from 2 s to 1.5 s at position 2"):
        check_spike_times([1.0, 2.0, 1.5], name="a")


def opened(onsets, times=(0.1, 1.1, 2.1), edges=(0.0, 0.5, 1.0), **options):
    columns = {name: options.pop(name) for name in ("stimulus_id", "region", "time") if name in options}
    events = pd.DataFrame({"stimulus_id": [f"s{i}" for i in range(len(onsets))], "onset_s": onsets} | columns)
    return open_spikes({"u": list(times)}, time_unit="s", edges_s=edges, system="m", events=events, **options)


def test_counts_are_conserved_where_bins_tile_the_recording():
    rng = np.random.default_rng(0)
    times = {f"u{i}": np.sort(rng.uniform(0, 10, 200)) for i in range(4)}
    events = pd.DataFrame({"stimulus_id": list("abcde"), "onset_s": np.arange(5) * 2.0})
    x = open_spikes(times, time_unit="s", edges_s=np.linspace(0, 2, 9), system="m", events=events, recorded_s=(0, 10))
    assert x.sum(["presentation", "time"]).values.tolist() == [200] * 4
    assert x.attrs["n_overlapping_windows"] == 0


def test_overlapping_windows_count_for_each_event_and_are_told():
    x = opened([0.0, 0.6, 2.0])
    assert x.sum("time").values[:, 0].tolist() == [1, 1, 1]
    assert x.attrs["n_overlapping_windows"] == 1
    assert json.loads(x.attrs["bin_edges_s"]) == [0.0, 0.5, 1.0]


def test_windows_where_nothing_was_recorded_are_refused():
    with pytest.raises(
        ParameterError, match=r"1 of 2 windows .* event 1 is 9 to 10 s, and the first and the last spike are at 0.1 and 2.1"
    ):
        opened([0.0, 9.0])
    with pytest.raises(ParameterError, match=r"1 of 2 windows .* the recording spans 0 and 9.5 s"):
        opened([0.0, 9.0], recorded_s=(0, 9.5))
    assert opened([0.0, 9.0], recorded_s=(0, 10)).sum().item() == 1
    with pytest.raises(ParameterError, match=r"Got \(3, 1\)"):
        opened([0.0], recorded_s=(3, 1))
    with pytest.raises(ParameterError, match="100 to 200 s"):  # milliseconds where seconds were meant
        open_spikes({"u": [0.1]}, time_unit="s", edges_s=[100, 200], system="m")


@pytest.mark.parametrize(
    ("onsets", "says"),
    [
        ([0.0, 2.0, 1.0], r"goes back from 2 s in row 1 to 1 s"),
        ([0.0, 1.0, 1.0], r"two events at 1 s, 's1' and 's2' in rows 1 and 2"),
        ([0.0, np.nan], r"no `onset_s` in rows 1"),
        (["early"], "no numbers"),
        ([], r"events= has no rows"),
    ],
)
def test_events_that_cannot_be(onsets, says):
    with pytest.raises(FormatError, match=says):
        opened(onsets)


def test_what_are_no_events_or_no_names():
    with pytest.raises(ParameterError, match=r"events= got 'trials.tsv' \(str\). Expected a DataFrame"):
        check_events("trials.tsv")
    with pytest.raises(SchemaError, match=r"`stimulus_id` of dtype float64. Expected strings"):
        opened([0.0, 1.0], stimulus_id=[1.0, 2.0])
    assert opened([0.0, 1.0], stimulus_id=[1, 2]).stimulus_id.values.tolist() == ["1", "2"]


def test_units_without_any_spike():
    with pytest.raises(ParameterError, match=r"x holds no spike at all.*`recorded_s=\(start, stop\)`"):
        check_recorded(np.zeros(1), np.array([0.0, 1.0]), source="x", recorded_s=None, spikes_s=(np.inf, -np.inf))
    check_recorded(np.zeros(1), np.array([0.0, 1.0]), source="x", recorded_s=(0, 1), spikes_s=(np.inf, -np.inf))


def test_a_column_that_names_neuroids_is_kept_under_another_name():
    x = opened([0.0, 1.0], region=["left", "right"], time=[3, 4])
    assert x.event_region.values.tolist() == ["left", "right"]
    assert x.event_time.values.tolist() == [3, 4]


def test_events_pass_as_they_are():
    events = pd.DataFrame({"stimulus_id": ["a"], "onset_s": [1]})
    assert check_events(events) is events
    check_recorded(np.array([1.0]), np.array([0.0, 1.0]), source="x", recorded_s=None, spikes_s=(0.0, 1.5))


def test_first_and_last_spike_of_all_units():
    assert first_and_last([np.array([2.0, 3.0]), np.array([]), np.array([1.0])]) == (1.0, 3.0)
    assert first_and_last([np.array([])]) == (np.inf, -np.inf)
