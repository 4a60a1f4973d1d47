"""Nuisance beside the source: word rate is no credit to a language model."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.scores import tiled


def story(seed=0, n_volumes=240, meaning=1.0, rate=1.0):
    """Words at an uneven rate, embeddings whose mean is not zero, and two regions: one follows the rate alone, one the meaning too."""
    rng = np.random.default_rng(seed)
    per_volume = rng.integers(0, 8, size=n_volumes)
    onset = np.concatenate([2.0 * v + np.arange(k) * 0.25 for v, k in enumerate(per_volume)])
    n = len(onset)
    embedding = rng.normal(size=(n, 6)) + 2.0
    ids = [f"w{i}" for i in range(n)]
    words = ba.responses(embedding, stimulus_id=ids, neuroid_id=np.arange(6), modality="ann", system="lm", onset_s=onset,
                         duration_s=np.full(n, 0.2), run=["story"] * n)  # fmt: skip
    volume = np.repeat(np.arange(n_volumes), per_volume)
    total = np.zeros((n_volumes, 6))
    np.add.at(total, volume, embedding - 2.0)
    driven = rate * per_volume[:, None] / 2 + np.stack([np.zeros(n_volumes), meaning * total[:, 0]], axis=1)
    driven = np.roll(driven, 2, axis=0) + rng.normal(size=(n_volumes, 2))
    bold = ba.responses(driven, stimulus_id=[f"v{i}" for i in range(n_volumes)], neuroid_id=["rate", "meaning"], modality="fmri", system="s",
                        onset_s=2.0 * np.arange(n_volumes), duration_s=np.full(n_volumes, 2.0), run=["story"] * n_volumes)  # fmt: skip
    return words, bold


MODEL = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2, 4, 6]), ba.Ridge(cv=3))


def test_what_the_rate_explains_is_not_unique_to_the_embeddings():
    words, bold = story()
    plain = ba.evaluate(words, bold, model=MODEL, cv=4, controls="none", random_state=0)
    assert (plain.score > 0.5).all()  # the embeddings hold the rate, as their sum
    out = ba.evaluate(words, bold, model=MODEL, cv=4, nuisance="auto", random_state=0)
    assert out.unique.dims == ("band", "neuroid")
    features = out.unique.sel(band="features")
    assert float(features[0]) < 0.03
    assert float(features[1]) > 0.15
    assert (out.score > plain.score - 0.02).all()
    rate = out.score_control.sel(
        control="random-projection"
    )  # beside controls too, or the score would be ahead of them by the rate
    assert rate[0] > 0.5
    assert "autocorrelation" in out.control.values


def test_a_recorded_brain_in_time_has_nuisance_beside_it_as_a_network_has():
    """The same numbers under the labels of a brain (events of a recording) and of a network (its states) give the same numbers."""
    words, bold = story(n_volumes=120)
    events = words.assign_attrs(modality="spikes").assign_coords(system=("neuroid", ["animal-1"] * words.sizes["neuroid"]))
    states = bold.assign_attrs(modality="ann").assign_coords(system=("neuroid", ["rnn"] * bold.sizes["neuroid"]))
    there, back = (
        ba.evaluate(x, y, model=MODEL, cv=3, nuisance="auto", random_state=0) for x, y in ((words, bold), (events, states))
    )
    for name in ("score", "unique", "score_control"):
        np.testing.assert_array_equal(there[name].values, back[name].values)


def test_presentations_without_times_have_no_nuisance():
    study = ba.simulate(n_stimuli=40, n_neuroids=4, n_repeats=1, random_state=0)
    options = {"model": ba.Ridge(alphas=[1.0]), "cv": 3, "controls": "none", "random_state": 0}
    out = ba.evaluate(study.network, study.fmri, nuisance="auto", **options)
    np.testing.assert_array_equal(out.score, ba.evaluate(study.network, study.fmri, **options).score)
    assert "unique" not in out


def test_what_cannot_have_a_band_beside_it_is_named():
    words, bold = story(n_volumes=40)
    for model, what in [
        (ba.chain(ba.WordsToVolumes("sum"), ba.KernelRidge()), "the mapping KernelRidge"),
        (ba.chain(ba.Reduce(2), ba.WordsToVolumes("sum"), ba.Ridge()), "fits a step before it mixes"),
    ]:
        with pytest.raises(ParameterError, match=what):
            ba.evaluate(words, bold, model=model, cv=3, nuisance="auto")


def test_weights_beside_a_nuisance_are_compared_for_each_target_by_itself(tmp_path, monkeypatch):
    words, bold = story(n_volumes=60)
    options = {"cv": 2, "nuisance": "auto", "controls": "none", "random_state": 0}
    steps, plain, weights = (ba.WordsToVolumes("sum"), ba.Delay([2])), ba.Ridge([1.0, 100.0], cv=2), np.linspace(0, 1, 17)
    rows = ba.BandedRidge(plain.alphas, cv=2, candidates=np.column_stack([weights, 1 - weights]))
    together, given = (ba.evaluate(words, bold, model=ba.chain(*steps, last), **options) for last in (plain, rows))
    monkeypatch.setattr(tiled, "TILE_BYTES", 1)
    monkeypatch.setattr(tiled, "_LEAST_COLUMNS", 1)
    apart = ba.evaluate(words, bold, model=ba.chain(*steps, plain), **options, store=tmp_path)
    assert len(tiled.tiles_of({"": bold})) == 2
    for name in ("score", "unique"):
        np.testing.assert_array_equal(given[name], together[name])
        np.testing.assert_allclose(apart[name], together[name], atol=1e-6)
    with pytest.raises(CapabilityError, match=r"BandedRidge, .* learns from all targets together"):
        ba.evaluate(words, bold, model=ba.chain(*steps, ba.BandedRidge()), **options, store=tmp_path / "other")
