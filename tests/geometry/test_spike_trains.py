import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError

RNG = np.random.default_rng(0)
TIMES = np.arange(40) / 200


def trains(counts, ids=None, modality="spikes"):
    ids = [f"s{i}" for i in range(len(counts))] if ids is None else ids
    return ba.responses(counts, stimulus_id=ids, neuroid_id=range(counts.shape[1]), time=TIMES, modality=modality, system="x")


def test_what_a_code_in_time_tells_is_seen_at_its_own_precision_only():
    """Four stimuli, as many spikes each, told apart by when they come, by 20 ms; five trials."""
    ids, rows = np.repeat([f"s{i}" for i in range(4)], 5), np.repeat(np.arange(4), 5)
    counts = np.zeros((20, 3, 40), dtype=int)
    for trial, stimulus in enumerate(rows):
        for neuron in range(3):
            counts[trial, neuron, 8 * ((stimulus + neuron) % 4) + 4 + RNG.integers(-1, 2)] += 1
    x = trains(counts, ids)
    truth = ba.geometry.spike_distance(x, timescale_s=0.02)
    assert truth.dims == ("stimulus", "stimulus_2")
    off = ~np.eye(4, dtype=bool)
    assert truth.values[off].min() > 1.0
    assert not ba.geometry.spike_distance(x, timescale_s=np.inf).values.any()
    assert float(ba.compare_rdms(truth, ba.geometry.spike_distance(x, metric="van-rossum", timescale_s=0.02)).score) > 0.5
    np.testing.assert_array_equal(truth, ba.geometry.spike_distance(trains(counts, ids, "ann"), timescale_s=0.02))


def test_trials_of_a_stimulus_are_averaged_over_pairs():
    counts = RNG.poisson(0.2, size=(6, 2, 40))
    each = ba.geometry.spike_distance(trains(counts), timescale_s=0.05).values
    found = ba.geometry.spike_distance(trains(counts, list("aabbcc")), timescale_s=0.05)
    assert float(found.sel(stimulus="a", stimulus_2="b")) == pytest.approx(each[:2, 2:4].mean())
    assert float(found.sel(stimulus="a", stimulus_2="a")) == 0.0


def test_what_has_no_spikes_in_time_is_refused():
    counts = RNG.poisson(0.2, size=(4, 2, 40))
    with pytest.raises(SchemaError, match=r"no counts, such as 0\.5"):
        ba.geometry.spike_distance(trains(counts + 0.5), timescale_s=0.1)
    with pytest.raises(SchemaError, match="Expected counts in time"):
        ba.geometry.spike_distance(trains(counts)[:, :, 0].drop_vars("time"), timescale_s=0.1)
    with pytest.raises(SchemaError, match="got 2 conditions"):
        ba.geometry.spike_distance(trains(counts[:2]), timescale_s=0.1)
    with pytest.raises(ParameterError, match="Did you mean 'van-rossum'"):
        ba.geometry.spike_distance(trains(counts), metric="van-rosum", timescale_s=0.1)
    with pytest.raises(ParameterError, match="'timescale_s' parameter of spike_distance must be a float in the range"):
        ba.geometry.spike_distance(trains(counts), timescale_s=0.0)
