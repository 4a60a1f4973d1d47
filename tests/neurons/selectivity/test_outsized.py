"""massive: one unit times a thousand is found, makes the geometry, and is tamed."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError


@pytest.fixture
def truth():
    values = np.random.default_rng(0).normal(size=(60, 40))
    return ba.responses(values, stimulus_id=[f"s{i}" for i in range(60)], neuroid_id=range(40), modality="ann", system="net")


@pytest.fixture
def odd(truth):
    return truth.copy(data=truth.values * np.where(np.arange(40) == 7, 1000, 1).astype("float32"))


def geometry(x, y):
    return ba.compare_rdms(*(ba.rdm(side, metric="euclidean") for side in (x, y)), metric="pearson").score.item()


def test_one_unit_times_a_thousand(truth, odd):
    out = ba.neurons.massive(odd)
    assert np.flatnonzero(out.massive).tolist() == [7]
    assert out.size_ratio[7].item() == pytest.approx(1000, rel=0.3)
    assert out.rdm_alone.item() >= 0.95
    assert out.rdm_without.item() == pytest.approx(geometry(odd, truth[:, np.arange(40) != 7]), abs=1e-6)
    np.testing.assert_allclose(ba.neurons.massive(odd.chunk({"neuroid": 9})).size_ratio, out.size_ratio)


@pytest.mark.parametrize("how", ["scale", "drop"])
def test_tamed_responses_have_the_geometry_that_was(truth, odd, how):
    assert geometry(odd, truth) < 0.5
    tame = ba.neurons.tame(odd, how=how)
    assert geometry(tame, truth) >= 0.95
    assert not ba.neurons.massive(tame).massive.any()
    assert tame.sizes["neuroid"] == (40 if how == "scale" else 39)
    assert ba.core.provenance(tame).steps[-1]["params"]["neuroid_id"] == [7]


def test_nothing_massive_is_nothing_changed(truth):
    out = ba.neurons.massive(truth)
    assert not out.massive.any()
    assert np.isnan(out.rdm_alone)
    np.testing.assert_array_equal(ba.neurons.tame(truth), truth)


def test_layers_of_different_scale_are_apart(truth):
    layers = truth.assign_coords(layer=("neuroid", np.repeat(["low", "high"], [25, 15])))
    x = layers.copy(data=truth.values * np.where(np.arange(40) < 25, 1, 1000).astype("float32"))
    assert ba.neurons.massive(x).massive.sum() == 15
    assert ba.neurons.massive(x, by="layer").massive.sum() == 0
    np.testing.assert_array_equal(ba.neurons.tame(x, by="layer"), x)
    with pytest.raises(ParameterError, match="massive got by='region'"):
        ba.neurons.massive(x, by="region")


def test_nan_neuroids_are_named(truth):
    x = truth.assign_attrs(allow_nan=True).copy(deep=True)
    x.values[3, 2] = np.nan
    out = ba.neurons.massive(x)
    assert out.status.values[1:4].tolist() == ["ok", "nan", "ok"]
    assert np.isnan(out.size_ratio[2])


def test_a_factor_is_a_factor(odd):
    assert not ba.neurons.massive(odd, factor=5000).massive.any()
    with pytest.raises(ParameterError, match="'factor' parameter of massive"):
        ba.neurons.massive(odd, factor=0.5)
