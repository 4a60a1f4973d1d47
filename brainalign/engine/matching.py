"""Neuroids of one system matched with those of another: one to one, in shares, or each with its best."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import csr_array

from brainalign.engine.moments import Numbers, deviations

_COPIES = 4000  # rows up to which a transport is solved as an assignment of copies
_NEAREST = 10  # pairs of each row and column that are added to a transport at a time
_SLACK = 1e-10  # of the largest cost, by which a pair that is left out may be too dear: the bound on the error


def unit_columns(x: Numbers) -> Numbers:
    """Return columns centred and of length 1, so that products are correlations; columns that do not vary are left out.

    Parameters
    ----------
    x : ndarray, (row, column)

    Returns
    -------
    ndarray of float64, (row, k)
    """
    centred = deviations(x)
    norms = np.sqrt((centred * centred).sum(axis=0))
    return np.asarray(centred[:, norms > 0] / norms[norms > 0])


def assigned_product(a: Numbers, b: Numbers) -> float:
    """Return the largest Σ a·b_π that an order π of the columns of ``b`` can make.

    Parameters
    ----------
    a, b : ndarray, (row, column)
        The narrower one is filled up with columns of zeros, which here means that columns of the wider one stay alone.

    Returns
    -------
    float
        NaN where a product is not finite.
    """
    products = a.T @ b
    return np.nan if not np.isfinite(products).all() else float(products[linear_sum_assignment(products, maximize=True)].sum())


def transport_cost(cost: Numbers) -> float:
    """Return the least Σ P·cost over couplings P of rows and columns, all rows of one weight and all columns of one weight.

    Parameters
    ----------
    cost : ndarray, (row, column)

    Returns
    -------
    float
        Exact: an assignment where copies of rows and columns are few, a linear programme elsewhere.

    Raises
    ------
    ArithmeticError
        The linear programme was not solved.

    Notes
    -----
    The programme starts with the cheapest pairs of each row and column. Those that its dual finds too cheap to be left out are added
    until there are none, which proves the optimum of all p·q pairs from some ten for each row and column.
    """
    p, q = cost.shape
    copies = int(np.lcm(p, q))
    if copies <= max(_COPIES, p, q):
        repeated = cost.repeat(copies // p, axis=0).repeat(copies // q, axis=1)
        return float(repeated[linear_sum_assignment(repeated)].mean())
    scale = float(np.abs(cost).max()) or 1.0
    dear = cost / scale
    chosen = _cheapest(dear)
    corners = np.union1d(np.arange(p) * q, np.arange(q) * p)  # the staircase along which a plan always exists
    chosen[corners // q, corners // p] = True
    while True:
        value, row_price, column_price = _priced(dear, chosen)
        reduced = np.where(chosen, 0.0, dear - row_price[:, None] - column_price)
        if (reduced >= -_SLACK).all():
            return value * scale
        chosen |= _cheapest(reduced) & (reduced < -_SLACK)


def _cheapest(cost: Numbers) -> Numbers:
    """Return which pairs are among the cheapest of their row or column."""
    out = np.zeros(cost.shape, dtype=bool)
    for axis in (0, 1):
        k = min(_NEAREST, cost.shape[axis])
        np.put_along_axis(out, np.argpartition(cost, k - 1, axis=axis).take(range(k), axis=axis), True, axis=axis)
    return out


def _priced(cost: Numbers, chosen: Numbers) -> tuple[float, Numbers, Numbers]:
    """Return the least cost over the chosen pairs, and the prices of rows and columns that prove it."""
    p, q = cost.shape
    rows, columns = np.nonzero(chosen)
    n = len(rows)
    sums = csr_array((np.ones(2 * n), (np.r_[rows, p + columns], np.tile(np.arange(n), 2))), shape=(p + q, n))
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    # Whole numbers, p q to be moved in all, so that corners of the programme are exact.
    found = linprog(cost[rows, columns], A_eq=sums, b_eq=np.repeat([q, p], [p, q]), method="highs-ds", options=tight)
    if found.status != 0:
        raise ArithmeticError(
            f"The transport between {p} and {q} neuroids was not solved: {found.message} Expected finite costs."
        )
    prices = found.eqlin.marginals
    return found.fun / (p * q), prices[:p], prices[p:]


def soft_product(a: Numbers, b: Numbers) -> float:
    """Return the largest Σ P_ij a_i·b_j that a coupling of uniform weights can make (soft matching, Khosla and Williams 2024).

    Parameters
    ----------
    a, b : ndarray, (row, column)

    Returns
    -------
    float
        NaN where a side has no columns.
    """
    return -transport_cost(-(a.T @ b)) if a.shape[1] and b.shape[1] else np.nan


def soft_distance(a: Numbers, b: Numbers) -> float:
    """Return √ of the least Σ P_ij ‖a_i − b_j‖² over couplings of uniform weights: a metric, whatever the two widths.

    Parameters
    ----------
    a, b : ndarray, (row, column)

    Returns
    -------
    float
        NaN where a side has no columns.
    """
    squares = (a * a).sum(axis=0).mean() + (b * b).sum(axis=0).mean() if a.shape[1] and b.shape[1] else np.nan
    return float(np.sqrt(np.maximum(squares - 2 * soft_product(a, b), 0.0)))


def best_match(a: Numbers, b: Numbers) -> float:
    """Return the mean product of each column with the best of the other side, averaged over both sides.

    Parameters
    ----------
    a, b : ndarray, (row, column)

    Returns
    -------
    float
        NaN where a side has no columns.
    """
    if not a.shape[1] or not b.shape[1]:
        return np.nan
    products = a.T @ b
    return float((products.max(axis=1).mean() + products.max(axis=0).mean()) / 2)
