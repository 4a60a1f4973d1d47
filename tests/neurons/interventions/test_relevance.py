"""Rules on stock networks: forward bitwise unchanged, relevance conserved, modules restored, unknown ones named."""

import pytest
import torch

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError, UnsupportedModuleError

ALL = ("ln", "identity", "half", "ah")


def stock(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if name == "gpt2":
        config = transformers.GPT2Config(vocab_size=30, n_embd=16, n_layer=3, n_head=4, n_positions=16, initializer_range=0.3,
                                         bos_token_id=0, eos_token_id=0)  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
    else:
        made = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM), "qwen": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
                "gemma": (transformers.GemmaConfig, transformers.GemmaForCausalLM)}[name]  # fmt: skip
        model = made[1](made[0](vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
                                num_key_value_heads=2, head_dim=4, initializer_range=0.3, bos_token_id=0, eos_token_id=0, pad_token_id=0))  # fmt: skip
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    return model.double().eval()


def logit_and_relevance(model):
    block = model.transformer.h[0] if hasattr(model, "transformer") else model.model.layers[0]
    seen = {}
    hook = block.register_forward_pre_hook(
        lambda m, args, kw: seen.update(e=args[0] if args else kw["hidden_states"]), with_kwargs=True
    )
    try:
        logit = model(torch.arange(6)[None]).logits[0, -1, 3]
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(logit, seen["e"])
    return logit.item(), (gradient * seen["e"]).sum().item()


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen", "gemma"])
def test_relevance_is_conserved_on_bias_free_stock_networks(name):
    model = stock(name)
    plain, without = logit_and_relevance(model)
    with ba.neurons.lrp_rules(model, ALL):
        logit, relevance = logit_and_relevance(model)
    print(f"{name}: logit {logit:.15f}, relevance {relevance:.15f}, gradient × input {without:.6f}")
    assert logit == plain
    assert abs(relevance - logit) < 1e-12
    assert abs(without - logit) > 1e-2
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("left_out", ["ln", "half", "ah"])
def test_every_rule_is_needed(left_out):
    with ba.neurons.lrp_rules(model := stock("llama"), [rule for rule in ALL if rule != left_out]):
        logit, relevance = logit_and_relevance(model)
    assert abs(relevance - logit) > 1e-4


def test_networks_of_texts_images_and_sounds_keep_their_forward():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=20, **sizes)).double().eval()
    vit = transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, **sizes)).double().eval()
    heard = transformers.Wav2Vec2Config(conv_dim=(8, 8), conv_kernel=(3, 3), conv_stride=(2, 2), num_feat_extract_layers=2,
                                        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, **sizes)  # fmt: skip
    wav2vec2 = transformers.Wav2Vec2Model(heard).double().eval()
    pixels, wave = torch.randn(1, 3, 16, 16, dtype=torch.double), torch.randn(1, 400, dtype=torch.double)
    for model, inputs in ((bert, torch.arange(5)[None]), (vit, pixels), (wav2vec2, wave)):
        before = model(inputs).last_hidden_state
        with ba.neurons.lrp_rules(model, ALL):
            assert torch.equal(model(inputs).last_hidden_state, before)


def test_modules_are_restored_after_an_error_and_own_forwards_are_kept():
    net = torch.nn.Sequential(torch.nn.LayerNorm(4), torch.nn.GELU())
    own = net[1].forward = lambda z: z
    with pytest.raises(ZeroDivisionError), ba.neurons.lrp_rules(net):
        raise ZeroDivisionError
    assert "forward" not in vars(net[0])
    assert net[1].forward is own


def test_homogeneous_activations_and_batch_norms_need_no_rule():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU())
    with ba.neurons.lrp_rules(net):
        assert not any("forward" in vars(module) for module in net.modules())


class FusedGate(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up_proj, self.down_proj = torch.nn.Linear(4, 8), torch.nn.Linear(4, 4)


def test_modules_without_a_rule_are_named():
    for module, match in (
        (torch.nn.Sigmoid(), r"'0' \(Sigmoid\) is 0\.5 at 0.*leave 'identity' out"),
        (torch.nn.GLU(), r"'0' \(GLU\) gates one half"),
        (FusedGate(), r"'0' \(FusedGate\).*'gate_up_proj'.*leave 'half' out"),
    ):
        with pytest.raises(UnsupportedModuleError, match=match), ba.neurons.lrp_rules(torch.nn.Sequential(module)):
            pass
    half = torch.nn.Sequential(torch.nn.LayerNorm(64)).to(torch.bfloat16)
    with ba.neurons.lrp_rules(half), pytest.raises(UnsupportedModuleError, match=r"'0' \(LayerNorm\) computes in torch.bfloat16"):
        half(torch.linspace(-3, 5, 64, dtype=torch.bfloat16)[None])
    norm = torch.nn.Sequential(torch.nn.InstanceNorm1d(4, affine=True))
    with ba.neurons.lrp_rules(norm), pytest.raises(UnsupportedModuleError, match=r"'0' \(InstanceNorm1d\) is no LayerNorm"):
        norm(torch.randn(2, 4, 5))
    attention = torch.nn.Sequential(torch.nn.MultiheadAttention(4, 1))
    with pytest.raises(UnsupportedModuleError, match="no queries and keys in '0'"), ba.neurons.lrp_rules(attention, ["ah"]):
        pass
    with pytest.raises(ParameterError, match=r"'rules'.*ln"), ba.neurons.lrp_rules(norm, ["lm"]):
        pass
    with pytest.raises(CapabilityError, match=r"holds no torch\.nn\.Module"), ba.neurons.lrp_rules(object()):
        pass
