"""The leading eigenvector of a symmetric operator, from a few products with blocks of vectors."""

from __future__ import annotations

from collections.abc import Callable

from brainalign.engine.backend import Array, namespace

_KEPT, _WIDEST, _ROUNDS = 8, 40, 300


def leading_eigenvector(apply: Callable[[Array], Array], start: Array, *, noise: float = 0.0) -> tuple[Array, float, Array]:
    """Return the unit eigenvector of the largest eigenvalue.

    Parameters
    ----------
    apply : callable
        The operator, symmetric and positive semidefinite: (row, k) in, (row, k) out, float64.
    start : ndarray or Tensor of float64, (row, k)
        Where to look first; the nearer to the leading eigenvectors, the fewer rounds.
    noise : float
        Rounding of the operator's results, absolute: residuals below are as good as zero.

    Returns
    -------
    vector : ndarray or Tensor of float64, (row,)
        Its residual is within 1e-10 of the eigenvalue, or within ``noise``.
    value : float
    block : ndarray or Tensor of float64, (row, k)
        Approximate eigenvectors that come next, to start from where the operator changes little.

    Notes
    -----
    Block Lanczos with full orthogonalisation and thick restarts; where two eigenvalues lie so close that it does not
    converge, the operator is written out and decomposed.
    """
    xp = namespace(start)
    n = len(start)
    basis = xp.linalg.qr(start)[0]
    image = apply(basis)
    for _ in range(_ROUNDS):
        inner = basis.T @ image
        values, vectors = xp.linalg.eigh((inner + inner.T) / 2)
        top, leading = float(values[-1]), vectors[:, -1:]
        vector = basis @ leading
        residual = image @ leading - top * vector
        if float((residual**2).sum()) ** 0.5 <= max(1e-10 * top, noise):
            return vector[:, 0], top, basis @ vectors[:, -_KEPT:-1]
        if basis.shape[1] == n:
            break
        if basis.shape[1] == _WIDEST:
            basis, image = basis @ vectors[:, -_KEPT:], image @ vectors[:, -_KEPT:]
        for _ in range(2):
            residual = residual - basis @ (basis.T @ residual)
        residual = residual / (residual**2).sum() ** 0.5
        basis, image = xp.concatenate([basis, residual], 1), xp.concatenate([image, apply(residual)], 1)
    whole = apply(xp.eye(n, dtype=start.dtype, device=start.device))
    values, vectors = xp.linalg.eigh((whole + whole.T) / 2)
    return vectors[:, -1], float(values[-1]), vectors[:, -_KEPT:-1]
