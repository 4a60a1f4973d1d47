import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import d2_tweedie_score

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError
from brainalign.engine import glm

KINDS = [{"modality": "spikes", "system": "mouse"}, {"modality": "ann", "system": "snn", "layer": "hidden"}]


def recording(values, runs=4, **labels):
    n = len(values)
    run, onset = np.repeat([f"run-{k}" for k in range(runs)], n // runs), 0.01 * (np.arange(n) % (n // runs))
    labels = labels or KINDS[0]
    return ba.responses(values, stimulus_id=[f"{r}/{t:.2f}" for r, t in zip(run, onset, strict=True)], neuroid_id=range(values.shape[1]),
                        run=run, onset_s=onset, **labels)  # fmt: skip


@pytest.fixture(scope="module")
def sides():
    """Features far from 0, and counts of five neurons at rates from 0.1 to 4."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4)) + 3
    rate = np.exp((X - 3) @ rng.normal(size=(4, 5)) * 0.4 + np.log([0.1, 0.5, 1, 2, 4]))
    return X, rng.poisson(rate), rate


@pytest.mark.parametrize("alpha", [0.3, 30.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_it_is_the_regression_of_scikit_learn(sides, alpha, intercept):
    X, Y, _ = sides
    model = ba.models.PoissonGLM(alphas=alpha, fit_intercept=intercept, dtype="float64").fit(X, Y)
    for k in range(5):
        theirs = PoissonRegressor(alpha=alpha / 600, fit_intercept=intercept, solver="newton-cholesky", tol=1e-12, max_iter=1000)
        theirs.fit(X, Y[:, k])
        np.testing.assert_allclose(model.coef_[:, k], theirs.coef_, atol=1e-6)
        np.testing.assert_allclose(model.predict(X)[:, k], theirs.predict(X), rtol=1e-6)
        assert model.intercept_[k] == pytest.approx(theirs.intercept_, abs=1e-6)


def test_each_neuron_gets_the_alpha_of_least_held_out_deviance(sides):
    X, Y, _ = sides
    alphas = [0.1, 10.0, 1000.0, 1e5]
    model = ba.models.PoissonGLM(alphas=alphas, cv=4).fit(X, Y)
    blocks = np.array_split(np.arange(600), 4)
    for k in range(5):
        loss, unfitted = np.zeros(4), 0.0
        for test in blocks:
            train = np.setdiff1d(np.arange(600), test)
            null = np.full(150, Y[train, k].mean())
            total = d2_tweedie_score(Y[test, k], null, power=1)
            scale = ba.models.poisson.deviance(Y[test, k][:, None], null[:, None])[0]
            unfitted += scale
            for i, alpha in enumerate(alphas):
                fit = PoissonRegressor(alpha=alpha / 450, solver="newton-cholesky", tol=1e-10).fit(X[train], Y[train, k])
                d2 = d2_tweedie_score(Y[test, k], fit.predict(X[test]), power=1)
                loss[i] += scale * (1 - d2) / (1 - total)
        assert model.alpha_[k] == alphas[int(loss.argmin())]
        assert model.cv_score_[k] == pytest.approx(1 - loss.min() / unfitted, abs=1e-5)


@pytest.mark.parametrize("labels", KINDS, ids=["brain", "network"])
def test_bits_per_spike_are_those_of_the_true_rate(labels):
    """Of a rate that is r₁ or r₂, each half of the time: Σ ½ rᵢ log2(rᵢ/r̄) / r̄ bits a spike."""
    rng = np.random.default_rng(0)
    high = rng.random(8000) < 0.5
    rate = np.where(high, 2.0, 0.5)
    features, spikes = recording(high[:, None].astype(float), modality="behaviour", system="light"), recording(
        rng.poisson(rate)[:, None], **labels
    )  # fmt: skip
    out = ba.evaluate(features, spikes, model=ba.models.PoissonGLM(alphas=1e-3), metric="bits-per-spike", repeats="keep",
                      cv=ba.split(spikes, by="run"), controls="none", random_state=0)  # fmt: skip
    expected = sum(0.5 * r * np.log2(r / 1.25) for r in (2.0, 0.5)) / 1.25
    assert float(out.score[0]) == pytest.approx(expected, abs=0.03)
    assert out.attrs["metric"] == "bits-per-spike"


def test_the_past_and_other_neurons_come_in_through_the_chain():
    rng = np.random.default_rng(0)
    spikes, stimulus = np.zeros((4000, 3)), rng.normal(size=(4000, 1))
    coupling = np.array([[-1.5, 0.0, 0.8], [0.0, -1.5, 0.0], [0.0, 0.0, -1.5]])  # of the last bin, on each column
    for t in range(4000):
        past = spikes[t - 1] if t % 1000 else np.zeros(3)
        spikes[t] = rng.poisson(np.exp(0.6 * stimulus[t - 1] * (t > 0) + past @ coupling - 1))
    x, y = recording(stimulus, modality="behaviour", system="light"), recording(spikes)
    source = ba.bands(stimulus=x, spikes=y)
    cv = ba.split(y, by="run")
    options = {"metric": "bits-per-spike", "cv": cv, "controls": "none", "random_state": 0}
    whole, alone = (
        ba.evaluate(s, y, model=ba.chain(ba.Delay([0.01]), ba.models.PoissonGLM(groups="run")), **options) for s in (source, x)
    )
    assert (whole.score > alone.score + 0.1).all()
    model = ba.chain(ba.Delay([0.01]), ba.models.PoissonGLM(groups="run")).fit(source, y)
    np.testing.assert_allclose(model.coef_[1:], coupling, atol=0.35)
    np.testing.assert_allclose(model.coef_[0], 0.6, atol=0.1)
    scores = ba.evaluate(
        source, y, model=ba.chain(ba.Delay([0.01]), ba.models.PoissonGLM(groups="run")), **(options | {"metric": "pseudo-r2"})
    )
    assert ((scores.score > 0.05) & (scores.score < 1)).all()


def test_degenerate_neurons_are_nan_and_disturb_no_other(sides):
    X, Y, _ = sides
    bad = Y.astype(float)
    bad[:, 0], bad[3, 1] = 0.0, np.nan
    model = ba.models.PoissonGLM(alphas=[1.0, 10.0]).fit(X, bad)
    assert model.status_.tolist() == ["constant", "nan", "ok", "ok", "ok"]
    assert np.isnan(model.predict(X)).all(axis=0).tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(model.coef_[:, 2:], ba.models.PoissonGLM(alphas=[1.0, 10.0]).fit(X, Y).coef_[:, 2:], atol=1e-5)


def test_a_neuron_that_is_silent_in_a_fold_is_fitted_all_the_same(sides):
    X, Y, _ = sides
    rare = Y.copy()
    rare[120:, 0], rare[5, 0] = 0, 2
    model = ba.models.PoissonGLM(cv=5).fit(X, rare)
    assert (model.status_ == "ok").all()
    assert np.isfinite(model.predict(X)).all()


def test_what_are_no_counts_is_refused(sides):
    X, Y, rate = sides
    with pytest.raises(ParameterError, match=r"PoissonGLM got a target with 3000 no whole numbers, such as .*repeats='keep'"):
        ba.models.PoissonGLM().fit(X, rate)
    with pytest.raises(ParameterError, match=r"1 negative numbers, such as -1"):
        ba.models.PoissonGLM().fit(X, np.where(np.arange(3000).reshape(600, 5) == 7, -1, Y))
    x, y = recording(X, modality="behaviour", system="light"), recording(Y)
    with pytest.raises(
        ParameterError, match=r"'bits-per-spike' and 'pseudo-r2' got a prediction with \d+ negative values.*PoissonGLM"
    ):
        ba.evaluate(x, y, model=ba.Ridge(alphas=1.0), metric="bits-per-spike", cv=ba.split(y, by="run"), controls="none")


def test_what_does_not_converge_is_named(sides, monkeypatch):
    X, Y, _ = sides
    monkeypatch.setattr(glm, "_STEPS", 1)
    with pytest.warns(DegenerateNeuroidWarning, match=r"PoissonGLM did not converge for 5 of 5 targets.*give a larger alpha"):
        model = ba.models.PoissonGLM(alphas=1.0).fit(X, Y)
    assert (model.status_ == "failed").all()
    assert np.isnan(model.predict(X)).all()
