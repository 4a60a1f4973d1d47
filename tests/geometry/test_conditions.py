import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.geometry.conditions import Cell, cells_of, check_folds, labels_of, read_cells


@pytest.fixture
def x():
    return ba.responses(
        np.arange(24.0).reshape(6, 4), stimulus_id=list("abcabc"), neuroid_id=range(4), modality="ann", system=["n", "n", "m", "m"],
        layer=["u", "v", "v", "v"], run=["1", "1", "1", "2", "2", "2"],
    )  # fmt: skip


def test_labels_are_numbered_as_they_appear(x):
    codes, names = labels_of(x, "stimulus_id", parameter="condition")
    assert codes.tolist() == [0, 1, 2, 0, 1, 2]
    assert names.tolist() == ["a", "b", "c"]
    with pytest.raises(ParameterError, match=r"folds='runs' is no presentation coordinate.*Did you mean 'run'"):
        labels_of(x, "runs", parameter="folds")
    numbers = x.assign_coords(run=("presentation", [2, 1, 2, 1, 1, 2]))
    assert labels_of(numbers, "run", parameter="folds")[1].tolist() == ["2", "1"]


@pytest.mark.parametrize(
    "missing", [["1", None, "1", "2", "2", "2"], [1.0, np.nan, 1.0, 2.0, 2.0, 2.0], [*["2020-01-01", "NaT"] * 3]]
)
def test_what_has_no_label_is_in_no_condition_fold_or_group(x, missing):
    """A float NaN and a time that is none are no labels either."""
    dtype = "M8[ns]" if "NaT" in missing else float if 1.0 in missing else object
    unnamed = x.assign_coords(run=("presentation", np.array(missing, dtype=dtype)))
    n = "3 of 6 presentations have no `run`, first 1, 3, 5" if "NaT" in missing else "1 of 6 presentations have no `run`, first 1"
    for call in (lambda: labels_of(unnamed, "run", parameter="folds"), lambda: cells_of(unnamed, "run")):
        with pytest.raises(SchemaError, match=n):
            call()
    with pytest.raises(SchemaError, match="1 of 4 neuroids have no `layer`, first 2"):
        cells_of(x.assign_coords(layer=("neuroid", np.array(["u", "v", None, "v"], dtype=object))), "layer")


def test_cells_are_a_grid_of_presentations_and_neuroids(x):
    labels, cells = cells_of(x, ("run", "layer", "system"))
    assert {name: values.tolist() for name, values in labels.items()} == {
        "run": ["1", "2"],
        "layer": ["u", "v"],
        "system": ["n", "m"],
    }
    assert [(*cell.labels.values(), cell.columns.tolist()) for cell in cells[4:]] == [
        ("2", "u", "n", [0]), ("2", "u", "m", []), ("2", "v", "n", [1]), ("2", "v", "m", [2, 3]),
    ]  # fmt: skip
    assert cells[4].rows.tolist() == [3, 4, 5]
    assert str(cells[4]) == "run='2', layer='u', system='n'"
    assert str(cells_of(x.assign_coords(run=("presentation", np.repeat([1, 2], 3))), "run")[1][1]) == "run=2"
    with pytest.raises(ParameterError, match=r"by=\('run', 'run'\) names a coordinate twice"):
        cells_of(x, ("run", "run"))
    with pytest.raises(ParameterError, match="by='stimulus' is no coordinate"):
        cells_of(x.assign_coords(stimulus=x.stimulus_id), "stimulus")
    with pytest.raises(ParameterError, match="by=5 is no coordinate"):
        cells_of(x, 5)


def test_cells_of_the_same_presentations_are_read_together_as_far_as_memory_allows(x):
    """A region that is spread over the chunks of a store would otherwise read them all, and so would the next one."""
    _, cells = cells_of(x, ("layer", "run"))
    reads = []
    lazy = x.copy(data=x.chunk().data.map_blocks(lambda block: reads.append(block.shape) or block, meta=np.zeros((0, 0))))
    for max_memory, expected in ((2**20, [[0, 2], [1, 3]]), (8 * 3, [[0], [2], [1], [3]])):
        reads.clear()
        found = list(read_cells(lazy, cells, max_memory=max_memory))
        assert [those for those, _, _ in found] == expected
        assert len(reads) == len(expected)
        for those, columns, block in found:
            assert columns.tolist() == sorted(np.concatenate([cells[i].columns for i in those]))
            np.testing.assert_array_equal(block, x.values[cells[those[0]].rows][:, columns])


def test_folds_must_repeat_conditions():
    names, folds = np.array(["a", "b", "c"], dtype=object), np.array(["1", "2"], dtype=object)
    where = Cell({}, np.arange(0), np.arange(0))
    check_folds(np.ones((2, 3), dtype=int), names, folds, "run", complete=True, where=where)
    with pytest.raises(SchemaError, match=r"folds='run' has 1 value \('1'\) in all presentations and neuroids"):
        check_folds(np.ones((1, 3), dtype=int), names, folds[:1], "run", complete=False, where=where)
    with pytest.raises(SchemaError, match=r"1 of 3 conditions are in one fold of 'run' only, .*: 'b'"):
        check_folds(np.array([[1, 0, 1], [1, 2, 1]]), names, folds, "run", complete=False, where=where)
    three = np.array(["1", "2", "3"], dtype=object)
    holed = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]])
    check_folds(holed, names, three, "run", complete=False, where=where)
    with pytest.raises(SchemaError, match=r"1 of 3 conditions are missing from some of the 3 folds of 'run', .*: 'c'"):
        check_folds(holed, names, three, "run", complete=True, where=where)
