"""RDMs and noise covariances equal to rsatoolbox's, and right where it is not."""

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import squareform

import brainalign as ba

rsatoolbox = pytest.importorskip("rsatoolbox")

from rsatoolbox.data import Dataset, TemporalDataset, noise  # noqa: E402
from rsatoolbox.rdm import calc_rdm, calc_rdm_movie, calc_rdm_unbalanced  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # theirs

N, P, RUNS = 7, 12, 4
CONDITIONS = np.array([f"c{i}" for i in range(N)])


def recording(values, conditions, **coords):
    time = {"time": np.arange(values.shape[2]) / 100} if values.ndim == 3 else {}
    return ba.responses(values, stimulus_id=list(conditions), neuroid_id=range(values.shape[1]), modality="fmri", system="sub-01",
                        **time, **coords)  # fmt: skip


def design(seed=0, unbalanced=False, times=(), counts=False):
    """Return ours and theirs: the same presentations of the same conditions in four runs."""
    rng = np.random.default_rng(seed)
    conditions, runs = np.tile(CONDITIONS, RUNS), np.repeat(np.arange(RUNS), N)
    if unbalanced:
        keep = np.r_[np.arange(N * RUNS), rng.integers(0, N * RUNS, 9)]
        keep = rng.permutation(keep[keep != 3])  # one condition is missing from one run
        conditions, runs = conditions[keep], runs[keep]
    shape = (len(conditions), P, *times)
    means = dict(zip(CONDITIONS, rng.normal(size=(N, P, *times)), strict=True))
    values = np.array([means[c] for c in conditions]) + rng.normal(size=shape)
    if counts:
        values = rng.poisson(3.0, size=shape).astype(float)
    ours = recording(values, conditions, run=[f"r{i}" for i in runs])
    kind = TemporalDataset if times else Dataset
    more = {"time_descriptors": {"time": np.arange(times[0]) / 100}} if times else {}
    theirs = kind(ours.values.astype(np.float64), obs_descriptors={"cond": conditions, "run": runs}, **more)
    return ours, theirs


def matrix(rdms):
    order = np.argsort(rdms.pattern_descriptors["cond"])  # the unbalanced one keeps that of the data
    return squareform(rdms.dissimilarities[0])[np.ix_(order, order)]


def equal(ours, theirs):
    np.testing.assert_allclose(ours.sel(stimulus=CONDITIONS, stimulus_2=CONDITIONS).values, theirs, atol=1e-10, rtol=1e-10)


def labelled(covariance, *dims, **coords):
    return xr.DataArray(covariance, dims=(*dims, "neuroid", "neuroid_2"), coords=coords)


@pytest.fixture
def covariance():
    a = np.random.default_rng(9).normal(size=(P, 3 * P))
    return a @ a.T / (3 * P)


@pytest.mark.parametrize(
    ("metric", "method"), [("correlation", "correlation"), ("sqeuclidean", "euclidean"), ("poisson", "poisson")]
)
def test_averaged_patterns(metric, method):
    ours, theirs = design(counts=metric == "poisson")
    equal(ba.rdm(ours, metric=metric), matrix(calc_rdm(theirs, method=method, descriptor="cond")))


def test_mahalanobis(covariance):
    ours, theirs = design()
    expected = matrix(calc_rdm(theirs, method="mahalanobis", descriptor="cond", noise=np.linalg.inv(covariance)))
    equal(ba.rdm(ours, metric="mahalanobis", noise=labelled(covariance)), expected)


def test_crossnobis(covariance):
    ours, theirs = design()
    options = {"method": "crossnobis", "descriptor": "cond", "cv_descriptor": "run"}
    equal(ba.rdm(ours, metric="crossnobis", folds="run"), matrix(calc_rdm(theirs, **options)))
    expected = matrix(calc_rdm(theirs, noise=np.linalg.inv(covariance), **options))
    for given in (labelled(covariance), labelled(np.linalg.inv(covariance)).assign_attrs(inverse=True)):
        equal(ba.rdm(ours, metric="crossnobis", folds="run", noise=given), expected)


def test_unbalanced_crossnobis(covariance):
    ours, theirs = design(unbalanced=True)
    options = {"method": "crossnobis", "descriptor": "cond", "cv_descriptor": "run"}
    equal(ba.rdm(ours, metric="crossnobis", folds="run"), matrix(calc_rdm_unbalanced(theirs, **options)))
    expected = matrix(calc_rdm_unbalanced(theirs, noise=np.linalg.inv(covariance), **options))
    for given in (labelled(covariance), labelled(np.linalg.inv(covariance)).assign_attrs(inverse=True)):
        equal(ba.rdm(ours, metric="crossnobis", folds="run", noise=given), expected)


def test_one_covariance_a_fold(covariance):
    ours, theirs = design()
    each = np.stack([covariance * (1 + f) + np.eye(P) for f in range(RUNS)])
    expected = calc_rdm(theirs, method="crossnobis", descriptor="cond", cv_descriptor="run", noise=list(np.linalg.inv(each)))
    order = [2, 0, 3, 1]  # matched by label
    noise_of_runs = labelled(each[order], "run", run=[f"r{f}" for f in order])
    equal(ba.rdm(ours, metric="crossnobis", folds="run", noise=noise_of_runs), matrix(expected))


def test_movies_and_a_covariance_for_each_time(covariance):
    ours, theirs = design(times=(3,))
    options = {"descriptor": "cond", "cv_descriptor": "run"}
    for metric, method in (("correlation", "correlation"), ("sqeuclidean", "euclidean"), ("crossnobis", "crossnobis")):
        found = ba.rdm(ours, metric=metric, **({"folds": "run"} if metric == "crossnobis" else {}))
        equal(found, [squareform(d) for d in calc_rdm_movie(theirs, method=method, **options).dissimilarities])
    each = np.stack([covariance * (1 + t) for t in range(3)])
    found = ba.rdm(ours, metric="crossnobis", folds="run", noise=labelled(each, "time", time=ours.time.values))
    for t in range(3):
        alone = Dataset(theirs.measurements[:, :, t], obs_descriptors=theirs.obs_descriptors)
        equal(found[t], matrix(calc_rdm(alone, method="crossnobis", noise=np.linalg.inv(each[t]), **options)))


def test_poisson_cv_is_the_mean_of_all_folds_and_not_the_last_one():
    ours, theirs = design(counts=True)
    found = ba.rdm(ours, metric="poisson-cv", folds="run")
    rates = theirs.measurements.reshape(RUNS, N, P)
    each = []
    for f in range(RUNS):
        train, test = ((r + 0.1) / 1.1 for r in (np.delete(rates, f, axis=0).mean(axis=0), rates[f]))
        each.append(((train[:, None] - train) * (np.log(test)[:, None] - np.log(test))).mean(axis=-1))
    equal(found, np.mean(each, axis=0))
    last = matrix(calc_rdm(theirs, method="poisson_cv", descriptor="cond", cv_descriptor="run"))
    np.testing.assert_allclose(last, each[-1], atol=1e-10)
    assert np.abs(found.values - last).max() > 0.1


def test_correlation_of_unbalanced_data_is_that_of_averages():
    """rsatoolbox averages the correlations of single presentations there, so that balance changes the measure."""
    ours, theirs = design()
    balanced = matrix(calc_rdm(theirs, method="correlation", descriptor="cond"))
    other = matrix(calc_rdm_unbalanced(theirs, method="correlation", descriptor="cond"))
    equal(ba.rdm(ours[np.random.default_rng(0).permutation(len(ours))]), balanced)
    upper = np.triu_indices(N, 1)
    assert np.corrcoef(balanced[upper], other[upper])[0, 1] < 0.99


@pytest.mark.parametrize(("method", "name"), [("full", "full"), ("diagonal", "diag"), ("shrinkage-eye", "shrinkage_eye"), ("shrinkage-diagonal", "shrinkage_diag")])  # fmt: skip
@pytest.mark.parametrize("n_rows", [9, 60])
def test_noise_covariance(method, name, n_rows):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(n_rows, P)) @ (np.eye(P) + 0.3 * rng.normal(size=(P, P)))
    residuals = recording(values, [f"r{i}" for i in range(n_rows)])
    repeats = recording(values, [f"c{i % 3}" for i in range(n_rows)])
    values = residuals.values.astype(np.float64)
    theirs = Dataset(values.copy(), obs_descriptors={"cond": np.arange(n_rows) % 3})
    for found, expected in (
        (ba.geometry.noise_covariance(residuals, method=method, condition=None), noise.cov_from_residuals(values, method=name)),
        (ba.geometry.noise_covariance(residuals, method=method, condition=None, dof=7), noise.cov_from_residuals(values, dof=7, method=name)),
        (ba.geometry.noise_covariance(repeats, method=method), noise.cov_from_unbalanced(theirs, "cond", method=name)),
    ):  # fmt: skip
        np.testing.assert_allclose(
            found.values if method != "diagonal" else np.diag(found.values), expected, atol=1e-12, rtol=1e-10
        )
