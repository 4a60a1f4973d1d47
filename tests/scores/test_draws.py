"""Bootstrap intervals: equal to rows drawn by hand, paired over sources, and as wide as they should be."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError
from brainalign.scores.draws import Held, bootstrap_scores, units_of
from brainalign.scores.metrics import BALANCED_ACCURACY, PEARSON, R2

FIXED = ba.Ridge(alphas=[1.0])


def held(seed=0, n=40, v=3, folds=3):
    rng = np.random.default_rng(seed)
    out = []
    for k in range(folds):
        y = rng.normal(size=(n, v))
        out.append(Held(y, y + rng.normal(size=(n, v)), np.array([f"s{k}-{i // 2}" for i in range(n)], dtype=object)))
    return out


@pytest.mark.parametrize("metric", [PEARSON, R2])
def test_equals_repeating_the_rows_that_are_drawn(metric):
    folds = held()
    by_name = type("Plain", (), {"name": "plain", "sums": lambda self, y, p: metric.sums(y, p), "pool": lambda self, f: metric.pool(f),
                                 "score": lambda self, s: metric.score(s)})()  # fmt: skip
    np.testing.assert_allclose(bootstrap_scores(folds, metric, 7, 1), bootstrap_scores(folds, by_name, 7, 1), atol=1e-6)


def test_counts_of_classes_are_drawn_too():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=(60, 1))
    folds = [Held(y, np.where(rng.random((60, 1)) < 0.8, y, 1 - y), np.arange(60).astype(str).astype(object))]
    draws = bootstrap_scores(folds, BALANCED_ACCURACY, 200, 0)
    assert abs(draws.mean() - 0.8) < 0.1
    assert 0.02 < draws.std() < 0.1


def test_the_spread_of_r_is_that_of_new_samples():
    truth = np.random.default_rng(0)
    y = truth.normal(size=(200, 400))
    p = y + truth.normal(size=y.shape)
    draws = bootstrap_scores([Held(y, p, np.arange(200).astype(str).astype(object))], PEARSON, 300, 0)
    # each column is a new sample of the same population: their spread is what one column's draws should show
    observed = [np.corrcoef(a, b)[0, 1] for a, b in zip(y.T, p.T, strict=True)]
    assert abs(draws.std(axis=0).mean() / np.std(observed) - 1) < 0.15
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    assert 0.9 < np.mean((low < np.sqrt(0.5)) & (np.sqrt(0.5) < high)) <= 0.98


def test_stimuli_are_drawn_whole_and_rows_in_time_in_stretches():
    x = ba.responses(np.zeros((6, 2)), stimulus_id=list("aabbcc"), neuroid_id=[0, 1], modality="fmri", system="s")
    assert units_of(x).tolist() == list("aabbcc")
    timed = x.assign_coords(onset_s=("presentation", [0.0, 19, 20, 0, 1, 41]), run=("presentation", [1, 1, 1, 2, 2, 2]))
    assert units_of(timed).tolist() == ["1/0", "1/0", "1/1", "2/0", "2/0", "2/2"]


def test_sources_are_paired_and_the_interval_is_around_the_score():
    study = ba.simulate(n_stimuli=80, n_neuroids=6, n_repeats=1, random_state=0)
    layers = {str(layer): x for layer, x in study.network.groupby("layer")}
    out = ba.evaluate(layers, study.fmri, model=FIXED, cv=4, n_bootstraps=200, controls="none", random_state=0)
    assert out.score_bootstrap.dims == ("source", "bootstrap", "neuroid")
    ok = np.isfinite(out.score.values)
    assert ((out.ci_low.values < out.score.values) & (out.score.values < out.ci_high.values))[ok].mean() > 0.95
    same = ba.evaluate(layers, study.fmri, model=FIXED, cv=4, n_bootstraps=200, controls="none", random_state=0)
    np.testing.assert_array_equal(out.score_bootstrap, same.score_bootstrap)
    twice = ba.evaluate(
        {"a": layers["layer1"], "b": layers["layer1"]},
        study.fmri,
        model=FIXED,
        cv=4,
        n_bootstraps=9,
        controls="none",
        random_state=0,
    )
    np.testing.assert_array_equal(*twice.score_bootstrap)  # the same stimuli are drawn for both


def test_a_grid_has_an_interval_a_cell_and_a_choice_that_is_held_out():
    study = ba.simulate(n_stimuli=80, n_neuroids=6, n_repeats=1, random_state=0)
    out = ba.compare(study.network, study.fmri, by=("layer", "region"), cv=4, n_bootstraps=50, controls="none", random_state=0)
    assert out.score_bootstrap.dims == ("bootstrap", "source_layer", "target_region")
    assert (out.ci_low < out.ci_high).all()
    assert out.attrs["choice"] == "held out"
    assert out.chosen_layer.dims == ("fold", "target_region")
    for region, layer in study.truth.layer.items():
        assert (out.chosen_layer.sel(target_region=region) == layer).mean() > 0.7
    assert (abs(out.score_of_chosen - out.score.max("source_layer")) < 0.15).all()


@pytest.mark.parametrize("repeats", ["average", "keep"])
def test_refits_are_of_models_that_never_saw_a_fifth_of_the_stimuli(repeats):
    study = ba.simulate(n_stimuli=40, n_neuroids=6, n_repeats=2, random_state=0)
    sides = [x[:, :5] for x in (study.network, study.fmri)]
    seen = []

    class Spy(ba.Ridge):
        def fit(self, X, Y):
            seen.append(set(np.unique(Y.stimulus_id.values).tolist()))
            return super().fit(X, Y)

    options = {"model": Spy(alphas=[1.0]), "cv": 4, "repeats": repeats, "controls": "none", "random_state": 0}
    out = ba.evaluate(*sides, n_refits=3, **options)
    assert out.score_refit.dims == ("refit", "neuroid")
    assert [len(stimuli) for stimuli in seen[:4]] == [30] * 4
    for refit in (seen[4:8], seen[8:12], seen[12:]):
        assert len(set.union(*refit)) == 32  # the same eight are left out of every fold
    assert (abs(out.score_refit - out.score) < 0.3).all()
    assert not np.array_equal(out.score_refit[0], out.score_refit[1])
    turned = ba.evaluate(*sides[::-1], n_refits=3, **options)
    assert turned.score_refit.shape == (3, 5)


def test_refits_of_a_grid_are_those_of_its_cells():
    study = ba.simulate(n_stimuli=60, n_neuroids=6, n_repeats=1, random_state=0)
    options = {"model": FIXED, "cv": 4, "controls": "none", "n_bootstraps": 20, "n_refits": 4, "random_state": 0}
    out = ba.compare(study.network, study.fmri, by=("layer", "region"), **options)
    assert out.score_refit.dims == ("refit", "source_layer", "target_region")
    tested = ba.bootstrap(out, over="stimulus", between="source_layer")
    assert tested.attrs["training"] == "refits"
    assert np.isfinite(tested.p_value).all()
    with pytest.raises(ParameterError, match=r"n_refits=1\. Expected two or more"):
        ba.evaluate(study.network, study.fmri, n_refits=1)
    with pytest.raises(ParameterError, match=r"n_refits=4 beside a metric of similarity"):
        ba.compare(study.network, study.fmri, by=("layer", "region"), metric="cka", n_refits=4)
