import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.models.affine import affine_steps

IDS = [f"s{i}" for i in range(60)]


def shared_latent(n=300, n_systems=2, widths=(100, 100), noise=0.9, seed=0):
    """Systems that mix the same ten responses, each in its own way."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 10))
    return [latent @ rng.normal(size=(10, width)) / 10**0.5 + noise * rng.normal(size=(n, width)) for width in widths[:n_systems]]


def correlation(truth, prediction):
    return float(np.mean([np.corrcoef(truth[:, k], prediction[:, k])[0, 1] for k in range(truth.shape[1])]))


def test_known_answers_on_a_shared_latent():
    scores = []
    for seed in range(3):
        x, y = shared_latent(seed=seed)
        models = [ba.SharedSpace(), ba.Ridge(), ba.SharedSpace("srm", 10)]
        predictions = [model.fit(x[:200], y[:200]).predict(x[200:]) for model in models]
        scores.append([correlation(y[200:], p) for p in (x[200:], *predictions)])
    same_index, procrustes, ridge, srm = np.mean(scores, axis=0)
    assert same_index == pytest.approx(0.0, abs=0.03)
    assert procrustes == pytest.approx(0.49, abs=0.02)
    assert ridge == pytest.approx(0.635, abs=0.02)
    assert srm > procrustes


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("q", [20, 35])
def test_a_source_no_wider_than_its_target_keeps_its_distances(scale, q):
    x, y = shared_latent(widths=(20, q))
    x = 3 * x + 1
    before, after = pdist(x[200:]), pdist(ba.SharedSpace(scale=scale).fit(x[:200], y[:200]).predict(x[200:]))
    np.testing.assert_allclose(after / after.mean(), before / before.mean(), rtol=1e-10)
    if not scale:
        np.testing.assert_allclose(after, before, rtol=1e-10)


def test_scaling_gives_predictions_the_units_of_the_target():
    x, y = shared_latent(noise=0.0, widths=(20, 20))
    y = 1e5 * (x @ ortho_group.rvs(20, random_state=0)) - 7
    np.testing.assert_allclose(ba.SharedSpace().fit(x, y).predict(x), y, rtol=1e-8)
    moved = ba.SharedSpace().fit(1e-13 * x, y).predict(1e-13 * x)
    np.testing.assert_allclose(moved, y, rtol=1e-8)


@pytest.mark.parametrize("method", ["procrustes", "hyperalignment", "srm"])
@pytest.mark.parametrize(("p", "q"), [(5, 9), (9, 5), (80, 90)])
def test_weights_and_intercept_make_the_prediction(method, p, q):
    x, y = shared_latent(n=40, widths=(p, q))
    model = ba.SharedSpace(method, n_components=3 if method == "srm" else None).fit(x, y)
    assert model.coef_.shape == (p, q)
    np.testing.assert_allclose(x @ model.coef_ + model.intercept_, model.predict(x), atol=1e-9)


@pytest.mark.parametrize("method", ["procrustes", "hyperalignment", "srm"])
def test_a_template_of_three_is_worth_more_than_a_pair(method):
    names = ["sub-01", "sub-02", "net/seed-1", "net/seed-2"]
    systems = dict(zip(names, shared_latent(n_systems=4, widths=(60, 80, 70, 90)), strict=True))
    space = ba.SharedSpace(method, 10 if method == "srm" else None).fit({k: x[:200] for k, x in systems.items()})
    test = {k: x[200:] for k, x in systems.items()}
    pairs = [correlation(test[b], space.predict(test[a], source=a, target=b)) for a in names for b in names if a != b]
    assert min(pairs) > 0.3
    brought = [space.transform(test[name], name) for name in names]
    assert len({x.shape for x in brought}) == 1
    assert correlation(brought[0], brought[1]) > 0.4
    together = correlation(test["sub-01"], space.from_template_["sub-01"].predict(np.mean(brought[1:], axis=0)))
    assert together > correlation(test["sub-01"], space.predict(test["sub-02"], source="sub-02", target="sub-01"))


def test_one_more_system_is_brought_into_a_template_that_stays():
    systems = shared_latent(n_systems=3, widths=(60, 80, 70))
    space = ba.SharedSpace("srm", 10).fit({"a": systems[0][:200], "b": systems[1][:200]})
    before = space.template_.copy()
    space.add("c", systems[2][:200])
    np.testing.assert_array_equal(space.template_, before)
    assert correlation(systems[0][200:], space.predict(systems[2][200:], source="c", target="a")) > 0.5


@pytest.mark.parametrize("method", ["hyperalignment", "srm"])
def test_left_out_systems_are_predicted_and_noise_is_not(method):
    *systems, _ = shared_latent(n=120, n_systems=4, widths=(30, 40, 35, 1))
    named = {**dict(zip("abc", systems, strict=True)), "noise": np.random.default_rng(1).normal(size=(120, 30))}
    scores = ba.SharedSpace(method, 10 if method == "srm" else None).score_left_out(named, cv=4)
    assert {name: r.shape for name, r in scores.items()} == {"a": (30,), "b": (40,), "c": (35,), "noise": (30,)}
    assert min(scores[name].mean() for name in "abc") > 0.35
    assert abs(scores["noise"].mean()) < 0.05


def labelled(n_neuroids, modality, system, seed=0, n=60, **group):
    values = shared_latent(n=n, n_systems=2, widths=(n_neuroids, 3), seed=seed)[0]
    return ba.responses(
        values, stimulus_id=IDS[:n], neuroid_id=range(n_neuroids), modality=modality, system=system, **group
    )  # fmt: skip


def test_labels_are_kept_in_every_direction():
    brain, net = labelled(12, "fmri", "sub-01", region="V1"), labelled(20, "ann", "net", layer="h.3")
    space = ba.SharedSpace("hyperalignment").fit({"brain": brain, "net": net})
    out = space.predict(net[40:], source="net", target="brain")
    ba.validate(out, deep=True)
    assert out.stimulus_id.values.tolist() == IDS[40:]
    assert out.region.values.tolist() == ["V1"] * 12
    common = space.transform(brain, "brain")
    ba.validate(common, deep=True)
    assert common.neuroid_id.values[0] == "shared/0"
    assert common.shape == space.template_.shape
    scores = space.score_left_out({"a": brain, "b": net, "c": labelled(9, "ann", "net", layer="h.4")}, cv=3)
    assert scores["a"].region.values.tolist() == ["V1"] * 12
    back = ba.SharedSpace().fit(brain, net).predict(brain)
    assert back.layer.values.tolist() == ["h.3"] * 20


def test_it_goes_through_evaluate_and_readout_as_any_affine_mapping():
    brain, net = labelled(12, "fmri", "sub-01", region="V1"), labelled(20, "ann", "net", layer="h.3")
    out = ba.evaluate(net, brain, model=ba.SharedSpace(), cv=3, random_state=0)
    assert out.score.mean() > 0.2
    last = affine_steps(ba.chain(ba.SharedSpace()).fit(net, brain))[-1]
    assert last.weight.shape == (20, 12)


def test_degenerate_neuroids_are_named_and_disturb_no_other():
    x, y = shared_latent(n=80, widths=(10, 3))
    clean = ba.SharedSpace().fit(x, y)
    bad = np.column_stack([y[:, 0], np.full(80, 4.2), y[:, 1], np.r_[np.nan, y[1:, 0]], y[:, 2]])
    model = ba.SharedSpace().fit(x, bad)
    assert model.status_.tolist() == ["ok", "constant", "ok", "nan", "ok"]
    np.testing.assert_allclose(model.predict(x)[:, [0, 2, 4]], clean.predict(x), atol=1e-10)
    assert np.isnan(model.predict(x)[:, [1, 3]]).all()
    assert (model.coef_[:, 1] == 0).all()
    assert model.intercept_[1] == pytest.approx(4.2)
    with pytest.warns(UserWarning, match="1 of 5 features"):
        space = ba.SharedSpace("hyperalignment").fit({"a": bad, "b": x})
    assert np.isfinite(space.predict(bad, source="a", target="b")).all()
    assert np.isnan(space.predict(x, source="b", target="a")).any(axis=0).tolist() == [False, True, False, True, False]
    with pytest.warns(UserWarning, match="1 of 5 features"):
        first = ba.SharedSpace().fit({"a": bad, "b": x})
    assert first.template_.shape == (80, 3)


def test_parameters_pass_through_clone():
    model = ba.SharedSpace("srm", 7, scale=False)
    assert clone(model).get_params() == model.get_params()


def test_bad_input_is_named():
    x, y = shared_latent(n=40, widths=(6, 5))
    with pytest.raises(ParameterError, match=r"'method' parameter of SharedSpace must be one of .* Did you mean 'procrustes'"):
        ba.SharedSpace("procrustean").fit(x, y)
    with pytest.raises(ParameterError, match=r"'n_components' parameter of SharedSpace must be an int in the range \[1, 5\]"):
        ba.SharedSpace("srm", 6).fit(x, y)
    with pytest.raises(ParameterError, match="n_components=3 with method='procrustes'"):
        ba.SharedSpace(n_components=3).fit(x, y)
    with pytest.raises(ParameterError, match="dict of 1 systems"):
        ba.SharedSpace().fit({"a": x})
    with pytest.raises(ParameterError, match="and a target"):
        ba.SharedSpace().fit({"a": x, "b": y}, y)
    with pytest.raises(AlignmentError, match="40 presentations and the target 39"):
        ba.SharedSpace().fit({"a": x, "b": y[1:]})
    space = ba.SharedSpace().fit({"a": x, "b": y})
    with pytest.raises(ParameterError, match=r"no system 'c'\. Expected one of 'a', 'b'"):
        space.predict(x, source="a", target="c")
    with pytest.raises(ParameterError, match="no system None"):
        space.predict(x)
    with pytest.raises(ParameterError, match="has no template"):
        ba.SharedSpace().fit(x, y).transform(x, "a")
    with pytest.raises(ParameterError, match="got 2 systems"):
        space.score_left_out({"a": x, "b": y})
    with pytest.raises(ParameterError, match="labels go to"):
        ba.SharedSpace().fit(x, np.array(list("ab" * 20)))
    brain, net = labelled(12, "fmri", "sub-01", region="V1"), labelled(20, "ann", "net", layer="h.3")
    with pytest.raises(AlignmentError, match="name different stimuli"):
        ba.SharedSpace().fit({"brain": brain, "net": net[::-1]})
