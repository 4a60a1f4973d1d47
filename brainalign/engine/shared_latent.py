"""Latents that several systems share: a linear map into them for each, and one network from them to targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import gelu, mse_loss

from brainalign.engine.contrastive import soft_contrastive_loss
from brainalign.engine.moments import Numbers
from brainalign.engine.training import train_to_best

Part = tuple[torch.Tensor, torch.Tensor, tuple[Numbers, Numbers]]  # source, target, rows to train on and rows to stop by
SharedRows = tuple[int, int, Numbers, Numbers]  # two systems, and rows of each that are of the same stimuli


class SharedLatentNetwork(torch.nn.Module):
    """ŷ = (z + gelu(z U + u) V) W + w, of latents z = x E of each system; all but E is the trunk.

    Parameters
    ----------
    widths : sequence of int
        Features of each system.
    n_latents, width, n_targets : int
    generator : torch.Generator
        Of the start.
    """

    def __init__(self, widths: Sequence[int], n_latents: int, width: int, n_targets: int, generator: torch.Generator) -> None:
        super().__init__()

        def start(n_in: int, n_out: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(n_in, n_out, generator=generator) / n_in**0.5)

        # the trunk first, so that it starts alike whatever systems there are
        weights = {"up": start(n_latents, width), "down": start(width, n_latents), "out": start(n_latents, n_targets)}
        biases = {f"{name}_bias": torch.nn.Parameter(torch.zeros(w.shape[1])) for name, w in weights.items() if name != "down"}
        self.trunk = torch.nn.ParameterDict(weights | biases)
        self.into = torch.nn.ParameterList(start(n, n_latents) for n in widths)

    def forward(self, x: torch.Tensor, system: int) -> torch.Tensor:
        """Return the predictions, (row, target), of standardised features, (row, feature), of one system."""
        t, z = self.trunk, x @ self.into[system]
        found: torch.Tensor = (z + gelu(z @ t["up"] + t["up_bias"]) @ t["down"]) @ t["out"] + t["out_bias"]
        return found


def disagreement(network: SharedLatentNetwork, parts: Sequence[Part], shared: Sequence[SharedRows]) -> torch.Tensor:
    """Return Σ ‖xE − x'E'‖², the mean over rows of the same stimuli, summed over pairs of systems.

    Parameters
    ----------
    network : SharedLatentNetwork
    parts : sequence of (x, y, (train, held))
    shared : sequence of (system, system, rows, rows)

    Returns
    -------
    Tensor, ()
    """
    total = torch.zeros((), device=parts[0][0].device)
    for *systems, rows, others in shared:
        z, other = (parts[k][0][own] @ network.into[k] for k, own in zip(systems, (rows, others), strict=True))
        total = total + (z - other).square().sum(dim=1).mean()
    return total


def train(
    network: SharedLatentNetwork,
    parts: Sequence[Part],
    *,
    contrast: float,
    alpha: float,
    steps: int,
    patience: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    generator: torch.Generator,
    alignment: float = 0.0,
    shared: Sequence[SharedRows] = (),
) -> int:
    """Train on λ · soft contrast + (1 − λ) · squared error + α ‖E‖², summed over systems, and keep the step best on held-out rows.

    Parameters
    ----------
    network : SharedLatentNetwork
    parts : sequence of (x, y, (train, held))
        A system each: standardised features and targets, and rows to train on and to stop by.
    contrast, alpha : float
        λ, and the penalty of maps into latents.
    steps, patience, batch_size, learning_rate, weight_decay
        Of :func:`train_to_best`, and rows of each system in a batch.
    generator : torch.Generator
        Of the batches.
    alignment : float
        Penalty of :func:`disagreement`.
    shared : sequence of (system, system, rows, rows)

    Returns
    -------
    int
        The step that was kept; 0 where none was better than the start.
    """

    def of(k: int, rows: Numbers | torch.Tensor) -> torch.Tensor:
        x, y, _ = parts[k]
        rows = torch.as_tensor(rows, device=x.device)
        found = network(x[rows], k)
        return contrast * soft_contrastive_loss(found, y[rows]) + (1 - contrast) * mse_loss(found, y[rows])

    def loss() -> torch.Tensor:
        total = alignment * disagreement(network, parts, shared)
        for k, (_, _, (own, _)) in enumerate(parts):
            drawn = torch.randperm(len(own), generator=generator)[:batch_size].numpy()
            total = total + of(k, own[drawn]) + alpha * network.into[k].square().sum()
        return total

    def held_loss() -> float:
        return sum(float(of(k, held)) for k, (_, _, (_, held)) in enumerate(parts))

    with torch.no_grad():
        first = held_loss()
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    step = train_to_best(
        network, loss, held_loss, steps=steps, patience=patience, learning_rate=learning_rate, weight_decay=weight_decay
    )
    with torch.no_grad():
        if held_loss() < first:
            return step
    network.load_state_dict(start)
    return 0
