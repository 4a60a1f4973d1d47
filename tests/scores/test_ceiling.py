from functools import partial

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.engine.reliability import signal_and_noise, signal_power, split_halves
from brainalign.scores.ceiling import ceiling_of_averages

S, N = 0.3, 0.7


def recording(counts, n_neuroids=200, time=None, seed=0, signal=S, noise=N, scale=1.0, **options):
    """Presentations with planted signal and noise variance; ``counts`` repeats of each stimulus."""
    rng = np.random.default_rng(seed)
    shape = (len(counts), n_neuroids) if time is None else (len(counts), n_neuroids, len(time))
    values = np.repeat(np.sqrt(signal) * rng.normal(size=shape), counts, axis=0)
    values = scale * (values + np.sqrt(noise) * rng.normal(size=values.shape))
    ids = np.repeat([f"s{i}" for i in range(len(counts))], counts)
    order = rng.permutation(len(ids))
    options = {"modality": "fmri", "system": "sub-01"} | options
    return ba.responses(values[order], stimulus_id=ids[order], neuroid_id=range(n_neuroids), time=time, **options)


@pytest.mark.parametrize("repeats", [2, 3, 4, 5])
@pytest.mark.parametrize("scale", [1.0, 1e-13])
def test_planted_reliability_comes_back(repeats, scale):
    out = ba.noise_ceiling(recording([repeats] * 600, scale=scale), n_splits=20, random_state=0)
    assert out.dims == ("neuroid",)
    assert out.attrs["kind"] == "r"
    assert out.attrs["n_repeats"] == repeats
    # Unbiased to the spread of 200 neuroids: three repeats split 1 against 2 would give 0.542 for 0.5625.
    assert float((out**2).mean()) == pytest.approx(S / (S + N / repeats), abs=0.006)


def test_three_repeats_give_three_quarters():
    out = ba.noise_ceiling(recording([3] * 1000, n_neuroids=400), n_splits=20, random_state=0)
    assert float(out.mean()) == pytest.approx(0.75, abs=0.005)


@pytest.mark.parametrize("method", ["split-half", "variance", "signal-power", "explainable-variance"])
def test_every_method_finds_the_planted_ceiling(method):
    x = recording([3] * 800, n_neuroids=300)
    r, r2 = (ba.noise_ceiling(x, method=method, units=units, n_splits=20, random_state=0) for units in ("r", "r2"))
    assert float(r.mean()) == pytest.approx(0.75, abs=0.005)
    assert (r.attrs["kind"], r2.attrs["kind"]) == ("r", "r2")
    np.testing.assert_allclose(r2, r**2)
    assert float(r.ncsnr.mean()) == pytest.approx(np.sqrt(S / N), abs=0.01)


def test_methods_that_need_equal_repeats_say_so():
    x = recording([2, 3] * 20)
    for method in ("signal-power", "explainable-variance"):
        with pytest.raises(SchemaError, match="2 to 3 repeats"):
            ba.noise_ceiling(x, method=method)
    assert np.isfinite(ba.noise_ceiling(x, method="variance")).sum() > 100


def test_normalised_scores_are_those_of_the_literature():
    """CCnorm, signal power explained and FEVE, each written out from trials, for a model whose true correlation is .8."""
    rng = np.random.default_rng(0)
    signal = np.sqrt(S) * rng.normal(size=(1000, 300))
    model = 0.64 * signal + 0.48 * np.sqrt(S) * rng.normal(size=signal.shape)  # the best prediction that correlates .8
    y = signal + np.sqrt(N) * rng.normal(size=(3, *signal.shape))
    average, codes = y.mean(axis=0), np.tile(np.arange(1000), 3)
    power, _ = signal_power(y)
    _, noise = signal_and_noise(y.reshape(3000, -1), codes)
    covariance = ((average - average.mean(0)) * (model - model.mean(0))).sum(0) / 999
    ccnorm = covariance / np.sqrt(model.var(0, ddof=1) * power)
    spe = (average.var(0, ddof=1) - (average - model).var(0, ddof=1)) / power
    total = y.reshape(3000, -1).var(0, ddof=1)
    feve = 1 - (np.square(y - model).mean((0, 1)) - noise) / (total - noise)
    assert [ccnorm.mean(), spe.mean(), feve.mean()] == pytest.approx([0.8, 0.64, 0.64], abs=0.01)

    x = ba.responses(y.reshape(3000, -1), stimulus_id=codes.astype(str), neuroid_id=range(300), modality="fmri", system="sub-01")
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(average.T, model.T, strict=True)]
    np.testing.assert_allclose(r / ba.noise_ceiling(x, method="signal-power").values, ccnorm, rtol=1e-6)
    r2 = 1 - (average - model).var(0) / average.var(0)
    np.testing.assert_allclose(r2 / ba.noise_ceiling(x, method="signal-power", units="r2").values, spe, rtol=1e-5)
    single = ceiling_of_averages(ba.noise_ceiling(x, method="variance", units="r2"), 1.0)
    r2 = 1 - np.square(y - model).mean((0, 1)) / y.reshape(3000, -1).var(0)
    assert (r2 / single).mean() == pytest.approx(feve.mean(), abs=0.002)


def test_unequal_counts_average_the_noise_over_stimuli():
    counts = np.array([1, 2, 3, 6] * 250)
    out = ba.noise_ceiling(recording(counts), n_splits=20, random_state=0)
    assert float((out**2).mean()) == pytest.approx(S / (S + N * np.mean(1 / counts)), abs=0.01)


def test_it_is_the_score_of_the_true_model():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(800, 100))
    trials = np.repeat(truth, 4, axis=0) + 2 * rng.normal(size=(3200, 100))
    x = ba.responses(trials, stimulus_id=np.repeat(np.arange(800), 4), neuroid_id=range(100), modality="eeg", system="p")
    average = trials.reshape(800, 4, 100).mean(1)
    r = [np.corrcoef(truth[:, k], average[:, k])[0, 1] for k in range(100)]
    assert float(ba.noise_ceiling(x, random_state=0).mean()) == pytest.approx(np.mean(r), abs=0.01)


def test_every_time_point_has_its_own_ceiling():
    x = recording([4] * 100, n_neuroids=5, time=[0.0, 0.1, 0.2], region=["a", "a", "b", "b", "b"])
    out = ba.noise_ceiling(x, n_splits=10, random_state=0)
    assert out.dims == ("neuroid", "time")
    assert out.status.dims == ("neuroid", "time")
    assert out.region.values.tolist() == ["a", "a", "b", "b", "b"]
    at = ba.noise_ceiling(x.isel(time=1, drop=True), n_splits=10, random_state=0)
    np.testing.assert_allclose(out[:, 1], at, rtol=1e-6)


def test_pure_noise_is_nan_or_small_never_zero():
    out = ba.noise_ceiling(recording([4] * 200, signal=0.0), random_state=0)
    unreliable = out.status.values == "unreliable"
    assert 0.2 < unreliable.mean() < 0.8
    assert np.isnan(out.values[unreliable]).all()
    assert (out.values[~unreliable] > 0).all()


def test_degenerate_neuroids_are_named():
    x = recording([3] * 50, n_neuroids=4, allow_nan=True)
    x[:, 1] = 2.0
    x[7, 2] = np.nan
    out = ba.noise_ceiling(x, random_state=0)
    assert out.status.values.tolist()[1:3] == ["constant", "nan"]
    assert np.isnan(out.values[1:3]).all()
    clean = ba.noise_ceiling(x[:, [0, 3]], random_state=0)
    np.testing.assert_allclose(out.values[[0, 3]], clean.values)


def test_repeats_are_all_that_counts_for_a_deterministic_recording():
    once = recording([1] * 20, n_neuroids=4, deterministic=True, modality="ann", system="net", layer="l")
    assert ba.noise_ceiling(once).values.tolist() == [1.0] * 4
    twice = ba.noise_ceiling(recording([2] * 20, n_neuroids=4, noise=0.0, deterministic=True), random_state=0)
    np.testing.assert_allclose(twice, 1.0)
    dropout = recording([4] * 400, deterministic=False, modality="ann", system="net")
    assert float((ba.noise_ceiling(dropout, random_state=0) ** 2).mean()) == pytest.approx(0.6316, abs=0.01)


def test_no_repeats_is_an_error_that_says_how_to_mend_it():
    with pytest.raises(SchemaError, match="0 of 20 stimuli are repeated"):
        ba.noise_ceiling(recording([1] * 20))
    with pytest.raises(SchemaError, match="2 of 20 stimuli"):
        ba.noise_ceiling(recording([1] * 18 + [2] * 2))
    with pytest.raises(ParameterError, match="'split-half'"):
        ba.noise_ceiling(recording([2] * 20), method="split-halves")


def test_another_person_is_no_repeat():
    x = recording([2] * 40, n_neuroids=3)
    named = x.assign_coords(subject=("presentation", np.where(x.repetition == 0, "p", "q")))
    with pytest.raises(SchemaError, match=r"0 of 80 stimuli .* leave the names out"):
        ba.noise_ceiling(named)
    assert float(ba.noise_ceiling(named.drop_vars("subject"), random_state=0).mean()) > 0


def test_averages_that_were_made_before_keep_the_ceiling_of_averages():
    """Scored without their presentations, averages are no single presentations, whose ceiling is far lower."""
    x = recording([4] * 40, n_neuroids=3)
    mean, source = ba.average_repeats(x), ba.average_repeats(x)[:, :1]
    known = ba.noise_ceiling(x, random_state=0)
    with pytest.raises(SchemaError, match="the rows are averages"):
        ba.noise_ceiling(mean)
    ask = {"model": ba.Ridge(alphas=[1.0]), "cv": 4, "controls": "none", "ceiling": known, "random_state": 0}
    whole = ba.evaluate(source, x, **ask).ceiling
    for repeats in ("average", "keep"):
        assert np.allclose(ba.evaluate(source, mean, **ask, repeats=repeats).ceiling, whole)
    assert (ba.evaluate(source, x, **ask, repeats="keep").ceiling < whole).all()
    copied = ba.evaluate(x[:, :1], mean, **ask, repeats="train-single")  # rows of the target, for each presentation of the source
    assert np.allclose(copied.ceiling, whole)
    pairs = ba.average_repeats(x.assign_coords(half=("presentation", x.repetition.values // 2)), by=("stimulus_id", "half"))
    again = ba.average_repeats(pairs)
    assert again.n_repeats.values.tolist() == [4] * 40
    of_pairs = ba.noise_ceiling(pairs, random_state=0).attrs
    assert (of_pairs["n_repeats"], of_pairs["mean_inverse_repeats"]) == (4.0, 0.25)


def test_one_seed_one_answer_whatever_the_tiling(monkeypatch):
    from brainalign.engine import reliability

    x = recording([3] * 40, n_neuroids=30)
    first = ba.noise_ceiling(x, n_splits=10, random_state=5)
    monkeypatch.setattr(reliability, "_TILE", 1)
    np.testing.assert_allclose(ba.noise_ceiling(x, n_splits=10, random_state=5), first, rtol=1e-12)
    assert first.attrs["seed"] == 5
    drawn = ba.noise_ceiling(x, n_splits=10)
    np.testing.assert_array_equal(ba.noise_ceiling(x, n_splits=10, random_state=drawn.attrs["seed"]), drawn)


@pytest.mark.parametrize("method", ["split-half", "signal-power", "explainable-variance"])
def test_repeats_are_told_apart_by_name_and_not_by_the_order_of_rows(method):
    x = recording([3] * 20, n_neuroids=5)
    again = x[np.random.default_rng(0).permutation(60)]
    first, second = (ba.noise_ceiling(each, method=method, n_splits=3, random_state=5) for each in (x, again))
    xr.testing.assert_allclose(first, second, rtol=1e-9)


def test_long_splits_show_a_bar_which_changes_nothing(capsys):
    x = recording([3] * 40, n_neuroids=30)
    silent = ba.noise_ceiling(x, n_splits=10, random_state=5)
    assert capsys.readouterr().err == ""  # no terminal
    xr.testing.assert_identical(ba.noise_ceiling(x, n_splits=10, random_state=5, progress=True).drop_attrs(), silent.drop_attrs())
    assert "splits of repeats: 100%" in capsys.readouterr().err
    for verb in (ba.evaluate, partial(ba.compare, by=("neuroid_id", "neuroid_id"))):  # what they do not show, it does not either
        verb(x[:, :2], x[:, :2], ceiling="repeat", cv=3, progress=False)
        assert capsys.readouterr().err == ""


def test_halves_are_equal_disjoint_and_of_one_stimulus():
    codes = np.array([0, 1, 0, 2, 1, 0, 1, 1])  # three, four and one presentation
    for first, second in split_halves(codes, 5, np.random.default_rng(0)):
        a, b = first.toarray(), second.toarray()
        assert a.shape == (2, 8)
        assert not (a * b).any()
        for half in (a, b):
            np.testing.assert_allclose(half.sum(axis=1), 1.0)
            assert (half > 0).sum(axis=1).tolist() == [1, 2]
            assert [set(codes[row > 0].tolist()) for row in half] == [{0}, {1}]


def test_a_network_with_dropout_has_the_ceiling_of_its_repeats():
    """Recorded several times with dropout on, it is a recording like any other; without, its ceiling is 1."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(20, 60), torch.nn.Tanh(), torch.nn.Dropout(0.3), torch.nn.Linear(60, 8))
    images = ba.stimuli.table(
        np.random.default_rng(0).normal(size=(300, 20)), stimulus_id=[f"s{i}" for i in range(300)], kind="array"
    )
    still = ba.record(ba.TorchResponder(net, layers="3", system="net"), images, progress=False)
    assert ba.noise_ceiling(still).values.tolist() == [1.0] * 8
    responder = ba.TorchResponder(net, layers="3", system="net", dropout=True)
    assert not responder.deterministic
    one = ba.record(responder, images, progress=False)
    with pytest.raises(SchemaError, match="0 of 300 stimuli are repeated"):
        ba.noise_ceiling(one)
    trials = xr.concat(
        [one, *(ba.record(responder, images, progress=False) for _ in range(3))], "presentation", combine_attrs="override"
    )
    ceiling = ba.noise_ceiling(trials, n_splits=20, random_state=0)
    # What it would be with endless repeats is the network without dropout, up to a factor that r does not see.
    average = ba.average_repeats(trials)
    r = [np.corrcoef(still[:, k], average[:, k])[0, 1] for k in range(8)]
    np.testing.assert_allclose(ceiling, r, atol=0.03)


def test_spikes_drawn_from_rates_have_the_ceiling_of_poisson():
    rng = np.random.default_rng(0)
    rate = rng.gamma(4.0, size=(600, 40))
    counts = rng.poisson(np.repeat(rate, 3, axis=0))
    x = ba.responses(
        counts, stimulus_id=np.repeat(np.arange(600), 3), neuroid_id=range(40), modality="ann", system="snn", units="count"
    )
    ceiling = ba.noise_ceiling(x, n_splits=20, random_state=0)
    assert float((ceiling**2).mean()) == pytest.approx(4 / (4 + 4 / 3), abs=0.01)  # signal and noise variance are both 4


def test_bounds_of_a_geometry():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(12, 30))
    subjects = [f"p{k}" for k in range(5)]
    x = ba.responses(np.concatenate([truth + rng.normal(size=truth.shape) for _ in subjects]), stimulus_id=np.tile([f"s{i}" for i in range(12)], 5),
                     subject=np.repeat(subjects, 12), neuroid_id=range(30), modality="fmri", system="all")  # fmt: skip
    rdms = ba.rdm(x, by="subject")
    bounds = ba.noise_ceiling(rdms)
    assert bounds.dims == ("bound",)
    assert (bounds.attrs["kind"], bounds.attrs["n_subjects"]) == ("spearman", 5)
    model = ba.compare_rdms(ba.rdm(x[:12].copy(data=truth)), rdms).score
    lower, upper = bounds.values
    assert lower < float(model.mean()) < upper
    pearson = ba.noise_ceiling(rdms, units="pearson")
    assert pearson.attrs["kind"] == "pearson"
    with pytest.raises(ParameterError, match="kind 'spearman'"):
        ba.evaluate(x[:12], x[:12], cv=3, ceiling=bounds)
    with pytest.raises(ParameterError, match="'units' parameter"):
        ba.noise_ceiling(rdms, units="r2")
    with pytest.raises(SchemaError, match="two or more along `subject`"):
        ba.noise_ceiling(rdms[:1])
    regions = xr.concat([rdms, rdms], "region").assign_coords(region=["V1", "IT"])
    both = ba.noise_ceiling(regions)
    assert both.dims == ("bound", "region")
    np.testing.assert_allclose(both.sel(region="IT"), bounds)
    with pytest.raises(SchemaError, match="rename"):
        ba.noise_ceiling(regions.rename(subject="person"))
