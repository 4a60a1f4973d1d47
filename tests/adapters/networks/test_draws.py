"""What a network draws: from a seed that is kept, and one thinned network for what is attributed or altered."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.adapters.networks.draws import active_dropout, drawing, spawn

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    layers = (
        torch.nn.Linear(6, 12),
        torch.nn.Tanh(),
        torch.nn.Dropout(0.4),
        torch.nn.Linear(12, 12),
        torch.nn.AlphaDropout(0.3),
        torch.nn.Tanh(),
    )
    return torch.nn.Sequential(*layers, torch.nn.Linear(12, 3)).eval()


def pictures(n=40):
    values = np.random.default_rng(0).normal(size=(n, 6)).astype("float32")
    return ba.stimuli.table(values, stimulus_id=[f"s{i}" for i in range(n)], kind="array")


def test_passes_of_one_seed_draw_the_same_and_leave_the_generator_of_torch_alone():
    model, x = network(), torch.ones(5, 6)
    still, before = model(x), torch.get_rng_state()
    found = []
    for seed, alike in ((1, False), (1, False), (2, False), (1, True)):
        with drawing(model, seed, CPU, dropout=True, alike=alike):
            found.append(model(x))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len({tuple(row) for row in found[0].tolist()}) == 5
    torch.testing.assert_close(found[3], found[3][:1].expand(5, -1))  # rows lose the same units
    assert torch.equal(model(x), still)
    with pytest.raises(RuntimeError), drawing(model, 1, CPU, dropout=True, alike=False):
        model(torch.ones(5, 7))
    assert not any(module._forward_hooks or module.training for module in model.modules())
    assert [type(module).__name__ for module in active_dropout(model)] == ["Dropout", "AlphaDropout"]
    assert len({spawn(seed, at) for seed in range(5) for at in range(5)}) == 25


@pytest.mark.parametrize("kind", [torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.AlphaDropout, torch.nn.FeatureAlphaDropout])
def test_each_kind_drops_in_all_rows_what_it_drops_in_one(kind):
    model, x = torch.nn.Sequential(kind(0.5)).eval(), torch.randn(1, 6, 4)
    with drawing(model, 3, CPU, dropout=True, alike=False):
        one = model(x)
    with drawing(model, 3, CPU, dropout=True, alike=True):
        torch.testing.assert_close(model(torch.cat([x, x])), torch.cat([one, one]))


def test_layers_that_skip_their_parts_in_evaluation_drop_too():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(6, 2, 8, dropout=0.5, batch_first=True).eval()
    x = torch.randn(2, 3, 6)
    with torch.inference_mode(), drawing(layer, 0, CPU, dropout=True, alike=False):
        assert not torch.allclose(layer(x), layer(x))


def test_the_seed_of_a_recording_is_kept_and_gives_it_again():
    def recorded(random_state):
        return ba.record(
            ba.TorchResponder(network(), "6", system="net", dropout=True, random_state=random_state), pictures(), progress=False
        )

    rng = np.random.default_rng(0)
    found = [recorded(state) for state in (3, 3, None, None, rng, rng)]
    np.testing.assert_array_equal(found[0], found[1])
    seeds = [ba.core.provenance(x).steps[-1]["params"]["responder_random_state"] for x in found]
    assert seeds[:2] == [3, 3]
    assert len(set(seeds)) == 5
    for x, seed in zip(found[2:], seeds[2:], strict=True):
        np.testing.assert_array_equal(recorded(seed), x)
        assert not np.allclose(x, found[0])
    assert not np.allclose(found[0][:8], found[0][32:])  # another batch, other units


@pytest.mark.filterwarnings("ignore::brainalign.core.errors.WeakMappingWarning")
@pytest.mark.parametrize("of", ["unit", "voxel"])
def test_attributions_patches_and_lesions_go_through_one_thinned_network(of):
    shown = pictures()
    net = ba.TorchResponder(network(), "6", system="net", dropout=True, random_state=5)
    if of == "voxel":
        features = ba.record(net, shown, progress=False)
        brain = ba.responses(features.values @ np.ones((3, 2)), stimulus_id=features.stimulus_id, neuroid_id=["a", "b"], modality="fmri",
                             system="s")  # fmt: skip
        net = ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(features, brain))
    a = ba.attribute(net, shown, n_steps=32)
    assert a.attrs["completeness_error"] < 1e-3
    through = ba.attribute(net, shown, wrt="1", method="conductance", n_steps=64)
    np.testing.assert_allclose(through.sum("unit"), a.response - a.baseline_response, atol=2e-3)
    turned = shown[["values"]].isel(presentation=slice(None, None, -1))
    effect = ba.patch(net, shown, turned, nodes="0", by="unit")
    slope = ba.patch(net, shown, turned, nodes=["0", "3"], method="integrated-gradients", n_steps=12)
    np.testing.assert_allclose(slope[:, 0], effect.other_response - effect.response, atol=1e-4)
    np.testing.assert_allclose(effect.response, a.response, atol=1e-5)
    lost = ba.lesion(net, shown, units={"0": [2]})
    zeroed = ba.patch(net, shown, "zero", nodes={"0": [2]}, by="unit")
    np.testing.assert_allclose(zeroed[:, 0], lost.response_lesioned - lost.response, atol=1e-5)
    for x in (a, effect, lost):
        assert ba.core.provenance(x).steps[-1]["params"]["responder_random_state"] == 5
