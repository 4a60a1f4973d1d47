import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.geometry.scaling import trajectories

IDS = [f"s{i}" for i in range(8)]


def movie(n_times=12, metric="euclidean", lead=()):
    """Stimuli on a circle that becomes an ellipse, seen from elsewhere at each time."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(8) / 8
    truth = np.stack([np.stack([np.cos(angle) * (2 + t / n_times), np.sin(angle)], axis=1) for t in range(n_times)])
    turned = [x @ np.linalg.qr(rng.normal(size=(2, 2)))[0] for x in truth]
    values = np.stack([squareform(pdist(x)) for x in turned])
    values = values if metric == "euclidean" else values**2
    coords = {"time": 0.01 * np.arange(n_times), "stimulus": IDS, "stimulus_2": IDS}
    x = xr.DataArray(values, dims=("time", "stimulus", "stimulus_2"), coords=coords, attrs={"metric": metric})
    return x, truth


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_a_movie_becomes_smooth_trajectories(metric):
    rdms, truth = movie(metric=metric)
    out = trajectories(rdms)
    assert out.dims == ("stimulus", "dimension", "time")
    assert out.time.values.tolist() == rdms.time.values.tolist()
    assert out.stimulus.values.tolist() == IDS
    for t in range(12):
        np.testing.assert_allclose(pdist(out.values[..., t]), pdist(truth[t]), atol=1e-8)
    steps = np.abs(np.diff(out.values, axis=-1))
    assert steps.max() < 0.1  # as far as the ellipse grows in a step; a flip would be 2 or more
    np.testing.assert_allclose(out.share, 1)


def test_paths_along_a_curve_unroll_it():
    angle = np.linspace(0, 5, 20)
    x = squareform(pdist(np.stack([np.cos(angle), np.sin(angle)], axis=1)))
    ids = {name: [f"s{i:02d}" for i in range(20)] for name in ("stimulus", "stimulus_2")}
    rdms = xr.DataArray(x[None], dims=("time", "stimulus", "stimulus_2"), coords=ids, attrs={"metric": "euclidean"})
    paths = ba.geometry.geodesic(rdms, "k-nearest", 2, scale="raw")
    out = trajectories(paths, n_dimensions=1)
    assert out.share.item() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(np.abs(np.diff(out.values[:, 0, 0])), x[0, 1], rtol=0.03)  # the ends are cut short


def test_every_other_dim_has_trajectories_of_its_own():
    rdms = movie()[0]
    two = xr.concat([rdms, rdms[::-1].assign_coords(time=rdms.time)], xr.Variable("subject", ["a", "b"])).assign_attrs(rdms.attrs)
    out = trajectories(two)
    assert out.dims == ("subject", "stimulus", "dimension", "time")
    assert out.share.dims == ("subject", "time")
    np.testing.assert_allclose(out.sel(subject="a"), trajectories(rdms))
    moved = two.transpose("time", "subject", ...)
    np.testing.assert_allclose(trajectories(moved), out)


def test_layers_are_followed_as_times_are():
    study = ba.simulate(n_stimuli=12, random_state=0)
    out = trajectories(ba.rdm(study.network, by="layer"), along="layer", n_dimensions=3)
    assert out.dims == ("stimulus", "dimension", "layer")
    assert out.sizes["dimension"] == 3
    assert ((out.share > 0) & (out.share < 1)).all()
    brain = trajectories(ba.rdm(study.meg))
    assert brain.dims == ("stimulus", "dimension", "time")


def test_bad_input_is_named():
    rdms = movie()[0]
    with pytest.raises(ParameterError, match="along='layer'"):
        trajectories(rdms, along="layer")
    with pytest.raises(ParameterError, match="'n_dimensions' parameter"):
        trajectories(rdms, n_dimensions=8)
    with pytest.raises(SchemaError, match=r"lacks 7 of 28 pairs at time=0\.0\. Expected all of them: leave out"):
        trajectories(rdms.where((rdms.stimulus != "s1") & (rdms.stimulus_2 != "s1")))
