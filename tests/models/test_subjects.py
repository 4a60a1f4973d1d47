"""Several subjects in one fit: whose each row is, stacks with names, splits that share no stimulus, and a ridge for each."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SplitError
from brainalign.models.subjects import RidgeBySubject, stack_subjects, stopping_split, subject_labels, targets_of


def recording(n=6, *, sensors=(0, 1, 2), first=0, time=(0.0, 0.1), **labels):
    rng = np.random.default_rng(n)
    return ba.responses(rng.normal(size=(n, len(sensors), len(time))), stimulus_id=[f"s{first + i}" for i in range(n)], neuroid_id=list(sensors),
                        time=list(time), modality="eeg", system="x", **labels)  # fmt: skip


def target(n=9):
    return ba.responses(
        np.arange(2.0 * n).reshape(n, 2), stimulus_id=[f"s{i}" for i in range(n)], neuroid_id=[0, 1], modality="ann", system="n"
    )


def test_rows_are_stacked_by_name_with_sensors_in_one_order_and_targets_looked_up():
    a, b = recording(4, run=["1"] * 4), recording(5, sensors=(2, 0, 1), first=3)
    x, y = stack_subjects({"a": a, "b": b}, target(), "owner")
    assert x.dims == ("presentation", "neuroid", "time")
    assert subject_labels(x).tolist() == ["a"] * 4 + ["b"] * 5
    assert y.values[:, 0].tolist() == [0, 2, 4, 6, 6, 8, 10, 12, 14]
    np.testing.assert_array_equal(x.values[4:], b.values[:, [1, 2, 0]])
    assert "run" not in x.coords  # only one of them has it
    ba.validate(x)
    assert subject_labels(a).tolist() == subject_labels(a.values).tolist() == [""] * 4


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: stack_subjects({"a": recording(), "b": recording(time=(0.0, 0.2))}, target(), "it"), AlignmentError, "it got 'b' of shape"),
        (lambda: targets_of({"a": recording()}, {"b": target()}, "it"), AlignmentError, "it got the subjects 'a' and targets of 'b'"),
        (lambda: stack_subjects({}, target(), "it"), ParameterError, "it got an empty dict. Expected responses of one or more subjects by name"),
        (lambda: targets_of(recording(), target(), "it"), ParameterError, "it got a DataArray. Expected responses of one or more subjects by name"),
        (lambda: targets_of({"a": recording()}, target().values, "it"), ParameterError, "a dict of 1 subjects and one target, a ndarray"),
        (lambda: targets_of({"a": recording(first=5)}, target(), "it"), AlignmentError, "2 of 6 presentations of 'a' without one target, first s9"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_rows_to_stop_by_share_no_stimulus_and_no_group():
    y = np.repeat(np.arange(20.0).reshape(10, 2), 3, axis=0)[np.random.default_rng(0).permutation(30)]
    (train, held), stimulus = stopping_split(5, None, y, None, "it")
    assert len(np.unique(stimulus)) == 10
    assert not np.intersect1d(stimulus[train], stimulus[held]).size
    assert len(train) + len(held) == 30
    groups = np.arange(30) % 3
    with pytest.raises(SplitError, match="it got folds of which the first trains on a stimulus and stops by it"):
        stopping_split(3, groups, y, None, "it")
    labelled = target()
    (train, held), stimulus = stopping_split(3, None, labelled.values, labelled, "it")
    assert stimulus.tolist() == list(range(9))
    assert len(held) == 3


def test_each_subject_has_a_ridge():
    rng = np.random.default_rng(0)
    values, who = rng.normal(size=(80, 4)), np.array(["a", "b"] * 40)
    mixed = np.where(who[:, None] == "a", values, -values)
    x = ba.responses(
        mixed, stimulus_id=[f"s{i}" for i in range(80)], neuroid_id=range(4), modality="eeg", system="x", subject=who
    )
    model = RidgeBySubject().fit(x[:60], values[:60])
    np.testing.assert_allclose(model.predict(x[60:]), values[60:], atol=0.1)
    np.testing.assert_allclose(model.predict(x[60:])[::2], ba.Ridge().fit(x[:60:2], values[:60:2]).predict(x[60::2]), atol=1e-6)
    with pytest.raises(AlignmentError, match="got rows of the subject 'c'"):
        model.predict(x[60:].assign_coords(subject=("presentation", ["c"] * 20)))
