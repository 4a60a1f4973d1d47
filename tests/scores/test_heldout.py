"""The loop over folds: what a mapping chose on inner folds is kept, and a choice of the best of many null sources scores nothing."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import brainalign as ba
from brainalign.dataset.folds import Fold
from brainalign.features.chain import chain
from brainalign.models.inner_folds import inner_splits
from brainalign.scores import heldout
from brainalign.scores.heldout import predict_training
from brainalign.scores.pairing import Pair


def null_study(n=60, layers=12, width=4, v=30, seed=0):
    rng = np.random.default_rng(seed)
    ids = [f"s{i}" for i in range(n)]
    names = np.repeat([f"l{i}" for i in range(layers)], width)
    x = ba.responses(rng.normal(size=(n, layers * width)), stimulus_id=ids, neuroid_id=np.arange(layers * width), layer=names,
                     modality="ann", system="net")  # fmt: skip
    y = ba.responses(
        rng.normal(size=(n, v)), stimulus_id=ids, neuroid_id=np.arange(v), modality="fmri", system="s", region=["V1"] * v
    )
    return x, y


def test_the_inner_score_of_the_chosen_alpha_is_kept():
    x, y = null_study()
    out = ba.evaluate(x, y, cv=3, controls="none", random_state=0)
    assert out.cv_score.dims == ("fold", "neuroid")
    fixed = ba.evaluate(x, y, model=ba.Ridge(alphas=[1.0]), cv=3, controls="none", random_state=0)
    assert "cv_score" not in fixed
    assert (fixed.alpha == 1.0).all()


def test_the_best_of_many_null_layers_scores_nothing_once_it_is_chosen_inside():
    """Picked on the test rows, the best of 12 null layers looks like a finding in one neuroid after another."""
    inside, outside = [], []
    model = ba.Ridge(alphas=[1.0, 100.0], cv=3)
    for seed in range(6):
        x, y = null_study(v=1, seed=seed)
        out = ba.compare(x, y, by=("layer", "region"), model=model, cv=3, controls="none", random_state=seed)
        outside.append(float(out.score.max()))
        inside.append(float(out.score_of_chosen.max()))
    assert np.mean(outside) > 0.15
    assert abs(np.mean(inside)) < 0.12
    fixed = ba.compare(x, y, by=("layer", "region"), model=ba.Ridge(alphas=[1.0]), cv=3, controls="none", random_state=0)
    assert fixed.attrs["choice"].startswith("not held out")
    assert "score_of_chosen" not in fixed


def test_a_neuroid_that_no_mapping_could_fit_has_its_status():
    x, y = null_study(v=3)

    class Choosy(ba.Ridge):
        def _fit_values(self, x, y, rows):
            super()._fit_values(x, y, rows)
            self.status_[1] = "no source"
            self.coef_[:, 1] = self._target_mean[1] = np.nan

    out = ba.evaluate(x, y, model=Choosy(alphas=[1.0]), cv=3, controls="none", random_state=0)
    assert out.status.values.tolist() == ["ok", "no source", "ok"]
    assert np.isnan(out.score.values).tolist() == [False, True, False]


def test_a_neuroid_that_is_nan_in_tested_rows_alone_has_no_part_in_a_fit_of_all():
    x, y = null_study(v=4)
    y[3, 0] = np.nan
    options = {"model": ba.PLS(n_components=2), "cv": ba.split(y, n_splits=3, random_state=0), "controls": "none"}
    whole, rest = ba.evaluate(x, y, **options), ba.evaluate(x, y[:, 1:], **options)
    assert whole.status.values.tolist() == ["nan", "ok", "ok", "ok"]
    np.testing.assert_allclose(whole.score[1:], rest.score, rtol=1e-6)


def test_training_rows_are_predicted_by_models_that_did_not_see_them():
    x, y = null_study(n=40, v=3)
    rows = np.arange(5, 40)
    both = Pair(x, y, chain(ba.Ridge(alphas=[1.0])), [], {"repeats": "keep"})
    predicted, truth = predict_training(both, Fold("one", rows, np.arange(5)))
    by_hand = []
    for train, test in inner_splits(5, None, 35, y[rows]):
        found = ba.Ridge(alphas=[1.0]).fit(x[rows[train]], y[rows[train]]).predict(x[rows[test]]).values
        by_hand.append(found + y.values[rows].mean(axis=0) - y.values[rows[train]].mean(axis=0))
    np.testing.assert_allclose(predicted, np.concatenate(by_hand), atol=1e-6)
    np.testing.assert_array_equal(np.sort(truth, axis=0), np.sort(y.values[rows], axis=0))


@pytest.mark.parametrize("timed", [False, True])
def test_a_neuroid_whose_predictions_do_not_vary_has_no_score_and_says_so(timed):
    """Far from zero, what is left of a prediction under the largest penalty is less than its rounding."""
    x, y = null_study(v=2)
    y = y.astype("float32")
    y[:, 1] = 207 + 1e-4 * y[:, 1]
    if timed:
        x, y = (side.expand_dims(time=[0.0, 0.1], axis=2).assign_attrs(time_reference="stimulus onset") for side in (x, y))
    out = ba.evaluate(x.astype("float32"), y, model=ba.Ridge(alphas=[1e9]), cv=3, controls="none", random_state=0)
    assert np.isnan(out.score.values[1]).all()
    assert np.isfinite(out.score.values[0]).all()
    assert (out.n_undefined_folds[1] == 3).all()
    assert out.status.values.tolist() == ["ok", "undefined"]


@pytest.mark.parametrize(("metric", "chance"), [("accuracy", 0.75), ("balanced-accuracy", 0.5)])
def test_decoded_classes_are_held_against_their_chance_and_not_against_zero(metric, chance):
    x = np.random.default_rng(0).normal(size=(80, 6))
    x = ba.responses(x, stimulus_id=range(80), neuroid_id=range(6), modality="ann", system="net")
    x = x.assign_coords(side=("presentation", np.where(np.arange(80) % 4, "left", "right")))
    ask = {"model": ba.Classifier("lda"), "cv": 8, "metric": metric, "controls": "none", "random_state": 0}
    out = ba.evaluate(x, "side", **ask)
    assert float(out.chance) == chance
    tested = ba.permutation_test(out, over="fold", random_state=0)
    assert float(tested.p_value_bound[0]) > 0.05
    assert float(ba.permutation_test(out, over="fold", against=0.0, random_state=0).p_value_bound[0]) < 0.05


class Meeting(ba.Ridge):
    """Three fits at once, or an error."""

    barrier = threading.Barrier(3, timeout=30)

    def _fit_values(self, x, y, rows):
        self.barrier.wait()
        super()._fit_values(x, y, rows)


class Alone(ba.Ridge):
    """A mapping that does not say that its fits may run at once."""

    in_threads = False

    def _fit_values(self, x, y, rows):
        assert threading.current_thread() is threading.main_thread()
        super()._fit_values(x, y, rows)


MAPPINGS = {
    "ridge": lambda: ba.Ridge(cv=3),
    "kernel": lambda: ba.KernelRidge(cv=3),
    "pls": lambda: ba.PLS(cv=3),
    "banded": lambda: ba.BandedRidge(bands=["a"] * 24 + ["b"] * 24, candidates=5, cv=3),
    "reduced": lambda: chain(ba.Reduce(4), ba.Ridge(cv=3)),
}


@pytest.mark.parametrize(("name", "turned"), [*((name, 1) for name in MAPPINGS), ("ridge", -1)])
def test_folds_that_are_fitted_at_once_score_the_same(name, turned):
    """A brain from a network, and a network from a brain."""
    x, y = null_study()[::turned]
    options = {"model": MAPPINGS[name](), "cv": 4, "n_bootstraps": 20, "n_permutations": 3, "random_state": 0}
    with threadpool_limits(1):
        expected = ba.evaluate(x, y, **options)
    with threadpool_limits(3):
        found = ba.evaluate(x, y, **options)
    assert found.drop_attrs().equals(expected.drop_attrs())


def test_folds_are_fitted_at_once_where_the_mapping_allows_it_and_memory_does(monkeypatch):
    x, y = null_study()
    options = {"cv": 3, "controls": "none", "random_state": 0}
    with threadpool_limits(3):
        ba.evaluate(x, y, model=Meeting(alphas=[1.0]), **options)
        ba.evaluate(x, y, model=Alone(alphas=[1.0]), **options)
        monkeypatch.setattr(heldout, "_COPIES", 2**29 / (x.nbytes + y.nbytes))
        assert heldout._at_once(Pair(x, y, chain(ba.Ridge()), [])) == 1
        monkeypatch.setattr(heldout, "_COPIES", 2**29 / (x.nbytes + y.nbytes) / 2)
        assert heldout._at_once(Pair(x, y, chain(ba.Ridge()), [])) == 2


def test_an_error_in_one_of_the_folds_at_once_is_raised():
    x, y = null_study()

    class Failing(ba.Ridge):
        def _fit_values(self, x, y, rows):
            raise ValueError("no fit")

    with threadpool_limits(3), pytest.raises(ValueError, match="no fit"):
        ba.evaluate(x, y, model=Failing(), cv=3, random_state=0)
