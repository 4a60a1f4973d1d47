"""``Classifier``: mappings from responses to labels."""

from __future__ import annotations

import json
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_number
from brainalign.core.schema import as_labels
from brainalign.models.mapping import LabelledMapping, Values

METHODS = ("lda", "svm", "logistic", "ridge")


class Classifier(LabelledMapping):
    """Predict a label for each presentation.

    Parameters
    ----------
    method : {"lda", "svm", "logistic", "ridge"} or scikit-learn classifier
        Linear discriminant analysis with Ledoit–Wolf shrinkage; a linear support vector machine; logistic regression; ridge
        regression of each class against the rest, in which permuted labels cost next to nothing (:func:`decode_time`). The latter three
        standardise each feature on the training rows, so that its units do not matter. A classifier of your own is used as it is.
    C : float
        Inverse strength of the penalty of ``"svm"`` and ``"logistic"``; of ``"ridge"``, whose alpha is 1 / C.
    random_state : int or None
        Of ``"svm"``, whose solver shuffles.

    Attributes
    ----------
    classes_ : ndarray, (class,)
        The labels seen in ``fit``, sorted by code; names, where the target has the attr ``classes``.
    estimator_ : scikit-learn classifier
        Fitted.
    status_ : ndarray of str, (1,)
        ``"ok"``.

    Notes
    -----
    A labelled target is (presentation, one neuroid) of integer codes; its attr ``classes`` is a JSON list that names
    code 0, 1, 2 and so on. Predictions are codes with the same attr.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat(["cat", "dog"], 20)
    >>> X = rng.normal(size=(40, 5)) + 3 * (label == "dog")[:, None]
    >>> model = ba.Classifier("lda").fit(X[::2], label[::2])
    >>> bool((model.predict(X[1::2]) == label[1::2]).all())
    True
    """

    is_classifier = True

    def __init__(self, method: Any = "lda", C: float = 1.0, random_state: int | None = None) -> None:
        self.method = method
        self.C = C
        self.random_state = random_state

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn to tell classes apart.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            With a time dim, every neuroid at every time is a feature.
        Y : sequence or ndarray of labels, (presentation,); or DataArray of int, (presentation, one neuroid)
            Such as ``X.condition.values``; or codes, see the notes. Rows correspond to those of ``X``; where both are labelled
            this is checked.

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            The rows are not the same presentations.
        ParameterError
            Several targets, a single class, a labelled target that holds no integers, or an impossible parameter.
        """
        return super().fit(X, Y)

    def predict(self, X: Any) -> Any:
        """Predict the label of each presentation.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            The features of ``fit``, for any presentations.

        Returns
        -------
        DataArray of int, (presentation, neuroid), or ndarray, (presentation,)
            Codes with the attr ``classes``, where both sides of ``fit`` were labelled; else labels as they were given.

        Raises
        ------
        AlignmentError
            The features are not those of ``fit``.
        """
        return super().predict(X)

    def decision_function(self, X: Any) -> Any:
        """Return signed distances from the decision boundary, or one confidence per class.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])

        Returns
        -------
        DataArray or ndarray, (presentation,) for two classes, (presentation, class) for more
            Labelled where ``X`` is.

        Raises
        ------
        CapabilityError
            The classifier has none.
        """
        return self._per_class(X, "decision_function")

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])

        Returns
        -------
        DataArray or ndarray, (presentation, class)
            Labelled where ``X`` is.

        Raises
        ------
        CapabilityError
            The classifier has none (``"svm"``).
        """
        return self._per_class(X, "predict_proba")

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        if y.shape[1] != 1:
            raise ParameterError(
                f"Classifier got a target with {y.shape[1]} columns. Expected one label per presentation: select one neuroid, or pass "
                "a vector of labels."
            )
        labels = y[:, 0]
        if rows is not None and labels.dtype.kind not in "iub":
            raise ParameterError(
                f"Classifier got a labelled target of dtype {labels.dtype}. Expected integer class codes: convert them with "
                "`x.astype(int)`, or name a presentation coordinate, as in `ba.evaluate(source, 'condition')`."
            )
        # scikit-learn does not know StringDType; codes serve any kind of label.
        self._labels, codes = np.unique(labels, return_inverse=True)
        if len(self._labels) < 2:
            raise ParameterError(
                f"Classifier got training rows of the single class {self._labels[0]!s}. Expected at least two: stratify the split with "
                "`ba.split(..., stratify=...)`."
            )
        names = json.loads(self.target_attrs_["classes"]) if "classes" in self.target_attrs_ else None
        self.classes_ = self._labels if names is None else as_labels([names[int(code)] for code in self._labels])
        self.estimator_ = self._unfitted().fit(x, codes)
        self.status_ = as_labels(["ok"])

    def _predict_values(self, x: Values) -> Values:
        return self._labels[self.estimator_.predict(x)]

    def _unfitted(self) -> Any:
        if not isinstance(self.method, str):
            if not (hasattr(self.method, "fit") and hasattr(self.method, "predict")):
                raise ParameterError(
                    f"The 'method' parameter of Classifier must be one of {METHODS} or a scikit-learn classifier. Got "
                    f"{self.method!r} instead."
                )
            return clone(self.method)
        check_choice("method", self.method, METHODS, owner="Classifier")
        check_number("C", self.C, owner="Classifier", low=0.0, low_open=True)
        if self.method == "lda":
            from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

            return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if self.method == "svm":
            from sklearn.svm import LinearSVC

            return make_pipeline(StandardScaler(), LinearSVC(C=self.C, random_state=self.random_state))
        from sklearn.linear_model import LogisticRegression, RidgeClassifier

        if self.method == "ridge":
            return make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0 / self.C))
        return make_pipeline(StandardScaler(), LogisticRegression(C=self.C, max_iter=1000))

    def _per_class(self, X: Any, name: str) -> Any:
        x = self._features(X)
        if not hasattr(self.estimator_, name):
            raise CapabilityError(
                f"The classifier {self.method!r} has no {name}. Expected one that has: 'lda' and 'logistic' have both "
                "`decision_function` and `predict_proba`."
            )
        values = getattr(self.estimator_, name)(x)
        if not isinstance(X, xr.DataArray):
            return values
        dims = ("presentation", "class")[: values.ndim]
        coords: dict[str, Any] = {k: (c.dims, c.values) for k, c in X.coords.items() if c.dims == ("presentation",)}
        if values.ndim == 2:
            coords["class"] = ("class", self.classes_)
        return xr.DataArray(values, dims=dims, coords=coords, name=name)
