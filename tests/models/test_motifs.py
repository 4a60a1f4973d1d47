"""Motifs with a delay for each neuron: found nearly without error, their delays recovered, in closed form too."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError

N, D, BINS, RATE_HZ = 40, 21, 12_000, 1000.0


def raster(seed=0, n=N, bins=BINS, n_motifs=3, n_spikes=12, background=0.02, how_often=0.008, reliability=0.8):
    """Motifs of twelve spikes, of which eight in ten occur, in a background of single spikes."""
    rng = np.random.default_rng(0)
    truth = np.zeros((n_motifs, n, D), dtype=bool)
    for motif in truth:
        motif[rng.choice(n, n_spikes, replace=False), rng.integers(D, size=n_spikes)] = True
    rng = np.random.default_rng([seed, 1])
    spikes, events = rng.random((bins, n)) < background, rng.random((bins, n_motifs)) < how_often
    events[: D - 1] = False
    for b, motif in enumerate(truth):
        for neuron, delay in np.argwhere(motif):
            at = np.flatnonzero(events[:, b]) - delay
            spikes[at[rng.random(len(at)) < reliability], neuron] = True
    return spikes.astype(int), events.astype(int), truth


def labelled(values, modality="spikes", ids=None, **names):
    ids = np.arange(values.shape[1]) if ids is None else ids
    n = len(values)
    return ba.responses(values, stimulus_id=[f"bin-{i}" for i in range(n)], neuroid_id=ids, modality=modality, system="x",
                        onset_s=np.arange(n) / RATE_HZ, run=np.repeat("1", n), **names)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return raster(0), raster(1)


def test_motifs_are_found_and_their_delays_recovered(data):
    (x, y, truth), (new_x, new_y, _) = data
    found = {}
    for method in ("logistic", "log-odds"):
        model = ba.models.MotifDetector(0.02, method, sampling_rate_hz=RATE_HZ).fit(x, y)
        out = model.average_precision(new_x, new_y)
        found[method] = out.score.values
        assert out.score.min() >= 0.98
        assert out.population_rate.max() < 0.1
        assert out.chance.max() < 0.01
        assert model.coef_.shape == (3, N, D)
        for weights, planted in zip(model.coef_, truth, strict=True):
            best = np.argsort(weights, axis=None)[-12:]
            np.testing.assert_array_equal(np.sort(best), np.flatnonzero(planted))
    np.testing.assert_allclose(found["logistic"], found["log-odds"], atol=0.01)


def test_a_lone_spike_is_answered_its_delay_later(data):
    model = ba.models.MotifDetector(0.02, sampling_rate_hz=RATE_HZ)
    events = (np.random.default_rng(0).random((4000, 1)) < 0.02).astype(int)
    spikes = np.roll(events, -7, axis=0)
    spikes[-7:] = 0
    model.fit(spikes, events)
    lone = np.zeros((60, 1), dtype=int)
    lone[20] = 1
    assert int(model.predict(lone)[:, 0].argmax()) == 27


def test_labels_runs_and_kinds(data):
    (x, y, _), (new_x, *_) = data
    brain, motifs = labelled(x), labelled(y, "behaviour", ["a", "b", "c"])
    model = ba.models.MotifDetector(0.02, "log-odds").fit(brain, motifs)
    assert model.coef_.dims == ("motif", "neuroid", "delay")
    assert model.coef_.motif.values.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(model.coef_.delay, np.arange(21) / RATE_HZ)
    found = model.predict(labelled(new_x))
    assert found.dims == ("presentation", "neuroid")
    assert found.neuroid_id.values.tolist() == ["a", "b", "c"]
    same = ba.models.MotifDetector(0.02, "log-odds").fit(labelled(x, "ann"), motifs).predict(labelled(new_x, "ann"))
    np.testing.assert_array_equal(found, same)
    plain = ba.models.MotifDetector(0.02, "log-odds", sampling_rate_hz=RATE_HZ).fit(x, y).predict(new_x)
    np.testing.assert_allclose(found, plain)
    turned = np.random.default_rng(0).permutation(len(new_x))
    np.testing.assert_allclose(model.predict(labelled(new_x)[turned]), plain[turned])
    with pytest.raises(AlignmentError, match=r"0\.002 s apart\. Expected 0\.001 s, as in `fit`: its lags are samples"):
        model.predict(brain.assign_coords(onset_s=2 * brain.onset_s))


def test_trials_in_time_are_runs():
    x, y, _ = raster(bins=2000)
    make = lambda v, ids: ba.responses(v.reshape(20, 100, -1).transpose(0, 2, 1), stimulus_id=[f"t{i}" for i in range(20)], neuroid_id=ids,  # noqa: E731
                                       time=np.arange(100) / RATE_HZ, modality="spikes", system="x")  # fmt: skip
    model = ba.models.MotifDetector(0.02, "log-odds").fit(make(x, range(N)), make(y, list("abc")))
    first = model.predict(make(x, range(N))[:1])
    np.testing.assert_allclose(first, model.predict(labelled(x[:100])))


def test_it_is_scored_as_every_mapping_is(data):
    (x, y, _), _ = data
    run = np.repeat(["1", "2", "3"], 4000)
    names = {"run": ("presentation", run), "onset_s": ("presentation", np.tile(np.arange(4000) / RATE_HZ, 3))}
    sides = [labelled(v, m).assign_coords(names) for v, m in ((x, "spikes"), (y, "behaviour"))]
    out = ba.evaluate(*sides, model=ba.models.MotifDetector(0.02, "log-odds"), cv=ba.split(sides[1], by="run"), controls="none")
    assert out.score.min() > 0.8


def test_what_it_cannot_learn_from_is_refused():
    x, y, _ = raster(bins=300)
    ask = {"sampling_rate_hz": RATE_HZ}
    with pytest.raises(ParameterError, match=r"events of 0, 1, 2\. Expected 1 in the bin"):
        ba.models.MotifDetector(0.02, **ask).fit(x, y + (np.arange(300) == 50)[:, None] * (2 - y))
    with pytest.raises(SchemaError, match="MotifDetector needs the time of every row"):
        ba.models.MotifDetector(0.02).fit(x, y)
    with pytest.raises(ParameterError, match="'method' parameter of MotifDetector must be one of 'logistic', 'log-odds'"):
        ba.models.MotifDetector(0.02, "logodds", **ask).fit(x, y)
    with pytest.raises(AlignmentError, match="a `time` dim on both sides"):
        ba.models.MotifDetector(0.02, **ask).fit(x[None], y)
    silent = ba.models.MotifDetector(0.02, "log-odds", **ask).fit(x, np.c_[y[:, :1], np.zeros(300, int)])
    assert silent.status_.tolist()[1] == "constant"
    assert np.isnan(silent.predict(x)[:, 1]).all()
    assert np.isnan(silent.average_precision(x, np.c_[y[:, :1], y[:, 1]]).score[1])
