"""sparseness: of lifetimes and populations, by region, and of signals with a sign."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError


def recorded(values, **coords):
    ids = [f"s{i}" for i in range(len(values))]
    return ba.responses(
        values, neuroid_id=range(values.shape[1]), modality="spikes", system="m", **({"stimulus_id": ids} | coords)
    )


def test_one_and_all():
    out = ba.neurons.sparseness(recorded(np.hstack([np.eye(5), np.ones((5, 1))])))
    assert out.lifetime.values == pytest.approx([1, 1, 1, 1, 1, 0])
    assert out.population.values == pytest.approx(1 - (4 / 12 - 1 / 6) / (5 / 6))


def test_repeats_are_averaged():
    x = recorded(np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), stimulus_id=["a", "a", "b"])
    assert ba.neurons.sparseness(x).sizes["presentation"] == 2


def test_populations_are_groups_of_neuroids():
    x = recorded(np.hstack([np.eye(4), np.ones((4, 3))]), region=["V1"] * 4 + ["IT"] * 3)
    out = ba.neurons.sparseness(x, by="region")
    assert out.population.dims == ("presentation", "region")
    assert out.population.sel(region="V1").values == pytest.approx(1)
    assert out.population.sel(region="IT").values == pytest.approx(0)


def test_signs_are_dealt_with_as_asked_and_recorded():
    x = recorded(np.array([[1.0, -1.0], [-1.0, -1.0]]))
    out = ba.neurons.sparseness(x)
    assert out.attrs["negative_share"] == 0.75
    assert out.status.values.tolist() == ["ok", "silent"]
    assert out.lifetime.values.tolist() == pytest.approx([1.0, np.nan], nan_ok=True)
    assert ba.neurons.sparseness(x, negative="absolute").lifetime.values.tolist() == [0.0, 0.0]
    with pytest.raises(SchemaError, match=r"75.0% responses below 0"):
        ba.neurons.sparseness(x, negative="error")


def test_times_are_apart():
    x = recorded(np.stack([np.eye(3), np.ones((3, 3))], axis=2), time=[0.0, 0.1])
    out = ba.neurons.sparseness(x, metric="hoyer")
    np.testing.assert_allclose(out.lifetime, [[1, 0]] * 3, atol=1e-12)
    assert out.population.dims == ("presentation", "time")


def test_bad_input_is_named():
    with pytest.raises(ParameterError, match="by='layer'"):
        ba.neurons.sparseness(recorded(np.eye(3)), by="layer")
    with pytest.raises(SchemaError, match="1 stimuli and 3 neuroids"):
        ba.neurons.sparseness(recorded(np.ones((1, 3))))


@pytest.mark.filterwarnings("error")
def test_a_nan_neuroid_does_not_spoil_its_population():
    values = np.hstack([np.eye(4), np.full((4, 1), np.nan), np.ones((4, 1))])
    x = recorded(values, region=["V1"] * 4 + ["IT"] * 2, allow_nan=True)
    out = ba.neurons.sparseness(x, by="region")
    assert out.status.values.tolist() == ["ok"] * 4 + ["nan", "ok"]
    assert np.isnan(out.lifetime.values[4])
    assert out.population.sel(region="V1").values == pytest.approx(1)
    assert np.isnan(out.population.sel(region="IT")).all()  # one neuroid is no population
    assert ba.neurons.sparseness(x).population.values == pytest.approx((1 - 4 / 10) / (1 - 1 / 5))  # two of five respond
