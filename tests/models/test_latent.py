"""Several latents from one recording: the numbers of ridge, one alpha a latent, and a spread that is given back or borrowed."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone

import brainalign as ba

N, C = 120, 40
RNG = np.random.default_rng(0)
LOW, IMAGE, TEXT = (RNG.normal(size=(N, d)) for d in (20, 12, 5))
WEIGHTS = [RNG.normal(size=(d, C)) for d in (20, 12, 5)]
BRAIN = sum(z @ w for z, w in zip((LOW, IMAGE, TEXT), WEIGHTS, strict=True)) + 2 * RNG.normal(size=(N, C))
IDS = [f"s{i}" for i in range(N)]


def responses(values, ids=IDS, system="x", **coords):
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="behaviour", system=system, **coords)


@pytest.fixture(scope="module")
def brain():
    return responses(BRAIN, region=np.repeat(["V1", "IT"], C // 2))


@pytest.fixture(scope="module")
def latents():
    return {"low": responses(LOW), "image": responses(IMAGE), "text": responses(TEXT)}


def halves(side):
    return side[:80], side[80:]


def test_with_an_alpha_a_dimension_it_is_ridge_latent_by_latent(brain, latents):
    model = ba.LatentDecoder(alpha_per="neuroid", dtype="float64").fit(brain[:80], {k: z[:80] for k, z in latents.items()})
    found = model.predict(brain[80:])
    assert list(found) == list(model.latents_) == ["low", "image", "text"]
    for name, z in latents.items():
        alone = ba.Ridge(standardize="train", dtype="float64").fit(brain[:80], z[:80]).predict(brain[80:])
        np.testing.assert_allclose(found[name], alone, rtol=1e-10)
        assert found[name].neuroid_id.values.tolist() == z.neuroid_id.values.tolist()
        assert "band" not in found[name].coords


def test_the_alpha_of_a_latent_is_the_best_for_all_of_it(brain, latents):
    alphas = np.logspace(-2, 5, 8)
    joined = ba.bands(**latents)
    model = ba.LatentDecoder(alphas, dtype="float64").fit(brain, joined)
    curves = np.stack(
        [ba.LatentDecoder([a, a * 1.0000001], alpha_per="neuroid", dtype="float64").fit(brain, joined).cv_score_ for a in alphas]
    )
    for name in latents:
        mine = joined.band.values == name
        assert len(set(model.alpha_[mine])) == 1
        assert model.alpha_[mine][0] == alphas[curves[:, mine].mean(axis=1).argmax()]
        fixed = ba.Ridge(model.alpha_[mine][:1], standardize="train", dtype="float64").fit(brain, latents[name])
        np.testing.assert_allclose(model.coef_[:, mine], fixed.coef_, rtol=1e-9)
        np.testing.assert_allclose(model.intercept_[mine], fixed.intercept_, rtol=1e-9)
    np.testing.assert_allclose(model.cv_score_, curves[np.searchsorted(alphas, model.alpha_), np.arange(37)], atol=1e-5)


def test_the_source_is_decomposed_once_for_all_latents(brain, latents, monkeypatch):
    import brainalign.engine.solvers as module

    calls = []
    factorise = module.factorise
    monkeypatch.setattr(module, "factorise", lambda *a, **k: calls.append(1) or factorise(*a, **k))
    ba.LatentDecoder().fit(brain, latents)
    assert len(calls) == 1


@pytest.mark.parametrize("wide", [False, True])
def test_predictions_get_the_spread_of_training_back(brain, latents, wide):
    x = responses(np.hstack([BRAIN] * 4)) if wide else brain  # more features than rows: the dual form
    (x, new), (y, _) = halves(x), halves(latents["image"])
    plain, even = (ba.LatentDecoder([3e3], rescale=r, dtype="float64").fit(x, y) for r in ("none", "train"))
    small, full = plain.predict(new), even.predict(new)
    off = [float(abs(np.log(found.std("presentation") / y.std("presentation"))).mean()) for found in (small, full)]
    assert off[0] > 0.8
    assert off[1] < 0.25  # inner folds have fewer rows, and are shrunk a little more
    for k in range(12):
        assert np.corrcoef(small[:, k], full[:, k])[0, 1] == pytest.approx(1)
    np.testing.assert_allclose(new.values @ even.coef_ + even.intercept_, full, rtol=1e-6)


def test_what_borrows_from_the_test_rows_says_so(brain, latents):
    (x, new), (y, _) = halves(brain), halves(latents["image"])
    model = ba.LatentDecoder([3e3], rescale="test").fit(x, y)
    with pytest.warns(ba.errors.TransductiveWarning, match="rescaled 40 predictions by their own mean and deviation"):
        found = model.predict(new)
    np.testing.assert_allclose(found.mean("presentation"), y.mean("presentation"), atol=1e-5)
    np.testing.assert_allclose(found.std("presentation"), y.std("presentation"), rtol=1e-5)
    assert "rescale='test'" in str(ba.core.provenance(found).steps[-1]["params"]["model"])
    with pytest.raises(ba.errors.CapabilityError, match="got a single row"):
        model.predict(new[:1])
    assert not hasattr(model, "intercept_")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ba.errors.TransductiveWarning)
        ba.LatentDecoder([3e3], rescale="train").fit(x, y).predict(new)


def test_what_carries_one_latent_changes_only_that_one():
    """Half of the neuroids encode one latent and half the other: to silence the first moves nothing but what they encode."""
    first = np.arange(40) < 20
    values = np.hstack([IMAGE @ RNG.normal(size=(12, 20)), TEXT @ RNG.normal(size=(5, 20))])
    values -= values.mean(axis=0)
    x, y = responses(values), {"image": responses(IMAGE), "text": responses(TEXT)}
    model = ba.LatentDecoder([1e-3], dtype="float64").fit(x, y)
    whole, silent, only = (model.predict(x.copy(data=x.values * mask)) for mask in (True, ~first, first))
    moved = {name: float(np.abs(whole[name] - silent[name]).max() / whole[name].std()) for name in y}
    assert moved["text"] < 0.1 < 1 < moved["image"]
    np.testing.assert_allclose(only["image"], whole["image"], atol=0.05)  # a pattern of that region alone
    assert float(only["text"].std()) < 0.05 * float(whole["text"].std())


def mean_r(found, truth):
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(np.asarray(found).T, np.asarray(truth).T, strict=True)])


def test_both_latents_come_within_reach_of_the_best_ridge_there_is(brain, latents):
    """The oracle picks the penalty of each latent by the test rows themselves."""
    found = ba.LatentDecoder().fit(brain[:80], {k: z[:80] for k, z in latents.items()}).predict(brain[80:])
    for name, z in latents.items():
        oracle = max(mean_r(ba.Ridge([a]).fit(brain[:80], z[:80]).predict(brain[80:]), z[80:]) for a in np.logspace(0, 5, 21))
        assert mean_r(found[name], z[80:]) > oracle - 0.02


def test_joined_latents_go_to_evaluate_and_identify(brain, latents):
    joined = ba.bands(**latents)
    model = ba.LatentDecoder([10.0])
    out = ba.evaluate(brain, joined, model=model, cv=4, controls="none", random_state=0)
    assert out.score.groupby("band").mean().sel(band="text") > 0.5
    found = ba.identify(brain, joined, model=model, cv=4, n_permutations=9, random_state=0)
    assert found.score.sel(measure="two-way") > 0.9
    assert found.p_value.sel(measure="two-way") == 0.1
    assert (
        ba.identify(brain, joined[:, joined.band == "image"], model=model, cv=4, random_state=0).score.sel(measure="two-way")
        > 0.8
    )


def test_other_names_plain_arrays_and_a_lone_latent(brain, latents):
    layers = ba.bands(**latents).drop_vars("band").assign_coords(layer=("neuroid", np.repeat(["a", "b"], [20, 17])))
    assert ba.LatentDecoder([1.0], latents="layer").fit(brain, layers).latents_.tolist() == ["a", "b"]
    model = ba.LatentDecoder([1.0, 10.0]).fit(BRAIN[:80], IMAGE[:80])
    assert len(set(model.alpha_)) == 1
    assert model.predict(BRAIN[80:]).shape == (40, 12)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(ba.errors.ParameterError, match="'bands' parameter of LatentDecoder is 'roi'"):
        ba.LatentDecoder(latents="roi").fit(brain, latents["image"])
    with pytest.raises(ba.errors.AlignmentError, match="rows of source and target name different stimuli"):
        ba.LatentDecoder().fit(brain, {"image": latents["image"][::-1]})
    with pytest.raises(ba.errors.ParameterError, match="rescale"):
        ba.LatentDecoder(rescale="all").fit(brain, latents)
    with pytest.raises(ba.errors.ParameterError, match="alpha_per"):
        ba.LatentDecoder(alpha_per="target").fit(brain, latents)


def test_a_dimension_that_never_varies_is_left_out_of_its_latent(brain):
    flat = IMAGE.copy()
    flat[:, 3] = 2.0
    model = ba.LatentDecoder([1.0, 10.0], rescale="train").fit(brain, responses(flat))
    assert model.status_.tolist().count("constant") == 1
    assert np.isnan(model.predict(brain).values).any(axis=0).tolist() == (np.arange(12) == 3).tolist()
