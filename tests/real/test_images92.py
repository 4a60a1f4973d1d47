"""Ninety-two pictures: human and monkey inferior temporal cortex, early visual cortex of fifteen people, models, pixels.

Every comparison joins by the name of the picture. The two data sets hold the same pictures in the same order, so that
the names of the image files serve both.
"""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.io import loadmat

import brainalign as ba

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def pictures(shared_data):
    return ba.stimuli.from_images(shared_data("images92-fmri15") / "stimuli")


@pytest.fixture(scope="module")
def cortex(shared_data, pictures):
    """Inferior temporal cortex of a monkey and of a human."""
    path = shared_data("images92-kriegeskorte") / "Kriegeskorte_Neuron2008_supplementalData.mat"
    return ba.open_rdms(
        path, key="RDMs_mIT_hIT_fig1", stimulus_id=pictures.stimulus_id.values, names=["mIT", "hIT"], dim="region"
    )


@pytest.fixture(scope="module")
def models(shared_data, pictures):
    path = shared_data("images92-kriegeskorte") / "92_modelRDMs.mat"
    return ba.open_rdms(path, stimulus_id=pictures.stimulus_id.values, dim="model")


@pytest.fixture(scope="module")
def people(shared_data, pictures):
    """Early visual cortex of fifteen people."""
    path = shared_data("images92-fmri15") / "fmri_EVC_RDMs.npz"
    names = [f"sub-{i:02d}" for i in range(1, 16)]
    return ba.open_rdms(path, key="Net_RDM", stimulus_id=pictures.stimulus_id.values, names=names, dim="subject")


class Grey(torch.nn.Module):
    """Luminance, averaged down to 32 x 32 pixels: a network without weights."""

    def __init__(self):
        super().__init__()
        self.small = torch.nn.AdaptiveAvgPool2d(32)

    def forward(self, rgb):
        return self.small((rgb * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True))


def channels_first(images):
    return torch.as_tensor(np.asarray(images)).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def pixels(pictures):
    return ba.record(
        ba.TorchResponder(Grey().eval(), layers=["small"], system="pixels", preprocess=channels_first), pictures, progress=False
    )


def renamed(rdms, seed):
    ids = np.random.default_rng(seed).permutation(rdms.stimulus.values)
    return rdms.assign_coords(stimulus=ids, stimulus_2=ids)


@pytest.mark.parametrize(
    ("region", "model", "expected"),
    [
        ("mIT", "animacy", 0.4534),
        ("hIT", "animacy", 0.5882),
        ("hIT", "V1", 0.0393),
        ("hIT", "EVA", 0.3542),
        ("hIT", "FaceBodyManmadeNatobj", 0.4053),
        ("hIT", "Silhouette", 0.1247),
        ("hIT", "RADON", 0.0612),
        ("mIT", "monkeyIT", 1.0),
    ],
)
def test_one_call_for_model_and_brain_in_both_directions(cortex, models, region, model, expected):
    forward = ba.compare_rdms(models, cortex).score.sel(source_model=model, target_region=region)
    back = ba.compare_rdms(cortex, models).score.sel(source_region=region, target_model=model)
    assert forward.item() == back.item() == pytest.approx(expected, abs=1e-4)


def test_models_of_another_file_and_behaviour(shared_data, pictures, cortex):
    """README: HMAX on natural patches .1012; mean of the judges' unit-norm matrices .3918 (human), .3939 (monkey)."""
    folder, names = shared_data("images92-kriegeskorte"), pictures.stimulus_id.values
    hmax = ba.open_rdms(folder / "rdm92_V1model.mat", key="rdm92_HMAXnatImPatch", stimulus_id=names)
    assert ba.compare_rdms(hmax, cortex.sel(region="hIT")).score.item() == pytest.approx(0.1012, abs=1e-4)
    judged = ba.open_rdms(folder / "92_behavRDMs.mat", stimulus_id=names)
    judged = (judged / np.sqrt((judged**2).sum(("stimulus", "stimulus_2")))).mean("rdm")
    np.testing.assert_allclose(ba.compare_rdms(judged, cortex).score.values, [0.3939, 0.3918], atol=1e-4)


@pytest.mark.parametrize(("metric", "expected"), [("spearman", 0.4389), ("pearson", 0.4912)])
def test_cortex_of_man_and_monkey(cortex, metric, expected):
    both = ba.compare_rdms(cortex, cortex, metric=metric)
    np.testing.assert_allclose(both.score.values, [[1, expected], [expected, 1]], atol=1e-4)
    assert (both.n_pairs.values == 4186).all()
    order = np.random.default_rng(0).permutation(92)
    np.testing.assert_allclose(
        ba.compare_rdms(cortex.isel(stimulus=order, stimulus_2=order), cortex, metric=metric).score.values, both.score.values
    )


def test_two_studies_are_joined_by_the_names_of_the_pictures(cortex, people):
    """README: .132 between the mean early visual cortex and human inferior temporal cortex."""
    mean = people.mean("subject")
    forward, back = ba.compare_rdms(mean, cortex).score, ba.compare_rdms(cortex, mean).score
    assert forward.sel(target_region="hIT").item() == back.sel(source_region="hIT").item() == pytest.approx(0.132, abs=5e-4)


def test_each_person_resembles_the_others(people):
    """Every person's geometry against the mean of the other fourteen (README, with ranks averaged: .247)."""
    scores = []
    for name in people.subject.values:
        others = people.sel(subject=people.subject.values != name).mean("subject")
        scores.append(ba.compare_rdms(others, people.sel(subject=name)).score.item())
    assert np.mean(scores) == pytest.approx(0.247, abs=0.01)
    assert min(scores) > 0


def test_recorded_pixels_resemble_early_visual_cortex(pixels, people, models):
    """README .181 (mean over people), and .020 for the animacy model."""
    assert pixels.shape == (92, 1024)
    rdm = ba.rdm(pixels)
    forward, back = ba.compare_rdms(rdm, people).score, ba.compare_rdms(people, rdm).score
    assert forward.mean().item() == back.mean().item() == pytest.approx(0.181, abs=0.002)
    assert ba.compare_rdms(models.sel(model="animacy"), people).score.mean().item() == pytest.approx(0.020, abs=5e-4)


def test_pixels_carry_less_of_animacy_than_cortex_does(pixels, cortex, models):
    from_pixels, from_cortex = (
        ba.compare_rdms(x, models.sel(model="animacy")).score.values.min() for x in (ba.rdm(pixels), cortex)
    )
    assert from_pixels < 0.1 < 0.4 < from_cortex


def test_the_figures_need_the_right_ids(pixels, cortex, models, people):
    """Pictures renamed: on the recorded responses before the matrix is made, or on the matrix itself."""
    null = []
    for seed in range(6):
        ids = np.random.default_rng(seed).permutation(pixels.stimulus_id.values)
        wrong = ba.rdm(pixels.assign_coords(stimulus_id=("presentation", ids)))
        null.append(
            [
                ba.compare_rdms(wrong, people).score.mean().item(),
                ba.compare_rdms(renamed(cortex.sel(region="mIT"), seed), cortex.sel(region="hIT")).score.item(),
                ba.compare_rdms(renamed(models.sel(model="animacy"), seed), cortex.sel(region="hIT")).score.item(),
                ba.compare_rdms(renamed(people.mean("subject"), seed), cortex.sel(region="hIT")).score.item(),
            ]
        )
    assert (np.abs(null).max(axis=0) < [0.06, 0.15, 0.15, 0.1]).all()


class Filters(torch.nn.Module):
    """A layer of random filters, rectified and averaged over parts of the picture: a network that learned nothing."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(32, 3, 7, 7, generator=generator)
        self.register_buffer("weight", weight - weight.mean(dim=(1, 2, 3), keepdim=True))
        self.parts = torch.nn.AdaptiveAvgPool2d(3)

    def forward(self, rgb):
        return self.parts(torch.relu(torch.nn.functional.conv2d(rgb / 255, self.weight, stride=4)))


def test_units_of_a_layer_are_selective_for_faces_and_only_under_the_right_names(shared_data, pictures):
    """What a picture shows, of things that do not exclude each other, told by units without any learning."""
    responder = ba.TorchResponder(Filters().eval(), layers=["parts"], system="random", preprocess=channels_first)
    units = ba.record(responder, pictures, progress=False)
    path = shared_data("images92-kriegeskorte") / "Kriegeskorte_Neuron2008_supplementalData.mat"
    objects = loadmat(path, simplify_cells=True)["stimuli_92objs"]
    names = ["human", "face", "animal", "natural"]
    shows = xr.DataArray(
        [[bool(o[name]) for name in names] for o in objects], dims=("presentation", "category"), coords={"category": names}
    )
    out = ba.selectivity(units, shows, n_permutations=299, random_state=0)
    assert (out.p_value_max <= 0.05).any("neuroid").sel(category="face").item()
    assert out.score.sel(category="face").max().item() > 0.7
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(92)
        wrong = ba.selectivity(units, shows[order], n_permutations=299, random_state=0)
        assert (wrong.p_value_max > 0.05).all()
