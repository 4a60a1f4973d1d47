"""What neurons read and what they write: the cosines of their weights, of the units of a stock network and of voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, CapabilityError
from brainalign.core.parameters import check_number, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.backend import to_numpy
from brainalign.engine.moments import Numbers
from brainalign.engine.projection import classes, cosines
from brainalign.neurons.weights.reading import labelled_vectors, vectors_of

#: Names of input, output and gate matrices in the multilayer perceptrons of stock models.
_PARTS = (("c_fc", "c_proj", None), ("up_proj", "down_proj", "gate_proj"), ("fc1", "fc2", None))


def in_out_cosines(w_in: Any, w_out: Any, w_gate: Any = None, *, threshold: float = 0.5) -> xr.Dataset:
    """Compare what each neuroid reads with what it writes, and class it by that.

    Parameters
    ----------
    w_in, w_out, w_gate : fitted mapping, DataArray or array_like, (feature, neuroid)
        Of a unit from :func:`mlp_weights`; of a voxel its encoding weights and its pattern (:func:`weight_patterns`). Without a
        gate the last is left out.
    threshold : float
        Cosine from which on two vectors are aligned.

    Returns
    -------
    Dataset, (neuroid,)
        ``in_out``, and with a gate ``gate_out`` and ``gate_in``, the signs of input and output turned so that the last is
        positive; and ``role``: enrichment and depletion (the direction read is written, or taken off), conditional where the gate
        is another direction, proportional change (only the gate is written), or orthogonal. The attr ``chance`` is 3 / √d: random
        vectors exceed it in 3 of 1,000 cases.

    Raises
    ------
    AlignmentError
        Vectors of different shapes.
    ParameterError
        A threshold that is not between 0 and 1.

    Examples
    --------
    >>> import brainalign as ba
    >>> w = np.array([[1.0, 1.0], [0.0, 1.0]])
    >>> ba.neurons.in_out_cosines(w, -2 * w).role.values.tolist()
    ['depletion', 'depletion']
    """
    check_number("threshold", threshold, owner="in_out_cosines", low=0.0, high=1.0, low_open=True)
    given = {"w_in": w_in, "w_out": w_out} | ({} if w_gate is None else {"w_gate": w_gate})
    read = {name: vectors_of(value, owner="in_out_cosines") for name, value in given.items()}
    shapes = {name: vectors.shape for name, (vectors, _, _) in read.items()}
    if len(set(shapes.values())) > 1:
        raise AlignmentError(
            f"in_out_cosines got weights of shapes {', '.join(f'{name} {shape}' for name, shape in shapes.items())}. Expected (feature, neuroid) "
            "of the same features and neuroids: transpose, or select."
        )
    inward, outward = read["w_in"][0], read["w_out"][0]
    columns, gate_out = {"in_out": cosines(inward, outward)}, None
    if w_gate is not None:
        gate_in, gate_out = cosines(read["w_gate"][0], inward), cosines(read["w_gate"][0], outward)
        gate_out = np.where(gate_in < 0, -gate_out, gate_out)
        columns |= {"gate_out": gate_out, "gate_in": np.abs(gate_in)}
    columns["role"] = classes(columns["in_out"], gate_out, threshold)
    out = xr.Dataset({name: ("neuroid", values) for name, values in columns.items()}, read["w_in"][1])
    out.attrs = {"threshold": threshold, "chance": 3 / np.sqrt(len(inward))}
    return write_step(out, "in_out_cosines", params={"threshold": threshold})


def mlp_weights(mlp: Any, *, layer: str, system: str) -> dict[str, xr.DataArray]:
    """Return what the neurons of a multilayer perceptron read and write, from a module of a stock network.

    Parameters
    ----------
    mlp : torch.nn.Module
        With ``c_fc`` and ``c_proj`` (GPT-2), ``up_proj``, ``gate_proj`` and ``down_proj`` (Llama and its kin), or ``fc1`` and
        ``fc2`` (CLIP): ``model.transformer.h[3].mlp``.
    layer, system : str
        Names of the layer and of the network.

    Returns
    -------
    dict of str to DataArray, (feature, neuroid)
        ``w_in``, ``w_out`` and, where there is one, ``w_gate``: keywords of :func:`in_out_cosines`.

    Raises
    ------
    CapabilityError
        A module of another kind.

    Examples
    --------
    >>> import brainalign as ba, torch
    >>> mlp = torch.nn.ModuleDict({"fc1": torch.nn.Linear(4, 6), "fc2": torch.nn.Linear(6, 4)})
    >>> ba.neurons.mlp_weights(mlp, layer="mlp", system="net")["w_out"].shape
    (4, 6)
    """
    parts = dict(mlp.named_children())
    found = next((names for names in _PARTS if all(name is None or name in parts for name in names)), None)
    if found is None:
        raise CapabilityError(
            f"mlp_weights got a {type(mlp).__name__} with the parts {preview(parts)}. Expected c_fc and c_proj, up_proj, gate_proj and "
            "down_proj, or fc1 and fc2: pass the MLP of a block, or give vectors (feature, neuroid) to `in_out_cosines` yourself."
        )
    matrices = {name: _inputs_first(parts[part]) for name, part in zip(("w_in", "w_out", "w_gate"), found, strict=True) if part}
    matrices["w_out"] = matrices["w_out"].T
    n = matrices["w_in"].shape[1]
    labels = {"neuroid_id": np.arange(n), "layer": as_labels([layer] * n), "system": as_labels([system] * n)}
    coords = {name: ("neuroid", values) for name, values in labels.items()}
    return {name: labelled_vectors(values, coords, np.arange(len(values))) for name, values in matrices.items()}


def _inputs_first(part: Any) -> Numbers:
    """Return the matrix of a linear layer as (input, output); GPT-2's are kept so, those of ``torch.nn.Linear`` the other way."""
    weight = to_numpy(part.weight)
    return weight if type(part).__name__ == "Conv1D" else weight.T
