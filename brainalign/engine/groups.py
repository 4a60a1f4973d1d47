"""Sums of rows by group: conditions, or the conditions of each fold."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from brainalign.engine.moments import Numbers


def group_sums(values: Numbers, codes: Numbers, n_groups: int) -> tuple[Numbers, Numbers]:
    """Return the sum of the rows of each group, and how many there are.

    Parameters
    ----------
    values : ndarray, (row, ...)
    codes : ndarray of int, (row,)
        Group of each row, from 0.
    n_groups : int

    Returns
    -------
    sums : ndarray of float64, (group, ...)
        0 for a group without rows. Where every group has one row they are the values, in their own dtype; in order, no copy.
    counts : ndarray of int, (group,)

    Examples
    --------
    >>> group_sums(np.array([[1.0], [2.0], [4.0]]), np.array([0, 2, 0]), 3)
    (array([[5.],
           [0.],
           [2.]]), array([2, 0, 1]))
    """
    counts = np.bincount(codes, minlength=n_groups)
    if (counts == 1).all():
        in_order = (codes[1:] > codes[:-1]).all()
        return values if in_order else values[np.argsort(codes)], counts
    if counts.max(initial=0) <= 1:
        alone = np.zeros((n_groups, *values.shape[1:]))
        alone[codes] = values
        return alone, counts
    order, ends = np.argsort(codes, kind="stable"), np.r_[0, np.cumsum(counts)]
    weights = sparse.csr_array((np.ones(len(codes)), order, ends), shape=(n_groups, len(codes)))
    sums = weights @ values.reshape(len(codes), -1).astype(np.float64, copy=False)
    return sums.reshape(n_groups, *values.shape[1:]), counts
