"""A readout fitted anew, or behind another network, is what readout makes of it."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import AlignmentError


@pytest.fixture
def parts():
    torch.manual_seed(0)
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh()), "1", system="net")
    rng = np.random.default_rng(0)
    table = ba.stimuli.table(rng.normal(size=(30, 6)), stimulus_id=[f"s{i}" for i in range(30)], kind="array")
    features = ba.record(net, table, progress=False)
    brain = ba.responses(
        rng.normal(size=(30, 3)), stimulus_id=features.stimulus_id, neuroid_id=list("abc"), modality="fmri", system="s"
    )
    return net, table, features, brain


def test_it_answers_as_a_new_readout_and_in_the_rows_of_the_target(parts):
    net, table, features, brain = parts
    model = ba.Ridge(alphas=[1.0, 10.0])
    first = ba.readout(net, model.fit(features, brain))
    assert first.separate_targets
    moved = brain[::-1].copy(data=brain.values)
    again = first.refitted(features, moved)
    expected = ba.readout(net, ba.Ridge(alphas=[1.0, 10.0]).fit(features[::-1], moved))
    np.testing.assert_allclose(
        ba.record(again, table, progress=False).values, ba.record(expected, table, progress=False).values, atol=1e-5
    )
    assert not again.scores
    assert "mapping_score" in first.scores
    with pytest.raises(AlignmentError, match=r"30 presentations \('s29'"):
        first.refitted(features[:0], moved)


def test_the_same_mapping_stands_behind_another_network(parts):
    net, table, features, brain = parts
    model = ba.chain(ba.Reduce(3, random_state=0), ba.Ridge(alphas=[1.0])).fit(features, brain)
    other = net.untrained(0)
    found = ba.record(ba.readout(net, model).with_backbone(other), table, progress=False)
    np.testing.assert_allclose(found.values, ba.record(ba.readout(other, model), table, progress=False).values)
