"""The two assemblies that the Brain-Score project tests itself with: layout only, the values are not neural."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.dataset.open import find_format

pytestmark = pytest.mark.real


def test_assemblies_have_the_shapes_and_ids_of_their_readme(shared_data):
    folder = shared_data("brainio-assembly")
    x = ba.open_responses(folder / "assy_test_TestMe.nc", modality="spikes", system="m1")
    assert (x.shape, x.dtype) == ((6, 3), np.int64)
    assert x.stimulus_id.values.tolist() == ["n0", "n1", "n1", "n0", "n4", "n9"]
    assert x.file_repetition.values.tolist() == [1, 1, 2, 1, 1, 1]  # of the second n0 it says 1, too
    assert x.repetition.values.tolist() == [0, 0, 1, 1, 0, 0]
    assert x.neuroid_id.values.tolist() == ["alpha", "beta", "gamma"]
    assert x.foo.values.tolist() == [1, 2, 5]
    np.testing.assert_array_equal(x.values, np.arange(1, 19).reshape(6, 3))

    x = ba.open_responses(folder / "assy_test_package_assembly.nc", modality="spikes", system="m1")
    assert x.shape == (6, 3, 1)
    assert x.stimulus_id.values.tolist() == [f"n{i}" for i in range(6)]  # `image_id` in the file
    assert (x.time.values.tolist(), x.time_bin_start.values.tolist(), x.time_bin_end.values.tolist()) == ([0.005], [0], [10])
    assert x.image_type.values.tolist() == ["foo"] * 6


def test_assemblies_are_recognised_and_come_back_through_a_file(shared_data, tmp_path):
    for name in ("assy_test_TestMe.nc", "assy_test_package_assembly.nc"):
        file = shared_data("brainio-assembly") / name
        assert find_format(file) == ("brainscore", "netCDF-4 with the dims presentation and neuroid")
        x = ba.open_responses(file, modality="spikes", system="m1")
        ba.save(x, tmp_path / name, format="brainscore")
        y = ba.open_responses(tmp_path / name)
        y.attrs["provenance"] = x.attrs["provenance"]
        assert y.compute().identical(x.compute())
