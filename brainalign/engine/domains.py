"""Inputs in other coordinates: frequencies, or the components of a linear mixture."""

from __future__ import annotations

import torch

Tensor = torch.Tensor


class Frequencies:
    """Real signals as the frequencies of their discrete Fourier transform.

    Real and imaginary part are the last dim of real coordinates, (..., frequency, ..., 2): a gradient times a difference that is
    summed over it is ``Re(conj(g) * (z - z'))``, with torch's gradient ``dF/dRe + i dF/dIm``.

    Parameters
    ----------
    axis : int
        Of time in the signals, negative.
    n : int
        Samples.
    """

    def __init__(self, axis: int, n: int) -> None:
        self.axis, self.n = axis, n

    def forward(self, x: Tensor) -> Tensor:
        """Return the coordinates of signals.

        Parameters
        ----------
        x : Tensor, (..., time, ...)

        Returns
        -------
        Tensor, (..., frequency, ..., 2)
        """
        return torch.view_as_real(torch.fft.rfft(x, dim=self.axis))

    def inverse(self, z: Tensor) -> Tensor:
        """Return the signals that have some coordinates.

        Parameters
        ----------
        z : Tensor, (..., frequency, ..., 2)

        Returns
        -------
        Tensor, (..., time, ...)
        """
        x: Tensor = torch.fft.irfft(torch.view_as_complex(z.contiguous()), n=self.n, dim=self.axis)
        return x


class Components:
    """Signals ``x = mixing @ z + rest`` as the components z; the rest, which no component holds, stays as it is in the inputs.

    Parameters
    ----------
    mixing : Tensor, (feature, component)
    axis : int
        Of features in the signals, negative.
    inputs : Tensor, (batch, ...)
    """

    def __init__(self, mixing: Tensor, axis: int, inputs: Tensor) -> None:
        self.axis = axis
        self._mixing = mixing.to(inputs)
        self._unmixing = torch.linalg.pinv(mixing).to(inputs)
        self._rest = inputs - _along(self._mixing, axis, self.forward(inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the components of signals, those of the smallest norm where several would do.

        Parameters
        ----------
        x : Tensor, (..., feature, ...)

        Returns
        -------
        Tensor, (..., component, ...)
        """
        return _along(self._unmixing, self.axis, x)

    def inverse(self, z: Tensor) -> Tensor:
        """Return signals with some components, and with the rest of the inputs.

        Parameters
        ----------
        z : Tensor, (copy * batch, ..., component, ...)

        Returns
        -------
        Tensor, (copy * batch, ..., feature, ...)
        """
        made = _along(self._mixing, self.axis, z)
        return (made.reshape(-1, *self._rest.shape) + self._rest).reshape(made.shape)


def _along(matrix: Tensor, axis: int, x: Tensor) -> Tensor:
    return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
