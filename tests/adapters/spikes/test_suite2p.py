import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import percentile_filter

import brainalign as ba
from brainalign.adapters.spikes.suite2p import adapter, open_suite2p
from brainalign.core.errors import FormatError, ParameterError

RATE = 10.0


def plane(folder, n_rois=5, n_frames=80, seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    traces = {name: rng.uniform(50, 100, (n_rois, n_frames)).astype(np.float32) for name in ("F", "Fneu", "spks")}
    for name, values in traces.items():
        np.save(folder / f"{name}.npy", values)
    cell = np.stack([np.arange(n_rois) % 2 == 0, np.linspace(0.1, 0.9, n_rois)], axis=1).astype(np.float32)
    np.save(folder / "iscell.npy", cell)
    np.save(folder / "ops.npy", np.array({"fs": RATE}, dtype=object), allow_pickle=True)
    np.save(folder / "stat.npy", np.array([{}] * n_rois, dtype=object), allow_pickle=True)
    return traces


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "suite2p" / "plane0"


def test_traces_frame_by_frame(folder):
    traces = plane(folder)
    for path in (folder, folder.parent):
        assert "Suite2p" in adapter.matches(path)
        x = ba.open_responses(path, system="m", sampling_rate_hz=RATE)
        np.testing.assert_array_equal(x.values, traces["F"].T)
    np.testing.assert_allclose(x.onset_s, np.arange(80) / RATE)
    assert x.neuroid_id.values.tolist()[:2] == ["plane0/0", "plane0/1"]
    assert x.iscell.values.tolist() == [True, False, True, False, True]
    assert x.iscell_probability.values[-1] == pytest.approx(0.9)
    assert (x.attrs["modality"], x.attrs["units"]) == ("calcium", "a.u. (fluorescence)")
    np.testing.assert_array_equal(open_suite2p(folder, system="m", sampling_rate_hz=RATE, values="spks").values, traces["spks"].T)
    ba.validate(x, deep=True)


def test_neuropil_and_cells_are_options_and_are_recorded(folder):
    traces = plane(folder)
    x = open_suite2p(folder, system="m", sampling_rate_hz=RATE, neuropil=0.7, cells_only=True)
    np.testing.assert_allclose(x.values, (traces["F"] - 0.7 * traces["Fneu"])[::2].T, rtol=1e-5)
    assert x.roi.values.tolist() == [0, 2, 4]
    params = ba.core.provenance(x).steps[1]["params"]
    assert (params["neuropil"], params["cells_only"]) == (0.7, True)
    assert params["source"] == ["plane0/F.npy", "plane0/Fneu.npy"]


def test_dff_has_a_named_baseline(folder):
    traces = plane(folder)
    x = open_suite2p(
        folder, system="m", sampling_rate_hz=RATE, baseline="percentile", baseline_window_s=2.0, baseline_percentile=20.0
    )
    base = np.stack([percentile_filter(trace, 20.0, size=20, mode="nearest") for trace in traces["F"]])
    np.testing.assert_allclose(x.values, ((traces["F"] - base) / base).T, rtol=1e-5)
    assert x.attrs["units"] == "dF/F"
    np.testing.assert_allclose(x[3:9, 2:4].values, x.values[3:9, 2:4])
    below = open_suite2p(folder, system="m", sampling_rate_hz=RATE, baseline="percentile", neuropil=2.0)
    with pytest.raises(FormatError, match=r"the baseline of neuroid 0 is -[0-9.]+ at frame 0, so dF/F is not defined"):
        below.compute()


def test_means_around_events(folder):
    traces = plane(folder)
    events = pd.DataFrame({"stimulus_id": ["a", "b"], "onset_s": [1.0, 5.0], "running": [0.1, 0.2]})
    x = ba.open_responses(folder, system="m", sampling_rate_hz=RATE, events=events, edges_s=[-0.5, 0.0, 1.0], region="V1")
    np.testing.assert_allclose(x.values[1, :, 1], traces["F"][:, 50:60].mean(1), rtol=1e-6)
    assert x.running.values.tolist() == [0.1, 0.2]
    with pytest.raises(ParameterError, match="bins hold no frame"):
        open_suite2p(folder, system="m", sampling_rate_hz=RATE, events=events, edges_s=[0.01, 0.02])


def test_planes_are_joined_by_name(folder):
    one, two = plane(folder), plane(folder.parent / "plane10", seed=1)
    three = plane(folder.parent / "plane2", n_rois=2, seed=2)
    plane(folder.parent / "combined", n_rois=12, seed=3)
    x = open_suite2p(folder.parent, system="m", sampling_rate_hz=RATE)
    np.testing.assert_array_equal(x.values, np.concatenate([one["F"], three["F"], two["F"]]).T)
    assert x.plane.values[[0, 5, 7]].tolist() == ["plane0", "plane2", "plane10"]
    np.save(folder / "F.npy", one["F"][:, :-1])
    with pytest.raises(FormatError, match=r"planes of different length, \{'plane0': 79, 'plane2': 80"):
        open_suite2p(folder.parent, system="m", sampling_rate_hz=RATE)


def test_frame_times_and_what_is_pickled(folder):
    plane(folder)
    times = 3.0 + np.cumsum(np.full(80, 0.1))
    np.testing.assert_allclose(open_suite2p(folder, system="m", frame_times_s=times).onset_s, times)
    with pytest.raises(ParameterError, match=r"ops.npy, which is pickled and never opened"):
        open_suite2p(folder, system="m")
    with pytest.raises(FormatError, match=r"80 frames, and there are times of shape \(79,\)"):
        open_suite2p(folder, system="m", frame_times_s=times[1:])
    np.save(folder / "F.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="pickled Python objects"):
        open_suite2p(folder, system="m", sampling_rate_hz=RATE)


def test_a_few_traces_are_read_for_themselves(folder, bytes_read):
    plane(folder, n_rois=200, n_frames=5000)  # 4 MB a file
    x = open_suite2p(folder, system="m", sampling_rate_hz=RATE)
    assert bytes_read(open_suite2p, folder, system="m", sampling_rate_hz=RATE) < 60_000
    assert bytes_read(x[:, 10:12].compute) < 2 * 5000 * 4 + 60_000
    assert bytes_read(x[100:110].compute) < 200 * 10 * 4 + 60_000


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"values": "dff"}, ParameterError, "'values' parameter"),
        ({"values": "spks", "neuropil": 0.7}, ParameterError, "neuropil=0.7 .* for values='spks'"),
        ({"baseline": "mean"}, ParameterError, "'baseline' parameter"),
        ({"neuropil": -1.0}, ParameterError, "'neuropil' parameter"),
        ({"sampling_rate_hz": 0.0}, ParameterError, "'sampling_rate_hz' parameter"),
        ({"baseline": "percentile", "baseline_percentile": 101}, ParameterError, "'baseline_percentile'"),
        ({"edges_s": [0, 1]}, ParameterError, "edges_s= without events="),
    ],
)
def test_options_that_do_not_fit(folder, options, error, says):
    plane(folder)
    with pytest.raises(error, match=says):
        open_suite2p(folder, **{"system": "m", "sampling_rate_hz": RATE, **options})


def test_files_that_do_not_fit(folder):
    traces = plane(folder)
    np.save(folder / "Fneu.npy", traces["Fneu"][:, 1:])
    with pytest.raises(FormatError, match=r"shape \(5, 80\) and .*Fneu.npy' \(5, 79\)"):
        open_suite2p(folder, system="m", sampling_rate_hz=RATE, neuropil=0.7)
    np.save(folder / "iscell.npy", np.zeros((5, 2)))
    with pytest.raises(FormatError, match=r"no region that iscell.npy calls a cell"):
        open_suite2p(folder, system="m", sampling_rate_hz=RATE, cells_only=True)
    np.save(folder / "iscell.npy", np.zeros((4, 2)))
    with pytest.raises(FormatError, match=r"iscell.npy' has shape \(4, 2\) for 5 traces"):
        open_suite2p(folder, system="m", sampling_rate_hz=RATE)
    (folder / "iscell.npy").unlink()
    with pytest.raises(FormatError, match=r"no iscell.npy, and cells_only=True"):
        open_suite2p(folder, system="m", sampling_rate_hz=RATE, cells_only=True)
    (folder / "F.npy").write_bytes((folder / "F.npy").read_bytes()[:-100])
    with pytest.raises(FormatError, match="its header promises"):
        open_suite2p(folder, system="m", sampling_rate_hz=RATE)
    np.save(folder / "F.npy", traces["F"][0])
    with pytest.raises(FormatError, match=r"F.npy' has shape \(80,\) and dtype float32. Expected numbers, \(roi, frame\)"):
        open_suite2p(folder, system="m", sampling_rate_hz=RATE)
    with pytest.raises(FormatError, match=r"Expected F.npy, or folders plane0"):
        open_suite2p(folder.parent.parent, system="m", sampling_rate_hz=RATE)


def test_damage_gives_a_typed_error(folder, survives_damage):
    plane(folder, n_frames=10)
    for name in ("F.npy", "iscell.npy"):
        assert survives_damage(
            folder / name,
            lambda: open_suite2p(folder, system="m", sampling_rate_hz=RATE, cells_only=True).compute(),
            header=130,
            examples=20,
        )
