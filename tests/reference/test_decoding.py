"""Decoding over time against MNE's sliding and generalising estimators with scikit-learn, fold by fold."""

import numpy as np
import pytest
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import get_scorer, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import brainalign as ba

mne = pytest.importorskip("mne")
from mne.decoding import GeneralizingEstimator, SlidingEstimator, cross_val_multiscore  # noqa: E402

N, C, T = 60, 8, 4
LDA = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
CLASSIFIERS = {
    "lda": (ba.Classifier("lda"), LDA),
    "ridge": (ba.Classifier("ridge", C=0.5), make_pipeline(StandardScaler(), RidgeClassifier(alpha=2.0))),
    "logistic": (ba.Classifier("logistic"), make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
    "of scikit-learn": (LDA, LDA),
}


def recording(n_classes, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(N) % n_classes
    values = rng.normal(size=(N, C, T)).astype(np.float32) + 0.8 * rng.normal(size=(n_classes, C, T)).astype(np.float32)[label]
    x = ba.responses(values, stimulus_id=[f"s{i}" for i in range(N)], neuroid_id=range(C), time=np.arange(T) / 100, modality="meg",
                     system="sub-01", condition=[f"c{k}" for k in label])  # fmt: skip
    return x, label, ba.split(x, stratify="condition", n_splits=4, random_state=0)


def of_mne(x, y, folds, estimator, generalize, scoring):
    kind = GeneralizingEstimator if generalize else SlidingEstimator
    splits = [(fold.train, fold.test) for fold in folds.on(x)]
    return cross_val_multiscore(kind(estimator, scoring=scoring, verbose="error"), x.values.astype(np.float64), y, cv=splits)


@pytest.mark.parametrize("generalize", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name, n_classes, generalize):
    ours, theirs = CLASSIFIERS[name]
    x, label, folds = recording(n_classes)
    found = ba.decode_time(x, "condition", model=ours, cv=folds, generalize=generalize)
    wanted = of_mne(x, label, folds, theirs, generalize, "roc_auc" if n_classes == 2 else "balanced_accuracy")
    np.testing.assert_allclose(found.score_by_fold, wanted, atol=1e-10)
    np.testing.assert_allclose(found.score, wanted.mean(axis=0), atol=1e-10)  # of folds with as many pairs, and of each class


@pytest.mark.parametrize("generalize", [False, True])
def test_accuracy(generalize):
    x, label, folds = recording(2)
    found = ba.decode_time(x, "condition", cv=folds, metric="accuracy", generalize=generalize)
    np.testing.assert_allclose(found.score_by_fold, of_mne(x, label, folds, LDA, generalize, "accuracy"), atol=1e-10)


def correlation(truth, prediction):
    return np.corrcoef(truth, prediction)[0, 1]


@pytest.mark.parametrize("generalize", [False, True])
@pytest.mark.parametrize("fast", [True, False])
def test_an_embedding(fast, generalize):
    """All outputs at once, where MNE takes them one by one."""
    x, _, folds = recording(2)
    numbers = np.random.default_rng(1).normal(size=(N, 3)) + x.values[:, :3, 2]
    target = ba.responses(numbers, stimulus_id=x.stimulus_id, neuroid_id=range(3), modality="behaviour", system="embedding")
    peer = make_pipeline(StandardScaler(), Ridge(alpha=3.0))
    model = ba.Ridge(alphas=[3.0], standardize="train") if fast else peer
    found = ba.decode_time(x, target, model=model, cv=folds, generalize=generalize)
    y, scoring = target.values.astype(np.float64), make_scorer(correlation)
    wanted = [of_mne(x, y[:, k], folds, peer, generalize, scoring) for k in range(3)]
    np.testing.assert_allclose(found.score_by_fold, np.mean(wanted, axis=0), atol=1e-10)


def test_the_areas_are_those_of_the_usual_scorer():
    x, label, folds = recording(2)
    fold = folds.on(x)[0]
    peer = LDA.fit(x.values[fold.train, :, 1].astype(np.float64), label[fold.train])
    wanted = get_scorer("roc_auc")(peer, x.values[fold.test, :, 1].astype(np.float64), label[fold.test])
    assert float(ba.decode_time(x, "condition", cv=folds).score_by_fold[0, 1]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("method", ["mass", "tfce"])
@pytest.mark.parametrize("generalize", [False, True])
def test_clusters_over_people_are_those_of_mne(method, generalize):
    """Of all sign changes; one-sided, MNE counts the data twice and leaves out the draw in which all signs change."""
    people = {f"sub-{k}": recording(2, seed=k)[0] for k in range(7)}
    out = ba.decode_time(people, "condition", model=ba.Classifier("ridge"), cv=4, generalize=generalize, random_state=0)
    found = ba.permutation_test(out, over="source", clusters=method, n_permutations=1000, random_state=0)
    values = out.score.values - 0.5
    threshold = stats.t.isf(0.05, 6) if method == "mass" else {"start": 0.0, "step": 0.1}
    _, clusters, p, _ = mne.stats.permutation_cluster_1samp_test(
        values, threshold=threshold, n_permutations=1000, tail=1, out_type="mask", verbose="error"
    )
    wanted = p.reshape(values.shape[1:]) if method == "tfce" else np.ones(values.shape[1:])
    for cluster, value in zip(clusters, p, strict=False):
        if method == "mass":
            wanted[cluster] = value
    assert found.p_value_cluster.dims == out.score.dims[1:]
    np.testing.assert_allclose(found.p_value_cluster, wanted, atol=1.0001 / 2**7)
