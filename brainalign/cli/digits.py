"""The demo's network: a small convolutional one, trained on the handwritten digits that ship with scikit-learn."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

LAYERS = ("conv1", "conv2", "hidden", "logits")
N_TEST = 600


@dataclass(frozen=True)
class Digits:
    """A trained network and the images that it never saw.

    Attributes
    ----------
    network : torch.nn.Module
        Four blocks, named as in ``LAYERS``; takes (image, 1, 8, 8), gives (image, 10).
    images : ndarray, (image, 1, 8, 8) float32
        0 to 1; held out from training.
    digits : ndarray of int, (image,)
    accuracy : float
        On these images.
    n_train : int
    """

    network: Any
    images: np.ndarray
    digits: np.ndarray
    accuracy: float
    n_train: int


def train_digits(*, n_epochs: int = 12, random_state: int = 0) -> Digits:
    """Train a network of two convolutional and two full layers; a few seconds on a CPU.

    Parameters
    ----------
    n_epochs : int
    random_state : int
        Of the split, the weights and the order of batches.

    Returns
    -------
    Digits

    Examples
    --------
    >>> train_digits(n_epochs=1).images.shape
    (600, 1, 8, 8)
    """
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, digits = load_digits(return_X_y=True)
    images = (values.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    x, x_test, y, y_test = train_test_split(images, digits, test_size=N_TEST, stratify=digits, random_state=random_state)
    with torch.random.fork_rng(devices=[]):  # the caller's stream of random numbers stays where it was
        torch.manual_seed(random_state)
        network = _network()
        _fit(network, torch.as_tensor(x), torch.as_tensor(y), n_epochs)
    with torch.no_grad():
        guess = network(torch.as_tensor(x_test)).argmax(dim=1).numpy()
    return Digits(network, x_test, y_test, float((guess == y_test).mean()), len(y))


def _network() -> Any:
    from torch import nn

    blocks = (
        nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(24 * 4 * 4, 64), nn.ReLU()),
        nn.Linear(64, 10),
    )
    return nn.Sequential(OrderedDict(zip(LAYERS, blocks, strict=True)))


def _fit(network: Any, x: Any, y: Any, n_epochs: int) -> None:
    import torch

    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(n_epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
    network.eval()
