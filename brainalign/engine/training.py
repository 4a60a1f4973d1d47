"""Training by gradient descent within a budget of steps, of which the one that is best on held-out rows is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from brainalign.engine.backend import whole_float32

_CHECK_EVERY = 25  # steps between two looks at the held-out rows


class AdamW:
    """AdamW with torch's defaults. Torch's own imports a compiler when it is made, which takes longer than the training.

    Parameters
    ----------
    parameters : list of Parameter
    learning_rate, weight_decay : float
    """

    def __init__(self, parameters: list[torch.nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        self.learning_rate, self.weight_decay, self.count = learning_rate, weight_decay, 0
        self.state = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their gradients."""
        self.count += 1
        for p, mean, square in self.state:
            if p.grad is None:
                continue
            mean.lerp_(p.grad, 0.1)
            square.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            scale = (square / (1 - 0.999**self.count)).sqrt_().add_(1e-8)
            p.mul_(1 - self.learning_rate * self.weight_decay)
            p.addcdiv_(mean, scale, value=-self.learning_rate / (1 - 0.9**self.count))


@whole_float32()
def train_to_best(
    network: torch.nn.Module,
    loss: Callable[[], torch.Tensor],
    held_loss: Callable[[], float],
    *,
    steps: int,
    patience: int,
    learning_rate: float,
    weight_decay: float,
) -> int:
    """Train the parameters of a network that take gradients by AdamW, and keep the step whose held-out loss is least.

    Parameters
    ----------
    network : Module
    loss : callable
        Of a batch that it draws.
    held_loss : callable
        Of all rows that are held out, without gradients.
    steps, patience : int
        Steps at most, and steps without improvement after which to stop.
    learning_rate, weight_decay : float

    Returns
    -------
    int
        The step that was kept; 0 where no held-out loss was a number.
    """
    optimiser = AdamW([p for p in network.parameters() if p.requires_grad], learning_rate, weight_decay)
    least, best, at = np.inf, {}, 0
    for step in range(1, steps + 1):
        network.zero_grad()
        torch.autograd.backward(loss())
        optimiser.step()
        if step % _CHECK_EVERY and step < steps:
            continue
        with torch.no_grad():
            error = held_loss()
        if error < least:
            least, at, best = error, step, {name: p.detach().clone() for name, p in network.named_parameters()}
        elif step - at >= patience:
            break
    network.load_state_dict(best, strict=False)
    return at
