"""Rules of layer-wise relevance propagation: the forward value as it is, and a backward pass in which relevance is conserved.

A rule writes a nonlinearity as a linear map whose coefficients are held fixed; along such maps gradient times value is conserved.
Sources: Bach et al. 2015; Ali et al. 2022 (normalisation, attention); Jafari et al. 2025 (half and identity rules, RelP).
"""

from __future__ import annotations

from typing import Any

import torch

_NEAR_ZERO = 1e-6


class _Through(torch.autograd.Function):
    """The exact value forward, the gradient of the surrogate backward."""

    @staticmethod
    def forward(ctx: Any, surrogate: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def through(surrogate: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Return one tensor's value with another's gradient.

    Parameters
    ----------
    surrogate, exact : Tensor, of one shape

    Returns
    -------
    Tensor
        Bitwise ``exact``.
    """
    out: torch.Tensor = _Through.apply(surrogate, exact.detach())  # type: ignore[no-untyped-call]
    return out


def identity_rule(z: torch.Tensor, exact: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Give a nonlinearity f with f(0) = 0 the gradient f(z) / z.

    Parameters
    ----------
    z, exact : Tensor, of one shape
        Input and f(z).
    slope : Tensor, scalar
        f'(0), the limit where z is nearly 0.

    Returns
    -------
    Tensor
        Bitwise ``exact``.
    """
    small = z.detach().abs() < _NEAR_ZERO
    ratio = torch.where(small, slope, exact.detach() / torch.where(small, 1.0, z.detach()))
    return through(z * ratio, exact)


def half_rule(product: torch.Tensor) -> torch.Tensor:
    """Halve the gradient of a product, whose two factors would otherwise both get all of its relevance.

    Parameters
    ----------
    product : Tensor

    Returns
    -------
    Tensor
        Of the same value.
    """
    return product / 2 + (product / 2).detach()


def normalised(x: torch.Tensor, n_dims: int, eps: float, *, centred: bool) -> torch.Tensor:
    """Return x over its standard deviation (or root mean square) along the last dims, which takes no gradient.

    Parameters
    ----------
    x : Tensor, (..., unit)
    n_dims : int
        How many of the last dims.
    eps : float
    centred : bool
        Subtract the mean, which does take the gradient.

    Returns
    -------
    Tensor, like x
    """
    dims = tuple(range(-n_dims, 0))
    x = x - x.mean(dims, keepdim=True) if centred else x
    return x / (x.detach().square().mean(dims, keepdim=True) + eps).sqrt()
