"""Controls run unasked, score what they should, and are named when they cannot run."""

import json
from typing import ClassVar

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError

FIXED = ba.Ridge(alphas=[1.0, 100.0], cv=3)


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=90, n_neuroids=6, n_repeats=2, random_state=0)


class Watched(ba.Ridge):
    """Ridge regression that notes how many features it was fitted to."""

    widths: ClassVar[list[int]] = []

    def fit(self, X, Y):
        self.widths.append(X.shape[1])
        return super().fit(X, Y)


def timed_pair(n=120, runs=3, phi=0.9, seed=0):
    """Noise that moves slowly, on both sides, in runs of a scanner."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(n * runs, 12))
    for i in range(1, n * runs):
        columns[i] = phi * columns[i - 1] * (i % n > 0) + np.sqrt(1 - phi**2) * columns[i]
    labels = {"onset_s": np.tile(2.0 * np.arange(n), runs), "run": np.repeat(np.arange(runs), n)}
    ids = [f"t{i}" for i in range(n * runs)]
    x = ba.responses(columns[:, :8], stimulus_id=ids, neuroid_id=np.arange(8), modality="ann", system="net", **labels)
    y = ba.responses(columns[:, 8:], stimulus_id=ids, neuroid_id=np.arange(4), modality="fmri", system="s", **labels)
    return x, y


def untrained(network, seed):
    """The network's responses through random weights, under the same labels."""
    weights = np.random.default_rng(seed).normal(size=(network.sizes["neuroid"],) * 2).astype("float32")
    return network.copy(data=np.maximum(network.values @ weights, 0))


@pytest.mark.parametrize("direction", ["net to brain", "brain to net"])
def test_controls_run_unasked_and_score_nothing(study, direction):
    source, target = (study.network, study.fmri) if direction == "net to brain" else (study.fmri, study.network)
    out = ba.evaluate(source, target, model=FIXED, cv=3, random_state=0)
    assert out.control.values.tolist() == ["constant", "random-projection", "shuffled"]
    assert out.score_control.dims == ("control", "neuroid")
    assert np.isnan(out.score_control.sel(control="constant")).all()  # a constant predicts no differences
    rest = out.score_control.sel(control=["random-projection", "shuffled"])
    assert (abs(rest.mean("neuroid")) < 0.12).all()
    gain = out.score - rest.max("control")
    np.testing.assert_allclose(out.score_minus_best_control, gain)
    assert out.score_minus_best_control.mean() > 0.1


def test_they_are_switched_off_by_name_only(study):
    out = ba.evaluate(study.network, study.fmri, model=FIXED, cv=3, controls="none", random_state=0)
    assert "score_control" not in out
    some = ba.evaluate(study.network, study.fmri, model=FIXED, cv=3, controls=["shuffled"], random_state=0)
    assert some.control.values.tolist() == ["shuffled"]
    for bad in (None, 3, "shufled", ["untrained"], {"shuffled": study.network}, {"pixels": np.zeros(3)}):
        with pytest.raises((ParameterError, ValueError), match="control"):
            ba.evaluate(study.network, study.fmri, model=FIXED, cv=3, controls=bad)


def test_sources_of_ones_own_are_scored_and_seeds_are_averaged(study):
    rng = np.random.default_rng(0)
    seeds = {f"untrained-{k}": untrained(study.network, k) for k in range(3)}
    noise = study.network.copy(data=rng.normal(size=study.network.shape).astype("float32"))
    out = ba.evaluate(study.network, study.fmri, model=FIXED, cv=3, controls={**seeds, "noise": noise}, random_state=0)
    assert out.control.values.tolist() == ["constant", "random-projection", "shuffled", "untrained", "noise"]
    each = [ba.evaluate(x, study.fmri, model=FIXED, cv=3, controls="none", random_state=0).score for x in seeds.values()]
    np.testing.assert_allclose(out.score_control.sel(control="untrained").values, np.mean(each, axis=0), atol=1e-6)
    with pytest.raises(AlignmentError, match=r"controls\['noise'\] has 50 of the 90"):
        ba.evaluate(study.network, study.fmri, model=FIXED, cv=3, controls={"noise": noise[:50]}, random_state=0)


def test_slow_noise_is_caught_by_the_controls_of_time():
    x, y = timed_pair()
    out = ba.evaluate(x, y, model=FIXED, cv=3, random_state=0)
    assert out.control.values.tolist() == ["constant", "random-projection", "shifted", "autocorrelation"]
    assert np.isnan(
        out.score_control.sel(control="autocorrelation")
    ).all()  # whole runs are held out: no bump of theirs was trained
    folds = ba.split(y, n_splits=5, shuffle=True, force=True, random_state=0)
    leaky = ba.evaluate(x, y, model=FIXED, cv=folds, random_state=0)
    assert (leaky.score_control.sel(control="autocorrelation") > 0.6).all()  # neighbours of each test row were trained on
    assert (leaky.score_minus_best_control < 0).all()


def test_time_alone_reaches_over_the_gap_of_blocks_and_has_nothing_to_learn_of_runs_held_out_whole():
    """Bumps of two rows lay between training and test rows of the default folds, and slow drifts passed for nothing."""
    _, y = timed_pair(n=300, runs=1)
    rng = np.random.default_rng(0)
    drift = gaussian_filter1d(rng.normal(size=(400, 40)), 10, axis=0)[50:-50]  # over 20 s
    drift += 0.5 * drift.std(axis=0) * rng.normal(size=drift.shape)
    slow = ba.responses(
        drift, stimulus_id=y.stimulus_id.values, neuroid_id=np.arange(40), modality="fmri", system="s", onset_s=y.onset_s.values
    )
    blocks = ba.split(slow, n_splits=5)
    out = ba.evaluate(y, slow, cv=blocks, controls=["autocorrelation"], random_state=0)
    assert (blocks.gap_s, float(out.score_control.mean()) > 0.2) == (10.0, True)
    x, y = timed_pair()
    Watched.widths.clear()
    out = ba.evaluate(x, y, model=Watched(alphas=[1.0]), cv=3, controls=["autocorrelation"], random_state=0)
    assert (Watched.widths, bool(np.isnan(out.score_control).all())) == ([8] * 3 + [3] * 3, True)  # one bump a run


def test_a_layer_is_controlled_by_the_same_layer(study):
    net = study.network
    other = untrained(net, 0).assign_coords(layer=("neuroid", net.layer.values))
    pixels = untrained(net, 1).drop_vars("layer").assign_coords(neuroid_id=("neuroid", np.arange(net.sizes["neuroid"])))
    out = ba.compare(net, study.fmri, by=("layer", "region"), model=FIXED, cv=3, controls={"untrained": other, "pixels": pixels}, random_state=0)  # fmt: skip
    assert out.control.values.tolist() == ["constant", "random-projection", "shuffled", "untrained", "pixels"]
    assert out.score_control.dims == ("control", "source_layer", "target_region")
    for k, layer in enumerate(dict.fromkeys(net.layer.values.tolist())):
        alone = ba.evaluate(
            other.isel(neuroid=other.layer.values == layer), study.fmri, model=FIXED, cv=3, controls="none", random_state=0
        )
        first = study.fmri.region.values == out.target_region.values[0]
        np.testing.assert_allclose(
            out.score_control.sel(control="untrained")[k, 0], np.median(alone.score.values[first]), atol=1e-6
        )
    same = out.score_control.sel(control="pixels")
    assert (same == same[0]).all()
    np.testing.assert_allclose(out.score_minus_best_control, out.score - out.score_control.max("control"))


def test_a_control_that_the_model_refuses_is_named_and_costs_nothing(study):
    class Picky(ba.Ridge):
        def fit(self, X, Y):
            if (X.values == 1).all():
                raise ValueError("only ones")
            return super().fit(X, Y)

    out = ba.evaluate(study.network, study.fmri, model=Picky(alphas=[1.0]), cv=3, random_state=0)
    assert out.control.values.tolist() == ["random-projection", "shuffled"]
    assert json.loads(out.attrs["report"])["controls_failed"] == {"constant": "only ones"}


def test_labels_are_decoded_beside_their_controls(study):
    half = np.where(np.arange(study.fmri.sizes["presentation"]) % 4 < 2, "left", "right")
    x = study.fmri.assign_coords(side=("presentation", half))
    x = x.copy(data=x.values + 3 * (half == "left")[:, None])
    out = ba.evaluate(x, "side", model=ba.Classifier("lda"), cv=3, random_state=0)
    assert float(out.score[0]) > 0.95
    assert (out.score_control.dropna("control") < 0.75).all()


def test_permutations_stand_in_for_one_shuffle(study):
    out = ba.evaluate(study.network, study.fmri, model=FIXED, cv=3, n_permutations=30, random_state=0)
    assert (abs(out.score_control.sel(control="shuffled")) < 0.08).all()  # the mean of thirty
