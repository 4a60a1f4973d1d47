import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SplitError
from brainalign.engine.solvers import ridge_source
from brainalign.models import ridge
from brainalign.models.ridge import RELATIVE_ALPHAS


def problem(n=80, p=20, n_targets=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 2
    return X, X @ rng.normal(size=(p, n_targets)) + rng.normal(size=(n, n_targets)) * np.linspace(1, 20, n_targets) + 3


@pytest.mark.parametrize(("n", "p"), [(80, 20), (40, 100), (50, 1)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_equal_to_sklearn_at_one_alpha(n, p, fit_intercept):
    X, Y = problem(n, p)
    ours = ba.Ridge(alphas=7.0, fit_intercept=fit_intercept, dtype="float64").fit(X, Y)
    theirs = SklearnRidge(alpha=7.0, fit_intercept=fit_intercept).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-8)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X).reshape(Y.shape), atol=1e-8)
    narrow = ba.Ridge(alphas=7.0, fit_intercept=fit_intercept).fit(X, Y)
    np.testing.assert_allclose(narrow.predict(X), theirs.predict(X).reshape(Y.shape), rtol=1e-5, atol=1e-5 * Y.std())
    assert np.isnan(ours.cv_score_).all()
    assert not ours.alpha_at_edge_.any()


@pytest.mark.parametrize(("n", "p"), [(80, 20), (40, 100)])
def test_each_target_gets_the_alpha_of_a_grid_search_of_its_own(n, p):
    X, Y = problem(n, p)
    alphas = np.logspace(-2, 4, 13)
    ours = ba.Ridge(alphas=alphas, cv=4, dtype="float64").fit(X, Y)
    for k in range(Y.shape[1]):
        search = GridSearchCV(SklearnRidge(), {"alpha": alphas}, cv=KFold(4), scoring="neg_mean_squared_error").fit(X, Y[:, k])
        assert ours.alpha_[k] == search.best_params_["alpha"]
        np.testing.assert_allclose(ours.coef_[:, k], search.best_estimator_.coef_, atol=1e-7)
        alone = ba.Ridge(alphas=alphas, cv=4, dtype="float64").fit(X, Y[:, [k]])
        np.testing.assert_allclose(alone.coef_[:, 0], ours.coef_[:, k], atol=1e-10)
    assert len(np.unique(ours.alpha_)) > 1


def test_leave_one_out_chooses_as_sklearn_does():
    X, Y = problem(40, 10)
    alphas = np.logspace(-2, 4, 13)
    folds = [(np.delete(np.arange(40), i), [i]) for i in range(40)]
    ours = ba.Ridge(alphas=alphas, cv=folds, dtype="float64").fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, RidgeCV(alphas=alphas, alpha_per_target=True).fit(X, Y).alpha_)


@pytest.mark.parametrize("p", [15, 150])
@pytest.mark.parametrize(("scale", "offset"), [(1e-13, 0.0), (1.0, 1e3), (1e5, 0.0)])
def test_units_of_neither_side_matter(p, scale, offset):
    X, Y = (a.astype(np.float32) for a in problem(60, p))
    plain = ba.Ridge().fit(X, Y)
    moved = ba.Ridge().fit(X * np.float32(scale) + np.float32(offset), Y * np.float32(scale) + np.float32(offset))
    np.testing.assert_allclose(moved.alpha_, plain.alpha_ * scale**2, rtol=1e-4)
    prediction = (moved.predict(X * np.float32(scale) + np.float32(offset)) - offset) / scale
    np.testing.assert_allclose(prediction, plain.predict(X), atol=2e-3)


def test_default_alphas_are_relative_to_the_variance_of_the_source():
    X, Y = problem()
    model = ba.Ridge(dtype="float64").fit(X, Y)
    ratio = model.alpha_ / X.var(axis=0).sum()
    assert all(np.isclose(RELATIVE_ALPHAS, r).any() for r in ratio)


def test_a_grid_that_ends_too_early_says_so():
    rng = np.random.default_rng(0)
    model = ba.Ridge(alphas=[1e-3, 1e-2, 1e-1]).fit(rng.normal(size=(100, 60)), rng.normal(size=(100, 6)))
    assert (model.alpha_ == 0.1).all()
    assert model.alpha_at_edge_.all()
    X, Y = problem()
    assert not ba.Ridge().fit(X, Y).alpha_at_edge_.all()


def test_recovers_the_planted_correlation():
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(3000, 30)), rng.normal(size=(30, 20)) / 30**0.5
    Y = np.sqrt(0.3) * X @ W + np.sqrt(0.7) * rng.normal(size=(3000, 20))
    model = ba.Ridge().fit(X[:2000], Y[:2000])
    prediction = model.predict(X[2000:])
    r = [np.corrcoef(prediction[:, k], Y[2000:, k])[0, 1] for k in range(20)]
    assert np.mean(r) == pytest.approx(np.sqrt(0.3), abs=0.02)
    assert np.mean(model.cv_score_) == pytest.approx(0.3, abs=0.03)


def test_degenerate_targets_are_named_and_disturb_no_other():
    X, Y = problem(n_targets=3)
    clean = ba.Ridge().fit(X, Y)
    bad = np.column_stack([Y[:, 0], np.full(len(Y), 4.2), Y[:, 1], np.r_[np.nan, Y[1:, 0]], Y[:, 2]])
    model = ba.Ridge().fit(X, bad)
    assert model.status_.tolist() == ["ok", "constant", "ok", "nan", "ok"]
    prediction = model.predict(X)
    np.testing.assert_array_equal(prediction[:, [0, 2, 4]], clean.predict(X))
    assert np.isnan(prediction[:, [1, 3]]).all()
    assert model.alpha_[1] == model._candidates(X)[-1]
    assert np.isnan(model.alpha_[3])
    assert np.isnan(model.cv_score_[[1, 3]]).all()
    assert (model.coef_[:, 1] == 0).all()
    assert model.intercept_[1] == pytest.approx(4.2)
    assert np.isnan(model.coef_[:, 3]).all()


def test_all_targets_may_be_degenerate():
    X, Y = problem(n_targets=2)
    model = ba.Ridge().fit(X, Y * np.nan)
    assert model.status_.tolist() == ["nan", "nan"]
    assert np.isnan(model.predict(X)).all()


def test_features_with_nan_are_left_out_with_a_warning():
    X, Y = problem()
    with_nan = np.insert(X, 3, np.nan, axis=1)
    with pytest.warns(DegenerateNeuroidWarning, match=r"1 of 21 features .* positions 3"):
        model = ba.Ridge().fit(with_nan, Y)
    np.testing.assert_array_equal(np.delete(model.coef_, 3, axis=0), ba.Ridge().fit(X, Y).coef_)
    assert (model.coef_[3] == 0).all()
    np.testing.assert_array_equal(model.predict(with_nan), ba.Ridge().fit(X, Y).predict(X))
    with pytest.raises(ParameterError, match="All 20 features"):
        ba.Ridge().fit(X * np.nan, Y)


def test_constant_features_are_harmless():
    X, Y = problem()
    model = ba.Ridge(dtype="float64").fit(np.insert(X, 0, 1e3, axis=1), Y)
    np.testing.assert_allclose(model.coef_[0], 0, atol=1e-9)
    np.testing.assert_allclose(model.coef_[1:], ba.Ridge(dtype="float64").fit(X, Y).coef_, atol=1e-9)
    only_constant = ba.Ridge().fit(np.ones((80, 3)), Y)
    np.testing.assert_allclose(only_constant.predict(np.ones((4, 3))), np.tile(Y.mean(0), (4, 1)), rtol=1e-5)


def test_tiles_change_nothing():
    X, Y = problem(n_targets=11)
    whole, tiled = ba.Ridge(dtype="float64").fit(X, Y), ba.Ridge(dtype="float64", target_batch=4).fit(X, Y)
    np.testing.assert_array_equal(whole.alpha_, tiled.alpha_)
    np.testing.assert_allclose(whole.coef_, tiled.coef_, atol=1e-12)


def test_a_vector_target_gives_a_vector():
    X, Y = problem()
    assert ba.Ridge().fit(X, Y[:, 0]).predict(X).shape == (80,)
    assert ba.Ridge().fit(X, Y[:, :1]).predict(X).shape == (80, 1)


def test_groups_that_leak_would_choose_another_alpha():
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(6), 20)
    drift = rng.normal(size=(6, 40))[run] + 0.1 * rng.normal(size=(120, 40))
    Y = rng.normal(size=(6, 3))[run] + rng.normal(size=(120, 3))
    shuffled = [(np.setdiff1d(np.arange(120), test), test) for test in np.array_split(rng.permutation(120), 5)]
    leaky, honest = ba.Ridge(cv=shuffled).fit(drift, Y), ba.Ridge(groups=run).fit(drift, Y)
    assert (leaky.cv_score_ > 0.1).all()
    assert (honest.cv_score_ < 0.1).all()
    assert (honest.alpha_ > leaky.alpha_).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alphas": [-1.0, 2.0]}, ParameterError, "Got \\[-1.0, 2.0\\]"),
        ({"alphas": []}, ParameterError, "alphas"),
        ({"dtype": "float16"}, ParameterError, "'float16'"),
        ({"cv": 1}, ParameterError, "Got 1 instead"),
        ({"cv": 100}, SplitError, "80 training rows cannot make 100"),
        ({"cv": []}, SplitError, "no folds"),
        ({"cv": [([0, 1], [1, 2])]}, SplitError, "1 rows in both"),
        ({"cv": [([0, 1], [99])]}, SplitError, "row 99 of 80"),
        ({"cv": [([0, 1], [])]}, SplitError, "0 test rows"),
        ({"groups": "run"}, ParameterError, "plain array"),
        ({"groups": np.zeros(80)}, SplitError, "single value"),
        ({"groups": np.zeros(3)}, ParameterError, "3 labels for 80"),
        ({"target_batch": 0}, ParameterError, "target_batch"),
        ({"max_memory": 0}, ParameterError, "max_memory"),
        ({"verify": 1.5}, ParameterError, "verify.*Got 1.5"),
        ({"search": "grid"}, ParameterError, "search.*'grid'"),
        ({"criterion": "r"}, ParameterError, "criterion.*'r'"),
        ({"standardize": True}, ParameterError, "standardize.*True"),
        ({"nan_policy": "drop"}, ParameterError, "nan_policy.*'drop'"),
        ({"alpha_scale": "n"}, ParameterError, "alpha_scale.*'n'"),
        ({"sample_weight": "n_repeats"}, ParameterError, "sample_weight='n_repeats' .* plain array"),
    ],
)
def test_impossible_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        ba.Ridge(**options).fit(*problem())


def test_obeys_the_estimator_contract():
    model = ba.Ridge(alphas=[1.0, 2.0], cv=3, target_batch=7)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(Exception, match="not fitted"):
        model.predict(np.zeros((2, 3)))


@pytest.mark.parametrize("device", ["tpu", "cuda:99", 3.5])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ParameterError, match=r"'device' parameter of Ridge must be .* Got"):
        ba.Ridge(device=device).fit(np.eye(4), np.eye(4))


def test_labels_are_sent_to_the_classifier():
    with pytest.raises(ParameterError, match=r"target of dtype .*Expected numbers: labels go to `ba\.Classifier"):
        ba.Ridge().fit(np.eye(4), np.array(list("abab")))


def test_alphas_that_are_no_numbers():
    with pytest.raises(ParameterError, match=r"'alphas' parameter of Ridge must be .* Got 'auto'"):
        ba.Ridge(alphas="auto").fit(np.eye(4), np.eye(4))


# The rows of the edge-case table of the method card, one by one.


def folds(n, k=5):
    return [(np.setdiff1d(np.arange(n), test), test) for test in np.array_split(np.arange(n), k)]


@pytest.mark.parametrize("p", [10, 120])
def test_a_feature_that_is_constant_only_where_a_fold_trains(p):
    X, Y = problem(60, p)
    X[:, 0] = 7.0
    X[:12, 1] += 1
    X[12:, 1] = 3.0
    for standardize in ("none", "train", "train_fold"):
        model = ba.Ridge(alphas=np.logspace(-1, 4, 6), standardize=standardize, dtype="float64").fit(X, Y)
        assert (model.coef_[0] == 0).all()
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.cv_score_).all()
        assert model.constant_features_.tolist() == [True] + [False] * (p - 1)


@pytest.mark.parametrize("p", [12, 150])
def test_collinear_features_predict_alike_in_both_precisions(p):
    X, Y = problem(60, p)
    X = np.hstack([X, X[:, :3], X[:, :1] + X[:, 1:2]])
    narrow, wide = (ba.Ridge(alphas=0.0, dtype=dtype).fit(X, Y).predict(X[:5]) for dtype in ("float32", "float64"))
    np.testing.assert_allclose(narrow, wide, atol=1e-4 * np.abs(wide).max())


def test_a_constant_target_has_the_largest_alpha_and_no_score():
    X, Y = problem(n_targets=3)
    model = ba.Ridge(alphas=[1.0, 10.0, 100.0], dtype="float64").fit(X, np.insert(Y, 1, -2.5, axis=1))
    clean = ba.Ridge(alphas=[1.0, 10.0, 100.0], dtype="float64").fit(X, Y)
    assert model.status_.tolist() == ["ok", "constant", "ok", "ok"]
    assert model.alpha_[1] == 100.0
    assert model.intercept_[1] == -2.5
    assert np.isnan(model.cv_score_[1])
    for state in ("alpha_", "coef_", "intercept_", "cv_score_"):
        np.testing.assert_array_equal(np.delete(getattr(model, state), 1, axis=-1), getattr(clean, state))


@pytest.mark.parametrize("criterion", ["r2", "pearson"])
def test_a_target_that_is_constant_within_one_fold_is_scored_over_the_others(criterion):
    X, Y = problem(n_targets=2)
    Y[:16, 0] = 1.5
    model = ba.Ridge(criterion=criterion).fit(X, Y)
    assert np.isfinite(model.cv_score_).all()
    assert (model.cv_score_ != 0).all()


def test_missing_rows_by_policy():
    X, Y = problem(80, 10, 6)
    bad = Y.copy()
    bad[:8, [1, 4]] = np.nan
    bad[40:50, 2] = np.inf
    bad[:, 5] = np.nan
    assert ba.Ridge().fit(X, bad).status_.tolist() == ["ok", "nan", "nan", "ok", "nan", "nan"]
    with pytest.raises(ParameterError, match=r"4 of 6 targets have NaN or infinity .* at positions 1, 2, 4"):
        ba.Ridge(nan_policy="raise").fit(X, bad)
    alphas = np.logspace(-1, 3, 7)
    model = ba.Ridge(alphas=alphas, cv=folds(80), nan_policy="mask", dtype="float64").fit(X, bad)
    assert model.status_.tolist() == ["ok"] * 5 + ["nan"]
    for target, rows in ((0, np.arange(80)), (1, np.arange(8, 80)), (2, np.r_[:40, 50:80]), (4, np.arange(8, 80))):
        place = np.searchsorted(rows, np.arange(80))
        inner = [tuple(place[part[np.isin(part, rows)]] for part in fold) for fold in folds(80)]
        alone = ba.Ridge(alphas=alphas, cv=inner, dtype="float64").fit(X[rows], Y[rows, target])
        assert model.alpha_[target] == alone.alpha_[0]
        np.testing.assert_allclose(model.coef_[:, target], alone.coef_[:, 0], atol=1e-10)
        np.testing.assert_allclose(model.predict(X)[:, target], alone.predict(X), atol=1e-9)
        np.testing.assert_allclose(model.cv_score_[target], alone.cv_score_[0], atol=1e-10)
    assert np.isnan(model.predict(X)[:, 5]).all()


def test_a_masked_target_that_is_constant_or_too_short():
    X, Y = problem(40, 5, 3)
    Y[:20, 0], Y[20:, 0] = np.nan, 4.0
    Y[1:, 1] = np.nan
    Y[8:, 2] = np.nan  # the one test fold that it reaches has no training rows left
    model = ba.Ridge(cv=folds(40, 5), nan_policy="mask").fit(X, Y)
    assert model.status_.tolist() == ["constant", "nan", "nan"]
    assert model.intercept_[0] == 4.0


def test_weights_that_overflow_are_a_failure_of_their_own_target():
    X, Y = problem(n_targets=3)
    Y[:, 1] *= 1e300
    with np.errstate(over="ignore", invalid="ignore"):
        model = ba.Ridge().fit(X, Y)
        assert model.status_.tolist() == ["ok", "failed", "ok"]
        assert np.isnan(model.predict(X)[:, 1]).all()
    np.testing.assert_array_equal(model.predict(X)[:, [0, 2]], ba.Ridge().fit(X, Y[:, [0, 2]]).predict(X))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_more_features_than_rows_give_the_weights_of_the_primal_form(fit_intercept):
    X, Y = problem(40, 300)
    model = ba.Ridge(alphas=3.0, fit_intercept=fit_intercept).fit(X, Y)
    Xc, Yc = (a - a.mean(0) * fit_intercept for a in (X, Y))
    primal = np.linalg.solve(Xc.T @ Xc + 3.0 * np.eye(300), Xc.T @ Yc)
    before = model.predict(X)
    np.testing.assert_allclose(model.coef_, primal, atol=1e-5 * np.abs(primal).max())
    np.testing.assert_array_equal(model.predict(X), before)
    np.testing.assert_allclose(X @ model.coef_ + model.intercept_, before, atol=1e-3 * Y.std())


@pytest.mark.parametrize("p", [10, 100])
def test_alpha_zero_may_be_among_the_candidates(p):
    X, Y = problem(50, p)
    model = ba.Ridge(alphas=[0.0, 1.0, 100.0], dtype="float64", search="all").fit(X, Y)
    assert np.isfinite(model.cv_score_).all()
    interpolating = ba.Ridge(alphas=[0.0], dtype="float64").fit(X, Y)
    expected = np.linalg.lstsq(X - X.mean(0), Y - Y.mean(0), rcond=None)[0]
    np.testing.assert_allclose(interpolating.coef_, expected, atol=1e-8)


@pytest.mark.parametrize(("n", "p", "t"), [(2, 1, 1), (2, 5, 3), (10, 1, 1), (6, 1, 4), (6, 9, 1)])
def test_the_smallest_shapes_keep_their_dims(n, p, t):
    X, Y = problem(n, p, t)
    model = ba.Ridge(cv=2).fit(X, Y)
    assert model.coef_.shape == (p, t)
    assert model.predict(X).shape == (n, t)
    assert np.isfinite(model.predict(X)).all()


def test_single_rows_are_folds_for_squared_errors_only():
    X, Y = problem(30, 5)
    single = folds(30, 30)
    model = ba.Ridge(alphas=np.logspace(-1, 3, 9), cv=single, criterion="mse", dtype="float64").fit(X, Y)
    expected = RidgeCV(alphas=np.logspace(-1, 3, 9), alpha_per_target=True).fit(X, Y)
    np.testing.assert_allclose(model.alpha_, expected.alpha_)
    np.testing.assert_allclose(model.cv_score_, expected.best_score_, rtol=1e-8)
    assert np.isnan(ba.Ridge(cv=single, criterion="pearson").fit(X, Y).cv_score_).all()


@pytest.mark.parametrize("p", [20, 150])
@pytest.mark.parametrize("offset", [1e2, 1e4])
def test_uncentred_float32_features_choose_as_float64_ones(p, offset):
    X, Y = problem(80, p)
    shifted = (X + offset * X.std()).astype(np.float32)  # rounded once, as it would come from a file
    alphas = np.logspace(-1, 4, 11)
    narrow = ba.Ridge(alphas=alphas).fit(shifted, Y.astype(np.float32))
    wide = ba.Ridge(alphas=alphas, dtype="float64").fit(shifted.astype(np.float64), Y.astype(np.float32).astype(np.float64))
    np.testing.assert_array_equal(narrow.alpha_, wide.alpha_)


@pytest.mark.parametrize("p", [20, 150])
def test_small_alphas_are_used_in_float32_with_a_warning_that_lists_them(p):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, p))
    Y = X @ rng.normal(size=(p, 3)) + 1e-4 * rng.normal(size=(100, 3))
    with pytest.warns(RuntimeWarning, match=r"2 of 3 alphas are below what float32 resolves .*: 1e-08, 1e-05\."):
        model = ba.Ridge(alphas=[1e-8, 1e-5, 1e6]).fit(X, Y)
    assert (model.alpha_ < 1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ba.Ridge(alphas=[1e-8, 1e-5, 1e6], dtype="float64").fit(X, Y)
        ba.Ridge().fit(X, Y)


def test_a_gram_matrix_that_does_not_converge_is_lifted_and_then_taken_apart_otherwise(monkeypatch):
    X, Y = problem()
    expected = ba.Ridge(alphas=2.0, dtype="float64").fit(X, Y).coef_
    solve = np.linalg.eigh

    def stubborn(times):
        calls = iter([True] * times)

        def eigh(gram):
            if next(calls, False):
                raise np.linalg.LinAlgError("Eigenvalues did not converge")
            return solve(gram)

        return eigh

    for times in (1, 2):
        monkeypatch.setattr(np.linalg, "eigh", stubborn(times))
        np.testing.assert_allclose(ba.Ridge(alphas=2.0, dtype="float64").fit(X, Y).coef_, expected, rtol=1e-6, atol=1e-8)


def test_alphas_may_be_relative_to_the_mean_eigenvalue():
    X, Y = problem()
    model = ba.Ridge(alphas=[0.1, 1.0], alpha_scale="trace", dtype="float64").fit(X, Y)
    Xc = X - X.mean(0)
    plain = ba.Ridge(alphas=np.array([0.1, 1.0]) * np.trace(Xc.T @ Xc) / 20, dtype="float64").fit(X, Y)
    np.testing.assert_allclose(model.alpha_, plain.alpha_)
    np.testing.assert_allclose(model.coef_, plain.coef_)


@pytest.mark.parametrize("p", [20, 120])
def test_features_are_scaled_by_training_rows_only(p):
    X, Y = problem(60, p)
    X = X * np.logspace(0, 3, p)
    alphas, splits = np.logspace(-1, 4, 8), folds(60)
    search = {"ridge__alpha": alphas}
    model = ba.Ridge(alphas=alphas, cv=splits, standardize="train_fold", dtype="float64").fit(X, Y)
    for k in range(Y.shape[1]):
        grid = GridSearchCV(make_pipeline(StandardScaler(), SklearnRidge()), search, cv=splits, scoring="neg_mean_squared_error")
        best = grid.fit(X, Y[:, k])
        assert model.alpha_[k] == best.best_params_["ridge__alpha"]
        np.testing.assert_allclose(model.predict(X)[:, k], best.predict(X), rtol=1e-7)
    once = ba.Ridge(alphas=alphas, cv=splits, standardize="train", dtype="float64").fit(X, Y)
    scaled = ba.Ridge(alphas=alphas, cv=splits, dtype="float64").fit(StandardScaler().fit_transform(X), Y)
    np.testing.assert_array_equal(once.alpha_, scaled.alpha_)
    np.testing.assert_allclose(once.coef_ * X.std(0)[:, None], scaled.coef_, atol=1e-9)


@pytest.mark.parametrize("p", [20, 120])
def test_folds_that_overlap_leave_gaps_or_draw_rows_twice(p):
    X, Y = problem(60, p)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 60, 60) for _ in range(3)]
    schemes = [
        list(ShuffleSplit(4, test_size=0.2, random_state=0).split(X)),
        [(train[10:], test[:-2]) for train, test in folds(60)],
        [(train, np.setdiff1d(np.arange(60), train)) for train in drawn],
    ]
    alphas = np.logspace(-1, 4, 8)
    for splits in schemes:
        model = ba.Ridge(alphas=alphas, cv=splits, search="all", dtype="float64").fit(X, Y)
        squares, spread = np.zeros((8, 5)), np.zeros(5)
        for train, test in splits:
            spread += ((Y[test] - Y[test].mean(0)) ** 2).sum(0)
            for i, alpha in enumerate(alphas):
                squares[i] += ((SklearnRidge(alpha=alpha).fit(X[train], Y[train]).predict(X[test]) - Y[test]) ** 2).sum(0)
        np.testing.assert_array_equal(model.alpha_, alphas[squares.argmin(0)])
        np.testing.assert_allclose(model.cv_score_, 1 - squares.min(0) / spread, rtol=1e-8)


@pytest.mark.parametrize("p", [20, 120])
def test_sample_weights_are_copies_of_rows(p):
    X, Y = problem(60, p)
    copies = np.random.default_rng(1).integers(0, 4, 60)
    rows = np.repeat(np.arange(60), copies)
    repeated = [tuple(np.flatnonzero(np.isin(rows, part)) for part in fold) for fold in folds(60)]
    for criterion in ("r2", "pearson"):
        options = {"alphas": np.logspace(-1, 3, 7), "criterion": criterion, "dtype": "float64"}
        weighted = ba.Ridge(sample_weight=copies, cv=folds(60), **options).fit(X, Y)
        longer = ba.Ridge(cv=repeated, **options).fit(X[rows], Y[rows])
        for state in ("alpha_", "coef_", "intercept_", "cv_score_"):
            np.testing.assert_allclose(getattr(weighted, state), getattr(longer, state), rtol=1e-7, atol=1e-9)
    default = ba.Ridge(sample_weight=copies, cv=folds(60)).fit(X, Y)
    np.testing.assert_allclose(default.alpha_, ba.Ridge(cv=repeated).fit(X[rows], Y[rows]).alpha_)


def test_the_order_of_targets_changes_no_number():
    X, Y = problem(60, 15, 40)
    order = np.random.default_rng(2).permutation(40)
    there, back = ba.Ridge().fit(X, Y), ba.Ridge().fit(X, Y[:, order])
    np.testing.assert_array_equal(there.alpha_[order], back.alpha_)
    np.testing.assert_allclose(there.coef_[:, order], back.coef_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [15, 150])
def test_memory_changes_nothing(p):
    X, Y = problem(60, p, 300)
    free, tight = ba.Ridge(dtype="float64").fit(X, Y), ba.Ridge(dtype="float64", max_memory=1e4).fit(X, Y)
    np.testing.assert_array_equal(free.alpha_, tight.alpha_)
    np.testing.assert_allclose(free.coef_, tight.coef_, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, bool])
def test_other_dtypes_are_computed_with_in_full(dtype):
    rng = np.random.default_rng(0)
    X, Y = (rng.integers(0, 2 if dtype is bool else 50, size=size).astype(dtype) for size in ((60, 8), (60, 3)))
    model = ba.Ridge(alphas=2.0, dtype="float64").fit(X, Y)
    np.testing.assert_allclose(model.coef_, SklearnRidge(alpha=2.0).fit(X.astype(float), Y.astype(float)).coef_.T, atol=1e-9)
    assert ba.Ridge(alphas=2.0).fit(X, Y).coef_.dtype == np.float32


@pytest.mark.parametrize(("n", "p"), [(100, 30), (80, 160)])
def test_the_search_is_verified_on_a_share_of_the_targets(n, p):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, p)) / np.arange(1, p + 1) ** 0.5
    signal = X @ rng.normal(size=(p, 400))
    Y = signal / signal.std(0) * rng.uniform(0, 1, 400) + rng.normal(size=(n, 400))
    screened, everything = (ba.Ridge(search=search, verify=0.5, random_state=1).fit(X, Y) for search in ("screen", "all"))
    assert 0 <= screened.search_loss_ < 1e-5
    assert everything.search_loss_ == 0
    assert (screened.alpha_ == everything.alpha_).mean() >= 0.995
    assert (everything.cv_score_ - screened.cv_score_).max() < 1e-5
    assert np.isnan(ba.Ridge().fit(X, Y).search_loss_)
    assert screened.seed_ == 1


WEIGHTS = np.repeat([1.0, 2.0], 30)


@pytest.mark.parametrize(
    "options", [{}, {"standardize": "train"}, {"sample_weight": WEIGHTS}, {"nan_policy": "mask"}], ids=lambda x: "-".join(x)
)
@pytest.mark.parametrize("p", [8, 90])
def test_sources_that_are_kept_are_decomposed_once_and_change_nothing(options, p, monkeypatch):
    rng, made = np.random.default_rng(0), []
    X, Y = rng.normal(size=(60, p)), rng.normal(size=(60, 9))
    X[:, 3], Y[:5, 7] = 2.0, np.nan
    plain = ba.Ridge(dtype="float64", **options)
    kept = plain.keeping_sources()
    assert kept.keeping_sources() is kept
    assert repr(kept) == repr(plain)
    targets = (slice(0, 9), slice(4, 9), slice(0, 3))
    expected = [clone(plain).fit(X, Y[:, some]) for some in targets]
    monkeypatch.setattr(ridge, "ridge_source", lambda *a, **k: made.append(1) or ridge_source(*a, **k))
    for some, alone in zip(targets, expected, strict=True):
        model = clone(kept).fit(X, Y[:, some])
        np.testing.assert_array_equal(model.coef_, alone.coef_)
        np.testing.assert_array_equal(model.predict(X + 1), alone.predict(X + 1))
    patterns = 2 if options.get("nan_policy") == "mask" else 1
    assert len(made) == patterns
    clone(kept).fit(X + 1, Y)
    assert len(made) == 2 * patterns


@pytest.mark.parametrize("standardize", ["none", "train", "train_fold"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "bool"])
def test_counts_are_features_like_any_numbers(standardize, dtype):
    X, Y = problem(60)
    X = np.clip(X * 3, 0, None).astype(dtype)
    model = ba.Ridge(standardize=standardize)
    ours, theirs = (clone(model).fit(x, Y).predict(x) for x in (X, X.astype(np.float64)))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * Y.std())
