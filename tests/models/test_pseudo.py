"""Pseudo-populations: trials that are used once, conditions that match, and what they tell by decode_time."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SplitError

TIMES = np.arange(6) / 20


def animal(name, n, n_neurons=8, seed=0, strength=1.0, modality="spikes"):
    """Counts in which some neurons tell left from right from 0.1 s on."""
    rng, kind = np.random.default_rng([seed, n]), np.resize(["left", "right", "right"], n)
    gain = strength * (kind == "left")[:, None, None] * (rng.random((1, n_neurons, 1)) < 0.5) * (TIMES >= 0.1)
    return ba.responses(rng.poisson(1.0 + gain, size=(n, n_neurons, 6)), stimulus_id=[f"{name}-{i}" for i in range(n)],
                        neuroid_id=range(n_neurons), time=TIMES, modality=modality, system=name, condition=kind)  # fmt: skip


@pytest.fixture(scope="module")
def animals():
    return {name: animal(name, n, seed=n) for name, n in (("m1", 60), ("m2", 75), ("m3", 48))}


def test_every_trial_is_used_once_and_conditions_match(animals):
    out = ba.models.pseudo_population(animals, random_state=0)
    assert out.shape == (48, 24, 6)
    assert np.unique(out.condition.values.astype(object), return_counts=True)[1].tolist() == [16, 32]
    for name, x in animals.items():
        rows = out[f"trial_{name}"].values
        assert len(np.unique(rows)) == len(rows)
        own = out.isel(neuroid=np.flatnonzero(out.band.values == name))
        np.testing.assert_array_equal(own.values, x.values[rows])
        assert x.condition.values[rows].tolist() == out.condition.values.tolist()
    np.testing.assert_array_equal(ba.models.pseudo_population(animals, random_state=0), out)
    turned = {name: x[::-1] for name, x in animals.items()}  # trials are drawn by name
    np.testing.assert_array_equal(ba.models.pseudo_population(turned, random_state=0), out)
    assert (ba.models.pseudo_population(animals, random_state=1).values != out.values).any()
    assert ba.models.pseudo_population(animals, n_trials=5, random_state=0).shape[0] == 10


def test_more_neurons_tell_more_and_trials_of_either_side_of_a_fold_do_not_mix(animals):
    out = ba.models.pseudo_population(animals, random_state=1)
    ask = {"model": ba.Classifier("ridge", C=0.1), "cv": 4, "random_state": 0}
    together = ba.decode_time(out, "condition", n_permutations=99, **ask)
    assert (together.p_value_max.values < 0.05).tolist() == [False] * 2 + [True] * 4
    alone = ba.decode_time(animals, "condition", **ask).score.mean("source")
    assert together.score[2:].mean() > alone[2:].mean() + 0.03
    for train, test in [(fold.train, fold.test) for fold in ba.split(out, n_splits=4, random_state=0).on(out)]:
        for name in animals:
            assert not np.intersect1d(out[f"trial_{name}"].values[train], out[f"trial_{name}"].values[test]).size


def test_noise_stays_noise():
    quiet = {name: animal(name, n, seed=n, strength=0.0) for name, n in (("m1", 30), ("m2", 36))}
    p = [
        ba.decode_time(ba.models.pseudo_population(quiet, random_state=seed), "condition", cv=3, n_permutations=39, random_state=0,
                       model=ba.Classifier("ridge")).p_value_max.min()
        for seed in range(5)
    ]  # fmt: skip
    assert np.mean(np.array(p) <= 0.05) < 0.5


def test_stimuli_may_match_too():
    both = {name: animal("s", 12, seed=k) for k, name in enumerate(("m1", "m2"))}
    out = ba.models.pseudo_population(both, by="stimulus_id", random_state=0)
    assert sorted(out.stimulus_id.values.tolist()) == sorted(both["m1"].stimulus_id.values.tolist())


def test_what_does_not_match_is_refused(animals):
    with pytest.raises(ParameterError, match="a dict of two or more recordings"):
        ba.models.pseudo_population({"m1": animals["m1"]})
    with pytest.raises(ParameterError, match=r"got by='conditon'; presentations of 'm1' have .*Did you mean 'condition'"):
        ba.models.pseudo_population(animals, by="conditon")
    with pytest.raises(
        ParameterError, match=r"got 16 trials of condition='left' in 'm3'. Expected 20 or more .* choose fewer `n_trials`"
    ):
        ba.models.pseudo_population(animals, n_trials=20)
    only = animals["m1"][animals["m1"].condition.values == "left"]
    with pytest.raises(ParameterError, match=r"got 0 trials of condition='right' in 'm2'.*leave the condition out"):
        ba.models.pseudo_population({"m1": animals["m1"], "m2": only})
    again = animals["m2"].assign_coords(stimulus_id=("presentation", np.resize(["a", "b", "c"], 75)))
    with pytest.raises(SplitError, match=r"several trials of a stimulus in 'm2': 'a', 'b', 'c'"):
        ba.models.pseudo_population({"m1": animals["m1"], "m2": again})
    late = animals["m2"].assign_coords(time=TIMES + 1)
    with pytest.raises(ParameterError, match="different time axes"):
        ba.models.pseudo_population({"m1": animals["m1"], "m2": late})
