"""Maps that hang on weights change with them; those of the input alone are found out, the same for units and voxels."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import CapabilityError
from brainalign.neurons import sanity_check


def edges(responder, stimuli, **options):
    """A map that looks like an explanation and knows the input only."""
    a = ba.attribute(responder, stimuli, **options)
    return a.copy(data=np.broadcast_to(np.abs(stimuli["values"].values)[:, None], a.shape))


def test_gradients_pass_and_edges_fail(net, table):
    x = table(width=6)
    good = sanity_check(net, x, method="gradient", random_state=0)
    assert good.stage.values.tolist() == ["2", "0"]
    assert good.similarity.dims == ("stage", "neuroid")
    assert good.score.mean() > 0.5
    bad = sanity_check(net, x, verb=edges, method="gradient", random_state=0)
    assert (bad.similarity == 1.0).all()
    assert (bad.score == 0.0).all()
    assert not bad.passed.any()


def test_a_voxel_is_checked_by_the_same_call_and_with_other_labels(net, table):
    x = table(width=6)
    features = ba.record(net, x, progress=False)
    brain = ba.responses(
        features.values[:, :2], stimulus_id=features.stimulus_id, neuroid_id=["a", "b"], modality="fmri", system="s"
    )
    voxels = ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(features, brain))
    out = sanity_check(voxels, x, target=brain, method="gradient", random_state=0)
    assert out.stage.values.tolist() == ["2", "0", "permuted labels"]
    np.testing.assert_allclose(out.similarity.values[:2], sanity_check(voxels, x, method="gradient", random_state=0).similarity)
    assert (sanity_check(voxels, x, verb=edges, target=brain, random_state=0).similarity == 1.0).all()


def test_labels_of_a_network_that_was_fitted_to_none_are_named(net, table):
    with pytest.raises(CapabilityError, match=r"target= for a TorchResponder.*ba\.readout"):
        sanity_check(net, table(width=6), target=ba.record(net, table(width=6), progress=False), method="gradient")


def test_a_responder_without_weights_is_named(table):
    with pytest.raises(CapabilityError, match="no method `untrained`"):
        sanity_check(object(), table())
