"""``noise_covariance``: how the noise of neuroids goes together, from residuals or from repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.provenance import hashed_meanwhile, write_step
from brainalign.core.schema import validate
from brainalign.core.tables import coords_of
from brainalign.dataset.repeats import refuse_several_subjects
from brainalign.engine import precision
from brainalign.engine.gram import inverse
from brainalign.engine.groups import group_sums
from brainalign.geometry.conditions import APART, Array, Cell, cells_of, labels_of

_ROWS = 16  # of a noise covariance that are held against its columns
_UNEVEN = 1e-6  # by which they may differ, relative to the largest entry: float32, or an inverse


def noise_covariance(
    responses: xr.DataArray,
    *,
    method: str = "shrinkage-diagonal",
    condition: str | None = "stimulus_id",
    by: str | Sequence[str] | None = None,
    time: str = "pool",
    dof: float | None = None,
) -> xr.DataArray:
    """Estimate the covariance of noise between neuroids; its inverse is the noise precision.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Responses with repeats, or the residuals of a model.
    method : {"shrinkage-diagonal", "shrinkage-eye", "full", "diagonal"}
        Correlations shrunk to 0 (Schäfer and Strimmer 2005); shrunk to a multiple of the identity (Ledoit and Wolf 2004);
        the sample covariance; the variances alone.
    condition : str or None
        Noise is what differs from the mean of its condition, named by this presentation coordinate. None: the presentations
        are residuals, and only their mean is taken out.
    by : str or sequence of str, optional
        Presentation coordinates: one covariance for each ``"session"`` or ``"subject"``.
    time : {"pool", "each"}
        One covariance for all times, or one for each.
    dof : float, optional
        Degrees of freedom of each covariance; default the number of rows less that of means. Of a model's residuals, rows less
        regressors.

    Returns
    -------
    DataArray of float64, ([by,] [time,] neuroid, neuroid_2); unit: squared response units
        Under ``"diagonal"`` without ``neuroid_2``. The coordinate ``shrinkage`` says how far it was shrunk, 0 to 1. It can be
        passed to :func:`rdm` as ``noise=``.

    Raises
    ------
    ParameterError
        No such coordinate.
    SchemaError
        No condition is repeated; neuroids with NaN, or without any noise; presentations of a condition to several subjects, whose
        differences are no noise: ``by="subject"`` keeps them apart.

    Examples
    --------
    >>> import brainalign as ba
    >>> brain = ba.simulate(n_stimuli=20, n_repeats=3, random_state=0).fmri
    >>> noise = noise_covariance(brain)
    >>> noise.dims, float(noise.shrinkage)   # what is simulated is independent, and found to be
    (('neuroid', 'neuroid_2'), 1.0)
    """
    validate(responses)
    check_choice("method", method, precision.METHODS, owner="noise_covariance")
    check_choice("time", time, ("pool", "each"), owner="noise_covariance")
    if dof is not None:
        check_number("dof", dof, owner="noise_covariance", low=0, low_open=True)
    codes = np.zeros(len(responses), dtype=np.int64)
    if condition is not None:
        codes, _ = labels_of(responses, condition, parameter="condition")
    dims, cells = cells_of(responses, by)
    if any(len(cell.columns) < responses.sizes["neuroid"] for cell in cells):
        raise ParameterError(
            f"noise_covariance got by={by!r}, which labels neuroids. Expected coordinates of presentations only."
        )
    inputs = hashed_meanwhile({"responses": responses})
    each = time == "each" and "time" in responses.dims
    found, ids = [], responses.coords["neuroid_id"].values
    for cell in cells:
        block = responses[cell.rows].values
        _refuse_nan(responses, block, cell)
        if condition is not None:
            refuse_several_subjects(responses.stimulus_id[cell.rows], codes[cell.rows], owner="noise_covariance", mend=APART)
        parts = np.moveaxis(block, 2, 0) if each else [block]
        found.append([covariance_of(part, codes[cell.rows], method, ids, cell, dof=dof) for part in parts])
    lead = {**dims, **({"time": responses.coords["time"].values} if each else {})}
    shape = [len(values) for values in lead.values()]
    matrices = np.array([[matrix for matrix, _ in parts] for parts in found])
    shrinkage = np.array([[amount for _, amount in parts] for parts in found])
    last = ["neuroid"] if method == "diagonal" else ["neuroid", "neuroid_2"]
    size = responses.sizes["neuroid"]
    coords = {**lead, **{name: ("neuroid", values) for name, values in coords_of(responses, "neuroid").items()}}
    out = xr.DataArray(
        matrices.reshape(*shape, *[size] * len(last)),
        dims=[*lead, *last],
        coords=coords | {"shrinkage": (list(lead), shrinkage.reshape(shape))},
        attrs={"method": method, "units": "squared response units"},
        name="noise_covariance",
    )
    params = {"method": method, "condition": condition, "by": by, "time": time, "dof": dof}
    return write_step(out, "noise_covariance", params=params, inputs=inputs)


def covariance_of(
    block: Array, codes: Array, method: str, ids: Array, cell: Cell, *, dof: float | None = None
) -> tuple[Array, float]:
    """Return the covariance of what differs from the means of conditions, and how far it was shrunk.

    Parameters
    ----------
    block : ndarray, (row, neuroid[, time])
        Times are further rows.
    codes : ndarray of int, (row,)
        Condition of each row.
    method : str
    ids : ndarray, (neuroid,)
        Names, for the message.
    cell : Cell
        Likewise.
    dof : float, optional

    Returns
    -------
    covariance : ndarray of float64, (neuroid, neuroid) or (1, neuroid)
    shrinkage : float

    Raises
    ------
    SchemaError
        No condition is repeated, or neuroids do not vary.
    """
    present, codes = np.unique(codes, return_inverse=True)
    if len(codes) <= len(present):
        raise SchemaError(
            f"the noise of {cell} cannot be told from its signal: no condition has two presentations ({len(codes)} in all). Expected repeats, "
            "or residuals, which `ba.geometry.noise_covariance(residuals, condition=None)` takes."
        )
    sums, counts = group_sums(block, codes, len(present))
    means = sums / counts.reshape(-1, *[1] * (block.ndim - 1))
    residuals = block - means[codes]
    if residuals.ndim == 3:
        residuals = np.moveaxis(residuals, 2, 1).reshape(-1, block.shape[1])
    n_times = len(residuals) // len(codes)
    # the mean of equal float64 values differs from them by the rounding of its sum, and such noise would be divided by
    rounding = len(codes) * np.finfo(np.float64).eps * np.abs(block).max(axis=(0, *range(2, block.ndim)))
    silent = np.abs(residuals).max(axis=0) <= rounding
    if silent.any():
        raise SchemaError(
            f"{int(silent.sum())} of {len(silent)} neuroids have no noise in {cell}: {preview(ids[silent])}. Expected each to vary between "
            "presentations of a condition: leave them out."
        )
    return precision.noise_covariance(residuals, method, dof=(len(codes) - len(present)) * n_times if dof is None else dof)


def _refuse_nan(responses: xr.DataArray, block: Array, cell: Cell) -> None:
    bad = np.asarray(~np.isfinite(block).all(axis=(0, *range(2, block.ndim))))
    if bad.any():
        raise SchemaError(
            f"{int(bad.sum())} of {len(bad)} neuroids have NaN or infinity in {cell}: {preview(responses.coords['neuroid_id'].values[bad])}. "
            "Expected finite numbers: leave them out with `x[:, keep]`."
        )


def check_noise(noise: Any, responses: xr.DataArray, lead: Sequence[str], folds: str | None) -> Any:
    """Return a noise covariance, or its inverse, if it is one for these responses, or the name of a method.

    Parameters
    ----------
    noise : str, DataArray or None
    responses : DataArray, (presentation, neuroid[, time])
    lead : sequence of str
        Dims along which there may be one covariance for each matrix.
    folds : str or None
        And for each fold.

    Returns
    -------
    str, DataArray ([by,] [fold,] [time,] neuroid[, neuroid_2]) or None
        With the attr ``inverse`` the inverse of a covariance, but for variances alone, which are inverted.

    Raises
    ------
    ParameterError
        Neither, or of other neuroids, times or dims, or not symmetric; an inverse with a diagonal that is not positive.
    """
    if noise is None or isinstance(noise, str):
        return noise if noise is None else check_choice("noise", noise, precision.METHODS, owner="rdm")
    if not isinstance(noise, xr.DataArray) or "neuroid" not in noise.dims:
        raise ParameterError(
            f"The 'noise' parameter of rdm must be one of {', '.join(map(repr, precision.METHODS))}, or a DataArray (..., neuroid, neuroid_2) of "
            f"covariances, which `ba.geometry.noise_covariance` makes. Got {type(noise).__name__} instead."
        )
    allowed = tuple(dict.fromkeys((*lead, *([folds] if folds else []), *responses.dims[1:], "neuroid_2")))
    odd = [dim for dim in noise.dims if dim not in allowed]
    if odd:
        raise ParameterError(f"noise has the dims {noise.dims}. Expected some of {allowed}: {odd} are none of these responses.")
    own = responses.coords["neuroid_id"].values.tolist()
    ids = noise.coords["neuroid_id"].values.tolist() if "neuroid_id" in noise.coords else own[: noise.sizes["neuroid"]]
    if noise.sizes["neuroid"] != len(own) or ids != own:
        raise ParameterError(
            f"noise is of {len(ids)} neuroids ({preview(ids)}), the responses have {len(own)} ({preview(own)}). Expected the same, in the same "
            "order: select them on both sides."
        )
    if noise.sizes.get("neuroid_2", len(own)) != len(own) or not np.isfinite(noise.values).all():
        raise ParameterError(
            f"noise has {noise.sizes.get('neuroid_2', len(own))} columns and {int((~np.isfinite(noise.values)).sum())} entries that are NaN or "
            f"infinite. Expected {len(own)} columns, all finite: leave neuroids without a covariance out of both."
        )
    if "neuroid_2" in noise.dims:
        _check_symmetric(noise.transpose(..., "neuroid", "neuroid_2").values, inverse=bool(noise.attrs.get("inverse")))
    if "time" in noise.dims and not np.array_equal(noise.coords["time"].values, responses.coords["time"].values):
        raise ParameterError("noise has other times than the responses. Expected the same: select them on both sides.")
    if "neuroid_2" not in noise.dims and noise.attrs.get("inverse"):
        noise = (1 / noise).drop_attrs()
    return noise.transpose(*(dim for dim in (*lead, folds, "time", "neuroid", "neuroid_2") if dim in noise.dims))


def _check_symmetric(values: Array, *, inverse: bool) -> None:
    """Refuse what is no covariance, or no inverse of one, so far as some rows and the diagonal tell: the whole would take as long as its use."""
    some = np.linspace(0, values.shape[-1] - 1, _ROWS).astype(int)
    rows, columns = values[..., some, :], values[..., some].swapaxes(-1, -2)
    if np.abs(rows - columns).max() > _UNEVEN * np.abs(rows).max():
        raise ParameterError("noise is not symmetric. Expected rows and columns of the same neuroids, in the same order.")
    least = float(np.diagonal(values, axis1=-2, axis2=-1).min())
    if inverse and least <= 0:
        raise ParameterError(
            f"noise with inverse=True has {least:.4g} on its diagonal. Expected the inverse of a covariance, which is positive definite: give the "
            "covariance itself, without the attr `inverse`."
        )


def noise_of(noise: xr.DataArray, cell: Cell, columns: Array, folds: str | None, names: Array) -> Array:
    """Return the covariance of one matrix, or its inverse if the noise is given so.

    Parameters
    ----------
    noise : DataArray
        From :func:`check_noise`.
    cell : Cell
    columns : ndarray of int
        Neuroids, as positions in all of them.
    folds : str or None
        The dim of folds, where there is one covariance for each.
    names : ndarray
        The folds.

    Returns
    -------
    ndarray, ([fold,] [time,] neuroid, neuroid), or (..., 1, neuroid) of variances

    Raises
    ------
    ParameterError
        It lacks a fold or a group.
    """
    wanted = {dim: [label] for dim, label in cell.labels.items() if dim in noise.dims} | ({folds: list(names)} if folds else {})
    for dim, labels in wanted.items():
        known = [str(label) for label in noise.coords[dim].values.tolist()]
        missing = [label for label in labels if str(label) not in known]
        if missing:
            raise ParameterError(
                f"noise has no {dim} {preview(missing)}. Expected those of the responses; it has {preview(known)}."
            )
        at = [known.index(str(label)) for label in labels]
        noise = noise.isel({dim: at if dim == folds else at[0]})
    values = noise.values
    if "neuroid_2" not in noise.dims:
        return values[..., None, columns]
    if len(columns) == values.shape[-1]:
        return values
    if not noise.attrs.get("inverse"):
        return values[..., columns[:, None], columns]
    part = inverse(values.reshape(-1, *values.shape[-2:]))[:, columns[:, None], columns]  # some of an inverse is no inverse
    return inverse(part).reshape(*values.shape[:-2], *part.shape[-2:])
