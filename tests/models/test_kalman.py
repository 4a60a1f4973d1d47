import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import (
    AlignmentError,
    DegenerateNeuroidWarning,
    DegeneratePredictionWarning,
    ParameterError,
    SchemaError,
)
from brainalign.engine.kalman import filter_states, learn_dynamics, linear_evidence
from brainalign.engine.precision import noise_covariance

DEGENERATE = "ignore::brainalign.core.errors.DegeneratePredictionWarning"


def walk(n, d=2, decay=0.98, seed=0):
    """Return a state of unit variance that moves by ``decay`` each row."""
    rng = np.random.default_rng(seed)
    z = [rng.normal(size=d)]
    for _ in range(n - 1):
        z.append(decay * z[-1] + (1 - decay**2) ** 0.5 * rng.normal(size=d))
    return np.array(z)


def recording(values, runs=4, shuffle=None, **labels):
    """Return rows in time, in runs of equal length, half a second apart."""
    n = len(values)
    at = np.arange(n) if shuffle is None else shuffle
    run, onset = np.repeat([f"run-{k}" for k in range(runs)], n // runs), 0.5 * (np.arange(n) % (n // runs))
    labels = {"modality": "spikes", "system": "animal"} | labels
    return ba.responses(values[at], stimulus_id=[f"{run[i]}/{onset[i]}" for i in at], neuroid_id=range(values.shape[1]), run=run[at],
                        onset_s=onset[at], **labels)  # fmt: skip


def linear(n=800, p=10, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    z = walk(n, decay=0.9, seed=seed) + 5
    return z @ rng.normal(size=(2, p)) + noise * rng.normal(size=(n, p)) + 2, z


def rmse(prediction, truth):
    return float(np.sqrt(np.mean((np.asarray(prediction) - truth) ** 2)))


def test_the_filter_is_that_of_least_squares_within_each_run():
    X, Z = linear()
    x, z = recording(X, units="Hz"), recording(Z, modality="behaviour", system="position")
    model = ba.KalmanDecoder().fit(x[:600], z[:600])
    X, Z = x.values.astype(float), z.values.astype(float)
    mean, centre = Z[:600].mean(axis=0), X[:600].mean(axis=0)
    states, observed = Z[:600] - mean, X[:600] - centre
    step = [np.concatenate([states[200 * k + lag : 200 * k + 199 + lag] for k in range(3)]) for lag in (0, 1)]
    A = np.linalg.lstsq(*step, rcond=None)[0].T
    np.testing.assert_allclose(model.transition_, A, atol=1e-10)
    H = np.linalg.lstsq(states, observed, rcond=None)[0].T
    R, _ = noise_covariance(observed - states @ H.T, "shrinkage-diagonal", dof=599)
    expected = filter_states(linear_evidence(X[600:] - centre, H, R), learn_dynamics(states, np.split(np.arange(600), 3)))[0]
    np.testing.assert_allclose(model.predict(x[600:]).values, expected + mean, atol=1e-10)
    assert model.interval_s_ == 0.5


@pytest.mark.parametrize("method", ["kalman", "discriminative", "robust"])
def test_a_border_of_runs_resets_the_filter_and_rows_may_come_in_any_order(method):
    X, Z = linear()
    x, z = recording(X), recording(Z)
    model = ba.KalmanDecoder(method).fit(x[:400], z[:400])
    both, alone = model.predict(x[400:]), model.predict(x[600:])
    np.testing.assert_allclose(both.values[200:], alone.values, atol=1e-12)
    as_one = clone(model).fit(X[:400], Z[:400]).predict(X[400:])
    assert np.abs(as_one[200] - both.values[200]).max() > 0.01
    order = np.random.default_rng(0).permutation(800)
    mixed = model.predict(recording(X, shuffle=order))
    np.testing.assert_allclose(mixed.values, model.predict(x).values[order], atol=1e-12)
    assert (mixed.run.values == x.run.values[order]).all()


def test_a_missing_step_ends_a_stretch():
    X, Z = linear()
    x, z = recording(X), recording(Z)
    model = ba.KalmanDecoder().fit(x, z)
    holed = model.predict(x[np.r_[600:650, 700:800]])
    np.testing.assert_allclose(holed.values[50:], model.predict(x[700:800]).values, atol=1e-12)
    kept = np.r_[0:200, 250:800]
    cut = ba.KalmanDecoder().fit(x[kept], z[kept])
    states = z.values[kept].astype(float)
    states -= states.mean(axis=0)
    borders = np.split(np.arange(750), [200, 350, 550])
    np.testing.assert_allclose(cut.transition_, learn_dynamics(states, borders).transition, atol=1e-10)


def place_cells(n=8000, n_units=80, seed=0):
    """Return Poisson counts of units with a place field each, and where the animal is."""
    rng = np.random.default_rng(seed)
    z = walk(n, seed=seed)
    fields = rng.uniform(-2.5, 2.5, size=(n_units, 2))
    distance = ((z[:, None] - fields) ** 2).sum(axis=2)
    return rng.poisson(0.05 + 2 * np.exp(-distance / (2 * 0.6**2))).astype(float), z


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_with_place_fields_the_discriminative_filter_is_better_than_kalman_and_than_its_regressor():
    X, z = place_cells()
    network = MLPRegressor(hidden_layer_sizes=(64,), alpha=1.0, max_iter=30, random_state=0)
    models = {
        "kalman": ba.KalmanDecoder(), "discriminative": ba.KalmanDecoder("discriminative", network, cv=3),
        "robust": ba.KalmanDecoder("robust", network, cv=3), "unfiltered": network,
        "wiener": ba.TRF(0.0, 0.045, alphas=300.0, sampling_rate_hz=200.0),
    }  # fmt: skip
    error = {name: rmse(clone(model).fit(X[:6000], z[:6000]).predict(X[6000:]), z[6000:]) for name, model in models.items()}
    assert error["discriminative"] < 0.9 * min(error["kalman"], error["unfiltered"], error["wiener"])
    assert error["robust"] < min(error["kalman"], error["unfiltered"], error["wiener"])
    assert max(error.values()) < 0.6 * rmse(0, z[6000:])  # all say far more than the prior does


def test_of_a_linear_code_the_filters_and_the_filter_of_wiener_say_the_same():
    """The best filter of a linear code is linear, and forgets: ten rows of the past do as well as all."""
    X, z = linear(n=4000, noise=2.0)
    models = {
        "kalman": ba.KalmanDecoder(), "discriminative": ba.KalmanDecoder("discriminative"),
        "wiener": ba.TRF(0.0, 0.045, sampling_rate_hz=200.0), "one row": ba.Ridge(),
    }  # fmt: skip
    error = {name: rmse(model.fit(X[:3000], z[:3000]).predict(X[3000:]), z[3000:]) for name, model in models.items()}
    assert error["wiener"] == pytest.approx(error["kalman"], rel=0.03)
    assert error["discriminative"] == pytest.approx(error["kalman"], rel=0.03)
    assert max(error["wiener"], error["kalman"]) < 0.9 * error["one row"]


def test_even_tuning_says_nothing_of_the_state_and_the_guard_says_so():
    rng = np.random.default_rng(0)
    z = walk(2000, decay=0.8)
    counts = rng.poisson(np.exp(0.4 * np.abs(z) @ rng.uniform(size=(2, 40)))).astype(float)
    model = ba.KalmanDecoder("discriminative").fit(counts[:1500], z[:1500])
    with pytest.warns(
        DegeneratePredictionWarning, match=r"In 500 of 500 rows the regressor .* less certain .* look at the held-out score"
    ):
        prediction = model.predict(counts[1500:])
    prior = rmse(0, z[1500:])
    assert rmse(prediction, z[1500:]) == pytest.approx(prior, rel=0.1)
    for other in (ba.KalmanDecoder(), ba.TRF(0.0, 0.02, sampling_rate_hz=200.0, cv=3)):
        assert rmse(other.fit(counts[:1500], z[:1500]).predict(counts[1500:]), z[1500:]) == pytest.approx(prior, rel=0.1)


def test_noise_of_neighbours_follows_the_source():
    """A unit that says where the animal is only while a second one is loud: the filter listens to it only then."""
    rng = np.random.default_rng(0)
    z = walk(3000, d=1)
    loud = rng.random(3000) < 0.3
    x = np.column_stack([np.where(loud, z[:, 0] + 0.2 * rng.normal(size=3000), 0.0), 5.0 * loud])
    one, near = (ba.KalmanDecoder("discriminative", n_neighbors=k).fit(x[:2000], z[:2000]).predict(x[2000:]) for k in (None, 100))
    assert rmse(near, z[2000:]) < 0.8 * rmse(one, z[2000:])


@pytest.mark.parametrize("labels", [
    {"modality": "spikes", "system": "animal"}, {"modality": "ann", "system": "rnn", "layer": "hidden"},
], ids=["brain", "network"])  # fmt: skip
@pytest.mark.parametrize("method", ["kalman", "discriminative"])
def test_brain_and_recurrent_network_are_decoded_by_the_same_call(labels, method):
    X, Z = linear()
    states = recording(Z, modality="behaviour", system="position")
    x, ridge = recording(X, **labels), ba.Ridge(alphas=[1.0])
    model = ba.KalmanDecoder(method, None if method == "kalman" else ridge)
    out = ba.evaluate(x, states, model=model, cv=ba.split(states, by="run"), random_state=0)
    plain = ba.evaluate(x, states, model=ridge, cv=ba.split(states, by="run"), controls="none", random_state=0)
    assert (out.score > plain.score + 0.02).all()
    assert (out.score_minus_best_control > 0.5).all()


def test_it_goes_through_chains_and_permutations_as_any_mapping():
    X, Z = linear(400)
    x, z = recording(X), recording(Z, modality="behaviour", system="position")
    for model in (ba.chain(StandardScaler(), ba.KalmanDecoder()), ba.chain(ba.Delay([0, 0.5]), ba.KalmanDecoder())):
        out = ba.evaluate(x, z, model=model, cv=ba.split(z, by="run"), controls="none", n_permutations=9, random_state=0)
        assert (out.score > 0.7).all()
        assert (out.p_value == 0.1).all()


@pytest.mark.filterwarnings(DEGENERATE)
@pytest.mark.parametrize("method", ["kalman", "discriminative", "robust"])
def test_noise_scores_zero(method):
    model = ba.KalmanDecoder(method, None if method == "kalman" else ba.Ridge(alphas=[1.0]))
    scores = []
    for seed in range(6):
        X = np.random.default_rng(seed).normal(size=(400, 6))
        x, z = recording(X), recording(walk(400, decay=0.8, seed=100 + seed))
        scores.append(ba.evaluate(x, z, model=model, cv=ba.split(z, by="run"), controls="none", random_state=0).score)
    assert abs(float(np.mean(scores))) < 0.08


def test_more_features_than_rows_and_constant_ones_do_no_harm():
    rng = np.random.default_rng(0)
    z = walk(120, d=1)
    X = np.hstack([z @ rng.normal(size=(1, 300)) + 3 * rng.normal(size=(120, 300)), np.full((120, 1), 7.0)])
    model = ba.KalmanDecoder().fit(X[:80], z[:80])
    assert rmse(model.predict(X[80:]), z[80:]) < 0.6 * rmse(0, z[80:])
    exact = np.round(walk(80, d=2), 1)  # a source that is the state itself leaves no noise
    for method in ("kalman", "robust"):
        np.testing.assert_allclose(ba.KalmanDecoder(method).fit(exact, exact).predict(exact), exact, atol=1e-2)
    still = ba.KalmanDecoder().fit(np.ones((80, 2)), z[:80])
    np.testing.assert_allclose(still.predict(np.ones((5, 2))), np.broadcast_to(z[:80].mean(), (5, 1)))


def test_degenerate_targets_are_nan_and_disturb_no_other():
    X, Z = linear(200)
    bad = np.column_stack([Z[:, 0], np.full(200, 3.0), Z[:, 1], np.r_[np.nan, Z[1:, 0]]])
    for method in ("kalman", "robust"):
        model = ba.KalmanDecoder(method).fit(X, bad)
        assert model.status_.tolist() == ["ok", "constant", "ok", "nan"]
        prediction = model.predict(X)
        np.testing.assert_array_equal(prediction[:, [0, 2]], ba.KalmanDecoder(method).fit(X, Z).predict(X))
        assert np.isnan(prediction[:, [1, 3]]).all()
    assert np.isnan(ba.KalmanDecoder().fit(X, bad[:, [1, 3]]).predict(X)).all()


def test_a_state_that_stays_within_a_fold_is_taken_for_its_mean_there():
    X, Z = linear(200)
    Z[:120, 1] = 4.0
    held = ba.KalmanDecoder("robust", cv=[(np.arange(100), np.arange(100, 200))]).fit(X, Z)
    assert np.isfinite(held.predict(X)).all()


@pytest.mark.parametrize("method", ["kalman", "discriminative"])
def test_a_row_with_nan_is_bridged_by_the_dynamics(method):
    X, Z = linear(200)
    model = ba.KalmanDecoder(method).fit(X, Z)
    lost = X.copy()
    lost[50, 3] = np.nan
    prediction = model.predict(lost)
    np.testing.assert_allclose(prediction[50] - model.mean_, model.transition_ @ (prediction[49] - model.mean_))
    assert np.isfinite(prediction).all()
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 10 features"):
        assert np.isfinite(ba.KalmanDecoder(method).fit(lost, Z).predict(X)).all()


def test_what_cannot_be_decoded_is_refused_with_the_reason():
    X, Z = linear(200)
    x, z = recording(X), recording(Z)
    with pytest.raises(AlignmentError, match=r"target whose run, onset_s tells apart .*assign_coords\(run=y\.run\)"):
        ba.KalmanDecoder().fit(x.drop_vars(["run", "onset_s"]), z)
    with pytest.raises(AlignmentError, match="target whose run, onset_s"):
        ba.KalmanDecoder().fit(X, z)
    with pytest.raises(ParameterError, match=r"3 states of KalmanDecoder span 2 dimensions.*principal components"):
        ba.KalmanDecoder().fit(X, np.column_stack([Z, Z.sum(axis=1)]))
    with pytest.raises(ParameterError, match=r"got 2 steps .* for 2 states. Expected more steps"):
        ba.KalmanDecoder().fit(X[:3], Z[:3])
    with pytest.raises(SchemaError, match=r"rows of one run at the same `onset_s`: 0.0, 0.0"):
        ba.KalmanDecoder().fit(x.drop_vars("run"), z.drop_vars("run"))
    fast = x.assign_coords(onset_s=x.onset_s / 10)
    with pytest.raises(AlignmentError, match=r"rows that are 0\.05 s apart\. Expected 0\.5 s, as in `fit`"):
        ba.KalmanDecoder().fit(x, z).predict(fast)
    with pytest.raises(ParameterError, match=r"'method' parameter of KalmanDecoder must be one of .* Got 'ukf'"):
        ba.KalmanDecoder("ukf").fit(X, Z)
    with pytest.raises(ParameterError, match="n_neighbors=5 with method='kalman', which has no use for it"):
        ba.KalmanDecoder(n_neighbors=5).fit(X, Z)
    with pytest.raises(ParameterError, match="'n_neighbors' parameter of KalmanDecoder must be an int"):
        ba.KalmanDecoder("robust", n_neighbors=0).fit(X, Z)


def test_parameters_pass_through_clone():
    model = ba.KalmanDecoder("robust", regressor=ba.Ridge(alphas=[1.0]), n_neighbors=20, cv=3, groups="run")
    assert repr(clone(model)) == repr(model)
