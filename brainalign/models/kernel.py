"""``KernelRidge``: ridge regression in the feature space of a kernel, for what is not linear in the source."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.parameters import check_choice, check_number
from brainalign.engine.backend import move, to_numpy
from brainalign.engine.kernels import KERNELS, KernelFeatures, kernel_matrix, natural_gamma
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LabelledMapping, Values, working_device
from brainalign.models.ridge import Ridge


class KernelRidge(LabelledMapping):
    """Kernel ridge regression with one alpha per target.

    Parameters
    ----------
    kernel : {"linear", "polynomial", "rbf", "cosine"}
        x·y; (γ x·y + c)^degree; exp(−γ‖x − y‖²); x·y / ‖x‖‖y‖.
    alphas : float or sequence of float, optional
        As in :class:`Ridge`, of the features that the kernel stands for. Default: relative to their summed variance.
    gamma : float, optional
        γ. Default: one over the median squared distance between two training rows ("rbf"), or over the mean squared norm
        of a training row ("polynomial").
    degree : int
        Of "polynomial".
    coef0 : float
        c of "polynomial".
    cv, groups, fit_intercept, device, dtype, target_batch
        As in :class:`Ridge`. The kernel and its decomposition are always float64.

    Attributes
    ----------
    gamma_ : float
        The γ that was used.
    dual_coef_ : ndarray, (training row, target)
        A prediction is the kernel with the training rows, less its mean over them, times this, plus the target's mean.
    alpha_, cv_score_, alpha_at_edge_, status_
        As in :class:`Ridge`.

    Notes
    -----
    The centred kernel is decomposed once, K = Z Zᵀ; Z then is a source like any other, so that alphas and folds are those
    of :class:`Ridge`: held-out errors are exact, those of a fit to the training rows of each fold. Scale features that
    have different units first: ``ba.chain(StandardScaler(), ba.KernelRidge())``.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2))
    >>> Y = np.sin(2 * X) + 0.1 * rng.normal(size=(300, 2))
    >>> linear, curved = (model.fit(X, Y).cv_score_.mean() for model in (ba.Ridge(), ba.KernelRidge()))
    >>> bool(linear < 0.5 < 0.9 < curved)
    True
    """

    separate_targets = True
    in_threads = True

    def __init__(
        self,
        kernel: str = "rbf",
        alphas: Any = None,
        gamma: float | None = None,
        degree: int = 3,
        coef0: float = 1.0,
        cv: Any = 5,
        groups: Any = None,
        fit_intercept: bool = True,
        device: str = "cpu",
        dtype: str = "float32",
        target_batch: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.alphas = alphas
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.cv = cv
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.device = device
        self.dtype = dtype
        self.target_batch = target_batch

    @property
    def dual_coef_(self) -> Values:
        """Weights of the training rows, (training row, target)."""
        return to_numpy(self._decomposed.projection) @ self._ridge.coef_

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        check_choice("kernel", self.kernel, KERNELS, owner="KernelRidge")
        if self.gamma is not None:
            check_number("gamma", self.gamma, owner="KernelRidge", low=0.0, low_open=True)
        check_number("degree", self.degree, owner="KernelRidge", low=1, integer=True)
        check_number("coef0", self.coef0, owner="KernelRidge", low=0.0)
        self._rows = move(x, working_device(self.device, owner="KernelRidge"))
        self.gamma_ = float(natural_gamma(self._rows, self.kernel) if self.gamma is None else self.gamma)
        self._decomposed = KernelFeatures.of(self._kernel_with(self._rows), centred=self.fit_intercept)
        choose = np.size(self.alphas) > 1 or self.alphas is None
        self._ridge = Ridge(
            alphas=self.alphas,
            cv=inner_splits(self.cv, self.groups, len(y), rows) if choose else self.cv,
            fit_intercept=self.fit_intercept,
            device=self.device,
            dtype=self.dtype,
            target_batch=self.target_batch,
        ).fit(to_numpy(self._decomposed.values), y)
        self.alpha_, self.alpha_at_edge_ = self._ridge.alpha_, self._ridge.alpha_at_edge_
        self.cv_score_, self.status_ = self._ridge.cv_score_, self._ridge.status_

    def _predict_values(self, x: Values) -> Values:
        kernel = self._kernel_with(move(x, working_device(self.device, owner="KernelRidge")))
        return self._ridge.predict(to_numpy(self._decomposed.of_new(kernel)))

    def _kernel_with(self, x: Any) -> Any:
        return kernel_matrix(x, self._rows, self.kernel, gamma=self.gamma_, degree=self.degree, coef0=self.coef0)
