import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

import brainalign as ba
from brainalign.core.errors import SchemaError
from brainalign.core.schema import (
    MODALITIES,
    NEUROID_COORDS,
    PRESENTATION_COORDS,
    SCHEMA_VERSION,
    as_labels,
    dim_of,
    group_label,
    validate,
)


def recording(n_time=0, **coords):
    shape = (3, 2, n_time) if n_time else (3, 2)
    time = np.arange(n_time) / 10 if n_time else None
    return ba.responses(
        np.arange(np.prod(shape), dtype=float).reshape(shape), stimulus_id=["a", "b", "c"], neuroid_id=["u", "v"], modality="fmri",
        system="sub-01", time=time, **coords,
    )  # fmt: skip


def flat(x, **attrs):
    """Return a copy with other attrs."""
    return x.copy().assign_attrs(attrs)


def test_every_coordinate_of_the_schema_has_one_dim():
    assert not set(PRESENTATION_COORDS) & set(NEUROID_COORDS)
    assert {dim_of(name) for name in PRESENTATION_COORDS} == {"presentation"}
    assert {dim_of(name) for name in NEUROID_COORDS} == {"neuroid"}
    assert dim_of("time") == "time"
    assert dim_of("anything") is None


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_modality_makes_a_valid_recording_itself_returned(modality):
    x = flat(recording(n_time=4), modality=modality)
    assert validate(x, deep=True) is x


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (np.zeros((3, 2)), r"responses is a ndarray. Expected an xarray.DataArray: build one .* with `ba.responses`"),
        (recording().rename(neuroid="voxel"), r"dims \('presentation', 'voxel'\). Expected .*`x.rename"),
        (recording().T, r"dims \('neuroid', 'presentation'\). Expected .* in this order: .*x.transpose"),
        (recording().isel(presentation=slice(0)), r"shape \(0, 2\). Expected at least one entry"),
        (recording().astype("U1"), r"dtype <U1. Expected real numbers: convert with `x.astype"),
        (recording() * 1j, r"dtype complex\d+. Expected real numbers"),
        (recording().drop_vars("stimulus_id"), r"no `stimulus_id`. Expected one string per presentation: `x.assign_coords"),
        (recording().drop_vars("neuroid_id"), r"no `neuroid_id`. Expected a name or integer per neuroid: `x.assign_coords"),
        (recording().assign_coords(stimulus_id=("presentation", [1, 2, 3])), r"`stimulus_id` of dtype int64. Expected strings"),
        (
            recording().assign_coords(neuroid_id=("neuroid", [0.5, 1.5])),
            r"`neuroid_id` of dtype float64. Expected strings or int",
        ),
        (
            recording().assign_coords(stimulus_id=("presentation", ["a", "", "nan"])),
            r"no `stimulus_id` at presentations 1, 2. Exp",
        ),
        (
            recording().assign_coords(neuroid_id=("neuroid", ["u", ""])),
            r"no `neuroid_id` at neuroids 1. Expected a name for each: n",
        ),
        (
            recording().assign_coords(neuroid_id=("neuroid", ["u", "u"])),
            r"1 repeated `neuroid_id` values, first u at positions 0 and 1. Exp",
        ),
        (
            recording().assign_coords(neuroid_id=("neuroid", [7, 7])),
            r"1 repeated `neuroid_id` values, first 7 at positions 0 and 1. Exp",
        ),
        (
            recording().assign_coords(region=("presentation", ["x", "y", "z"])),
            r"`region` on dims \('presentation',\). Expected \('neur",
        ),
        (
            recording().assign_coords(onset_s=("presentation", ["0", "1", "2"])),
            r"`onset_s` of dtype <U1. Expected numbers: convert",
        ),
        (
            recording().isel(presentation=[0]).assign_coords(stimulus_id="a"),
            r"`stimulus_id` as a scalar. Expected one value per pre",
        ),
        (flat(recording(), modality="fMRI"), r"modality 'fMRI'. Expected one of fmri, .*: set `x.attrs"),
        (flat(recording(), schema_version=None), r"schema_version None. Expected 1: build it with `ba.responses`"),
        (flat(recording(), schema_version=SCHEMA_VERSION + 1), r"schema_version 2, newer than 1, .*: upgrade brainalign"),
        (recording(n_time=3).drop_vars("time"), r"time dim without `time`. Expected seconds as floats: `x.assign_coords"),
        (recording(n_time=3).assign_coords(time=[0, 1, 2]), r"`time` of dtype int64. Expected finite seconds as floats"),
        (recording(n_time=3).assign_coords(time=[0.0, np.nan, 1.0]), "Expected finite seconds as floats"),
        (
            recording(n_time=3).assign_coords(time=[0.0, 0.5, 0.5]),
            r"not increase: 0.5 s is followed by 0.5 s at position 2. .*x.sortby",
        ),
        (recording(n_time=3).assign_coords(time=[0.0, 2.0, 1.0]), r"not increase: 2 s is followed by 1 s at position 2"),
        (flat(recording(n_time=3), time_reference="noon"), r"time_reference 'noon'. Expected one of .*: set `x.attrs"),
    ],
)
def test_what_is_wrong_is_said_with_the_value_and_the_mend(broken, says):
    with pytest.raises(SchemaError, match=says):
        validate(broken)


def test_a_multiindex_is_refused_with_the_way_out():
    pairs = pd.MultiIndex.from_arrays([["a", "b", "c"], [0, 1, 2]], names=("image", "trial"))
    x = recording().assign_coords(xr.Coordinates.from_pandas_multiindex(pairs, "presentation"))
    with pytest.raises(SchemaError, match=r"MultiIndex on .*Expected plain coordinates: use `x.reset_index"):
        validate(x)


def test_one_message_names_every_problem_and_the_array():
    broken = flat(recording(), modality="fMRI").drop_vars("stimulus_id")
    with pytest.raises(SchemaError) as caught:
        validate(broken, name="source")
    message = str(caught.value)
    assert message.startswith("source has no `stimulus_id`")
    assert "\nAlso, it has modality 'fMRI'" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_time", [0, 2])
def test_values_are_read_only_when_asked_and_the_neuroid_is_named(bad, n_time):
    x = recording(n_time=n_time)
    x[2, 1] = bad
    assert validate(x) is x
    with pytest.raises(SchemaError, match=r"NaN or infinite values in 1 of 2 neuroids \('v'\). Expected .* declare NaN with"):
        validate(x, deep=True)
    assert validate(flat(x, allow_nan=True), deep=True) is not None


def test_counts_are_whole_numbers_and_need_no_reading():
    assert validate(recording().astype(np.int32), deep=True).dtype == np.int32


def test_a_lazy_recording_is_checked_without_being_computed():
    def explode(block):
        raise RuntimeError("read")

    dask_array = pytest.importorskip("dask.array")
    lazy = recording().copy(data=dask_array.from_array(np.ones((3, 2))).map_blocks(explode, dtype=float, meta=np.empty((0, 0))))
    assert validate(lazy) is lazy
    with pytest.raises(RuntimeError, match="read"):
        np.asarray(validate(lazy, deep=True))


names = st.integers(0, 4)


@given(
    st.lists(st.tuples(names, st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=12),
    st.sampled_from(["layer", "region"]),
    st.booleans(),
)
@settings(max_examples=60)
def test_names_must_be_unique_within_system_and_group_and_only_there(rows, group, as_text):
    ids, systems, groups = zip(*rows, strict=True)
    coords = {
        "stimulus_id": ("presentation", ["a"]),
        "neuroid_id": ("neuroid", as_labels([f"n{i}" for i in ids]) if as_text else np.array(ids)),
        "system": ("neuroid", as_labels([f"s{i}" for i in systems])),
        group: ("neuroid", as_labels([f"g{i}" for i in groups])),
    }
    attrs = {"modality": "ann", "schema_version": 1}
    x = xr.DataArray(np.zeros((1, len(rows)), np.float32), dims=("presentation", "neuroid"), coords=coords, attrs=attrs)
    if len(set(rows)) == len(rows):
        assert validate(x) is x
    else:
        with pytest.raises(SchemaError, match=f"{len(rows) - len(set(rows))} repeated `neuroid_id` values"):
            validate(x)


def test_groups_of_unknown_layer_do_not_collide():
    x = recording().assign_coords(neuroid_id=("neuroid", [1, 1]), layer=("neuroid", [np.nan, 1.0]))
    assert validate(x) is x


def test_two_positions_of_a_repeated_name_are_the_first_and_its_twin():
    x = ba.responses(
        np.ones((1, 4)),
        stimulus_id=["a"],
        neuroid_id=["u", "v", "w", "x"],
        modality="ann",
        system="s",
        layer=["1", "2", "1", "2"],
    )
    twin = x.assign_coords(neuroid_id=("neuroid", ["u", "v", "v", "v"]))
    with pytest.raises(SchemaError, match=r"first v at positions 1 and 3"):
        validate(twin)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6))
@example(["a\0", "a", "\0"])  # what has a fixed width loses a NUL at the end
@settings(max_examples=30)
def test_labels_keep_their_text_whatever_it_is(texts):
    for given_as in (texts, np.array(texts, dtype=object), pd.Series(texts, dtype=object).to_numpy()):
        labels = as_labels(given_as)
        assert labels.dtype == np.dtypes.StringDType()
        assert labels.tolist() == texts


def test_labels_of_a_recording_keep_theirs():
    x = ba.responses([[1.0]], stimulus_id=["a\0"], neuroid_id=["b\0"], modality="ann", system="c\0")
    assert [x[name].values[0] for name in ("stimulus_id", "neuroid_id", "system")] == ["a\0", "b\0", "c\0"]


@pytest.mark.parametrize("values", [[1, 2], [1.5], [True], np.array(["2020-01-01"], "M8[D]")])
def test_labels_that_are_no_text_keep_their_kind(values):
    assert as_labels(values).dtype == np.asarray(values).dtype


def test_bytes_become_text():
    assert as_labels(np.array([b"cat"])).tolist() == ["cat"]


def test_the_group_is_the_layer_or_the_region_or_none():
    assert group_label(recording(layer="h.1")) == "layer"
    assert group_label(recording(region="V1")) == "region"
    assert group_label(recording()) is None
