import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.geometry.identification import identify_groups

N_STIMULI = 24


def population(n_units=6, n_groups=4, noise=1.0, seed=0, by="region", over="subject"):
    """RDMs of units that share the patterns of each group, seen through neurons and noise of their own."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n_groups, N_STIMULI, 6))
    values = [
        [squareform(pdist(x @ rng.normal(size=(6, 40)) + noise * rng.normal(size=(N_STIMULI, 40)))) for x in shared]
        for _ in range(n_units)
    ]
    ids = [f"s{i:02d}" for i in range(N_STIMULI)]
    coords = {
        over: [f"{over}{i}" for i in range(n_units)],
        by: [f"{by}{i}" for i in range(n_groups)],
        "stimulus": ids,
        "stimulus_2": ids,
    }
    return xr.DataArray(values, dims=(over, by, "stimulus", "stimulus_2"), coords=coords)


@pytest.fixture(scope="module")
def rdms():
    return population(noise=4.0)


def test_groups_are_told_where_units_share_them_and_not_otherwise(rdms):
    out = identify_groups(population(noise=0.5))
    assert out.score.dims == ("geometry",)
    assert out.score.item() == 1
    assert out.identified.dims == ("geometry", "subject", "region")
    assert (out.distance_ratio < 1).all()
    np.testing.assert_array_equal(out.confusion[0], 6 * np.eye(4))
    assert out.attrs["chance"] == 0.25
    alone = xr.concat([population(1, seed=seed) for seed in range(8)], "subject").assign_coords(subject=range(8))
    unrelated = identify_groups(alone)
    assert unrelated.score.item() < 0.6
    np.testing.assert_allclose(unrelated.distance_ratio.mean(), 1, atol=0.02)


def test_seeds_and_layers_are_told_by_the_same_call():
    a, b = population(noise=3.0), population(noise=3.0, by="layer", over="seed")
    first, second = (
        identify_groups(a, n_bootstraps=20, random_state=0),
        identify_groups(b, by="layer", over="seed", n_bootstraps=20, random_state=0),
    )
    assert second.confusion.dims == ("geometry", "layer", "layer_2")
    for name in ("score", "ci_low", "ci_high", "confusion", "distance_ratio"):
        np.testing.assert_array_equal(first[name].values, second[name].values)


def test_the_order_of_dims_and_of_units_does_not_matter(rdms):
    out = identify_groups(rdms)
    moved = identify_groups(rdms.transpose("region", "subject", ...)[:, ::-1])
    xr.testing.assert_allclose(out.identified, moved.identified.transpose("geometry", "subject", ...).sel(subject=out.subject))
    assert out.score.item() == moved.score.item()
    sessions = xr.concat([rdms, rdms + 0.1], "session")
    assert identify_groups(sessions).identified.sizes == {"geometry": 1, "session": 2, "subject": 6, "region": 4}


def test_stimuli_are_drawn_by_name(rdms):
    order = np.random.default_rng(0).permutation(N_STIMULI)
    out, again = (identify_groups(x, n_bootstraps=9, random_state=0) for x in (rdms, rdms[..., order, order]))
    xr.testing.assert_allclose(again, out)


def test_geometries_are_compared_in_the_same_draws():
    rdms = population(noise=7.0)
    named = {"rdm": rdms, "graph": ba.geometry.geo_topological(rdms, 0.5, 0.5), "again": rdms}
    out = identify_groups(named, n_bootstraps=60, random_state=0)
    assert out.geometry.values.tolist() == ["rdm", "graph", "again"]
    assert [f"{a}-{b}" for a, b in zip(out["first"].values, out["second"].values, strict=True)] == [
        "rdm-graph",
        "rdm-again",
        "graph-again",
    ]
    np.testing.assert_allclose(out.difference[0], out.score[0] - out.score[1])
    assert out.difference_low[0] <= out.difference[0] <= out.difference_high[0]
    assert out.difference_low[1] == out.difference[1] == out.difference_high[1] == 0
    assert out.ci_low[0] < out.score[0] < out.ci_high[0]
    assert 0.25 < out.score[0] < 1
    assert out.score_bootstrap.dims == ("bootstrap", "geometry")
    xr.testing.assert_equal(out, identify_groups(named, n_bootstraps=60, random_state=0))


def test_no_copy_of_a_unit_is_among_those_it_is_compared_with():
    """Pure noise stays at chance in every draw; with copies in training, the units that were drawn twice would be found."""
    rng = np.random.default_rng(0)
    values = np.stack([squareform(v) for v in rng.random((24, N_STIMULI * (N_STIMULI - 1) // 2))])
    noise = population().copy(data=values.reshape(6, 4, N_STIMULI, N_STIMULI))
    out = identify_groups(noise, n_bootstraps=100, random_state=0)
    assert out.score_bootstrap.mean() < 0.35


@pytest.mark.slow
def test_intervals_hold_the_expected_share():
    """Of 60 populations of another eight units each, whose share is far from 0 and 1."""
    found = [identify_groups(population(8, noise=6.0, seed=seed), n_bootstraps=100, random_state=0) for seed in range(60)]
    score, low, high = (np.array([out[name].item() for out in found]) for name in ("score", "ci_low", "ci_high"))
    assert 0.5 < score.mean() < 0.9
    assert np.mean((low <= score.mean()) & (score.mean() <= high)) >= 0.9


def test_missing_rdms_are_left_out(rdms):
    some = rdms.copy()
    some[0, 1] = np.nan
    out = identify_groups(some, n_bootstraps=10, random_state=0)
    assert np.isnan(out.identified[0, 0, 1])
    assert out.identified.notnull().sum() == 23
    assert out.confusion.sum() == 23
    assert identify_groups(rdms.where(rdms.region != "region2")).attrs["chance"] == 1 / 3
    alone = identify_groups(rdms.where((rdms.region != "region2") | (rdms.subject == "subject0")))
    assert alone.identified.sel(region="region2").values[0].tolist()[0] == 0
    without = identify_groups(some.where(some.subject != "subject3"), n_bootstraps=10, random_state=0)
    np.testing.assert_allclose(without.score, identify_groups(some.drop_sel(subject="subject3")).score)


def test_bad_input_is_named(rdms):
    with pytest.raises(ParameterError, match="by='layer' for RDMs with the dims"):
        identify_groups(rdms, by="layer")
    with pytest.raises(ParameterError, match=r"by='region' and over='region'\. Expected .* two different dims"):
        identify_groups(rdms, over="region")
    with pytest.raises(ParameterError, match="got 0 geometries"):
        identify_groups({})
    with pytest.raises(ParameterError, match="RDMs of 1 subject and 4 region"):
        identify_groups(rdms[:1])
    with pytest.raises(AlignmentError, match="b has the dims"):
        identify_groups({"a": rdms, "b": rdms[:3]})
    with pytest.raises(AlignmentError, match="or other labels"):
        identify_groups({"a": rdms, "b": rdms[::-1]})
    holed = rdms.copy()
    holed[2, 1, 3, 4] = holed[2, 1, 4, 3] = np.nan
    with pytest.raises(SchemaError, match=r"rdm lacks 1 of 276 pairs at subject='subject2', region='region1'"):
        identify_groups(holed)
    missing = rdms.copy()
    missing[2, 1] = np.nan
    with pytest.raises(SchemaError, match="b is undefined in 1 of 24 RDMs that other geometries have"):
        identify_groups({"a": rdms, "b": missing})


def test_the_table_of_layers_on_the_page_is_what_the_tutorial_makes():
    """Its rows before learning, whose networks need no training; the tutorial's own code makes them."""
    root = Path(__file__).parents[2]
    cells = (root / "tutorials" / "topological_rsa.py").read_text(encoding="utf-8").split("# %%\n")[1:]
    networks, asked = (
        cells[0].partition("# %% [markdown]")[0],
        next(c for c in cells if c.startswith("def noisy")).partition("rng = ")[0],
    )
    assert "in range(4):" in networks
    made = {}
    exec(networks.replace("in range(4):", "in range(0):") + asked, made)
    page = (root / "docs" / "reproduced.md").read_text(encoding="utf-8")
    rows = {"ranks (RSA)": "ranks, before learning", "topology 0.4-0.6": "topology-sensitive, before learning"}
    wanted = {
        name: np.array(re.findall(r"\.\d\d", page.split(f"| {row} |")[1].partition("\n")[0]), float) for name, row in rows.items()
    }
    rng = np.random.default_rng(0)
    for tenths in range(5):
        geometries = made["transforms"](made["noisy"](made["rdms"], tenths, rng))
        found = identify_groups(
            {name: geometries[name] for name in rows}, by="layer", over="seed", n_bootstraps=200, random_state=0
        )
        for name, figures in wanted.items():
            score, low, high = (float(found[part].sel(geometry=name)) for part in ("score", "ci_low", "ci_high"))
            share, *ends = figures.reshape(5, 3)[tenths]
            assert ends[0] < score < ends[1]
            assert score == pytest.approx(share, abs=0.03)  # two RDMs of seventy
            assert [low, high] == pytest.approx(ends, abs=0.05)
