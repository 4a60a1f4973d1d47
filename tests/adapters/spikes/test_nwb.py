import json

import h5py
import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.spikes.nwb import adapter, open_nwb
from brainalign.core.errors import FormatError, ParameterError

TIMES = [np.array([0.1, 0.2, 1.1, 2.6]), np.array([]), np.array([0.0, 0.5, 1.5, 2.5, 3.9])]
EDGES = [0.0, 0.5, 1.0]


def session(nwb, *, events=True, observed=None, **columns):
    file = nwb().text("general/subject/subject_id", "mouse-7").text("general/session_id", "day-3")
    file.table(
        "general/extracellular_ephys/electrodes",
        {"location": ["VISp", "VISp", "LGd", "None"], "x": [1.0, 2.0, 3.0, 4.0]}, ids=[100, 101, 102, 103],
    )  # fmt: skip
    units = {
        "spike_times": TIMES,
        "electrodes": [np.array([0, 1]), np.array([1, 2]), np.array([3])],
        "quality": ["good"] * 2 + ["noise"],
    }
    if observed is not None:
        units["obs_intervals"] = observed
    file.table("units", {**units, "isi_violations": [0.1, np.nan, 0.7], "run": [1, 2, 3], **columns}, ids=[6, 191, 206])
    if events:
        file.table(
            "intervals/trials",
            {
                "start_time": [2.0, 0.0, 1.0], "stop_time": [2.5, 0.5, 1.75], "image": ["b", "a", "b"], "region": ["up", "up", "down"],
                "quality": [1, 2, 3], "id_of_day": [1, 2, 3],
            },
            kind="TimeIntervals",
        )  # fmt: skip
    return file.done()


def test_units_around_the_trials_of_the_file(nwb):
    path = session(nwb)
    assert adapter.matches(path).startswith("HDF5 with nwb_version 2.7.0")
    x = ba.open_responses(path, system="m", edges_s=EDGES, events="trials", stimulus_column="image")
    assert x.stimulus_id.values.tolist() == ["a", "b", "b"]  # in the order of time, not of the rows
    assert x.repetition.values.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(x.values, [[[2, 0], [0, 0], [1, 1]], [[1, 0], [0, 0], [0, 1]], [[0, 1], [0, 0], [0, 1]]])
    assert x.dtype == np.int32
    assert x.duration_s.values.tolist() == [0.5, 0.75, 0.5]
    assert x.neuroid_id.values.tolist() == [6, 191, 206]
    assert x.region.values.tolist() == ["VISp", "VISp+LGd", "unknown"]
    assert x.channel.values.tolist() == ["100", "101", "103"]
    assert x.n_spikes.values.tolist() == [4, 0, 5]
    assert x.quality.values.tolist() == ["good", "good", "noise"]
    assert x.unit_run.values.tolist() == [1, 2, 3]
    assert x.event_region.values.tolist() == ["up", "down", "up"]
    assert x.event_quality.values.tolist() == [2, 3, 1]
    assert set(x.subject.values) == {"mouse-7"}
    assert set(x.session.values) == {"day-3"}
    assert x.attrs["units"] == "spikes/bin"
    step = ba.core.provenance(x).steps[1]
    assert step["verb"] == "open:nwb"
    assert step["params"]["events"] == "intervals/trials"
    assert step["params"]["region_from"] == "electrodes, location"
    ba.validate(x, deep=True)


def test_counts_are_conserved_in_bins_that_do_not_overlap(nwb):
    x = open_nwb(session(nwb, events=False), system="m", edges_s=np.arange(0, 4.5, 0.5))
    assert x.dims == ("presentation", "neuroid")
    assert x.sum("presentation").values.tolist() == x.n_spikes.values.tolist() == [4, 0, 5]
    assert x.stimulus_id.values[1] == "run-1/b00001"
    assert float(x.sampling_rate_hz[0]) == 2.0


def test_events_of_your_own(nwb):
    events = pd.DataFrame({"stimulus_id": ["a", "b"], "onset_s": [0.0, 1.0]})
    x = open_nwb(session(nwb), system="m", edges_s=EDGES, events=events, subject="other")
    assert x.sum("time").values.tolist() == [[2, 0, 2], [1, 0, 1]]
    assert set(x.subject.values) == {"other"}
    with pytest.raises(ParameterError, match=r"stimulus_column= without the name of a table.*'intervals/trials'"):
        open_nwb(session(nwb), system="m", edges_s=EDGES, events=events, stimulus_column="image")


def test_only_the_spikes_that_are_counted_are_read(nwb, bytes_read):
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(0, 1000, 100_000)) for _ in range(10)]  # 8 MB
    events = {"start_time": np.arange(0, 900.0), "stop_time": np.arange(0, 900.0) + 0.5, "image": np.arange(900)}
    path = nwb().table("units", {"spike_times": times}).table("intervals/trials", events).done()
    options = {"system": "m", "edges_s": np.linspace(0, 1, 1001), "events": "trials", "stimulus_column": "image"}
    assert bytes_read(open_nwb, path, **options) < 200_000
    x = open_nwb(path, **options)
    assert x.chunks[1] == (4, 4, 2)
    assert bytes_read(x[:, :4].compute) < 4 * 800_000 + 100_000
    np.testing.assert_array_equal(x[3:5, 7].values, [np.histogram(times[7], np.linspace(i, i + 1, 1001))[0] for i in (3, 4)])


def test_quality_cuts_say_how_many_they_left(nwb):
    cuts = {"quality": "good", "isi_violations": "<0.5"}
    x = open_nwb(session(nwb), system="m", edges_s=EDGES, events="trials", stimulus_column="image", quality=cuts)
    assert x.neuroid_id.values.tolist() == [6]
    assert [step["n_left"] for step in json.loads(x.attrs["quality_cuts"])] == [2, 1]
    assert x.values[:, 0].sum() == 4
    with pytest.raises(FormatError, match=r"no column 'presence_ratio' to judge units by"):
        open_nwb(session(nwb), system="m", edges_s=EDGES, quality={"presence_ratio": ">0.9"})


def test_allen_presentations(nwb):
    """118 scenes 50 times each with grey screens between, peak channels by id, gratings with null parameters as text."""
    order = np.tile(np.r_[np.arange(118), -1], 50)
    starts = np.arange(order.size) * 0.25
    last = starts[-1] + 1
    file = nwb().table(
        "general/extracellular_ephys/electrodes", {"location": ["VISp", "LGd"]}, ids=[850126382, 850126384]
    )  # fmt: skip
    file.table(
        "units",
        {
            "spike_times": [np.array([0.01, last]), np.array([0.26, last])], "peak_channel_id": [850126384, 850126382],
            "isi_violations": [0.1, 0.9], "amplitude_cutoff": [0.01, 0.01], "presence_ratio": [0.99, 0.99],
        },
        ids=[950910352, 950910364],
    )  # fmt: skip
    scenes = {"start_time": starts, "stop_time": starts + 0.25, "stimulus_name": ["natural_scenes"] * order.size}
    file.table(
        "intervals/natural_scenes_presentations", {**scenes, "frame": order.astype(float), "stimulus_block": order * 0 + 4.0}
    )
    gratings = {
        "orientation": ["0.0", "90.0", "null"],
        "temporal_frequency": ["4.0", "15.0", "null"],
        "stimulus_block": ["2.0"] * 3,
    }
    times = {"start_time": [0.0, 3.0, 6.0], "stop_time": [2.0, 5.0, 8.0]}
    file.table("intervals/drifting_gratings_presentations", {**times, **gratings})
    path = file.done()
    options = {"system": "mouse", "edges_s": [0.0, 0.25], "events": "natural_scenes_presentations", "stimulus_column": "frame"}
    x = open_nwb(path, stimulus_format="scene-{:03d}", **options)
    assert x.region.values.tolist() == ["LGd", "VISp"]
    names, counts = np.unique(x.stimulus_id.values.astype(object), return_counts=True)
    assert (len(names), set(counts), names[0], names[1]) == (119, {50}, "blank", "scene-000")
    assert x.repetition.values.max() == 49
    assert set(x.stimulus_block.values) == {4.0}
    assert x.attrs["n_overlapping_windows"] == 0
    dropped = open_nwb(path, blanks="drop", **options)
    assert dropped.sizes["presentation"] == 118 * 50
    assert ba.core.provenance(dropped).steps[1]["params"]["n_blank"] == 50
    allen = {"isi_violations": "<0.5", "amplitude_cutoff": "<0.1", "presence_ratio": ">0.9"}
    assert open_nwb(path, quality=allen, **options).neuroid_id.values.tolist() == [950910352]
    y = open_nwb(
        path, system="mouse", edges_s=[0.0, 2.0], events="drifting_gratings_presentations",
        stimulus_column=["orientation", "temporal_frequency"], stimulus_format="ori-{orientation:03d}/tf-{temporal_frequency}",
    )  # fmt: skip
    assert y.stimulus_id.values.tolist() == ["ori-000/tf-4", "ori-090/tf-15", "blank"]


def test_bins_that_were_not_observed(nwb):
    observed = [np.array([[0.0, 2.0], [2.0, 4.0]]), np.array([[0.0, 4.0]]), np.array([[0.0, 1.5], [2.0, 4.0]])]
    options = {"system": "m", "edges_s": EDGES, "events": "trials", "stimulus_column": "image"}
    with pytest.raises(ParameterError, match=r"unit 206 was not observed in 1 bins, the first from 1.5 to 2 s \(event 1\)"):
        open_nwb(session(nwb, observed=observed), **options)
    x = open_nwb(session(nwb, observed=observed), unobserved="nan", **options)
    assert x.dtype == np.float32
    assert x.attrs["allow_nan"] is True
    assert x.n_unobserved.values.tolist() == [0, 0, 1]
    assert np.isnan(x.values).sum() == 1
    assert np.isnan(x.values[1, 2, 1])
    assert x.values[0].tolist() == [[2, 0], [0, 0], [1, 1]]
    good = open_nwb(session(nwb, observed=observed), quality={"quality": "good"}, unobserved="nan", **options)
    assert good.dtype == np.int32
    assert "n_unobserved" not in good.coords


def test_without_obs_intervals_windows_must_touch_the_spikes(nwb):
    events = pd.DataFrame({"stimulus_id": ["a", "b"], "onset_s": [0.0, 60.0]})
    with pytest.raises(ParameterError, match=r"'session.nwb' recorded: that of event 1 is 60 to 61 s, .* 0 and 3.9 s"):
        open_nwb(session(nwb), system="m", edges_s=EDGES, events=events)
    assert open_nwb(session(nwb), system="m", edges_s=EDGES, events=events, recorded_s=(0, 90)).shape == (2, 3, 2)


def test_spikes_that_go_back_are_found_when_they_are_read(nwb):
    path = nwb().table("units", {"spike_times": [np.array([0.5, 0.1])]}, ids=[3]).done()
    x = open_nwb(path, system="m", edges_s=[0, 1])
    with pytest.raises(ParameterError, match=r"'session.nwb': the spike times of unit '3' go back from 0.5 s to 0.1 s"):
        x.compute()


def test_what_is_missing_is_said_with_what_is_there(nwb):
    with pytest.raises(FormatError, match=r"has no `units`. It holds the series none, the tables of events 'intervals/trials'"):
        open_nwb(nwb().table("intervals/trials", {"start_time": [0.0]}).done(), system="m", edges_s=EDGES)
    path = session(nwb)
    for options, error, says in (
        ({"events": "trials"}, ParameterError, r"'intervals/trials' of 'session.nwb' needs `stimulus_column=`.*'image'"),
        ({"events": "trials", "stimulus_column": "picture"}, FormatError, r"no column 'picture'. Its columns are .*'image'"),
        (
            {"events": "movies", "stimulus_column": "x"},
            FormatError,
            r"0 tables of events named 'movies'. It has 'intervals/trials'",
        ),
        ({"series": "DfOverF"}, FormatError, r"0 series named 'DfOverF'. It has none at all"),
        ({"edges_s": None}, ParameterError, "needs `edges_s=`"),
        ({"edges_s": [1, 0]}, ParameterError, "must increase"),
        ({"series": "a", "quality": {"x": 1}}, ParameterError, r"quality=\{'x': 1\} and series='a'"),
    ):
        with pytest.raises(error, match=says):
            open_nwb(path, **{"system": "m", "edges_s": EDGES, **options})
    with h5py.File(path, "r+") as file:
        del file["units/spike_times_index"]
    with pytest.raises(FormatError, match="'/units/spike_times_index' is missing"):
        open_nwb(path, system="m", edges_s=EDGES)


def test_a_unit_at_an_electrode_that_is_not_there(nwb):
    with pytest.raises(FormatError, match=r"unit 2 names the electrodes \[4\], and there are 4"):
        open_nwb(session(nwb, electrodes=[np.array([0]), np.array([1]), np.array([4])]), system="m", edges_s=EDGES)


def test_other_hdf5_files_are_not_claimed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["units"] = [1]
    (tmp_path / "b.nwb").write_bytes(b"\x89HDF\r\n\x1a\n and nothing more")
    assert not adapter.matches(tmp_path / "a.h5")
    assert not adapter.matches(tmp_path / "b.nwb")
    assert not adapter.matches(tmp_path)


def test_damage_gives_a_typed_error(nwb, hdf5_survives_damage):
    path = session(nwb, observed=[np.array([[0.0, 4.0]])] * 3)
    options = {"system": "m", "edges_s": EDGES, "events": "trials", "stimulus_column": "image"}
    assert hdf5_survives_damage(path, lambda: open_nwb(path, **options).compute()) > 50
