import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError


def problem(n=80, p=20, n_targets=5, seed=0, n_hidden=3):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, n_hidden))
    X = hidden @ rng.normal(size=(n_hidden, p)) + rng.normal(size=(n, p)) + 2
    return X, hidden @ rng.normal(size=(n_hidden, n_targets)) + rng.normal(size=(n, n_targets)) + 3


def test_the_choice_of_components_finds_the_planted_number():
    X, Y = problem(400, 30, n_targets=20)
    model = ba.PLS().fit(X, Y)
    assert np.median(model.n_components_) == 3
    assert np.median(model.cv_score_) > 0.5
    fixed = ba.PLS(3).fit(X, Y)
    same = model.n_components_ == 3
    np.testing.assert_allclose(model.coef_[:, same], fixed.coef_[:, same], atol=1e-6)
    assert np.isnan(fixed.cv_score_).all()


def test_a_sequence_names_the_candidates():
    X, Y = problem()
    assert set(ba.PLS([2, 8]).fit(X, Y).n_components_) <= {2, 8}
    np.testing.assert_array_equal(ba.PLS([4]).fit(X, Y).coef_, ba.PLS(4).fit(X, Y).coef_)


def test_the_default_looks_as_far_as_folds_and_features_allow():
    X, Y = problem(12, 40)
    assert ba.PLS(cv=3).fit(X, Y).n_components_.max() <= 7
    assert ba.PLS().fit(X[:, :1], Y).n_components_.tolist() == [1] * 5


def test_weights_and_intercept_make_the_prediction():
    X, Y = problem()
    model = ba.PLS(4, dtype="float64").fit(X, Y)
    np.testing.assert_allclose(X @ model.coef_ + model.intercept_, model.predict(X), atol=1e-10)


def test_degenerate_targets_are_named_and_disturb_no_other():
    X, Y = problem(n_targets=3)
    clean = ba.PLS().fit(X, Y)
    bad = np.column_stack([Y[:, 0], np.full(len(Y), 4.2), Y[:, 1], np.r_[np.nan, Y[1:, 0]], Y[:, 2]])
    model = ba.PLS().fit(X, bad)
    assert model.status_.tolist() == ["ok", "constant", "ok", "nan", "ok"]
    prediction = model.predict(X)
    np.testing.assert_array_equal(prediction[:, [0, 2, 4]], clean.predict(X))
    assert np.isnan(prediction[:, [1, 3]]).all()
    assert (model.n_components_ == 0).tolist() == [False, True, False, True, False]
    assert (model.coef_[:, 1] == 0).all()
    assert model.intercept_[1] == pytest.approx(4.2)
    assert np.isnan(model.coef_[:, 3]).all()
    assert np.isnan(ba.PLS().fit(X, Y * np.nan).predict(X)).all()


def test_features_with_nan_are_left_out_and_constant_ones_are_harmless():
    X, Y = problem()
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 21 features"):
        model = ba.PLS(3).fit(np.insert(X, 3, np.nan, axis=1), Y)
    clean = ba.PLS(3).fit(X, Y)
    np.testing.assert_allclose(np.delete(model.coef_, 3, axis=0), clean.coef_, atol=1e-6)
    assert (model.coef_[3] == 0).all()
    constant = ba.PLS(3).fit(np.insert(X, 0, 1e3, axis=1), Y)
    np.testing.assert_allclose(constant.coef_[1:], clean.coef_, atol=1e-5)
    np.testing.assert_allclose(constant.coef_[0], 0, atol=1e-6)


def test_inner_folds_follow_the_labels():
    X, Y = problem(60)
    names = [f"s{i // 2}" for i in range(60)]
    y = ba.responses(Y, stimulus_id=names, neuroid_id=range(5), modality="fmri", system="sub-01")
    by_label = ba.PLS(cv=4).fit(X, y)
    by_hand = ba.PLS(cv=[(f.train, f.test) for f in ba.split(y, n_splits=4, random_state=0).on(y)]).fit(X, Y)
    np.testing.assert_array_equal(by_label.n_components_, by_hand.n_components_)
    np.testing.assert_array_equal(ba.PLS(cv=3, groups=names).fit(X, Y).n_components_, ba.PLS(cv=3, groups="stimulus_id").fit(X, y).n_components_)  # fmt: skip


def test_it_goes_through_evaluate_and_readout_as_any_affine_mapping():
    import torch

    torch.manual_seed(0)
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh()), layers="1", system="net")
    images = ba.stimuli.table(
        np.random.default_rng(0).normal(size=(50, 6)), stimulus_id=[f"s{i}" for i in range(50)], kind="array"
    )
    features = ba.record(net, images, progress=False)
    brain = ba.responses(features.values[:, :2] + 1, stimulus_id=features.stimulus_id, neuroid_id=["a", "b"], modality="fmri",
                         system="sub-01")  # fmt: skip
    model = ba.chain(StandardScaler(), ba.PLS(6))
    assert (ba.evaluate(features, brain, model=model, cv=4, random_state=0).score > 0.9).all()
    voxels = ba.record(ba.readout(net, model.fit(features, brain)), images, progress=False)
    np.testing.assert_allclose(voxels.values, model.predict(features).values, atol=1e-4)


def test_parameters_pass_through_clone():
    model = ba.PLS([1, 2], cv=3, dtype="float64")
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize("n_components", [0, 21, 2.5, "all", [], [1, 99], True])
def test_a_number_of_components_that_cannot_be_is_named(n_components):
    with pytest.raises(ParameterError, match=r"'n_components' parameter of PLS must be .* from 1 to 20 .*20 features.* Got"):
        ba.PLS(n_components).fit(*problem())


def test_few_rows_allow_few_components():
    X, Y = problem(10, 30)
    with pytest.raises(ParameterError, match=r"from 1 to 7 .*smallest training set 8 rows.* Got \[4, 8\]"):
        ba.PLS([4, 8]).fit(X, Y)


def test_labels_are_sent_to_the_classifier():
    with pytest.raises(ParameterError, match=r"target of dtype .*Expected numbers: labels go to `ba\.Classifier"):
        ba.PLS().fit(np.eye(4), np.array(list("abab")))


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_a_dtype_that_is_none_of_two_is_named(dtype):
    with pytest.raises(ParameterError, match="'dtype' parameter of PLS"):
        ba.PLS(dtype=dtype).fit(*problem())


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ParameterError, match=r"'device' parameter of PLS must .* Got 'tpu'"):
        ba.PLS(2, device="tpu").fit(*problem())
