"""Voxels, units and decoded classes go to captum's methods."""

import sys

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import CapabilityError, OptionalDependencyError

pytest.importorskip("captum")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*explains models of", "ignore:.*required_grads", "ignore:Setting forward, backward"
)


@pytest.fixture
def voxel(net, table):
    features = ba.record(net, table(), progress=False)
    brain = ba.responses(features.values @ np.ones((4, 2)) + 1, stimulus_id=features.stimulus_id, neuroid_id=["v1", "v2"], modality="fmri",
                         system="sub-01")  # fmt: skip
    return ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(features, brain))


@pytest.mark.parametrize("name", ["unit", "voxel"])
def test_methods_of_captum_take_a_unit_and_a_voxel(net, voxel, table, name):
    from captum import attr

    responder, neuroid = (net, 1) if name == "unit" else (voxel, "v2")
    module, x = ba.neurons.captum_forward(responder, table(20), neuroid=[neuroid])
    assert x.shape == (20, 6)  # of two pieces
    ours = lambda **options: ba.attribute(responder, table(20), neuroid=neuroid, **options).values[:, 0]  # noqa: E731
    change = module(x)[:, 0] - module(0 * x)[:, 0]
    path = attr.IntegratedGradients(module).attribute(x, target=0, n_steps=16)
    np.testing.assert_allclose(ours(), path.detach(), atol=1e-5)
    np.testing.assert_allclose(ours(method="occlusion"), attr.FeatureAblation(module).attribute(x, target=0).detach(), atol=1e-5)
    layer = attr.LayerConductance(module, net.model[1]).attribute(x, target=0, n_steps=400, method="riemann_trapezoid")
    np.testing.assert_allclose(ours(method="conductance", wrt="1", n_steps=100), layer.detach(), atol=5e-3)
    deep = attr.DeepLift(module).attribute(x, target=0)
    torch.testing.assert_close(deep.sum(dim=1), change, atol=1e-4, rtol=0)
    torch.manual_seed(0)
    drawn = attr.GradientShap(module).attribute(x, baselines=torch.zeros(1, 6), target=0, n_samples=200)
    torch.testing.assert_close(drawn.sum(dim=1), change, atol=0.2, rtol=0)


def test_a_class_decoded_from_a_recording_goes_there_too():
    from captum.attr import IntegratedGradients

    rng = np.random.default_rng(0)
    label = np.repeat(["face", "house"], 15)
    x = ba.responses(rng.normal(size=(30, 4)) + (label == "face")[:, None], stimulus_id=range(30), neuroid_id=range(4), modality="fmri",
                     system="sub-01")  # fmt: skip
    decoder = ba.readout(x, ba.Classifier().fit(x, label))
    module, inputs = ba.neurons.captum_forward(decoder, x, neuroid="face", presentations=[3, 8])
    theirs = IntegratedGradients(module).attribute(inputs, target=0).detach()
    np.testing.assert_allclose(ba.attribute(decoder, x, neuroid="face", presentations=[3, 8]).values[:, 0], theirs, atol=1e-5)


def test_a_text_goes_alone(gpt2, texts):
    responder = ba.TransformersResponder(str(gpt2), layers="h.2", pool="mean")
    module, x = ba.neurons.captum_forward(responder, texts(3, 0), neuroid=[0, 5], presentations=[1])
    assert x.shape == (1, 7, 32)
    assert module(torch.cat([x, 0 * x])).shape == (2, 2)
    with pytest.raises(CapabilityError, match=r"inputs that several rows share.*presentations="):
        ba.neurons.captum_forward(responder, texts(3, 0))


def test_what_cannot_go_is_named(net, table, monkeypatch):
    with pytest.raises(CapabilityError, match="got a dict, which has no `pieces`"):
        ba.neurons.captum_forward({}, table())
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(OptionalDependencyError, match=r"captum_forward needs captum.*brainalign\[dev\]"):
        ba.neurons.captum_forward(net, table())
