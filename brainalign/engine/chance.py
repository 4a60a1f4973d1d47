"""p-values of scores that come block by block: no more of the null is kept than the highest score of each permutation."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers
from brainalign.engine.resample import false_discovery_rate, p_of_the_maximum, p_values

_ROUNDING = 1e-9  # scores that differ by less come from one arrangement of the rows, summed in another order


class Chance:
    """p-values of many scores, alone and among all of them.

    Parameters
    ----------
    shape : tuple of int
        Of all scores; blocks lie along the first axis.
    n_permutations : int

    Examples
    --------
    >>> chance = Chance((2,), 3)
    >>> chance.add(slice(0, 1), np.array([2.0]), np.array([[1.0], [0.0], [-1.0]]))
    >>> chance.add(slice(1, 2), np.array([0.5]), np.array([[1.0], [0.0], [3.0]]))
    >>> {name: p.tolist() for name, p in chance.found().items()}
    {'p_value': [0.25, 0.75], 'p_value_fdr': [0.5, 0.75], 'p_value_max': [0.5, 0.75]}
    """

    def __init__(self, shape: tuple[int, ...], n_permutations: int) -> None:
        self._p, self._observed = np.full(shape, np.nan), np.full(shape, np.nan)
        self._highest = np.full(n_permutations, -np.inf)

    def add(self, at: slice, observed: Numbers, null: Numbers, scale: Numbers | float = 1.0) -> None:
        """Take in one block.

        Parameters
        ----------
        at : slice
        observed : ndarray, (block, ...)
            Higher where there is more to find.
        null : ndarray, (permutation, block, ...)
        scale : ndarray or float
            By which scores are multiplied before they are compared with each other.
        """
        self._p[at] = p_values(observed - _ROUNDING, null)
        self._observed[at] = observed * scale
        scaled = null * scale
        highest = np.where(np.isnan(scaled), -np.inf, scaled).reshape(len(null), -1).max(axis=1, initial=-np.inf)
        np.maximum(self._highest, highest, out=self._highest)

    def found(self) -> dict[str, Numbers]:
        """Return the p-values by what results call them.

        Returns
        -------
        dict of str to ndarray
            ``p_value``, ``p_value_fdr`` over all scores, and ``p_value_max`` against the highest of each permutation.
        """
        among = p_of_the_maximum(self._observed - _ROUNDING, self._highest[:, None])
        return {"p_value": self._p, "p_value_fdr": false_discovery_rate(self._p), "p_value_max": among}
