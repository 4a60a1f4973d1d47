"""Ninety-two pictures: eight models against the inferior temporal cortex of four people, by every measure."""

import numpy as np
import pytest

import brainalign as ba

pytestmark = pytest.mark.real

MODELS = ["animacy", "FaceBodyManmadeNatobj", "monkeyIT", "EVA", "HMAX", "V1", "Silhouette", "RADON"]
#: rsatoolbox 0.3.2, mean over people, sessions averaged.
EXPECTED = {
    "spearman": [0.3862, 0.2766, 0.2963, 0.2454, 0.1599, 0.0265, 0.0966, 0.0381],
    "rho-a": [0.3345, 0.2053, 0.2963, 0.2454, 0.1599, 0.0265, 0.0966, 0.0381],
    "tau-a": [0.2230, 0.1369, 0.2009, 0.1661, 0.1073, 0.0179, 0.0647, 0.0259],
    "cosine": [0.7447, 0.8814, 0.9884, 0.9878, 0.9559, 0.9542, 0.9497, 0.7976],
    "pearson": [0.3871, 0.2816, 0.3335, 0.2591, 0.1521, 0.0250, 0.1159, 0.0365],
    "whitened-pearson": [0.4282, 0.3121, 0.3656, 0.2799, 0.1559, 0.1105, 0.1510, 0.0403],
}


@pytest.fixture(scope="module")
def ids(shared_data):
    return ba.stimuli.from_images(shared_data("images92-fmri15") / "stimuli").stimulus_id.values


@pytest.fixture(scope="module")
def people(shared_data, ids):
    """Return the mean of two sessions of each person."""
    sessions = ba.open_rdms(shared_data("images92-kriegeskorte") / "92_brainRDMs.mat", stimulus_id=ids)
    names = [str(name).split(" | ")[1] for name in sessions["rdm"].values]
    return sessions.assign_coords(subject=("rdm", names)).groupby("subject").mean()


@pytest.fixture(scope="module")
def models(shared_data, ids):
    return ba.open_rdms(shared_data("images92-kriegeskorte") / "92_modelRDMs.mat", stimulus_id=ids, dim="model")


@pytest.mark.parametrize("metric", EXPECTED)
def test_models_score_what_they_score_elsewhere(people, models, metric):
    score = ba.compare_rdms(models, people, metric=metric).score.mean("target_subject").sel(source_model=MODELS)
    np.testing.assert_allclose(score.values, EXPECTED[metric], atol=5.1e-5)


def test_a_model_of_categories_leads_by_more_where_ties_are_corrected_for(people, models):
    lead = {}
    for metric in ("spearman", "rho-a", "tau-a"):
        score = ba.compare_rdms(models, people, metric=metric).score.mean("target_subject")
        lead[metric] = (score.sel(source_model="animacy") / score.sel(source_model="monkeyIT")).item()
    assert lead["spearman"] > 1.3 > 1.15 > lead["rho-a"] > lead["tau-a"] > 1


def test_what_the_monkey_explains_of_the_person_beyond_animacy(people, models):
    monkey, animacy = models.sel(model="monkeyIT"), models.sel(model="animacy")
    raw = ba.compare_rdms(monkey, people, metric="spearman").score
    kept = ba.compare_rdms(monkey, people, metric="spearman", controlling=animacy).score
    assert (kept < raw).all()
    assert (kept > 0.05).all()


def test_models_weighted_on_other_pictures_and_people_beat_each_alone(people, models):
    """All but the monkey's; three of four people and most pictures are fitted, the fourth's other pictures scored."""
    out = ba.geometry.fit_rdms(models.drop_sel(model="monkeyIT"), people, over="subject", n_repeats=5, random_state=0)
    alone = out.score_source.mean("target_subject")
    assert alone.source_model.values[alone.argmax("source_model")] == "animacy"
    assert out.score.mean() > alone.max() + 0.03
    assert out.n_undefined_folds.sum() == 0
