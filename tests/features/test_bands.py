import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.provenance import is_lazy, provenance
from brainalign.features.bands import band_labels


def space(values, ids, **more):
    values = np.asarray(values)
    more = {"neuroid_id": range(values.shape[1]), "system": "net", "modality": "ann", **more}
    return ba.responses(values, stimulus_id=ids, **more)


@settings(max_examples=25)
@given(st.permutations(range(6)), st.permutations(range(6)))
def test_rows_are_joined_by_name_in_any_order(one, two):
    ids = np.array(list("abcdef"))
    a, b = np.arange(12.0).reshape(6, 2), np.arange(18.0).reshape(6, 3) + 100
    got = ba.bands(a=space(a[one], ids[one]), b=space(b[two], ids[two]))
    assert got.stimulus_id.values.tolist() == ids[one].tolist()
    np.testing.assert_array_equal(got.values, np.hstack([a, b])[one])


def test_labels_of_all_spaces():
    a = space(np.ones((2, 2)), ["x", "y"], layer="h1", x_mm=[1.0, 2.0], system="gpt")
    b = space(np.ones((2, 1)), ["x", "y"], region="V1", unit=[5], system="sub-01", neuroid_id=["v"])
    got = ba.validate(ba.bands(text=a, brain=b), deep=True)
    assert got.band.values.tolist() == ["text", "text", "brain"]
    assert got.neuroid_id.values.tolist() == ["text/0", "text/1", "brain/v"]
    assert got.layer.values.tolist() == ["h1", "h1", ""]
    assert got.region.values.tolist() == ["", "", "V1"]
    assert got.system.values.tolist() == ["gpt", "gpt", "sub-01"]
    np.testing.assert_array_equal(got.x_mm.values, [1, 2, np.nan])
    np.testing.assert_array_equal(got.unit.values, [np.nan, np.nan, 5])
    assert set(provenance(got).steps[-1]["inputs"]) == {"text", "brain"}


def test_scalar_labels_belong_to_their_own_space():
    a = space(np.ones((2, 2)), ["x", "y"]).drop_vars("system").assign_coords(system="one")
    b = space(np.ones((2, 1)), ["x", "y"], system="two")
    assert ba.bands(a=a, b=b).system.values.tolist() == ["one", "one", "two"]


def test_repeated_stimuli_are_joined_on_run_and_time():
    a = space([[1.0], [2.0], [3.0]], ["x", "x", "x"], run=["1", "1", "2"], onset_s=[0.0, 0.3, 0.0])
    b = space([[30.0], [20.0], [10.0]], ["x", "x", "x"], run=["2", "1", "1"], onset_s=[0.0, 3 * 0.1, 0.0])
    assert ba.bands(a=a, b=b).values.tolist() == [[1, 10], [2, 20], [3, 30]]


def test_repeated_stimuli_without_times_are_joined_by_count():
    a = space([[1.0], [2.0], [3.0]], ["x", "y", "x"])
    b = space([[10.0], [30.0], [20.0]], ["x", "x", "y"])
    assert ba.bands(a=a, b=b).values.tolist() == [[1, 10], [2, 20], [3, 30]]


def test_values_are_not_scaled_and_counts_meet_floats_as_float32():
    a = space(np.array([[1], [5]]), ["x", "y"])
    b = space([[0.5], [1e6]], ["x", "y"])
    got = ba.bands(a=a, b=b)
    assert got.dtype == np.float32
    assert got.values.tolist() == [[1, 0.5], [5, 1e6]]
    assert ba.bands(a=a, b=a).dtype == a.dtype


def test_lazy_spaces_stay_lazy():
    a = space(np.ones((2, 2)), ["x", "y"])
    got = ba.bands(a=a.chunk({"neuroid": 1}), b=a)
    assert is_lazy(got)
    assert got.values.tolist() == [[1] * 4] * 2


def test_flags_hold_as_far_as_they_hold_for_all():
    a = space(np.ones((1, 1)), ["x"], deterministic=True, units="V")
    b = space(np.ones((1, 1)), ["x"], deterministic=False, units="mV", allow_nan=True)
    got = ba.bands(a=a, b=b)
    assert got.attrs["deterministic"] is False
    assert got.attrs["allow_nan"] is True
    assert "units" not in got.attrs


def test_bad_input():
    a, b = space(np.ones((2, 1)), ["x", "y"]), space(np.ones((2, 1)), ["x", "z"])
    with pytest.raises(AlignmentError, match=r"'b' lacks 'y' and has 'z' besides"):
        ba.bands(a=a, b=b)
    with pytest.raises(AlignmentError, match="'a' has 2 presentations and 'b' 1"):
        ba.bands(a=a, b=a[:1])
    with pytest.raises(ParameterError, match="no feature space"):
        ba.bands()
    with pytest.raises(ParameterError, match=r"'c', which has bands already \('a', 'b'\)"):
        ba.bands(c=ba.bands(a=a, b=a))
    timed = space(np.ones((2, 1, 2)), ["x", "y"], time=[0.0, 0.1])
    with pytest.raises(ParameterError, match="different time axes"):
        ba.bands(a=a, b=timed)
    with pytest.raises(ParameterError, match="different time axes"):
        ba.bands(a=timed.assign_coords(time=[0.0, 0.2]), b=timed)


def test_each_feature_has_its_band():
    x = ba.bands(b=space(np.ones((2, 2)), ["x", "y"]), a=space(np.ones((2, 1)), ["x", "y"]))
    names, codes = band_labels("band", x, owner="F")
    assert (names.tolist(), codes.tolist()) == (["b", "a"], [0, 0, 1])
    timed = space(np.ones((1, 1, 2)), ["x"], time=[0.0, 0.1])
    assert band_labels("band", ba.bands(a=timed, b=timed), owner="F")[1].tolist() == [0, 0, 1, 1]
    names, codes = band_labels([3, 1, 3], x, owner="F")
    assert (names.tolist(), codes.tolist()) == (["3", "1"], [0, 1, 0])
    with pytest.raises(
        ParameterError, match=r"'bands' parameter of F is 'lag', which is no neuroid coordinate of the source \('band', "
    ):
        band_labels("lag", x, owner="F")
    with pytest.raises(ParameterError, match=r"'bands' parameter of F is 'band', .*none: the source is a plain array"):
        band_labels("band", x.values, owner="F")
    with pytest.raises(SchemaError, match="1 of 3 features have no `bands`"):
        band_labels(["a", None, "b"], x, owner="F")
    with pytest.raises(ParameterError, match=r"has the shape \(2,\)\. Expected one label for each of 3 features"):
        band_labels([1, 2], x, owner="F")
