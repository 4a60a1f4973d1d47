"""Every metric: its golden value, and what its record claims of it."""

import itertools

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, UnknownNameError
from brainalign.engine.cca import orthonormal, variate_weighted
from brainalign.engine.similarity import grid_scores
from brainalign.geometry.metrics import METRICS, SIMILARITIES, mutual_knn, rsa, shape, similarity_metric

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
    "rsa": 0.4759742396,
    "mutual-knn": 0.432,
    "jaccard-knn": 0.2848355240,
    "permutation": 1.1830832060,
    "soft-matching": 0.3616610814,
    "soft-matching-distance": 17.5520901335,
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


@pytest.mark.parametrize(
    ("turned", "by_second", "explained"), [(1, 0.9329110284, 0.9651368732), (-1, 0.8267225991, 0.6165781897)]
)
def test_golden_values_of_either_direction(pair, turned, by_second, explained):
    """Canonical correlations weighted by either side, and what least squares explain in the sample itself."""
    x, y = pair[::turned]
    assert variate_weighted(orthonormal(x), orthonormal(y), y) == pytest.approx(by_second, abs=1e-10)
    rest = y - ba.Ridge(alphas=[0.0], dtype="float64").fit(x, y).predict(x)
    assert 1 - (rest**2).sum() / ((y - y.mean(0)) ** 2).sum() == pytest.approx(explained, abs=1e-10)


def test_a_name_or_a_record_stands_for_a_metric():
    assert similarity_metric("shape-1") is similarity_metric(SIMILARITIES.get("shape-1"))
    assert [metric.name for metric in (shape(0.3), mutual_knn(5), mutual_knn(), rsa("euclidean"))] == [
        "shape-0.3", "mutual-knn-5", "mutual-knn", "rsa-euclidean-spearman",
    ]  # fmt: skip
    assert all(similarity_metric(name).name == name for name in METRICS)
    with pytest.raises(UnknownNameError, match="Did you mean 'cka-debiased'"):
        similarity_metric("cka-debias")
    with pytest.raises(ParameterError, match=r"must be a name or a SimilarityMetric. Got 3"):
        similarity_metric(3)
    with pytest.raises(ParameterError, match=r"'alpha' parameter of shape .* Got 2"):
        shape(2)


def test_rsa_is_that_of_rdms():
    x = ba.simulate(n_stimuli=20, n_neuroids=9, random_state=0)
    rdms = [ba.rdm(side, metric="sqeuclidean") for side in (x.network, x.brain)]
    for measure in ("spearman", "pearson", "cosine"):
        expected = ba.compare_rdms(*rdms, metric=measure).score
        found = ba.similarity(x.network, x.brain, metric=rsa("sqeuclidean", measure)).score
        assert float(found) == pytest.approx(float(expected), abs=1e-6)


#: Metrics of averaged responses; others take single presentations.
OF_MEANS = [name for name in sorted(METRICS) if not similarity_metric(name).trials]
CHANGES = {
    "translate": lambda x, rng: x + 2 * rng.normal(size=x.shape[1]),
    "scale": lambda x, rng: 3.7 * x,
    "permute": lambda x, rng: x[:, rng.permutation(x.shape[1])],
    "rotate": lambda x, rng: x @ np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0],
    "linear": lambda x, rng: x @ (np.eye(x.shape[1]) + 0.3 * rng.normal(size=(x.shape[1],) * 2)),
}


@pytest.fixture(scope="module")
def systems():
    """Mixtures of two layers and of two areas on the same stimuli, of unequal widths, with means that are not 0."""
    study = ba.simulate(n_stimuli=40, n_neuroids=9, snr=4.0, random_state=0)
    x, y, _ = ba.align(study.network, ba.average_repeats(study.brain))
    found, rng = {}, np.random.default_rng(0)
    for name, width in {"layer1": 12, "layer3": 9, "V1": 7, "IT": 9}.items():
        side, labels = (x, x.layer.values) if name.startswith("layer") else (y, y.region.values)
        values = side.values[:, labels == name].astype(np.float64)
        found[name] = values @ rng.normal(size=(values.shape[1], width)) + 0.5
    return found


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", OF_MEANS)
def test_a_metric_is_blind_to_what_it_says_and_to_nothing_else(systems, name, change):
    metric = similarity_metric(name)
    moved = []
    for source, target in (("layer1", "V1"), ("V1", "layer1"), ("layer1", "layer3"), ("V1", "IT")):
        x, y, rng = systems[source], systems[target], np.random.default_rng(1)
        before = scored(metric, x, y)
        after = [scored(metric, CHANGES[change](x, rng), y), scored(metric, x, CHANGES[change](y, rng))]
        moved += [abs(score - before) for score in after]
    if change in metric.invariances:
        assert max(moved) < 1e-7
    else:
        assert max(moved) > 1e-4


@pytest.mark.parametrize("name", OF_MEANS)
def test_sides_may_change_places_where_it_says_so(systems, name):
    metric = similarity_metric(name)
    differences = [abs(scored(metric, x, y) - scored(metric, y, x)) for x, y in itertools.combinations(systems.values(), 2)]
    assert (max(differences) < 1e-9) == metric.symmetric


@pytest.mark.parametrize("name", [name for name in OF_MEANS if similarity_metric(name).is_metric])
def test_a_metric_is_one(systems, name):
    """d(x, x) = 0 and the triangle inequality, the arccosine of a likeness being the distance; between systems near to each other too."""
    metric, rng = similarity_metric(name), np.random.default_rng(0)
    near = [systems["IT"] + 0.1 * rng.normal(size=systems["IT"].shape) for _ in range(2)]
    prepared = [metric.prepare(x) for x in (*systems.values(), *near)]
    distances = grid_scores(metric, prepared, prepared)
    if metric.higher_is_alike:
        distances = np.arccos(np.clip(distances, -1, 1))
    assert np.abs(np.diag(distances)).max() < 1e-5
    excess = distances[:, None, :] - distances[:, :, None] - distances[None, :, :]  # (i, j, k): d(i, k) − d(i, j) − d(j, k)
    assert excess.max() < 1e-5
    assert distances[0, 1] > 0.1
