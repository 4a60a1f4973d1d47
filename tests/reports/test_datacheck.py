import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.reports import check, findings, report


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=40, n_repeats=3, random_state=0)


def names(x, **options):
    return findings(check(x, **options))["check"].tolist()


@pytest.mark.parametrize("recording", ["fmri", "bold", "meg", "spikes", "network"])
def test_nothing_stands_out_in_a_clean_recording(study, recording):
    x = getattr(study, recording)
    stimuli = study.events if recording == "bold" else None
    assert names(x, stimuli=stimuli) == []
    assert names(x.chunk({"presentation": 7, "neuroid": 11}), stimuli=stimuli, max_memory=2**20) == []


def spoilt(x, **changes):
    out = x.copy(deep=True)
    for function in changes.values():
        function(out)
    return out


def constant(x):
    x.values[:, 3] = 7.0


def duplicated(x):
    x.values[:, 5] = x.values[:, 4]


def clipped(x):
    x.values[:, 7] = np.clip(x.values[:, 7], -0.2, None)


def equal_rows(x):
    x.values[9] = x.values[2]


def test_findings_are_those_of_a_check(study):
    with pytest.raises(ParameterError, match="findings got a DataArray that"):
        findings(study.fmri)


def test_each_planted_defect_is_found_where_it_is_and_nothing_else(study):
    planted = {
        "constant neuroids": (constant, "'V1-003'"),
        "duplicated time courses": (duplicated, "'V1-005'"),
        "clipped values": (clipped, "'V1-007'"),
        "equal presentations of different stimuli": (equal_rows, "run-1/v00009 = run-1/v00002"),
    }
    for name, (spoil, where) in planted.items():
        x = spoilt(study.bold, spoil=spoil)
        for version in (x, x.chunk({"presentation": 10, "neuroid": 8})):
            (row,) = findings(check(version)).itertuples()
            assert (row.check, row.severity, row.n) == (name, "warning", 1)
            assert where in row.where
            assert row.mend
    everything = spoilt(study.bold, **{name: spoil for name, (spoil, _) in planted.items()})
    assert sorted(names(everything)) == sorted(planted)


def test_nan_is_the_error_that_validate_raises(study):
    x = study.fmri.copy(deep=True)
    x.values[3, 2] = np.nan
    with pytest.raises(SchemaError) as caught:
        ba.validate(x, deep=True)
    (row,) = findings(check(x)).itertuples()
    assert (row.severity, row.n) == ("error", 1)
    assert f"responses {row.what} {row.mend}" == str(caught.value)
    assert names(x.assign_attrs(allow_nan=True)) == ["declared NaN"]
    assert check(x).status.values[2] == "not finite"


def test_wrong_labels_are_the_errors_that_validate_raises(study):
    x = study.fmri.drop_vars("stimulus_id").assign_attrs(modality="mri")
    with pytest.raises(SchemaError) as caught:
        ba.validate(x)
    found = findings(check(x))
    assert found.severity.tolist() == ["error", "error"]
    assert all(what in str(caught.value) for what in found.what)
    with pytest.raises(SchemaError, match="check got a list"):
        check([1, 2])


def test_units_that_cannot_be(study):
    volts = study.meg.assign_attrs(modality="eeg", units="V")
    assert names(volts) == ["implausible scale"]
    assert names((volts * 1e-5).assign_attrs(volts.attrs)) == []
    assert names(volts.assign_attrs(units="µV")) == []
    percent = study.fmri.assign_attrs(units="% signal change")
    assert names(percent) == []
    assert names((percent * 300).round().assign_attrs(percent.attrs)) == ["implausible scale"]
    assert names((study.spikes - 1).assign_attrs(study.spikes.attrs)) == ["negative counts"]


def test_time_axis(study):
    uneven = study.meg.isel(time=[0, 1, 2, 3, 5, 6])
    assert names(uneven) == ["irregular time axis"]
    assert names(study.meg.assign_coords(time=study.meg.time * 1000)) == ["time axis in milliseconds?"]


def test_onsets_of_volumes(study):
    x = study.bold
    assert names(x.isel(presentation=np.r_[:20, 21 : x.sizes["presentation"]])) == ["irregular spacing"]
    swapped = np.arange(x.sizes["presentation"])
    swapped[[5, 30]] = swapped[[30, 5]]
    assert "onsets that go back" in names(x.isel(presentation=swapped))
    assert names(x.assign_coords(duration_s=x.duration_s * 2)) == ["overlapping events"]
    assert names(x.assign_coords(onset_s=x.onset_s * 1000, duration_s=x.duration_s * 1000)) == ["onsets in milliseconds?"]


def test_events_beside_the_run(study):
    found = findings(check(study.bold.isel(presentation=slice(0, 50)), stimuli=study.events[study.events.run == "1"]))
    assert found["check"].tolist() == ["events beyond the run"]
    assert found.n[0] == (study.events[study.events.run == "1"].onset_s >= 100).sum()
    assert "run 1, which ends at 100 s" in found["where"][0]


def test_ids(study):
    ids = study.fmri.stimulus_id.values.astype(object)
    x = study.fmri.assign_coords(
        stimulus_id=("presentation", np.where(ids == "stim-0001", "Stim-0002 ", ids).astype(np.dtypes.StringDType()))
    )
    assert names(x, stimuli=study.stimuli) == ["ids that differ by case or spaces", "ids that match no stimulus"]
    wrong = study.fmri.assign_coords(repetition=("presentation", study.fmri.repetition.values[::-1].copy()))
    assert names(wrong) == ["repetitions that do not count"]


def test_what_the_dataset_holds(study, tmp_path):
    result = check(study.bold)
    np.testing.assert_allclose(result.sd, study.bold.std("presentation"), rtol=1e-4)
    np.testing.assert_array_equal(result.maximum, study.bold.max("presentation"))
    assert set(result.status.values) == {"ok"}
    ba.save(result, tmp_path / "s.zarr", name="check")
    back = ba.open_study(tmp_path / "s.zarr")["results/check"].to_dataset()
    xr.testing.assert_identical(back.compute(), result)
    page = report(result, tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 5
    assert "no findings" in page


def test_memory_is_bounded_and_checked(study):
    with pytest.raises(ParameterError, match="'max_memory' parameter of check must be an int"):
        check(study.fmri, max_memory="1 GB")
    with pytest.raises(ParameterError, match=r"'max_memory' parameter of check leaves 1 bytes"):
        check(study.meg, max_memory=10)
    read = []

    def block(block_info=None):
        shape = block_info[None]["chunk-shape"]
        read.append(shape)
        return np.random.default_rng(len(read)).normal(size=shape).astype("f4")

    data = da.map_blocks(block, chunks=((100,) * 10, (50,) * 4), dtype="f4", meta=np.empty((0, 0), "f4"))
    x = ba.responses(data, stimulus_id=np.arange(1000), neuroid_id=np.arange(200), modality="ann", system="net")
    assert isinstance(findings(check(x)), pd.DataFrame)
    assert len(read) == 40  # each chunk once
