"""Several people: from one to another, unequal sensors named, and nobody's identity taken for what was shown."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import AlignmentError, SplitError
from brainalign.scores.decoding_people import one_label_each, stack_systems

N, C, T = 40, 6, 4
KIND = np.tile(["face", "house"], N // 2)
RIDGE = ba.Classifier("ridge")


def person(name, seed, *, ids=None, neurons=range(C), step_s=0.01, strength=1.5, **labels):
    x = np.random.default_rng(seed).normal(size=(N, len(neurons), T))
    x[:, 1, 2:] += strength * (KIND == "house")[:, None]
    ids = [f"s{i:02d}" for i in range(N)] if ids is None else ids
    return ba.responses(x, stimulus_id=ids, neuroid_id=[f"EEG {i:03d}" for i in neurons], time=step_s * np.arange(T), modality="eeg", system=name,
                        **{"condition": KIND, **labels})  # fmt: skip


def test_what_is_learned_from_one_person_is_tested_on_another():
    people = {name: person(name, seed) for seed, name in enumerate("abc")}
    people["c"] = people["c"][:, ::-1]  # the same sensors in another order
    out = ba.decode_time(
        people,
        "condition",
        train_on={"source": ["a", "b"]},
        test_on={"source": "c"},
        model=RIDGE,
        n_permutations=99,
        random_state=0,
    )
    assert out.score.dims == ("time",)
    assert int(out.n_presentations) == N
    assert (out.p_value_max.values < 0.05).tolist() == [False, False, True, True]
    held = stack_systems(people)
    np.testing.assert_array_equal(held.values[2 * N :], people["c"].values[:, ::-1])
    assert held.neuroid_id.values.tolist() == people["a"].neuroid_id.values.tolist()


def test_unequal_sensors_are_named():
    a, b = person("a", 0), person("b", 1, neurons=[0, 1, 2, 3, 4, 9])
    ask = {"train_on": {"source": "a"}, "test_on": {"source": "b"}, "model": RIDGE}
    with pytest.raises(AlignmentError, match=r"'b' lacks 'EEG 005' and 'a' lacks 'EEG 009'\. Expected the same"):
        ba.decode_time({"a": a, "b": b}, "condition", **ask)
    with pytest.raises(AlignmentError, match="have the times"):
        ba.decode_time({"a": a, "b": person("b", 1, step_s=0.02)}, "condition", **ask)


def test_who_it_was_is_not_taken_for_what_was_shown():
    """Planted: patients and controls told apart by their own noise, on trials of the same people."""
    rng = np.random.default_rng(0)
    who = np.repeat([f"p{i}" for i in range(8)], 10)
    own = np.repeat(3 * rng.normal(size=(8, C, 1)), 10, axis=0)
    group = np.where(np.repeat(np.arange(8), 10) % 2, "patient", "control")
    x = ba.responses(own + rng.normal(size=(80, C, T)), stimulus_id=[f"t{i}" for i in range(80)], neuroid_id=range(C),
                     time=np.arange(T) / 100, modality="eeg", system="all", subject=who)  # fmt: skip
    x = x.assign_coords(diagnosis=("presentation", group))
    with pytest.raises(SplitError, match=r"each of the 8 subjects has one 'diagnosis'.*Expected folds that leave people out"):
        ba.decode_time(x, "diagnosis", model=RIDGE)
    by_person = {"model": RIDGE, "groups": "subject", "cv": 4, "random_state": 0}
    assert abs(float(ba.decode_time(x, "diagnosis", **by_person).score.mean()) - 0.5) < 0.35
    with pytest.raises(SplitError, match=r"carry labels from one subject to another.*stimulus_id=x.subject"):
        ba.decode_time(x, "diagnosis", n_permutations=19, **by_person)
    whole = x.assign_coords(stimulus_id=x.subject)
    out = ba.decode_time(whole, "diagnosis", n_permutations=39, model=RIDGE, cv=4, random_state=0)
    assert out.p_value_max.min() > 0.05


def test_labels_change_places_within_a_person_only():
    """Two people, who saw one class four times as often as the other and differ in all sensors: that is not what was shown."""
    who = np.repeat(["a", "b"], N)
    kind = np.concatenate([np.where(np.arange(N) % 5, "face", "house"), np.where(np.arange(N) % 5, "house", "face")])
    within, across = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(2 * N, C, 2)) + 2 * (who == "a")[:, None, None]
        make = lambda **labels: ba.responses(x, stimulus_id=[f"t{i}" for i in range(2 * N)], neuroid_id=range(C), time=[0.0, 0.1],  # noqa: E731, B023
                                             modality="eeg", system="x", condition=kind, **labels)  # fmt: skip
        ask = {"model": RIDGE, "cv": 4, "n_permutations": 39, "random_state": 0}
        within.append(float(ba.decode_time(make(subject=who), "condition", **ask).p_value_max.min()))
        across.append(float(ba.decode_time(make(), "condition", **ask).p_value_max.min()))
    assert np.mean(np.array(within) <= 0.05) <= 0.3
    assert np.mean(np.array(across) <= 0.05) > 0.9  # what it would have been


def test_one_label_each():
    assert one_label_each(np.array([0, 0, 1]), np.array([2, 2, 2]))
    assert not one_label_each(np.array([0, 0, 1]), np.array([2, 1, 2]))
