import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import squareform

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.geometry.transforms import geo_topological, geodesic

IDS = [f"s{i:02d}" for i in range(12)]


@pytest.fixture
def rdms():
    values = np.stack([squareform(v) for v in np.random.default_rng(0).random((3, 66))])
    coords = {"layer": ["a", "b", "c"], "stimulus": IDS, "stimulus_2": IDS}
    return xr.DataArray(values, dims=("layer", "stimulus", "stimulus_2"), coords=coords, attrs={"units": "1 - Pearson r"})


@pytest.mark.parametrize(
    "transform",
    [
        lambda x: geo_topological(x, 0.2, 0.8),
        lambda x: geo_topological(x, 0.2, 0.8, shape="sigmoid"),
        lambda x: geodesic(x, "k-nearest", 3),
        lambda x: geodesic(x, "two-step", (0.1, 0.5)),
    ],
    ids=["ramp", "sigmoid", "k-nearest", "two-step"],
)
def test_labels_are_kept_each_matrix_is_its_own_and_the_input_is_not_changed(rdms, transform):
    before = rdms.copy(deep=True)
    out = transform(rdms)
    xr.testing.assert_identical(rdms, before)
    assert out.dims == rdms.dims
    assert out.layer.values.tolist() == ["a", "b", "c"]
    for i in range(3):
        np.testing.assert_allclose(out[i], transform(rdms[i]))
    assert out.attrs["units"].endswith("of 1 - Pearson r")
    assert ba.core.provenance(out).steps[-1]["verb"] in ("geo_topological", "geodesic")
    assert np.isfinite(ba.compare_rdms(out, rdms).score).all()


def test_bad_input_is_named(rdms):
    with pytest.raises(ParameterError, match=r"lower=0.8 and upper=0.2. Expected .* from 0 to 1"):
        geo_topological(rdms, 0.8, 0.2)
    with pytest.raises(ParameterError, match=r"upper=1\.2"):
        geo_topological(rdms, 0.2, 1.2)
    assert np.isfinite(geo_topological(rdms, 0.2, 1.2, threshold="absolute", scale="raw")).all()
    with pytest.raises(ParameterError, match="'shape' parameter"):
        geo_topological(rdms, shape="sigmoidal")
    with pytest.raises(ParameterError, match="Did you mean 'k-nearest'"):
        geodesic(rdms, "k-neares")
    with pytest.raises(ParameterError, match="'amount' parameter of geodesic must be an int"):
        geodesic(rdms, "k-nearest", 0.5)
    with pytest.raises(ParameterError, match=r"'amount' parameter .* Got 0.01"):
        geodesic(rdms, "p-nearest", 0.01)
    with pytest.raises(ParameterError, match=r"edges='two-step', got lower=0\.1 and upper=None"):
        geodesic(rdms, "two-step", 0.1)
    with pytest.raises(ParameterError, match=r"Expected one of each: `ba.trsa` takes several"):
        geo_topological(rdms, [0.2, 0.3], [0.5, 0.6])
    with pytest.raises(ParameterError, match=r"Expected one of each: `ba.trsa` takes several"):
        geodesic(rdms, "two-step", ([0.2, 0.3], [0.5, 0.6]))
    with pytest.raises(ParameterError, match=r"'unreachable' parameter .* Got 'far'"):
        geodesic(rdms, unreachable="far")
    assert geodesic(rdms, "k-nearest", 1, unreachable=np.nan).isnull().any()
    with pytest.raises(SchemaError, match="down to -"):
        geodesic(rdms - 0.5 * (1 - np.eye(12)), scale="raw")
    rdms[1, 3, 4] = rdms[1, 4, 3] = np.nan
    with pytest.raises(SchemaError, match="rdms lacks 1 of 66 pairs at layer='b'"):
        geodesic(rdms)
    with pytest.raises(SchemaError, match="rdms has dims"):
        geo_topological(rdms.rename(stimulus_2="other"))
