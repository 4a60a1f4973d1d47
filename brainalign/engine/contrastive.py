"""A network that reads series of many sensors, trained to tell the target of each row from those of the others in its batch."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, gelu, glu, mse_loss, normalize

from brainalign.engine.moments import Numbers
from brainalign.engine.training import train_to_best

_MARGIN = 0.2  # beyond the sensors on each side, so that the waves of their code do not come round
_CODE = 1024  # waves in the code of a place, at most
_CLIP = 20.0  # standard deviations beyond which a value is cut
_FIRST_SCALE = 1 / 0.07  # of similarities, in Radford et al. 2021
_LARGEST_SCALE = 100.0


def fourier_code(places: Numbers) -> torch.Tensor:
    """Return cosines and sines over the places of sensors, of all frequencies up to so many cycles along each axis.

    Parameters
    ----------
    places : ndarray, (sensor, axis)
        From 0 to 1.

    Returns
    -------
    Tensor, (sensor, 2 * wave)
    """
    at = torch.as_tensor(places, dtype=torch.float64)
    n = int(_CODE ** (1 / at.shape[1]) + 1e-9)
    waves = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64)] * at.shape[1]).reshape(-1, at.shape[1])
    angle = 2 * torch.pi / (1 + 2 * _MARGIN) * (at + _MARGIN) @ waves.T
    return torch.cat([angle.cos(), angle.sin()], dim=1).float()


class ContrastiveNetwork(torch.nn.Module):
    """Series to targets: attention over sensors, a layer for each subject, dilated convolutions, attention over time, two heads.

    Parameters
    ----------
    mean : ndarray, (subject, sensor * time)
    scale : ndarray, (subject, sensor)
        Of the training rows; 0 for sensors that are left out.
    n_times, n_targets : int
    places : ndarray, (sensor, axis), or None
        From 0 to 1. Without places, sensors are mixed by a matrix alone.
    width, depth : int
        Channels, and blocks of convolutions.
    generator : torch.Generator
        Of the start.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    places: torch.Tensor
    code: torch.Tensor

    def __init__(
        self,
        mean: Numbers,
        scale: Numbers,
        n_times: int,
        n_targets: int,
        places: Numbers | None,
        width: int,
        depth: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n_subjects, n_sensors = scale.shape
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(n_subjects, n_sensors, n_times))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32)[:, :, None])

        def start(*shape: int, fan_in: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(*shape, generator=generator) / fan_in**0.5)

        self.attention = None
        if places is not None:
            self.register_buffer("places", torch.as_tensor(places, dtype=torch.float32))
            self.register_buffer("code", fourier_code(places))
            self.attention = start(width, self.code.shape[1], fan_in=self.code.shape[1])
        n_mixed = n_sensors if places is None else width
        self.mix = start(width, n_mixed, fan_in=n_mixed)
        self.by_subject = torch.nn.Parameter(torch.eye(width).repeat(n_subjects, 1, 1)) if n_subjects > 1 else None
        self.kernels = torch.nn.ParameterList(start(width, width, 3, fan_in=3 * width) for _ in range(depth))
        self.gates = torch.nn.ParameterList(start(2 * width, width, 1, fan_in=width) for _ in range(depth // 2))
        self.gains = torch.nn.ParameterList(torch.nn.Parameter(torch.ones(width)) for _ in range(depth))
        self.looks = start(width, width, fan_in=width)
        self.when = torch.nn.Parameter(torch.zeros(width, n_times))
        self.heads = torch.nn.ParameterList(start(2 * width, width, fan_in=width) for _ in range(2))
        self.outs = torch.nn.ParameterList(start(n_targets, 2 * width, fan_in=2 * width) for _ in range(2))
        self.biases = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(n_targets)) for _ in range(2))
        self.log_scale = torch.nn.Parameter(torch.tensor(_FIRST_SCALE).log())

    def forward(
        self, x: torch.Tensor, subject: torch.Tensor, lost: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the two heads say, each (row, target): for the contrast, and of the values.

        Parameters
        ----------
        x : Tensor, (row, sensor * time)
        subject : Tensor of int, (row,)
        lost : Tensor of bool, (sensor,), optional
            Sensors that are not looked at.
        """
        scale = self.scale[subject]
        series = (x.reshape(len(x), *self.mean.shape[1:]) - self.mean[subject]) / torch.where(scale > 0, scale, torch.inf)
        series = series.clamp(-_CLIP, _CLIP)
        if lost is not None:
            series = series.masked_fill(lost[:, None], 0.0)
        mixed = self._over_sensors(series, lost)
        if self.by_subject is not None:
            mixed = self.by_subject[subject] @ mixed
        seen = self._over_time(self._blocks(mixed))
        found = [gelu(seen @ head.T) @ out.T + bias for head, out, bias in zip(self.heads, self.outs, self.biases, strict=True)]
        return found[0], found[1]

    def _over_sensors(self, series: torch.Tensor, lost: torch.Tensor | None) -> torch.Tensor:
        mix: torch.Tensor = self.mix
        if self.attention is not None:
            looks = self.attention @ self.code.T
            looks = looks if lost is None else looks.masked_fill(lost, -torch.inf)
            mix = mix @ torch.softmax(looks, dim=1)
        return mix @ series

    def _blocks(self, h: torch.Tensor) -> torch.Tensor:
        for i, (kernel, gain) in enumerate(zip(self.kernels, self.gains, strict=True)):
            dilation = 2**i
            step = torch.nn.functional.conv1d(h, kernel, padding=dilation, dilation=dilation)
            step = step * torch.rsqrt(step.square().mean(dim=(1, 2), keepdim=True) + 1e-5) * gain[:, None]
            h = h + gelu(step)
            if i % 2:
                h = h + glu(torch.nn.functional.conv1d(h, self.gates[i // 2]), dim=1)
        return h

    def _over_time(self, h: torch.Tensor) -> torch.Tensor:
        looks = torch.softmax(self.looks @ h / h.shape[1] ** 0.5 + self.when, dim=2)
        return (looks * h).sum(dim=2)


def contrastive_loss(found: torch.Tensor, target: torch.Tensor, log_scale: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Return the symmetric cross-entropy of telling the target of each row from those of others, and the row from other rows.

    Parameters
    ----------
    found, target : Tensor, (row, dimension)
        Compared by their cosine.
    log_scale : Tensor, ()
        Logarithm of what the cosines are multiplied by.
    same : Tensor of int, (row,)
        Rows of one stimulus have one number, and are no negatives of each other.

    Returns
    -------
    Tensor, ()
    """
    logits = normalize(found) @ normalize(target).T * log_scale.exp().clamp(max=_LARGEST_SCALE)
    own = torch.arange(len(same), device=same.device)
    twins = (same[:, None] == same).fill_diagonal_(False)
    logits = logits.masked_fill(twins, -torch.inf)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def soft_contrastive_loss(found: torch.Tensor, target: torch.Tensor, temperature: float = 0.125) -> torch.Tensor:
    """Return the cross-entropy of similarities to targets with those among the targets themselves, each way.

    Parameters
    ----------
    found, target : Tensor, (row, dimension)
        Compared by their cosine; rows of one stimulus are as alike as their targets are.
    temperature : float

    Returns
    -------
    Tensor, ()

    Notes
    -----
    −½ Σ p [log softmax(Ẑ Zᵀ / τ) + log softmax(Z Ẑᵀ / τ)], p = softmax(Z Zᵀ / τ): Scotti et al. 2024 (MindEye2).
    """
    z = normalize(target)
    logits = normalize(found) @ z.T / temperature
    p = torch.softmax(z @ z.T / temperature, dim=1)
    return (cross_entropy(logits, p) + cross_entropy(logits.T, p)) / 2


def train(
    network: ContrastiveNetwork,
    x: torch.Tensor,
    y: torch.Tensor,
    subject: torch.Tensor,
    same: torch.Tensor,
    split: tuple[Numbers, Numbers],
    *,
    contrast: float,
    dropout: float,
    steps: int,
    patience: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    generator: torch.Generator,
) -> int:
    """Train on λ · contrast + (1 − λ) · squared error, and keep the step that is best on held-out rows.

    Parameters
    ----------
    network : ContrastiveNetwork
    x : Tensor, (row, sensor * time)
    y : Tensor, (row, target)
        Centred, of unit variance over all.
    subject, same : Tensor of int, (row,)
        Whose rows, and of which stimulus.
    split : tuple of ndarray of int
        Rows to train on, and rows to stop by.
    contrast : float
        λ.
    dropout : float
        Radius around a random place within which sensors are lost, each step; 0 for none. Without places, the share of sensors.
    steps, patience, batch_size, learning_rate, weight_decay
        Of :func:`train_to_best`, and rows in a batch.
    generator : torch.Generator
        Of batches and lost sensors.

    Returns
    -------
    int
        The step that was kept.
    """
    own, held = (torch.as_tensor(rows) for rows in split)

    def of(rows: torch.Tensor, lost: torch.Tensor | None = None) -> torch.Tensor:
        rows = rows.to(x.device)
        told, values = network(x[rows], subject[rows], lost)
        return contrast * contrastive_loss(told, y[rows], network.log_scale, same[rows]) + (1 - contrast) * mse_loss(
            values, y[rows]
        )

    def loss() -> torch.Tensor:
        rows = own[torch.randperm(len(own), generator=generator)[:batch_size]]
        return of(rows, _lost_sensors(network, dropout, generator))

    def held_loss() -> float:
        return sum((float(of(part)) * len(part) for part in torch.split(held, batch_size)), 0.0)

    return train_to_best(
        network, loss, held_loss, steps=steps, patience=patience, learning_rate=learning_rate, weight_decay=weight_decay
    )


def _lost_sensors(network: ContrastiveNetwork, dropout: float, generator: torch.Generator) -> torch.Tensor | None:
    if dropout == 0:
        return None
    if network.attention is None:
        lost = torch.rand(network.scale.shape[1], generator=generator) < dropout
    else:
        centre = torch.rand(network.places.shape[1], generator=generator)
        lost = torch.linalg.vector_norm(network.places.cpu() - centre, dim=1) < dropout
    return None if lost.all() else lost.to(network.scale.device)
