"""Decoding at every time: equal to scikit-learn fold by fold, blind where nothing is to be seen, square or diagonal as the code is."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from brainalign.engine.timewise import (
    area_under_curve,
    decode_times,
    generalize_times,
    haufe_patterns,
    lda_rules,
    ridge_rules,
)

N, C, T = 60, 12, 7
RNG = np.random.default_rng(0)
LABEL = RNG.permutation(np.repeat([0, 1], N // 2))
SIGNS = (2.0 * LABEL - 1)[:, None]


@pytest.fixture(autouse=True)
def workers():
    """Pieces go side by side, whatever this run allows products."""
    with threadpool_limits(3, user_api="blas"):
        yield


def recording(n_channels=C, offset=5.0, strength=1.0):
    x = RNG.normal(size=(N, n_channels, T)) * np.logspace(-1, 1, n_channels)[:, None] + offset
    x[:, 0] += strength * LABEL[:, None]
    return x


FOLDS = list(StratifiedKFold(4).split(LABEL, LABEL))
GAPPED = [(train[5:], test) for train, test in FOLDS]  # rows near the test rows are left out


def decision_values(values, test):
    return values


@pytest.mark.parametrize("n_channels", [C, 2 * N])
@pytest.mark.parametrize("folds", [FOLDS, GAPPED], ids=["all the rest", "gap"])
def test_ridge_is_that_of_a_pipeline(n_channels, folds):
    x, Y = recording(n_channels), np.c_[SIGNS, RNG.normal(size=(N, 3))]
    ours = decode_times(x, folds, lambda now: ridge_rules(now, Y, folds, alpha=3.0), decision_values)
    for k, (train, test) in enumerate(folds):
        for t in range(T):
            peer = make_pipeline(StandardScaler(), Ridge(alpha=3.0)).fit(x[train, :, t], Y[train])
            np.testing.assert_allclose(ours[k, t], peer.predict(x[test, :, t]), atol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("folds", [FOLDS, GAPPED], ids=["all the rest", "gap"])
def test_lda_is_that_of_sklearn(n_classes, folds):
    x, codes = recording(), (LABEL + (np.arange(N) % 3 == 0)) % n_classes
    ours = decode_times(x, folds, lambda now: lda_rules(now, codes, folds), decision_values)
    for k, (train, test) in enumerate(folds):
        for t in range(T):
            peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x[train, :, t], codes[train])
            mine, theirs = ours[k, t].squeeze(), peer.decision_function(x[test, :, t])
            if n_classes > 2:  # what all classes have in common decides nothing
                mine, theirs = (v - v.mean(axis=1, keepdims=True) for v in (mine, theirs))
            np.testing.assert_allclose(mine, theirs, atol=1e-9)


def test_a_channel_that_never_varies_changes_nothing():
    x = recording()
    flat = np.concatenate([x, np.full((N, 1, T), 7.0)], axis=1)
    for rules in (lambda now: ridge_rules(now, SIGNS, FOLDS), lambda now: lda_rules(now, LABEL, FOLDS)):
        found = decode_times(flat, FOLDS, rules, decision_values)
        assert np.isfinite(found).all()
    np.testing.assert_allclose(
        decode_times(flat, FOLDS, lambda now: ridge_rules(now, SIGNS, FOLDS), decision_values),
        decode_times(x, FOLDS, lambda now: ridge_rules(now, SIGNS, FOLDS), decision_values),
        atol=1e-10,
    )


def test_labelings_side_by_side_are_those_one_by_one():
    x, permuted = recording(), np.stack([RNG.permutation(SIGNS[:, 0]) for _ in range(5)], axis=1)
    together = decode_times(x, FOLDS, lambda now: ridge_rules(now, permuted, FOLDS), decision_values)
    for i in range(5):
        alone = decode_times(x, FOLDS, lambda now, i=i: ridge_rules(now, permuted[:, [i]], FOLDS), decision_values)
        np.testing.assert_allclose(together[..., i], alone[..., 0], atol=1e-12)


def test_float32_is_the_same_to_its_own_digits():
    x = recording()
    wide = decode_times(x, FOLDS, lambda now: ridge_rules(now, SIGNS, FOLDS), decision_values)
    narrow = decode_times(x.astype(np.float32), FOLDS, lambda now: ridge_rules(now, SIGNS, FOLDS), decision_values)
    np.testing.assert_allclose(narrow, wide, atol=1e-4)


def test_generalisation_has_the_decoding_of_each_time_on_its_diagonal():
    x = recording()
    rules = lambda now: ridge_rules(now, SIGNS, FOLDS)  # noqa: E731
    square = generalize_times(x, FOLDS, rules, decision_values)  # (fold, train time, test row, output, test time)
    sliding = decode_times(x, FOLDS, rules, decision_values)
    for t in range(T):
        np.testing.assert_allclose(square[:, t, ..., t], sliding[:, t], atol=1e-10)


def test_a_sustained_code_gives_a_square_and_a_rotating_one_a_diagonal():
    noise, patterns = RNG.normal(size=(N, 40, T)), RNG.normal(size=(40, T))
    found = {}
    for name, code in (("sustained", np.repeat(patterns[:, :1], T, axis=1)), ("rotating", patterns)):
        x = noise + SIGNS[:, :, None] * code
        auc = generalize_times(
            x, FOLDS, lambda now: ridge_rules(now, SIGNS, FOLDS), lambda v, test: area_under_curve(v, LABEL[test] == 1)
        ).mean(axis=0)[:, 0]
        found[name] = np.diagonal(auc).min(), np.abs(auc[~np.eye(T, dtype=bool)] - 0.5).mean()
    assert found["sustained"][0] > 0.95
    assert found["rotating"][0] > 0.95
    assert found["sustained"][1] > 0.45
    assert found["rotating"][1] < 0.25


def test_area_under_the_curve_is_that_of_sklearn_with_and_without_ties():
    truth = RNG.random((30, 4)) < 0.4
    for values in (RNG.normal(size=(30, 4)), RNG.integers(0, 4, size=(30, 4)).astype(float)):
        want = [roc_auc_score(truth[:, i], values[:, i]) for i in range(4)]
        np.testing.assert_allclose(area_under_curve(values, truth), want, atol=1e-12)
        np.testing.assert_allclose(area_under_curve(values, truth[:, 0])[0], want[0], atol=1e-12)
    assert np.isnan(area_under_curve(values, np.ones(30, bool))).all()
    assert area_under_curve(np.zeros((30, 1)), truth[:, 0]).item() == 0.5


def test_patterns_show_the_signal_and_weights_also_what_cancels_noise():
    """Two channels with the same noise, one with the signal: the other has weight, and no pattern."""
    signal, noise = RNG.normal(size=(2, 4000))
    x = np.c_[signal + noise, noise]
    weights = np.array([[1.0], [-1.0]])
    np.testing.assert_allclose(haufe_patterns(x, weights)[:, 0], [1.0, 0.0], atol=0.06)


def test_folds_that_leave_one_out():
    folds = list(KFold(N).split(LABEL))
    x = recording()
    ours = decode_times(x, folds, lambda now: ridge_rules(now, SIGNS, folds), decision_values)
    peer = make_pipeline(StandardScaler(), Ridge(alpha=1.0)).fit(x[1:, :, 0], SIGNS[1:, 0]).predict(x[:1, :, 0])
    np.testing.assert_allclose(ours[0, 0, 0], peer, atol=1e-10)


def test_a_time_at_which_nothing_varies_has_no_rule():
    x = recording()
    x[..., 0] = 3.0
    for rules in (lambda now: ridge_rules(now, SIGNS, FOLDS), lambda now: lda_rules(now, LABEL, FOLDS)):
        values = decode_times(x, FOLDS, rules, decision_values)[:, 0]
        assert np.ptp(values, axis=1).max() < 1e-10


def test_the_work_may_be_wider_than_the_recording():
    x = recording().astype(np.float32)
    rules = lambda now: ridge_rules(now, SIGNS, FOLDS)  # noqa: E731
    for run in (decode_times, generalize_times):
        np.testing.assert_array_equal(
            run(x, FOLDS, rules, decision_values, dtype=np.float64), run(x.astype(np.float64), FOLDS, rules, decision_values)
        )
