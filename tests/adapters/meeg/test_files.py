import os
from pathlib import Path

import numpy as np
import pytest

from brainalign.adapters.meeg.files import kind_of, load
from brainalign.adapters.meeg.recordings import open_meeg
from brainalign.core.errors import FormatError, ParameterError
from brainalign.dataset.open import FORMATS

mne = pytest.importorskip("mne")
CUT = {"system": "s", "tmin": 0.0, "tmax": 0.1}


@pytest.mark.parametrize("orientation", ["MULTIPLEXED", "VECTORIZED"])
@pytest.mark.parametrize("form", ["INT_16", "IEEE_FLOAT_32"])
def test_brainvision_is_read_in_volts_around_its_markers(tmp_path, write, orientation, form):
    file = tmp_path / "a.vhdr"
    volts = write.brainvision(file, orientation=orientation, form=form, points=True)
    x = open_meeg(file, events="annotations", **CUT)
    assert list(x.stimulus_id.values) == ["Stimulus/S  1", "Response/R  1", "Stimulus/S  2"]
    np.testing.assert_allclose(x.values, np.stack([volts[:, at : at + 6] for at in (10, 30, 50)]), rtol=1e-6)
    np.testing.assert_allclose(x.onset_s, [0.2, 0.6, 1.0])
    assert (x.attrs["units"], x.attrs["modality"]) == ("V", "eeg")
    assert list(x.channel.values) == ["Pz", "Oz"]
    y = open_meeg(file, events="annotations", event_id=["Stimulus/S  2"], **CUT)
    assert list(y.trial.values) == [2]


def test_brainvision_channels_without_voltage_are_no_eeg(tmp_path, write):
    write.brainvision(tmp_path / "a.vhdr", unit="C")
    with pytest.raises(ParameterError, match=r"no channels for picks='data'.*\['misc'\]"):
        open_meeg(tmp_path / "a.vhdr", events="annotations", **CUT)


@pytest.mark.parametrize("bdf", [False, True])
def test_edf_is_read_in_volts(tmp_path, write, bdf):
    file = tmp_path / ("a.bdf" if bdf else "a.edf")
    counts = write.edf(file, bdf=bdf)
    events = np.array([[20, 0, 1], [120, 0, 2]])
    x = open_meeg(file, events=events, event_id={"a": 1, "b": 2}, **CUT)
    assert list(x.channel.values) == ["Pz", "Oz"]  # not the thermometer
    volts = np.stack([counts[0] * 1e-6, counts[1] * 1e-3])
    np.testing.assert_allclose(x.values, np.stack([volts[:, at : at + 6] for at in (20, 120)]), rtol=1e-6)


CTF_GAINS = np.array([-2e9, 4e9, 1e9])[:, None] * 1e3  # proper gain times q gain


def test_ctf_is_read_in_tesla_to_the_last_bit(tmp_path, write):
    counts = write.ctf(tmp_path / "a.ds")
    x = open_meeg(
        tmp_path / "a.ds",
        events=np.array([[5, 0, 3], [18, 0, 3]]),
        event_id={"a": 3},
        picks="mag",
        system="s",
        tmin=0.0,
        tmax=0.04,
    )
    assert list(x.channel.values) == ["MLC11-1", "MRC11-1"]
    assert (x.attrs["units"], x.attrs["modality"], set(x.coordinate_frame.values)) == ("T", "meg", {"MEG device"})
    wanted = (counts[:3] / CTF_GAINS).astype(np.float32)
    np.testing.assert_array_equal(x.values, np.stack([wanted[:2, at : at + 5] for at in (5, 18)]))
    turned = np.array([[5 - 1, 5 + 1], [-5 - 2, -5 + 2]]) * 10 / np.sqrt(2)  # by 45 degrees, and up by 190 mm
    np.testing.assert_allclose(np.stack([x.x_mm, x.y_mm, x.z_mm], 1), np.column_stack([turned, [290, 290]]), atol=1e-4)
    with_references = open_meeg(tmp_path / "a.ds", events="samples", picks="meg", system="s")
    np.testing.assert_array_equal(with_references.values, wanted.T)
    assert list(with_references.channel_type.values) == ["mag", "mag", "ref_meg"]


@pytest.mark.parametrize(("clock", "kept"), [((0.0, 0.2), [0, 1, 2, 3]), ((0.0, 5.0), [0, 1, 3]), ((), [0, 1, 3])])
def test_ctf_trials_that_do_not_follow_on_one_another_are_never_cut_across(tmp_path, write, clock, kept):
    write.ctf(tmp_path / "a.ds", clock=clock)
    events = np.array([[5, 0, 3], [15, 0, 3], [16, 0, 3], [20, 0, 3]])
    x = open_meeg(tmp_path / "a.ds", events=events, event_id={"a": 3}, picks="mag", system="s", tmin=0.0, tmax=0.04)
    assert list(x.trial.values) == kept


def test_kit_is_read_in_tesla_with_its_trigger(tmp_path, write):
    counts = write.kit(tmp_path / "a.sqd")
    options = {"events": np.array([[10, 0, 1], [30, 0, 1]]), "event_id": {"a": 1}, "trigger_channel": "stim", **CUT}
    x = open_meeg(tmp_path / "a.sqd", picks="mag", **options)
    tesla = counts[:2] * (10 / 2**12 / 100 * np.array([[2e-9], [4e-9]]))
    np.testing.assert_allclose(x.values, np.stack([tesla[:, at : at + 11] for at in (10, 30)]), rtol=1e-6)
    assert (x.attrs["units"], list(x.channel.values)) == ("T", ["MEG 001", "MEG 002"])
    np.testing.assert_allclose(np.stack([x.x_mm, x.y_mm, x.z_mm], 1), [[-20, 10, 100], [-20, -10, 100]], atol=1e-4)
    with pytest.raises(FormatError, match="trigger"):
        open_meeg(tmp_path / "a.sqd", **{**options, "events": np.array([[10, 0, 1], [40, 0, 1]])})


def test_kit_files_that_are_cut_or_hold_trials_are_named(tmp_path, write):
    write.kit(tmp_path / "a.sqd")
    whole = (tmp_path / "a.sqd").read_bytes()
    (tmp_path / "a.sqd").write_bytes(whole[:-50])
    with pytest.raises(FormatError, match=rf"a.sqd' has {len(whole) - 50} bytes; its table of contents promises {len(whole)}"):
        load(mne, tmp_path / "a.sqd")
    kind = int.from_bytes(whole[16 * 8 : 16 * 8 + 4], "little")
    (tmp_path / "a.sqd").write_bytes(whole[:kind] + b"\3" + whole[kind + 1 :])
    with pytest.raises(FormatError, match=r"holds trials or averages.*mne.read_epochs_kit"):
        load(mne, tmp_path / "a.sqd")


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_bti_is_read_in_tesla_with_its_trigger(tmp_path, write, kind):
    counts = write.bti(tmp_path / "bti", kind=kind)
    options = {"events": np.array([[10, 0, 1], [30, 0, 1]]), "event_id": {"a": 1}, "trigger_channel": "STI 014", **CUT}
    x = open_meeg(tmp_path / "bti", picks="mag", **options)
    tesla = counts[[1, 0]] * np.array([[1e-12 / 2], [2e-12 / 4]] if kind < 3 else [[2.0], [4.0]])  # floats are scaled by the gain
    np.testing.assert_allclose(x.values, np.stack([tesla[:, at : at + 11] for at in (10, 30)]), rtol=1e-6)
    assert (x.attrs["units"], list(x.channel.values)) == ("T", ["MEG 001", "MEG 002"])
    np.testing.assert_allclose(
        np.stack([x.x_mm, x.y_mm, x.z_mm], 1), [[60, 40, 210], [-50, 30, 210]], atol=1e-3
    )  # MNE moves it by 0, 20, 110 mm


def test_a_bti_header_that_promises_more_than_there_is(tmp_path, write):
    write.bti(tmp_path / "bti", n_samples=50)
    file = tmp_path / "bti" / "c,rfDC"
    whole = file.read_bytes()
    at = 400 + 96  # samples of the first epoch
    file.write_bytes(whole[:at] + (51).to_bytes(4, "big") + whole[at + 4 :])
    with pytest.raises(
        FormatError, match=r"c,rfDC' holds 400 bytes of values; its header promises 408 \(51 samples of 4 channels\)"
    ):
        load(mne, tmp_path / "bti")


@pytest.mark.parametrize("name", ["c,rfDC", "config"])
def test_damage_of_bti(tmp_path, write, survives_damage, name):
    write.bti(tmp_path / "bti")
    options = {"system": "s", "events": "samples", "picks": "mag"}
    assert survives_damage(tmp_path / "bti" / name, lambda: open_meeg(tmp_path / "bti", **options))


def test_a_bti_folder_with_two_recordings_asks_which(tmp_path, write):
    write.bti(tmp_path / "bti")
    (tmp_path / "bti" / "c,rfDC,o").write_bytes((tmp_path / "bti" / "c,rfDC").read_bytes())
    (tmp_path / "bti" / "e,rfDC,COH").write_bytes((tmp_path / "bti" / "c,rfDC").read_bytes())
    with pytest.raises(FormatError, match=r"holds 2 recordings: 'c,rfDC', 'c,rfDC,o'"):
        load(mne, tmp_path / "bti")
    assert kind_of(tmp_path / "bti" / "c,rfDC") == "BTi"
    assert kind_of(tmp_path / "bti" / "config") == ""


def test_every_kind_is_named_and_one_reader_claims_it(tmp_path, write):
    write.brainvision(tmp_path / "a.vhdr")
    write.edf(tmp_path / "a.edf")
    write.ctf(tmp_path / "a.ds")
    write.kit(tmp_path / "a.sqd")
    write.bti(tmp_path / "bti")
    wanted = {"a.vhdr": "BrainVision", "a.edf": "EDF or BDF", "a.ds": "CTF", "a.sqd": "KIT", "bti": "BTi"}
    for name, kind in wanted.items():
        assert kind_of(tmp_path / name) == kind
        assert [each for each in FORMATS.names() if FORMATS.get(each).matches(tmp_path / name)] == ["meeg"]
    assert kind_of(tmp_path / "gone") == ""


@pytest.mark.parametrize(("maker", "name", "kind"), [("ctf", "a.ds", "CTF"), ("kit", "a.sqd", "KIT"), ("bti", "bti", "BTi")])
def test_what_mne_cannot_read_is_named(tmp_path, write, maker, name, kind):
    getattr(write, maker)(tmp_path / name)
    if maker == "ctf":
        (tmp_path / name / "a.res4").write_bytes((tmp_path / name / "a.res4").read_bytes()[:1900])
    elif maker == "kit":
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: 16 * 32] + (1).to_bytes(4, "little") + whole[16 * 32 + 4 :])  # version 1
    else:
        (tmp_path / name / "config").write_bytes((tmp_path / name / "config").read_bytes()[:150])
    with pytest.raises(FormatError, match=rf"{name}' could not be read as {kind}"):
        load(mne, tmp_path / name)


def test_other_files_are_refused_with_what_is_known(tmp_path, write):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(
        FormatError,
        match=r"none of the recordings .*\(FIF, EEGLAB, BrainVision, EDF or BDF, CTF, KIT, BTi\).*Expected a FIF file",
    ):
        load(mne, tmp_path / "a.txt")
    with pytest.raises(FormatError, match="no file"):
        load(mne, tmp_path / "gone.set")


@pytest.mark.parametrize("kind", ["vhdr", "vmrk", "eeg", "edf", "sqd", "res4", "meg4"])
def test_damage_is_survived(tmp_path, write, survives_damage, kind):
    file = tmp_path / "a.vhdr"
    options = {"events": "annotations", **CUT}
    if kind == "edf":
        file = tmp_path / "a.edf"
        write.edf(file)
        options |= {"events": np.array([[20, 0, 1]]), "event_id": {"a": 1}}
    elif kind == "sqd":
        file = tmp_path / "a.sqd"
        write.kit(file)
        options |= {"events": "samples", "tmin": None, "tmax": None}
    elif kind in ("res4", "meg4"):
        file = tmp_path / "a.ds"
        write.ctf(file)
        options |= {"events": np.array([[5, 0, 3]]), "event_id": {"a": 3}, "picks": "mag"}
    else:
        write.brainvision(file, points=True)
    damaged = file / f"a.{kind}" if file.is_dir() else file if kind in ("edf", "sqd") else file.with_suffix("." + kind)
    assert survives_damage(
        damaged, lambda: open_meeg(file, **options), header=1200, examples=100 if kind in ("sqd", "res4") else 40
    )


@pytest.fixture
def testing_data():
    """Return a file of MNE's testing data, or skip: BRAINALIGN_MNE_TESTING_DATA names the folder that holds CTF, KIT and BTi."""

    def find(name):
        root = os.environ.get("BRAINALIGN_MNE_TESTING_DATA", "")
        if not root or not (Path(root) / name).exists():
            pytest.skip(f"no {name}: set BRAINALIGN_MNE_TESTING_DATA to a copy of mne-testing-data")
        return Path(root) / name

    return find


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape", "bad"), [("somMDYO-18av.ds", (626, 151), 7), ("testdata_ctf_short_discontinuous.ds", (2402, 273), 0)]
)
def test_real_ctf_is_what_the_converter_of_mne_in_c_made_of_it(testing_data, name, shape, bad):
    x = open_meeg(testing_data(f"CTF/{name}"), system="s", events="samples", picks="mag")
    reference = mne.io.read_raw_fif(testing_data(f"CTF/{name}_raw.fif"), verbose="error").pick(x.channel.values.tolist())
    assert (x.shape, int(x.bad.sum()), x.attrs["units"]) == (shape, bad, "T")
    np.testing.assert_allclose(x.values, reference.get_data().T, rtol=1e-5, atol=1e-6 * np.abs(x.values).max())
    places = np.array([each["loc"][:3] for each in reference.info["chs"]]) * 1e3
    np.testing.assert_allclose(np.stack([x.x_mm, x.y_mm, x.z_mm], 1), places, atol=1e-3)
    assert [each["description"] for each in load(mne, testing_data(f"CTF/{name}")).annotations] == ["BAD boundary"]


@pytest.mark.real
def test_real_bti_has_the_amplitudes_that_were_simulated(testing_data):
    """Sensor n has a peak of about n times 30 fT, says the note beside it."""
    x = open_meeg(testing_data("BTi/4Dsim/c,rfDC"), system="s", events="samples", picks="mag")
    peak = np.abs(x.values - np.median(x.values, 0)).max(0) / np.arange(1, 249)
    assert x.shape == (458, 248)
    np.testing.assert_allclose(np.median(peak), 30e-15, rtol=0.01)
    with pytest.raises(FormatError, match=r"holds 2 recordings: 'c,rfDC', 'c,rfDC,fn50,o'"):
        load(mne, testing_data("BTi/4Dsim"))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape", "n_events"),
    [("ArtificalSignalData_Yokogawa_1khz", (5000, 160), 25), ("Example_RICOH160-1_10021-export_anonymyze", (2000, 160), 4), ("test_as-raw", (200, 157), 1)],
)  # fmt: skip
def test_real_kit_is_what_mne_reads(testing_data, name, shape, n_events):
    file = testing_data(f"KIT/{name}.con")
    x, raw = open_meeg(file, system="s", events="samples", picks="mag"), mne.io.read_raw_kit(file, verbose="error")
    assert (x.shape, len(mne.find_events(raw, shortest_event=1, verbose="error"))) == (shape, n_events)
    np.testing.assert_array_equal(x.values, raw.copy().pick("mag").get_data().T.astype(np.float32))
