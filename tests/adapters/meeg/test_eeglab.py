from itertools import count

import numpy as np
import pytest
import xarray as xr
from scipy.io import savemat

from brainalign.adapters.meeg.eeglab import event_table, is_eeglab
from brainalign.adapters.meeg.recordings import adapter, open_meeg
from brainalign.core.errors import FormatError
from brainalign.dataset.open import FORMATS

mne = pytest.importorskip("mne")
RATE, N = 50.0, 400
LATENCIES = [51.0, 101.0, 151.5, 251.0]  # 1-based samples
TYPES = ["square", "rt", "square", "square"]


def struct_array(rows):
    """Return a 1 x n struct array as MATLAB saves it."""
    out = np.zeros((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        for name, value in row.items():
            out[name][0, i] = value
    return out


def savemat_7_3(path, variables, **_):
    """Write version 7.3 as MATLAB lays it out: axes reversed, letters as numbers, cells and fields of struct arrays as references."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        cells, numbers = file.create_group("#refs#"), count()

        def referred(values):
            made = [put(cells, str(next(numbers)), value).ref for value in np.ravel(values, order="F")]
            return np.array(made, dtype=h5py.ref_dtype).reshape(np.shape(values), order="F").T

        def put(place, name, value):
            array = (
                np.array([[ord(letter) for letter in value]], dtype=np.uint16) if isinstance(value, str) else np.atleast_2d(value)
            )
            if isinstance(value, dict) or array.dtype.names:
                item, kind = place.create_group(name), "struct"
                for field in value if isinstance(value, dict) else array.dtype.names:
                    put(item, field, value[field]) if isinstance(value, dict) else item.create_dataset(
                        field, data=referred(array[field])
                    )
                letters = np.empty(len(item), dtype=object)
                letters[:] = [np.array(list(field), dtype="S1") for field in item]
                item.attrs.create("MATLAB_fields", letters, dtype=h5py.vlen_dtype(np.dtype("S1")))
            elif array.size:
                kind = "char" if isinstance(value, str) else {"O": "cell", "f": "double"}[array.dtype.kind]
                item = place.create_dataset(name, data=referred(array) if kind == "cell" else array.T)
            else:
                item, kind = (
                    place.create_dataset(name, data=np.array(array.shape, np.uint64)),
                    "char" if isinstance(value, str) else "double",
                )
                item.attrs["MATLAB_empty"] = np.uint8(1)
            item.attrs["MATLAB_class"] = np.bytes_(kind)
            return item

        for name, value in variables.items():
            put(file, name, value)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def fields(values, events, epochs=None):
    shape = values.shape if values.ndim == 3 else (*values.shape, 1)
    places = [
        {"labels": name, "type": "", "X": 8.0 * i, "Y": 3.0, "Z": 4.0} for i, name in enumerate(["Pz", "Oz", "EOG1"][: shape[0]])
    ]
    return {
        "setname": "test", "nbchan": float(shape[0]), "pnts": float(shape[1]), "trials": float(shape[2]), "srate": RATE, "xmin": -0.2 if epochs else 0.0,
        "xmax": -0.2 + (shape[1] - 1) / RATE, "data": values, "chanlocs": struct_array(places), "event": struct_array(events),
        "epoch": struct_array(epochs) if epochs else np.zeros((0, 0)), "chaninfo": {"plotrad": 0.5}, "ref": "common", "icawinv": [],
        "icasphere": [], "icaweights": [], "icaact": [], "icachansind": [],
    }  # fmt: skip


def continuous(path, *, fdt=True, flat=False, save=savemat, events=None, n_channels=3, **changes):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_channels, N)).astype(np.float32)
    if events is None:
        events = [
            {"type": kind, "latency": latency, "position": side, "urevent": i + 1.0, "note": note}
            for i, (kind, latency, side, note) in enumerate(
                zip(TYPES, LATENCIES, [1.0, [], 2.0, 2.0], ["x", "", "y", "z"], strict=True)
            )
        ]
    eeg = fields(values, events)
    if fdt:
        path.with_suffix(".fdt").write_bytes(values.tobytes(order="F"))
        eeg["data"] = path.with_suffix(".fdt").name
    eeg |= changes
    save(path, eeg if flat else {"EEG": eeg}, appendmat=False)
    return values * 1e-6


def epoched(path, *, fdt=False, save=savemat, epochs=None, **changes):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 30, 4)).astype(np.float32)
    events = [
        {"type": "square", "latency": 11.0, "position": 1.0, "epoch": 1.0, "urevent": 1.0},
        {"type": "rt", "latency": 25.0, "position": [], "epoch": 1.0, "urevent": 2.0},
        {"type": "rt", "latency": 31.0, "position": [], "epoch": 2.0, "urevent": 2.0},
        {"type": "square", "latency": 41.0, "position": 2.0, "epoch": 2.0, "urevent": 3.0},
        {"type": "square", "latency": 71.0, "position": 2.0, "epoch": 3.0, "urevent": 5.0},
        {"type": 7.0, "latency": 101.0, "position": 1.0, "epoch": 4.0, "urevent": 6.0},
    ]
    cells = lambda *items: np.array([[item] for item in items], dtype=object).T  # noqa: E731
    if epochs is None:
        epochs = [
            {"event": [1.0, 2.0], "eventtype": cells("square", "rt"), "eventlatency": cells(0.0, 280.0)},
            {"event": [3.0, 4.0], "eventtype": cells("rt", "square"), "eventlatency": cells(-200.0, 0.0)},
            {"event": 5.0, "eventtype": "square", "eventlatency": 0.0},
            {"event": 6.0, "eventtype": 7.0, "eventlatency": 0.0},
        ]
    eeg = fields(values, events, epochs)
    if fdt:
        path.with_suffix(".fdt").write_bytes(values.tobytes(order="F"))
        eeg["data"] = path.with_suffix(".fdt").name
    save(path, {"EEG": eeg | changes}, appendmat=False)
    return values.transpose(2, 0, 1) * 1e-6


ASKED = {"system": "s", "events": "annotations", "tmin": 0.0, "tmax": 0.2}


SAVED = pytest.mark.parametrize("save", [savemat, savemat_7_3])


@SAVED
@pytest.mark.parametrize("fdt", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_continuous_sets_are_read_in_volts_from_their_1_based_samples(tmp_path, save, fdt, flat):
    file = tmp_path / "a.set"
    values = continuous(file, fdt=fdt, flat=flat, save=save)
    assert adapter.matches(file)
    assert [name for name in FORMATS.names() if FORMATS.get(name).matches(file)] == ["meeg"]
    x = open_meeg(file, event_id=["square"], **ASKED)
    assert list(x.channel.values) == ["Pz", "Oz"]  # EOG1 is no EEG
    np.testing.assert_allclose(x.values[0], values[:2, 50:61], rtol=1e-6)
    np.testing.assert_allclose(x.onset_s, [1.0, 3.01, 5.0])
    assert x.attrs["units"] == "V"


def test_extra_fields_of_events_are_kept(tmp_path):
    """MNE's annotations lose them."""
    file = tmp_path / "a.set"
    continuous(file)
    x = open_meeg(file, **ASKED)
    assert list(x.stimulus_id.values) == TYPES
    np.testing.assert_array_equal(x.position, [1, np.nan, 2, 2])
    assert list(x.urevent.values) == [1, 2, 3, 4]
    assert list(x.note.values) == ["x", "n/a", "y", "z"]
    sides = open_meeg(file, stimulus_column="position", event_id=["1", "2"], **ASKED)
    assert list(sides.stimulus_id.values) == ["1", "2", "2"]
    assert list(sides.condition.values) == ["square"] * 3


def test_no_window_crosses_a_boundary(tmp_path):
    file = tmp_path / "a.set"
    events = [{"type": kind, "latency": at} for kind, at in (("square", 51.0), ("boundary", 56.5), ("square", 101.0))]
    continuous(file, events=events)
    x = open_meeg(file, **ASKED)
    assert list(x.trial.values) == [1]
    assert list(x.stimulus_id.values) == ["square"]


@SAVED
@pytest.mark.parametrize("fdt", [True, False])
def test_epoched_sets_are_named_by_the_event_they_are_locked_to(tmp_path, save, fdt):
    file = tmp_path / "a.set"
    values = epoched(file, fdt=fdt, save=save)
    x = open_meeg(file, system="s")
    np.testing.assert_allclose(x.values, values[:, :2], rtol=1e-6)
    np.testing.assert_allclose(x.time, -0.2 + np.arange(30) / RATE)
    assert list(x.stimulus_id.values) == ["square", "square", "square", "7"]
    assert list(x.condition.values) == ["square/rt", "rt/square", "square", "7"]
    assert list(x.position.values) == [1, 2, 2, 1]
    assert list(x.urevent.values) == [1, 3, 5, 6]
    assert list(x.repetition.values) == [0, 1, 2, 0]


def test_epochs_that_are_locked_to_nothing(tmp_path):
    file = tmp_path / "a.set"
    epoched(file, epochs=[{"event": 1.0, "eventtype": "square", "eventlatency": 20.0}] * 4)
    with pytest.raises(FormatError, match=r"trial 0 has the events \['square'\] at \[20.0\] ms. Expected one at 0"):
        open_meeg(file, system="s")
    epoched(file, epochs=[{"event": 1.0, "eventtype": "square", "eventlatency": 0.0}] * 3)
    with pytest.raises(FormatError, match="4 trials and describes 3 epochs"):
        open_meeg(file, system="s")


def test_what_is_missing_or_cut_is_named(tmp_path):
    file = tmp_path / "a.set"
    continuous(file)
    fdt = file.with_suffix(".fdt")
    whole = fdt.read_bytes()
    fdt.write_bytes(whole[:-40])
    with pytest.raises(
        FormatError, match=r"a.fdt' has 4760 bytes; 'a.set' promises 4800 \(3 channels, 400 samples, 1 trials, float32\)"
    ):
        open_meeg(file, **ASKED)
    fdt.unlink()
    with pytest.raises(FormatError, match=r"keeps its values in 'a.fdt', which is not in"):
        open_meeg(file, **ASKED)
    continuous(file, data="../a.fdt")
    with pytest.raises(FormatError, match="outside its folder"):
        open_meeg(file, **ASKED)
    continuous(file, fdt=False, pnts=401.0)
    with pytest.raises(FormatError, match=r"data of shape \(3, 400\).* promises \(3, 401, 1\)"):
        open_meeg(file, **ASKED)
    continuous(file, pnts=-1.0)
    with pytest.raises(FormatError, match=r"pnts = \[-1.0\]"):
        open_meeg(file, **ASKED)
    continuous(file, nbchan=2.0, fdt=False)
    with pytest.raises(FormatError, match=r"describes 3 channels \(EEG.chanlocs\) and has nbchan = 2"):
        open_meeg(file, **ASKED)
    continuous(file, events=[{"type": "square", "latency": 3.0}, {"type": "rt", "latency": -3.0}])
    with pytest.raises(FormatError, match=r"event 1 at sample -3.0 \(1-based\) of 400"):
        open_meeg(file, **ASKED)
    continuous(file, events=[{"type": "square", "latency": 900.0}, {"type": "rt", "latency": 3.0}])
    with pytest.raises(FormatError, match=r"event 0 at sample 900.0 \(1-based\) of 400"):
        open_meeg(file, **ASKED)


def test_a_renamed_pair_is_read(tmp_path):
    continuous(tmp_path / "a.set")
    for end in (".set", ".fdt"):
        (tmp_path / f"a{end}").rename(tmp_path / f"b{end}")
    assert open_meeg(tmp_path / "b.set", **ASKED).shape[0] == 4


def test_other_matlab_files_are_left_to_their_reader(tmp_path):
    savemat(tmp_path / "x.mat", {"data": np.zeros((3, 3))})
    assert not is_eeglab(tmp_path / "x.mat")
    assert not is_eeglab(tmp_path)
    assert not adapter.matches(tmp_path / "x.mat")
    (tmp_path / "x.set").write_bytes(b"MATLAB 7.3 MAT-file" + b" " * 600)
    assert is_eeglab(tmp_path / "x.set")
    with pytest.raises(FormatError, match="is no whole MATLAB file"):
        open_meeg(tmp_path / "x.set", **ASKED)


@pytest.mark.parametrize(("kind", "shape"), [(continuous, {"n_channels": 1}), (continuous, {}), (epoched, {})])
def test_version_7_3_equals_version_5(tmp_path, kind, shape):
    fiducials = struct_array(
        [{"type": "FID", "description": name, "X": x, "Y": y, "Z": 0.0} for name, x, y in (("Nasion", 9.0, 0.0), ("Left periauricular point", 0.0, 8.0))]
    )  # fmt: skip
    changes = {"chaninfo": {"plotrad": 0.5, "nodatchans": fiducials}}
    options = ASKED if kind is continuous else {"system": "s"}
    found = []
    for save in (savemat, savemat_7_3):
        file = tmp_path / save.__name__ / "ä.set"
        file.parent.mkdir()
        kind(file, save=save, **shape, **changes)
        found.append(open_meeg(file, **options))
    xr.testing.assert_identical(*(x.drop_attrs() for x in found))
    assert np.isfinite(found[1].x_mm).all()


def test_fields_are_numbers_where_all_are():
    table = event_table(
        [
            {"type": "a", "n": np.array([[1.0]]), "t": "u", "e": []},
            {"type": "b", "n": np.array([[2.5]]), "t": np.zeros((0, 0)), "e": []},
        ]
    )
    assert list(table.columns) == ["n", "t"]
    assert list(table.n) == [1.0, 2.5]
    assert list(table.t) == ["u", "n/a"]


@pytest.mark.parametrize("kind", [continuous, epoched])
def test_damage_of_version_7_3(tmp_path, hdf5_survives_damage, kind):
    file = tmp_path / "a.set"
    kind(file, save=savemat_7_3)
    options = ASKED if kind is continuous else {"system": "s"}
    assert hdf5_survives_damage(file, lambda: open_meeg(file, **options), examples=50) > 30


@pytest.mark.parametrize("kind", ["continuous", "epoched"])
def test_damage_is_survived(tmp_path, survives_damage, kind):
    file = tmp_path / "a.set"
    continuous(file) if kind == "continuous" else epoched(file)
    options = ASKED if kind == "continuous" else {"system": "s"}
    assert survives_damage(file, lambda: open_meeg(file, **options), examples=25)
    if kind == "continuous":
        assert survives_damage(file.with_suffix(".fdt"), lambda: open_meeg(file, **options), examples=5)
