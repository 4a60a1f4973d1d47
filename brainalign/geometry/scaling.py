"""``trajectories``: how stimuli move through a low-dimensional picture of their geometry over time."""

from __future__ import annotations

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_number
from brainalign.core.provenance import write_step
from brainalign.engine.scaling import align_in_time, classical_scaling
from brainalign.geometry.rdm_pairs import pairs_of
from brainalign.geometry.transforms import whole

_DISTANCES = ("euclidean", "geodesic")


def trajectories(rdms: xr.DataArray, *, n_dimensions: int = 2, along: str = "time", squared: bool | None = None) -> xr.DataArray:
    """Return positions whose distances are those of an RDM, at each time turned to lie as close as possible to those before.

    Parameters
    ----------
    rdms : DataArray, (..., time, ..., stimulus, stimulus_2)
        From :func:`rdm` of responses over time, :func:`geodesic` ... Every other leading dim has trajectories of its own.
    n_dimensions : int
    along : str
        The leading dim that positions follow: ``"time"``, or any other with an order, such as ``"layer"``.
    squared : bool, optional
        Whether dissimilarities are squared distances. By default all are but Euclidean and geodesic ones, by the attr ``metric``: 1 − r is
        the squared distance of patterns of unit length, up to a factor.

    Returns
    -------
    DataArray of float64, (..., stimulus, dimension, time)
        Around 0 at each time. Coordinate ``share`` (..., time): how much of the variance of all positions lies in these dimensions.

    Raises
    ------
    SchemaError
        It is no set of symmetric matrices with unique stimuli, or lacks pairs.
    ParameterError
        There is no such dim, or more dimensions are asked for than there are stimuli.

    Notes
    -----
    Classical scaling (Torgerson 1952) at each time, then the rotation or reflection that brings it closest to the time before (orthogonal
    Procrustes), as in Lin (2024). It turns, but neither moves nor scales: what is left over time is change of the geometry.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=10, random_state=0)
    >>> ba.geometry.trajectories(ba.rdm(study.meg)).dims
    ('stimulus', 'dimension', 'time')
    """
    vectors = whole(pairs_of(rdms, "rdms"), rdms, "rdms")
    check_number("n_dimensions", n_dimensions, owner="trajectories", low=1, high=rdms.shape[-1] - 1, integer=True)
    if along not in rdms.dims[:-2]:
        raise ParameterError(
            f"trajectories got along={along!r} for RDMs with the dims {rdms.dims}. Expected a leading dim with an order: take "
            "`ba.rdm` of responses over time."
        )
    squared = not str(rdms.attrs.get("metric")).startswith(_DISTANCES) if squared is None else squared
    pairs = (vectors if squared else vectors**2).reshape(*rdms.shape[:-2], -1)
    positions, share = classical_scaling(np.moveaxis(pairs, rdms.dims.index(along), 0), n_dimensions)
    positions = align_in_time(positions)
    others = [dim for dim in rdms.dims[:-2] if dim != along]
    coords = {name: c for name, c in rdms.coords.items() if "stimulus_2" not in c.dims}
    out = xr.DataArray(
        np.moveaxis(positions, 0, -1), dims=(*others, "stimulus", "dimension", along), coords=coords, name="position"
    )
    out = out.assign_coords(share=((*others, along), np.moveaxis(share, 0, -1)), dimension=np.arange(n_dimensions))
    params = {"n_dimensions": n_dimensions, "along": along, "squared": squared}
    return write_step(out, "trajectories", params=params, inputs={"rdms": rdms})
