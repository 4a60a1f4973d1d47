import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.adapters.store.matrices import open_rdms, save_parts
from brainalign.adapters.store.responses import open_tree
from brainalign.core.errors import FormatError, ParameterError, StoreError


@pytest.fixture
def template():
    labels = np.array(["a", "b", "c"], dtype=np.dtypes.StringDType())
    x = xr.DataArray(
        np.empty((2, 3, 3), dtype="float32"), dims=("layer", "s", "s_2"), coords={"s": labels, "s_2": labels}, name="rdm"
    )
    return x.assign_attrs(metric="euclidean", between=["1", "2"])


def test_parts_come_in_any_order(tmp_path, template):
    values = np.arange(18, dtype="float32").reshape(2, 3, 3)
    parts = [((layer, slice(None), slice(a, b)), values[layer, :, a:b]) for layer in (1, 0) for a, b in ((2, 3), (0, 2))]
    out = save_parts(template, tmp_path / "study.zarr", name="mine", parts=iter(parts), chunks=(1, 2, 2))
    assert out.chunks == ((1, 1), (2, 1), (2, 1))
    xr.testing.assert_identical(out.load(), template.copy(data=values))
    xr.testing.assert_identical(open_tree(tmp_path / "study.zarr")["results"]["mine"].to_dataset().rdm.load(), out)


def test_a_source_that_fails_leaves_what_was_there(tmp_path, template):
    def parts():
        yield (0,), template.values[0]
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        save_parts(template, tmp_path / "study.zarr", name="mine", parts=parts(), chunks=(1, 3, 3))
    assert not (tmp_path / "study.zarr").exists()
    done = [((k,), template.values[k]) for k in range(2)]
    save_parts(template, tmp_path / "study.zarr", name="mine", parts=done, chunks=(1, 3, 3))
    with pytest.raises(StoreError, match="already holds results named 'mine'"):
        save_parts(template, tmp_path / "study.zarr", name="mine", parts=parts(), chunks=(1, 3, 3))
    assert list(open_tree(tmp_path / "study.zarr")["results"]) == ["mine"]


def test_rdms_of_a_study_open_by_name(tmp_path):
    x = ba.responses(np.random.default_rng(0).normal(size=(5, 4)), stimulus_id=list("abcde"), neuroid_id=range(4), modality="ann",
                     system="s")  # fmt: skip
    study, rdm = tmp_path / "study.zarr", ba.rdm(x)
    ba.save(rdm, study)
    xr.testing.assert_identical(ba.open_rdms(study).load(), rdm)
    stored = ba.rdm(x, metric="euclidean", store=study, name="other")
    xr.testing.assert_identical(ba.open_rdms(study, key="other").load(), stored.load())
    with pytest.raises(StoreError, match="holds 2 results"):
        open_rdms(study)
    with pytest.raises(ParameterError, match="its conditions have names"):
        open_rdms(study, key="rdm", stimulus_id=list("abcde"))
    ba.save(xr.Dataset({"score": 1.0}), study, name="score")
    with pytest.raises(FormatError, match="holds 0 arrays"):
        open_rdms(study, key="score")
