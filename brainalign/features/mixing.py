"""The base of the temporal steps: rows of the output are weighted sums of rows of the input, within runs.

A step is a set of sparse matrices over presentations, one per block of output neuroids, so that a chain, a torch
readout and a person by hand apply the very same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import preview
from brainalign.core.provenance import is_lazy, write_step
from brainalign.core.schema import PRESENTATION_COORDS, as_labels, validate
from brainalign.core.tables import coords_of, presentation_table

Coords = dict[str, np.ndarray[Any, Any]]
_BLOCK_BYTES = 2**26  # of input columns at a time: bounds the temporaries, whatever the number of neuroids


class PresentationMixer(TransformerMixin, BaseEstimator, ABC):
    """Base of the steps that only mix presentations and learn nothing.

    A subclass has ``mixing(source, target)`` and may override ``labels``, ``report``, ``retimes`` and ``reach_s``
    (see :class:`brainalign.core.protocols.PresentationStep`).
    """

    retimes: bool = False
    reach_s: tuple[float, float] = (0.0, 0.0)

    def fit(self, X: Any, y: Any = None) -> PresentationMixer:
        """Return the step itself: it learns nothing.

        Parameters
        ----------
        X, y : object
            Not read.

        Returns
        -------
        PresentationMixer
        """
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @abstractmethod
    def mixing(self, source: pd.DataFrame, target: pd.DataFrame | None = None) -> list[sp.csr_matrix]:
        """Return the sparse matrices (output row, source row), one per block of output neuroids.

        Parameters
        ----------
        source, target : DataFrame
            Presentation tables; ``target`` is read by the steps that retime only.

        Returns
        -------
        list of csr_matrix, float32
        """

    def labels(self, coords: Coords) -> Coords:
        """Return the neuroid coordinates of the output.

        Parameters
        ----------
        coords : dict of str to ndarray (neuroid,)
            Those of the input.

        Returns
        -------
        dict of str to ndarray
        """
        return coords

    def report(self, source: pd.DataFrame, target: pd.DataFrame | None = None) -> dict[str, Any]:
        """Return what the step leaves out, in numbers, for the provenance.

        Parameters
        ----------
        source, target : DataFrame
            Presentation tables.

        Returns
        -------
        dict
        """
        return {}

    def transform(self, X: xr.DataArray, presentations: Any = None) -> xr.DataArray:
        """Mix the presentations of ``X``.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time])
            numpy or dask.
        presentations : DataArray, Dataset or DataFrame, optional
            Whose rows the output shall have; needed by the steps that retime, not read by the others. A DataFrame has ``stimulus_id``,
            ``onset_s`` and, where there are several, ``run``; its other columns become coordinates.

        Returns
        -------
        DataArray, float32, (presentation, neuroid[, time])
            With the presentation coordinates of the output rows and the step in its provenance.

        Raises
        ------
        ParameterError
            The step retimes and no presentations were given.
        SchemaError
            ``X`` is no valid responses array, or lacks what the step needs.
        """
        validate(X, name="X")
        if self.retimes and presentations is None:
            raise ParameterError(
                f"{type(self).__name__}.transform got no `presentations`, and its output has the rows of the target. Expected the "
                "target's responses or presentation table: `step.transform(X, presentations=bold)`."
            )
        source = table_of(X)
        target = table_of(presentations) if self.retimes else source
        matrices = self.mixing(source, target)
        if "stimulus_id" not in target:
            raise SchemaError(
                f"{type(self).__name__} got presentations without `stimulus_id` (columns: {preview(map(str, target.columns), 8)}). Expected "
                "a name for each row: what was shown, or one of its own for every trial that is to be told from others, such as "
                "`events.assign(stimulus_id='run-' + events.run + '/' + events.condition)`."
            )
        out = mix_responses(self, matrices, X, target)
        params = {**self.get_params(deep=False), **self.report(source, target)}
        return write_step(validate(out, name="the result"), type(self).__name__, params=params, inputs={"X": X})


def table_of(presentations: Any) -> pd.DataFrame:
    """Return the presentation table of responses, stimuli or a table; a scalar ``run`` holds for every row.

    Parameters
    ----------
    presentations : DataArray, Dataset or DataFrame

    Returns
    -------
    DataFrame

    Raises
    ------
    SchemaError
        It is none of them.
    """
    if isinstance(presentations, pd.DataFrame):
        return presentations.reset_index(drop=True)
    if not isinstance(presentations, (xr.DataArray, xr.Dataset)):
        raise SchemaError(
            f"presentations is a {type(presentations).__name__}. Expected responses, a stimulus table or a DataFrame with a row each."
        )
    scalars = {name: presentations.coords[name].item() for name in PRESENTATION_COORDS if _is_scalar(presentations, name)}
    return presentation_table(presentations).assign(**scalars)


def _is_scalar(x: xr.DataArray | xr.Dataset, name: str) -> bool:
    return name in x.coords and x.coords[name].dims == ()


def apply_mixing(matrices: Sequence[Any], values: Any) -> np.ndarray[Any, Any]:
    """Return ``concat([M @ values for M in matrices], axis=1)``, in blocks of columns.

    Parameters
    ----------
    matrices : sequence of scipy sparse, (output row, source row)
    values : array_like, (source row, neuroid, ...)

    Returns
    -------
    ndarray of float32, (output row, n_matrices * neuroid, ...)

    Raises
    ------
    AlignmentError
        The matrices were made for another number of rows.

    Examples
    --------
    >>> shift = sp.csr_matrix([[0.0, 0.0], [1.0, 0.0]])
    >>> apply_mixing([sp.eye(2), shift], [[1.0], [2.0]])
    array([[1., 0.],
           [2., 1.]], dtype=float32)
    """
    values = np.asarray(values)
    flat = values.reshape(len(values), -1)
    n_out, n_in = matrices[0].shape
    if n_in != len(values):
        raise AlignmentError(
            f"The mixing was made for {n_in} source rows, and the values have {len(values)}. Expected the same presentations: build it "
            "from the table of these responses."
        )
    width = flat.shape[1]
    out = np.empty((n_out, len(matrices) * values.shape[1], *values.shape[2:]), dtype=np.float32)
    columns = out.reshape(n_out, len(matrices) * width)
    single = [matrix.astype(np.float32) for matrix in matrices]
    step = max(1, _BLOCK_BYTES // (4 * max(n_in, n_out, 1)))
    for start in range(0, width, step):
        stop = min(start + step, width)
        block = np.ascontiguousarray(flat[:, start:stop], dtype=np.float32)
        for k, matrix in enumerate(single):
            columns[:, k * width + start : k * width + stop] = matrix @ block
    return out


def mix_responses(step: Any, matrices: Sequence[Any], X: xr.DataArray, target: pd.DataFrame | None) -> xr.DataArray:
    """Apply the matrices of a presentation step to responses, and label what comes out.

    Parameters
    ----------
    step : PresentationStep
    matrices : sequence of scipy sparse, (output row, source row)
        From ``step.mixing``.
    X : DataArray, (presentation, neuroid[, time])
    target : DataFrame or None
        The output rows, where the step retimes.

    Returns
    -------
    DataArray, float32, (presentation, neuroid[, time])
    """
    return _relabel(X, _mix(matrices, X), step.labels(coords_of(X, "neuroid")), target if step.retimes else None)


def _mix(matrices: Sequence[Any], X: xr.DataArray) -> Any:
    if not is_lazy(X):
        return apply_mixing(matrices, X.values)
    import dask.array as da

    data = da.asarray(X.data).rechunk({0: -1})
    blocks = [
        data.map_blocks(
            lambda block, m=matrix: apply_mixing([m], block), chunks=((matrix.shape[0],), *data.chunks[1:]), dtype="f4"
        )
        for matrix in matrices
    ]
    return da.concatenate(blocks, axis=1)


def _relabel(X: xr.DataArray, values: Any, neuroids: Coords, target: pd.DataFrame | None) -> xr.DataArray:
    """Put labels on the mixed values: rows of ``X``, or of the target where there is one."""
    kept = {str(name): coord for name, coord in X.coords.items() if not {"presentation", "neuroid"} & set(coord.dims)}
    if target is None:
        rows = coords_of(X, "presentation")
    else:
        kept = {name: coord for name, coord in kept.items() if name not in PRESENTATION_COORDS}
        rows = {str(name): as_labels(column.to_numpy()) for name, column in target.items()}
    coords = {
        **kept,
        **{name: ("presentation", labels) for name, labels in rows.items()},
        **{name: ("neuroid", labels) for name, labels in neuroids.items()},
    }
    return xr.DataArray(values, dims=X.dims, coords=coords, attrs=X.attrs, name=X.name)
