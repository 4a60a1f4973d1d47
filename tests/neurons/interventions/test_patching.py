"""patch: known answers, exact against approximate, a unit and a voxel by one call."""

import numpy as np
import pytest
import torch
import xarray as xr

import brainalign as ba
from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError


def pair(n=4, width=6, seed=0):
    return tuple(
        ba.stimuli.table(x, stimulus_id=[f"s{i}" for i in range(n)], kind="array")
        for x in np.random.default_rng(seed).normal(size=(2, n, width)).astype("float32")
    )


def network(*modules, layers=None):
    torch.manual_seed(0)
    net = torch.nn.Sequential(*[module() for module in modules])
    return ba.TorchResponder(net, layers=layers or str(len(net) - 1), system="net")


DEEP = (lambda: torch.nn.Linear(6, 5), torch.nn.Tanh, lambda: torch.nn.Linear(5, 5), torch.nn.Tanh, lambda: torch.nn.Linear(5, 3))


def test_all_of_a_layer_patched_is_the_other_run():
    clean, corrupt = pair()
    net = network(*DEEP)
    for direction in ("noising", "denoising"):
        effect = ba.patch(net, clean, corrupt, nodes=["0", "2"], direction=direction)
        expected = (effect.other_response - effect.response).values
        for node in range(2):
            np.testing.assert_allclose(effect.values[:, node], expected, atol=1e-5)
    np.testing.assert_allclose(effect.response, net.respond(corrupt, slice(0, 4))["4"], atol=1e-5)
    sizes = ba.patch(net, clean, corrupt, nodes=["0", "2"], direction="denoising", absolute=True)
    xr.testing.assert_allclose(sizes.drop_attrs(), np.abs(effect).drop_attrs())


def test_behind_a_node_a_linear_net_gives_weight_times_difference_under_every_estimator():
    clean, corrupt = pair()
    net = network(lambda: torch.nn.Linear(6, 5), lambda: torch.nn.Linear(5, 3))
    before = [net.model[0](torch.as_tensor(x["values"].values)) for x in (clean, corrupt)]
    expected = torch.einsum("nu,pu->pun", net.model[1].weight, before[1] - before[0]).detach().numpy()
    for method in ("exact", "attribution", "relp"):
        effect = ba.patch(net, clean, corrupt, nodes="0", by="unit", method=method)
        np.testing.assert_allclose(effect.values, expected, atol=1e-5)
    assert effect.node_unit.values.tolist() == list(range(5))


@pytest.mark.parametrize("method", ["exact", "attribution"])
def test_a_voxel_without_a_model_has_no_effect_and_disturbs_no_other(method):
    clean, corrupt = pair(n=12)
    net = network(*DEEP)
    features = ba.record(net, clean, progress=False)
    values = np.random.default_rng(0).normal(size=(12, 2))
    values[:, 1] = 2.0
    brain = ba.responses(values, stimulus_id=features.stimulus_id, neuroid_id=["a", "b"], modality="fmri", system="s")
    voxels = ba.readout(net, ba.Ridge(alphas=[1.0]).fit(features, brain))
    effect = ba.patch(voxels, clean, corrupt, nodes="0", method=method)
    assert np.isnan(effect.values).all(axis=(0, 1)).tolist() == [False, True]
    assert np.isfinite(effect.values[..., 0]).all()


def test_a_node_that_leads_nowhere_has_no_effect():
    clean, corrupt = pair()
    net = network(*DEEP)
    with torch.no_grad():
        net.model[2].weight[:, 3] = 0
    for method in ("exact", "attribution"):
        effect = ba.patch(net, clean, corrupt, nodes={"1": [3, 4]}, by="unit", method=method)
        # products of some processors are rounded otherwise in a larger batch
        np.testing.assert_allclose(effect.sel(node=effect.node_unit == 3), 0, atol=1e-6)
        assert np.abs(effect.sel(node=effect.node_unit == 4)).max() > 1e-3


def test_units_are_ablated_without_another_run():
    clean, _ = pair()
    net = network(*DEEP)
    each = ba.patch(net, clean, "zero", nodes="1", by="unit")
    assert "other_response" not in each.coords
    for unit in range(5):
        alone = ba.lesion(net, clean, units={"1": [unit]})
        np.testing.assert_allclose(each.values[:, unit], (alone.response_lesioned - alone.response).values, atol=1e-6)
    with pytest.raises(ParameterError, match=r"'corrupt'.*Got 'nought'"):
        ba.patch(net, clean, "nought", nodes="1")
    with pytest.raises(ParameterError, match=r"'direction'.*without another run"):
        ba.patch(net, clean, "zero", nodes="1", direction="denoising")


class Gate(torch.nn.Module):
    """A rectified layer, and a branch of it that is added again."""

    def __init__(self):
        super().__init__()
        self.first, self.side, self.last = torch.nn.Linear(6, 12), torch.nn.Linear(12, 12), torch.nn.Linear(12, 2)
        self.relu = torch.nn.ReLU()

    def forward(self, x):
        x = self.relu(self.first(x))
        return self.last((x + self.side(x).relu()).tanh())


@pytest.mark.parametrize("layer", ["relu", "side"])  # copies part there, and at the inputs
@pytest.mark.parametrize("max_memory", [None, 1])
def test_each_stimulus_runs_with_the_units_that_differ_in_it(layer, max_memory):
    clean, _ = pair()
    torch.manual_seed(0)
    net = ba.TorchResponder(Gate(), layers="last", system="net")
    n_rows = []
    with torch.no_grad():
        first = net.model.relu(net.model.first(torch.as_tensor(clean["values"].values)))
        side = net.model.side(first)
        net.model.last.register_forward_hook(lambda module, args, out: n_rows.append(len(out)))
        effect = ba.patch(net, clean, "zero", nodes=layer, by="unit", max_memory=max_memory)
        active = (first if layer == "relu" else side) != 0
        for unit in range(12):
            kept = (torch.arange(12) != unit).float()
            x, branch = (first * kept, net.model.side(first * kept)) if layer == "relu" else (first, side * kept)
            expected = net.model.last((x + branch.relu()).tanh()).numpy() - effect.response.values
            np.testing.assert_allclose(effect.values[:, unit], expected, atol=1e-6)
    assert (effect.values[~active.numpy()] == 0).all()
    if layer == "relu" and max_memory is None:  # the shape of responses, intact ones, then copies between two unaltered ones
        most = int(active.sum(1).max())
        assert n_rows[:3] == [1, 4, 4 * (most + 2)]
        assert most < int(active.any(0).sum())


def test_effects_of_xor_do_not_add_up():
    net = network(lambda: torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU, lambda: torch.nn.Linear(2, 1, bias=False))
    with torch.no_grad():  # |a - b|
        net.model[0].weight[:] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        net.model[2].weight[:] = 1.0
    clean, corrupt = (ba.stimuli.table(np.array([x]), stimulus_id=["s"], kind="array") for x in ([0.0, 0.0], [1.0, 1.0]))
    outer = ba.TorchResponder(torch.nn.Sequential(torch.nn.Identity(), net.model), "1", system="xor")
    each = ba.patch(outer, clean, corrupt, nodes="0", by="unit").values.ravel()
    both = ba.patch(outer, clean, corrupt, nodes="0").values.ravel()
    assert (each.tolist(), both.tolist()) == ([1.0, 1.0], [0.0])


@pytest.mark.parametrize("n_bytes", [1, None])
def test_exact_effects_are_those_of_running_the_network_once_a_node(gpt2, texts, n_bytes):
    lm = ba.TransformersResponder(gpt2, layers=3, pool="last", dtype="float64")
    clean, corrupt = texts(2, 0), texts(2, 1)
    effect = ba.patch(lm, clean, corrupt, nodes={"heads.2": [1, 3]}, by="head", neuroid=[0, 5], max_memory=n_bytes)
    for i in range(2):
        piece, mate = lm.pieces(clean)[i], lm.pieces(corrupt)[i]
        with lm.reading(["heads.2"]) as seen:
            mate.forward(mate.inputs)
        for j, head in enumerate((1, 3)):
            units = slice(8 * head, 8 * head + 8)

            def exchange(value, units=units, other=seen["heads.2"]):
                value = value.clone()
                value[..., units] = other[..., units]
                return value

            with lm.altering({"heads.2": exchange}):
                expected = piece.forward(piece.inputs)[0, [0, 5]].detach().numpy()
            np.testing.assert_allclose(effect.values[i, j], expected - effect.response.values[i], atol=1e-6)
    assert effect.node_head.values.tolist() == [1, 3]


def test_relp_comes_closer_to_exact_patching_than_gradients_on_mlp_outputs(gpt2, texts):
    lm = ba.TransformersResponder(gpt2, layers=3, pool="last", dtype="float64")
    clean, corrupt = texts(3, 0), texts(3, 1)
    found = {
        method: ba.patch(lm, clean, corrupt, nodes="h.*.mlp", by="token", neuroid=range(4), method=method).values.ravel()
        for method in ("exact", "attribution", "relp")
    }
    r = {method: np.corrcoef(found["exact"], found[method])[0, 1] for method in ("attribution", "relp")}
    print(f"correlation with exact patching on MLP outputs: attribution patching {r['attribution']:.3f}, RelP {r['relp']:.3f}")
    assert r["relp"] > r["attribution"] + 0.1


def test_a_voxel_is_patched_as_the_weighted_sum_of_its_units_also_under_temporal_mixing():
    clean, corrupt = pair(20)
    layer = network(*DEEP).at("4")
    features = ba.record(layer, clean, progress=False)
    when = {"onset_s": np.arange(20) * 0.5, "duration_s": np.full(20, 0.5), "run": ["a"] * 20}
    clean, corrupt = (x.assign_coords({name: ("presentation", v) for name, v in when.items()}) for x in (clean, corrupt))
    features = ba.record(layer, clean, progress=False)
    rng = np.random.default_rng(1)
    bold = ba.responses(rng.normal(size=(5, 2)), stimulus_id=list("vwxyz"), neuroid_id=["x", "y"], modality="fmri", system="sub-01",
                        region="V1", run=["a"] * 5, onset_s=np.arange(5) * 2.0, duration_s=2.0)  # fmt: skip
    chain = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2]), ba.Ridge(alphas=[0.1])).fit(features, bold)
    units = ba.patch(layer, clean, corrupt, nodes="1", by="unit")
    weights = chain.steps_[-1].coef_
    for method in ("exact", "attribution"):
        voxel = ba.patch(ba.readout(layer, chain), clean, corrupt, nodes="1", by="unit", neuroid="y", method=method)
        np.testing.assert_allclose(voxel.response.values[:, 0], chain.predict(features).values[:, 1], atol=1e-4)
        if method == "exact":
            expected = np.zeros((5, 5))
            for volume in range(1, 5):
                expected[volume] = units.values[4 * (volume - 1) : 4 * volume].sum(0) @ weights[:, 1]
            np.testing.assert_allclose(voxel.values[..., 0], expected, atol=1e-4)
    assert voxel.region.values.tolist() == ["V1"]
    assert voxel.causal_scope == "model"


class Product(torch.nn.Module):
    def forward(self, x):
        return x[:, :1] * x[:, 1:2]


def test_integrated_gradients_of_a_product_add_up_to_the_effect_of_both_factors():
    inner = torch.nn.Sequential(torch.nn.Identity(), Product())
    net = ba.TorchResponder(inner, "1", system="net")
    clean, corrupt = (ba.stimuli.table(np.array([x]), stimulus_id=["s"], kind="array") for x in ([2.0, 3.0], [4.0, -1.0]))
    found = {e: ba.patch(net, clean, corrupt, nodes="0", by="unit", method=e).values.ravel().tolist()
             for e in ("exact", "attribution", "integrated-gradients")}  # fmt: skip
    assert found["exact"] == [6.0, -8.0]  # each alone, beside what the other holds
    assert found["attribution"] == [6.0, -8.0]
    assert found["integrated-gradients"] == pytest.approx([2.0, -12.0])  # beside what the other holds on the way
    whole = {e: ba.patch(net, clean, corrupt, nodes="0", method=e, n_steps=1).item() for e in found}
    assert whole == {"exact": -10.0, "attribution": -2.0, "integrated-gradients": -10.0}


def test_integrated_gradients_come_closer_to_exact_patching_of_all_of_a_layer_than_one_gradient(gpt2, texts):
    lm = ba.TransformersResponder(gpt2, layers=3, pool="last", dtype="float64")
    clean, corrupt = texts(3, 0), texts(3, 1)
    found = {
        (method, n): ba.patch(lm, clean, corrupt, nodes=["h.*.mlp", "h.1"], neuroid=range(4), method=method, n_steps=n)
        for method, n in (("exact", 1), ("attribution", 1), ("integrated-gradients", 3), ("integrated-gradients", 16))
    }
    exact = found.pop(("exact", 1)).values
    errors = {k: np.abs(effect.values - exact).max() / np.abs(exact).max() for k, effect in found.items()}
    r = {k: round(np.corrcoef(effect.values.ravel(), exact.ravel())[0, 1], 4) for k, effect in found.items()}
    print("whole layers, largest error and correlation with exact patching:", errors, r)
    assert errors["integrated-gradients", 16] < 1e-2
    assert errors["integrated-gradients", 16] < errors["integrated-gradients", 3] < errors["attribution", 1]


@pytest.mark.parametrize("method", ["attribution", "integrated-gradients", "relp"])
@pytest.mark.parametrize("mixed", [False, True])
def test_many_voxels_take_one_pass_a_feature_and_give_what_each_gives_alone(method, mixed, monkeypatch):
    clean, corrupt = pair(12)
    when = {"onset_s": np.arange(12) * 0.5, "duration_s": np.full(12, 0.5), "run": ["a"] * 12}
    clean, corrupt = (x.assign_coords({name: ("presentation", v) for name, v in when.items()}) for x in (clean, corrupt))
    layer = network(*DEEP).at("4")
    features = ba.record(layer, clean, progress=False)
    n = 6 if mixed else 12
    bold = ba.responses(np.random.default_rng(1).normal(size=(n, 20)), stimulus_id=clean.stimulus_id.values[:n], neuroid_id=range(20),
                        modality="fmri", system="sub-01", run=["a"] * n, onset_s=np.arange(n) * (1.0 if mixed else 0.5),
                        duration_s=1.0 if mixed else 0.5)  # fmt: skip
    steps = (ba.WordsToVolumes("sum"), ba.Delay([1])) if mixed else ()
    voxels = ba.readout(layer, ba.chain(*steps, ba.Ridge(alphas=[0.1])).fit(features, bold))
    passes, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kwargs: passes.append(1) or grad(*args, **kwargs))
    options = {"nodes": ["0", "1"], "by": "unit", "method": method, "n_steps": 2}
    together = ba.patch(voxels, clean, corrupt, **options)
    n_layers = 4 if method == "integrated-gradients" else 1
    assert len(passes) <= n_layers * 3 * (12 if mixed else 1)
    alone = np.concatenate([ba.patch(voxels, clean, corrupt, neuroid=k, **options).values for k in (0, 7, 19)], axis=2)
    np.testing.assert_allclose(together.values[..., [0, 7, 19]], alone, atol=1e-5)
    assert np.abs(alone).max() > 1e-2


class Reader(torch.nn.Module):
    """A network that takes token ids."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = torch.nn.Embedding(9, 6), torch.nn.Linear(6, 5), torch.nn.Linear(5, 3)

    def forward(self, ids):
        return self.head(self.mix(self.embed(ids)).tanh().mean(1))


@pytest.mark.filterwarnings("ignore::brainalign.core.errors.WeakMappingWarning")
@pytest.mark.parametrize("of", ["unit", "voxel"])
def test_a_network_that_takes_token_ids_is_patched_and_lesioned(of):
    torch.manual_seed(0)
    model, rng = Reader().requires_grad_(False), np.random.default_rng(0)
    net = ba.TorchResponder(model, "head", system="reader", preprocess=lambda x: torch.as_tensor(np.asarray(x)).long())
    tokens = torch.as_tensor(rng.integers(0, 9, size=(2, 12, 4)))
    clean, corrupt = (ba.stimuli.table(x, stimulus_id=[f"s{i}" for i in range(12)], kind="array") for x in tokens.numpy())
    responder, weight = net, torch.eye(3)
    if of == "voxel":
        features = ba.record(net, clean, progress=False)
        brain = ba.responses(rng.normal(size=(12, 2)), stimulus_id=features.stimulus_id, neuroid_id=["a", "b"], modality="fmri",
                             system="s")  # fmt: skip
        mapping = ba.Ridge(alphas=[1.0]).fit(features, brain)
        responder, weight = ba.readout(net, mapping), torch.as_tensor(mapping.coef_, dtype=torch.float32)
    one, other = (model.mix(model.embed(ids)) for ids in tokens)

    def behind(held):
        return (model.head(held.tanh().mean(1)) @ weight).numpy()

    for token in range(4):
        mixed = one.clone()
        mixed[:, token] = other[:, token]
        effect = ba.patch(responder, clean, corrupt, nodes={"mix": [token]}, by="token")
        np.testing.assert_allclose(effect.values[:, 0], behind(mixed) - behind(one), atol=1e-6)
    whole = ba.patch(responder, clean, corrupt, nodes=["embed", "mix"], by="token", method="integrated-gradients", n_steps=12)
    for layer in ("embed", "mix"):
        total = whole.sel(node=whole.node_layer == layer).sum("node")
        np.testing.assert_allclose(total, whole.other_response - whole.response, atol=1e-5)
    slope = ba.patch(responder, clean, corrupt, nodes="mix", method="attribution").values[:, 0]
    (tangent,) = torch.autograd.functional.jvp(lambda held: model.head(held.tanh().mean(1)) @ weight, one, other - one)[1:]
    np.testing.assert_allclose(slope, tangent, atol=1e-6)
    without = one.clone()
    without[..., [1, 4]] = 0
    lost = ba.lesion(responder, clean, units={"mix": [1, 4]})
    np.testing.assert_allclose(lost.response_lesioned - lost.response, behind(without) - behind(one), atol=1e-6)
    drawn = ba.attribute(responder, clean, wrt="mix", baseline="silent")
    np.testing.assert_allclose(drawn.sum("unit"), behind(one) - behind(torch.zeros_like(one)), atol=1e-5)
    with pytest.raises(CapabilityError, match=r"int64 inputs.*wrt='embedding', baseline='silent'"):
        ba.attribute(responder, clean)
    with pytest.raises(CapabilityError, match=r"baseline='zero' for torch.int64"):
        ba.attribute(responder, clean, wrt="mix")


def test_bad_input_is_refused(gpt2, texts):
    clean, corrupt = pair()
    net = network(*DEEP)
    with pytest.raises(AlignmentError, match="4 and 3 presentations"):
        ba.patch(net, clean, corrupt.isel(presentation=slice(0, 3)), nodes="0")
    with pytest.raises(AlignmentError, match=r"shape \(4, 6\) and \(4, 7\)"):
        ba.patch(net, clean, pair(width=7)[0], nodes="0")
    with pytest.raises(AlignmentError, match=r"\(1, 7, 32\) and \(1, 6, 32\).*as many tokens"):
        ba.patch(ba.TransformersResponder(gpt2, layers=1), texts(1, 0), texts(1, 0, length=6), nodes="h.0")
    mixed = [
        xr.concat([texts(1, 0), texts(1, i, length=5).assign_coords(stimulus_id=("presentation", ["t"]))], "presentation")
        for i in (1, 2)
    ]
    with pytest.raises(AlignmentError, match="7 and 5 nodes by token"):
        ba.patch(ba.TransformersResponder(gpt2, layers=1), *mixed, nodes="h.0", by="token")
    with pytest.raises(ParameterError, match=r"'method'.*relp"):
        ba.patch(net, clean, corrupt, nodes="0", method="fast")
    with pytest.raises(ParameterError, match=r"'n_steps'.*Got 0"):
        ba.patch(net, clean, corrupt, nodes="0", n_steps=0)
    with pytest.raises(ParameterError, match="Got 9 of layer '0'"):
        ba.patch(net, clean, corrupt, nodes={"0": [9]}, by="unit")
    with pytest.raises(ParameterError, match="matches no neuroid"):
        ba.patch(net, clean, corrupt, nodes="0", neuroid="4/77")
    with pytest.raises(CapabilityError, match="patch got a str"):
        ba.patch("net", clean, corrupt, nodes="0")


def test_effects_and_lesions_are_saved_and_opened_identically(tmp_path):
    clean, corrupt = pair()
    net = network(*DEEP)
    effect = ba.patch(net, clean, corrupt, nodes="1", by="unit", method="relp")
    lost = ba.lesion(net, clean, units={"1": [0, 2]}, freeze="3", n_draws=3, random_state=0)
    for name, result in (("effect", effect.to_dataset(name="effect")), ("lost", lost)):
        ba.save(effect if name == "effect" else lost, tmp_path / "study.zarr", name=name)
        xr.testing.assert_identical(ba.open_study(tmp_path / "study.zarr")[f"results/{name}"].to_dataset().load(), result)
