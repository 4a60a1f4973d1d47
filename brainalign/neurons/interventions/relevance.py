"""``lrp_rules``: stock networks whose backward pass propagates relevance, while their forward pass stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from brainalign.core.errors import CapabilityError, UnsupportedModuleError
from brainalign.core.parameters import check_choice, preview
from brainalign.engine.relevance import half_rule, identity_rule, normalised, through

RULES = ("ln", "identity", "half", "ah")
Forward = Callable[..., Any]
_NORM = re.compile("Norm")
_LINEAR_NORMS = (torch.nn.modules.batchnorm._BatchNorm,)  # in evaluation mode its statistics are constants
_HOMOGENEOUS = (torch.nn.ReLU, torch.nn.LeakyReLU, torch.nn.PReLU, torch.nn.RReLU)  # f(z) = f'(z) z as they are
_NOT_ELEMENTWISE = (torch.nn.MultiheadAttention, torch.nn.Softmax, torch.nn.LogSoftmax, torch.nn.Softmin, torch.nn.Softmax2d)
_GATED = ("gate_proj", "up_proj", "down_proj")
_FUSED_GATES = ("gate_up_proj", "wi_0", "w12", "Wi")
_QUERY_KEY = ("q_proj", "k_proj", "query", "key", "q_lin", "k_lin", "q", "k", "query_proj", "key_proj")
_FUSED_QKV = ("c_attn", "qkv")  # queries, keys and values in thirds of the last dim


@contextmanager
def lrp_rules(network: Any, rules: Sequence[str] = ("ln", "identity", "half")) -> Iterator[None]:
    """Let gradients of a stock network be relevances: within this context gradient times value is conserved from layer to layer.

    Parameters
    ----------
    network : Module or responder
        Of stock modules: of transformers, or of torch. A readout stands for its backbone.
    rules : sequence of {"ln", "identity", "half", "ah"}
        ``"ln"``: the scale of LayerNorm and RMSNorm is a constant. ``"identity"``: the gradient of an activation f is f(z) / z.
        ``"half"``: each factor of a gated MLP gets half the gradient. ``"ah"``: attention patterns are constants (queries and keys
        take no gradient). Linear maps keep theirs.

    Yields
    ------
    None
        The forward pass is bitwise what it was. Modules have their own ``forward`` again when the context ends, by an error or not.

    Raises
    ------
    UnsupportedModuleError
        A module that needs a rule and has none; it is named.
    CapabilityError
        ``network`` holds no module.

    Notes
    -----
    Without biases, the sum of gradient × value over the embeddings is the response. Sources: Ali et al. 2022; Jafari et al. 2025 (RelP),
    whose default are the first three rules.

    Examples
    --------
    >>> import brainalign as ba, torch
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.LayerNorm(4, bias=False), torch.nn.GELU(), torch.nn.Linear(4, 1, bias=False)).double()
    >>> x = torch.randn(4, dtype=torch.double, requires_grad=True)
    >>> with ba.neurons.lrp_rules(net):
    ...     y = net(x)
    ...     (rho,) = torch.autograd.grad(y, x)
    >>> bool((rho @ x - y).abs() < 1e-12), bool(y == net(x))
    (True, True)
    """
    for rule in rules:
        check_choice("rules", rule, RULES, owner="lrp_rules")
    root = _module_of(network)
    forwards = [(module, forward) for name, module in root.named_modules() for forward in _forwards(name, module, rules)]
    if "ah" in rules:
        forwards += _constant_patterns(root)
    before = [(module, vars(module).get("forward")) for module, _ in forwards]
    try:
        for module, forward in forwards:
            module.forward = forward
        yield
    finally:
        for module, own in reversed(before):
            if own is None:
                vars(module).pop("forward", None)
            else:
                module.forward = own


def _module_of(network: Any) -> torch.nn.Module:
    inner = getattr(network, "backbone", network)
    module = inner if isinstance(inner, torch.nn.Module) else getattr(inner, "model", None)
    if not isinstance(module, torch.nn.Module):
        raise CapabilityError(
            f"lrp_rules got a {type(network).__name__}, which holds no torch.nn.Module. Expected a module, or a responder with one as its "
            "`model`: ba.TorchResponder, ba.TransformersResponder or what ba.readout makes of them."
        )
    return module


def _forwards(name: str, module: torch.nn.Module, rules: Sequence[str]) -> list[Forward]:
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedModuleError(
            f"{name!r} is a {type(module).__name__}, whose forward cannot be exchanged. Expected eager modules: build the network from its "
            "source and load the weights."
        )
    if "ln" in rules and _is_norm(module):
        return [_norm(name, module)]
    if "identity" in rules and _is_activation(module):
        return [_activation(name, module)]
    if "half" in rules:
        children = dict(module.named_children())
        if all(part in children for part in _GATED):
            return [_gated(name, module)]
        fused = [part for part in _FUSED_GATES if part in children]
        if fused:
            raise UnsupportedModuleError(
                f"{name!r} ({type(module).__name__}) gates its MLP with {fused[0]!r}, for which the half rule does not know the product. "
                "Expected gate_proj, up_proj and down_proj: leave 'half' out of `rules`, and relevance will not be conserved there."
            )
    return []


def _is_norm(module: torch.nn.Module) -> bool:
    leaf = next(module.children(), None) is None
    of_weights = type(module).__module__.startswith("torch.nn.utils")  # weight norm and the like do not see activations
    return leaf and not of_weights and _NORM.search(type(module).__name__) is not None and not isinstance(module, _LINEAR_NORMS)


def _is_activation(module: torch.nn.Module) -> bool:
    home = type(module).__module__
    if home == "transformers.activations":
        return type(module).__name__ != "LinearActivation"
    return home == "torch.nn.modules.activation" and not isinstance(module, (*_HOMOGENEOUS, *_NOT_ELEMENTWISE))


def _norm(name: str, module: Any) -> Forward:
    exact = module.forward
    eps = next((float(v) for a in ("eps", "variance_epsilon") if (v := getattr(module, a, None)) is not None), 0.0)
    n_groups, weight, bias = (getattr(module, part, None) for part in ("num_groups", "weight", "bias"))
    shape = getattr(module, "normalized_shape", None)
    n_dims = len(shape) if isinstance(shape, tuple) else 1

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        value = exact(x, *args, **kwargs)
        if n_groups is not None:  # (row, channel, ...), a gain for each channel
            units = [normalised(x.reshape(len(x), n_groups, -1), 1, eps, centred=True).reshape(x.shape)]
            gain, offset = (None if part is None else part.reshape(-1, *[1] * (x.ndim - 2)) for part in (weight, bias))
        else:
            units = [normalised(x, n_dims, eps, centred=centred) for centred in (True, False)]
            gain, offset = weight, bias
        # Gemma keeps its gains less one; gains of another shape are those of another norm.
        fits = n_groups is not None or gain is None or gain.shape == x.shape[-n_dims:]
        for scale in (1.0,) if gain is None else (gain, 1.0 + gain) if fits else ():
            wanted = value if offset is None else value - offset
            for unit in units:
                scaled = (unit * scale).to(value.dtype)
                if torch.allclose(scaled, wanted, rtol=1e-3, atol=1e-4):
                    return through(_as_exact(scaled, wanted), value)
        if torch.finfo(value.dtype).eps > 1e-4:
            raise UnsupportedModuleError(
                f"{name!r} ({type(module).__name__}) computes in {value.dtype}, whose digits do not tell which norm it is, so the rule 'ln' does "
                "not fit. Expected float32: load the network with dtype='float32', or leave 'ln' out of `rules`."
            )
        raise UnsupportedModuleError(
            f"{name!r} ({type(module).__name__}) is no LayerNorm, RMSNorm or GroupNorm that its output would follow, so the rule 'ln' does not "
            "fit. Leave 'ln' out of `rules`, and relevance will not be conserved there."
        )

    return forward


def _as_exact(surrogate: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Scale away what rounding has put between them: stock RMSNorms compute in float32."""
    ratio = torch.where(surrogate == 0, 1.0, exact / torch.where(surrogate == 0, 1.0, surrogate))
    return surrogate * ratio.detach()


def _activation(name: str, module: Any) -> Forward:
    exact = module.forward
    if isinstance(module, torch.nn.GLU):
        raise UnsupportedModuleError(
            f"{name!r} (GLU) gates one half of its input by the other, which is no function of each element. Leave 'identity' out of `rules`, "
            "and relevance will not be conserved there."
        )
    points = torch.tensor([0.0, 1e-4, -1e-4], dtype=torch.float64)
    zero, up, down = exact(points).detach()
    if abs(float(zero)) > 1e-9:
        raise UnsupportedModuleError(
            f"{name!r} ({type(module).__name__}) is {float(zero):.3g} at 0, so the rule 'identity' has no limit there. Expected an "
            "activation through the origin (GELU, SiLU, Tanh): leave 'identity' out of `rules`."
        )
    slope = (up - down) / 2e-4

    def forward(z: torch.Tensor) -> torch.Tensor:
        value = exact(z.clone())  # it may work in place
        return identity_rule(z, value, slope.to(value))

    return forward


def _gated(name: str, module: Any) -> Forward:
    act = getattr(module, "act_fn", None) or getattr(module, "act", None)
    exact = module.forward
    if act is None:
        raise UnsupportedModuleError(
            f"{name!r} ({type(module).__name__}) has gate_proj and up_proj but no `act_fn`, so the rule 'half' does not know its product. "
            "Leave 'half' out of `rules`, and relevance will not be conserved there."
        )

    def forward(x: torch.Tensor) -> torch.Tensor:
        value = module.down_proj(half_rule(act(module.gate_proj(x)) * module.up_proj(x)))
        if not torch.allclose(value, exact(x), rtol=1e-3, atol=1e-4):
            raise UnsupportedModuleError(
                f"{name!r} ({type(module).__name__}) is not down_proj(act_fn(gate_proj(x)) * up_proj(x)), so the rule 'half' does not fit. "
                "Leave 'half' out of `rules`, and relevance will not be conserved there."
            )
        return value

    return forward


def _constant_patterns(root: torch.nn.Module) -> list[tuple[torch.nn.Module, Forward]]:
    found: list[tuple[torch.nn.Module, Forward]] = []
    reached: set[str] = set()
    for name, module in root.named_modules():
        for part, child in module.named_children():
            if part in _QUERY_KEY + _FUSED_QKV and hasattr(child, "weight"):
                found.append((child, _detached(child.forward, 2 / 3 if part in _FUSED_QKV else 1.0)))
                reached.add(name)
    attention = [name for name, m in root.named_modules() if "Attention" in type(m).__name__]
    missed = [
        name for name in attention if not any(r == name or r.startswith(f"{name}.") or name.startswith(f"{r}.") for r in reached)
    ]
    if missed or not found:
        raise UnsupportedModuleError(
            f"The rule 'ah' found no queries and keys in {preview(missed) if missed else type(root).__name__}. Expected projections of "
            f"{', '.join(_QUERY_KEY[:4])} or {', '.join(_FUSED_QKV)}: leave 'ah' out of `rules`, and patterns will take relevance."
        )
    return found


def _detached(exact: Forward, share: float) -> Forward:
    """Return a projection of which the first part takes no gradient."""

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        value = exact(x, *args, **kwargs)
        n = round(share * value.shape[-1])
        return torch.cat([value[..., :n].detach(), value[..., n:]], dim=-1)

    return forward
