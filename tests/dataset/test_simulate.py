import json

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.provenance import provenance
from brainalign.dataset import simulate_signals as signals

RECORDINGS = ("fmri", "bold", "meg", "spikes")


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_repeats=4, snr=1.0, random_state=0)


@pytest.fixture(scope="module")
def big():
    """Many stimuli, so that empirical correlations are close to their expectation."""
    return ba.simulate(n_stimuli=3000, n_neuroids=4, n_channels=6, n_repeats=3, snr=(0.3, 2.0), random_state=1)


def by_stimulus(x, ids):
    """Return (stimulus, repeat, ...) values."""
    order = {s: i for i, s in enumerate(ids)}
    rows = np.array([order[s] for s in x.stimulus_id.values])
    sorted_rows = np.lexsort((x.repetition.values, rows))
    return x.values[sorted_rows].reshape(len(ids), -1, *x.shape[1:]).astype(float)


def correlate(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt(np.maximum((a**2).sum(axis=0) * (b**2).sum(axis=0), 1e-12))


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recording_is_valid_and_labelled(study, name):
    x = ba.validate(getattr(study, name), deep=True)
    assert {"stimulus_id", "run", "repetition"} <= set(x.coords)
    assert (x.system == "sub-01").all()
    assert x.attrs["modality"] == ("fmri" if name == "bold" else name)
    assert not x.attrs["deterministic"]
    assert list(study.truth.ceiling[name].dims) == list(x.dims[1:])
    assert (study.truth.ceiling[name].neuroid_id == x.neuroid_id).all()


def test_brain_is_the_fmri_and_every_stimulus_is_repeated(study):
    assert study.brain is study.fmri
    assert study.network.attrs["deterministic"]
    ids, counts = np.unique(study.fmri.stimulus_id.values, return_counts=True)
    assert ids.size == 200
    assert (counts == 4).all()
    assert study.spikes.dtype.kind == "i"
    assert study.spikes.values.min() == 0


@pytest.mark.parametrize("name", ["fmri", "meg", "spikes"])
@pytest.mark.parametrize("n_repeats", [1, 3])
def test_planted_ceiling_is_the_correlation_with_the_noise_free_signal(big, name, n_repeats):
    trials = by_stimulus(getattr(big, name), big.truth.signal[name].stimulus_id.values)
    measured = correlate(trials[:, :n_repeats].mean(axis=1), big.truth.signal[name].values.astype(float))
    planted = (big.truth.ceiling_single if n_repeats == 1 else big.truth.ceiling)[name].values
    assert np.nanmax(planted) > 0.5
    assert np.nanmax(np.abs(measured - planted)) < 0.08  # 4 standard errors of r at r = 0
    assert abs(np.nanmean(measured - planted)) < 0.005


def test_planted_ceiling_of_the_continuous_recording(big):
    measured = correlate(big.bold.values.astype(float), big.truth.signal["bold"].values.astype(float))
    assert np.abs(measured - big.truth.ceiling["bold"].values).max() < 0.03
    assert (big.truth.ceiling["bold"] == big.truth.ceiling_single["bold"]).all()


def test_equal_snr_gives_the_closed_form(study):
    np.testing.assert_allclose(study.truth.ceiling["fmri"], np.sqrt(1 / (1 + 1 / 4)))
    np.testing.assert_allclose(study.truth.ceiling_single["fmri"], np.sqrt(1 / 2))
    np.testing.assert_allclose(study.truth.ceiling_single["meg"].max("time"), np.sqrt(1 / 2))


def test_signal_is_the_recorded_readout_of_the_planted_layer(study):
    for area, layer in study.truth.layer.items():
        units = study.network.values[:, (study.network.layer == layer).values].astype(float)
        weights = study.truth.weights["fmri"]
        table = weights[weights["region"] == area]
        assert (table["layer"] == layer).all()
        for name, rows in table.groupby("neuroid_id"):
            signal = study.truth.signal["fmri"]
            signal = signal.values[:, (signal.neuroid_id == name).values][:, 0]
            rebuilt = units[:, rows["unit"]] @ rows["weight"].to_numpy()
            np.testing.assert_allclose(rebuilt - rebuilt.mean(), signal, atol=1e-4)


def test_meg_signal_peaks_at_the_latency_of_the_region_that_a_channel_sees():
    study = ba.simulate(n_stimuli=50, regions={"IT": "layer4"}, modalities=("meg",), random_state=2)
    power = study.truth.signal["meg"].var("presentation").mean("neuroid")
    assert float(power.idxmax("time")) == pytest.approx(study.truth.latency_s["IT"])
    components = study.truth.mixing
    assert components.dims == ("neuroid", "component")
    assert study.fmri is study.spikes is None
    with pytest.raises(ba.errors.CapabilityError, match="'fmri'"):
        _ = study.brain


def test_seed_reproduces_and_streams_are_separate(study):
    again = ba.simulate(n_repeats=4, snr=1.0, random_state=0, modalities=("spikes",))
    np.testing.assert_array_equal(again.spikes, study.spikes)
    assert again.truth.seed == 0
    assert json.loads(study.spikes.attrs["provenance"])["steps"][-1]["seed"] == 0
    other = ba.simulate(n_repeats=4, snr=1.0, random_state=1, modalities=("spikes",))
    assert not np.array_equal(other.spikes, study.spikes)
    assert provenance(study.fmri).altered is False


def test_any_layered_responses_serve_as_source(study):
    values = np.random.default_rng(0).standard_normal((30, 12))
    values[:, 3] = 1.0  # a dead unit is never read
    source = ba.responses(
        values,
        stimulus_id=[f"s{i}" for i in range(30)],
        neuroid_id=range(12),
        layer=list("aaaabbbbcccc"),
        modality="ann",
        system="n",
    )
    table = xr.Dataset(
        {"values": (("presentation", "x"), np.arange(40.0)[::-1, None])},
        coords={"stimulus_id": ("presentation", [f"s{i}" for i in range(40)][::-1])},
    )
    made = ba.simulate(source, stimuli=table, regions=["R1", "R2"], n_stimuli=20, n_neuroids=5, system="sub-07", random_state=0)
    assert made.truth.layer == {"R1": "a", "R2": "c"}
    assert made.network.sizes["presentation"] == 20
    assert [f"s{int(v)}" for v in made.stimuli["values"].values[:, 0]] == made.stimuli.stimulus_id.values.tolist()
    assert set(made.fmri.stimulus_id.values) == set(made.network.stimulus_id.values)
    assert 3 not in set(made.truth.weights["fmri"].query("layer == 'a'")["unit"])
    assert (made.meg.system == "sub-07").all()


def test_bold_is_the_trials_through_the_hemodynamic_response(study):
    at_events = study.network_at_events()
    assert at_events.sizes["presentation"] == 800
    assert at_events.stimulus_id.values.tolist() == study.events["stimulus_id"].tolist()
    ba.validate(at_events)
    first = study.events.query("run == '1'")
    times = study.bold.onset_s.values[study.bold.run.values == "1"]
    signal = study.truth.signal["fmri"]
    position = {name: i for i, name in enumerate(signal.stimulus_id.values)}
    drive = signal.values[[position[name] for name in first["stimulus_id"]]]
    expected = signals.bold_design(times, first["onset_s"].to_numpy(), 1.0) @ drive
    np.testing.assert_allclose(study.truth.signal["bold"].values[: times.size], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"snr": 0.0}, "'snr'.*Got 0.0"),
        ({"snr": (2.0, 1.0)}, "'snr'"),
        ({"n_repeats": 0}, "'n_repeats'.*Got 0"),
        ({"modalities": ("fmri", "mge")}, "Did you mean 'meg'"),
        ({"regions": {"V1": "layer9"}}, "layer9"),
        ({"random_state": -1}, "random_state"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ba.errors.ParameterError, match=message):
        ba.simulate(**arguments)


def test_sources_that_cannot_be_read_are_refused(study):
    with pytest.raises(ba.errors.SchemaError, match="600 repeated"):
        ba.simulate(study.brain)
    with pytest.raises(ba.errors.SchemaError, match="no `layer`"):
        ba.simulate(study.network.drop_vars("layer").assign_coords(neuroid_id=("neuroid", np.arange(184))))
    with pytest.raises(ba.errors.SchemaError, match="nothing that varies in layer 'layer2'"):
        ba.simulate(study.network.where(study.network.layer != "layer2", 0.0))
    with pytest.raises(ba.errors.ParameterError, match="at most 200"):
        ba.simulate(study.network, n_stimuli=500)


def test_recordings_lead_back_to_the_planted_layer_and_ceiling():
    study = ba.simulate(n_stimuli=100, n_neuroids=6, modalities=("fmri",), random_state=0)
    timed, model = study.network_at_events(), ba.chain(ba.HRF(at="target"), ba.Ridge(cv=3))
    scores = {}
    for layer in ("layer1", "layer4"):
        source = timed[:, (timed.layer == layer).values]
        result = ba.evaluate(source, study.bold, model=model, cv=ba.split(study.bold, by="run"), random_state=0)
        scores[layer] = result.score.groupby("region").mean()
        assert float(result.score.mean()) < float(study.truth.ceiling["bold"].mean())
    lead = scores["layer1"] - scores["layer4"]
    assert float(lead.sel(region="V1")) > 0.1
    assert float(lead.sel(region="IT")) < -0.05
    found = ba.noise_ceiling(study.brain, random_state=0)
    assert float(abs(found - study.truth.ceiling["fmri"].values).mean()) < 0.02


def test_an_snr_of_other_than_one_or_two_numbers_is_refused():
    with pytest.raises(
        ba.errors.ParameterError, match=r"'snr' parameter of simulate must be a float, or \(low, high\). Got \[2\]"
    ):
        ba.simulate(snr=[2])
