import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.adapters.hdf5 import open_hdf5
from brainalign.adapters.lazy import open_npy
from brainalign.core.errors import ParameterError, SchemaError


def recording(data, region=None):
    n_rows, n_neuroids = data.shape[:2]
    return ba.responses(
        data, stimulus_id=np.arange(n_rows), neuroid_id=np.arange(n_neuroids), modality="fmri", system="sub-01", region=region,
    )  # fmt: skip


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).normal(size=(1300, 2100)).astype("f4")


REGIONS = {
    "none": None,
    "contiguous": np.repeat(["V1", "V2", "IT"], 700),
    "interleaved": np.tile(["V1", "V2", "IT"], 700),
}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("chunks", [(100, 2100), (1300, 64), (751, 1111)], ids=["by volume", "by voxel", "neither"])
def test_what_is_saved_does_not_depend_on_chunks_or_memory(tmp_path, values, chunks, region):
    x = recording(da.from_array(values, chunks=chunks), REGIONS[region])
    for max_memory in (2**26, 2**30):
        ba.save(x, tmp_path / "s", overwrite=True, max_memory=max_memory, progress=False)
        xr.testing.assert_identical(ba.open_responses(tmp_path / "s").compute(), x.compute())


def test_each_byte_of_the_file_is_read_once(tmp_path, values, bytes_read):
    np.save(tmp_path / "x.npy", values)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("betas", data=values, chunks=(1300, 8))
    ba.save(recording(open_npy(tmp_path / "x.npy")), tmp_path / "warm", progress=False)  # modules are files, too
    for name, data in (("npy", open_npy(tmp_path / "x.npy")), ("h5", open_hdf5(tmp_path / "x.h5", "betas"))):
        n = bytes_read(ba.save, recording(data), tmp_path / name, progress=False)
        assert values.nbytes <= n < 1.1 * values.nbytes


def test_too_little_memory_is_refused_and_leaves_nothing(tmp_path, values):
    x = recording(da.from_array(values, chunks=(100, 2100)))
    with pytest.raises(ParameterError, match=r"'max_memory' parameter of save leaves .* bytes.*Expected at least 4,194,304"):
        ba.save(x, tmp_path / "s", max_memory=2**20)
    for wrong in (0, "1 GB", 1.5):
        with pytest.raises(ParameterError, match="'max_memory' parameter of save must be an int"):
            ba.save(x, tmp_path / "s", max_memory=wrong)
    assert not (tmp_path / "s").exists()


def test_nan_in_the_last_rows_is_named_and_leaves_nothing(tmp_path, values):
    spoilt = values.copy()
    spoilt[1250, 1234] = np.nan
    x = recording(da.from_array(spoilt, chunks=(100, 2100)), REGIONS["interleaved"])
    with pytest.raises(SchemaError, match=r"NaN or infinite values in neuroids 1234 of 'V2'.*allow_nan"):
        ba.save(x, tmp_path / "s", progress=False)
    assert not (tmp_path / "s").exists()


def test_an_interruption_leaves_nothing_visible(tmp_path, values):
    def interrupt(block, block_info=None):
        if block_info[0]["chunk-location"] == (11, 0):
            raise KeyboardInterrupt
        return block

    data = da.from_array(values, chunks=(100, 2100))
    ba.save(recording(data), tmp_path / "s", progress=False)
    with pytest.raises(KeyboardInterrupt):
        ba.save(recording(data.map_blocks(interrupt, dtype="f4")), tmp_path / "s", name="second", progress=False)
    assert list(ba.open_study(tmp_path / "s")["responses"]) == ["sub-01"]


def test_a_short_save_is_silent(tmp_path, capsys, values):
    ba.save(recording(da.from_array(values[:100], chunks=(10, 2100))), tmp_path / "s")
    assert capsys.readouterr().err == ""
