"""Ninety-two pictures: people, a monkey, models and a network's layers under the family of geo-topological transforms."""

import numpy as np
import pytest
import torch
import xarray as xr

import brainalign as ba

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def pictures(shared_data):
    return ba.stimuli.from_images(shared_data("images92-fmri15") / "stimuli")


@pytest.fixture(scope="module")
def ids(pictures):
    return pictures.stimulus_id.values


@pytest.fixture(scope="module")
def people(shared_data, ids):
    """Inferior temporal cortex of four people in two sessions."""
    rdms = ba.open_rdms(shared_data("images92-kriegeskorte") / "92_brainRDMs.mat", stimulus_id=ids)
    _, who, session = np.array([str(name).split(" | ") for name in rdms["rdm"].values]).T
    rows = [
        rdms[session == name].assign_coords({"rdm": who[session == name]}).rename(rdm="subject") for name in np.unique(session)
    ]
    return xr.concat(rows, xr.Variable("session", np.unique(session)), join="exact", combine_attrs="override")


@pytest.fixture(scope="module")
def models(shared_data, ids):
    return ba.open_rdms(shared_data("images92-kriegeskorte") / "92_modelRDMs.mat", stimulus_id=ids, dim="model")


@pytest.fixture(scope="module")
def sides(shared_data, ids, pictures, people):
    """RDMs by what they are of: people, a monkey's and a person's cortex, and layers that average pixels."""
    grey = torch.nn.Conv2d(3, 1, 1, bias=False)
    grey.weight.data[:] = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    network = torch.nn.Sequential(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(32), grey), torch.nn.AvgPool2d(2))
    responder = ba.TorchResponder(
        network.eval(),
        layers=["0", "1"],
        system="pixels",
        preprocess=lambda x: torch.as_tensor(np.asarray(x)).permute(0, 3, 1, 2).float(),
    )
    path = shared_data("images92-kriegeskorte") / "Kriegeskorte_Neuron2008_supplementalData.mat"
    cortex = ba.open_rdms(path, key="RDMs_mIT_hIT_fig1", stimulus_id=ids, names=["mIT", "hIT"], dim="region")
    early = ba.open_rdms(
        shared_data("images92-fmri15") / "fmri_EVC_RDMs.npz", key="Net_RDM", stimulus_id=ids, names=range(15), dim="subject"
    )
    return {
        "person": people.mean("session"),
        "human": cortex.sel(region=["hIT"]),
        "monkey": cortex.sel(region=["mIT"]),
        "layer": ba.rdm(ba.record(responder, pictures, progress=False), by="layer"),
        "region": early.mean("subject").expand_dims(region=["EVC"]),
    }


@pytest.mark.parametrize(
    ("source", "target"), [("person", "person"), ("human", "monkey"), ("monkey", "human"), ("layer", "region"), ("region", "layer"), ("layer", "layer")]
)  # fmt: skip
def test_one_call_in_every_direction(sides, source, target):
    out = ba.trsa(sides[source], sides[target], step=0.25, n_permutations=99, n_bootstraps=20, random_state=0)
    assert out.score.dims == ("transform", f"source_{sides[source].dims[0]}", f"target_{sides[target].dims[0]}")
    assert (out.p_value_family == 0.01).all()
    assert (out.ci_low < out.ci_high).sum() >= (out.score < 1 - 1e-9).sum()
    depends = ba.geometry.adaptive_dependence(sides[source], sides[target], n_permutations=99, random_state=0)
    assert (depends.p_value <= 0.02).all()


def test_people_are_like_themselves_under_every_transform(people):
    """The other session of the same person less that of the others: .053 (RDM), .051, .046, .047, .026 with other software."""
    out = ba.trsa(people[0], people[1], lower=[0, 0.2, 0.4, 0, 0.7], upper=[1, 0.8, 0.6, 0.3, 1]).score
    same = np.eye(4, dtype=bool)
    found = [score[same].mean() - score[~same].mean() for score in out.values]
    np.testing.assert_allclose(found, [0.053, 0.051, 0.046, 0.047, 0.026], atol=1e-3)
    named = {"rdm": people, "0.4-0.6": ba.geometry.geo_topological(people, 0.4, 0.6)}
    told = ba.geometry.identify_groups(named, by="subject", over="session", n_bootstraps=50, random_state=0)
    assert ((told.score >= 0.25) & (told.score <= 0.5)).all()  # eight RDMs are too few to tell one statistic from another
    assert told.difference_low < 0 < told.difference_high
    assert (told.distance_ratio.mean() < 1).all()


def test_models_and_people_in_both_directions(people, models):
    mean = people.mean("session")
    options = {"step": 0.2, "n_permutations": 99, "n_bootstraps": 20, "random_state": 0}
    forward, back = ba.trsa(models, mean, **options), ba.trsa(mean, models, **options)
    np.testing.assert_allclose(forward.score, back.score.transpose("transform", "target_model", "source_subject"), atol=1e-12)
    ranks = forward.score.sel(transform="0-1").mean("target_subject")
    assert ranks.sel(source_model="animacy").item() == pytest.approx(0.3862, abs=5e-5)
    for name, passed in (("animacy", True), ("monkeyIT", True), ("RADON", False)):
        for out in (forward.sel(source_model=name), back.sel(target_model=name)):
            assert (out.p_value_family.values <= 0.01).all() == passed


def test_renamed_pictures_are_like_nothing(people, models):
    mean = people.mean("session")
    order = np.random.default_rng(0).permutation(mean.stimulus.values)
    renamed = mean.assign_coords(stimulus=order, stimulus_2=order)
    out = ba.trsa(models.sel(model="animacy"), renamed, step=0.2, n_permutations=99, random_state=0)
    assert out.p_value_max.min() > 0.05  # NaN where a transform makes a model of two values flat
    depends = ba.geometry.adaptive_dependence(models.sel(model="animacy"), renamed, n_permutations=99, random_state=0)
    assert (depends.p_value_max > 0.05).all()
    found = ba.geometry.adaptive_dependence(models.sel(model="animacy"), mean, n_permutations=99, random_state=0)
    assert (found.p_value_max == 0.01).all()
