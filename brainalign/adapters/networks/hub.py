"""Stock Hugging Face networks: loading them, and where their layers are, whatever the architecture calls them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from brainalign.adapters.networks.capture import Tap, capture, select
from brainalign.adapters.networks.pretrained import from_pretrained, is_cut_off
from brainalign.core.errors import CapabilityError, ParameterError, require
from brainalign.core.parameters import preview

KINDS = ("hidden", "mlp", "heads")
INPUTS = ("text", "image", "audio")
PREFIX = {"hidden": "h", "mlp": "mlp", "heads": "heads"}
_TOWERS = {"text": ("text_model",), "image": ("vision_model", "vision_tower"), "audio": ("audio_model", "audio_tower")}
_MAIN_INPUT = {"input_ids": "text", "pixel_values": "image", "input_values": "audio", "input_features": "audio"}

# The projection that ends an MLP or an attention: what goes into it are the neurons, or the heads side by side.
_MLP_OUT = re.compile(
    r"(?:^|\.)(?:mlp\.(?:c_proj|down_proj|fc2|dense_4h_to_h|fc_out|wo|Wo)|fc2|ffn\.lin2|ff\.layer_2|ffn_output|feed_forward\.(?:output_dense|w2)"
    r"|DenseReluDense\.wo)$|^output\.dense$"
)
_HEADS_OUT = re.compile(
    r"(?:^|\.)(?:attention\.output\.dense|attn\.c_proj|attn\.attention\.out_proj|attention\.(?:out_lin|o_proj|out_proj|dense|wo)"
    r"|self_attn\.(?:o_proj|out_proj|dense)|attn\.(?:out_proj|o_proj|o|Wo)|SelfAttention\.o|self_attention\.dense)$"
)

# Where transformers takes ``hidden_states[-1]``: after the final norm in language models, before it in vision and speech
# models, and the other way round in these.
_OTHER_WAY_ROUND = {"text": re.compile("clip|siglip"), "image": re.compile("^$"), "audio": re.compile("whisper")}


@dataclass(frozen=True)
class Network:
    """One tower of a network, and what prepares its input.

    Attributes
    ----------
    model : PreTrainedModel
        In evaluation mode, without parameter gradients.
    inputs : {"text", "image", "audio"}
    prepare : tokenizer, image processor or feature extractor; None where the folder has none
    """

    model: Any
    inputs: str
    prepare: Any


def load(source: str | Path, *, pretrained: bool, seed: int | None, inputs: str | None, dtype: str, device: str) -> Network:
    """Return a network from a folder or from the hub, never running code that comes with it.

    Parameters
    ----------
    source : str or Path
        Folder or hub name. ``HF_HUB_OFFLINE=1`` keeps to what is on disk; only safetensors are read.
    pretrained : bool
        False: the weights are drawn anew from the configuration, by ``seed``.
    seed : int or None
    inputs : {"text", "image", "audio"} or None
        Which tower, where there is more than one.
    dtype, device : str

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        Not found, no weights as safetensors, or several towers and no choice.
    CapabilityError
        It needs code of its own.
    OptionalDependencyError
        transformers is not installed.
    """
    hub = require("transformers", extra="transformers", purpose="TransformersResponder")
    where = {"local_files_only": True} if is_cut_off(source) else {}
    if pretrained:
        whole = from_pretrained(hub.AutoModel, source, dtype=getattr(torch, dtype), use_safetensors=True, **where)
    else:
        config = from_pretrained(hub.AutoConfig, source, **where)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed or 0) % 2**63)
            whole = hub.AutoModel.from_config(config, trust_remote_code=False).to(getattr(torch, dtype))
    tower, kind = _tower(whole, inputs, str(source))
    tower = tower.to(device).eval().requires_grad_(False)
    if hasattr(tower.config, "use_cache"):
        tower.config.use_cache = False  # keys and values of past tokens are memory that nobody reads
    return Network(tower, kind, _processor(hub, source, kind, where))


def _processor(hub: Any, source: str | Path, kind: str, where: dict[str, bool]) -> Any:
    auto = {"text": hub.AutoTokenizer, "image": hub.AutoImageProcessor, "audio": hub.AutoFeatureExtractor}[kind]
    try:
        prepare = from_pretrained(auto, source, **where)
    except ParameterError:
        if kind == "text":
            raise
        return None  # arrays that are already prepared need none; anything else is refused where it is met
    if kind == "text" and len(prepare) <= len(prepare.all_special_ids):
        # transformers makes an empty tokenizer where there is no file for one
        raise ParameterError(
            f"The tokenizer of {str(source)!r} knows {len(prepare)} tokens, all of them special. Expected tokenizer.json or a vocabulary "
            "file beside the weights: save the tokenizer there."
        )
    return prepare


def _tower(whole: Any, inputs: str | None, name: str) -> tuple[Any, str]:
    towers = {
        kind: getattr(whole, a)
        for kind, names in _TOWERS.items()
        for a in names
        if isinstance(getattr(whole, a, None), torch.nn.Module)
    }
    if len(towers) > 1:
        if inputs not in towers:
            raise ParameterError(
                f"{name!r} has towers for {sorted(towers)}. Got inputs={inputs!r}: pass inputs={sorted(towers)[0]!r}, say."
            )
        return towers[inputs], inputs
    tower = whole.get_encoder() if getattr(whole.config, "is_encoder_decoder", False) else whole
    kind = _MAIN_INPUT.get(tower.main_input_name) or _MAIN_INPUT.get(whole.main_input_name)
    if kind is None or inputs not in (None, kind):
        raise ParameterError(f"{name!r} takes {tower.main_input_name!r}, that is {kind}. Got inputs={inputs!r}: leave it out.")
    return tower, kind


def blocks_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the stack of transformer blocks (or of stages), in order.

    Parameters
    ----------
    model : Module

    Returns
    -------
    list of Module

    Raises
    ------
    CapabilityError
        There is no stack of modules.
    """
    stacks: dict[str, torch.nn.ModuleList] = {}
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in stacks)
        if isinstance(module, torch.nn.ModuleList) and len(module) and not nested:
            stacks[name] = module
    if not stacks:
        raise CapabilityError(
            f"{type(model).__name__} has no list of blocks. Use ba.TorchResponder, which reads any module by its name."
        )
    depth = getattr(model.config, "num_hidden_layers", None)
    # Attention tells the blocks from convolutional front ends, which may be stacks of the same length.
    return list(max(stacks.values(), key=lambda stack: (_has_attention(stack), len(stack) == depth, len(stack))))


def _has_attention(stack: torch.nn.Module) -> bool:
    return any("attn" in name.lower() or "attention" in name.lower() for name, _ in stack.named_modules())


def taps_of(network: Network, kind: str) -> list[Tap]:
    """Return every layer of one kind, named the same way for every architecture.

    Parameters
    ----------
    network : Network
    kind : {"hidden", "mlp", "heads"}

    Returns
    -------
    list of Tap
        Hidden states ``h.0`` (what enters the first block) to ``h.L`` (what transformers calls ``hidden_states[-1]``);
        ``mlp.i`` and ``heads.i`` lie in the block whose output is ``h.i``.

    Raises
    ------
    CapabilityError
        A block has no such projection, or several.
    """
    blocks = blocks_of(network.model)
    depth = getattr(network.model.config, "num_hidden_layers", None) or len(blocks)
    # A single block that is applied again and again (ALBERT) is read at each of its calls.
    stack = [(blocks[0], i + 1) for i in range(depth)] if len(blocks) == 1 else [(block, 1) for block in blocks]
    if kind == "hidden":
        entering = [Tap(f"h.{i}", block, "input", call) for i, (block, call) in enumerate(stack)]
        other = _OTHER_WAY_ROUND[network.inputs].search(network.model.config.model_type) is not None
        before_norm = (network.inputs != "text") != other
        last = (
            Tap(f"h.{len(stack)}", stack[-1][0], "output", stack[-1][1]) if before_norm else Tap(f"h.{len(stack)}", network.model)
        )
        return [*entering, last]
    pattern = _MLP_OUT if kind == "mlp" else _HEADS_OUT
    return [
        Tap(f"{PREFIX[kind]}.{i}", _projection(block, pattern, kind), "input", call) for i, (block, call) in enumerate(stack, 1)
    ]


def named_taps(network: Network, pattern: str) -> list[Tap]:
    """Return the layers of any kind that a name or glob such as ``"h.3"`` or ``"heads.*"`` matches; none for a module's name.

    Parameters
    ----------
    network : Network
    pattern : str
        With two parts, the first of them ``h``, ``mlp`` or ``heads``. Else it names modules.

    Returns
    -------
    list of Tap

    Raises
    ------
    ParameterError
        There is no such layer.
    CapabilityError
        A block has no such projection.
    """
    prefix, _, number = pattern.partition(".")
    kind = next((kind for kind, name in PREFIX.items() if name == prefix), None)
    if kind is None or not number or "." in number:
        return []
    taps = taps_of(network, kind)
    chosen = select([tap.name for tap in taps], pattern, owner="TransformersResponder")
    return [tap for tap in taps if tap.name in chosen]


def _projection(block: torch.nn.Module, pattern: re.Pattern[str], kind: str) -> torch.nn.Module:
    named = [(name, module) for name, module in block.named_modules() if pattern.search(name)]
    if len(named) != 1:
        linear = [name for name, module in block.named_modules() if getattr(module, "weight", None) is not None]
        raise CapabilityError(
            f"{type(block).__name__} has {len(named)} projections that could end its {kind} ({preview([n for n, _ in named])}). Expected "
            f"one. Its weights are {preview(linear, 12)}: read the one you mean with ba.TorchResponder."
        )
    return named[0][1]


def is_bidirectional(network: Network) -> bool:
    """Return whether an earlier position responds to a later one, by trying it out on text.

    Parameters
    ----------
    network : Network
        Those of images and sounds count as bidirectional.

    Returns
    -------
    bool
    """
    if network.inputs != "text":
        return True
    special = set(network.prepare.all_special_ids)
    one, other = [i for i in range(network.model.config.vocab_size) if i not in special][:2]
    ids = torch.tensor([[one, one, one], [one, one, other]], device=network.model.device)
    last = taps_of(network, "hidden")[-1:]
    with torch.inference_mode():
        (hidden,) = capture(network.model, lambda: network.model(input_ids=ids), last, lambda tap, value: value.clone()).values()
    return not torch.allclose(hidden[0, 0], hidden[1, 0], rtol=1e-4, atol=1e-6)


def n_prefix_tokens(model: Any) -> int:
    """Return how many tokens come before the patches of a vision transformer: class, distillation, registers.

    Parameters
    ----------
    model : PreTrainedModel

    Returns
    -------
    int
    """
    names = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    single = sum(bool(names & options) for options in ({"cls_token", "class_embedding", "class_token"}, {"distillation_token"}))
    return single + int(getattr(model.config, "num_register_tokens", 0) or 0)


def patch_grid(model: Any, size: Sequence[int]) -> tuple[int, int] | None:
    """Return how many patches an image of this size (y, x) has along y and x, or None where there are none.

    Parameters
    ----------
    model : PreTrainedModel
    size : sequence of int

    Returns
    -------
    tuple of int, or None
    """
    patch = getattr(model.config, "patch_size", None)
    return (int(size[0]) // patch, int(size[1]) // patch) if isinstance(patch, int) else None


def n_heads(model: Any) -> int:
    """Return the number of attention heads of a block.

    Parameters
    ----------
    model : PreTrainedModel

    Returns
    -------
    int
    """
    return int(getattr(model.config, "num_attention_heads", None) or model.config.num_heads)


def token_limit(model: Any, tokenizer: Any, max_length: int | None) -> int | None:
    """Return the most tokens that fit into one forward pass, or None where there is no limit.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizer
    max_length : int or None
        A limit of the user's own.

    Returns
    -------
    int or None
    """
    limits: Sequence[Any] = (max_length, getattr(tokenizer, "model_max_length", None), _positions(model))
    return min((int(limit) for limit in limits if limit is not None and limit < 10**9), default=None)


def _positions(model: Any) -> int | None:
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    table = next((m for name, m in model.named_modules() if name.endswith("position_embeddings")), None)
    offset = getattr(table, "padding_idx", None)  # RoBERTa counts positions from behind the padding index
    return positions if offset is None else positions - offset - 1
