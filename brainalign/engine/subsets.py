"""Many subsets of the columns of one source: each is decomposed from the Gram matrix of the whole, which is formed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from brainalign.engine.backend import Array, cast, columns_of, rows_of, sum_of_products, to_numpy
from brainalign.engine.factor import RidgeFactor, decompose, intercept_direction
from brainalign.engine.gram import column_gram, column_mean, row_gram, standardised
from brainalign.engine.moments import Numbers
from brainalign.engine.ridge_folds import Splits
from brainalign.engine.solvers import smallest_fit

_MOST_REMOVED = 0.1  # of the variance: where more is subtracted, the rounding of what is left shows in its null directions


@dataclass(frozen=True)
class Subsets:
    """A source whose columns are left out now and then.

    Attributes
    ----------
    mean : array of float64, (column,)
        Zeros without an intercept.
    centred : array, (row, column)
        In the working dtype.
    constant : array of float64, (row,), or None
        Direction of the intercept.
    smallest : int
        Rows of the smallest fit; with as many columns, a subset is decomposed in the dual form.
    """

    mean: Array
    centred: Array
    constant: Array | None
    smallest: int

    @classmethod
    def of(cls, X: Array, splits: Splits | None = None, *, fit_intercept: bool = True, dtype: str = "float32") -> Subsets:
        """Centre a source.

        Parameters
        ----------
        X : ndarray or Tensor, (row, column)
            Finite.
        splits : sequence of (train rows, test rows), optional
            The folds on which alphas will be compared.
        fit_intercept : bool
        dtype : {"float32", "float64"}

        Returns
        -------
        Subsets
        """
        mean = column_mean(X) if fit_intercept else 0 * cast(X[0], "float64")
        constant = intercept_direction(X) if fit_intercept else None
        return cls(mean, standardised(X, mean, dtype), constant, smallest_fit(len(X), splits))

    @cached_property
    def squares(self) -> Numbers:
        """Σx² of each centred column, float64."""
        return to_numpy(sum_of_products(self.centred, self.centred))

    @cached_property
    def rows(self) -> Array:
        """XcXcᵀ, float64."""
        return row_gram(self.centred)

    @cached_property
    def columns(self) -> Array:
        """XcᵀXc, float64."""
        return column_gram(self.centred)

    def factor(self, kept: Numbers) -> RidgeFactor:
        """Decompose some of the columns.

        Parameters
        ----------
        kept : ndarray of bool, (column,)

        Returns
        -------
        RidgeFactor
            As :func:`brainalign.engine.factor.factorise` makes it of these columns.

        Notes
        -----
        Primal: the rows and columns of XcᵀXc that are kept. Dual: XcXcᵀ − X_J X_Jᵀ, with J what is left out, which costs
        2 n² |J| flops where a new product would cost 2 n² (p − |J|). The decomposition itself is made anew: about 9 k³.
        """
        some, others = np.flatnonzero(kept), np.flatnonzero(~kept)
        part, dual = columns_of(self.centred, some), len(some) >= self.smallest
        gram = None
        if not dual:
            gram = columns_of(rows_of(self.columns, some), some)
        elif self.squares[others].sum() <= _MOST_REMOVED * self.squares.sum():
            gram = self.rows - row_gram(columns_of(self.centred, others))
        return decompose(part, rows_of(self.mean, some), self.constant, dual, gram)
