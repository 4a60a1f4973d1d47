"""localise: planted neuroids are ranked first, and noise is no better than random sets."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError

LABEL = np.tile(["sentence", "nonword", "rest"], 20)


def recorded(values, **coords):
    ids = {"stimulus_id": [f"s{i}" for i in range(len(values))], "condition": LABEL} | coords
    return ba.responses(values, neuroid_id=range(values.shape[1]), modality="ann", system="net", **ids)


def planted(effect=2.0, seed=0):
    values = np.random.default_rng(seed).normal(size=(60, 100))
    values[:, 30:40] += effect * (LABEL == "sentence")[:, None]
    return values


def test_planted_neuroids_are_the_first_ten():
    x = recorded(planted())
    out = ba.neurons.localise(x, "condition", ("sentence", "nonword"), n_selected=10, n_permutations=199, random_state=0)
    assert np.flatnonzero(out.selected).tolist() == list(range(30, 40))
    assert sorted(out["rank"].values.tolist()) == list(range(1, 101))
    assert (out.p_value_max.values[30:40] <= 0.05).all()
    assert out.selected_score.item() > np.quantile(out.random_score, 0.99)
    assert out.p_value_random.item() <= 0.01
    both = ba.neurons.localise(x, "condition", ("sentence", ["nonword", "rest"]), n_selected=10, random_state=0)
    assert (both.selected.values == out.selected.values).all()
    lazy = ba.neurons.localise(x.chunk({"neuroid": 30}), "condition", ("sentence", "nonword"), n_selected=10, random_state=0)
    np.testing.assert_array_equal(lazy.score, out.score)


def test_what_noise_selects_is_no_better_on_other_rows():
    p = [
        ba.neurons.localise(
            recorded(planted(0.0, seed)), "condition", ("sentence", "nonword"), n_selected=10, n_draws=99, random_state=0
        ).p_value_random.item()
        for seed in range(20)
    ]
    assert 0.2 < np.mean(p) < 0.8


def test_slow_noise_is_not_shared_by_the_halves():
    """Volumes of 2 s, and noise that lasts ten of them: mixed halves would be alike, and 19 of 20 sets of noise pass."""
    low = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        noise = np.apply_along_axis(np.convolve, 0, rng.normal(size=(209, 20)), np.ones(10), mode="valid")
        label = np.repeat(rng.permutation(np.repeat(["sentence", "nonword"], 10)), 10)
        x = ba.responses(noise, stimulus_id=range(200), neuroid_id=range(20), modality="fmri", system="s", condition=label,
                         onset_s=2.0 * np.arange(200), run="1")  # fmt: skip
        out = ba.neurons.localise(x, "condition", ("sentence", "nonword"), n_selected=4, n_draws=99, random_state=seed)
        low.append(out.p_value_random.item() <= 0.05)
    assert np.mean(low) < 0.2
    x = x.assign_coords(condition=("presentation", np.sort(label)))
    with pytest.raises(ParameterError, match="one half has 0 presentations of a set"):
        ba.neurons.localise(x, "condition", ("sentence", "nonword"), n_selected=4)


def test_bad_input_is_named():
    x = recorded(planted())
    with pytest.raises(ParameterError, match=r"'sentense' in the contrast.*Did you mean 'sentence'"):
        ba.neurons.localise(x, "condition", ("sentense", "nonword"), n_selected=3)
    with pytest.raises(ParameterError, match="sets overlap"):
        ba.neurons.localise(x, "condition", ("rest", ["rest", "nonword"]), n_selected=3)
    with pytest.raises(ParameterError, match="Expected two labels"):
        ba.neurons.localise(x, "condition", "rest", n_selected=3)
    with pytest.raises(ParameterError, match="n_selected=101 for 100 neuroids"):
        ba.neurons.localise(x, "condition", ("rest", "nonword"), n_selected=101)
    with pytest.raises(SchemaError, match="localise got responses with 2 times"):
        ba.neurons.localise(recorded(np.ones((60, 1, 2)), time=[0.0, 0.1]), "condition", ("rest", "nonword"), n_selected=1)
    few = recorded(planted(), stimulus_id=LABEL)
    with pytest.raises(ParameterError, match="sets of 1 and 1 groups"):
        ba.neurons.localise(few, "condition", ("rest", "nonword"), n_selected=3)
    assert (
        ba.neurons.localise(few, "condition", ("rest", "nonword"), n_selected=3, groups=None, random_state=0).selected.sum() == 3
    )
