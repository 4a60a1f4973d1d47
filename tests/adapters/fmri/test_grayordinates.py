import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, ParcelsAxis

from brainalign.adapters.fmri.grayordinates import columns_of, grid_of_axis, is_parcellated, places_of, structures_of


@pytest.fixture
def brain():
    return BrainModelAxis.from_surface([2, 3, 9], 10, name="CORTEX_RIGHT") + BrainModelAxis(
        "BRAIN_STEM", voxel=np.array([[0, 0, 1], [1, 0, 1], [0, 1, 0]]), affine=np.eye(4), volume_shape=(2, 2, 2)
    )


def test_places_are_the_same_in_any_order_and_no_two_are(brain):
    order = [4, 0, 5, 2, 1, 3]
    assert places_of(brain[order]).equals(places_of(brain)[order])
    left = BrainModelAxis.from_surface([2, 3, 9], 10, name="CORTEX_LEFT")
    assert places_of(brain).union(places_of(left)).size == 9


def test_runs_of_places_say_it_all(brain):
    assert structures_of(brain).tolist() == ["CORTEX_RIGHT"] * 3 + ["BRAIN_STEM"] * 3
    assert grid_of_axis(brain) == {
        "models": [{"structure": "CORTEX_RIGHT", "vertices": [2, 2, 9, 1]}, {"structure": "BRAIN_STEM", "voxels": [4, 2, 2, 1]}],
        "n_vertices": {"CORTEX_RIGHT": 10},
        "shape": [2, 2, 2],
        "affine": np.eye(4).tolist(),
    }
    parcels = ParcelsAxis.from_brain_models([("a", brain[:2]), ("b", brain[2:4])])
    assert (is_parcellated(brain), is_parcellated(parcels)) == (False, True)
    assert grid_of_axis(parcels)["parcels"] == [
        {"name": "a", "vertices": {"CORTEX_RIGHT": [2, 2]}, "voxels": []},
        {"name": "b", "vertices": {"CORTEX_RIGHT": [9, 1]}, "voxels": [4, 1]},
    ]


def test_columns_without_a_volume_or_without_a_surface(brain):
    assert set(columns_of(brain[:3], np.arange(3))) == {"neuroid_id", "structure", "hemisphere", "vertex"}
    assert "vertex" not in columns_of(brain, np.array([4, 5]))
    assert columns_of(brain, np.array([5, 0]))["neuroid_id"].tolist() == [5, 0]
