"""Depths of regions against the planted hierarchy."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.scores.hierarchy import hierarchy

REGIONS = ["V1", "V2", "V4", "IT"]


def grid(peak=1.0, n_layers=12, n_per_region=75, times=None, sd=0.03, seed=0):
    """Scores of layers whose best one moves along with the region; over time, later for deeper layers."""
    rng = np.random.default_rng(seed)
    region = np.repeat(REGIONS, n_per_region)
    planted = np.repeat(np.linspace(0, 1, 4), n_per_region) + 0.1 * rng.normal(size=region.size)
    layers = np.arange(n_layers)[:, None]
    tuned = peak * np.exp(-((layers - (n_layers - 1) * planted) ** 2) / 18.0)
    if times is not None:
        course = np.exp(-((np.asarray(times) - 0.1 - 0.02 * layers) ** 2) / 0.002)
        tuned = tuned[..., None] * course[:, None, :]
    scores = tuned + sd * rng.normal(size=tuned.shape)
    extra = () if times is None else ("time",)
    coords = {
        "source_layer": [f"l{i}" for i in range(n_layers)],
        "target_region": REGIONS,
        "region": ("neuroid", region),
        "planted": ("neuroid", planted),
    }
    coords |= {} if times is None else {"time": times}
    cells = np.stack([np.median(scores[:, region == name], axis=1) for name in REGIONS], axis=1)
    named = {
        "score": (("source_layer", "target_region", *extra), cells),
        "score_neuroid": (("source_layer", "neuroid", *extra), scores),
    }
    return xr.Dataset(named, coords=coords, attrs={"metric": "pearson"})


def test_regions_follow_the_planted_order():
    out = hierarchy(grid(), REGIONS)
    assert out.depth.dims == ("summary", "target_region")
    assert (out.score > 0.97).all()
    np.testing.assert_allclose(out.p_value, 1 / 24)  # no other of the 24 orders does as well
    assert out.attrs["n_permutations"] == 23
    assert hierarchy(grid(), REGIONS[::-1]).p_value.values.tolist() == [1.0, 1.0]
    named = hierarchy(grid(), {"IT": 10.0, "V1": 0.0, "V2": 4.0, "V4": 5.0})
    assert named.order.values.tolist() == [0.0, 4.0, 5.0, 10.0]
    xr.testing.assert_equal(hierarchy(grid(), [0.0, 4.0, 5.0, 10.0], over="target_region"), named)


def test_a_source_group_without_any_score_is_named():
    broken = grid()
    broken.score[3] = np.nan
    with pytest.raises(
        SchemaError, match=r"no score at all of 'l3'.*`result.sel\(source_layer=result.score.notnull\(\).any"
    ) as told:
        hierarchy(broken, REGIONS)
    mended = broken.sel(source_layer=broken.score.notnull().any(broken.score.dims[1:]))
    assert "l3" in str(told.value)
    assert hierarchy(mended, REGIONS).depth.notnull().all()


@pytest.mark.parametrize(("peak", "by_peak", "by_mass"), [(1.0, 0.99, 0.99), (0.1, 0.92, 0.96), (0.03, 0.49, 0.69)])
def test_every_neuroid_has_a_depth_and_the_centre_of_mass_keeps_more_of_it(peak, by_peak, by_mass):
    x = grid(peak, n_per_region=300)
    out = hierarchy(x, x.planted.values)
    assert out.depth.dims == ("summary", "neuroid")
    assert out.score.values.tolist() == pytest.approx([by_peak, by_mass], abs=0.05)
    assert "p_value" not in out
    assert "pass `null`" in out.attrs["null"]
    by_region = hierarchy(x, REGIONS, over="neuroid")  # whole regions change places
    assert by_region.attrs["n_permutations"] == 23
    assert by_region.region.values.tolist() == x.region.values.tolist()


def test_a_null_can_be_given():
    x = grid()
    rng = np.random.default_rng(0)
    null = np.stack([rng.permutation(x.planted.values) for _ in range(99)])
    given = hierarchy(x, x.planted.values, null=null)
    np.testing.assert_allclose(given.p_value, 0.01)
    made = hierarchy(
        x, x.planted.values, null=lambda order, n, rng: np.stack([rng.permutation(order) for _ in range(n)]), n_permutations=49
    )
    np.testing.assert_allclose(made.p_value, 0.02)
    with pytest.raises(ParameterError, match=r"null of shape \(99, 10\)"):
        hierarchy(x, x.planted.values, null=null[:, :10])


def test_no_order_among_layers_is_found_by_chance_as_often_as_it_should():
    rng = np.random.default_rng(0)
    x = grid()
    p = []
    for _ in range(300):
        x["score"] = x.score.copy(data=rng.random(x.score.shape))
        p.append(hierarchy(x, REGIONS).p_value.sel(summary="centre-of-mass").item())
    assert 0.02 < np.mean(np.array(p) <= 0.0834) < 0.15  # 2 of 24


def test_encoding_and_temporal_scores():
    x = grid(times=np.arange(0.0, 0.5, 0.01), n_per_region=20)
    out = hierarchy(x, REGIONS)
    assert out.score.dims == ("summary", "time")
    assert out.temporal_score > 0.95
    assert out.peak_time.values[0] == pytest.approx(0.1, abs=0.03)
    still = grid()
    plain = hierarchy(still, REGIONS)
    mean = still.score.mean("target_region")
    assert float(plain.encoding_score) == pytest.approx(float(mean.max()))
    assert plain.encoding_best.item() == str(mean.idxmax().item())


def test_neuroids_without_a_score_have_no_depth():
    x = grid()
    x["score_neuroid"][:, :5] = np.nan
    x["score_neuroid"][:, 5:8] = -0.1
    out = hierarchy(x, REGIONS, over="neuroid")
    assert np.isnan(out.depth[:, :8]).all()
    assert out.n_units.values.tolist() == [292, 292]


def test_layers_and_regions_change_roles_and_weights_find_the_planted_layer():
    study = ba.simulate(n_stimuli=120, n_neuroids=10, random_state=0)
    forward = ba.compare(study.network, study.brain, by=("layer", "region"), cv=4, random_state=0)
    source, target, _ = ba.align(study.network, ba.average_repeats(study.brain))
    weights = ba.Stacked(bands="layer", weights="simplex").fit(source, target).weight_map()
    out = hierarchy(forward, ["V1", "V4", "IT"], weights=weights)
    assert out["summary"].values.tolist() == ["argmax", "centre-of-mass", "simplex"]
    assert (out.score > 0.8).all()
    assert hierarchy(forward, ["V1", "V4", "IT"], weights=weights, over="neuroid").sizes["neuroid"] == 30
    backward = ba.compare(study.brain, study.network, by=("region", "layer"), cv=4, random_state=0)
    depth = hierarchy(backward, ["layer1", "layer2", "layer3", "layer4"])
    assert depth.depth.dims == ("summary", "target_layer")
    assert (depth.score > 0.7).all()
    with pytest.raises(ParameterError, match="same source groups"):
        hierarchy(forward, ["V1", "V4", "IT"], weights=weights[:3])


def test_bad_input_is_named():
    x = grid()
    with pytest.raises(SchemaError, match="Expected a grid"):
        hierarchy(xr.Dataset({"score": ("neuroid", [1.0])}), REGIONS)
    with pytest.raises(SchemaError, match="got distances, by 'shape-1'"):
        hierarchy(x.assign_attrs(direction="lower is more alike", metric="shape-1"), REGIONS)
    with pytest.raises(SchemaError, match="got float"):
        hierarchy(1.0, REGIONS)
    with pytest.raises(SchemaError, match="1 source_layer"):
        hierarchy(x.isel(source_layer=[0]), REGIONS)
    with pytest.raises(ParameterError, match="one side lacks 'V2', 'MT'"):
        hierarchy(x, ["V1", "MT", "V4", "IT"])
    with pytest.raises(SchemaError, match="2 units"):
        hierarchy(x.isel(target_region=[0, 1]), ["V1", "V2"])
    with pytest.raises(ParameterError, match="over='region'"):
        hierarchy(x, REGIONS, over="region")
    with pytest.raises(ParameterError, match=r"shape \(3,\) for 300 units"):
        hierarchy(x, [1.0, 2.0, 3.0])
