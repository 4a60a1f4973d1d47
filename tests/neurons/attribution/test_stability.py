"""A linear unit's gradient does not move; a curved one's does, the more the further; the same for units, voxels and words."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.neurons import stability


@pytest.fixture
def linear(table):
    torch.manual_seed(0)
    return ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 4)), "0", system="net"), table()


def test_gradients_of_a_linear_unit_do_not_move(linear):
    out = stability(*linear, method="gradient", k=2, random_state=0, radius=1.0)
    np.testing.assert_allclose(out.score, 1.0, atol=1e-6)
    np.testing.assert_allclose(out.kendall, 1.0)
    assert (out.top_overlap == 1.0).all()
    assert (out.sensitivity == 0.0).all()


def test_others_move_the_more_the_further(net, table):
    near, far = (stability(net, table(), method="gradient", radius=r, n_draws=3, k=2, random_state=0) for r in (0.01, 1.0))
    assert (near.score > 0.99).all()
    for name in ("score", "kendall", "top_overlap"):
        assert far[name].mean() < near[name].mean()
    assert far.sensitivity.mean() > near.sensitivity.mean()
    again = stability(net, table(), method="gradient", radius=1.0, n_draws=3, k=2, random_state=0)
    np.testing.assert_array_equal(again.score, far.score)


def test_voxels_and_words_are_moved_too(net, table, gpt2, texts):
    x = table()
    features = ba.record(net, x, progress=False)
    brain = ba.responses(
        features.values @ np.ones((4, 9)), stimulus_id=features.stimulus_id, neuroid_id=range(9), modality="fmri", system="s"
    )
    voxels = ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(features, brain))
    assert stability(voxels, x, n_draws=1, random_state=0, radius=0.5).score.shape == (40, 9)
    lm = ba.TransformersResponder(gpt2, layers="h.1", pool="mean", system="lm")
    out = stability(lm, texts(2, 0), neuroid=[0], n_draws=1, random_state=0, radius=0.001)
    assert (out.sensitivity > 0).all()


def test_bad_input_is_refused(net, table):
    with pytest.raises(CapabilityError, match="inputs can be moved"):
        stability(object(), table())
    with pytest.raises(ParameterError, match="'radius'"):
        stability(net, table(), radius=-1.0)
