"""Pieces behind a chain: made on demand, in copies, and linear in their features."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.models.readout_pieces import Pieces


@pytest.fixture
def timed():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    layer = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh()), layers="1", system="net")
    table = ba.stimuli.table(rng.normal(size=(40, 6)).astype("float32"), stimulus_id=[f"w{i:02d}" for i in range(40)], kind="array",
                             onset_s=np.arange(40) * 0.5, duration_s=np.full(40, 0.5), run=["a"] * 40)  # fmt: skip
    features = ba.record(layer, table, progress=False)
    bold = ba.responses(rng.normal(size=(10, 7)), stimulus_id=[f"v{i}" for i in range(10)], neuroid_id=range(7), modality="fmri",
                        system="s", run=["a"] * 10, onset_s=np.arange(10) * 2.0, duration_s=2.0)  # fmt: skip
    return layer, table, features, bold


CHAINS = {
    "mixed": lambda: ba.chain(ba.WordsToVolumes("sum"), ba.Delay([0, 2]), ba.Ridge(alphas=[1.0])),
    "narrow": lambda: ba.chain(StandardScaler(), PCA(2), ba.WordsToVolumes("mean"), ba.HRF(), ba.Ridge(alphas=[1.0])),
    "row by row": lambda: ba.chain(StandardScaler(), PCA(3), ba.Ridge(alphas=[1.0])),
}
N_FEATURES = {"mixed": 5, "narrow": 2, "row by row": 3}


@pytest.mark.parametrize("name", CHAINS)
def test_copies_are_answered_one_after_the_other_and_features_lead_to_responses(timed, name):
    layer, table, features, bold = timed
    target = bold if name != "row by row" else ba.responses(
        np.random.default_rng(0).normal(size=(40, 7)), stimulus_id=features.stimulus_id, neuroid_id=range(7), modality="fmri", system="s"
    )  # fmt: skip
    voxels = ba.readout(layer, CHAINS[name]().fit(features, target))
    for piece in voxels.pieces(table)[-2:]:
        x, y = piece.inputs, piece.inputs.flip(0) * 0.5
        torch.testing.assert_close(piece.forward(torch.cat([x, y])), torch.cat([piece.forward(x), piece.forward(y)]))
        inner = piece.features
        assert inner.n == N_FEATURES[name]
        change = inner.piece.forward(x) - inner.piece.forward(y)
        linear = inner.linear(change[:, None], np.array([4, 0]))  # a dim between rows and features
        torch.testing.assert_close(linear[:, 0], (piece.forward(x) - piece.forward(y))[:, [4, 0]], atol=1e-5, rtol=1e-4)


def test_pieces_are_made_when_they_are_asked_for():
    made = []
    pieces = Pieces(["a", "b", "c"], lambda piece: made.append(piece) or piece.upper(), "first")
    assert len(pieces) == 4
    assert not made
    assert pieces[-1] == "C"
    assert made == ["c"]
    assert pieces[:2] == ["first", "A"]
    assert list(pieces) == ["first", "A", "B", "C"]
