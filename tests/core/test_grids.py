import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from brainalign.core.grids import grid_attrs, grid_of, pack_indices, unpack_indices


@given(st.lists(st.integers(0, 10**12), max_size=30))
def test_packed_numbers_come_back(numbers):
    assert unpack_indices(pack_indices(np.array(numbers, dtype=np.int64))).tolist() == numbers


def test_runs_take_two_numbers():
    assert pack_indices(np.arange(1000)) == [0, 1000]
    assert pack_indices(np.array([], dtype=int)) == []


def test_a_grid_is_found_on_the_array_or_on_its_names():
    x = xr.DataArray([1.0], dims="neuroid", coords={"neuroid_id": ("neuroid", [0])})
    assert grid_of(x) is None
    assert grid_attrs(x) == {}
    responses = x.assign_attrs(grid="{}")
    assert grid_of(responses) == "{}"
    result = x.assign_coords(neuroid_id=("neuroid", [0], grid_attrs(responses)))
    assert grid_of(result * 2) == grid_of(result.to_dataset(name="score")) == "{}"
