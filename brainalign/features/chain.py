"""``chain``: the one composition of feature steps and a mapping that goes to ``evaluate``, ``fit`` and ``readout``.

Three kinds of steps meet here. A *presentation step* (:class:`Delay`, :class:`WordsToVolumes`) only mixes
presentations and is a set of sparse matrices. A *stateless step* (:class:`Clean`, :class:`ZScore`) works within
runs on labels. A *fitted step* is any scikit-learn transformer; it sees training rows only, and where it stands
before a presentation step, its training rows are those that reach a training row of the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator, ClassifierMixin, OneToOneFeatureMixin, RegressorMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectorMixin

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.protocols import PresentationStep
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of
from brainalign.features.flat import flat, flat_labels, relabelled
from brainalign.features.mixing import mix_responses, table_of
from brainalign.features.per_band import PerBand

Rows = np.ndarray[Any, Any] | None


def chain(*steps: Any) -> Chain:
    """Compose feature steps and a mapping into one estimator.

    Parameters
    ----------
    *steps : estimators
        Feature steps, scikit-learn transformers, and a mapping (``fit``/``predict``) in the last place; or one chain, which is
        returned as it is.

    Returns
    -------
    Chain

    Raises
    ------
    ParameterError
        A step cannot transform, is a class or has no `get_params`, or the last one cannot predict.

    Examples
    --------
    >>> import brainalign as ba
    >>> from sklearn.preprocessing import StandardScaler
    >>> study = ba.simulate(n_stimuli=60, n_repeats=1, random_state=0)
    >>> network, brain, report = ba.align(study.network, study.brain)
    >>> model = ba.chain(StandardScaler(), ba.Reduce(10), ba.Ridge()).fit(network, brain)
    >>> model.predict(network).shape == brain.shape
    True
    """
    if len(steps) == 1 and isinstance(steps[0], Chain):
        return steps[0]
    for step in steps:
        if isinstance(step, type):
            raise ParameterError(f"chain holds the class {step.__name__}. Expected an estimator: write `{step.__name__}(...)`.")
        if not hasattr(step, "get_params"):
            raise ParameterError(
                f"chain holds {type(step).__name__}, which has no `get_params`. Expected an estimator that can be made anew for every fold, "
                f"and named in the provenance: `class {type(step).__name__}(sklearn.base.BaseEstimator)`, whose constructor only stores."
            )
    if not steps or not hasattr(steps[-1], "predict"):
        last = type(steps[-1]).__name__ if steps else "nothing"
        raise ParameterError(
            f"chain ends in {last}, which has no `predict`. Expected a mapping in the last place: add `ba.Ridge()`."
        )
    for step in steps[:-1]:
        if not hasattr(step, "transform"):
            raise ParameterError(
                f"chain holds {type(step).__name__}, which has no `transform`. Expected transformers: move the mapping to the last place."
            )
    return Chain(tuple(steps))


class Chain(BaseEstimator):
    """Feature steps and a mapping, fitted together; made by :func:`chain`.

    Parameters
    ----------
    steps : tuple of estimators

    Attributes
    ----------
    steps_ : tuple
        The fitted steps, mapping last.
    presentations_ : DataFrame
        The target's presentations seen in ``fit``; ``predict`` answers for them unless told otherwise.
    source_neuroids_ : dict of str to ndarray
        The neuroid coordinates of the features that the chain was fitted on.
    """

    def __init__(self, steps: tuple[Any, ...]) -> None:
        self.steps = steps

    @property
    def retimes(self) -> bool:
        """True where the rows of the features become the target's presentations (words to volumes)."""
        return any(is_mixing(step) and step.retimes for step in self.steps)

    @property
    def mixes(self) -> bool:
        """True where any step combines several presentations into one."""
        return any(is_mixing(step) for step in self.steps) or hasattr(self.steps[-1], "reach_s")

    @property
    def reach_s(self) -> tuple[float, float]:
        """How far before and after an onset the presentation steps, and a mapping with lags of its own, look in all, in seconds."""
        reaches = [
            step.reach_s for step in self.steps if is_mixing(step) or (step is self.steps[-1] and hasattr(step, "reach_s"))
        ]
        return sum(before for before, _ in reaches), sum(after for _, after in reaches)

    @property
    def is_classifier(self) -> bool:
        """True where the mapping predicts labels."""
        last = self.steps[-1]
        return bool(getattr(last, "is_classifier", False)) or (hasattr(last, "__sklearn_tags__") and is_classifier(last))

    @property
    def separate_targets(self) -> bool:
        """True where each target is fitted as if it were the only one: by the mapping, and with steps that look at none."""
        alone = bool(getattr(self.steps[-1], "separate_targets", False))
        return alone and not any(isinstance(step, (SelectorMixin, RegressorMixin, ClassifierMixin)) for step in self.steps[:-1])

    @property
    def in_threads(self) -> bool:
        """True where several fits may run in threads at once: steps of scikit-learn and of ours, and a mapping that says so."""
        known = {type(step).__module__.partition(".")[0] for step in self.steps[:-1]} <= {"brainalign", "sklearn"}
        last = self.steps[-1]
        return known and bool(getattr(last, "in_threads", False)) and getattr(last, "device", "cpu") == "cpu"

    def __getattr__(self, name: str) -> Any:
        # Learned state of the mapping (alpha_, coef_, status_, classes_) reads through the chain.
        if name.endswith("_") and not name.startswith("_") and "steps_" in self.__dict__ and name != "steps_":
            return getattr(self.steps_[-1], name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def prepare(self, X: xr.DataArray, Y: xr.DataArray | pd.DataFrame, *, centre: bool = False) -> tuple[xr.DataArray, Chain]:
        """Run the leading steps that learn nothing, once for all folds.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time])
        Y : DataArray or DataFrame
            The target, or its presentation table.
        centre : bool
            Subtract the mean of each sampled feature before a step that pads with zeros, so that the padding is that mean.

        Returns
        -------
        prepared : DataArray
        rest : Chain
            What is left to fit.
        """
        table = table_of(Y)
        n = next((i for i, step in enumerate(self.steps) if not (is_mixing(step) or is_stateless(step))), len(self.steps))
        for step in self.steps[:n]:
            if centre and is_mixing(step):
                centre = not step.retimes  # made of events, 0 is a true value: there was none
                X = _centred(X) if centre else X
            X = step.transform(X, table) if is_mixing(step) else step.transform(X)
        return X, Chain(self.steps[n:])

    def fit(self, X: Any, Y: Any, rows: Rows = None) -> Chain:
        """Fit every step that learns, and the mapping, on training rows.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
        Y : DataArray or ndarray, (presentation, neuroid[, time])
            Its rows correspond to those of ``X`` after the presentation steps.
        rows : ndarray of int, optional
            Training rows of ``Y``; default all.

        Returns
        -------
        Chain

        Raises
        ------
        AlignmentError
            The rows do not correspond.
        ParameterError
            A step needs labels and plain arrays were given.
        """
        self._check_labels(X)
        labelled = isinstance(X, xr.DataArray)
        self.presentations_ = table_of(Y) if isinstance(Y, xr.DataArray) else None
        self.source_neuroids_ = coords_of(X, "neuroid") if labelled else {}
        matrices = self._matrices(X, self.presentations_)
        masks = _training_masks(matrices, rows, len(X), len(Y))
        fitted = []
        for step, mixing, mask in zip(self.steps[:-1], matrices, masks, strict=True):
            if not is_mixing(step) and not is_stateless(step):
                step = _for_bands(clone(step), X)
                block = X if mask is None else X[mask]
                labels = _labels_for(step, len(X), Y, mask, rows)
                step.fit(block if _reads_labels(step) else flat(block), *labels)
            fitted.append(step)
            X = _transform(step, X, mixing, self.presentations_)
        if len(X) != len(Y):
            raise AlignmentError(
                f"chain got {len(X)} source and {len(Y)} target presentations after its presentation steps. Expected one row a "
                "presentation on both sides: join them with `ba.align`, or let `ba.evaluate` do it."
            )
        take = slice(None) if rows is None else rows
        self.steps_ = (*fitted, clone(self.steps[-1]).fit(X[take], Y[take]))
        return self

    def predict(self, X: Any, presentations: Any = None, rows: Rows = None) -> Any:
        """Predict the target.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
        presentations : DataArray, Dataset or DataFrame, optional
            Where the chain retimes: the presentations to predict. Default: those seen in ``fit``.
        rows : ndarray of int, optional
            Only these rows of the output.

        Returns
        -------
        DataArray or ndarray
            Labelled like the target of ``fit``.
        """
        X = self.transform(X, presentations)
        return self.steps_[-1].predict(X if rows is None else X[rows])

    def transform(self, X: Any, presentations: Any = None) -> Any:
        """Return what the mapping sees: ``X`` after every fitted feature step.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
        presentations : DataArray, Dataset or DataFrame, optional

        Returns
        -------
        DataArray or ndarray
        """
        if not hasattr(self, "steps_"):
            raise NotFittedError(
                "This chain is not fitted yet. Call `fit(X, Y)` before `predict`, or score it with `ba.evaluate`."
            )
        self._check_labels(X)
        table = self.presentations_ if presentations is None else table_of(presentations)
        for step, mixing in zip(self.steps_[:-1], self._matrices(X, table), strict=True):
            X = _transform(step, X, mixing, table)
        return X

    def _check_labels(self, X: Any) -> None:
        needy = [type(step).__name__ for step in self.steps if is_mixing(step) or is_stateless(step)]
        if needy and not isinstance(X, xr.DataArray):
            raise ParameterError(
                f"chain got a plain {type(X).__name__}, but {needy[0]} needs onsets and runs. Expected responses: build them with "
                "`ba.responses(..., onset_s=..., run=...)`."
            )

    def _matrices(self, X: Any, target: pd.DataFrame | None) -> list[list[Any] | None]:
        if not self.mixes:
            return [None] * (len(self.steps) - 1)
        found: list[list[Any] | None] = []
        table = table_of(X)
        for step in self.steps[:-1]:
            found.append(step.mixing(table, target) if is_mixing(step) else None)
            if is_mixing(step) and step.retimes and target is not None:
                table = target
        return found


def is_mixing(step: Any) -> bool:
    """Return True for a step that is a set of matrices over presentations.

    Parameters
    ----------
    step : estimator

    Returns
    -------
    bool
    """
    return isinstance(step, PresentationStep) and not is_stateless(step)


def is_stateless(step: Any) -> bool:
    """Return True for a labelled step that learns nothing and runs within runs.

    Parameters
    ----------
    step : estimator

    Returns
    -------
    bool
    """
    return bool(getattr(step, "stateless", False))


def _reads_labels(step: Any) -> bool:
    return bool(getattr(step, "reads_labels", False))


def _for_bands(step: Any, X: Any) -> Any:
    """Return the step itself, or one per band where it would mix the features of several."""
    mixes = not isinstance(step, OneToOneFeatureMixin) and not _reads_labels(step)
    banded = isinstance(X, xr.DataArray) and "band" in X.coords and "time" not in X.dims
    return PerBand(step) if mixes and banded and len(np.unique(X.coords["band"].values)) > 1 else step


def _centred(X: xr.DataArray) -> xr.DataArray:
    """Subtract each feature's mean, so that the zeros before a run's first row are its mean and mark no run's start.

    An intercept takes the mean up in all other rows. Left as they are, features that are constant, or far from 0, predict
    the transient of a recording at the start of its runs.
    """
    return X.copy(data=(X.data - X.data.mean(axis=0, dtype=np.float64)).astype(np.result_type(X.dtype, np.float32)))


def _labels_for(step: Any, n_rows: int, Y: Any, mask: Rows, rows: Rows) -> list[Any]:
    """Return the target's training rows, for a step that may learn from them (a selection of features).

    None where a step that mixes presentations follows: the source rows that reach a training row are then others than
    the training rows, and their targets may be under test.
    """
    same_rows = n_rows == len(Y) if mask is None or rows is None else np.array_equal(mask, np.sort(rows))
    if not same_rows or "y" not in signature(step.fit).parameters:
        return []
    y = flat(Y if mask is None else Y[mask])
    return [y[:, 0] if y.shape[1] == 1 else y]


def _training_masks(matrices: Sequence[list[Any] | None], rows: Rows, n_source: int, n_target: int) -> list[Rows]:
    """Rows that each step may learn from: walked backward from the target's training rows."""
    if rows is None:
        return [None] * len(matrices)
    mask = np.isin(np.arange(n_target), rows)
    masks: list[Rows] = []
    for mixing in reversed(matrices):
        if mixing is not None:
            mask = np.asarray(sum(abs(matrix).T @ mask.astype(np.float64) for matrix in mixing)) > 0
        masks.append(np.flatnonzero(mask))
    return masks[::-1]


def _transform(step: Any, X: Any, mixing: list[Any] | None, table: pd.DataFrame | None) -> Any:
    if mixing is not None:
        return mix_responses(step, mixing, X, table)
    if is_stateless(step) or _reads_labels(step):
        return step.transform(X)
    values = np.asarray(step.transform(flat(X)))
    if not isinstance(X, xr.DataArray):
        return values
    before = flat_labels(X)
    after = before if isinstance(step, OneToOneFeatureMixin) else _new_labels(step, before, values.shape[1])
    return relabelled(X, values, after)


def _new_labels(step: Any, labels: dict[str, np.ndarray[Any, Any]], width: int) -> dict[str, np.ndarray[Any, Any]]:
    """Name features that are mixtures: ``pca/0``; a coordinate survives where it is the same for all."""
    kept = {name: np.full(width, v[0], dtype=v.dtype) for name, v in labels.items() if name != "neuroid_id" and (v == v[0]).all()}
    return {**kept, "neuroid_id": as_labels([f"{type(step).__name__.lower()}/{i}" for i in range(width)])}
