"""Rotations that bring several systems into one space: Procrustes, hyperalignment, the shared response model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainalign.engine.backend import Array, cast, namespace
from brainalign.engine.gram import eigh, null_floor, row_gram

METHODS = ("procrustes", "hyperalignment", "srm")

_ROUNDS, _STILL = 500, 1e-10  # of the template's sum of squares, which grows until the maps agree


def orthogonal_map(X: Array, Y: Array) -> Array:
    """Return the R with orthonormal columns or rows, whichever are fewer, that minimises ‖X R − Y‖ (Procrustes).

    Parameters
    ----------
    X : ndarray or Tensor, (..., row, column)
    Y : ndarray or Tensor, (..., row, dimension)

    Returns
    -------
    ndarray or Tensor, (..., column, dimension)

    Notes
    -----
    U Vᵀ of the singular value decomposition of XᵀY (Schönemann 1966); with more columns than dimensions it maximises
    tr(RᵀXᵀY), which is the same where ‖X R‖ does not depend on R.
    """
    return polar_factors(X.swapaxes(-1, -2) @ Y)


def polar_factors(M: Array) -> Array:
    """Return the orthogonal matrices with the largest inner products with some matrices.

    Parameters
    ----------
    M : ndarray or Tensor, (..., column, dimension)

    Returns
    -------
    ndarray or Tensor, (..., column, dimension)
    """
    left, _, right = namespace(M).linalg.svd(M, full_matrices=False)
    return left @ right


def shared_maps(systems: Sequence[Array], method: str, n_components: int | None = None) -> tuple[Array, list[Array]]:
    """Return a space that several systems share, and the map of each into it.

    Parameters
    ----------
    systems : sequence of ndarray or Tensor of float64, (row, column)
        Centred; the same presentations in all. Systems may differ in width.
    method : {"procrustes", "hyperalignment", "srm"}
        The space of the first system; one that all rotate into, as wide as the widest; or one of few dimensions.
    n_components : int, optional
        Dimensions of "srm"; at most the columns and the rank of each system.

    Returns
    -------
    template : ndarray or Tensor of float64, (row, dimension)
    maps : list of ndarray or Tensor of float64, (column, dimension)
        With orthonormal columns or rows. Systems with more columns than rows are mapped from the space that their rows
        span; what new rows have outside it is dropped.

    Notes
    -----
    "hyperalignment" (Haxby et al. 2011; generalised Procrustes, Gower 1975) and "srm" (the deterministic model of Chen et
    al. 2015, X_i ≈ S W_iᵀ) alternate between the same two steps, each map given the template and the template as the mean
    of what is mapped; they differ in the number of dimensions.
    """
    xp = namespace(systems[0])
    compact = [_compact(x) for x in systems]
    rows = [z for z, _ in compact]
    if method == "procrustes":
        template = rows[0]
    elif method == "hyperalignment":
        template = max(rows, key=lambda z: z.shape[1])
    else:
        left, values, _ = xp.linalg.svd(xp.concatenate(rows, 1), full_matrices=False)
        template = (left * values)[:, :n_components]
    turns = [orthogonal_map(z, template) for z in rows]
    if method == "procrustes":
        turns[0] = xp.eye(template.shape[1], dtype=template.dtype, device=template.device)
    agreement = 0.0
    for _ in range(0 if method == "procrustes" else _ROUNDS):
        template = sum(z @ turn for z, turn in zip(rows, turns, strict=True)) / len(rows)
        turns = [orthogonal_map(z, template) for z in rows]
        before, agreement = agreement, float((template * template).sum())
        if agreement - before <= _STILL * agreement:
            break
    return template, [turn if basis is None else basis @ turn for (_, basis), turn in zip(compact, turns, strict=True)]


def _compact(x: Array) -> tuple[Array, Array | None]:
    """Return a system in an orthonormal basis of the space that its rows span, and that basis, where that is smaller."""
    if x.shape[1] <= x.shape[0]:
        return x, None
    coordinates, dual = row_space(x)
    return coordinates, cast(x, "float64").T @ dual


def row_space(x: Array) -> tuple[Array, Array]:
    """Return centred rows in an orthonormal basis B of the space that they span, and what turns them into it.

    Parameters
    ----------
    x : ndarray or Tensor, (row, column)

    Returns
    -------
    coordinates : ndarray or Tensor of float64, (row, k)
        x B, with x = (x B) Bᵀ; k is the rank, or 1.
    dual : ndarray or Tensor of float64, (row, k)
        B = xᵀ dual.
    """
    values, vectors = eigh(row_gram(x))
    keep = values > null_floor(values, x)
    keep[-1] = True
    root = values[keep].clip(np.finfo(np.float64).tiny) ** 0.5
    return vectors[:, keep] * root, vectors[:, keep] / root
