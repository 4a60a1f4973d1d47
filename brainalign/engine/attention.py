"""Learned queries over the tokens of a source: where each looks depends on what is there, and on where it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from brainalign.engine.moments import Numbers
from brainalign.engine.solvers import Splits
from brainalign.engine.spatial import ridge_of_pooled
from brainalign.engine.training import train_to_best

_POOLED_VALUES = 2**26  # of what queries see, held at a time: 256 MB


def sine_code(points: Numbers, cell: Numbers, width: int) -> Numbers:
    """Return sines and cosines of the places, from half a cycle in a field of view to one in two cells.

    Parameters
    ----------
    points : ndarray, (token, axis)
        In fields of view.
    cell : ndarray, (axis,)
        Extent of one place.
    width : int

    Returns
    -------
    ndarray of float64, (token, width)
        Columns that the axes do not fill evenly are 0.
    """
    each = width // (2 * points.shape[1])
    parts = []
    for axis, extent in zip(points.T, cell, strict=True):
        angle = 2 * np.pi * axis[:, None] * np.geomspace(0.5, max(0.5, 0.5 / extent), each)
        parts += [np.sin(angle), np.cos(angle)]
    code = np.concatenate(parts, axis=1)
    return np.pad(code, ((0, 0), (0, width - code.shape[1])))


class AttentionNetwork(torch.nn.Module):
    """A = softmax(q · (M K + code) / √d), ŷ = w · (A M) + b: queries are learned, values are the channels themselves.

    Parameters
    ----------
    columns : ndarray of int, (token, channel)
        Positions among the flattened features.
    used : ndarray of bool, (feature,)
        Others count as 0.
    mean, scale : ndarray, (channel,)
        Channels are brought to mean 0 and unit variance.
    code : ndarray, (token, width)
    n_queries, n_heads : int
    generator : torch.Generator
    """

    columns: torch.Tensor
    used: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    code: torch.Tensor

    def __init__(
        self,
        columns: Numbers,
        used: Numbers,
        mean: Numbers,
        scale: Numbers,
        code: Numbers,
        n_queries: int,
        n_heads: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        channels, width = columns.shape[1], code.shape[1]
        self.register_buffer("columns", torch.as_tensor(columns))
        self.register_buffer("used", torch.as_tensor(used[columns]))
        for name, values in (("mean", mean), ("scale", scale), ("code", code)):
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32))
        self.key = torch.nn.Parameter(torch.randn(channels, n_heads, width, generator=generator) / channels**0.5)
        self.query = torch.nn.Parameter(torch.randn(n_queries, n_heads, width, generator=generator))
        self.read(np.zeros((n_heads * channels, 0)), np.zeros(0), np.zeros(0, dtype=np.int64))

    def read(self, weight: Numbers, bias: Numbers, query: Numbers) -> None:
        """Set the linear readouts.

        Parameters
        ----------
        weight : ndarray, (head * channel, target)
        bias : ndarray, (target,)
        query : ndarray of int, (target,)
            Whose attention each target reads; -1 for none, and its bias alone.
        """
        own = np.flatnonzero(query >= 0)
        self.weight = torch.nn.Parameter(torch.as_tensor(weight[:, own], dtype=torch.float32))
        self.bias = torch.nn.Parameter(torch.as_tensor(bias, dtype=torch.float32))
        self.each = np.array_equal(query[own], np.arange(len(self.query)))
        self.groups = [torch.as_tensor(np.flatnonzero(query[own] == k)) for k in range(len(self.query))]
        order = np.zeros(len(query), dtype=np.int64)
        order[own] = np.argsort(np.argsort(query[own], kind="stable"))
        self.order = torch.as_tensor(order)

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Return the standardised maps, (row, token, channel), of flattened features."""
        maps = (x[:, self.columns] - self.mean) / self.scale
        return torch.where(self.used, maps, torch.zeros((), device=x.device))

    def attend(self, maps: torch.Tensor, queries: slice = slice(None)) -> torch.Tensor:
        """Return where each query looks: (row, query, head, token), summing to 1 over tokens."""
        keys = torch.einsum("ntc,chd->nthd", maps, self.key) + self.code[:, None]
        return torch.softmax(torch.einsum("nthd,qhd->nqht", keys, self.query[queries]) / self.code.shape[1] ** 0.5, dim=-1)

    def pool(self, maps: torch.Tensor, queries: slice = slice(None)) -> torch.Tensor:
        """Return what each query sees: (row, query, head * channel)."""
        return torch.einsum("nqht,ntc->nqhc", self.attend(maps, queries), maps).flatten(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the predictions, (row, target), of flattened features, (row, feature)."""
        maps = self.tokens(x)
        if self.each:
            # One target a query: its value is read at every token first, so that nothing is query × channel.
            weight = self.weight.reshape(self.query.shape[1], maps.shape[2], -1)
            read = torch.einsum("nqht,nthq->nq", self.attend(maps), torch.einsum("ntc,hcq->nthq", maps, weight))
        else:
            seen = self.pool(maps)
            read = torch.cat([seen[:, k] @ self.weight[:, group] for k, group in enumerate(self.groups)], dim=1)
        return read[:, self.order] + self.bias


def train(
    network: AttentionNetwork,
    x: torch.Tensor,
    y: torch.Tensor,
    query: Numbers,
    split: tuple[Numbers, Numbers],
    *,
    steps: int,
    patience: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    generator: torch.Generator,
) -> int:
    """Train queries, keys and linear readouts by AdamW on the squared error, and keep the step that is best on held-out rows.

    Parameters
    ----------
    network : AttentionNetwork
    x : Tensor, (row, feature)
    y : Tensor, (row, target)
        Centred, of unit variance.
    query : ndarray of int, (target,)
    split : tuple of ndarray of int
        Rows to train on, and rows to stop by.
    steps, patience : int
        Steps at most, and steps without improvement after which to stop.
    batch_size : int
    learning_rate, weight_decay : float
    generator : torch.Generator
        Of the batches.

    Returns
    -------
    int
        The step that was kept.
    """
    network.read(np.zeros((network.weight.shape[0], y.shape[1])), np.zeros(y.shape[1]), query)
    network.to(x.device)
    own, held = (torch.as_tensor(rows) for rows in split)

    def loss() -> torch.Tensor:
        rows = own[torch.randint(len(own), (min(batch_size, len(own)),), generator=generator)]
        return torch.mean((network(x[rows]) - y[rows]) ** 2)

    def held_loss() -> float:
        return sum((float(((network(x[part]) - y[part]) ** 2).sum()) for part in torch.split(held, batch_size)), 0.0)

    return train_to_best(
        network, loss, held_loss, steps=steps, patience=patience, learning_rate=learning_rate, weight_decay=weight_decay
    )


def fit_readouts(
    network: AttentionNetwork, x: torch.Tensor, y: torch.Tensor, query: Numbers, alphas: Numbers, splits: Splits, batch_size: int
) -> Iterator[tuple[Numbers, Any, Numbers]]:
    """Fit the linear readouts anew, by ridge regression on what the trained queries see, one query at a time.

    Parameters
    ----------
    network : AttentionNetwork
        Trained.
    x : Tensor, (row, feature)
    y : Tensor, (row, target)
        Centred, of unit variance.
    query : ndarray of int, (target,)
    alphas : ndarray
        Ascending, in units of the summed variance of what a query sees.
    splits : sequence of (train rows, test rows)
        On which alphas are compared: rows that the queries were not trained on.
    batch_size : int

    Yields
    ------
    targets : ndarray of int
        Of one query.
    fitted : PooledRidge
    weight : ndarray of float64, (head * channel, target)
    """
    y_values, n = y.cpu().numpy(), len(x)
    size = max(1, _POOLED_VALUES // (n * network.key.shape[0] * network.key.shape[1]))
    for start in range(0, len(network.query), size):
        block = slice(start, start + size)
        with torch.no_grad():
            parts = [network.pool(network.tokens(rows), block).cpu() for rows in torch.split(x, batch_size)]
        pooled = torch.cat(parts).numpy()
        for k in range(pooled.shape[1]):
            targets = np.flatnonzero(query == start + k)
            if targets.size:
                fitted = ridge_of_pooled(pooled[:, k], y_values[:, targets], alphas, splits, relative=True)
                yield targets, fitted, fitted.weights(np.arange(len(targets)))
