"""Folds for labels: shares of every class, conditions within folds, and what a class needs."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SplitError
from brainalign.dataset.folds import Fold
from brainalign.scores.decoding_rows import absent_classes, check_rows, decoding_folds, restrict_folds, rows_with
from brainalign.scores.pairing import labels_as_target

LABEL = np.tile(["a", "b", "b"], 10)
X = ba.responses(np.arange(30.0)[:, None], stimulus_id=[f"s{i}" for i in range(30)], neuroid_id=[0], modality="eeg", system="x",
                 condition=LABEL, run=np.repeat([1, 2, 3], 10))  # fmt: skip
Y = labels_as_target(X, "condition")


def test_every_fold_has_its_share_of_each_class():
    folds = decoding_folds(Y, "condition", 5, None, 0).on(Y)
    assert [np.bincount(Y.values[fold.test, 0]).tolist() for fold in folds] == [[2, 4]] * 5


def test_groups_are_held_out_whole_and_folds_taken_as_they_are():
    folds = decoding_folds(Y, "condition", None, "run", 0)
    assert folds.names == ("1", "2", "3")
    assert decoding_folds(Y, "condition", folds, None, 0) is folds
    with pytest.raises(ParameterError, match="both cv=Folds and groups='run'"):
        decoding_folds(Y, "condition", folds, "run", 0)


def test_labels_that_differ_within_a_stimulus_are_not_spread():
    twice = X.assign_coords(
        stimulus_id=("presentation", np.repeat([f"s{i}" for i in range(15)], 2)), repetition=("presentation", np.tile([0, 1], 15))
    )
    assert len(decoding_folds(labels_as_target(twice, "condition"), "condition", 3, None, 0)) == 3


def test_conditions_are_looked_up_by_value():
    assert np.flatnonzero(rows_with(X, {"run": 2, "condition": ["a"]})).tolist() == [12, 15, 18]
    assert rows_with(X, None).all()


def test_folds_are_cut_to_conditions_and_empty_ones_refused():
    folds = [Fold("one", np.arange(10, 30), np.arange(10))]
    (fold,) = restrict_folds(folds, X, {"run": [3]}, {"condition": "a"})
    assert (fold.train.tolist(), fold.test.tolist()) == (list(range(20, 30)), [0, 3, 6, 9])
    with pytest.raises(SplitError, match="0 test rows of test_on="):
        restrict_folds(folds, X, None, {"run": 3})


def test_a_class_that_cannot_be_learned_is_named():
    folds = [Fold("one", np.flatnonzero(LABEL == "b"), np.arange(3))]
    codes = Y.values[:, 0]
    assert absent_classes(folds, codes, 2) == [("one", 0)]
    with pytest.raises(SplitError, match="fold 'one' have no 'a'"):
        check_rows(folds, "auc", Y, codes)
