import h5py
import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.spikes.nwb import open_nwb
from brainalign.core.errors import FormatError, ParameterError

VALUES = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)


def imaging(nwb, *, values=VALUES, times="rate", scale=1.0, rois=(0, 1, 2, 3)):
    file = nwb()
    table = {"cell_specimen_id": [11, 22, 33, 44], "region": ["VISp"] * 4, "valid_roi": [True, True, False, True]}
    file.table("processing/ophys/ImageSegmentation/plane", table, ids=[501, 502, 503, 504], kind="PlaneSegmentation")
    file.text("general/optophysiology/plane/location", "VISl")
    file.file["processing/ophys/ImageSegmentation/plane/imaging_plane"] = h5py.SoftLink("/general/optophysiology/plane")
    series = file.file.create_group("processing/ophys/DfOverF/RoiResponseSeries")
    series.attrs["neurodata_type"] = "RoiResponseSeries"
    series["data"] = values
    series["data"].attrs.update({"unit": "dF/F", "conversion": scale})
    series["rois"] = np.array(rois)
    series["rois"].attrs["table"] = file.file["processing/ophys/ImageSegmentation/plane"].ref
    if isinstance(times, str):
        series["starting_time"] = 10.0
        series["starting_time"].attrs.update({"rate": 30.0, "unit": "seconds"})
    elif times is not None:
        series["timestamps"] = times
    return file.done()


def test_traces_frame_by_frame(nwb):
    x = ba.open_responses(imaging(nwb), system="m", series="DfOverF")
    np.testing.assert_array_equal(x.values, VALUES)
    np.testing.assert_allclose(x.onset_s, 10 + np.arange(60) / 30)
    assert x.neuroid_id.values.tolist() == [501, 502, 503, 504]
    assert x.cell_specimen_id.values.tolist() == [11, 22, 33, 44]
    assert set(x.region.values) == {"VISl"}
    assert set(x.roi_region.values) == {"VISp"}
    assert (x.attrs["units"], x.attrs["modality"]) == ("dF/F", "calcium")
    assert float(x.sampling_rate_hz[0]) == pytest.approx(30)
    assert x.stimulus_id.values[2] == "run-1/f00002"
    params = ba.core.provenance(x).steps[1]["params"]
    assert params["series"] == "processing/ophys/DfOverF/RoiResponseSeries"
    assert params["times_from"] == "starting_time and rate"


def test_rows_of_the_segmentation_name_the_columns_not_their_order(nwb):
    x = open_nwb(imaging(nwb, rois=(3, 1, 0, 2)), system="m", series="RoiResponseSeries")
    assert x.neuroid_id.values.tolist() == [504, 502, 501, 503]
    assert x.cell_specimen_id.values.tolist() == [44, 22, 11, 33]


def test_means_around_events_and_scale(nwb):
    times = np.sort(np.random.default_rng(1).uniform(0, 6, 60))
    path = imaging(nwb, times=times, scale=0.01)
    events = pd.DataFrame({"stimulus_id": ["a", "b"], "onset_s": [1.0, 3.0]})
    x = open_nwb(path, system="m", series="DfOverF", events=events, edges_s=[-0.5, 0.0, 1.0])
    inside = (times >= 3.0) & (times < 4.0)
    np.testing.assert_allclose(x.values[1, :, 1], VALUES[inside].mean(0) * 0.01, rtol=1e-5)
    assert x.dims == ("presentation", "neuroid", "time")
    assert "sampling_rate_hz" not in x.coords


def test_a_block_of_neuroids_or_frames_reads_its_own_chunks(nwb, bytes_read):
    values = np.zeros((20_000, 50), dtype=np.float32)
    path = imaging(nwb, rois=range(4))
    with h5py.File(path, "r+") as file:
        series = file["processing/ophys/DfOverF/RoiResponseSeries"]
        del series["data"], series["rois"]
        series.create_dataset("data", data=values, chunks=(1000, 5))  # 20 kB each
        series["rois"] = np.arange(50)
    assert bytes_read(open_nwb, path, system="m", series="DfOverF") < 200_000
    x = open_nwb(path, system="m", series="DfOverF")
    assert bytes_read(x[:, :5].compute) < 20 * 20_000 + 300_000
    assert bytes_read(x[:1000].compute) < 10 * 20_000 + 300_000


def test_values_that_are_not_finite_name_their_neuroid(nwb):
    values = VALUES.copy()
    values[7, 2] = np.nan
    x = open_nwb(imaging(nwb, values=values), system="m", series="DfOverF")
    assert np.isfinite(x[:, :2].values).all()
    with pytest.raises(FormatError, match=r"session.nwb' holds 1 values .* the first at \(7, 2\): neuroid 2"):
        x.compute()
    assert np.isnan(open_nwb(imaging(nwb, values=values), system="m", series="DfOverF", allow_nan=True).values).sum() == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"times": None}, "neither `timestamps` nor a `starting_time`"),
        ({"times": np.arange(59.0)}, r"has 60 frames, and there are times of shape \(59,\)"),
        ({"times": np.arange(60.0)[::-1]}, "go from 59 to 58 s"),
        ({"values": VALUES.T}, r"60 columns and 4 rois. Its data seem to lie as \(region of interest, frame\)"),
        ({"rois": (0, 1, 2, 4)}, r"names roi 4, and .* has 4 rows"),
    ],
)
def test_series_that_cannot_be(nwb, options, says):
    with pytest.raises(FormatError, match=says):
        open_nwb(imaging(nwb, **options), system="m", series="DfOverF")


@pytest.mark.parametrize(
    ("lost", "says"),
    [("data", r"has no `data` of numbers, .* It holds \['rois'"), ("rois", "has no `rois`, so its columns have no names")],
)
def test_what_a_series_lacks_is_named(nwb, lost, says):
    path = imaging(nwb)
    with h5py.File(path, "r+") as file:
        del file["processing/ophys/DfOverF/RoiResponseSeries"][lost]
    with pytest.raises(FormatError, match=says):
        open_nwb(path, system="m", series="DfOverF")


@pytest.mark.parametrize(("unit", "fits"), [("seconds", True), ("Second", True), ("milliseconds", False), (b"ms", False)])
def test_times_in_other_units_are_refused(nwb, unit, fits):
    path = imaging(nwb)
    with h5py.File(path, "r+") as file:
        series = file["processing/ophys/DfOverF/RoiResponseSeries"]
        series["timestamps" if "timestamps" in series else "starting_time"].attrs["unit"] = unit
    if fits:
        open_nwb(path, system="m", series="DfOverF")
    else:
        with pytest.raises(FormatError, match=r"RoiResponseSeries' has '.*' in 'm.*s'. Expected seconds"):
            open_nwb(path, system="m", series="DfOverF")


def test_edges_and_events_go_together(nwb):
    with pytest.raises(ParameterError, match="edges_s= without events="):
        open_nwb(imaging(nwb), system="m", series="DfOverF", edges_s=[0, 1])
    with pytest.raises(FormatError, match=r"has 0 series named 'Fluo'. It has 'processing/ophys/DfOverF/RoiResponseSeries'"):
        open_nwb(imaging(nwb), system="m", series="Fluo")
