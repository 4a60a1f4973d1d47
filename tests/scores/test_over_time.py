"""Scores of times, folds and labelings: fast rules and the loop agree, side by side as one by one, and sums add up over folds."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

import brainalign as ba
import brainalign.scores.over_time as module
from brainalign.core.errors import CapabilityError
from brainalign.dataset.folds import Fold
from brainalign.scores.over_time import METRICS, Task, fast_rules, patterns_of, score_times

N, C, T = 36, 5, 3
RNG = np.random.default_rng(0)
X = ba.responses(RNG.normal(size=(N, C, T)) + np.arange(C)[:, None], stimulus_id=[f"s{i}" for i in range(N)], neuroid_id=range(C), time=[0.0, 0.1, 0.2],
                 modality="meg", system="x")  # fmt: skip
FOLDS = [Fold(str(k), np.flatnonzero(np.arange(N) % 3 != k), np.flatnonzero(np.arange(N) % 3 == k)) for k in range(3)]
PAIRS = {
    "lda": (ba.Classifier("lda"), ba.Classifier(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))),
    "ridge": (ba.Classifier("ridge", C=0.1), ba.Classifier(make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0)))),
    "numbers": (ba.Ridge(alphas=[10.0], standardize="train"), make_pipeline(StandardScaler(), Ridge(alpha=10.0))),
}


def task(model, n_classes=2, generalize=False, metric=None):
    metric = metric or ("pearson" if not n_classes else "auc" if n_classes == 2 else "balanced-accuracy")
    return Task(X, FOLDS, ba.chain(model), metric, n_classes, generalize, "float64")


def labelings(n_classes, n=3):
    if not n_classes:
        return RNG.normal(size=(n, N, 2))
    return np.stack([np.arange(N) // 3 % n_classes] + [RNG.permutation(np.arange(N) // 3 % n_classes) for _ in range(n - 1)])


@pytest.mark.parametrize("generalize", [False, True])
@pytest.mark.parametrize(("name", "n_classes"), [("lda", 2), ("lda", 3), ("ridge", 2), ("ridge", 3), ("numbers", 0)])
def test_fast_rules_give_the_scores_of_the_loop(name, n_classes, generalize):
    fast, slow = (task(model, n_classes, generalize) for model in PAIRS[name])
    assert fast_rules(fast) is not None
    assert fast_rules(slow) is None
    targets = labelings(n_classes)
    for ours, theirs in zip(score_times(fast, targets), score_times(slow, targets), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize(
    "model",
    [
        ba.Classifier("lda"),
        ba.Classifier("ridge"),
        ba.Ridge(alphas=[1.0], standardize="train"),
        ba.Ridge(alphas=[1.0], dtype="float64"),
    ],
)
def test_labelings_side_by_side_are_those_one_by_one(model, monkeypatch):
    ask = task(model, 2 if model.is_classifier else 0, generalize=True)
    targets = labelings(ask.n_classes, 5)
    together = score_times(ask, targets)[0]
    monkeypatch.setattr(module, "_VALUES", 1)
    np.testing.assert_allclose(score_times(ask, targets)[0], together, atol=1e-10)


def test_times_that_are_fitted_at_once_score_the_same():
    ask = task(ba.Ridge(alphas=[1.0, 100.0], cv=3, dtype="float64"), 0, generalize=True)
    targets = labelings(0)
    assert fast_rules(ask) is None
    with threadpool_limits(1):
        expected = score_times(ask, targets)
    with threadpool_limits(3):
        found = score_times(ask, targets)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize(
    "different", [{"alphas": None}, {"standardize": "none"}, {"fit_intercept": False}, {"alphas": [1.0, 2.0]}, {"alphas": [0.0]}]
)
def test_a_ridge_that_is_fitted_otherwise_is_left_to_itself(different):
    assert fast_rules(task(clone(PAIRS["numbers"][0]).set_params(**different), 0)) is None


def test_a_chain_and_a_classifier_without_decision_values():
    codes = labelings(2, 1)
    chained = score_times(task(ba.chain(StandardScaler(), ba.Classifier("lda"))), codes)[0]
    assert chained.shape == (1, T)
    assert score_times(task(ba.Classifier(KNeighborsClassifier(3))), codes)[0].shape == (1, T)

    class Mute(KNeighborsClassifier):
        predict_proba = property()

    assert np.isfinite(score_times(task(ba.Classifier(Mute()), metric="accuracy"), codes)[0]).all()
    with pytest.raises(CapabilityError, match="has no predict_proba"):
        score_times(task(ba.Classifier(Mute())), codes)


def test_accuracies_are_those_of_predictions():
    """Not of decision values: a support vector machine of three classes votes."""
    codes = labelings(3, 1)
    found = score_times(task(ba.Classifier(SVC()), 3), codes)[1][:, 0]
    x = X.values[..., 0].astype(np.float64)
    wanted = [balanced_accuracy_score(codes[0][b], SVC().fit(x[a], codes[0][a]).predict(x[b])) for _, a, b in FOLDS]
    np.testing.assert_allclose(found, wanted)


def test_scores_are_pooled_as_pairs_hits_and_deviations():
    """A fold with few pairs weighs little, and one without any nothing."""
    metric = METRICS["auc"]
    values = np.array([0.1, 0.4, 0.3, 0.2])[:, None, None]
    sums = (
        metric.sums(values, np.array([[0, 1, 1, 0]]), 2)
        + metric.sums(values[:2], np.array([[1, 0]]), 2)
        + metric.sums(values, np.ones((1, 4)), 2)
    )
    assert metric.value(sums).item() == pytest.approx(4 / 5)
    hits = METRICS["accuracy"].sums(values - 0.15, np.array([[0, 1, 0, 0]]), 2)
    assert METRICS["accuracy"].value(hits).item() == 0.5
    assert METRICS["balanced-accuracy"].value(hits).item() == pytest.approx((1 / 3 + 1) / 2)
    flat = METRICS["pearson"].sums(np.ones((4, 1, 1)), RNG.normal(size=(1, 4, 1)), 0)
    with np.errstate(invalid="ignore"):
        assert np.isnan(METRICS["pearson"].value(flat)).all()


def test_an_output_with_nan_spoils_no_other():
    numbers = labelings(0, 1)
    broken = numbers.copy()
    broken[0, 3, 1] = np.nan
    with np.errstate(invalid="ignore"):
        found = score_times(task(PAIRS["numbers"][0], 0), broken)[0]
    np.testing.assert_allclose(found[0, 0], score_times(task(PAIRS["numbers"][0], 0), numbers)[0][0, 0])
    assert np.isnan(found[0, 1]).all()


def test_patterns_are_of_rules_that_saw_all_training_rows():
    codes = labelings(3, 1)[0]
    ask = task(ba.Classifier("ridge"), 3)
    assert patterns_of(ask, codes).shape == (3, C, T)
    assert patterns_of(replace(ask, n_classes=2), codes % 2).shape == (1, C, T)
    with pytest.raises(CapabilityError, match="whose weights are known"):
        patterns_of(task(ba.Classifier("svm")), codes % 2)
