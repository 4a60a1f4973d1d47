"""``PLS``: linear mappings through a few components that source and target share."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice
from brainalign.engine.moments import column_status
from brainalign.engine.pls import solve_pls
from brainalign.engine.solvers import Splits
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LinearMapping, Values, working_device

#: As far as the default looks: what Brain-Score uses.
MOST_COMPONENTS = 25


class PLS(LinearMapping):
    """Partial least squares regression, with a number of components for each target.

    Parameters
    ----------
    n_components : int, sequence of int, or None
        With an int, nothing is chosen. Otherwise the candidates that are compared on inner folds; default all from 1 to
        25, or as many as the source and the training rows of the folds allow.
    cv : int, Folds or list of (train, test)
        Inner folds, within the rows given to ``fit``.
    groups : str or sequence, (presentation,), optional
        Presentation coordinate, or labels, that inner folds keep together; see :class:`Ridge`.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    dtype : {"float32", "float64"}
        Of products over targets; components are found in float64.

    Attributes
    ----------
    n_components_ : ndarray of int, (target,)
        0 for degenerate targets.
    coef_ : ndarray, (feature, target)
        0 for features that are left out, NaN for targets that are NaN.
    intercept_ : ndarray of float64, (target,)
    cv_score_ : ndarray of float64, (target,)
        R² over the inner folds, as :class:`Ridge` has it. NaN without a choice.
    status_ : ndarray of str, (target,)
        ``"ok"``, or ``"constant"`` or ``"nan"`` in the training rows; predictions of the latter two are NaN.

    Notes
    -----
    PLS2 with neither side scaled: ``PLSRegression(scale=False)`` of scikit-learn, Brain-Score's default mapping. All
    targets share the components, and weigh in by their variance: fit targets of different units apart, or bring them
    to one scale first. Every first k components are a model, so one decomposition a fold serves all candidates:
    :mod:`brainalign.engine.pls`. Of two numbers that tie, the smaller is chosen.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> hidden = rng.normal(size=(100, 2))
    >>> X = hidden @ rng.normal(size=(2, 20)) + 0.1 * rng.normal(size=(100, 20))
    >>> Y = hidden @ rng.normal(size=(2, 3)) + 0.1 * rng.normal(size=(100, 3))
    >>> model = ba.PLS().fit(X, Y)
    >>> bool((model.cv_score_ > 0.9).all()), model.coef_.shape
    (True, (20, 3))
    """

    in_threads = True

    def __init__(
        self, n_components: Any = None, cv: Any = 5, groups: Any = None, device: str = "cpu", dtype: str = "float32"
    ) -> None:
        self.n_components = n_components
        self.cv = cv
        self.groups = groups
        self.device = device
        self.dtype = dtype

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        check_choice("dtype", self.dtype, ("float32", "float64"), owner="PLS")
        self.status_ = column_status(y)
        ok = self.status_ == "ok"
        chooses = self.n_components is None or np.size(self.n_components) > 1
        splits = inner_splits(self.cv, self.groups, len(y), rows) if chooses and ok.any() else None
        candidates = self._candidates(x, splits)
        solution = solve_pls(
            x, y if ok.all() else y[:, ok], candidates, splits, device=working_device(self.device, owner="PLS"), dtype=self.dtype
        )
        self._allocate(y)
        self.n_components_ = np.zeros(y.shape[1], dtype=np.int64)
        self.n_components_[ok] = solution.n_components
        if solution.heldout_r2 is not None:
            self.cv_score_[ok] = np.take_along_axis(solution.heldout_r2, solution.n_components[None, :] - 1, axis=0)[0]
        self._source_mean = solution.source_mean
        self._target_mean[ok] = solution.target_mean
        self.coef_[np.ix_(self.features_used_, ok)] = solution.coef
        self.intercept_[ok] = solution.target_mean - solution.source_mean @ solution.coef.astype(np.float64)

    def _candidates(self, x: Values, splits: Splits | None) -> Values:
        """Return the numbers of components to compare, ascending."""
        n_rows = len(x) if splits is None else min(len(train) for train, _ in splits)
        most = min(x.shape[1], n_rows - 1)
        if self.n_components is None:
            return np.arange(1, max(1, min(MOST_COMPONENTS, most)) + 1)
        found = np.unique(self.n_components)
        if found.dtype.kind not in "iu" or found.size == 0 or found[0] < 1 or found[-1] > most:
            raise ParameterError(
                f"The 'n_components' parameter of PLS must be None, or whole numbers from 1 to {most} (the source has {x.shape[1]} "
                f"features, the smallest training set {n_rows} rows). Got {self.n_components!r} instead."
            )
        return found
