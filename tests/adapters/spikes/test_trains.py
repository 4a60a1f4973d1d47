import json

import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.spikes.trains import adapter, open_spikes
from brainalign.core.errors import FormatError, ParameterError

EVENTS = pd.DataFrame({"stimulus_id": ["b", "a", "b"], "onset_s": [0.0, 1.0, 2.0], "condition": ["x", "y", "x"]})


def test_events_become_presentations_by_unit_and_bin():
    times = {"u1": [100, 150, 1100, 2999], "u2": [2000]}
    x = open_spikes(
        times, time_unit="ms", edges_s=[0.0, 0.125, 0.5, 1.0], system="m1", events=EVENTS, region={"u1": "V1", "u2": "V2"}
    )
    np.testing.assert_array_equal(x.values, [[[1, 1, 0], [0, 0, 0]], [[1, 0, 0], [0, 0, 0]], [[0, 0, 1], [1, 0, 0]]])
    assert x.dtype.kind == "i"
    assert list(x.stimulus_id.values) == ["b", "a", "b"]
    assert list(x.repetition.values) == [0, 0, 1]
    assert list(x.region.values) == ["V1", "V2"]
    np.testing.assert_allclose(x.time, [0.0625, 0.3125, 0.75])
    assert json.loads(x.attrs["bin_edges_s"]) == [0.0, 0.125, 0.5, 1.0]
    assert list(x.n_spikes.values) == [4, 1]
    assert list(x.run.values) == ["1"] * 3
    ba.validate(x, deep=True)


def test_continuous_bins_carry_their_times():
    x = open_spikes({"u": [0.0, 0.24, 0.25, 0.9]}, time_unit="s", edges_s=[0.0, 0.25, 0.5, 0.75], system="m", run="a")
    np.testing.assert_array_equal(x.values[:, 0], [2, 1, 0])
    np.testing.assert_allclose(x.onset_s, [0, 0.25, 0.5])
    np.testing.assert_allclose(x.duration_s, 0.25)
    assert list(x.stimulus_id.values) == ["run-a/b00000", "run-a/b00001", "run-a/b00002"]
    assert float(x.sampling_rate_hz[0]) == 4.0
    assert "sampling_rate_hz" not in open_spikes({"u": [0.5]}, time_unit="s", edges_s=[0, 1, 3], system="m").coords


@pytest.mark.parametrize(
    ("unit", "factor", "rate"), [("s", 1, None), ("ms", 1e3, None), ("us", 1e6, None), ("samples", 3e4, 3e4)]
)
def test_units_of_time(unit, factor, rate):
    seconds = np.array([0.005, 0.3, 0.301])
    x = open_spikes({"u": seconds * factor}, time_unit=unit, edges_s=[0.0, 0.01, 0.3005, 0.4], system="m", sampling_rate_hz=rate)
    np.testing.assert_array_equal(x.values[:, 0], [1, 1, 1])


def test_a_spike_on_a_decimal_edge_falls_into_the_bin_it_opens():
    edges = np.arange(101) / 100
    counts = open_spikes({"u": np.arange(100) * 10_000}, time_unit="us", edges_s=edges, system="m").values[:, 0]
    np.testing.assert_array_equal(counts, np.ones(100))


def test_a_table_with_a_unit_column(tmp_path):
    (tmp_path / "t.csv").write_text("cell,spike_time\nb,0.5\na,0.1\nb,0.6\n")
    assert adapter.matches(tmp_path / "t.csv")
    x = open_spikes(
        tmp_path / "t.csv", time_unit="s", unit_column="cell", time_column="spike_time", edges_s=[0.0, 0.3, 0.9], system="m"
    )
    assert list(x.neuroid_id.values) == ["b", "a"]
    np.testing.assert_array_equal(x.values, [[0, 1], [2, 0]])
    with pytest.raises(FormatError, match=r"no column 'unit'.*'cell', 'spike_time'"):
        open_spikes(tmp_path / "t.csv", time_unit="s", unit_column="unit", time_column="spike_time", edges_s=[0, 1], system="m")


def test_damage_gives_a_typed_error(tmp_path, survives_damage):
    file = tmp_path / "t.csv"
    file.write_text("cell,spike_time\n" + "".join(f"{i % 3},{i / 10}\n" for i in range(20)))
    options = {"time_unit": "s", "unit_column": "cell", "time_column": "spike_time", "edges_s": [0, 1, 2], "system": "m"}
    assert survives_damage(file, lambda: open_spikes(file, **options))


def test_what_could_be_mistaken_must_be_said(tmp_path):
    (tmp_path / "t.txt").write_text("0.1\n0.2\n")
    with pytest.raises(ParameterError, match="unit=None and unit_column=None"):
        open_spikes(tmp_path / "t.txt", time_unit="s", edges_s=[0, 1], system="m")
    with pytest.raises(ParameterError, match="list alone"):
        open_spikes([[0.1], [0.2]], time_unit="s", edges_s=[0, 1], system="m")
    with pytest.raises(ParameterError, match="'time_unit'"):
        open_spikes(tmp_path / "t.txt", time_unit="sec", unit="u", edges_s=[0, 1], system="m")
    with pytest.raises(ParameterError, match="sampling_rate_hz"):
        open_spikes(tmp_path / "t.txt", time_unit="samples", unit="u", edges_s=[0, 1], system="m")
    with pytest.raises(ParameterError, match="no region for the units 'u'"):
        open_spikes(tmp_path / "t.txt", time_unit="s", unit="u", edges_s=[0, 1], system="m", region={"v": "V1"})


def test_what_a_table_must_say(tmp_path):
    (tmp_path / "t.csv").write_text("unit,spike_time\na,0.1\na,n/a\n")
    options = {"time_unit": "s", "edges_s": [0, 1], "system": "m"}
    with pytest.raises(ParameterError, match=r"unit_column='unit' without time_column. .* has 'unit', 'spike_time'"):
        open_spikes(tmp_path / "t.csv", unit_column="unit", **options)
    with pytest.raises(FormatError, match=r"t.csv' has no spike time in row 1 of column 'spike_time'"):
        open_spikes(tmp_path / "t.csv", unit_column="unit", time_column="spike_time", **options)
    with pytest.raises(ParameterError, match="empty mapping"):
        open_spikes({}, **options)
    assert open_spikes({"u": [0.1], "v": [0.2]}, region="V1", **options).region.values.tolist() == ["V1", "V1"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.1\n0.3\n0.2\n", r"'t.txt': the spike times of unit 'u' go back"),
        ("0.1\nx\n", "'x' in row 1|header"),
        ("0.1 1\n0.2 1\n", "2 columns"),
    ],
)
def test_bad_tables(tmp_path, text, says):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises((FormatError, ParameterError), match=says):
        open_spikes(tmp_path / "t.txt", time_unit="s", unit="u", edges_s=[0, 1], system="m")


def test_events_without_ids_are_refused():
    with pytest.raises(FormatError, match="no column 'stimulus_id'"):
        open_spikes({"u": [0.1]}, time_unit="s", edges_s=[0, 1], system="m", events=EVENTS.drop(columns="stimulus_id"))


@pytest.mark.real
def test_grasshopper_spikes_are_conserved(shared_data):
    file = shared_data("grasshopper-receptor") / "grasshopper_spike_times1.txt"
    assert adapter.matches(file)
    x = open_spikes(file, time_unit="us", unit="receptor-1", system="grasshopper-1", edges_s=np.arange(10_001) / 1000)
    assert x.shape == (10_000, 1)
    assert int(x.sum()) == int(x.n_spikes[0]) == 929
    raw = np.array([float(line) for line in file.read_text().split("\n") if line and not line.startswith("#")])
    np.testing.assert_array_equal(x.values[:, 0], np.histogram(raw, np.arange(10_001) * 1000)[0])
    half = open_spikes(file, time_unit="us", unit="receptor-1", system="grasshopper-1", edges_s=[0.0, 5.0])
    assert int(half.sum()) == (raw < 5e6).sum() < 929


def test_times_that_are_no_numbers_are_named():
    with pytest.raises(ParameterError, match=r"unit 'u1' has spike times of dtype .*Expected a list of numbers"):
        open_spikes({"u1": ["x"]}, time_unit="s", edges_s=[0.0, 1.0], system="m1", events=EVENTS)
