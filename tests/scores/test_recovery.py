"""The planted system is found where it can be, and where it cannot the study says so."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binomtest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.scores.recovery import recovery_of_grid, recovery_study

RIDGE = {"model": ba.Ridge(alphas=[10.0]), "cv": 3}


def rsa(source, target):
    return ba.compare_rdms(ba.rdm(source), ba.rdm(target))


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=100, n_neuroids=8, n_repeats=4, snr=1.0, random_state=0)


@pytest.fixture(scope="module")
def low(study):
    return ba.controls(study.stimuli, random_state=0)


def labelled(values, name="net", **options):
    ids = [f"s{i}" for i in range(len(values))]
    return ba.responses(
        values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="ann", system=name, deterministic=True, **options
    )


def pair(n_stimuli=80, n_units=20, seed=0):
    a, b = np.random.default_rng(seed).normal(size=(2, n_stimuli, n_units))
    return {"a": labelled(a), "b": labelled(b)}


@pytest.mark.slow
def test_the_planted_layer_is_recovered_at_300_neuroids(study, low):
    rng = np.random.default_rng(0)
    random_layers = np.maximum(low["values"].values @ rng.normal(size=(64, 40)), 0)
    untrained = labelled(random_layers, layer=["layer1"] * 20 + ["layer2"] * 20).assign_coords(
        stimulus_id=("presentation", study.network.stimulus_id.values)
    )
    out = recovery_study(
        study.network, RIDGE, controls={**low, "untrained-0": untrained}, like=study.brain, n_neuroids=[10, 300], random_state=0
    )
    assert out.score.dims == ("n_neuroids", "planted", "candidate", "draw")
    assert out.candidate.values.tolist()[4:] == ["values", "random-low-level", "untrained-0/layer1", "untrained-0/layer2"]
    at_300 = out.sel(n_neuroids=300)
    assert (at_300.accuracy >= 0.95).all()
    assert at_300.confusion.sum("candidate").values.tolist() == pytest.approx([1.0] * 4)
    assert (at_300.identifiability_low > 0.1).all()
    assert out.n_sufficient.dims == ("planted",)
    assert out.attrs["verdict"].endswith("? Yes.")
    assert "layer3 is found in 100% of 20 draws with 300 neuroids" in str(out.verdict.sel(planted="layer3").item())


def test_a_rotation_cannot_be_told_by_a_scorer_that_does_not_see_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 15))
    rotation, _ = np.linalg.qr(rng.normal(size=(15, 15)))
    systems = {"a": labelled(x), "rotated": labelled(x @ rotation), "b": labelled(rng.normal(size=(60, 15)))}
    options = {
        "without": ["low-level", "untrained"],
        "n_neuroids": [20, 300],
        "reliability": 0.8,
        "n_draws": 10,
        "random_state": 0,
    }
    for scorer in (RIDGE, lambda s, t: ba.compare_rdms(ba.rdm(s, metric="euclidean"), ba.rdm(t, metric="euclidean"))):
        out = recovery_study(systems, scorer, **options)
        last = out.isel(n_neuroids=-1)
        assert last.confusion.sel(planted="a", candidate=["a", "rotated"]).values.tolist() == [0.5, 0.5]
        assert np.isnan(out.n_sufficient.sel(planted="a"))
        assert float(last.accuracy.sel(planted="b")) == 1.0
        assert "this scorer sees no difference, however many neuroids there are" in str(out.verdict.sel(planted="a").item())
        assert "For 1 of 3 systems" in out.attrs["verdict"]


def test_low_reliability_leaves_the_answer_open():
    noisy = recovery_study(
        pair(40), RIDGE, without=["low-level", "untrained"], n_neuroids=3, reliability=0.02, n_draws=20, random_state=0
    )
    assert noisy.accuracy.dims == ("planted",)
    assert (noisy.accuracy < 0.95).all()
    assert noisy.attrs["verdict"] == "Would this comparison know (3 neuroids, 40 stimuli, mean reliability 0.02)? No."
    assert "cannot be told" in str(noisy.verdict[0].item())
    better = recovery_study(
        pair(40), RIDGE, without=["low-level", "untrained"], n_neuroids=[3, 100], reliability=0.1, n_draws=20, random_state=0
    )
    assert (better.accuracy[-1] > better.accuracy[0]).all()
    assert better.n_sufficient.values.tolist() == [100.0, 100.0]


def test_pixels_can_beat_the_network_that_is_right():
    """A random network's late layer, planted from another seed: the stimuli themselves predict it better."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(120, 30))
    nets = [np.tanh(np.tanh(pixels @ rng.normal(size=(30, 40)) / 4) @ rng.normal(size=(40, 40)) / 3) for _ in range(2)]
    other = rng.normal(size=(120, 30))
    systems = {"right": labelled(nets[0]), "wrong": labelled(np.abs(other))}
    options = {"n_neuroids": 50, "reliability": 0.9, "n_draws": 5, "random_state": 0, "without": ["untrained"]}
    out = recovery_study(systems, RIDGE, controls={"pixels": labelled(pixels)}, planted={"right": labelled(nets[1])}, **options)
    assert out.confusion.sel(planted="right", candidate="pixels") == 1.0
    assert out.identifiability.sel(planted="right") > 0.2  # it is still the best system, and the index does not look at controls


def test_the_numbers_are_those_of_their_formulas():
    out = recovery_study(
        pair(60),
        rsa,
        without=["low-level", "untrained"],
        n_neuroids=8,
        n_stimuli=[20, 60],
        reliability=0.3,
        n_draws=12,
        random_state=3,
    )
    assert out.score.dims == ("n_stimuli", "planted", "candidate", "draw")
    scores = out.score.values
    for j in range(2):
        own, other = scores[:, j, j], scores[:, j, 1 - j]
        np.testing.assert_allclose(out.accuracy[:, j], (own > other).mean(axis=-1))
        index = (own - other) / (own + other)
        index[(own <= 0) | (own + other <= 0)] = np.nan
        np.testing.assert_allclose(out.identifiability[:, j], np.nanmean(index, axis=-1))
    k = round(float(out.accuracy[0, 0]) * 12)
    interval = binomtest(k, 12).proportion_ci(method="wilson")
    np.testing.assert_allclose([out.accuracy_low[0, 0], out.accuracy_high[0, 0]], [interval.low, interval.high], rtol=1e-5)


def test_one_seed_one_study_and_fewer_neuroids_are_some_of_them(study, low):
    options = {"controls": low, "without": ["untrained"], "like": study.brain, "n_draws": 2, "random_state": 5}
    first, again = (recovery_study(study.network, RIDGE, n_neuroids=[4, 12], **options) for _ in range(2))
    xr.testing.assert_equal(first, again)
    assert first.attrs["n_repeats"] == 4
    # All systems scored in one fit, or one by one: the same.
    together = recovery_study(study.network, {**RIDGE, "random_state": 0, "repeats": "average"}, n_neuroids=12, **options)
    apart = recovery_study(
        study.network, lambda s, t: ba.evaluate(s, t, **RIDGE, controls="none", random_state=0), n_neuroids=12, **options
    )
    np.testing.assert_allclose(apart.score, together.score, atol=1e-4)


def test_people_stand_in_for_a_network_as_networks_do_for_people():
    brains = {f"sub-0{i}": ba.average_repeats(ba.simulate(n_stimuli=60, n_neuroids=10, random_state=i).brain) for i in range(2)}
    network = ba.simulate(n_stimuli=60, random_state=5).network
    noisy = xr.concat([network, network], "presentation", combine_attrs="override")
    noisy = noisy.copy(data=noisy.values + np.random.default_rng(0).normal(size=noisy.shape)).assign_attrs(deterministic=False)
    out = recovery_study(
        brains, RIDGE, without=["low-level", "untrained"], like=noisy.isel(neuroid=slice(40)), n_draws=4, random_state=0
    )
    assert out.planted.values.tolist() == ["sub-00", "sub-01"]
    assert (out.accuracy == 1.0).all()


def test_a_grid_is_asked_region_by_region(study, low):
    grid = ba.compare(study.network, study.brain, by=("layer", "region"), **RIDGE, controls="none", random_state=0)
    out = recovery_of_grid(
        study.network, study.brain, ("layer", "region"), RIDGE, controls=low, without=["untrained"], n_draws=2, random_state=0
    )
    both = grid.merge(out, combine_attrs="drop_conflicts")  # the dims are those of the grid
    assert both.recovery_accuracy.sizes == {"target_region": 3, "source_layer": 4}
    assert both.recovery_confusion.dims == ("target_region", "source_layer", "recovery_candidate")
    assert both.verdict.sel(target_region="IT", source_layer="layer4").item().startswith("layer4 is found in 100%")
    assert "V1: Would this comparison know (8 neuroids, 100 stimuli" in both.attrs["verdict"]


def test_subjects_in_one_array_are_not_averaged_unasked(study, low):
    x = study.brain.assign_coords(subject=("presentation", np.where(study.brain.repetition == 0, "p", "q")))
    with pytest.raises(SchemaError, match="recovery_study got stimuli that several subjects saw, 'p', 'q'"):
        recovery_of_grid(x, study.brain, ("region", "region"), RIDGE, controls=low, without=["untrained"])


def test_a_score_that_is_undefined_is_no_choice():
    out = recovery_study(
        pair(), lambda s, t: np.nan, without=["low-level", "untrained"], n_neuroids=5, reliability=1.0, n_draws=2, random_state=0
    )
    assert out.confusion.values.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert out.attrs["verdict"].endswith("No.")


def test_bad_input_is_named(study, low):
    options = {"like": study.brain, "n_draws": 2}
    with pytest.raises(ParameterError, match=r"for 'low-level', .* pass `controls=ba.controls\(stimuli, responder=network\)`"):
        recovery_study(study.network, **options)
    with pytest.raises(ParameterError, match=r"without=\['untrained'\]"):
        recovery_study(study.network, controls=low, **options)
    with pytest.raises(ParameterError, match="Expected one of the two for 'low-level'"):
        recovery_study(study.network, controls=low, without=["low-level", "untrained"], **options)
    with pytest.raises(ParameterError, match=r"'without' parameter .* Got 'pixel'"):
        recovery_study(study.network, without=["pixel"], **options)
    options["without"] = ["low-level", "untrained"]
    with pytest.raises(ParameterError, match="got 1 system"):
        recovery_study({"net": study.network}, **options)
    with pytest.raises(ParameterError, match=r"'scorer' parameter .* Got 'rsa'"):
        recovery_study(study.network, "rsa", **options)
    with pytest.raises(ParameterError, match="unknown option 'folds'"):
        recovery_study(study.network, {"folds": 3}, **options)
    with pytest.raises(ParameterError, match="plant 'layer9'"):
        recovery_study(study.network, planted={"layer9": study.network}, **options)
    with pytest.raises(ParameterError, match="same name: 'a'"):
        recovery_study(pair(), controls={"a": pair()["a"]}, without=["untrained"], n_neuroids=5, reliability=1.0)


def random_networks(seed):
    """A convolutional, a fully connected and an attention network of three layers, untrained."""
    import torch
    from torch import nn

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.place = nn.Linear(16, 32), nn.Parameter(0.5 * torch.randn(16, 32))
            self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True) for _ in range(3)])

        def forward(self, x):
            tokens = self.embed(x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(len(x), 16, 16)) + self.place
            for block in self.blocks:
                tokens = block(tokens)
            return tokens.flatten(1)

    torch.manual_seed(seed)
    widths = ((1, 16, 5), (16, 24, 3), (24, 32, 3))
    maps = [m for a, b, k in widths for m in (nn.Conv2d(a, b, k, padding=k // 2), nn.ReLU(), nn.MaxPool2d(2))]
    dense = [m for _ in range(3) for m in (nn.Linear(256, 256), nn.ReLU())]
    return {"cnn": nn.Sequential(*maps[:-1], nn.Flatten()), "mlp": nn.Sequential(nn.Flatten(), *dense), "vit": Attention().eval()}


def random_images(natural, n=300):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(n, 16, 16))
    if natural:  # amplitudes that fall as 1/f
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(16)))
        frequency[0, 0] = 1 / 16
        images = np.fft.ifft2(np.fft.fft2(images) / frequency).real
    return ((images - images.mean()) / images.std())[:, None].astype("float32")


@pytest.mark.slow
def test_random_networks_as_in_the_published_study():
    """Another seed's third layer is planted: two of three architectures are right, natural images are worse, pixels often win."""
    import torch

    index, pixels_win = {}, {}
    for natural in (False, True):
        images = torch.as_tensor(random_images(natural))
        with torch.no_grad():
            own, planted = (
                {name: labelled(net(images).numpy()) for name, net in random_networks(seed).items()} for seed in (0, 1)
            )
        out = recovery_study(own, {"model": ba.Ridge(alphas=np.logspace(0, 5, 6), cv=3), "cv": 3}, controls={"pixels": labelled(images.flatten(1).numpy())},
                             without=["untrained"], planted=planted, n_neuroids=100, reliability=0.8, readout="units", n_draws=2, random_state=0)  # fmt: skip
        index[natural] = dict(zip(out.planted.values.tolist(), out.identifiability.values, strict=True))
        pixels_win[natural] = out.confusion.sel(candidate="pixels").values
    assert index[False]["cnn"] > 0.1
    assert index[False]["vit"] > 0.1
    assert index[False]["mlp"] < 0.0
    assert all(index[True][name] < index[False][name] for name in ("cnn", "vit"))
    assert (pixels_win[False][1:] == 1.0).all()  # mlp and vit
