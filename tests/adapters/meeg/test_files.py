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


@pytest.mark.parametrize("kind", ["vhdr", "vmrk", "eeg", "edf", "sqd"])
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
    else:
        write.brainvision(file, points=True)
    damaged = file if kind in ("edf", "sqd") else file.with_suffix("." + kind)
    assert survives_damage(damaged, lambda: open_meeg(file, **options), header=1200, examples=40)
