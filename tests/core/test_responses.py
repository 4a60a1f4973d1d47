import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainalign as ba
from brainalign.core.errors import BrainAlignError, ParameterError, SchemaError
from brainalign.core.responses import count_repetitions

KNOWN = {"stimulus_id": ["a", "b"], "neuroid_id": ["u", "v"], "modality": "fmri", "system": "sub-01"}
WITH_TIME = {"values": np.ones((2, 2, 2)), "time": [0.0, 0.1]}


def build(values=((1.0, 2.0), (3.0, 4.0)), **changes):
    return ba.responses(values, **{**KNOWN, **changes})


def test_values_and_labels_are_where_they_were_put():
    x = build(region=["V1", "V2"], run="1", onset_s=[0.0, 2.0], units="V")
    assert x.dims == ("presentation", "neuroid")
    assert x.sel(presentation=x.stimulus_id == "b", neuroid=x.region == "V1").item() == 3.0
    assert x.run.values.tolist() == ["1", "1"]
    assert x.attrs["units"] == "V"
    assert x.attrs["modality"] == "fmri"


def test_floats_become_float32_and_counts_stay_whole():
    assert build(np.ones((2, 2))).dtype == np.float32
    assert build(np.ones((2, 2), np.int16)).dtype == np.int16


def test_text_is_of_variable_width_and_integers_name_neuroids_at_no_cost():
    x = build(neuroid_id=[3, 4], region="V1")
    assert x.neuroid_id.dtype == np.int64
    assert {x[name].dtype for name in ("stimulus_id", "system", "region")} == {np.dtypes.StringDType()}


def test_integer_stimulus_ids_are_names_too():
    assert build(stimulus_id=[7, 8]).stimulus_id.values.tolist() == ["7", "8"]


def test_the_callers_array_is_not_changed():
    values = np.ones((2, 2), np.float32)
    build(values).attrs["units"] = "changed"
    assert (values == 1).all()


def test_time_is_in_seconds_with_its_reference():
    x = build(**WITH_TIME, time_reference="run onset")
    assert x.dims == ("presentation", "neuroid", "time")
    assert x.time.values.tolist() == [0.0, 0.1]
    assert x.attrs["time_reference"] == "run onset"
    assert build(np.ones((2, 2, 2)), time=[0, 1]).time.dtype == np.float64


def test_tables_bring_coordinates_of_ones_own():
    rows = pd.DataFrame({"category": ["face", "house"], "pupil": [0.1, np.nan], "onset_s": [0.0, 1.0]})
    x = build(presentation=rows, neuroid={"cell_type": ["PV", "SST"]})
    assert x.category.dims == x.pupil.dims == ("presentation",)
    assert x.category.values.tolist() == ["face", "house"]
    assert x.cell_type.values.tolist() == ["PV", "SST"]


def test_an_argument_is_stronger_than_a_column_and_none_leaves_out():
    x = build(presentation=pd.DataFrame({"stimulus_id": ["x", "y"], "run": ["1", "1"]}), run="2", region=None)
    assert x.stimulus_id.values.tolist() == ["a", "b"]
    assert x.run.values.tolist() == ["2", "2"]
    assert "region" not in x.coords


def test_repetition_is_counted_within_a_person_and_never_trusted():
    ids, subjects = ["a", "a", "a", "b"], ["s1", "s2", "s1", "s1"]
    x = ba.responses(np.ones((4, 1)), stimulus_id=ids, subject=subjects, neuroid_id=[0], modality="eeg", system="s", repetition=9)
    assert x.repetition.values.tolist() == [0, 0, 1, 0]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
@settings(max_examples=30)
def test_repetitions_count_up_from_zero_for_every_stimulus(ids):
    counted = count_repetitions({"stimulus_id": ids})
    for name in set(ids):
        assert counted[np.array(ids) == name].tolist() == list(range(ids.count(name)))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_any_shape_is_valid_and_comes_back_from_its_own_parts(n_rows, n_columns, n_time, seed):
    shape = (n_rows, n_columns, n_time) if n_time else (n_rows, n_columns)
    values = np.random.default_rng(seed).normal(size=shape)
    time = np.arange(n_time) * 0.5 - 1 if n_time else None
    ids = [f"stim {i}" for i in range(n_rows)]
    x = ba.responses(values, stimulus_id=ids, neuroid_id=np.arange(n_columns), modality="meg", system="s", time=time)
    np.testing.assert_array_equal(x.values, values.astype(np.float32))
    again = ba.responses(
        x.values, stimulus_id=x.stimulus_id, neuroid_id=x.neuroid_id, modality=x.attrs["modality"], system=x.system.values,
        time=x.time if n_time else None,
    )  # fmt: skip
    assert again.drop_attrs().identical(x.drop_attrs())
    assert ba.validate(again, deep=True) is again


def test_lazy_values_are_not_read():
    def explode(block):
        raise RuntimeError("read")

    dask_array = pytest.importorskip("dask.array")
    values = dask_array.from_array(np.ones((2, 2))).map_blocks(explode, dtype=float, meta=np.empty((0, 0)))
    x = build(values)
    assert x.dtype == np.float32
    with pytest.raises(RuntimeError, match="read"):
        x.compute()


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"neuroid_id": ["u", "u"]}, SchemaError, r"1 repeated `neuroid_id` values, first u at positions 0 and 1. Expected names"),
        ({"neuroid_id": ["u", "u"], "layer": "h.1"}, SchemaError, r"1 repeated `neuroid_id` values"),
        ({"neuroid_id": ["u", None]}, SchemaError, r"no `neuroid_id` at neuroids 1. Expected a name for each"),
        ({"stimulus_id": ["a", None]}, SchemaError, r"no `stimulus_id` at presentations 1. Expected a name for each"),
        ({"stimulus_id": ["a", np.nan]}, SchemaError, r"no `stimulus_id` at presentations 1"),
        ({"stimulus_id": ["a", ""]}, SchemaError, r"no `stimulus_id` at presentations 1"),
        ({"stimulus_id": [1.0, 2.0]}, SchemaError, r"`stimulus_id` of dtype float64. Expected strings"),
        ({"stimulus_id": ["a", "b", "c"], "values": np.ones((2, 3))}, ParameterError, r"the other way round, `values\.T`"),
        ({"stimulus_id": ["a"]}, ParameterError, r"`stimulus_id` of shape \(1,\). Expected one value, or 2 values, one per presentation"),
        ({"system": None}, ParameterError, r"`system=None`. Expected one value, or 2 values, one per neuroid"),
        ({"presentation": {"run": [1, 2, 3]}}, ParameterError, r"`run` of shape \(3,\). Expected one value, or 2"),
        ({"presentation": {"region": ["a", "b"]}}, ParameterError, r"a column 'region' in `presentation=`.*the name labels neuroid"),
        ({"neuroid": {"stimulus_id": ["a", "b"]}}, ParameterError, r"a column 'stimulus_id' in `neuroid=`.*labels presentation"),
        ({"presentation": {"neuroid": [1, 2]}}, ParameterError, r"a column 'neuroid' in `presentation=`"),
        ({"presentation": {"mine": [1, 2]}, "neuroid": {"mine": [1, 2]}}, ParameterError, r"a column 'mine' in `neuroid=`"),
        ({"regoin": "V1"}, ParameterError, r"unknown coordinate 'regoin'. Did you mean 'region'\? Coordinates of your own go in"),
        ({"modality": "fMRI"}, ParameterError, r"must be one of 'fmri'.* Got 'fMRI' instead. Did you mean 'fmri'\?"),
        ({"onset_s": ["0", "1"]}, SchemaError, r"`onset_s` of dtype .* Expected numbers"),
        ({"values": [[1.0, np.nan], [1.0, 1.0]]}, SchemaError, r"NaN or infinite values in 1 of 2 neuroids \('v'\). Expected finite"),
        ({"values": [[1.0, np.inf], [1.0, 1.0]]}, SchemaError, r"NaN or infinite values in 1 of 2 neuroids"),
        ({"values": [[1.0], [1.0, 2.0]]}, SchemaError, r"values that make no array .*Expected rows of one length"),
        ({"values": [["x", "y"], ["z", "w"]]}, SchemaError, r"dtype <U1. Expected real numbers"),
        ({"values": np.ones((0, 2)), "stimulus_id": []}, SchemaError, r"shape \(0, 2\). Expected at least one entry"),
        ({"values": np.ones(2)}, SchemaError, r"values of shape \(2,\) and time=None. Expected \(presentation, neuroid\)"),
        ({"values": np.ones((2, 2, 2))}, SchemaError, r"values of shape \(2, 2, 2\) and time=None. Expected .*`time=` in seconds"),
        ({"time": [0.0, 1.0]}, SchemaError, r"values of shape \(2, 2\) and time=given"),
        ({**WITH_TIME, "time": [0.1, 0.0]}, SchemaError, r"not increase: 0.1 s is followed by 0 s at position 1"),
        ({**WITH_TIME, "time": ["0 s", "1 s"]}, SchemaError, r"`time` of dtype .*first '0 s'.* Expected seconds as numbers"),
        ({**WITH_TIME, "time": [0.0]}, ParameterError, r"`time` of shape \(1,\). Expected one value, or 2 values, one per time"),
        ({**WITH_TIME, "time_reference": "noon"}, ParameterError, r"'time_reference'.* Got 'noon' instead"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_typed_error_with_the_value_and_the_mend(changes, error, says):
    with pytest.raises(error, match=says) as caught:
        build(**changes)
    assert isinstance(caught.value, BrainAlignError)


def test_one_name_in_two_regions_is_two_neuroids():
    assert build(neuroid_id=["u", "u"], region=["V1", "V2"]).sizes["neuroid"] == 2


def test_declared_nan_is_kept():
    x = build([[1.0, np.nan], [1.0, 1.0]], allow_nan=True)
    assert np.isnan(x.values[0, 1])
    assert ba.validate(x, deep=True) is x


def test_the_first_step_of_the_provenance_is_written():
    steps = ba.core.provenance(build()).steps
    assert [step["verb"] for step in steps] == ["responses"]


@pytest.mark.parametrize("system", [np.nan, "", 3, ["a", np.nan], ["a", None], ["a", ""], [1, 2]])
def test_a_system_has_a_name(system):
    with pytest.raises(ParameterError, match="'system' parameter of responses must be a name"):
        ba.responses([[1.0, 2.0]], stimulus_id=["a"], neuroid_id=[0, 1], modality="ann", system=system)
