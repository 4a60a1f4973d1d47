"""Occlusion and Shapley values equal captum's; Sobol indices equal those of scipy."""

import numpy as np
import pytest
import torch
from scipy import stats

import brainalign as ba
from brainalign.engine.sobol import sobol_indices

captum = pytest.importorskip("captum.attr")
PATCHES = torch.arange(16).reshape(4, 4) // 8 * 2 + torch.arange(4) // 2  # 2 x 2 patches


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 2), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(27, 2), torch.nn.Tanh()
    )
    values = np.random.default_rng(0).normal(size=(5, 1, 4, 4)).astype("float32")
    table = ba.stimuli.table(values, stimulus_id=[f"s{i}" for i in range(5)], kind="array", dims=("channel", "y", "x"))
    return net, ba.TorchResponder(net, "4", system="net"), table, torch.as_tensor(values)


def ours(case, **options):
    _, responder, table, _ = case
    return ba.attribute(responder, table, neuroid=1, random_state=0, **options)


def test_occlusion_of_pixels_and_patches(case):
    net, _, _, x = case
    pixels = captum.Occlusion(net).attribute(x, sliding_window_shapes=(1, 1, 1), target=1)
    np.testing.assert_allclose(ours(case, method="occlusion").values[:, 0], pixels.detach(), atol=1e-6)
    patches = captum.FeatureAblation(net).attribute(x, target=1, feature_mask=PATCHES[None, None])
    found = ours(case, method="occlusion", groups={"y": 2, "x": 2}).values[:, 0]
    np.testing.assert_allclose(found, patches[:, 0, ::2, ::2].detach().flatten(1), atol=1e-6)
    baseline = np.random.default_rng(1).normal(size=(1, 4, 4)).astype("float32")
    moved = captum.FeatureAblation(net).attribute(
        x, target=1, feature_mask=PATCHES[None, None], baselines=torch.as_tensor(baseline[None])
    )
    found = ours(case, method="occlusion", groups={"y": 2, "x": 2}, baseline=baseline).values[:, 0]
    np.testing.assert_allclose(found, moved[:, 0, ::2, ::2].detach().flatten(1), atol=1e-6)


def test_shapley_values_of_patches(case):
    net, _, _, x = case
    exact = (
        captum.ShapleyValues(net)
        .attribute(x, target=1, feature_mask=PATCHES[None, None])[:, 0, ::2, ::2]
        .detach()
        .flatten(1)
        .numpy()
    )
    np.testing.assert_allclose(ours(case, method="shapley", groups={"y": 2, "x": 2}).values[:, 0], exact, atol=1e-6)


def test_sampled_shapley_values_of_pixels(case):
    net, _, _, x = case
    torch.manual_seed(0)
    theirs = captum.ShapleyValueSampling(net).attribute(x[:2], target=1, n_samples=100).detach().numpy()
    found = ours(case, method="shapley", n_steps=100, presentations=[0, 1])
    error = np.sqrt(2) * found.standard_error.values[:, 0]  # of the difference of two such estimates
    assert (np.abs(found.values[:, 0] - theirs) < 4.5 * error + 1e-6).all()
    assert np.corrcoef(found.values[:, 0].ravel(), theirs.ravel())[0, 1] > 0.98


def test_sobol_indices_of_ishigami():
    theirs = stats.sobol_indices(
        func=lambda x: np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0]),
        n=2**12,
        dists=[stats.uniform(-np.pi, 2 * np.pi)] * 3,
        rng=np.random.default_rng(0),
    )

    def ishigami(shares):
        x = torch.pi * (2 * shares - 1)
        return (x[:, 0].sin() + 7 * x[:, 1].sin() ** 2 + 0.1 * x[:, 2] ** 4 * x[:, 0].sin())[:, None, None]

    total, first = sobol_indices(ishigami, 3, 2**12, seed=0)
    np.testing.assert_allclose(total[0, 0], theirs.total_order, atol=0.01)
    np.testing.assert_allclose(first[0, 0], theirs.first_order, atol=0.01)
