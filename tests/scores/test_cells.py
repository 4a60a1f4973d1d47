"""Cells of a grid: groups of the target, empty ones included, and controls that all groups share."""

import numpy as np
import xarray as xr

from brainalign.scores.cells import Grid


def part(scores, **more):
    out = xr.Dataset({"score": ("neuroid", scores)}, coords={"status": ("neuroid", ["ok", "ok", "constant", "ok"])})
    return out.assign(more)


def test_a_cell_is_the_median_of_its_neuroids_that_have_a_score():
    grid = Grid("source_layer", "target_region", {"a": np.arange(3), "b": np.arange(5)}, {"V1": np.array([0, 1, 2]), "IT": np.array([3]), "V4": np.array([2])}, "median")  # fmt: skip
    out = grid.assemble([part([0.1, 0.3, 9.0, 0.5]), part([0.2, 0.4, 9.0, 0.6])], ())
    np.testing.assert_allclose(out.score, [[0.2, 0.5, np.nan], [0.3, 0.6, np.nan]])
    assert out.n_neuroids.values.tolist() == [2, 1, 0]
    assert out.n_features.values.tolist() == [3, 5]


def test_a_group_that_gives_no_score_takes_none_from_others():
    grid = Grid("source_layer", "target_region", {"a": np.arange(3), "b": np.arange(5)}, {"V1": np.arange(4)}, "mean")
    nothing = part([np.nan] * 4).assign_coords(status=("neuroid", ["undefined", "undefined", "constant", "undefined"]))
    out = grid.assemble([nothing, part([0.2, 0.4, 9.0, 0.6])], ())
    np.testing.assert_allclose(out.score, [[np.nan], [0.4]])
    assert out.n_neuroids.item() == 3
    assert out.status.values.tolist() == ["ok", "ok", "constant", "ok"]


def test_shared_controls_stand_beside_every_group():
    grid = Grid("source_layer", "target_region", {"a": np.arange(3), "b": np.arange(5)}, {"V1": np.arange(4)}, "mean")
    first, second = part([0.4] * 4), part([0.6] * 4)
    first = first.assign_coords(control=["constant", "own"]).assign(
        score_control=(("control", "neuroid"), [[0.1] * 4, [0.2] * 4])
    )
    second = second.assign_coords(control=["own"]).assign(score_control=(("control", "neuroid"), [[0.3] * 4]))
    out = grid.assemble([first, second], ["constant"])
    np.testing.assert_allclose(out.score_control[:, :, 0], [[0.1, 0.1], [0.2, 0.3]])
    np.testing.assert_allclose(out.score_minus_best_control[:, 0], [0.2, 0.3])
    alone = grid.assemble([first, second], [])
    assert np.isnan(alone.score_control.sel(control="constant")[1, 0])
