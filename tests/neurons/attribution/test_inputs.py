"""Baselines and groups: what attributions start from and are summed over."""

import numpy as np
import pytest
import torch
import xarray as xr

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.protocols import Piece
from brainalign.neurons.attribution.inputs import Baseline, group_index, mean_input


class Words:
    """A responder of two windows of three positions, the first of each of which is no word."""

    def __init__(self):
        self.made = [self.piece(np.array([[-1, 0, 1]]), 0.0), self.piece(np.array([[-1, 1, 2]]), 10.0)]

    def piece(self, parts, offset):
        inputs = torch.arange(6.0).reshape(1, 3, 2) + offset
        return Piece(inputs, lambda x: x.flatten(1), parts[parts >= 0], parts, ("position", "embedding"))

    def presentations(self, stimuli):
        return range(3)

    def pieces(self, stimuli, rows=None):
        return self.made


def at(starts, *positions):
    return starts(torch.tensor(positions))


def test_zero_and_mean_leave_what_is_no_stimulus():
    words = Words()
    zero = at(Baseline("zero", words, None, n_draws=4, seed=0).starts(words.made[0]), 0)
    assert zero[0].tolist() == [[[0, 1], [0, 0], [0, 0]]]
    mean = at(Baseline("mean", words, None, n_draws=4, seed=0).starts(words.made[0]), 0)
    assert mean[0].tolist() == [[[0, 1], [8, 9], [8, 9]]]
    assert mean_input(words.made).tolist() == [8, 9]


def test_draws_are_of_other_stimuli_and_follow_the_stimulus():
    words = Words()
    baseline = Baseline("presentations", words, None, n_draws=50, seed=3)
    assert baseline.n_starts == 50
    first, second = (at(baseline.starts(piece), *range(50)) for piece in words.made)
    assert first.shape == (50, 1, 3, 2)
    assert (first[:, 0, 0] == torch.tensor([0.0, 1.0])).all()
    assert set(first[:, 0, 1, 0].tolist()) == {4.0, 12.0, 14.0}  # words 1, 1 and 2, never word 0
    assert set(first[:, 0, 2, 0].tolist()) == {2.0, 14.0}
    assert torch.equal(first[:, 0, 2], second[:, 0, 1])  # word 1, in both windows


@pytest.mark.parametrize("given", [lambda x: None, ["a", "b"], np.array([1.0, np.nan]), lambda x: x / 0])
def test_baselines_that_are_no_finite_numbers_are_refused(given):
    table = ba.stimuli.table(np.ones((3, 2), dtype="float32"), stimulus_id=list("abc"), kind="array")
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(2, 1)), layers="0", system="net")
    with pytest.raises(ParameterError, match=r"attribute got a baseline .*Expected finite numbers"):
        Baseline(given, net, table, n_draws=1, seed=0).starts(net.pieces(table)[0])


def test_arrays_and_functions_are_baselines():
    table = ba.stimuli.table(np.ones((3, 2), dtype="float32"), stimulus_id=list("abc"), kind="array")
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(2, 1)), layers="0", system="net")
    (piece,) = net.pieces(table)
    given = Baseline(np.array([1.0, 2.0]), net, table, n_draws=1, seed=0)
    assert at(given.starts(piece), 0)[0].tolist() == [[1, 2]] * 3
    halved = Baseline(lambda x: x / 2, net, table, n_draws=1, seed=0)
    assert at(halved.starts(piece), 0)[0].tolist() == [[0.5, 0.5]] * 3
    with pytest.raises(ParameterError, match=r"baseline of shape \(3,\) for inputs of shape \(2,\)"):
        Baseline(np.ones(3), net, table, n_draws=1, seed=0).starts(piece)
    with pytest.raises(ParameterError, match=r"'baseline'.*zero"):
        Baseline("blur", net, table, n_draws=1, seed=0)
    with pytest.raises(ParameterError, match="a single presentation"):
        Baseline("presentations", net, table.isel(presentation=[0]), n_draws=1, seed=0)


def test_token_ids_are_neither_moved_nor_given_to_captum():
    table = ba.stimuli.table(np.ones((3, 2), dtype="float32"), stimulus_id=list("abc"), kind="array")
    embedding = torch.nn.Sequential(torch.nn.Embedding(5, 2))
    ids = ba.TorchResponder(embedding, layers="0", system="net", preprocess=lambda x: torch.as_tensor(x).long())
    (piece,) = ids.pieces(table)
    given = Baseline(np.array([4, 3]), ids, table, n_draws=1, seed=0).starts(piece)
    assert at(given, 0)[0].tolist() == [[4, 3]] * 3
    with pytest.raises(CapabilityError, match=r"stability got torch.int64 inputs"):
        ba.neurons.stability(ids, table, verb=lambda net, x: ba.record(net, x, progress=False).where(bool(net.pieces(x))))
    pytest.importorskip("captum")
    with pytest.raises(CapabilityError, match=r"captum_forward got torch.int64 inputs"):
        ba.neurons.captum_forward(ids, table)


def test_functions_are_told_apart_by_what_they_make():
    words = Words()

    def mean(x):
        return x / 2

    first, other, again = (Baseline(f, words, None, n_draws=1, seed=0) for f in (lambda x: x / 2, lambda x: x / 3, mean))
    assert first.label == other.label == "<lambda>()"
    assert first.key == again.key != other.key
    assert again.label == "mean()"  # and not the mean over stimuli
    assert at(again.starts(words.made[1]), 0)[0, 0, 1].tolist() == [6, 6.5]
    assert Baseline("mean", words, None, n_draws=1, seed=0).key is None


def test_groups_cover_the_input_by_name_or_by_shape():
    dims, shape = ("channel", "y", "x"), (2, 2, 3)
    columns = xr.DataArray(["l", "l", "r"], dims="x")
    index, labels = group_index(columns, shape, dims)
    assert labels.tolist() == ["l", "r"]
    assert index.shape == (1, 2, 2, 3)
    assert index[0, 1, 1].tolist() == [0, 0, 1]
    assert group_index(np.array([3, 5]).reshape(2, 1, 1), shape, dims)[0][0, :, 0, 0].tolist() == [0, 1]
    with pytest.raises(ParameterError, match=r"groups of shape \(5,\) for inputs \{'channel': 2"):
        group_index(np.zeros(5), shape, dims)
    for labels in (np.array([0, -1, 2]), ["l", None, "r"], np.array(["l", np.nan, "r"], dtype=object)):
        with pytest.raises(ParameterError, match="leave out 4 of 12 elements"):
            group_index(labels, shape, dims)
