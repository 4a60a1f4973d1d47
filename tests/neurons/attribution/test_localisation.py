"""An oracle scores 1, a map without content what its area says, and gradients of disconnected heads 1."""

import numpy as np
import pytest
import torch
import xarray as xr

import brainalign as ba
from brainalign.core.errors import ParameterError
from brainalign.neurons import localisation

CELLS = [(slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4)) for i in range(2) for j in range(2)]


def masks():
    """Of four cells, one a neuroid."""
    out = np.zeros((4, 8, 8), dtype=bool)
    for k, cell in enumerate(CELLS):
        out[k][cell] = True
    return out


class Heads(torch.nn.Module):
    """Four classes, each of which sees one cell (disconnected), or the whole picture."""

    def __init__(self, disconnected):
        super().__init__()
        self.disconnected = disconnected
        self.body = torch.nn.Conv2d(1, 3, 1)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(3 * (16 if disconnected else 64), 1) for _ in CELLS)

    def forward(self, x):
        x = torch.tanh(self.body(x))
        seen = [x[:, :, rows, columns] if self.disconnected else x for rows, columns in CELLS]
        return torch.cat([head(own.flatten(1)) for head, own in zip(self.heads, seen, strict=True)], dim=1)


def map_of(values):
    dims = ("presentation", "neuroid", "y", "x")
    coords = {"stimulus_id": ("presentation", ["a"]), "neuroid_id": ("neuroid", [0, 1, 2, 3])}
    return xr.DataArray(values, dims=dims, coords=coords)


def test_oracle_uniform_and_nothing():
    inside = xr.DataArray(masks(), dims=("neuroid", "y", "x"))
    oracle = localisation(map_of(masks()[None].astype(float)), inside)
    assert (oracle.score == 1.0).all()
    uniform = localisation(map_of(np.ones((1, 4, 8, 8))), inside)
    np.testing.assert_allclose(uniform.score, 1 / 4)
    np.testing.assert_allclose(uniform.chance, 1 / 4)
    assert localisation(map_of(-np.ones((1, 4, 8, 8))), inside).score.isnull().all()


@pytest.mark.parametrize("layer", ["input", "body"])
@pytest.mark.parametrize("which", ["class", "voxel"])
def test_gradients_of_disconnected_heads_score_one_at_every_layer_and_others_do_not(layer, which):
    torch.manual_seed(0)
    table = ba.stimuli.table(
        np.random.default_rng(0).normal(size=(30, 1, 8, 8)), stimulus_id=[f"s{i}" for i in range(30)], kind="array"
    )
    scores = []
    for disconnected in (True, False):
        responder = ba.TorchResponder(Heads(disconnected), "heads.*", system="net")
        if which == "voxel":
            responder = voxels_of(responder, table)
        a = ba.attribute(responder, table, presentations=range(5), wrt=layer, method="gradient-times-input", baseline="zero")
        if layer == "input":
            inside = xr.DataArray(masks(), dims=("neuroid", "y", "x")).rename(dict(zip(("y", "x"), a.dims[3:], strict=True)))
        else:
            inside = xr.DataArray(np.tile(masks().reshape(4, 1, 64), (1, 3, 1)).reshape(4, -1), dims=("neuroid", "unit"))
        scores.append(localisation(a, inside).score)
    np.testing.assert_allclose(scores[0], 1.0, atol=2e-3)
    assert scores[1].mean() < 0.5


def voxels_of(responder, table):
    """Four voxels that are the four classes."""
    features = ba.record(responder, table, progress=False)
    brain = ba.responses(features.values, stimulus_id=features.stimulus_id, neuroid_id=list("abcd"), modality="fmri", system="s")
    return ba.readout(responder, ba.Ridge(alphas=[1e-8], dtype="float64").fit(features, brain))


def test_bad_masks_are_refused():
    a = map_of(np.ones((1, 4, 8, 8)))
    with pytest.raises(ParameterError, match=r"float64 \{'y': 8\}"):
        localisation(a, xr.DataArray(np.ones(8), dims="y"))
    with pytest.raises(ParameterError, match=r"\{'y': 7\}.*some of its dims"):
        localisation(a, xr.DataArray(np.ones(7, dtype=bool), dims="y"))
    with pytest.raises(ParameterError, match="a ndarray"):
        localisation(a, np.ones((8, 8), dtype=bool))
