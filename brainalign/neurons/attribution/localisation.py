"""Whether an attribution points where the evidence is known to be."""

from __future__ import annotations

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.provenance import write_step
from brainalign.core.tables import coords_of

_LEAST = 1e-7  # of positive attribution, for a share to mean anything


def localisation(attribution: xr.DataArray, inside: xr.DataArray) -> xr.Dataset:
    """Return which share of the positive attribution lies where the evidence for a response is.

    Parameters
    ----------
    attribution : DataArray, (presentation, neuroid, ...)
        From :func:`attribute`: to inputs, groups, words, or units of a layer.
    inside : DataArray of bool
        Where the evidence is, with some of the dims of the attribution: ``("y", "x")`` for one cell of all pictures, ``("presentation", "y",
        "x")``, ``("neuroid", "unit")`` ...

    Returns
    -------
    Dataset
        ``score``, from 0 to 1, and ``chance``, the score of a map that is the same everywhere: (presentation, neuroid). NaN where nothing is
        positive.

    Raises
    ------
    ParameterError
        The mask is not of bool, or has other dims or sizes.

    Notes
    -----
    Of pictures in a grid of n by n, one of which a class is in, this is GridPG; where each class looks at its own cell only, so that the rest
    cannot matter, DiFull: gradients then score 1. Compared at one layer, methods are asked the same question (Rao, Böhle and Schiele 2022).
    Source: Böhle, Fritz and Schiele 2021.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch, xarray as xr
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1))
    >>> with torch.no_grad():
    ...     _ = net[1].weight.fill_(1.0)
    >>> x = ba.stimuli.table(np.ones((2, 4, 4)), stimulus_id=["a", "b"], kind="array")
    >>> a = ba.attribute(ba.TorchResponder(net, layers="1", system="net"), x)
    >>> corner = xr.DataArray(np.pad(np.ones((2, 2), bool), ((0, 2), (0, 2))), dims=a.dims[2:])
    >>> out = ba.neurons.localisation(a, corner)
    >>> out.score.values.ravel().tolist(), out.chance.values.ravel().tolist()
    ([0.25, 0.25], [0.25, 0.25])
    """
    sizes = {str(dim): n for dim, n in attribution.sizes.items()}
    wrong = not isinstance(inside, xr.DataArray) or inside.dtype.kind != "b"
    if (
        wrong
        or any(sizes.get(str(dim)) != n for dim, n in inside.sizes.items())
        or set(inside.dims) <= {"presentation", "neuroid"}
    ):
        got = f"{inside.dtype} {dict(inside.sizes)}" if isinstance(inside, xr.DataArray) else f"a {type(inside).__name__}"
        raise ParameterError(
            f"localisation got inside={got} for an attribution of {sizes}. Expected a DataArray of bool with some of its dims."
        )
    tail = [dim for dim in attribution.dims if dim not in ("presentation", "neuroid")]
    own = xr.DataArray(attribution.values.astype(np.float64), dims=attribution.dims)
    mask = xr.DataArray(inside.values, dims=inside.dims)  # by position: labels need not be on both
    positive = own.clip(min=0.0)
    total = positive.sum(tail)
    score = (positive * mask).sum(tail) / total.where(total >= _LEAST)
    chance = xr.zeros_like(total) + (xr.ones_like(own) * mask).mean(tail)
    labels = {name: (dim, values) for dim in ("presentation", "neuroid") for name, values in coords_of(attribution, dim).items()}
    pair = ("presentation", "neuroid")
    out = xr.Dataset({"score": score.transpose(*pair), "chance": chance.transpose(*pair)}).assign_coords(labels)
    return write_step(
        out, "localisation", params={"dims": [str(dim) for dim in inside.dims]}, inputs={"attribution": attribution}
    )
