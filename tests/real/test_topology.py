"""Ninety-two pictures: people, models and a network's geometry under the family of geo-topological transforms."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def ids(shared_data):
    return ba.stimuli.from_images(shared_data("images92-fmri15") / "stimuli").stimulus_id.values


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
