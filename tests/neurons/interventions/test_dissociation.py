"""Two planted circuits dissociate doubly, and random units do not."""

import json

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import ParameterError


class TwoCircuits(torch.nn.Module):
    """Hidden units 0-4 answer task A from inputs 0-2, units 5-9 task B from inputs 3-5, and thirty do nothing."""

    def __init__(self):
        super().__init__()
        self.hidden, self.read = torch.nn.Linear(6, 40, bias=False), torch.nn.Linear(40, 4, bias=False)
        torch.manual_seed(1)
        with torch.no_grad():
            for layer in (self.hidden, self.read):
                layer.weight.zero_()
            for task in (0, 1):
                units = slice(5 * task, 5 * task + 5)
                self.hidden.weight[units, 3 * task] = torch.rand(5) + 1
                self.read.weight[2 * task, units], self.read.weight[2 * task + 1, units] = -1.0, 1.0
            self.hidden.weight[10:] = torch.randn(30, 6)

    def forward(self, x):
        return self.read(torch.tanh(self.hidden(x)))


def test_two_planted_circuits_dissociate_doubly_and_random_units_do_not(table):
    toy = ba.TorchResponder(TwoCircuits(), "read", system="toy")
    values = table(200)["values"].values
    names = [f"s{i}" for i in range(200)]
    tasks = {
        name: (ba.stimuli.table(values, stimulus_id=names, kind="array", condition=np.where(values[:, column] > 0, "yes", "no")),
               {"target": "condition", "neuroid": neuroids})
        for name, column, neuroids in (("A", 0, [0, 1]), ("B", 3, [2, 3]))
    }  # fmt: skip
    out = ba.neurons.double_dissociation(
        toy, tasks, circuits={"a": {"hidden": range(5)}, "b": {"hidden": range(5, 10)}}, n_draws=99, random_state=0
    )
    points = 100 * out.effect.values
    print("points lost", points.tolist(), "by random units at most", 100 * float(out.effect_random.max()))
    assert min(points[0, 0], points[1, 1]) >= 15
    assert max(points[0, 1], points[1, 0]) < 2
    assert float(out.effect_random.max()) < 0.02
    assert out.selectivity.values.tolist() == [1.0, 1.0]
    assert float(out.p_value_dissociation) == 0.01
    step = json.loads(out.attrs["provenance"])["steps"][-1]
    assert step["seed"] == 0
    alone = ba.lesion(
        toy,
        tasks["A"][0],
        units={"hidden": range(5)},
        n_draws=99,
        spared={"hidden": range(5, 10)},
        random_state=0,
        **tasks["A"][1],
    )
    assert step["params"]["lesions"]["a"]["A"] == json.loads(alone.attrs["provenance"])["steps"][-1]["params"]
    with pytest.raises(ParameterError, match=r"got tasks 'A'\. Expected two"):
        ba.neurons.double_dissociation(toy, {"A": tasks["A"]}, circuits={})
