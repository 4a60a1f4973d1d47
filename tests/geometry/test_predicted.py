import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError, SplitError
from brainalign.geometry.predicted import predicted_rdm


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=60, n_repeats=2, snr=2.0, random_state=0)


def test_each_block_is_the_geometry_of_what_one_fit_predicts(study):
    x, y = (ba.average_repeats(side) for side in (study.network, study.brain))
    x, y, _ = ba.align(x, y)
    folds = ba.split(y, n_splits=4, random_state=0)
    out = predicted_rdm(study.network, study.brain, model=ba.Ridge(alphas=[10.0]), cv=folds, by="region")
    fold = folds.on(y)[1]
    alone = ba.rdm(ba.Ridge(alphas=[10.0]).fit(x[fold.train], y[fold.train]).predict(x[fold.test]), by="region")
    block = out.sel(stimulus=alone.stimulus, stimulus_2=alone.stimulus_2)
    np.testing.assert_allclose(block.values, alone.values)
    assert np.isfinite(out.values).sum() == 3 * 4 * 15 * 15
    assert out.dims == ("region", "stimulus", "stimulus_2")


def recording(values, system, modality="ann"):
    ids = [f"s{i:02d}" for i in range(len(values))]
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality=modality, system=system)


def test_weights_bring_a_system_to_a_geometry_that_lies_in_few_of_its_features():
    """Three of forty features are all that the other system has; both ways round the mapping finds it."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 40))
    few = features[:, :3] @ rng.normal(size=(3, 20)) + 0.1 * rng.normal(size=(80, 20))
    wide, narrow = recording(features, "net"), recording(few, "sub-01", "fmri")
    own = ba.compare_rdms(ba.rdm(wide), ba.rdm(narrow), metric="pearson").score.item()
    for source, target, least in ((wide, narrow, 0.9), (narrow, wide, 0.1)):
        predicted = predicted_rdm(source, target, model=ba.Ridge(), random_state=0)
        out = ba.compare_rdms(predicted, ba.rdm(target), metric="pearson")
        assert out.score > least
        assert out.n_pairs_dropped == 80 * 79 / 2 - 5 * 16 * 15 / 2
    assert own < 0.4


def test_noise_has_no_geometry_to_predict_unless_folds_are_mixed():
    """The mean of training stimuli moves against that of test stimuli, and so does what a penalised fit predicts."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = (recording(rng.normal(size=(24, 10)), name) for name in ("a", "b"))
        model, truth = ba.Ridge(alphas=[1e4]), ba.rdm(y, metric="sqeuclidean")
        folds = ba.split(y, n_splits=8, random_state=seed)
        within = predicted_rdm(x, y, model=model, cv=folds, metric="sqeuclidean")
        across = y.copy(deep=True)
        for fold in folds.on(y):
            across[fold.test] = model.fit(x[fold.train], y[fold.train]).predict(x[fold.test]).values
        both = (within, ba.rdm(across, metric="sqeuclidean"))
        found.append([ba.compare_rdms(predicted, truth, metric="pearson").score.item() for predicted in both])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    assert abs(mean[0]) < 3 * error[0]
    assert mean[1] > 4 * error[1]


def test_bad_input_is_named(study):
    with pytest.raises(SplitError, match=r"fold 'fold-1' with 2 test stimuli\. Expected at least 3"):
        predicted_rdm(study.network, study.brain, model=ba.Ridge(), cv=30, random_state=0)
    with pytest.raises(ParameterError, match="Expected a mapping that predicts patterns from one presentation each, and no time"):
        predicted_rdm(study.network.expand_dims(time=[0.1], axis=2), study.brain, model=ba.Ridge())


@pytest.mark.parametrize("side", ["source", "target"])
def test_subjects_in_one_array_are_not_averaged_unasked(study, side):
    x = study.brain.assign_coords(subject=("presentation", np.where(study.brain.repetition == 0, "p", "q")))
    sides = {"source": study.network, "target": study.network} | {side: x}
    with pytest.raises(SchemaError, match="predicted_rdm got stimuli that several subjects saw, 'p', 'q'"):
        predicted_rdm(**sides, model=ba.Ridge(alphas=[10.0]), cv=3)
    sides[side] = ba.average_repeats(x)
    assert np.isfinite(predicted_rdm(**sides, model=ba.Ridge(alphas=[10.0]), cv=3)).any()


def test_groups_and_folds_are_one_or_the_other(study):
    folds = ba.split(ba.average_repeats(study.brain), n_splits=3)
    with pytest.raises(ParameterError, match="predicted_rdm got both cv=Folds and groups='run'"):
        predicted_rdm(study.network, study.brain, model=ba.Ridge(), cv=folds, groups="run")


def test_the_result_says_how_it_was_made(study):
    out = predicted_rdm(study.network, study.brain, model=ba.Ridge(), cv=3, random_state=4)
    step = ba.core.provenance(out).steps[-1]
    assert (step["verb"], step["seed"]) == ("predicted_rdm", 4)
    assert out.metric == "correlation"
