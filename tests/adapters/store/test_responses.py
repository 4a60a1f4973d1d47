import shutil

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import brainalign as ba
from brainalign.adapters.store.responses import adapter, groups_of, open_item, save_dataset, save_responses
from brainalign.adapters.store.study import SECTIONS
from brainalign.adapters.store.zgroups import read_json, write_json
from brainalign.core.errors import SchemaError, StoreError

STRING = np.dtypes.StringDType()


def make(n_rows=7, layer=("a", "a", "b"), seed=0, time=None, dtype="f4", **coords):
    rng = np.random.default_rng(seed)
    shape = (n_rows, len(layer), *(() if time is None else (len(time),)))
    values = rng.normal(size=shape).astype(dtype) if np.dtype(dtype).kind == "f" else rng.integers(0, 9, shape).astype(dtype)
    return ba.responses(
        values, stimulus_id=[f"s{i // 2}" for i in range(n_rows)], neuroid_id=np.arange(len(layer)), modality="ann", system="net",
        layer=list(layer), time=time, units="a.u.", presentation=pd.DataFrame({"my_label": np.arange(n_rows) / 3}), **coords,
    )  # fmt: skip


def round_trip(x, folder):
    save_responses(x, folder / "s.zarr", name="net", overwrite=True)
    y = adapter.open(folder / "s.zarr")
    assert isinstance(y.data, da.Array)
    xr.testing.assert_identical(y.compute(), x.compute())
    assert y.dtype == x.dtype
    assert y.name == x.name
    assert {n: c.dtype for n, c in y.coords.items()} == {n: c.dtype for n, c in x.coords.items()}
    assert list(y.attrs) == list(x.attrs)
    return y


def test_round_trip_is_identical(tmp_path):
    x = make()
    for case in (
        x,
        x.rename(None),
        x.rename("other"),
        x.drop_vars("layer"),
        x.drop_vars("layer").assign_coords(region=("neuroid", ["V1", "V2", "V1"])),
        x.isel(neuroid=[0, 1]).drop_vars("layer").assign_coords(layer="a"),
        x.assign_coords(region=("neuroid", [3, 1, 3])).drop_vars("layer"),
        x.chunk({"presentation": 2, "neuroid": 1}),
        x.assign_attrs(bands=(4.0, 8.0), gain=np.float32(2), scale=np.arange(3)),
        x.assign_coords(presentation=np.arange(7) * 2),
        make(dtype="i8"),
        make(dtype="u1"),
        make(time=np.arange(5) / 100),
        x.where(x.layer != "b", 0),  # a layer that says nothing is stored, too
    ):
        assert round_trip(case, tmp_path).identical(case)


def test_opening_reads_labels_and_a_block_its_chunks(tmp_path, bytes_read):
    x = ba.responses(
        np.random.default_rng(0).normal(size=(2048, 3072)), stimulus_id=np.arange(2048), neuroid_id=np.arange(3072), modality="ann",
        system="net", layer=np.repeat(["a", "b", "c"], 1024),
    )  # fmt: skip
    save_responses(x, tmp_path / "s.zarr", name="net")
    adapter.open(tmp_path / "s.zarr")[0, 0].compute()  # modules are files, too
    assert bytes_read(adapter.open, tmp_path / "s.zarr") < 300_000  # of 25 MB
    y = adapter.open(tmp_path / "s.zarr")
    assert bytes_read(y[:1000, 1024:2048].compute) < 1024 * 1024 * 4 + 100_000


def test_nan_policy_is_kept(tmp_path):
    x = make()
    declared = x.copy(deep=True).assign_attrs(allow_nan=True)
    declared[2, 1] = np.nan
    assert np.isnan(round_trip(declared, tmp_path).values[2, 1])
    undeclared = declared.assign_attrs(allow_nan=False)
    for case in (undeclared, undeclared.chunk()):
        with pytest.raises(SchemaError, match=r"NaN.*neuroids.*Expected finite numbers"):
            save_responses(case, tmp_path / "none.zarr", name="net")
        assert not (tmp_path / "none.zarr").exists()
    with pytest.raises(SchemaError, match="NaN"):
        save_responses(undeclared.chunk(), tmp_path / "s.zarr", name="net", overwrite=True)
    assert np.isnan(adapter.open(tmp_path / "s.zarr").values[2, 1])


@given(
    st.lists(st.sampled_from(["", "..", "a/b", "A", "_labels", "zarr.json", "ü/../x"]), min_size=1, max_size=30),
    st.integers(1, 5),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interleaving_of_any_groups_comes_back_in_order(tmp_path, layer, n_rows):
    round_trip(make(n_rows, layer), tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"s.zarr"}
    assert {entry.name for entry in (tmp_path / "s.zarr").iterdir()} == {*SECTIONS, "zarr.json"}


def test_one_array_per_layer_and_chunks_end_with_it(tmp_path):
    x = make(2500, ["conv1"] * 30 + ["conv2"] * 1300 + ["fc"] * 3)
    y = round_trip(x, tmp_path)
    assert y.chunks == ((1024, 1024, 452), (30, 1024, 276, 3))
    folders = {entry.name for entry in (tmp_path / "s.zarr" / "responses" / "net").iterdir()}
    assert folders == {"conv1", "conv2", "fc", "_labels", "zarr.json"}
    plain = xr.open_zarr(tmp_path / "s.zarr", group="responses/net/_labels", consolidated=False)
    assert plain.layer.dtype == STRING
    np.testing.assert_array_equal(plain.stimulus_id.values, x.stimulus_id.values)


def test_groups_of():
    x = make(2, ["b", "a", "b"])
    (first, at_first), (second, at_second) = groups_of(x)
    assert (first, list(at_first), second, at_second) == ("b", [0, 2], "a", slice(1, 2))
    assert groups_of(x.drop_vars("layer")) == [(None, slice(0, 3))]


def test_names_are_not_overwritten_unless_asked(tmp_path):
    x = make()
    save_responses(x, tmp_path / "s", name="net")
    with pytest.raises(StoreError, match=r"already holds responses named 'net'.*overwrite=True"):
        save_responses(x * 2, tmp_path / "s", name="net")
    opened = adapter.open(tmp_path / "s")
    np.testing.assert_array_equal(opened, x)
    save_responses(x * 2, tmp_path / "s", name="net", overwrite=True)
    np.testing.assert_array_equal(adapter.open(tmp_path / "s"), x * 2)
    with pytest.raises(StoreError, match=r"was replaced or removed after it was opened.*open it again"):
        opened.compute()
    # its own source, still lazy, may be replaced
    save_responses(adapter.open(tmp_path / "s") * 2, tmp_path / "s", name="net", overwrite=True)
    np.testing.assert_array_equal(adapter.open(tmp_path / "s"), x * 4)


def test_several_systems_are_chosen_by_name(tmp_path):
    saved = {name: make(seed=seed) for seed, name in enumerate(("sub-01", "a/../b", ""))}
    for name, x in saved.items():
        save_responses(x, tmp_path / "s", name=name)
    with pytest.raises(StoreError, match=r"3 responses .*choose with `name=`"):
        adapter.open(tmp_path / "s")
    xr.testing.assert_identical(adapter.open(tmp_path / "s", name="a/../b").compute(), saved["a/../b"])
    xr.testing.assert_identical(adapter.open(tmp_path / "s" / "responses" / "sub-01").compute(), saved["sub-01"])
    assert {entry.name for entry in tmp_path.iterdir()} == {"s"}


def test_values_that_fail_half_way_leave_nothing(tmp_path):
    def broken(block):
        raise OSError("disk gone")

    x = make(3000, ["a"] * 4)
    bad = x.copy(
        data=da.concatenate(
            [da.asarray(x.values[:1500]), da.map_blocks(broken, da.zeros((1500, 4), "f4"), meta=np.empty((0, 0), "f4"))]
        )
    )
    with pytest.raises(OSError, match="disk gone"):
        save_responses(bad, tmp_path / "s", name="net")
    assert not (tmp_path / "s").exists()
    save_responses(x, tmp_path / "s", name="other")
    with pytest.raises(OSError, match="disk gone"):
        save_responses(bad, tmp_path / "s", name="net")
    assert {entry.name for entry in (tmp_path / "s" / "responses").iterdir()} == {"other", "zarr.json"}


DAMAGES = {
    "chunk missing": (lambda f: (f / "a" / "c" / "0" / "0").unlink(), "c/0/0 is missing"),
    "chunk truncated": (lambda f: (f / "b" / "c" / "0" / "0").write_bytes(b"abc"), "has 3 bytes. Expected"),
    "label chunk missing": (lambda f: (f / "_labels" / "stimulus_id" / "c" / "0").unlink(), "is missing"),
    "array metadata truncated": (lambda f: (f / "a" / "zarr.json").write_text('{"shape": [7'), "cannot be read"),
    "array metadata missing": (lambda f: (f / "a" / "zarr.json").unlink(), "is missing"),
    "group metadata truncated": (lambda f: (f / "zarr.json").write_text("{"), "cannot be read"),
    "group metadata missing": (lambda f: (f / "zarr.json").unlink(), "is missing"),
    "labels missing": (lambda f: (f / "_labels" / "zarr.json").unlink(), "is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_when_opened(tmp_path, damage):
    save_responses(make(), tmp_path / "s", name="net")
    spoil, message = DAMAGES[damage]
    spoil(tmp_path / "s" / "responses" / "net")
    assert adapter.matches(tmp_path / "s")
    with pytest.raises(StoreError, match=rf"(?s)/s/responses/net.*{message}.*(again|anew)"):
        adapter.open(tmp_path / "s")


@pytest.mark.parametrize("file", ["zarr.json", "_labels/zarr.json", "_labels/stimulus_id/zarr.json", "a/zarr.json", "a/c/0/0"])
def test_any_damage_gives_a_typed_error(tmp_path, survives_damage, file):
    save_responses(make(), tmp_path / "s", name="net")
    assert survives_damage(tmp_path / "s/responses/net" / file, lambda: adapter.open(tmp_path / "s").compute(), examples=25)


def test_parts_of_two_stores_are_not_one(tmp_path):
    save_responses(make(), tmp_path / "s", name="net")
    for other, says in (
        (make(n_rows=8), "has shape .* Expected 8 presentations of 2 neuroids"),
        (make(layer="aac"), "other groups"),
    ):
        save_responses(other, tmp_path / "t", name="net", overwrite=True)
        shutil.rmtree(tmp_path / "s/responses/net/_labels")
        shutil.copytree(tmp_path / "t/responses/net/_labels", tmp_path / "s/responses/net/_labels")
        with pytest.raises(StoreError, match=says):
            adapter.open(tmp_path / "s")


def test_newer_schema_is_refused(tmp_path):
    save_responses(make(), tmp_path / "s", name="net")
    meta = tmp_path / "s" / "responses" / "net" / "zarr.json"
    content = read_json(meta)
    content["attributes"]["brainalign"]["schema_version"] = 2
    write_json(meta, content)
    with pytest.raises(StoreError, match=r"schema_version 2. Expected 1 or lower"):
        adapter.open(tmp_path / "s")
    content["attributes"]["brainalign"]["schema_version"] = 1
    content["attributes"]["schema_version"] = 2
    write_json(meta, content)
    with pytest.raises(SchemaError, match="newer than 1"):
        adapter.open(tmp_path / "s")


def test_a_result_is_not_opened_as_responses(tmp_path):
    save_dataset(xr.Dataset({"score": ("neuroid", [1.0])}), tmp_path / "s", section="results", name="r")
    with pytest.raises(StoreError, match="holds 'results'"):
        open_item(tmp_path / "s" / "results" / "r")
