import h5py
import numpy as np
import pytest
from scipy.io import savemat

import brainalign as ba
from brainalign.adapters.matlab import adapter, open_matlab
from brainalign.core.errors import FormatError, ParameterError

WHO = {"modality": "calcium", "system": "m1"}
TRIALS = ("presentation", "time")
VALUES = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)  # presentation, neuroid, time


def cells(rows):
    out = np.empty(len(rows), dtype=object)
    out[:] = [np.asarray(row) for row in rows]
    return out


@pytest.fixture
def recording(tmp_path):
    """Return a file with the same responses as a struct of cell arrays and as one array."""
    content = {
        "D": {"neuron1": cells(list(VALUES[:, 0])), "neuron2": cells(list(VALUES[:, 1])), "speed": cells(list(VALUES[:, 0] * 2))},
        "TE": {"direction": np.array([45.0, 0.0, 45.0])},
        "t": np.array([-0.1, 0.0, 0.1, 0.2]),
        "cube": np.transpose(VALUES, (1, 0, 2)),
        "flat": VALUES[:, :, 0],
        "names": cells(["c1", "c2"]),
        "long": cells([np.zeros(4), np.zeros(3), np.zeros(4)]),
    }
    savemat(tmp_path / "m.mat", content)
    return tmp_path / "m.mat"


def test_a_field_for_each_neuroid(recording):
    assert adapter.matches(recording)
    x = open_matlab(
        recording, values="D.neuron*", dims=TRIALS, stimulus_id="TE.direction", stimulus_format="direction-{:03d}", time="t",
        presentation={"condition": "TE.direction"}, units="dF/F", **WHO,
    )  # fmt: skip
    np.testing.assert_array_equal(x.values, VALUES)
    assert list(x.neuroid_id.values) == ["neuron1", "neuron2"]
    assert list(x.stimulus_id.values) == ["direction-045", "direction-000", "direction-045"]
    assert list(x.repetition.values) == [0, 0, 1]
    np.testing.assert_array_equal(x.condition, [45, 0, 45])
    np.testing.assert_allclose(x.time, [-0.1, 0, 0.1, 0.2])
    assert x.attrs["units"] == "dF/F"
    ba.validate(x, deep=True)


def test_other_fields_are_neuroids_only_where_asked(recording):
    options = {"dims": TRIALS, "stimulus_id": ["a", "b", "a"], "time": "t", **WHO}
    x = open_matlab(recording, values=["D.neuron*", "D.speed"], **options)
    assert list(x.neuroid_id.values) == ["neuron1", "neuron2", "speed"]
    with pytest.raises(ParameterError, match="name the field 'neuron1' twice"):
        open_matlab(recording, values=["D.neuron*", "D.neuron1"], **options)


def test_one_array_with_named_axes(recording):
    options = {"stimulus_id": ["a", "b", "a"], **WHO}
    x = open_matlab(recording, values="cube", dims=("neuroid", "presentation", "time"), neuroid_id="names", time="t", **options)
    np.testing.assert_array_equal(x.values, VALUES)
    assert list(x.neuroid_id.values) == ["c1", "c2"]
    flat = open_matlab(
        recording, values="flat", dims=("presentation", "neuroid"), neuroid_id=[7, 9], neuroid={"region": "names"}, **options
    )
    np.testing.assert_array_equal(flat.values, VALUES[:, :, 0])
    assert list(flat.region.values) == ["c1", "c2"]
    ms = open_matlab(
        recording,
        values="cube",
        dims=("neuroid", "presentation", "time"),
        neuroid_id="names",
        time=[0, 1, 2, 3],
        time_unit="ms",
        **options,
    )
    np.testing.assert_allclose(ms.time, [0, 0.001, 0.002, 0.003])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"values": "cube", "dims": ("neuroid", "presentation", "time"), "time": "t"}, "no neuroid_id .* list of 2 names"),
        ({"values": "cube", "dims": ("neuroid", "presentation"), "neuroid_id": "names"}, r"shape \(2, 3, 4\), and dims name 2"),
        ({"values": "cube", "dims": ("x", "presentation"), "neuroid_id": "names"}, "Expected names among"),
        ({"values": "D.*", "dims": ("presentation", "neuroid"), "neuroid_id": "names"}, "one field with a neuroid axis"),
        ({"values": "flat", "dims": ("presentation", "neuroid"), "neuroid_id": ["a"]}, "1 names for 2 neuroids"),
        ({"values": "flat", "dims": ("presentation", "neuroid"), "neuroid_id": "names", "time": "t"}, "has no time"),
        ({"values": "D.neuron*", "dims": TRIALS}, "no time="),
        ({"values": "D.neuron*", "dims": TRIALS, "time": "t", "time_unit": "us"}, "'time_unit'"),
        ({"values": "D.neuron*", "dims": TRIALS, "time": "t", "stimulus_format": "{:03d}"}, "does not fit the label 'a'"),
        ({"values": "D.neuron*", "dims": TRIALS, "time": [0.0, 1.0]}, r"'m.mat': .*`time` of shape \(2,\)"),
    ],
)
def test_what_could_be_mistaken_must_be_said(recording, options, says):
    with pytest.raises(ParameterError, match=says):
        open_matlab(recording, stimulus_id=["a", "b", "a"], **options, **WHO)


def test_fields_that_do_not_fit_are_named(recording, tmp_path):
    options = {"dims": TRIALS, "time": "t", **WHO}
    with pytest.raises(FormatError, match=r"no field 'directions'. Its fields are 'direction'. Did you mean 'direction'"):
        open_matlab(recording, values="D.neuron*", stimulus_id="TE.directions", **options)
    with pytest.raises(FormatError, match=r"'long' holds 3 cells of sizes 3, 4"):
        open_matlab(recording, values="long", stimulus_id="TE.direction", **options)
    with pytest.raises(FormatError, match=r"'speed' has shape|'cube' has shape"):
        open_matlab(recording, values=["flat", "D.speed"], stimulus_id="TE.direction", **options)
    with pytest.raises(FormatError, match=r"cell array 'names' holds 2 cells of sizes 1. Expected vectors of numbers"):
        open_matlab(recording, values="names", stimulus_id="TE.direction", **options)
    with pytest.raises(ParameterError, match=r"'D.neuron\*' names 2 fields of .*: 'neuron1', 'neuron2'"):
        open_matlab(recording, values="D.neuron*", stimulus_id="D.neuron*", **options)
    with pytest.raises(FormatError, match=r"the field 'flat' has shape .* Expected one label a row"):
        open_matlab(recording, values="D.neuron*", stimulus_id="flat", **options)
    savemat(tmp_path / "nan.mat", {"x": np.array([[1.0, np.nan], [1.0, 2.0]])})
    with pytest.raises(FormatError, match=r"nan.mat' holds 1 values .* first in row 0 of 'b'"):
        open_matlab(
            tmp_path / "nan.mat",
            values="x",
            dims=("presentation", "neuroid"),
            stimulus_id=["p", "q"],
            neuroid_id=["a", "b"],
            **WHO,
        )


@pytest.mark.real
def test_mouse_files_open_with_their_shapes_and_units(shared_data):
    cells_of = {"mrcuts25": 53, "mrcuts28": 56, "mrcuts24": 28, "mrcuts26": 74}
    files = sorted(shared_data("mouse-v1-gratings").glob("*.mat"))
    assert len(files) == 4
    for file in files:
        mouse = file.name.split("_")[1]
        x = open_matlab(
            file, values="D.neuron*", dims=TRIALS, stimulus_id="TE.direction", stimulus_format="direction-{:03d}", time="t",
            modality="calcium", system=mouse, units="z-scored dF/F",
        )  # fmt: skip
        assert x.shape == (128, cells_of[mouse], 49)
        assert sorted(set(x.stimulus_id.values)) == [f"direction-{angle:03d}" for angle in range(0, 360, 45)]
        assert int(x.repetition.max()) == 15
        np.testing.assert_allclose(x.time.values, np.arange(49) * 0.0625 - 1)
        assert -9 < float(x.min()) < 0 < float(x.max()) < 9
        with_behaviour = open_matlab(
            file, values=["D.neuron*", "D.pupil_zscore", "D.speed"], dims=TRIALS, stimulus_id="TE.direction", time="t",
            modality="calcium", system=mouse,
        )  # fmt: skip
        assert with_behaviour.sizes["neuroid"] == cells_of[mouse] + 2


def test_a_large_array_of_version_7_3_stays_in_its_file(tmp_path, bytes_read):
    values = np.arange(1000 * 60 * 100, dtype=np.float32).reshape(1000, 60, 100)  # time, neuroid, presentation: 24 MB
    file = tmp_path / "a.mat"
    with h5py.File(file, "w", userblock_size=512) as opened:
        opened.create_group("D").create_dataset("cube", data=values, chunks=(1000, 6, 10)).attrs["MATLAB_class"] = np.bytes_(
            "single"
        )
    with file.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    options = {
        "values": "D.cube", "dims": ("presentation", "neuroid", "time"), "stimulus_id": [f"s{i}" for i in range(100)],
        "neuroid_id": np.arange(60), "time": np.arange(1000) / 1000, **WHO,
    }  # fmt: skip
    assert bytes_read(open_matlab, file, **options) < 300_000
    x = ba.open_responses(file, **options)
    assert x.chunks is not None
    np.testing.assert_array_equal(x[3:5, 7].values, values[:, 7, 3:5].T)
    assert bytes_read(x[:, 40:].compute) < values.nbytes / 2
    with h5py.File(file, "r+") as opened:
        opened["D/cube"][5, 41, 99] = np.nan
    x = open_matlab(file, **options)
    with pytest.raises(FormatError, match=r"a.mat' holds 1 values that are NaN or infinite, the first in row [0-9]+ of '41'"):
        x.compute()
