import numpy as np
import pytest

import brainalign as ba


def test_weights_that_are_written_back_are_one_and_turned_are_minus_one():
    w = np.random.default_rng(0).normal(size=(64, 5))
    np.testing.assert_allclose(ba.neurons.in_out_cosines(w, 3 * w).in_out.values, 1.0)
    out = ba.neurons.in_out_cosines(w, -w)
    np.testing.assert_allclose(out.in_out.values, -1.0)
    assert (out.role.values == "depletion").all()


def test_random_weights_stay_within_three_over_root_d():
    a, b, c = np.random.default_rng(0).normal(size=(3, 400, 3000))
    out = ba.neurons.in_out_cosines(a, b, c)
    assert out.attrs["chance"] == pytest.approx(3 / 20)
    for name in ("in_out", "gate_out"):
        assert np.mean(np.abs(out[name].values) > out.attrs["chance"]) < 0.006
    assert (out.role.values == "orthogonal").all()


def test_the_sign_of_a_gated_neuron_is_turned_so_that_input_and_gate_agree():
    """A neuron is the same with both ends turned: silu(g x)(u x) d = silu(g x)(−u x)(−d)."""
    rng = np.random.default_rng(1)
    gate = rng.normal(size=(32, 1))
    inward, outward = gate + 0.2 * rng.normal(size=(32, 1)), gate + 0.2 * rng.normal(size=(32, 1))
    one, same = ba.neurons.in_out_cosines(inward, outward, gate), ba.neurons.in_out_cosines(-inward, -outward, gate)
    for name in ("in_out", "gate_out", "gate_in", "role"):
        np.testing.assert_array_equal(one[name].values, same[name].values)
    assert one.role.item() == "enrichment"
    assert ba.neurons.in_out_cosines(inward, -outward, gate).role.item() == "depletion"
    assert ba.neurons.in_out_cosines(rng.normal(size=(32, 1)), outward, gate, threshold=0.6).role.item() == "proportional change"


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_weights_of_stock_networks_are_what_their_neurons_read_and_write(kind):
    """What an MLP adds when one neuron alone is on is its output vector; what the neuron says is its input vector's product."""
    import torch
    from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel

    torch.manual_seed(0)
    if kind == "gpt2":
        mlp = GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=8)).h[0].mlp
        inner = mlp.c_fc
    else:
        mlp = (
            LlamaModel(
                LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
            )
            .layers[0]
            .mlp
        )
        inner = mlp.up_proj
    found = ba.neurons.mlp_weights(mlp, layer="h.0", system=kind)
    assert set(found) == ({"w_in", "w_out"} if kind == "gpt2" else {"w_in", "w_out", "w_gate"})
    assert {w.dims for w in found.values()} == {("feature", "neuroid")}
    x = torch.randn(1, 16)
    with torch.no_grad():
        np.testing.assert_allclose(x.numpy() @ found["w_in"].values, (inner(x) - inner(0 * x)).numpy(), rtol=1e-4, atol=1e-6)
        last = mlp.c_proj if kind == "gpt2" else mlp.down_proj
        one = torch.eye(found["w_out"].sizes["neuroid"])[[5]]
        np.testing.assert_allclose((last(one) - last(0 * one)).numpy()[0], found["w_out"].values[:, 5], atol=1e-6)
        if kind == "llama":
            np.testing.assert_allclose(x.numpy() @ found["w_gate"].values, mlp.gate_proj(x).numpy(), rtol=1e-4, atol=1e-6)
    out = ba.neurons.in_out_cosines(**found)
    assert out.layer.values[0] == "h.0"
    assert np.isfinite(out.in_out.values).all()


def test_a_voxel_is_classed_by_what_it_is_fitted_to_and_what_it_shows():
    """Features without correlations: weights and pattern of a voxel are one direction."""
    rng = np.random.default_rng(0)
    features = ba.responses(
        rng.normal(size=(2000, 8)), stimulus_id=range(2000), neuroid_id=range(8), modality="ann", system="net"
    )
    brain = ba.responses(
        features.values @ rng.normal(size=(8, 3)), stimulus_id=range(2000), neuroid_id=list("abc"), modality="fmri", system="s"
    )
    model = ba.Ridge(alphas=[1.0]).fit(features, brain)
    out = ba.neurons.in_out_cosines(model, ba.neurons.weight_patterns(model, features))
    assert (out.in_out.values > 0.95).all()
    assert out.neuroid_id.values.tolist() == ["a", "b", "c"]


def test_bad_input_is_named():
    with pytest.raises(ba.errors.AlignmentError, match=r"w_in \(4, 3\), w_out \(3, 4\)"):
        ba.neurons.in_out_cosines(np.ones((4, 3)), np.ones((3, 4)))
    with pytest.raises(ba.errors.ParameterError, match="'threshold' parameter"):
        ba.neurons.in_out_cosines(np.ones((4, 3)), np.ones((4, 3)), threshold=2.0)
    import torch

    with pytest.raises(ba.errors.CapabilityError, match=r"a Sequential with the parts '0'.*Expected c_fc and c_proj"):
        ba.neurons.mlp_weights(torch.nn.Sequential(torch.nn.Linear(2, 2)), layer="0", system="net")
