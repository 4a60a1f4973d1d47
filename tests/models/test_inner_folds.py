import warnings

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SplitError
from brainalign.models.inner_folds import inner_splits, restricted, row_weights


def problem(n=80, p=20, n_targets=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 2
    return X, X @ rng.normal(size=(p, n_targets)) + rng.normal(size=(n, n_targets)) * np.linspace(1, 20, n_targets) + 3


def test_inner_folds_keep_groups_together():
    groups = np.repeat(list("abcdefg"), [10, 3, 8, 8, 1, 5, 5])
    for train, test in inner_splits(3, groups, 40, None):
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == 40
        assert 8 <= len(test) <= 18
    X, Y = problem(40)
    model = ba.Ridge(groups=groups, cv=3, dtype="float64").fit(X, Y)
    expected = ba.Ridge(cv=inner_splits(3, groups, 40, None), dtype="float64").fit(X, Y)
    np.testing.assert_array_equal(model.alpha_, expected.alpha_)


def test_labelled_rows_are_split_by_their_labels():
    rng = np.random.default_rng(0)
    ids = np.repeat([f"s{i}" for i in range(20)], 3)
    X = ba.responses(rng.normal(size=(60, 6)), stimulus_id=ids, neuroid_id=range(6), modality="ann", system="net")
    Y = ba.responses(
        rng.normal(size=(60, 2)), stimulus_id=ids, neuroid_id=range(2), modality="meg", system="p", session=["a"] * 60
    )
    for train, test in inner_splits(5, None, 60, Y):
        assert not set(ids[train]) & set(ids[test])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ba.Ridge().fit(X, Y).alpha_.shape == (2,)
    with pytest.raises(ParameterError, match="groups='runs'"):
        ba.Ridge(groups="runs").fit(X, Y)
    grouped = inner_splits(2, "stimulus_id", 60, Y)
    assert len(grouped) == 2


def test_too_few_rows_for_inner_folds_are_told_from_those_of_outer_ones():
    y = ba.responses(np.eye(3), stimulus_id=list("abc"), neuroid_id=range(3), modality="meg", system="p")
    with pytest.raises(SplitError, match=r"3 training rows cannot make 5 inner folds, .* found 3 values .* give one alpha"):
        ba.Ridge().fit(y, y)


def test_alphas_do_not_depend_on_the_order_of_the_rows():
    X, Y = problem(60, n_targets=40)
    ids = [f"s{i:02d}" for i in range(60)]
    x = ba.responses(X, stimulus_id=ids, neuroid_id=range(20), modality="ann", system="net")
    y = ba.responses(Y, stimulus_id=ids, neuroid_id=range(40), modality="meg", system="p")
    mixed = np.random.default_rng(1).permutation(60)
    first, again = ba.Ridge(dtype="float64").fit(x, y), ba.Ridge(dtype="float64").fit(x[mixed], y[mixed])
    assert len(np.unique(first.alpha_)) > 5
    np.testing.assert_allclose(again.alpha_, first.alpha_)
    np.testing.assert_allclose(again.coef_, first.coef_, atol=1e-8)


def test_folds_among_some_of_the_rows_are_numbered_anew():
    splits = [(np.array([0, 1, 4, 5]), np.array([2, 3])), (np.array([2, 3]), np.array([0, 5])), (np.array([1]), np.array([2]))]
    kept = np.array([True, False, True, True, False, True])
    found = [(train.tolist(), test.tolist()) for train, test in restricted(splits, kept)]
    assert found == [([0, 3], [1, 2]), ([1, 2], [0, 3])]


def test_weights_may_be_a_coordinate():
    x = ba.responses(
        np.zeros((3, 2)),
        stimulus_id=list("abc"),
        neuroid_id=range(2),
        modality="meg",
        system="p",
        presentation={"n_repeats": [1, 2, 3]},
    )
    assert row_weights("n_repeats", 3, x).tolist() == [1.0, 2.0, 3.0]
    assert row_weights(None, 2, None).tolist() == [1.0, 1.0]
    with pytest.raises(ParameterError, match=r"sample_weight='n_trials' is no presentation coordinate"):
        row_weights("n_trials", 3, x)


@pytest.mark.parametrize("given", [[1.0, 2.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [1.0, np.nan, 1.0]])
def test_impossible_weights_are_named(given):
    with pytest.raises(ParameterError, match=r"'sample_weight' parameter must .* be 3 finite numbers .* Got"):
        row_weights(given, 3, None)


def test_what_inner_folds_lack_is_said_of_them_and_not_of_the_outer_ones():
    x = ba.responses(np.eye(4), stimulus_id=list("abcd"), neuroid_id=range(4), modality="meg", system="p")
    with pytest.raises(
        SplitError, match=r"4 training rows cannot make 5 inner folds, .* split found 4 values .* not that of the score"
    ):
        inner_splits(5, None, 4, x)
