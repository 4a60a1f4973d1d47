"""``LatentDecoder``: several embeddings of the stimuli at once, decoded from one factorisation of a recording."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, TransductiveWarning
from brainalign.core.parameters import check_choice
from brainalign.engine.factor import fixed_ridge
from brainalign.engine.moments import known_mean
from brainalign.engine.retrieval import match_spread
from brainalign.engine.screening import best
from brainalign.engine.solvers import RidgeSolution, RidgeSource
from brainalign.features.bands import band_labels, bands
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import Values, working_device
from brainalign.models.ridge import Ridge


class LatentDecoder(Ridge):
    """Ridge regression from one source to several named latents, such as pixels, an image embedding and a text embedding.

    Parameters
    ----------
    alphas : float or sequence of float, optional
        As in :class:`Ridge`.
    latents : str
        The neuroid coordinate of the target that names the latents: ``"band"``, which :func:`bands` makes; ``"layer"``, to decode those of
        a network. Without ``"band"`` the target is one latent.
    alpha_per : {"latent", "neuroid"}
        What has an alpha of its own. A latent's has the best held-out R² of its dimensions in the mean.
    rescale : {"none", "train", "test"}
        A penalty shrinks predictions, most where little is known, and what generates from latents expects their natural spread. Give every
        dimension the mean and the deviation that it has in training: by the spread of held-out predictions of the training rows; or by that
        of the very rows given to ``predict``, as is done in the literature, whose predictions then depend on each other. Warned of.
    standardize : {"none", "train", "train_fold"}
    cv, groups, fit_intercept, device, dtype, target_batch, max_memory, criterion, random_state
        As in :class:`Ridge`.

    Attributes
    ----------
    latents_ : ndarray of str, (latent,)
    alpha_, coef_, intercept_, cv_score_, status_
        As in :class:`Ridge`, one entry per target; what ``rescale="train"`` does is in ``coef_`` and ``intercept_``. Under ``"test"``
        there is no ``intercept_``, for predictions are no affine map of their row.

    Raises
    ------
    CapabilityError
        In ``predict``: a single row, of whose spread ``rescale="test"`` would know nothing.

    Warns
    -----
    TransductiveWarning
        In ``predict`` under ``rescale="test"``.

    Notes
    -----
    The target is a dict of recordings, and ``predict`` then returns one, as generators take it; or these joined by :func:`bands`, which goes to
    :func:`evaluate` and :func:`identify`, whose results then carry the coordinate ``band``. Either way the source is decomposed once for all
    alphas, folds and dimensions of all latents. The regressions of Ozcelik and VanRullen 2023 and of Ferrante et al. 2023 are
    ``LatentDecoder(alpha, rescale="test")``.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=80, n_repeats=1, random_state=0)
    >>> network, brain, _ = ba.align(study.network, study.brain)
    >>> layers = {name: network[:, network.layer == name] for name in np.unique(network.layer)[:2]}
    >>> decoded = ba.LatentDecoder().fit(brain[:60], {name: x[:60] for name, x in layers.items()}).predict(brain[60:])
    >>> list(decoded) == list(layers), decoded["layer1"].shape == layers["layer1"][60:].shape
    (True, True)
    """

    search, verify, sample_weight, nan_policy, alpha_scale = "screen", 0.0, None, "omit_target", "none"

    def __init__(
        self,
        alphas: Any = None,
        latents: str = "band",
        alpha_per: str = "latent",
        rescale: str = "none",
        standardize: str = "train",
        cv: Any = 5,
        groups: Any = None,
        fit_intercept: bool = True,
        device: str = "cpu",
        dtype: str = "float32",
        target_batch: int | None = None,
        max_memory: float | None = None,
        criterion: str = "r2",
        random_state: Any = None,
    ) -> None:
        self.alphas = alphas
        self.latents = latents
        self.alpha_per = alpha_per
        self.rescale = rescale
        self.standardize = standardize
        self.cv = cv
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.device = device
        self.dtype = dtype
        self.target_batch = target_batch
        self.max_memory = max_memory
        self.criterion = criterion
        self.random_state = random_state

    @property
    def separate_targets(self) -> bool:  # type: ignore[override]
        """True where each has an alpha of its own."""
        return self.alpha_per == "neuroid"

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn to predict latents from ``X``.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
        Y : dict of str to DataArray (presentation, neuroid), or one DataArray or ndarray
            Latents by name, of the same presentations; the rows of the first are those of ``X``.

        Returns
        -------
        self
        """
        check_choice("alpha_per", self.alpha_per, ("latent", "neuroid"), owner="LatentDecoder")
        check_choice("rescale", self.rescale, ("none", "train", "test"), owner="LatentDecoder")
        self._names: dict[str, Any] | None = None
        joined = Y
        if isinstance(Y, Mapping):
            joined, self._names = bands(**Y), {name: y.coords["neuroid_id"].values for name, y in Y.items()}
        name: Any = "band" if isinstance(Y, Mapping) else self.latents
        if name == "band" and "band" not in getattr(joined, "coords", ()):
            name = np.zeros(int(np.prod(np.shape(joined)[1:])), dtype=np.int64)  # one latent
        self.latents_, self._latent_of = band_labels(name, joined, owner="LatentDecoder")
        return super().fit(X, joined)

    def predict(self, X: Any) -> Any:
        """Predict the latents.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])

        Returns
        -------
        dict of str to DataArray, or DataArray or ndarray
            As was given to ``fit``; for plain arrays, latents side by side.
        """
        out = super().predict(X)
        if self._names is None or not isinstance(out, xr.DataArray):
            return out
        labels = out.coords["band"].values
        return {
            name: out[:, labels == name].assign_coords(neuroid_id=("neuroid", ids)).drop_vars("band")
            for name, ids in self._names.items()
        }

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        super()._fit_values(x, y, rows)
        if self.rescale == "train":
            self._stretch(*self._by_held_out(x, y, rows))
        elif self.rescale == "test":
            mean, spread = y.mean(axis=0, dtype=np.float64), y.std(axis=0, dtype=np.float64)
            self._natural = np.stack([mean - spread, mean + spread])  # two rows with the moments of all
            del self.intercept_  # not the affine map that it would be taken for

    def _by_held_out(self, x: Values, y: Values, rows: xr.DataArray | None) -> tuple[Values, Values]:
        """Return gain and offset of each target, by predictions of training rows that were left out."""
        x, held = x / self._scale, []
        options: dict[str, Any] = {"fit_intercept": self.fit_intercept, "dtype": self.dtype}
        options["device"] = working_device(self.device, owner="LatentDecoder")
        for train, test in inner_splits(self.cv, self.groups, len(y), rows):
            predicted = fixed_ridge(x[train], x[test], **options).predict(y[train], np.nan_to_num(self.alpha_))
            held.append(predicted - y[train].mean(axis=0, dtype=np.float64))  # the means of folds differ, which is no spread
        fitted = self.status_ == "ok"
        gain, offset = match_spread(np.concatenate(held) + y.mean(axis=0, dtype=np.float64), y)
        return np.where(fitted, gain, 1.0), np.where(fitted, offset, 0.0)

    def _stretch(self, gain: Values, offset: Values) -> None:
        """Multiply and move what is predicted."""
        if self._rows is None:
            self.coef_ = (self.coef_ * gain).astype(self.dtype)
        else:
            self._dual = (self._dual * gain).astype(self.dtype)
        self.intercept_ = self.intercept_ * gain + offset
        self._target_mean = self._target_mean * gain + offset

    def _predict_values(self, x: Values) -> Values:
        out = super()._predict_values(x)
        if self.rescale != "test":
            return out
        if len(out) < 2:
            raise CapabilityError(
                "LatentDecoder(rescale='test') got a single row, of whose spread it knows nothing. Expected several, or rescale='train'."
            )
        warnings.warn(
            f"LatentDecoder rescaled {len(out)} predictions by their own mean and deviation, so that each depends on all others. Expected "
            "rescale='train' for a claim about single presentations.",
            TransductiveWarning,
            stacklevel=4,
        )
        gain, offset = match_spread(out, self._natural)
        return np.asarray((out * gain + offset).astype(self.dtype))

    def _solve(self, source: RidgeSource, y: Values, alphas: Values, targets: Values) -> RidgeSolution:
        if self.alpha_per == "neuroid" or len(alphas) == 1:
            return super()._solve(source, y, alphas, targets)
        options: dict[str, Any] = {"search": "all", "target_batch": self.target_batch}
        solution, latent_of = source.solve(y, alphas, **options), self._latent_of[targets]
        index, decided = solution.alpha_index.copy(), replace(source, held=None)
        for code in np.unique(latent_of):
            mine = latent_of == code
            curve = known_mean(np.asarray(solution.heldout_score)[:, mine], axis=1)
            index[mine] = chosen = best(-curve[:, None])
            other = mine & (solution.alpha_index != chosen)
            solution.weights[:, other] = decided.solve(y[:, other], alphas[chosen], **options).weights
        return replace(solution, alpha_index=index)
