"""SpatialReadout: planted receptive fields come back, and labels, layers and kinds of source make no difference."""

import numpy as np
import pytest
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError

METHODS = ("fwrf", "factorised")


def hits(model, place, side):
    """Share of targets whose receptive field lies within its planted place."""
    truth = np.stack([(place % side + 0.5) / side - 0.5, 0.5 - (place // side + 0.5) / side])
    found = np.stack([model.rf_["rf_x"], model.rf_["rf_y"]])
    return float((np.abs(found - truth).max(axis=0) < 0.5 / side + 1e-9).mean())


def test_planted_fields_are_found_and_predict_where_ridge_cannot(fixed_fields, held_out_r):
    """Cards 2 and 4, at their size: 8 × 8 places, 16 channels, 500 pictures; the oracle's r is .707."""
    x, y, place = fixed_fields()
    pools, factorised = ba.SpatialReadout(), ba.SpatialReadout("factorised")
    assert held_out_r(pools, x, y) > 0.66
    assert held_out_r(factorised, x, y) > 0.58
    assert held_out_r(ba.Ridge(), x, y) < 0.40
    for model in (pools, factorised):
        assert hits(model, place, 8) >= 0.95
        assert not model.alpha_at_edge_.any()


def test_a_mask_that_no_pool_has_is_fitted(fixed_fields, held_out_r):
    """Two places with weights of opposite sign: the best Gaussian pool has half of the signal."""
    x, _, _ = fixed_fields(n=900, side=6, n_channels=6)
    rng = np.random.default_rng(1)
    maps = x.values.reshape(900, 36, 6)
    signal = (maps[:, 3] - maps[:, 31]) @ rng.normal(size=(6, 8))
    y = ba.responses(signal / signal.std(axis=0) + rng.normal(size=signal.shape), stimulus_id=x.stimulus_id.values,
                     neuroid_id=range(8), modality="fmri", system="s")  # fmt: skip
    model = ba.SpatialReadout("factorised")
    assert held_out_r(model, x, y) > 0.62
    assert held_out_r(ba.SpatialReadout(), x, y) < 0.55
    assert (model.steps_ > 0).all()
    strongest = np.argsort(np.abs(model.masks().values), axis=1)[:, -2:]
    assert (np.sort(strongest, axis=1) == [3, 31]).all()
    np.testing.assert_allclose((model.masks() ** 2).sum("place"), 1.0, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_fields_and_masks_are_labelled(fixed_fields, method):
    x, y, place = fixed_fields(n=300, side=4, n_channels=3, n_neuroids=5)
    model = ba.SpatialReadout(method).fit(x, y)
    out = model.predict(x)
    ba.validate(out, deep=True)
    np.testing.assert_array_equal(out.rf_x, model.rf_["rf_x"])
    assert out.region.values.tolist() == ["V1"] * 5
    masks = model.masks()
    assert masks.dims == ("neuroid", "place")
    assert masks.sizes == {"neuroid": 5, "place": 16}
    peak = masks.isel(place=masks.argmax("place"))
    np.testing.assert_array_equal(peak.channel_x, place % 4)
    np.testing.assert_array_equal(peak.channel_y, place // 4)
    assert (masks.layer.values == "conv1").all()
    with pytest.raises(ParameterError, match="per_target of SpatialReadout needs labels"):
        ba.SpatialReadout(method).fit(x, y.values).masks()


@pytest.mark.parametrize("method", METHODS)
def test_the_flattened_weights_are_the_prediction(fixed_fields, method):
    x, y, _ = fixed_fields(n=200, side=4, n_channels=3, n_neuroids=5)
    model = ba.SpatialReadout(method, dtype="float64").fit(x, y)
    np.testing.assert_allclose(x.values @ model.coef_ + model.intercept_, model.predict(x).values, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_shape_says_of_a_plain_array_what_labels_say(fixed_fields, method):
    x, y, _ = fixed_fields(n=200, side=4, n_channels=3, n_neuroids=5)
    maps = x.values.reshape(200, 4, 4, 3).transpose(0, 3, 1, 2)
    plain, labelled = ba.SpatialReadout(method, cv=4), ba.SpatialReadout(method, cv=4, groups=np.arange(200) // 50)
    prediction = plain.fit(maps, y.values).predict(maps)
    assert isinstance(prediction, np.ndarray)
    np.testing.assert_allclose(prediction, labelled.fit(x, y).predict(x).values, atol=1e-4)


def test_maps_of_any_resolution_are_pooled_in_one_field_of_view(held_out_r):
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(600, 2, 8, 8)), rng.normal(size=(600, 3, 4, 4))
    signal = fine[:, :, 2:4, 4:6].mean(axis=(2, 3)) @ rng.normal(size=(2, 6)) * 2 + coarse[:, :, 1, 2] @ rng.normal(size=(3, 6))
    y, x = np.mgrid[:8, :8], np.mgrid[:4, :4]
    ids = [f"s{i}" for i in range(600)]
    layer = lambda maps, name, grid: ba.responses(  # noqa: E731
        maps.reshape(600, -1), stimulus_id=ids, neuroid_id=range(maps[0].size), modality="ann", system="net", layer=name,
        channel_x=np.tile(grid[1].ravel(), len(maps[0])), channel_y=np.tile(grid[0].ravel(), len(maps[0])),
        unit=np.repeat(np.arange(len(maps[0])), grid[0].size))  # fmt: skip
    source = ba.bands(fine=layer(fine, "conv1", y), coarse=layer(coarse, "conv2", x))
    target = ba.responses(signal / signal.std(axis=0) + rng.normal(size=signal.shape) / 2, stimulus_id=ids, neuroid_id=range(6), modality="fmri",
                          system="s")  # fmt: skip
    model = ba.SpatialReadout()
    assert held_out_r(model, source, target) > 0.8
    np.testing.assert_allclose(model.rf_["rf_x"], 0.125, atol=0.07)
    np.testing.assert_allclose(model.rf_["rf_y"], 0.125, atol=0.07)
    assert model.masks().sizes["place"] == 64 + 16
    with pytest.raises(CapabilityError, match=r"maps of 64 and of 16 places.*select one layer"):
        ba.SpatialReadout("factorised").fit(source, target)


def test_voxels_in_space_are_a_source_whose_fields_are_in_millimetres(held_out_r):
    """A connective field: a target that pools the voxels around one place."""
    rng = np.random.default_rng(0)
    place = rng.uniform(-40, 40, size=(150, 3))
    values = rng.normal(size=(500, 150))
    y = values @ np.exp(-((place - place[7]) ** 2).sum(axis=1) / 2 / 12**2)
    ids = [f"s{i}" for i in range(500)]
    brain = ba.responses(values, stimulus_id=ids, neuroid_id=range(150), modality="fmri", system="s", region="V1",
                         **dict(zip(("x_mm", "y_mm", "z_mm"), place.T, strict=True)))  # fmt: skip
    unit = ba.responses(y[:, None], stimulus_id=ids, neuroid_id=["u"], modality="ann", system="net", layer="fc")
    model = ba.SpatialReadout(n_positions=6)
    assert held_out_r(model, brain, unit, 400) > 0.8
    found = np.array([float(model.rf_[name][0]) for name in ("rf_x_mm", "rf_y_mm", "rf_z_mm")])
    assert np.linalg.norm(found - place[7]) < 15
    assert 5 < float(model.rf_["rf_size_mm"][0]) < 25
    with pytest.raises(CapabilityError, match="one channel at 150 places"):
        ba.SpatialReadout("factorised").fit(brain, unit)
    two = ba.bands(early=brain, late=brain.copy(data=rng.normal(size=brain.shape)))
    assert ba.SpatialReadout("factorised", n_positions=4, sizes=2).fit(two, unit).predict(two).shape == (500, 1)


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_targets_are_named_and_disturb_no_other(fixed_fields, method):
    x, y, _ = fixed_fields(n=120, side=4, n_channels=3, n_neuroids=4)
    bad = y.copy()
    bad[:, 1], bad[3, 2] = 4.0, np.nan
    model, clean = ba.SpatialReadout(method).fit(x, bad), ba.SpatialReadout(method).fit(x, y[:, [0, 3]])
    assert model.status_.tolist() == ["ok", "constant", "nan", "ok"]
    np.testing.assert_allclose(model.predict(x)[:, [0, 3]], clean.predict(x), atol=1e-5)
    assert np.isnan(model.predict(x)[:, [1, 2]]).all()
    assert model.intercept_[1] == 4.0
    assert np.isnan(model.rf_["rf_size"][1:3]).all()
    assert np.isnan(model.masks()).all("place").values.tolist() == [False, True, True, False]
    assert np.isnan(ba.SpatialReadout(method).fit(x, bad[:, [1, 2]]).predict(x)).all()


def test_every_time_point_has_a_field_of_its_own(fixed_fields):
    x, y, _ = fixed_fields(n=120, side=4, n_channels=3, n_neuroids=4)
    timed = y.expand_dims(time=[0.0, 0.1], axis=2).assign_attrs(time_reference="stimulus onset")
    model = ba.SpatialReadout().fit(x, timed)
    assert model.predict(x).rf_x.dims == ("neuroid", "time")
    assert model.masks().dims == ("neuroid", "time", "place")


@pytest.mark.parametrize("method", METHODS)
def test_less_memory_and_torch_change_nothing(fixed_fields, method):
    x, y, _ = fixed_fields(n=120, side=4, n_channels=3, n_neuroids=6)
    small = ba.SpatialReadout(method, max_memory=1.0).fit(x, y)
    whole = ba.SpatialReadout(method).fit(x, y).predict(x)
    np.testing.assert_allclose(small.predict(x), whole, atol=1e-5)
    torchs = ba.SpatialReadout(method, device="cpu:0").fit(x, y)  # tensors, as on any other device
    np.testing.assert_allclose(torchs.predict(x), whole, atol=1e-4)


def test_it_scores_and_compares_like_any_mapping(fixed_fields):
    x, y, _ = fixed_fields(n=200, side=4, n_channels=3, n_neuroids=6)
    options = {"cv": 3, "controls": "none", "random_state": 0}
    out = ba.evaluate(x, y, model=ba.SpatialReadout(), **options)
    assert float(out.score.min()) > 0.5
    assert out.alpha.dims == ("fold", "neuroid")
    from sklearn.preprocessing import StandardScaler

    grid = ba.compare(x, y, by=("layer", "region"), model=ba.chain(StandardScaler(), ba.SpatialReadout()), **options)
    assert grid.score.shape == (1, 1)


def test_steps_that_mix_places_are_refused(fixed_fields):
    x, y, _ = fixed_fields(n=60, side=3, n_channels=2, n_neuroids=2)
    with pytest.raises(CapabilityError, match=r"SpatialReadout got a source.*leave out steps that mix places \(PCA, ba.Reduce\)"):
        ba.evaluate(x, y, model=ba.chain(ba.Reduce(5), ba.SpatialReadout()), cv=3)


@pytest.mark.parametrize("method", METHODS)
def test_features_with_nan_are_left_out_with_a_warning(fixed_fields, method):
    x, y, _ = fixed_fields(n=200, side=4, n_channels=3, n_neuroids=4)
    holed = x.copy()
    holed[0, 5] = np.nan
    with pytest.warns(ba.errors.DegenerateNeuroidWarning, match="1 of 48 features"):
        model = ba.SpatialReadout(method).fit(holed, y)
    assert (model.coef_[5] == 0).all()
    assert np.isfinite(model.predict(holed).values).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "klindt"}, "'method' parameter of SpatialReadout must be one of 'fwrf', 'factorised'"),
        ({"sizes": [0.1, -1]}, "'sizes' parameter of SpatialReadout must be positive"),
        ({"sizes": 0}, "'sizes' parameter of SpatialReadout must be an int"),
        ({"alphas": "many"}, "'alphas' parameter of SpatialReadout must be positive"),
        ({"method": "factorised", "penalties": []}, "'penalties' parameter of SpatialReadout must be positive"),
        ({"n_positions": 0}, "'n_positions' parameter of SpatialReadout must be an int"),
        ({"n_steps": 0}, "'n_steps' parameter of SpatialReadout"),
        ({"max_memory": 0}, "'max_memory' parameter of SpatialReadout"),
        ({"dtype": "float16"}, "'dtype' parameter of SpatialReadout"),
        ({"device": "gpu"}, "'device' parameter of SpatialReadout"),
    ],
)
def test_impossible_options_are_named(fixed_fields, options, message):
    x, y, _ = fixed_fields(n=30, side=3, n_channels=2, n_neuroids=2)
    with pytest.raises(ParameterError, match=message):
        ba.SpatialReadout(**options).fit(x, y)


def test_labels_are_sent_to_the_classifier(fixed_fields):
    x, _, _ = fixed_fields(n=30, side=3, n_channels=2, n_neuroids=2)
    with pytest.raises(ParameterError, match="labels go to"):
        ba.SpatialReadout().fit(x.values.reshape(30, 2, 3, 3), np.array(["a", "b"] * 15))


def test_obeys_the_estimator_contract():
    model = ba.SpatialReadout("factorised", n_steps=3)
    assert clone(model).get_params() == model.get_params()
    assert repr(model) == "SpatialReadout(method='factorised', n_steps=3)"
