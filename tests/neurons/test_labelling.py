"""Labels, what changes places, and blocks of neuroids."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import NullWarning, ParameterError, SchemaError
from brainalign.neurons.labelling import blocks_of, labelled, labels_of, rows_of


@pytest.fixture
def x():
    values = np.arange(12 * 5 * 2, dtype="float32").reshape(12, 5, 2)
    return ba.responses(
        values, stimulus_id=np.repeat([f"s{i}" for i in range(6)], 2), neuroid_id=range(5), time=[0.0, 0.1], modality="meg", system="a",
        condition=np.repeat(list("aab"), 4), session=np.tile(["1", "2"], 6),
    )  # fmt: skip


def test_labels_of_a_coordinate_and_of_a_table(x):
    names, member = labels_of(x, "condition", owner="f")
    assert names.tolist() == ["a", "b"]
    assert member.sum(axis=0).tolist() == [8, 4]
    table = xr.DataArray(member > 0, dims=("presentation", "category"), coords={"category": ["one", "two"]})
    names, again = labels_of(x, table, owner="f")
    assert names.tolist() == ["one", "two"]
    assert (again == member).all()


def test_stimuli_change_places_with_their_presentations(x):
    rows = rows_of(x, "stimulus_id", None, owner="f")
    orders = rows.orders(20, np.random.default_rng(0))
    ids = x.stimulus_id.values
    assert all((ids[order][::2] == ids[order][1::2]).all() for order in orders)
    weights, n = rows.weights(5, np.random.default_rng(0))
    assert n == 6
    assert (weights[:, ::2] == weights[:, 1::2]).all()
    within = rows_of(x, None, "session", owner="f").orders(20, np.random.default_rng(0))
    assert all((x.session.values[order] == x.session.values).all() for order in within)


def test_groups_that_cannot_change_places_are_counted(x):
    apart = x.assign_coords(block=("presentation", np.repeat(list("abcd"), [1, 2, 4, 5])))
    with pytest.raises(ParameterError, match=r"f got 4 groups of presentations.* none can change places"):
        rows_of(apart, "block", None, owner="f").orders(2, np.random.default_rng(0))
    some = x.assign_coords(block=("presentation", np.repeat(list("abcde"), [2, 2, 2, 2, 4])))
    with pytest.warns(NullWarning, match="f cannot exchange 1 of 5 groups"):
        orders = rows_of(some, "block", None, owner="f").orders(9, np.random.default_rng(0))
    assert (orders[:, 8:] == np.arange(8, 12)).all()
    with pytest.raises(ParameterError, match=r"no two of their part .* make parts larger"):
        rows_of(x[::2], None, "stimulus_id", owner="f").orders(2, np.random.default_rng(0))


def test_rows_in_time_are_shifted_within_their_runs(x):
    timed = x.drop_vars("session").assign_coords(
        onset_s=("presentation", np.tile(np.arange(6.0) * 15, 2)), run=("presentation", np.repeat(["1", "2"], 6))
    )
    rows = rows_of(timed, None, None, owner="f")
    for order in rows.orders(5, np.random.default_rng(0)):
        assert (np.diff(order[:6]) % 6 == 1).all()
    assert rows.weights(1, np.random.default_rng(0))[1] == 8  # stretches of 20 s in two runs of 90
    with pytest.raises(ParameterError, match="within='run' for presentations in time"):
        rows_of(timed, None, "run", owner="f")


@pytest.mark.parametrize("together", [2, 6, 512])
def test_blocks_hold_all_presentations_of_whole_neuroids(x, together):
    blocks = list(blocks_of(x, max_memory=2**20, owner="f", together=together))
    assert np.concatenate([np.arange(5)[unit] for unit, _ in blocks]).tolist() == list(range(5))
    np.testing.assert_array_equal(np.concatenate([values for _, values in blocks], axis=1), x.values.reshape(12, -1))
    lazy = x.chunk({"presentation": 5, "neuroid": 2})
    for (unit, values), (other, same) in zip(
        blocks, blocks_of(lazy, max_memory=12 * 4 * 2 * 5, owner="f", together=together), strict=True
    ):
        assert unit == other
        np.testing.assert_array_equal(values, same)


def test_bad_labels_are_named(x):
    with pytest.raises(ParameterError, match=r"f got 'conditon'.*Did you mean 'condition'"):
        labelled(x, "conditon", owner="f")
    with pytest.raises(SchemaError, match=r"'condition' without a value at presentations 0, 3"):
        labelled(x.assign_coords(condition=("presentation", ["", "b", "b", "nan", *"bbbbbbbb"])), "condition", owner="f")
    with pytest.raises(ParameterError, match="is 'b' in all 4 presentations"):
        labels_of(x[8:], "condition", owner="f")
    with pytest.raises(ParameterError, match="got a target with a list"):
        labels_of(x, ["a"], owner="f")
    with pytest.raises(SchemaError, match="target of 3 presentations for responses to 12"):
        labels_of(x, xr.DataArray(np.ones((3, 2), dtype=bool), dims=("presentation", "category")), owner="f")
    with pytest.raises(ParameterError, match="Expected at least 96"):
        list(blocks_of(x, max_memory=10, owner="f", together=2))
    with pytest.raises(ParameterError, match="12 presentations that are one unit"):
        rows_of(x.assign_coords(one=("presentation", ["a"] * 12)), "one", None, owner="f").weights(3, np.random.default_rng(0))
