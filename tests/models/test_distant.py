"""Voxel to voxel: what lies within the radius is left out exactly, and no shared noise is taken for signal."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import AlignmentError, CapabilityError, DegenerateNeuroidWarning, ParameterError
from brainalign.models.affine import affine_steps


def brain(values, *, system="sub-01", **labels):
    n, p = values.shape
    labels = {"x_mm": np.arange(p) % 5 * 3.0, "y_mm": np.arange(p) // 5 * 3.0} | labels
    return ba.responses(values, stimulus_id=[f"s{i:03d}" for i in range(n)], neuroid_id=[f"v{k}" for k in range(p)], modality="fmri",
                        system=system, **{name: v for name, v in labels.items() if v is not None})  # fmt: skip


def voxels(n=60, p=25, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)) @ rng.normal(size=(4, p)) + rng.normal(size=(n, p)) + 7


def correlation(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


@pytest.mark.parametrize("p", [25, 75], ids=["p<n", "p>n"])
@pytest.mark.parametrize(
    "options", [{}, {"fit_intercept": False}, {"alphas": 3.0}, {"alphas": [0.0, 1.0, 50.0], "cv": 3}], ids=repr
)
def test_each_target_equals_ridge_on_the_reduced_source(p, options):
    x = brain(voxels(p=p))
    model = ba.DistantRidge(3.0, dtype="float64", **options).fit(x[:45], x[:45])
    predicted, at = model.predict(x[45:]), np.stack([x.x_mm, x.y_mm], axis=1)
    assert predicted.neuroid_id.values.tolist() == x.neuroid_id.values.tolist()
    for k in range(0, p, 3):
        far = np.linalg.norm(at - at[k], axis=1) > 3.0
        alone = ba.Ridge(dtype="float64", **options).fit(x[:45, far], x[:45, [k]])
        assert model.n_left_out_[k] == (~far).sum() <= 5
        np.testing.assert_allclose(model.coef_[far, k], alone.coef_[:, 0], rtol=1e-6, atol=1e-9)
        assert (model.coef_[~far, k] == 0).all()
        np.testing.assert_allclose(predicted[:, k], alone.predict(x[45:, far])[:, 0], rtol=1e-6)
        for name in ("alpha_", "intercept_", "cv_score_", "alpha_at_edge_"):
            np.testing.assert_allclose(getattr(model, name)[k], getattr(alone, name)[0], rtol=1e-6)


def test_shared_noise_inflates_prediction_and_the_radius_takes_it_out():
    """Pairs of neighbours share noise; all voxels share a signal, of which 24 others predict what there is to predict."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(900, 1))
    noise = np.repeat(rng.normal(size=(900, 13)), 2, axis=1)[:, :25] + 0.3 * rng.normal(size=(900, 25))
    pairs = {"x_mm": np.arange(25) // 2 * 20.0 + np.arange(25) % 2 * 3.0, "y_mm": None}
    own, other = brain(signal + noise, **pairs), brain(signal + rng.normal(size=(900, 25)), system="sub-02", **pairs)
    train, test = slice(0, 400), slice(400, None)

    def score(model, source):
        return correlation(model.fit(source[train], own[train]).predict(source[test]).values, own[test].values).mean()

    ceiling = correlation(np.repeat(signal[test], 25, axis=1), own[test].values).mean()
    inflated, honest = score(ba.DistantRidge(0.0), own), score(ba.DistantRidge(4.0), own)
    assert inflated > ceiling + 0.2
    assert ceiling - 0.1 < honest < ceiling
    assert score(ba.DistantRidge(4.0), other) == pytest.approx(score(ba.Ridge(), other), abs=1e-6)


def test_neuroids_of_other_systems_are_kept_wherever_they_lie():
    values = voxels()
    one, two = brain(values), brain(values, system="sub-02", x_mm=None, y_mm=None)
    across = ba.DistantRidge(100.0, dtype="float64").fit(two, one)
    assert (across.n_left_out_ == 0).all()
    np.testing.assert_allclose(across.coef_, ba.Ridge(dtype="float64").fit(two, one).coef_, rtol=1e-8, atol=1e-10)
    both = brain(np.hstack([values, values[:, ::-1]]), system=["sub-01"] * 25 + ["sub-02"] * 25, x_mm=np.tile(one.x_mm, 2),
                 y_mm=np.tile(one.y_mm, 2))  # fmt: skip
    model = ba.DistantRidge(100.0).fit(both, one)
    assert (model.n_left_out_ == 25).all()
    assert (model.coef_[:25] == 0).all()
    assert (model.coef_[25:] != 0).all()


def test_systems_may_have_axes_of_their_own_and_one_name_for_all_neuroids():
    values, one = voxels(), brain(voxels())
    x = np.tile(one.x_mm, 2)
    both = brain(np.hstack([values, values[:, ::-1]]), system=["sub-01"] * 25 + ["sub-02"] * 25, x_mm=x, y_mm=np.tile(one.y_mm, 2),
                 z_mm=np.r_[np.full(25, np.nan), np.ones(25)])  # fmt: skip
    named_once = one.drop_vars("system").assign_coords(system="sub-01")
    model = ba.DistantRidge(3.0).fit(both, named_once)
    np.testing.assert_array_equal(model.n_left_out_, ba.DistantRidge(3.0).fit(one, one).n_left_out_)


def test_units_of_a_map_lie_on_it_layer_by_layer():
    """Two layers of 5 × 5 places and 2 channels: neighbours are all channels of near places, in the same layer."""
    rng = np.random.default_rng(0)
    at = np.tile(np.repeat(np.arange(25), 2), 2)
    net = ba.responses(rng.normal(size=(40, 100)), stimulus_id=[f"s{i}" for i in range(40)], neuroid_id=range(100), modality="ann",
                       system="net", layer=np.repeat(["a", "b"], 50), channel_x=at % 5, channel_y=at // 5)  # fmt: skip
    model = ba.DistantRidge(1.0).fit(net, net[:, [24, 50]])  # a place in the middle of the first, and the corner of the second
    assert model.n_left_out_.tolist() == [10, 6]
    assert (np.flatnonzero(model.coef_[:, 1] == 0) == [50, 51, 52, 53, 60, 61]).all()
    token = net.assign_coords(channel_x=("neuroid", np.where(at == 3, -1, at % 5)))
    with pytest.raises(CapabilityError, match=r"got 4 of 100 source neuroids of net without `channel_x`, first"):
        ba.DistantRidge(1.0).fit(token, net)


def test_times_of_a_neuroid_lie_where_it_lies():
    rng = np.random.default_rng(0)
    x = ba.responses(rng.normal(size=(50, 6, 2)), stimulus_id=[f"s{i}" for i in range(50)], neuroid_id=range(6), time=[0.1, 0.2],
                     modality="eeg", system="sub-01", time_reference="stimulus onset", x_mm=np.arange(6) * 10.0)  # fmt: skip
    model = ba.DistantRidge(10.0).fit(x, x)
    assert model.predict(x).dims == ("presentation", "neuroid", "time")
    assert model.n_left_out_.tolist() == [4, 4, 6, 6, 6, 6, 6, 6, 6, 6, 4, 4]
    assert (model.coef_.reshape(6, 2, 6, 2)[0, :, 1] == 0).all()


def test_a_target_without_a_source_is_named_and_disturbs_no_other():
    x = brain(voxels(), x_mm=np.r_[12.0, np.arange(24.0)], y_mm=None)
    model = ba.DistantRidge(12.0).fit(x, x)
    assert model.status_.tolist() == ["no source" if at in (12.0, 11.0) else "ok" for at in x.x_mm.values]
    lost = model.status_ == "no source"
    assert np.isnan(model.predict(x).values[:, lost]).all()
    assert np.isnan(model.coef_[:, lost]).all()
    assert np.isnan(model.intercept_[lost]).all()
    rest = ba.DistantRidge(12.0).fit(x, x[:, ~lost])
    np.testing.assert_array_equal(model.coef_[:, ~lost], rest.coef_)


def test_bad_neuroids_of_either_side_change_no_other():
    values = voxels()
    clean = ba.DistantRidge(3.0, dtype="float64").fit(brain(values), brain(values))
    bad = values.copy()
    bad[3, 0], bad[:, 1] = np.nan, 5.0
    whole, bad = brain(values), brain(values).copy(data=bad.astype("float32"))
    model = ba.DistantRidge(3.0, dtype="float64").fit(whole, bad)
    assert model.status_.tolist()[:3] == ["nan", "constant", "ok"]
    assert model.intercept_[1] == 5.0
    assert np.isnan(model.alpha_[0])
    np.testing.assert_allclose(model.coef_[:, 2:], clean.coef_[:, 2:], rtol=1e-9, atol=1e-12)
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 25 features"):
        narrow = ba.DistantRidge(3.0, dtype="float64").fit(bad, whole)
    without = ba.DistantRidge(3.0, dtype="float64").fit(whole[:, 2:], whole)
    np.testing.assert_allclose(narrow.coef_[2:], without.coef_, rtol=1e-9, atol=1e-12)
    assert (narrow.coef_[:2] == 0).all()


def test_it_is_a_mapping_like_any_other(monkeypatch):
    x = brain(voxels(90), region=["V1"] * 25)
    model = ba.DistantRidge(3.0, alphas=[1.0, 100.0], cv=3)
    result = ba.evaluate(x, x, model=model, cv=3, n_permutations=3, random_state=0)
    assert (result.score > 0.3).all()
    monkeypatch.setattr("brainalign.scores.inference._VALUES", 1)  # one permuted target at a time
    one_by_one = ba.evaluate(x, x, model=model, cv=3, n_permutations=3, random_state=0)
    np.testing.assert_array_equal(result.p_value, one_by_one.p_value)
    chained = ba.chain(StandardScaler(), clone(model)).fit(x, x)
    assert chained.predict(x).shape == x.shape
    (*_, last) = affine_steps(chained)
    assert last.weight.shape == (25, 25)
    tensors = ba.DistantRidge(3.0, device="cpu:0").fit(x, x)
    np.testing.assert_allclose(tensors.coef_, ba.DistantRidge(3.0).fit(x, x).coef_, atol=1e-5)


def test_alphas_that_float32_does_not_resolve_are_warned_of_once():
    x = brain(voxels())
    with pytest.warns(RuntimeWarning, match="1 of 2 alphas are below what float32 resolves") as caught:
        ba.DistantRidge(3.0, alphas=[1e-9, 1.0]).fit(x, x)
    assert len(caught) == 1


def without(name):
    x = brain(voxels())
    return x.drop_vars(name)


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        (voxels(), brain(voxels()), CapabilityError, "a plain ndarray as the source.*ba.responses"),
        (brain(voxels()), voxels(), CapabilityError, "a plain ndarray as the target"),
        (without("system"), brain(voxels()), CapabilityError, "no `system` in the source. Expected the system of each neuroid"),
        (without(["x_mm", "y_mm"]), without(["x_mm", "y_mm"]), CapabilityError, "25 of 25 source neuroids of sub-01 without `x_mm`, `y_mm`, `z_mm`"),
        (brain(voxels()), without("y_mm"), CapabilityError, "25 of 25 target neuroids of sub-01 without `y_mm`, first.*assign_coords"),
        (brain(voxels(), x_mm=np.r_[np.nan, np.ones(24)]), brain(voxels()), CapabilityError, "1 of 25 source neuroids .* without `x_mm`, first 'v0'"),
        (brain(voxels())[:9], brain(voxels()), AlignmentError, "9 presentations"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(source, target, error, message):
    with pytest.raises(error, match=message):
        ba.DistantRidge(3.0).fit(source, target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -1.0}, r"'radius' parameter of DistantRidge must be .* Got -1.0"),
        ({"radius": "near"}, "'radius' parameter of DistantRidge"),
        ({"dtype": "float16"}, "'dtype' parameter of DistantRidge"),
        ({"alphas": [-1.0]}, "'alphas' parameter of DistantRidge"),
        ({"device": "tpu"}, "'device' parameter of DistantRidge"),
    ],
)
def test_impossible_options_are_named(options, message):
    x = brain(voxels())
    with pytest.raises(ParameterError, match=message):
        ba.DistantRidge(**{"radius": 3.0, **options}).fit(x, x)
