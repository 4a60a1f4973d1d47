import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.meeg.recordings import adapter, open_meeg
from brainalign.core.errors import FormatError, ParameterError

mne = pytest.importorskip("mne")
mne.set_log_level("ERROR")
RATE = 100.0


def info(kinds):
    made = mne.create_info([f"{kind.upper()} {i}" for i, kind in enumerate(kinds)], RATE, kinds)
    for i, ch in enumerate(made["chs"]):
        ch["loc"][:3] = [0.01 * i, 0.02, 0.03]
    return made


def epochs(kinds=("mag", "mag"), metadata=None, n=6):
    rng = np.random.default_rng(0)
    events = np.column_stack([np.arange(n) * 100 + 50, np.zeros(n, int), np.arange(n) % 2 + 1])
    data = rng.normal(size=(n, len(kinds), 31)) * 1e-12
    return mne.EpochsArray(data, info(list(kinds)), events, tmin=-0.1, event_id={"face": 1, "house": 2}, metadata=metadata)


def raw(seconds=20):
    rng = np.random.default_rng(1)
    return mne.io.RawArray(rng.normal(size=(3, int(seconds * RATE))) * 1e-6, info(["eeg", "eeg", "stim"]))


def test_epochs_keep_values_times_and_names():
    made = epochs()
    x = open_meeg(made, system="sub-01", subject="01")
    np.testing.assert_allclose(x.values, made.get_data(), rtol=1e-6)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.time, made.times)
    assert list(x.stimulus_id.values) == ["face", "house"] * 3
    assert list(x.repetition.values) == [0, 0, 1, 1, 2, 2]
    assert list(x.neuroid_id.values) == list(x.channel.values) == made.ch_names
    assert (x.attrs["modality"], x.attrs["units"], x.attrs["time_reference"]) == ("meg", "T", "stimulus onset")
    assert list(x.channel_type.values) == ["mag", "mag"]
    np.testing.assert_allclose(x.x_mm, [0, 10], atol=1e-6)
    assert float(x.sampling_rate_hz[0]) == RATE
    ba.validate(x, deep=True)


def test_metadata_names_the_stimulus_and_labels_the_trials():
    metadata = pd.DataFrame(
        {
            "stimulus_id": list("abcabc"),
            "image": [f"i{k}" for k in range(6)],
            "channel": 1.0,
            "run": list("112233"),
            "repetition": 7,
            "note": ["x", None] * 3,
        }
    )
    made = epochs(metadata=metadata)
    x = open_meeg(made, system="s")
    assert list(x.stimulus_id.values) == list("abcabc")
    assert list(x.condition.values) == ["face", "house"] * 3
    assert list(x.run.values) == list("112233")
    assert x.metadata_channel.dims == ("presentation",)
    assert list(x.note.values) == ["x", "n/a"] * 3
    assert list(x.repetition.values) == [0, 0, 0, 1, 1, 1]  # counted, whatever a file says
    by_image = open_meeg(made, system="s", stimulus_column="image")
    assert by_image.stimulus_id.values[5] == "i5"
    assert list(by_image.metadata_stimulus_id.values) == list("abcabc")
    with pytest.raises(FormatError, match=r"no metadata column 'imag'.*Did you mean 'image'"):
        open_meeg(made, system="s", stimulus_column="imag")


def test_trials_that_name_no_stimulus_are_no_presentations():
    for column, ids in (
        ([7, np.nan, 1234567, 7, np.nan, 7], ["7", "1234567", "7", "7"]),
        (["a", "n", None, "n/a", "", "b"], ["a", "n", "b"]),
    ):
        x = open_meeg(epochs(metadata=pd.DataFrame({"image": column})), system="s", stimulus_column="image")
        assert list(x.stimulus_id.values) == ids
        assert list(x.trial.values) == [i for i, value in enumerate(column) if not (pd.isna(value) or value in ("n/a", ""))]
    with pytest.raises(FormatError, match="none names a stimulus"):
        open_meeg(epochs(metadata=pd.DataFrame({"image": [np.nan] * 6})), system="s", stimulus_column="image")


def test_trials_keep_their_number_after_rejection():
    made = epochs()
    made.drop([0, 3])
    x = open_meeg(made, system="s")
    assert list(x.trial.values) == [1, 2, 4, 5]
    assert list(x.stimulus_id.values) == ["house", "face", "face", "house"]
    made.drop([0, 1, 2, 3])
    with pytest.raises(FormatError, match="no trials"):
        open_meeg(made, system="s")


def test_bad_and_other_channels():
    made = epochs(("mag", "grad", "eog", "mag"))
    made.info["bads"] = ["MAG 3"]
    made.info["chs"][1]["loc"][:3] = 0
    x = open_meeg(made, system="s")
    assert list(x.channel.values) == ["MAG 0", "GRAD 1", "MAG 3"]
    assert list(x.bad.values) == [False, False, True]
    assert list(x.unit_of_measure.values) == ["T", "T/m", "T"]
    assert x.attrs["units"] == "T, T/m"
    assert np.isnan(x.x_mm.values[1])
    assert open_meeg(made, system="s", picks="grad").shape[1] == 1
    with pytest.raises(ParameterError, match=r"picks='eeg'.*\['eog', 'grad', 'mag'\]"):
        open_meeg(made, system="s", picks="eeg")
    with pytest.raises(ParameterError, match=rf"Did you mean '{made.ch_names[0]}'"):
        open_meeg(made, system="s", picks=[made.ch_names[0] + "x"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(value):
    made = epochs()
    made.get_data(copy=False)[2, 1, 5] = value
    with pytest.raises(FormatError, match=r"1 values that are NaN or infinite, the first in row 2 of 'MAG 1'"):
        open_meeg(made, system="s")


def test_two_modalities_are_not_mixed_unless_asked():
    made = epochs(("mag", "eeg", "eeg"))
    with pytest.raises(ParameterError, match=r"1 mag, 2 eeg, of the modalities \['eeg', 'meg'\]"):
        open_meeg(made, system="s")
    assert open_meeg(made, system="s", picks="eeg").attrs["modality"] == "eeg"
    mixed = open_meeg(made, system="s", modality="meg")
    assert list(mixed.unit_of_measure.values) == ["T", "V", "V"]
    assert open_meeg(epochs(("seeg", "ecog")), system="s").attrs["modality"] == "ieeg"


def test_averages_are_rows_named_by_their_comment():
    made = epochs()
    evokeds = [made["face"].average(), made["house"].average()]
    x = open_meeg(evokeds, system="s")
    np.testing.assert_allclose(x.values, np.stack([item.data for item in evokeds]), rtol=1e-6)
    assert list(x.stimulus_id.values) == ["face", "house"]
    assert list(x.n_repeats.values) == [3, 3]
    assert open_meeg(evokeds[0], system="s").shape[0] == 1
    evokeds[1].info["bads"] = ["MAG 1"]
    assert list(open_meeg(evokeds, system="s").bad.values) == [False, True]
    assert evokeds[0].info["bads"] == []
    with pytest.raises(FormatError, match="differ in 1 channels: 'MAG 1'"):
        open_meeg([evokeds[0], evokeds[1].copy().pick(["MAG 0"])], system="s")
    with pytest.raises(FormatError, match=r"runs from -0.1 to 0.2 s and 'house' from 0 to 0.2 s"):
        open_meeg([evokeds[0], evokeds[1].copy().crop(0)], system="s")
    evokeds[1].comment = ""
    with pytest.raises(FormatError, match="average 1 has no comment"):
        open_meeg(evokeds, system="s")


def test_raw_recordings_are_cut_around_events():
    made, events = raw(), np.array([[300, 0, 7], [900, 0, 8]])
    x = open_meeg(made, system="s", events=events, event_id={"a": 7, "b": 8}, tmin=-0.1, tmax=0.2, run="2")
    assert x.shape == (2, 2, 31)
    np.testing.assert_allclose(x.values[1], made.get_data(picks="eeg")[:, 890:921], rtol=1e-6)
    np.testing.assert_allclose(x.onset_s, [3.0, 9.0])
    assert list(x.run.values) == ["2", "2"]
    table = pd.DataFrame({"stimulus_id": ["z", "a"], "onset_s": [3.0, 9.0], "duration_s": [0.5, 0.25], "run": "4"})
    y = open_meeg(made, system="s", events=table, tmin=-0.1, tmax=0.2)
    np.testing.assert_array_equal(y.values, x.values)
    assert list(y.stimulus_id.values) == ["z", "a"]
    assert list(y.duration_s.values) == [0.5, 0.25]
    assert list(y.run.values) == ["4", "4"]
    made.set_annotations(mne.Annotations([3.0, 9.0], 0.1, ["tone", "click"]))
    z = open_meeg(made, system="s", events="annotations", tmin=-0.1, tmax=0.2)
    assert list(z.stimulus_id.values) == ["tone", "click"]
    baselined = open_meeg(made, system="s", events=table, tmin=-0.1, tmax=0.2, baseline=(None, 0))
    np.testing.assert_allclose(baselined.sel(time=slice(None, 1e-9)).mean("time"), 0, atol=1e-12)


def test_every_sample_is_a_row_where_nothing_is_cut():
    made = raw(2)
    x = open_meeg(made, system="s", events="samples", run="3", subject="01")
    assert x.dims == ("presentation", "neuroid")
    np.testing.assert_allclose(x.values, made.get_data(picks="eeg").T, rtol=1e-6)
    np.testing.assert_allclose(x.onset_s, made.times)
    assert list(x.stimulus_id.values[[0, -1]]) == ["run-3/s00000", "run-3/s00199"]
    assert set(x.run.values) == {"3"}
    ba.validate(x, deep=True)
    with pytest.raises(ParameterError, match=r"got tmin, tmax for 'RawArray' with events='samples'"):
        open_meeg(made, system="s", events="samples", tmin=0, tmax=1)
    with pytest.raises(ParameterError, match="got events for 'EpochsArray', which is epoched already"):
        open_meeg(epochs(), system="s", events="samples")


def test_raw_recordings_ask_for_all_that_is_needed():
    events = np.array([[300, 0, 7]])
    with pytest.raises(ParameterError, match="events=None, tmin=None"):
        open_meeg(raw(), system="s")
    with pytest.raises(ParameterError, match="codes 7 and event_id is None"):
        open_meeg(raw(), system="s", events=events, tmin=0, tmax=1)
    with pytest.raises(ParameterError, match=r"shape \(3,\)"):
        open_meeg(raw(), system="s", events=events[0], event_id={"a": 7}, tmin=0, tmax=1)
    with pytest.raises(FormatError, match="does not hold 1 of the epochs, the first around event 0 at sample 1990"):
        open_meeg(raw(), system="s", events=np.array([[1990, 0, 7]]), event_id={"a": 7}, tmin=0, tmax=1)
    with pytest.raises(FormatError, match="no column 'onset_s'"):
        open_meeg(raw(), system="s", events=pd.DataFrame({"stimulus_id": ["a"]}), tmin=0, tmax=1)
    with pytest.raises(FormatError, match="onset nan in row 1"):
        open_meeg(raw(), system="s", events=pd.DataFrame({"stimulus_id": ["a", "b"], "onset_s": [1, np.nan]}), tmin=0, tmax=1)
    with pytest.raises(ParameterError, match="tmin for 'EpochsArray', which is epoched already"):
        open_meeg(epochs(), system="s", tmin=0.0)
    with pytest.raises(ParameterError, match=r"Expected these for raw recordings only: .*`epochs.apply_baseline"):
        open_meeg(epochs(), system="s", baseline=(None, 0))
    with pytest.raises(ParameterError, match="got a ndarray"):
        open_meeg(events, system="s")


@pytest.mark.parametrize("kind", ["epo", "ave", "raw"])
def test_files_equal_the_objects_and_cuts_are_named(tmp_path, kind):
    file = tmp_path / f"x-{kind}.fif"
    options = {"system": "s"}
    if kind == "epo":
        made = epochs(metadata=pd.DataFrame({"stimulus_id": list("abcabc")}))
    elif kind == "ave":
        made = [epochs()[name].average() for name in ("face", "house")]
    else:
        made = raw()
        options |= {"events": np.array([[300, 0, 7]]), "event_id": {"a": 7}, "tmin": -0.1, "tmax": 0.2}
    mne.write_evokeds(file, made) if kind == "ave" else made.save(file)
    assert adapter.matches(file)
    assert adapter.matches(made)
    x, y = open_meeg(file, **options), open_meeg(made, **options)
    np.testing.assert_allclose(x.values, y.values, rtol=1e-6)
    assert list(x.stimulus_id.values) == list(y.stimulus_id.values)
    whole, cut = file.read_bytes(), tmp_path / f"cut-{kind}.fif"
    for share in (0.1, 0.5, 0.9, 0.999):
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(FormatError, match=rf"cut-{kind}.fif"):
            open_meeg(cut, **options)


def test_what_fif_changes_and_what_it_keeps(tmp_path):
    """Metadata survive; numbers of trials that were rejected stay counted; values are rounded to float32."""
    metadata = pd.DataFrame({"stimulus_id": ["01", "02", "10", "01", "02", "10"], "image_nr": [1, 2, 10, 1, 2, 10], "run": 3})
    made = epochs(metadata=metadata)
    made.drop([1, 4], reason="blink")
    made.save(tmp_path / "x-epo.fif")
    x = open_meeg(tmp_path / "x-epo.fif", system="s")
    assert list(x.stimulus_id.values) == ["01", "10", "01", "10"]  # strings, never numbers: '01' keeps its 0
    assert list(x.trial.values) == [0, 2, 3, 5]
    np.testing.assert_array_equal(x.image_nr, [1, 10, 1, 10])
    numbers = open_meeg(tmp_path / "x-epo.fif", system="s", stimulus_column="image_nr")
    assert list(numbers.stimulus_id.values) == ["1", "10", "1", "10"]
    np.testing.assert_array_equal(x.values, made.get_data().astype(np.float32))


def test_parts_of_a_split_file_are_one_recording(tmp_path):
    n = 60
    events = np.column_stack([np.arange(n) * 600 + 50, np.zeros(n, int), np.ones(n, int)])
    made = mne.EpochsArray(np.random.default_rng(0).normal(size=(n, 20, 500)) * 1e-12, info(["mag"] * 20), events)
    made.save(tmp_path / "x-epo.fif", split_size="2MB")
    x = open_meeg(tmp_path / "x-epo.fif", system="s")
    np.testing.assert_array_equal(x.values, made.get_data().astype(np.float32))
    (tmp_path / "x-epo-1.fif").unlink()
    with pytest.raises(FormatError, match=r"'x-epo-1.fif', which is not another file"):
        open_meeg(tmp_path / "x-epo.fif", system="s")


def test_projections_are_recorded_and_can_be_left(tmp_path):
    made = epochs(("eeg", "eeg", "eeg"))
    made.set_eeg_reference("average", projection=True)
    made.save(tmp_path / "x-epo.fif")
    step = lambda x: ba.core.provenance(x).steps[-1]["params"].get("projections")  # noqa: E731
    as_mne = open_meeg(tmp_path / "x-epo.fif", system="s")
    np.testing.assert_allclose(as_mne.mean("neuroid"), 0, atol=1e-18)
    assert step(as_mne) == ["Average EEG reference"]
    left = open_meeg(tmp_path / "x-epo.fif", system="s", proj=False)
    np.testing.assert_allclose(left.values, made.get_data(), rtol=1e-5)
    assert step(left) is None
    applied = open_meeg(made, system="s", proj=True)
    np.testing.assert_allclose(applied.values, as_mne.values, atol=1e-18)
    assert step(open_meeg(made, system="s")) is None


@pytest.mark.parametrize("kind", ["epo", "ave", "raw"])
def test_damage_is_survived(tmp_path, survives_damage, kind):
    file = tmp_path / f"x-{kind}.fif"
    options = {"system": "s"}
    if kind == "epo":
        epochs(metadata=pd.DataFrame({"stimulus_id": list("abcabc")})).save(file)
    elif kind == "ave":
        mne.write_evokeds(file, [epochs()["face"].average()])
    else:
        raw(2).save(file)
        options |= {"events": np.array([[50, 0, 7]]), "event_id": {"a": 7}, "tmin": -0.1, "tmax": 0.2}
    assert survives_damage(file, lambda: open_meeg(file, **options), examples=40)


def test_trials_run_through_evaluate():
    """A recording from a reader is a side of a comparison, unchanged."""
    made = epochs(metadata=pd.DataFrame({"stimulus_id": list("abcdef")}))
    x = open_meeg(made, system="s")
    scores = ba.evaluate(x.mean("time", keep_attrs=True), x, model=ba.Ridge(alphas=[1.0]), cv=3)
    assert scores.score.dims == ("neuroid", "time")


def test_nothing_else_is_taken_for_a_recording(tmp_path):
    (tmp_path / "a.fif").write_text("no")
    assert not adapter.matches(tmp_path / "a.fif")
    assert not adapter.matches(np.zeros(3))
    with pytest.raises(FormatError, match="none of the recordings that are known by their content"):
        open_meeg(tmp_path / "a.fif", system="s")


@pytest.mark.real
def test_evoked_file_opens_by_channel_type(shared_data):
    file = shared_data("meg-eeg-evoked") / "test-ave.fif.gz"
    assert adapter.matches(file)
    for picks, n, modality, units in (("meg", 306, "meg", "T/m, T"), ("mag", 102, "meg", "T"), ("eeg", 60, "eeg", "V")):
        x = open_meeg(file, system="s", picks=picks)
        assert x.shape == (4, n, 421)
        assert (x.attrs["modality"], x.attrs["units"]) == (modality, units)
    assert list(x.stimulus_id.values) == ["Left Auditory", "Right Auditory", "Left visual", "Right visual"]
    assert list(x.n_repeats.values) == [3, 6, 6, 6]
    np.testing.assert_allclose(float(x.sampling_rate_hz[0]), 600.615, atol=1e-3)


@pytest.mark.real
def test_evoked_topographies(shared_data):
    evokeds = mne.read_evokeds(shared_data("meg-eeg-evoked") / "test-ave.fif.gz", baseline=(None, 0))
    x = open_meeg([item.filter(None, 40.0) for item in evokeds], system="s", picks="mag").astype(np.float64)
    power = x.std("neuroid")
    # Peak after onset over the mean before it, without the first 50 ms, where the filter starts up.
    ratio = power.sel(time=slice(0.04, 0.3)).max("time") / power.sel(time=slice(-0.15, 0)).mean("time")
    np.testing.assert_allclose(ratio, [3.22, 3.19, 3.32, 4.38], atol=0.04)
    topography = np.corrcoef(x.sel(time=slice(0.07, 0.13)).mean("time"))
    np.testing.assert_allclose([topography[0, 1], topography[2, 3]], [0.93, -0.02], atol=0.015)
    between = topography[:2, 2:]
    np.testing.assert_allclose([between.min(), between.max()], [0.31, 0.50], atol=0.015)
    peak = power.isel(presentation=1).sel(time=slice(0.04, 0.3))
    np.testing.assert_allclose(float(peak.idxmax("time")), 0.0966, atol=0.002)
