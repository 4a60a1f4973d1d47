"""Every metric: its golden value, and what its record claims of it."""

import numpy as np
import pytest

from brainalign.core.errors import ParameterError, UnknownNameError
from brainalign.engine.similarity import grid_scores
from brainalign.geometry.metrics import SIMILARITIES, shape, similarity_metric

#: Of the pair below: closed forms, and for the shapes netrep 0186b8a.
GOLDEN = {
    "cka": 0.5982721919861227,
    "cka-debiased": 0.5176681140671407,
    "cca": 0.8065084076,
    "cca-r2": 0.7116175035,
    "svcca": 0.9032576198,
    "pwcca": 0.9329110284,
    "nbs": 0.7051221224278137,
    "procrustes": 56.0831596870,
    "procrustes-normalised": 0.7679555685,
    "shape-1": 0.7882009705390,
    "shape-0.5": 0.7847162406,
    "shape-0": 0.7975575032,
    "distance-correlation": 0.8484622519,
    "mutual-knn": 0.432,
    "jaccard-knn": 0.2848355240,
}


@pytest.fixture(scope="module")
def pair():
    r = np.random.RandomState(0)
    x = r.randn(50, 20)
    y = np.c_[x[:, :10] @ r.randn(10, 12), r.randn(50, 3)] + 0.5 * r.randn(50, 15)
    assert (x.sum(), y.sum()) == (pytest.approx(-45.25670749), pytest.approx(111.55312700))
    return x, y


def scored(metric, x, y):
    return float(grid_scores(metric, [metric.prepare(x)], [metric.prepare(y)])[0, 0])


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_values(pair, name):
    metric = similarity_metric(name)
    places = 1e-10 if len(str(GOLDEN[name])) > 6 else 1e-15
    assert scored(metric, *pair) == pytest.approx(GOLDEN[name], abs=places)
    assert scored(metric, *pair[::-1]) == pytest.approx(GOLDEN[name], abs=places)


def test_a_name_or_a_record_stands_for_a_metric():
    assert similarity_metric("shape-1") is similarity_metric(SIMILARITIES.get("shape-1"))
    assert shape(0.3).name == "shape-0.3"
    with pytest.raises(UnknownNameError, match="Did you mean 'cka-debiased'"):
        similarity_metric("cka-debias")
    with pytest.raises(ParameterError, match=r"must be a name or a SimilarityMetric. Got 3"):
        similarity_metric(3)
    with pytest.raises(ParameterError, match=r"'alpha' parameter of shape .* Got 2"):
        shape(2)
