import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.schema import as_labels

METHODS = ["lda", "svm", "logistic", KNeighborsClassifier(3)]


def problem(n=60, p=8, seed=0, names=("cat", "dog", "eel")):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % len(names)
    X = rng.normal(size=(n, p)) + 2.5 * rng.permutation(np.eye(p))[: len(names)][codes]
    return X, codes, np.array(names)[codes]


def labelled(X, codes, names=None):
    ids = [f"s{i}" for i in range(len(X))]
    x = ba.responses(X, stimulus_id=ids, neuroid_id=range(X.shape[1]), modality="spikes", system="mouse")
    y = ba.responses(codes[:, None], stimulus_id=ids, neuroid_id=["label"], modality="behaviour", system="stimulus")
    if names:
        y.attrs["classes"] = json.dumps(names)
    return x, y


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_names_held_out_presentations(method):
    X, _, names = problem()
    model = ba.Classifier(method, random_state=0).fit(X[:40], names[:40])
    assert (model.predict(X[40:]) == names[40:]).mean() > 0.8
    assert model.classes_.tolist() == ["cat", "dog", "eel"]


def test_lda_is_sklearns_with_ledoit_wolf_shrinkage():
    X, codes, _ = problem(p=80)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, codes)
    np.testing.assert_allclose(ba.Classifier().fit(X, codes).predict_proba(X), reference.predict_proba(X))


@pytest.mark.parametrize("method", METHODS[:3])
@pytest.mark.parametrize("scale", [1e-13, 1e6])
def test_units_do_not_matter(method, scale):
    X, codes, _ = problem()
    plain = ba.Classifier(method, random_state=0).fit(X, codes).decision_function(X)
    scaled = ba.Classifier(method, random_state=0).fit(scale * X, codes).decision_function(scale * X)
    np.testing.assert_allclose(plain, scaled, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [object, as_labels])
def test_labels_of_any_kind_come_back(dtype):
    X, _, names = problem()
    labels = names.astype(dtype) if dtype is object else dtype(names)
    assert (ba.Classifier().fit(X, labels).predict(X) == labels).mean() > 0.8


def test_labelled_codes_in_labelled_codes_out():
    X, codes, _ = problem()
    x, y = labelled(X, codes, ["cat", "dog", "eel"])
    model = ba.Classifier().fit(x[:40], y[:40])
    out = model.predict(x[40:])
    ba.validate(out)
    assert out.dims == ("presentation", "neuroid")
    assert out.dtype.kind == "i"
    assert json.loads(out.attrs["classes"]) == ["cat", "dog", "eel"]
    assert model.classes_.tolist() == ["cat", "dog", "eel"]
    assert (out.values == y[40:].values).mean() > 0.8
    probability = model.predict_proba(x[40:])
    assert probability.dims == ("presentation", "class")
    np.testing.assert_allclose(probability.sum("class"), 1.0)
    assert probability["class"].values.tolist() == ["cat", "dog", "eel"]
    assert probability.stimulus_id.values.tolist() == x[40:].stimulus_id.values.tolist()


def test_classes_are_named_after_the_codes_that_were_seen():
    X, codes, _ = problem()
    x, y = labelled(X, codes, ["cat", "dog", "eel"])
    seen = np.flatnonzero(codes != 0)
    model = ba.Classifier().fit(x[seen], y[seen])
    assert model.classes_.tolist() == ["dog", "eel"]
    assert set(model.predict(x).values.ravel().tolist()) <= {1, 2}
    assert model.decision_function(x).dims == ("presentation",)


def test_capabilities_that_are_absent_are_named():
    X, codes, _ = problem()
    with pytest.raises(CapabilityError, match="'svm' has no predict_proba"):
        ba.Classifier("svm").fit(X, codes).predict_proba(X)


def test_bad_input_is_named():
    X, codes, _ = problem()
    with pytest.raises(ParameterError, match=r"'ldaa' instead. Did you mean 'lda'\?"):
        ba.Classifier("ldaa").fit(X, codes)
    with pytest.raises(ParameterError, match="Got -1"):
        ba.Classifier("svm", C=-1).fit(X, codes)
    with pytest.raises(ParameterError, match="Got 3 instead"):
        ba.Classifier(3).fit(X, codes)
    with pytest.raises(ParameterError, match="2 columns"):
        ba.Classifier().fit(X, np.stack([codes, codes], axis=1))
    with pytest.raises(ParameterError, match="single class 1"):
        ba.Classifier().fit(X[codes == 1], codes[codes == 1])
    x, y = labelled(X, codes)
    with pytest.raises(ParameterError, match="dtype float32"):
        ba.Classifier().fit(x, y.astype(np.float32))


def test_obeys_the_estimator_contract():
    model = ba.Classifier("svm", C=0.5, random_state=3)
    assert clone(model).get_params() == model.get_params()
    assert model.is_classifier
    assert not getattr(ba.Ridge(), "is_classifier", False)
