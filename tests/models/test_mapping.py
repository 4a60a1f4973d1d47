import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError

RNG = np.random.default_rng(0)
IDS = [f"s{i}" for i in range(30)]


def source(n_neuroids=6, time=None, ids=IDS, **coords):
    shape = (len(ids), n_neuroids) if time is None else (len(ids), n_neuroids, len(time))
    options = {"modality": "ann", "system": "net", "layer": "l1"} | coords
    return ba.responses(RNG.normal(size=shape), stimulus_id=ids, neuroid_id=range(n_neuroids), time=time, **options)


def target(n_neuroids=3, time=None, **coords):
    shape = (30, n_neuroids) if time is None else (30, n_neuroids, len(time))
    options = {"modality": "meg", "system": "sub-01", "region": "V1", "units": "T"} | coords
    return ba.responses(RNG.normal(size=shape), stimulus_id=IDS, neuroid_id=range(n_neuroids), time=time, **options)


def test_predictions_have_the_targets_neuroids_and_the_sources_presentations():
    x, y = source(session=["a"] * 30), target()
    new = source(ids=["n1", "n2"], session="b")
    out = ba.Ridge(alphas=1.0).fit(x, y).predict(new)
    ba.validate(out, deep=True)
    assert out.dims == ("presentation", "neuroid")
    assert out.stimulus_id.values.tolist() == ["n1", "n2"]
    assert out.session.values.tolist() == ["b", "b"]
    assert out.region.values.tolist() == ["V1"] * 3
    assert "layer" not in out.coords
    assert (out.attrs["modality"], out.attrs["units"]) == ("meg", "T")
    assert ba.core.provenance(out).steps[-1]["verb"] == "predict"
    assert not ba.core.provenance(out).altered


def test_labels_change_no_number():
    x, y = source(), target()
    labelled = ba.Ridge(alphas=1.0).fit(x, y)
    plain = ba.Ridge(alphas=1.0).fit(x.values, y.values)
    np.testing.assert_array_equal(labelled.predict(x).values, plain.predict(x.values))
    assert isinstance(plain.predict(x.values), np.ndarray)
    assert isinstance(labelled.predict(x.values), np.ndarray)
    assert isinstance(plain.predict(x), np.ndarray)


def test_every_time_point_of_the_target_is_a_target():
    x, y = source(), target(time=[0.0, 0.1, 0.2, 0.3])
    model = ba.Ridge(alphas=1.0).fit(x, y)
    out = model.predict(x)
    assert out.dims == ("presentation", "neuroid", "time")
    ba.validate(out, deep=True)
    for t in range(4):
        np.testing.assert_allclose(out[:, :, t], ba.Ridge(alphas=1.0).fit(x, y[:, :, t]).predict(x), atol=1e-6)
    alpha = model.per_target(model.alpha_, "alpha")
    assert alpha.dims == ("neuroid", "time")
    assert alpha.sizes == {"neuroid": 3, "time": 4}
    np.testing.assert_array_equal(alpha.time, y.time)


def test_every_time_point_of_the_source_is_a_feature():
    x, y = source(time=[0.0, 0.1]), target()
    model = ba.Ridge(alphas=1.0).fit(x, y)
    assert model.coef_.shape == (12, 3)
    np.testing.assert_allclose(
        model.predict(x), ba.Ridge(alphas=1.0).fit(x.values.reshape(30, -1), y.values).predict(x.values), atol=1e-6
    )


def test_a_labelled_nan_target_is_declared():
    y = target()
    y[0, 1] = np.nan
    out = ba.Ridge(alphas=1.0).fit(source(), y).predict(source())
    assert np.isnan(out[:, 1]).all()
    ba.validate(out, deep=True)


def test_rows_of_different_stimuli_are_refused():
    x, y = source(), target()
    with pytest.raises(AlignmentError, match=r"2 of 30 positions, first at 4 \(s5 and s4\)"):
        ba.Ridge().fit(x[[*range(4), 5, 4, *range(6, 30)]], y)
    with pytest.raises(AlignmentError, match="29 presentations and the target 30"):
        ba.Ridge().fit(x[1:], y)
    with pytest.raises(AlignmentError, match="29 presentations and the target 30"):
        ba.Ridge().fit(x.values[1:], y.values)


def test_other_features_are_refused():
    x, y = source(), target()
    model = ba.Ridge(alphas=1.0).fit(x, y)
    with pytest.raises(AlignmentError, match="got 5 features"):
        model.predict(x[:, :5])
    with pytest.raises(AlignmentError, match="`neuroid_id` at position 0 is 5"):
        model.predict(x[:, ::-1])


def test_a_bare_vector_is_no_source():
    with pytest.raises(ParameterError, match=r"shape \(30,\)"):
        ba.Ridge().fit(np.zeros(30), np.zeros(30))


def test_plain_targets_have_no_labels_to_give():
    model = ba.Ridge(alphas=1.0).fit(source().values, target().values)
    with pytest.raises(ParameterError, match="plain array"):
        model.per_target(model.alpha_)


def test_a_model_fits_units_from_a_brain_by_the_same_call():
    x, y = source(), target()
    back = ba.Ridge(alphas=1.0).fit(y, x).predict(y)
    assert isinstance(back, xr.DataArray)
    assert back.layer.values.tolist() == ["l1"] * 6
    assert back.attrs["modality"] == "ann"


@pytest.mark.parametrize("sides", [(None, np.ones((3, 1))), (np.ones((3, 1)), None)])
def test_a_side_without_rows_is_named(sides):
    with pytest.raises(ParameterError, match="is None"):
        ba.Ridge().fit(*sides)


def test_a_dataset_is_named():
    x, y = source(), target()
    table = x.to_dataset(name="bold")
    fitted = ba.Ridge().fit(x, y)
    for attempt in (
        lambda: ba.Ridge().fit(table, y),
        lambda: ba.Ridge().fit(x, y.to_dataset(name="bold")),
        lambda: ba.Stacked("layer").fit(table, y),
        lambda: ba.BandedRidge("layer").fit(table, y),
        lambda: ba.Reduce(2).fit(table),
        lambda: fitted.predict(table),
    ):
        with pytest.raises(SchemaError, match=r"is a Dataset\. Expected .*'bold'"):
            attempt()
