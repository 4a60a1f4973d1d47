"""Attributions equal captum's, where the two define the same thing."""

import numpy as np
import pytest
import torch

import brainalign as ba

captum = pytest.importorskip("captum.attr")


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)
    ).double()
    values = np.random.default_rng(0).normal(size=(7, 6))
    table = ba.stimuli.table(values, stimulus_id=[f"s{i}" for i in range(7)], kind="array")
    responder = ba.TorchResponder(net, layers=["1", "4"], system="net")
    x = torch.as_tensor(table["values"].values, dtype=torch.float64)
    return net, responder.at("4"), table, x


def ours(case, **options):
    _, responder, table, _ = case
    return ba.attribute(responder, table, neuroid=2, **options).values[:, 0]


def test_integrated_gradients(case):
    net, _, _, x = case
    theirs = captum.IntegratedGradients(net).attribute(x, target=2, n_steps=16)
    np.testing.assert_allclose(ours(case, n_steps=16), theirs.detach().numpy(), atol=1e-6)


def test_gradients(case):
    net, _, _, x = case
    np.testing.assert_allclose(
        ours(case, method="gradient"), captum.Saliency(net).attribute(x, target=2, abs=False).numpy(), atol=1e-6
    )
    theirs = captum.InputXGradient(net).attribute(x, target=2).detach().numpy()
    np.testing.assert_allclose(ours(case, method="gradient-times-input"), theirs, atol=1e-6)


def test_layer_integrated_gradients(case):
    net, _, _, x = case
    theirs = captum.LayerIntegratedGradients(net, net[1]).attribute(x, target=2, n_steps=16)
    np.testing.assert_allclose(ours(case, wrt="1", n_steps=16), theirs.detach().numpy(), atol=1e-6)


def test_conductance_is_what_theirs_tends_to(case):
    net, _, _, x = case
    theirs = captum.LayerConductance(net, net[1]).attribute(x, target=2, n_steps=2000, method="riemann_trapezoid")
    np.testing.assert_allclose(ours(case, wrt="1", method="conductance", n_steps=200), theirs.detach().numpy(), atol=2e-3)


def test_gradient_times_activation_of_a_silent_layer(case):
    net, _, _, x = case
    theirs = captum.LayerGradientXActivation(net, net[1]).attribute(x, target=2)
    found = ours(case, wrt="1", method="gradient-times-input", baseline="silent")
    np.testing.assert_allclose(found, theirs.detach().numpy(), atol=1e-6)


def test_infidelity_and_sensitivity_are_theirs_under_the_same_perturbations(case):
    from captum.metrics import infidelity, sensitivity_max

    net, responder, table, x = case
    a = ba.attribute(responder, table, neuroid=[2], method="gradient-times-input")
    ours = ba.neurons.removal_agreement(responder, table, a, n_draws=30, random_state=0)
    sets = torch.as_tensor(np.random.default_rng(0).random((30, 6)) < 0.5)

    def removed(inputs, baselines=None):  # set by set, example by example: captum repeats each example so often
        own = sets.repeat(len(inputs) // 30, 1)
        return own.double(), torch.where(own, 0.0, inputs)

    attribution = torch.as_tensor(a.values[:, 0], dtype=torch.float64)
    theirs = infidelity(net, removed, x, attribution, target=2, n_perturb_samples=30, max_examples_per_batch=None)
    np.testing.assert_allclose(ours.infidelity.values[:, 0], theirs.detach().numpy(), rtol=1e-4, atol=1e-9)

    seen = {}

    def keep(responder, stimuli, **options):
        seen["inputs"] = responder.pieces(stimuli)[0].inputs.double()
        return ba.attribute(responder, stimuli, **options)

    moved = ba.neurons.stability(
        responder, table, verb=keep, neuroid=[2], method="gradient", n_draws=1, random_state=0, radius=0.1
    )
    explain = captum.Saliency(net).attribute
    theirs = sensitivity_max(explain, x, perturb_func=lambda inputs: seen["inputs"], n_perturb_samples=1, target=2, abs=False)
    np.testing.assert_allclose(moved.sensitivity.values[:, 0], theirs.numpy(), rtol=1e-4)
