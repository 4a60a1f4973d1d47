"""Occlusion, Shapley values and Sobol indices of neuroids: known answers, one call for a unit and a voxel."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError

pytestmark = pytest.mark.filterwarnings("ignore:.*explains models of")


class Squares(torch.nn.Module):
    """A sum of weights times inputs, and a product of the first two."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 1.0]))

    def forward(self, x):
        return torch.stack([x @ self.weight, x[:, 0] * x[:, 1]], dim=1)


@pytest.fixture
def squares():
    return ba.TorchResponder(torch.nn.Sequential(Squares()), "0", system="net")


@pytest.fixture
def voxels(net, table):
    features = ba.record(net, table(), progress=False)
    values = features.values @ np.random.default_rng(1).normal(size=(4, 3))
    brain = ba.responses(values, stimulus_id=features.stimulus_id, neuroid_id=["a", "b", "c"], modality="fmri", system="sub-01")
    return ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(features, brain))


@pytest.mark.parametrize("method", ["occlusion", "shapley"])
def test_a_linear_response_gives_weights_times_differences(squares, table, method):
    a = ba.attribute(squares, table(8), neuroid=0, method=method, baseline="mean", random_state=0)
    x = table(8)["values"].values
    np.testing.assert_allclose(a.values[:, 0], squares.model[0].weight.detach().numpy() * (x - x.mean(axis=0)), atol=1e-6)


def test_shapley_values_share_a_product_and_add_up(squares, table):
    a = ba.attribute(squares, table(8), neuroid=1, method="shapley")
    x = table(8)["values"].values
    np.testing.assert_allclose(a.values[:, 0, :2], np.repeat(x[:, :1] * x[:, 1:2] / 2, 2, axis=1), atol=1e-6)
    assert (a.standard_error.values == 0).all()  # six groups: all sets
    drawn = ba.attribute(squares, table(8), neuroid=1, method="shapley", baseline="presentations", n_steps=64, random_state=0)
    assert drawn.standard_error.dims == drawn.dims
    assert (drawn.standard_error.values[:, 0, :2] > 0).all()
    assert drawn.attrs["completeness_error"] < 1e-6
    again = ba.attribute(squares, table(8), neuroid=1, method="shapley", baseline="presentations", n_steps=64, random_state=0)
    np.testing.assert_array_equal(drawn.values, again.values)


def test_sampled_values_lie_within_their_errors_of_exact_ones(voxels, table):
    exact = ba.attribute(voxels, table(6), method="shapley")
    sampled = ba.attribute(voxels, table(6), method="shapley", baseline=np.zeros(6), n_steps=8, random_state=0)
    assert (exact.standard_error == 0).all()  # 64 sets are fewer than 16 permutations of six need
    assert sampled.standard_error.max() > 0
    z = (sampled - exact).values / np.maximum(sampled.standard_error.values, 1e-3)
    assert np.abs(z).mean() < 1.5
    np.testing.assert_allclose(sampled.sum("feature"), exact.sum("feature"), atol=1e-5)


def test_sobol_indices_of_an_additive_and_of_a_multiplicative_response(squares, table):
    a = ba.attribute(squares, table(2), method="sobol", n_steps=1024, random_state=0)
    assert a.first_order.dims == a.dims
    variance = (squares.model[0].weight.detach().numpy() * table(2)["values"].values) ** 2
    expected = variance / variance.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(a.values[:, 0], expected, atol=0.02)
    np.testing.assert_allclose(a.first_order.values[:, 0], expected, atol=0.02)
    # of a product of shares, var = 1/9 - 1/16: first order (1/12 / 4) / var, and the rest is theirs together
    np.testing.assert_allclose(a.first_order.values[:, 1, :2], 3 / 7, atol=0.02)
    np.testing.assert_allclose(a.values[:, 1, :2], 4 / 7, atol=0.02)


@pytest.mark.parametrize("method", ["occlusion", "shapley", "sobol"])
def test_voxels_at_once_are_voxels_one_by_one_and_portions_change_nothing(voxels, table, method):
    options = {"method": method, "groups": [0, 0, 1, 1, 2, 2], "random_state": 0}
    together = ba.attribute(voxels, table(6), **options)
    assert together.dims == ("presentation", "neuroid", "group")
    alone = ba.attribute(voxels, table(6), neuroid="b", **options)
    np.testing.assert_allclose(together.values[:, 1], alone.values[:, 0], atol=1e-5)
    few = ba.attribute(voxels, table(6), max_memory=20_000, **options)
    np.testing.assert_allclose(few.values, together.values, atol=1e-5)


def test_units_of_a_layer_are_taken_out(voxels, net, table):
    a = ba.attribute(net, table(6), neuroid=2, method="occlusion", wrt="1", baseline="silent")
    hidden = torch.tanh(net.model[0](torch.as_tensor(table(6)["values"].values, dtype=torch.float32)))
    whole = torch.tanh(net.model[2](hidden))[:, 2]
    without = torch.stack([torch.tanh(net.model[2](hidden * (torch.arange(5) != k)))[:, 2] for k in range(5)], dim=1)
    np.testing.assert_allclose(a.values[:, 0], (whole[:, None] - without).detach(), atol=1e-6)
    exact = ba.attribute(voxels, table(6), method="shapley", wrt="1")
    assert exact.attrs["completeness_error"] < 1e-5
    assert exact.standard_error.dims == ("presentation", "neuroid", "unit")


def test_words_are_taken_out_of_a_text(gpt2, texts):
    responder = ba.TransformersResponder(str(gpt2), layers="h.2", pool="mean")
    a = ba.attribute(responder, texts(2, 0), neuroid=[0, 3], method="occlusion")
    assert a.dims == ("presentation", "neuroid", "part")
    np.testing.assert_allclose(a.values[0, :, 0], (a.response - a.baseline_response).values[0], atol=1e-5)
    assert not a.values[0, :, 1].any()


def test_what_cannot_be_asked_is_named(voxels, squares, table):
    with pytest.raises(ParameterError, match=r"n_steps=12. Expected a power of two.*8 or 16"):
        ba.attribute(squares, table(3), method="sobol", n_steps=12)
    with pytest.raises(ParameterError, match=r"'sobol' and baselines that are drawn"):
        ba.attribute(squares, table(3), method="sobol", baseline="presentations")
    with pytest.raises(ParameterError, match=r"n_steps=1 for 6 groups. Expected at least two permutations"):
        ba.attribute(squares, table(3), method="shapley", n_steps=1)
    with pytest.raises(ParameterError, match="groups=, which is of inputs, and wrt='1'"):
        ba.attribute(voxels, table(3), method="occlusion", wrt="1", groups="feature")


def film(x, n):
    """Stimuli, or responses, as a run of one a second."""
    return x.assign_coords(onset_s=("presentation", np.arange(float(n))), run=("presentation", ["1"] * n))


def test_images_under_a_delay_are_parts_whose_losses_add_up_and_shares_of_variance_do_not(squares, table):
    x = film(ba.record(squares, table(40), progress=False), 40)
    delayed = ba.readout(squares, ba.chain(ba.Delay([0.0, 1.0]), ba.Ridge(alphas=[1.0])).fit(x, x))
    options = {"presentations": [32], "neuroid": 0}  # of images 31 and 32, which lie in two pieces
    lost = ba.attribute(delayed, film(table(40), 40), method="occlusion", **options)
    shared = ba.attribute(delayed, film(table(40), 40), method="shapley", **options)
    assert np.flatnonzero(lost.values[0, 0]).tolist() == [31, 32]
    np.testing.assert_allclose(lost.values, shared.values, atol=1e-5)
    with pytest.raises(CapabilityError, match="'sobol' and responses that are sums over several"):
        ba.attribute(delayed, film(table(40), 40), method="sobol", neuroid=0)
    with pytest.raises(CapabilityError, match=r"groups= for inputs with dims .* that several rows share"):
        ba.attribute(delayed, film(table(40), 40), method="occlusion", groups="feature")


def test_what_stands_beside_attributions_is_kept_in_a_study(voxels, table, tmp_path):
    options = {"method": "shapley", "groups": {"feature": 2}, "baseline": "presentations", "random_state": 0}
    here = ba.attribute(voxels, table(20), **options)
    there = ba.attribute(voxels, table(20), store=tmp_path / "maps.zarr", max_memory=30_000, **options)
    np.testing.assert_allclose(there.values, here.values, atol=1e-5)
    np.testing.assert_allclose(there.standard_error.values, here.standard_error.values, atol=1e-5)
    with pytest.raises(ba.errors.StoreError):
        ba.attribute(voxels, table(20), store=tmp_path / "maps.zarr", max_memory=30_000, **options | {"groups": {"feature": 3}})
