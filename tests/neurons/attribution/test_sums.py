"""Sums of pieces, and what is said of their completeness."""

import json

import numpy as np
import pandas as pd
import torch

import brainalign as ba
from brainalign.neurons.attribution.pieces import Found
from brainalign.neurons.attribution.sums import Sums, completeness


def found(values, at=None, layer="", dims=("part",)):
    values = torch.as_tensor(values, dtype=torch.float64)
    responses = torch.stack([torch.zeros(values.shape[:2]), values.flatten(2).sum(2)])
    return Found(values, dims, at, {"unit_id": np.arange(values.shape[2])} if layer else {}, responses, layer)


def test_what_pieces_add_to_a_row_adds_up_and_constants_are_no_attribution():
    table = ba.stimuli.table(np.ones((4, 1), dtype="float32"), stimulus_id=list("abcd"), kind="array")
    sums = Sums(np.array([1, 5]), 1, 4)
    local, positions = sums.wanted(np.array([0, 5, 1, 9]))
    assert local.tolist() == [1, 2]
    assert positions.tolist() == [1, 0]
    sums.add(np.array([0, 1]), found([[[1.0, 2.0]], [[3.0, 4.0]]], at=np.array([0, 2])))
    sums.add(np.array([1]), found([[[10.0]]], at=np.array([2])))
    sums.add_constant(np.array([0, 1]), torch.full((2, 1), 0.5))
    out = sums.labelled({"neuroid_id": np.array([7])}, pd.DataFrame({"stimulus_id": ["x", "y"]}), table, complete=True)
    assert out.values[:, 0].tolist() == [[1, 0, 2, 0], [3, 0, 14, 0]]
    assert out.part_stimulus_id.values.tolist() == list("abcd")
    assert out.response.values[:, 0].tolist() == [3.5, 17.5]
    assert out.baseline_response.values[:, 0].tolist() == [0.5, 0.5]
    assert completeness([sums.tally]) == {"completeness_error": 0.0}


def test_layers_lie_side_by_side_and_their_flow_is_joined_over_tiles():
    table = ba.stimuli.table(np.ones((1, 1), dtype="float32"), stimulus_id=["a"], kind="array")
    sums = Sums(np.array([0]), 1, 1)
    whole, half = found([[[1.0, 1.0]]], layer="a", dims=("unit",)), found([[[0.5, 0.25, 0.25]]], layer="b", dims=("unit",))
    sums.add(np.array([0]), whole)
    sums.add(np.array([0]), Found(half.values, half.dims, None, half.labels, whole.responses, "b"))
    out = sums.labelled({"neuroid_id": np.array([7])}, pd.DataFrame({"stimulus_id": ["x"]}), table, complete=True)
    assert out.unit_layer.values.tolist() == ["a", "a", "b", "b", "b"]
    attrs = completeness([sums.tally, {}, sums.tally])
    assert json.loads(attrs["through_flow"]) == {"a": 1.0, "b": 0.5}
    assert attrs["completeness_error"] == 0.5
