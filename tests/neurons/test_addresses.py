"""Neuroids are found by their names and addresses."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError
from brainalign.neurons.addresses import columns_of, find_neuroids, names_of

GROUPS = {"a": {"neuroid_id": np.array([0, 1]), "unit": np.array([5, 6])}, "b": {"neuroid_id": np.array([1, 2])}}


def test_names_and_addresses():
    columns, coords = find_neuroids(GROUPS, ["b/1", 2, "a/0"], owner="patch")
    assert columns.tolist() == [2, 3, 0]
    assert sorted(coords) == ["layer", "neuroid_id"]
    assert coords["layer"].tolist() == ["b", "b", "a"]
    assert find_neuroids(GROUPS, None, owner="patch")[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (1, r"patch got neuroid=1, which matches 2 neuroids, 'a/1', 'b/1'.*'group/id'\.$"),
        ("c/0", "matches no neuroid"),
        ([], "empty `neuroid`"),
    ],
)
def test_names_that_do_not_say_which(wanted, message):
    with pytest.raises(ParameterError, match=message):
        find_neuroids(GROUPS, wanted, owner="patch")


def test_neuroids_of_a_recording():
    ids = {"stimulus_id": ["s0"], "neuroid_id": [0, 1, 0], "modality": "ann", "system": "net"}
    names = names_of(ba.responses(np.ones((1, 3)), layer=["a", "a", "b"], **ids))
    assert names == (["0", "1", "0"], ["a/0", "a/1", "b/0"])
    assert columns_of(*names, ["b/0", 1], owner="exemplars").tolist() == [2, 1]
    alone = names_of(ba.responses(np.ones((1, 3)), **{**ids, "neuroid_id": [0, 1, 2]}))
    assert alone[0] == alone[1]
    assert columns_of(*alone, "2", owner="exemplars").tolist() == [2]
