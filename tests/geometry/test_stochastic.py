"""Stochastic shapes by their labels: brains and networks with repeats on either side, and networks that respond alike each time."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.engine.stochastic import GROUPS, response_moments, stochastic_distances
from brainalign.geometry.stochastic import stochastic_energy, stochastic_shape


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=12, n_neuroids=4, n_repeats=4, snr=1.0, random_state=0)


@pytest.fixture(scope="module")
def sides(study):
    """A brain, and a network with dropout: repeats that differ."""
    rows = study.network.isel(presentation=np.repeat(np.arange(12), 3))
    mask = np.random.default_rng(0).random(rows.shape) < 0.8
    network = rows.copy(data=rows.values * mask).assign_attrs(deterministic=False)
    return {"brain": (study.brain, "region"), "network": (network, "layer")}


@pytest.mark.parametrize("directions", [("network", "brain"), ("brain", "network"), ("brain", "brain"), ("network", "network")])
def test_every_direction_gives_what_the_engine_gives(sides, directions):
    (source, a), (target, b) = (sides[name] for name in directions)
    out = ba.similarity(source, target, metric="stochastic-shape", by=(a, b))
    assert out.attrs["direction"] == "lower is more alike"
    first, second = out[f"source_{a}"].values[0], out[f"target_{b}"].values[1]
    moments = []
    for x, name, label in ((source, a, first), (target, b, second)):
        part = x[:, x[name].values == label]
        ids = sorted(set(target.stimulus_id.values.tolist()))
        trials = np.stack([part.values[part.stimulus_id.values == i] for i in ids])
        moments.append(response_moments(trials))
    expected = stochastic_distances(moments, [(0, 1)])[0]
    assert float(out.score[0, 1]) == pytest.approx(expected, abs=1e-4)


def test_systems_among_themselves_make_a_matrix_of_distances(sides):
    network, by = sides["network"]
    D = ba.similarity(network, network, metric="stochastic-shape", by=(by, by)).score.values
    np.testing.assert_array_equal(D, D.T)
    np.testing.assert_array_equal(np.diagonal(D), 0)
    assert (D[:, None] <= D[:, :, None] + D[None] + 1e-6).all()


def test_the_grid_of_compare_is_that_of_similarity(sides):
    (network, a), (brain, b) = sides["network"], sides["brain"]
    out = ba.compare(network, brain, metric="stochastic-shape", by=(a, b), controls="none", random_state=0)
    expected = ba.similarity(network, brain, metric="stochastic-shape", by=(a, b))
    np.testing.assert_allclose(out.score, expected.score, atol=1e-6)


def test_a_deterministic_system_has_no_covariance_and_another_needs_repeats(study):
    network = study.network.assign_attrs(deterministic=True)
    out = ba.similarity(network, network, metric=stochastic_shape(alpha=2.0), by=("layer", "layer"))
    np.testing.assert_allclose(np.diagonal(out.score), 0, atol=1e-5)
    assert np.isfinite(ba.similarity(network, study.brain, metric="stochastic-shape", by=("layer", "region")).score).all()
    zero = ba.similarity(network, network, metric=stochastic_shape(alpha=0.0), by=("layer", "layer"))
    np.testing.assert_allclose(zero.score, 0, atol=1e-12)
    with pytest.raises(SchemaError, match="`deterministic=True`"):
        ba.similarity(network.assign_attrs(deterministic=False), study.brain, metric="stochastic-shape")


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("make", [stochastic_shape, stochastic_energy])
def test_a_metric_is_blind_to_what_its_record_says_and_to_nothing_else(make, group):
    metric, rng = make(group=group, n_restarts=12), np.random.default_rng(0)
    x, y = (rng.normal(size=(8, 1, 3)) + rng.normal(size=(8, 5, 3)) @ rng.normal(size=(8, 3, 3)) for _ in range(2))
    changed = {"": y, "translate": y + np.arange(3.0), "scale": 2 * y, "permute": y[..., [2, 0, 1]]}
    changed["rotate"] = y @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    score = {name: metric.score(metric.prepare(x), metric.prepare(z)) for name, z in changed.items()}
    for name in ("translate", "scale", "permute", "rotate"):
        assert (abs(score[name] - score[""]) < 1e-5) == (name in metric.invariances), name
    assert metric.score(metric.prepare(y), metric.prepare(x)) == pytest.approx(score[""], abs=1e-5)


def test_permutations_and_halves_come_with_it(sides):
    (network, _), (brain, _) = sides["network"], sides["brain"]
    metric = stochastic_shape(n_restarts=0)
    out = ba.similarity(network, brain, metric=metric, n_permutations=9, n_bootstraps=9, random_state=0)
    assert 0 < float(out.p_value) <= 1
    assert float(out.ci_low) <= float(out.ci_high)


@pytest.mark.parametrize("directions", [("network", "brain"), ("brain", "network"), ("brain", "brain"), ("network", "network")])
def test_energy_in_every_direction(sides, directions):
    (source, a), (target, b) = (sides[name] for name in directions)
    out = ba.similarity(source, target, metric="stochastic-energy", by=(a, b))
    assert np.isfinite(out.score).all()
    if source is target:
        np.testing.assert_allclose(np.diagonal(out.score), 0, atol=1e-6)


def test_bad_options_are_named():
    with pytest.raises(ParameterError, match="'random_state' parameter of stochastic_energy"):
        stochastic_energy(random_state=None)
    with pytest.raises(ParameterError, match=r"'alpha' parameter of stochastic_shape .* \[0.0, 2.0\]. Got 3"):
        stochastic_shape(3)
    with pytest.raises(ParameterError, match=r"'group' parameter of stochastic_shape .* Did you mean 'orthogonal'"):
        stochastic_shape(group="orthogonal maps")
    with pytest.raises(ParameterError, match="'n_restarts' parameter"):
        stochastic_shape(n_restarts=-1)


def test_results_say_what_is_not_as_usual(study):
    usual = ba.similarity(study.brain, study.brain, metric=stochastic_shape(1)).attrs["metric"]
    assert usual == "stochastic-shape"
    means = ba.similarity(study.brain, study.brain, metric=stochastic_shape(2.0, group="identity"))
    assert means.attrs["metric"] == "stochastic-shape-2.0-identity-4-0"
    assert "stochastic-shape-2.0-identity-4-0" in means.attrs["provenance"]
    assert stochastic_energy(n_restarts=1).name == "stochastic-energy-orthogonal-1-0"
