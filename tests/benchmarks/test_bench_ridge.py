"""Ridge against himalaya and scikit-learn: CPU-seconds interleaved in one process, equal results asserted; peak memory."""

import subprocess
import sys
from statistics import median
from time import process_time

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV as SklearnRidgeCV
from sklearn.model_selection import KFold

import brainalign as ba
from brainalign.engine.factor import coefficients, factorise, fixed_ridge

pytestmark = pytest.mark.bench

ALPHAS, N_FOLDS = np.logspace(-1, 6, 20), 5
SHAPES = {"S1": (2000, 1000, 10_000), "S2": (2000, 4000, 10_000), "S3": (4000, 1000, 20_000)}
BATCHES = {"n_targets_batch": 1000, "n_alphas_batch": 5, "n_targets_batch_refit": 200}  # the fastest of those tried

PROBLEM = """
import numpy as np

def problem(n, p, t, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    X = (draw(n, p) * np.arange(1, p + 1, dtype=np.float32) ** -0.5) @ draw(p, p) / np.float32(p**0.5)
    Y = X @ draw(p, t)
    Y *= np.sqrt(rng.uniform(0, 0.5, t)).astype(np.float32) / Y.std(axis=0)
    Y += draw(n, t)
    return X, Y
"""
exec(PROBLEM)


def timed(work):
    start = process_time()
    result = work()
    return process_time() - start, result


def himalaya(estimator, backend):
    from himalaya import kernel_ridge, ridge
    from himalaya.backend import set_backend

    set_backend(backend)
    kind = getattr(ridge, estimator, None) or getattr(kernel_ridge, estimator)
    return kind(alphas=ALPHAS, cv=KFold(N_FOLDS), fit_intercept=True, solver_params=BATCHES)


def gemm_bound(n, p, t, n_evaluated, n_operators):
    """CPU-seconds, at the rate of a large product here, of our products over targets (rotation, exact evaluations, weights), and of all.

    The others are the Gram matrix, left vectors, and an operator a fold and alpha: U_S diag(s) U_Sᵀ, an inverse, and its product with U_S.
    """
    a = np.random.default_rng(0).standard_normal((2000, 2000), dtype=np.float32)
    rate = 2 * 2000**3 / min(timed(lambda: a @ a)[0] for _ in range(5))
    k, held = min(n, p), n // N_FOLDS
    targets = 2 * t * k * (n * (1 + n_evaluated) + (n if p > n else p))
    operators = N_FOLDS * n_operators * (4 * held**2 * k + 2 * held**3)
    return targets / rate, (targets + operators + 2 * n * p * k + 2 * n * k * k * (p < n)) / rate


CASES = [
    ("S1", "RidgeCV", "numpy", 6.0), ("S1", "RidgeCV", "torch", 6.0), ("S2", "KernelRidgeCV", "torch", 3.5),
    ("S2", "KernelRidgeCV", "numpy", 3.5), ("S3", "RidgeCV", "numpy", 7.0),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "estimator", "backend", "reach"), CASES, ids=["-".join(case[:3]) for case in CASES])
def test_ridge_against_himalaya(benchmark, shape, estimator, backend, reach):
    pytest.importorskip("himalaya")
    n, p, t = SHAPES[shape]
    X, Y = problem(n, p, t)  # noqa: F821
    folds = list(KFold(N_FOLDS).split(X))
    ours, peers, models = [], [], []

    def peer():
        took, model = timed(lambda: himalaya(estimator, backend).fit(X, Y))
        peers.append(took)
        models[:] = [model]

    def fit():
        took, model = timed(lambda: ba.Ridge(alphas=ALPHAS, cv=folds, criterion="mse").fit(X, Y))
        ours.append(took)
        return model

    model = benchmark.pedantic(fit, setup=peer, rounds=1)
    theirs = models[0]
    alphas, scores = (np.asarray(values, dtype=np.float64) for values in (theirs.best_alphas_, theirs.cv_scores_))
    equal = np.isclose(model.alpha_, alphas, rtol=1e-4)
    loss = float((scores - model.cv_score_).max())
    assert equal.mean() >= 0.999
    assert loss <= 1e-5
    if estimator == "RidgeCV":
        coef = np.asarray(theirs.coef_)
        assert np.linalg.norm((model.coef_ - coef)[:, equal]) < 1e-4 * np.linalg.norm(coef)
    evaluated, operators = _evaluations(X, Y, folds)
    over_targets, bound = gemm_bound(n, p, t, evaluated, operators)
    benchmark.extra_info |= {
        "target": f"ratio ≥ {reach}",
        "peer": f"himalaya {estimator}, {backend}, batches {tuple(BATCHES.values())}",
        "ratio, CPU-seconds": round(median(peers) / median(ours), 1),
        "ours, CPU-seconds": round(median(ours), 2),
        "equal alphas": float(equal.mean()),
        "largest loss of CV score": loss,
        "exact evaluations per target": round(evaluated, 2),
        "share of the GEMM bound of all our products": round(bound / median(ours), 2),
        "of those over targets": round(over_targets / median(ours), 2),
    }


def _evaluations(X, Y, folds):
    """Exact evaluations a target, and alphas that any target asks for, on the first 1,000 targets."""
    from brainalign.engine.solvers import solve_ridge

    evaluated = np.isfinite(solve_ridge(X, Y[:, :1000], ALPHAS, folds, search="screen").heldout_score)
    return float(evaluated.sum() / 1000), int(evaluated.any(axis=1).sum())


@pytest.mark.parametrize(("shape", "reach"), [("S1", 10), ("S2", 14)])
def test_ridge_against_leave_one_out_of_sklearn(benchmark, shape, reach):
    n, p, t = SHAPES[shape]
    X, Y = problem(n, p, t)  # noqa: F821
    single = [(np.delete(np.arange(n), i), np.array([i])) for i in range(n)]
    took, theirs = timed(lambda: SklearnRidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(X, Y))
    ours = []

    def fit():
        seconds, model = timed(lambda: ba.Ridge(alphas=ALPHAS, cv=single, criterion="mse").fit(X, Y))
        ours.append(seconds)
        return model

    model = benchmark.pedantic(fit, rounds=1)
    equal = np.isclose(model.alpha_, theirs.alpha_)
    assert equal.mean() >= 0.999
    assert (theirs.best_score_ - model.cv_score_).max() <= 1e-5
    coef = theirs.coef_.T
    assert np.linalg.norm((model.coef_ - coef)[:, equal]) < 1e-4 * np.linalg.norm(coef)
    five, _ = timed(lambda: ba.Ridge(alphas=ALPHAS).fit(X, Y))
    benchmark.extra_info |= {
        "target": f"ratio ≥ {reach}",
        "ratio, CPU-seconds, both leave-one-out": round(took / ours[0], 1),
        "ratio to five folds of ours": round(took / five, 1),
        "equal alphas": float(equal.mean()),
    }


def test_refit_with_an_alpha_for_each_target(benchmark):
    pytest.importorskip("himalaya")
    from himalaya.backend import set_backend
    from himalaya.ridge import Ridge

    X, Y = problem(400, 300, 1000)  # noqa: F821
    alphas = np.random.default_rng(1).choice(ALPHAS, 1000).astype(np.float32)
    set_backend("numpy")
    ours, peers, found = [], [], []

    def peer():
        took, model = timed(lambda: Ridge(alpha=alphas, fit_intercept=True, solver_params={"warn": False}).fit(X, Y))
        peers.append(took)
        found[:] = [model.coef_]

    def fit():
        factor = factorise(X, dtype="float32")
        return coefficients(factor, factor.left.T.astype(np.float32) @ (Y - Y.mean(axis=0)), alphas)

    def timed_fit():
        took, coef = timed(lambda: [fit() for _ in range(10)][-1])
        ours.append(took / 10)
        return coef

    coef = benchmark.pedantic(timed_fit, setup=peer, rounds=3)
    assert np.linalg.norm(coef - found[0]) < 1e-4 * np.linalg.norm(found[0])
    benchmark.extra_info |= {"target": "ratio ≥ 100", "ratio, CPU-seconds": round(median(peers) / median(ours))}


def test_permutation_at_fixed_alphas(benchmark):
    n, p, t = SHAPES["S1"]
    X, Y = problem(n + 400, p, t)  # noqa: F821
    plain, models = [], []

    def fit():
        took, model = timed(lambda: ba.Ridge(alphas=ALPHAS).fit(X[:n], Y[:n]))
        plain.append(took + timed(lambda: model.predict(X[n:]))[0])
        models[:] = [model]

    fit()
    factor_s, fold = timed(lambda: fixed_ridge(X[:n], X[n:]))
    order, refits = np.random.default_rng(0).permutation(n), []

    def permute():
        took, prediction = timed(lambda: fold.predict(Y[:n][order], models[0].alpha_))
        refits.append(took)
        return prediction

    prediction = benchmark.pedantic(permute, setup=fit, rounds=3)
    alone = ba.Ridge(alphas=float(models[0].alpha_[7])).fit(X[:n], Y[:n, 7][order])
    np.testing.assert_allclose(prediction[:, 7], alone.predict(X[n:]), atol=1e-3)
    benchmark.extra_info |= {
        "target": "≤ 0.5 of a plain fit",
        "CPU-seconds of one permutation, over a plain fit and prediction": round(median(refits) / median(plain), 3),
        "of the factorisation, once": round(factor_s / median(plain), 3),
    }


MEMORY = (
    PROBLEM
    + """
import sys
from pathlib import Path
import brainalign as ba

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

n, p, t = (int(word) for word in sys.argv[1:])
ba.Ridge().fit(*problem(50, 20, 30))  # modules are loaded
X, Y = problem(n, p, t)
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
before = status("VmRSS")
model = ba.Ridge(alphas=np.logspace(-1, 6, 20)).fit(X, Y)
outputs = (model._dual if model._rows is not None else model.coef_).nbytes + (model._rows.nbytes if model._rows is not None else 0)
print(status("VmHWM") - before - outputs / 2**20)
"""
)


@pytest.mark.parametrize("shape", SHAPES)
def test_memory_of_ridge(benchmark, shape):
    arguments = [sys.executable, "-c", MEMORY, *map(str, SHAPES[shape])]
    peak = benchmark.pedantic(
        lambda: float(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout), rounds=1
    )
    benchmark.extra_info |= {"target": "≤ 512 MB beside inputs and outputs", "peak MB beside them": round(peak)}
    assert peak <= 512
