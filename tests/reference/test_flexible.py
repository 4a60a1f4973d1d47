"""Flexible models of RDMs are fitted and scored as by rsatoolbox, fold by fold."""

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

from brainalign.geometry.flexible import fit_rdms

rsatoolbox = pytest.importorskip("rsatoolbox")

N = 20
IDS = [f"s{i:02d}" for i in range(N)]
FITTERS = {
    "weighted": ("ModelWeighted", "fit_regress_nn", 1e-10),
    "free": ("ModelWeighted", "fit_regress", 1e-10),
    "select": ("ModelSelect", "fit_select", 1e-10),
    "interpolated": ("ModelInterpolate", "fit_interpolate", 1e-4),  # theirs searches each segment to 1e-5
}


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    parts = np.stack([pdist(rng.normal(size=(N, 12)), "sqeuclidean") for _ in range(4)])
    mixture = np.array([[1.0, 0.6, 0.0, 0.2], [0.0, 0.3, 1.0, 0.1], [0.0, 0.9, 0.0, 0.4]])
    return parts, mixture @ parts + 5 * rng.random((3, parts.shape[1]))


def labelled(vectors, dim):
    values = np.stack([squareform(v) for v in vectors])
    return xr.DataArray(values, dims=(dim, "stimulus", "stimulus_2"), coords={"stimulus": IDS, "stimulus_2": IDS})


def of_pairs(vectors, tested):
    """Return theirs, of some stimuli."""
    return rsatoolbox.rdm.RDMs(vectors, pattern_descriptors={"index": np.arange(N)}).subset_pattern(
        "index", np.flatnonzero(tested)
    )


@pytest.mark.parametrize(("metric", "method"), [("cosine", "cosine"), ("pearson", "corr")])
@pytest.mark.parametrize("model", FITTERS)
@pytest.mark.parametrize("subjects", [None, "subject"])
def test_weights_and_scores_are_those_of_rsatoolbox(sides, model, metric, method, subjects):
    parts, targets = sides
    source, target = labelled(parts, "layer"), labelled(targets, "subject")
    ours = fit_rdms(source, target, model=model, metric=metric, over=subjects, n_repeats=1, random_state=0)
    kind, fitter, close = FITTERS[model]
    for fold, tested in enumerate(ours.tested.values):
        # Smaller numbers for theirs: its least squares stop at an absolute slope, and never do where that is below rounding.
        learn = getattr(rsatoolbox.model, kind)("m", of_pairs(1e-3 * parts, ~tested))
        for k in range(3):
            some = [k] if subjects is None else [j for j in range(3) if j != k]
            theta = getattr(rsatoolbox.model.fitter, fitter)(learn, of_pairs(targets[some], ~tested), method=method)
            predicted = getattr(rsatoolbox.model, kind)("m", of_pairs(1e-3 * parts, tested)).predict_rdm(theta)
            score = rsatoolbox.rdm.compare(predicted, of_pairs(targets[[k]], tested), method=method)[0, 0]
            np.testing.assert_allclose(ours.score_by_fold[fold, k], score, atol=close)
