"""Attributions in other coordinates: to frequencies of signals, and to components."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.decomposition import PCA, FastICA
from sklearn.preprocessing import PolynomialFeatures

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.neurons.attribution.domains import Domain

pytestmark = pytest.mark.filterwarnings("ignore:.*explains models of")


class Energy(torch.nn.Module):
    def forward(self, x):
        return (x**2).flatten(1).sum(dim=1, keepdim=True)


@pytest.fixture
def energy():
    return ba.TorchResponder(torch.nn.Sequential(Energy()), "0", system="net", dtype="float32")


@pytest.fixture
def signals():
    t = np.arange(16)
    x = np.sin(2 * np.pi * 3 * t / 16) + 0.5 * np.cos(2 * np.pi * 5 * t / 16)
    return ba.stimuli.table(np.stack([x, 2 * x]), stimulus_id=["a", "b"], kind="array")


def test_two_sines_are_found_and_bands_sum_them(energy, signals):
    a = ba.attribute(energy, signals, domain="frequency")
    assert a.dims == ("presentation", "neuroid", "frequency")
    expected = np.zeros(9)
    expected[3], expected[5] = 8, 2
    np.testing.assert_allclose(a.values[:, 0], [expected, 4 * expected], atol=1e-5)
    np.testing.assert_allclose(a.cycles_per_sample, np.arange(9) / 16)
    rated = signals.assign_attrs(sampling_rate_hz=160.0)
    bands = ba.attribute(energy, rated, domain="frequency", groups={"low": (20, 40), "high": (40, 60)})
    assert bands.group.values.tolist() == ["low", "high", "rest"]
    np.testing.assert_allclose(bands.values[0, 0], [8, 2, 0], atol=1e-5)
    assert bands.attrs["domain"] == "frequency"


def test_bands_are_taken_out_and_shared_too(energy, signals):
    rated = signals.assign_attrs(sampling_rate_hz=160.0)
    options = {"domain": "frequency", "groups": {"low": (20, 40), "high": (40, 60)}}
    for method in ("occlusion", "shapley"):  # bands of an energy are additive
        found = ba.attribute(energy, rated, method=method, **options)
        np.testing.assert_allclose(found.values[0, 0], [8, 2, 0], atol=1e-5)
    jvp = ba.attribute(energy, rated, mode="jvp", **options)
    np.testing.assert_allclose(jvp.values[0, 0], [8, 2, 0], atol=1e-5)


def test_sums_are_those_of_the_input_in_every_domain(net, table):
    stimuli = table(20)
    whole = ba.attribute(net, stimuli, baseline="mean")
    pca = PCA(6).fit(stimuli["values"].values)
    ica = FastICA(6, random_state=0, tol=1.0).fit(stimuli["values"].values)
    for domain in ("frequency", pca, ica, ica.mixing_, xr.DataArray(ica.mixing_, dims=("feature", "component"))):
        a = ba.attribute(net, stimuli, baseline="mean", domain=domain)
        np.testing.assert_allclose(a.sum(a.dims[-1]), whole.sum("feature"), atol=1e-4)
        assert a.attrs["completeness_error"] < 1e-4
    one, other = (ba.attribute(net, stimuli, domain=domain) for domain in (ica, ica.mixing_))
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert one.dims[-1] == "component"


def test_components_of_a_linear_unit_are_weights_through_the_mixing(table):
    layer = torch.nn.Linear(6, 2)
    unit = ba.TorchResponder(torch.nn.Sequential(layer), "0", system="net")
    mixing = np.random.default_rng(0).normal(size=(6, 3))
    a = ba.attribute(unit, table(5), neuroid=1, domain=mixing)
    z = table(5)["values"].values @ np.linalg.pinv(mixing).T
    np.testing.assert_allclose(a.values[:, 0], (layer.weight.detach().numpy()[1] @ mixing) * z, atol=1e-5)


def test_voxels_go_through_features_in_a_domain(net, table):
    features = ba.record(net, table(), progress=False)
    brain = ba.responses(features.values @ np.ones((4, 9)), stimulus_id=features.stimulus_id, neuroid_id=range(9), modality="fmri",
                         system="sub-01")  # fmt: skip
    voxels = ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(features, brain))
    together, alone = (
        ba.attribute(voxels, table(5), domain="frequency"),
        ba.attribute(voxels, table(5), neuroid=3, domain="frequency"),
    )
    np.testing.assert_allclose(together.values[:, 3], alone.values[:, 0], atol=1e-5)


def test_what_is_no_domain_is_named(net, table, gpt2, texts):
    with pytest.raises(ParameterError, match=r"domain='fourier'. Expected 'frequency'"):
        Domain("fourier")
    with pytest.raises(ParameterError, match=r"PCA\(\), which is not fitted"):
        Domain(PCA())
    with pytest.raises(ParameterError, match=r"of type list, shape \(3,\)"):
        Domain([1, 2, 3])
    with pytest.raises(ParameterError, match=r"inputs \{'feature': 6\}. Expected one dim of 5 features"):
        ba.attribute(net, table(3), domain=np.ones((5, 2)))

    class Squared(PolynomialFeatures):
        def inverse_transform(self, z):
            return z**2

    with pytest.raises(CapabilityError, match="Squared is not linear on its way back"):
        Domain(Squared().fit(np.ones((2, 2))))
    with pytest.raises(CapabilityError, match=r"domain= for inputs with dims .*that several rows share"):
        ba.attribute(ba.TransformersResponder(str(gpt2), layers="h.2"), texts(2, 0), neuroid=0, domain="frequency")
