import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.geometry.dependence import adaptive_dependence

IDS = [f"s{i:02d}" for i in range(30)]


def rdms(*patterns, dim="region"):
    values = np.stack([squareform(pdist(p)) for p in patterns])
    n = values.shape[1]
    coords = {dim: [f"{dim}{i}" for i in range(len(values))], "stimulus": IDS[:n], "stimulus_2": IDS[:n]}
    return xr.DataArray(values, dims=(dim, "stimulus", "stimulus_2"), coords=coords)


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(2, 30, 2))
    angle = 2 * x[:, :1]
    return rdms(x, dim="layer"), rdms(x + 0.5 * rng.normal(size=x.shape), np.hstack([np.sin(angle), np.cos(angle)]), other)


def test_dependence_is_found_and_noise_is_not(sides):
    out = adaptive_dependence(*sides, n_permutations=99, random_state=0)
    assert out.score.dims == ("source_layer", "target_region")
    assert out.p_value.values[0, :2].tolist() == [0.01, 0.01]
    assert out.p_value[0, 2] > 0.05
    assert (out.p_value_max >= out.p_value - 1e-12).all()
    assert ((out.source_lower < out.source_upper) & (out.target_lower < out.target_upper)).all()
    xr.testing.assert_equal(out, adaptive_dependence(*sides, n_permutations=99, random_state=0))
    flipped = sides[1].isel(stimulus=slice(None, None, -1), stimulus_2=slice(None, None, -1))
    np.testing.assert_allclose(adaptive_dependence(sides[0], flipped, n_permutations=99, random_state=0).distance_correlation,
                               out.distance_correlation)  # fmt: skip


def test_the_highest_raw_correlation_has_little_power():
    """It is that of thresholds with hardly a pair between them, where noise reaches as much."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 20))
    sides = rdms(x), rdms(x + 1.5 * rng.normal(size=x.shape))
    raw, standardised = (
        adaptive_dependence(*sides, statistic=name, n_permutations=99, random_state=0) for name in ("raw", "standardised")
    )
    assert raw.score.item() > standardised.score.item()
    assert raw.p_value.item() > 0.2
    assert standardised.p_value.item() <= 0.02


@pytest.mark.slow
def test_false_positives_are_as_many_as_promised():
    rng = np.random.default_rng(1)
    p = [
        adaptive_dependence(rdms(x), rdms(y), n_thresholds=5, n_permutations=19, random_state=i).p_value.item()
        for i, (x, y) in enumerate(rng.normal(size=(500, 2, 12, 2)))
    ]
    assert 0.026 <= np.mean(np.array(p) <= 0.05) <= 0.078  # 99% of a binomial of 500 at .05


def test_flat_rdms_say_nothing(sides):
    out = adaptive_dependence(xr.ones_like(sides[0]) * (1 - np.eye(30)), sides[1], n_permutations=9, random_state=0)
    assert np.isnan(out.score).all()
    assert np.isnan(out.p_value).all()


def test_what_is_below_0_counts_as_0(sides):
    """Cross-validated distances are, where there is no difference."""
    some = sides[1][:1] - 0.5 * (1 - np.eye(30))
    assert some.min() < 0
    below, at = (adaptive_dependence(sides[0], x, n_permutations=9, random_state=0) for x in (some, some.clip(0)))
    for name in ("score", "distance_correlation", "p_value"):
        np.testing.assert_allclose(below[name], at[name], rtol=1e-12)


def test_bad_input_is_named(sides):
    with pytest.raises(ParameterError, match="'statistic' parameter"):
        adaptive_dependence(*sides, statistic="max")
    with pytest.raises(ParameterError, match="'join' parameter of adaptive_dependence"):
        adaptive_dependence(*sides, join="outer")
    with pytest.raises(ParameterError, match="'n_thresholds' parameter"):
        adaptive_dependence(*sides, n_thresholds=1)
    with pytest.raises(SchemaError, match="source lacks"):
        adaptive_dependence(
            sides[0].where(sides[0].stimulus != sides[0].stimulus[0]).where(sides[0].stimulus_2 != sides[0].stimulus[0]), sides[1]
        )


def test_both_sides_may_be_either():
    study = ba.simulate(n_stimuli=20, random_state=0)
    network, brain = ba.rdm(study.network, by="layer"), ba.rdm(study.brain, by="region")
    forward, back = (
        adaptive_dependence(*pair, n_permutations=19, random_state=0) for pair in ((network, brain), (brain, network))
    )
    np.testing.assert_allclose(forward.distance_correlation, back.distance_correlation.T)
