"""Parts that matter are those whose removal is felt: known orders, known losses, words under temporal mixing, both kinds alike."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.neurons import deletion_insertion, removal_agreement


def linear(n=12, width=10):
    torch.manual_seed(0)
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(width, 4)), "0", system="net")
    values = np.random.default_rng(0).normal(size=(n, width))
    return net, ba.stimuli.table(values, stimulus_id=[f"s{i}" for i in range(n)], kind="array")


def test_no_order_is_better_than_that_of_true_effects_and_a_random_one_has_zero():
    net, table = linear(40)
    a = ba.attribute(net, table, method="gradient-times-input")
    best = deletion_insertion(net, table, a, n_steps=10)
    rng = np.random.default_rng(0)
    others = [deletion_insertion(net, table, a.copy(data=rng.permuted(a.values, axis=-1)), n_steps=10).score for _ in range(5)]
    change = np.abs(a.values.sum(axis=-1))
    assert all((best.score >= other - 1e-4).all() for other in others)
    assert abs(np.average(np.stack(others), weights=np.broadcast_to(change, (5, 40, 4)))) < 0.15
    np.testing.assert_allclose(best.deletion.isel(removed=0), 1.0, atol=1e-5)
    np.testing.assert_allclose(best.deletion.isel(removed=-1), 0.0, atol=1e-5)
    np.testing.assert_allclose(best.insertion_auc, 1 - best.deletion_auc, atol=1e-4)  # an additive response
    first = np.argsort(-a.values[0, 0] * np.sign(a.values[0, 0].sum()))
    np.testing.assert_allclose(
        best.insertion.values[0, 0], np.r_[0, np.cumsum(a.values[0, 0][first])] / a.values[0, 0].sum(), atol=1e-4
    )


def test_losses_of_a_linear_unit_are_what_its_attribution_says():
    net, table = linear()
    a = ba.attribute(net, table, method="gradient-times-input")
    for n_removed in (None, 1, 5):
        out = removal_agreement(net, table, a, n_removed=n_removed, random_state=0)
        np.testing.assert_allclose(out.score, 1.0, atol=1e-5)
        assert out.infidelity.max() < 1e-10
    wrong = removal_agreement(net, table, a.copy(data=a.values[..., ::-1]), random_state=0)
    assert wrong.score.mean() < 0.5
    assert (wrong.infidelity > 0.01).any()


def test_groups_and_some_neuroids_and_presentations():
    net, table = linear()
    groups = np.repeat(np.arange(5), 2)
    a = ba.attribute(
        net, table, neuroid=[3, 1], presentations=[2, 7], groups=groups, baseline="mean", method="gradient-times-input"
    )
    out = deletion_insertion(net, table, a, groups=groups, baseline="mean", n_steps=5)
    assert out.score.shape == (2, 2)
    assert out.stimulus_id.values.tolist() == ["s2", "s7"]
    assert out.neuroid_id.values.tolist() == a.neuroid_id.values.tolist()
    assert (removal_agreement(net, table, a, groups=groups, baseline="mean", random_state=0).score > 0.999).all()


@pytest.mark.parametrize("which", ["region", "unit"])
def test_words_are_taken_out_of_every_volume_that_heard_them(which):
    rng = np.random.default_rng(0)
    net, _ = linear(width=6)
    table = ba.stimuli.table(rng.normal(size=(20, 6)), stimulus_id=[f"w{i:02d}" for i in range(20)], kind="array",
                             onset_s=np.arange(20) * 0.5, duration_s=np.full(20, 0.5), run=["a"] * 20)  # fmt: skip
    features = ba.record(net, table, progress=False)
    bold = ba.responses(rng.normal(size=(5, 2)), stimulus_id=[f"v{i}" for i in range(5)], neuroid_id=["x", "y"], modality="fmri", system="s",
                        run=["a"] * 5, onset_s=np.arange(5) * 2.0, duration_s=2.0)  # fmt: skip
    chain = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2, 4]), ba.Ridge(alphas=[0.1]))
    responder = ba.readout(net, chain.fit(features, bold)) if which == "region" else net
    a = ba.attribute(responder, table, presentations=[2, 4], method="gradient-times-input")
    out = removal_agreement(responder, table, a, random_state=0, n_draws=20)
    np.testing.assert_allclose(out.score, 1.0, atol=1e-3)  # all is linear
    assert (deletion_insertion(responder, table, a, n_steps=4).score > 0).all()


def test_bad_input_is_refused():
    net, table = linear()
    a = ba.attribute(net, table)
    with pytest.raises(ParameterError, match="no `pieces`"):
        deletion_insertion(object(), table, a)
    with pytest.raises(AlignmentError, match="to 3 parts"):
        deletion_insertion(net, table, a[:, :, :3])
    with pytest.raises(AlignmentError, match="in another order"):
        deletion_insertion(net, table, a[::-1])
    with pytest.raises(ParameterError, match="'n_removed'"):
        removal_agreement(net, table, a, n_removed=11)
