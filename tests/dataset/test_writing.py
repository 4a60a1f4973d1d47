import dask.array as da
import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import StoreError
from brainalign.dataset.writing import find_recording, open_writer

KEY = {"responder": "abc", "versions": {"torch": "1"}}


@pytest.fixture
def x():
    return ba.responses(
        np.eye(3, dtype="f4"), stimulus_id=list("abc"), neuroid_id=[0, 1, 2], modality="ann", system="net", layer="l"
    )


def write(store, x, key):
    with open_writer(store, "net", x.copy(data=da.zeros(x.shape, dtype="f4")), key) as writer:
        writer.write(slice(0, 3), x.values)
        return writer.finish()


def test_found_only_with_its_key(tmp_path, x, caplog):
    assert find_recording(tmp_path / "s", "net", KEY) is None
    write(tmp_path / "s", x, KEY)
    xr.testing.assert_identical(find_recording(tmp_path / "s", "net", KEY).compute(), x)
    assert caplog.text == ""
    assert find_recording(tmp_path / "s", "net", {**KEY, "responder": "other"}) is None
    assert "recording 'net' anew: the stored one was made with other responder" in caplog.text


def test_unfinished_with_another_key_is_named(tmp_path, x, caplog):
    with open_writer(tmp_path / "s", "net", x.chunk(), KEY) as writer:
        writer.write(slice(0, 1), x.values[:1])
    xr.testing.assert_identical(write(tmp_path / "s", x, {**KEY, "versions": {"torch": "2"}}).compute(), x)
    assert "made with other versions" in caplog.text


def test_responses_of_other_origin_are_never_replaced(tmp_path, x):
    ba.save(x, tmp_path / "s")
    with pytest.raises(StoreError, match=r"that `ba.record` did not make.*choose another `name=`"):
        find_recording(tmp_path / "s", "net", KEY)
