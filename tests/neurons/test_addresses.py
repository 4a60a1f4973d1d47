"""Neuroids are found by their names and addresses."""

import numpy as np
import pytest

from brainalign.core.errors import ParameterError
from brainalign.neurons.addresses import find_neuroids

GROUPS = {"a": {"neuroid_id": np.array([0, 1]), "unit": np.array([5, 6])}, "b": {"neuroid_id": np.array([1, 2])}}


def test_names_and_addresses():
    columns, coords = find_neuroids(GROUPS, ["b/1", 2, "a/0"])
    assert columns.tolist() == [2, 3, 0]
    assert sorted(coords) == ["layer", "neuroid_id"]
    assert coords["layer"].tolist() == ["b", "b", "a"]
    assert find_neuroids(GROUPS, None)[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("wanted", "message"), [(1, "matches 2 neuroids"), ("c/0", "matches no neuroid"), ([], "empty `neuroid`")]
)
def test_names_that_do_not_say_which(wanted, message):
    with pytest.raises(ParameterError, match=message):
        find_neuroids(GROUPS, wanted)
