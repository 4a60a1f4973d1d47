import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import SchemaError
from brainalign.core.schema import as_labels
from brainalign.core.tables import (
    content_of,
    coords_of,
    numbered,
    order_of_neuroids,
    order_of_presentations,
    presentation_table,
    validate_stimuli,
)


def stimuli(ids=("a", "b", "a"), text=("one", "two", "one"), **changes):
    table = xr.Dataset(
        {"text": ("presentation", as_labels(list(text)))},
        coords={"stimulus_id": ("presentation", as_labels(list(ids)))},
        attrs={"kind": "text"},
    )
    return table.assign_attrs(changes)


def test_a_valid_table_comes_back_itself():
    table = stimuli()
    assert validate_stimuli(table) is table
    assert content_of(table) == "text"


def test_an_array_table_is_valid_with_dims_of_its_own():
    table = stimuli(kind="image").drop_vars("text").assign(values=(("presentation", "y", "x"), np.zeros((3, 2, 2))))
    assert content_of(validate_stimuli(table)) == "values"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (stimuli().to_dataframe(), r"is a DataFrame. Expected a stimulus table: build one with"),
        (stimuli().drop_vars("stimulus_id"), "no `stimulus_id` along presentation. Expected one string"),
        (stimuli().assign_coords(stimulus_id=("presentation", [1, 2, 1])), r"dtype int64. Expected strings: .*astype\(str\)"),
        (stimuli(ids=("a", "", "nan"), text=("one", "two", "three")), "no `stimulus_id` in rows 1, 2. Expected a name for each"),
        (stimuli().isel(presentation=slice(0)), "has no rows. Expected at least one presentation"),
        (stimuli().drop_vars("text"), r"holds the variables \[\]. Expected exactly one of"),
        (stimuli().assign(path=("presentation", ["x", "y", "x"])), r"\['text', 'path'\]. Expected exactly one of"),
        (stimuli().assign_coords(onset_s=("presentation", ["0", "1", "2"])), "`onset_s` of dtype .*Expected seconds as numbers"),
        (stimuli(kind="smell"), r"has kind 'smell'. Expected one of .*: set `stimuli.attrs"),
        (
            stimuli(text=("one", "two", "three")),
            "1 `stimulus_id` values that stand for two different contents: 'a'. .*give each its own",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_value_and_the_mend(table, says):
    with pytest.raises(SchemaError, match=says):
        validate_stimuli(table)


def test_the_message_calls_the_table_by_its_name():
    with pytest.raises(SchemaError, match=r"^words has no rows"):
        validate_stimuli(stimuli().isel(presentation=slice(0)), name="words")


def test_the_presentation_table_holds_the_rows_labels_and_nothing_else():
    x = ba.responses(
        np.ones((2, 3)), stimulus_id=["a", "b"], neuroid_id=[0, 1, 2], modality="meg", system="s", run="1", onset_s=[0.0, 2.0]
    )
    table = presentation_table(x)
    assert set(table.columns) == {"stimulus_id", "repetition", "run", "onset_s"}
    assert table["stimulus_id"].tolist() == ["a", "b"]
    assert table["run"].tolist() == ["1", "1"]
    assert table["onset_s"].tolist() == [0.0, 2.0]


def test_coords_of_keeps_the_dtype_unless_objects_are_asked_for():
    x = ba.responses(np.ones((1, 2)), stimulus_id=["a"], neuroid_id=["u", "v"], modality="meg", system="s", x_mm=[1.0, 2.0])
    plain, objects = coords_of(x, "neuroid"), coords_of(x, "neuroid", as_object=True)
    assert plain["neuroid_id"].dtype.kind == "T"
    assert objects["neuroid_id"].dtype == object
    assert objects["x_mm"].dtype == plain["x_mm"].dtype == np.float64


def test_rows_and_neuroids_are_sorted_by_name_and_those_of_one_name_keep_their_order():
    ids, layers = ["b", "a", "b", "a", "b"], ["l2", "l1", "l2", "l1"]
    labels = {"stimulus_id": ids, "run": ["2", "1", "1", "1", "1"], "neuroid_id": [10, 9, 2, 1], "layer": layers}
    x = ba.responses(np.ones((5, 4)), modality="ann", system="s", **labels)
    assert order_of_presentations(x).tolist() == [1, 3, 2, 4, 0]  # by stimulus, run, and how often it was shown
    assert order_of_neuroids(x).tolist() == [3, 1, 2, 0]  # numbers as numbers, within their layer
    shuffled = x[[4, 2, 0, 3, 1], [2, 0, 3, 1]]
    assert order_of_presentations(shuffled).tolist() == [4, 3, 1, 0, 2]
    assert shuffled.neuroid_id.values[order_of_neuroids(shuffled)].tolist() == [1, 9, 2, 10]


def test_what_has_no_labels_is_named():
    for x in (np.ones((2, 3)), None, [1, 2], "x"):
        with pytest.raises(SchemaError, match=f"Got a {type(x).__name__} without labels. Expected an xarray.DataArray"):
            coords_of(x, "presentation")
    with pytest.raises(SchemaError, match="Got a ndarray without labels"):
        ba.split(np.ones((2, 3)))


def test_labels_are_numbered_as_they_come_and_none_may_lack():
    codes, names = numbered(as_labels(["V2", "V1", "V2"]), "region", "neuroid")
    assert (codes.tolist(), names.tolist()) == ([0, 1, 0], ["V2", "V1"])
    for labels in (np.array(["V1", None, "V2", None], dtype=object), np.array([1.0, np.nan, 2.0, np.nan])):
        with pytest.raises(SchemaError, match=r"2 of 4 neuroids have no `region`, first 1, 3"):
            numbered(labels, "region", "neuroid")
