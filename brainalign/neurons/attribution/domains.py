"""``domain=`` of ``attribute``: inputs in other coordinates, frequencies or the components of a linear mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import preview
from brainalign.core.protocols import Piece
from brainalign.core.provenance import hash_array
from brainalign.engine.domains import Components, Frequencies
from brainalign.neurons.attribution.inputs import Starts


class Domain:
    """Coordinates in which inputs are attributed to.

    Parameters
    ----------
    domain : {"frequency"}, DataArray, array_like, (feature, component), or fitted scikit-learn transformer
    sampling_rate_hz : float, optional
        Of inputs that have no times.

    Attributes
    ----------
    key : str
        What decides the attributions, for provenance.
    """

    def __init__(self, domain: Any, sampling_rate_hz: float | None = None) -> None:
        self._rate = sampling_rate_hz
        self._mixing: np.ndarray[Any, Any] | None = None
        self._dim: str | None = None
        if isinstance(domain, str):
            if domain != "frequency":
                raise ParameterError(
                    f"attribute got domain={domain!r}. Expected 'frequency', a mixing matrix (feature, component), or a fitted transformer of "
                    "scikit-learn such as PCA or FastICA."
                )
            self.key = domain
            return
        self._mixing = _mixing_of(domain)
        self._dim = str(domain.dims[0]) if isinstance(domain, xr.DataArray) else None
        self.key = f"linear{self._mixing.shape} {hash_array(self._mixing)}"

    def carry(self, piece: Piece, starts: Starts) -> tuple[Piece, Starts]:
        """Return a piece, and its baselines, in these coordinates.

        Parameters
        ----------
        piece : Piece
        starts : callable

        Returns
        -------
        Piece, callable

        Raises
        ------
        CapabilityError
            Rows share inputs.
        ParameterError
            The inputs have no such dim.
        """
        if piece.parts is not None:
            raise CapabilityError(
                f"attribute got domain= for inputs with dims {piece.dims} that several rows share, as words do, or films under a delay. Expected "
                "inputs that each make one row: pass no domain."
            )
        inputs, n_dims = piece.inputs.detach(), len(piece.dims)
        dim = self._along(piece)
        axis = piece.dims.index(dim)
        n, labels = inputs.shape[1 + axis], {name: item for name, item in piece.coords.items() if dim not in item[0]}
        if self._mixing is None:
            to: Any = Frequencies(axis - n_dims, n)
            rate, name = _rate_of(piece, dim, self._rate), "frequency"
            label = np.fft.rfftfreq(n, 1 / (rate or 1.0))
            labels |= {"frequency_hz" if rate else "cycles_per_sample": ((name,), label)}
        else:
            to, name = Components(torch.as_tensor(self._mixing), axis - n_dims, inputs), "component"
        dims = tuple(name if d == dim else d for d in piece.dims)
        return _carried(piece, to.forward(inputs), to.inverse, dims, labels), lambda at: to.forward(starts(at))

    def _along(self, piece: Piece) -> str:
        shape = dict(zip(piece.dims, piece.inputs.shape[1:], strict=True))
        if self._mixing is None:
            found = [dim for dim in piece.dims if dim in ("time", "sample")] or list(piece.dims) * (len(piece.dims) == 1)
            expected = "a dim 'time' or 'sample', or one dim only"
        else:
            n = len(self._mixing)
            own = {self._dim, f"source_{self._dim}"}
            found = [dim for dim, size in shape.items() if size == n and (self._dim is None or dim in own)]
            expected = f"one dim of {n} features, or a mixing matrix that is a DataArray whose first dim names it"
        if len(found) != 1:
            raise ParameterError(f"attribute got domain= for inputs {shape}. Expected {expected}.")
        return found[0]


def _carried(piece: Piece, z: Any, inverse: Callable[[Any], Any], dims: tuple[str, ...], coords: dict[str, Any]) -> Piece:
    inner = piece.features
    if inner is not None:
        inner = replace(inner, piece=_carried(inner.piece, z, inverse, dims, coords))
    return replace(piece, inputs=z, forward=lambda u: piece.forward(inverse(u)), dims=dims, coords=coords, features=inner)


def _rate_of(piece: Piece, dim: str, given: float | None) -> float | None:
    """Return samples a second, from times where the inputs have them."""
    times = piece.coords.get(dim)
    if times is None:
        return given
    steps = np.diff(times[1])
    if not len(steps) or not np.allclose(steps, steps.mean(), rtol=1e-3):
        raise ParameterError(
            f"attribute got domain='frequency' for the times {preview(times[1])} s. Expected several at even steps: resample the recording."
        )
    return float(1 / steps.mean())


def _mixing_of(domain: Any) -> np.ndarray[Any, Any]:
    """Return what one unit of each component adds to the features."""
    if hasattr(domain, "inverse_transform"):
        n = _n_components(domain)
        rng = np.random.default_rng(0)
        back: Callable[[Any], Any] = lambda z: np.asarray(domain.inverse_transform(z), dtype=np.float64)  # noqa: E731
        origin, z = back(np.zeros((1, n))), rng.normal(size=(4, n))
        mixing = (back(np.eye(n)) - origin).T
        if not np.allclose(back(z), origin + z @ mixing.T, rtol=1e-4, atol=1e-6 * np.abs(mixing).max(initial=1e-300)):
            raise CapabilityError(
                f"attribute found that {type(domain).__name__} is not linear on its way back from components. Expected one that is, such as PCA or "
                "FastICA."
            )
        return mixing
    mixing = np.asarray(domain)
    if mixing.ndim != 2 or mixing.dtype.kind not in "iuf" or not np.isfinite(mixing).all():
        raise ParameterError(
            f"attribute got domain= of type {type(domain).__name__}, shape {mixing.shape} and dtype {mixing.dtype}. Expected 'frequency', finite "
            "numbers (feature, component), or a fitted transformer of scikit-learn with `inverse_transform`."
        )
    return mixing.astype(np.float64)


def _n_components(domain: Any) -> int:
    if not hasattr(domain, "n_features_in_"):
        raise ParameterError(
            f"attribute got domain={type(domain).__name__}(), which is not fitted. Expected one that is: call its `fit`."
        )
    return int(np.asarray(domain.transform(np.zeros((1, domain.n_features_in_)))).shape[1])
