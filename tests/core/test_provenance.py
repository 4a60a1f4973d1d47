import importlib
import json
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import brainalign as ba
from brainalign.core.errors import SchemaError
from brainalign.core.provenance import fingerprint, hash_array, hashed_meanwhile, is_lazy, provenance, write_step

module = importlib.import_module("brainalign.core.provenance")  # the name in the package is the function


@pytest.fixture
def x():
    return ba.responses(
        np.arange(6.0).reshape(3, 2), stimulus_id=["a", "b", "c"], neuroid_id=[0, 1], modality="ann", system="net"
    )


def test_values_as_written_and_values_altered_are_told_apart(x):
    assert provenance(x).altered is False
    assert provenance(x.copy(deep=True)).altered is False
    for altered in (x * 2, x + 1e-3, x[::-1], x[:2], x.assign_coords(stimulus_id=("presentation", ["a", "c", "b"]))):
        assert provenance(altered).altered is True, altered


def test_what_only_looks_different_is_the_same(x):
    assert fingerprint(x.copy(data=np.asfortranarray(x.values))) == fingerprint(x)
    assert fingerprint(x.assign_attrs(note="other")) == fingerprint(x)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=st.floats(-1e3, 1e3, width=32)))
@settings(max_examples=30)
def test_equal_arrays_have_one_hash_and_any_change_another(values):
    assert hash_array(values) == hash_array(np.asfortranarray(values.copy()))
    changed = values.copy()
    changed.flat[-1] += 1
    assert hash_array(changed) != hash_array(values)
    assert hash_array(values.astype(np.float64)) != hash_array(values)
    assert hash_array(values.reshape(1, *values.shape)) != hash_array(values)


def test_text_is_hashed_by_content_whatever_holds_it():
    texts = ["ä", "", "b"]
    kinds = (np.array(texts, dtype=np.dtypes.StringDType()), np.array(texts), np.array(texts, dtype=object))
    assert len({hash_array(array) for array in kinds}) == 1
    assert hash_array(np.array(["ab", "c"])) != hash_array(np.array(["a", "bc"]))
    missing = np.array(["a", None], dtype=np.dtypes.StringDType(na_object=None))
    assert hash_array(missing) == hash_array(np.array(["a", None], dtype=object))


def test_an_empty_array_has_a_hash():
    assert hash_array(np.empty((0, 3))) != hash_array(np.empty((3, 0)))


def test_a_large_array_is_sampled_and_says_so(monkeypatch):
    monkeypatch.setattr(module, "_FULL_HASH_BYTES", 2**16)
    monkeypatch.setattr(module, "_PAGE_BYTES", 2**8)
    monkeypatch.setattr(module, "_N_PAGES", 2**4)
    values = np.random.default_rng(0).normal(size=2**14)
    assert hash_array(values).startswith("sampled-")
    for position in (0, -1):
        changed = values.copy()
        changed[position] += 1
        assert hash_array(changed) != hash_array(values)


def test_a_package_that_was_imported_from_its_folder_has_a_version_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "not_installed", SimpleNamespace(__version__="1.2"))
    assert module.versions(("not_installed", "not_there")) == {"not_installed": "1.2"}


def test_a_step_holds_what_the_design_asks_for(x):
    step = provenance(write_step(x, "verb", params={"alpha": np.float64(1.5)}, inputs={"source": x}, seed=7)).steps[-1]
    assert set(step) >= {"verb", "params", "versions", "inputs", "seed", "time_utc"}
    assert step["params"] == {"alpha": 1.5}
    assert step["seed"] == 7
    assert step["inputs"] == {"source": fingerprint(x)}
    assert step["versions"]["numpy"] == np.__version__
    assert step["time_utc"].endswith("+00:00")


def test_one_input_hands_down_its_steps_and_two_are_kept_by_name(x):
    once = write_step(x, "first", inputs={"x": x})
    assert [step["verb"] for step in provenance(write_step(once, "second", inputs={"x": once})).steps] == [
        "responses",
        "first",
        "second",
    ]
    pair = provenance(write_step(x, "pair", inputs={"source": once, "target": x})).steps
    assert len(pair) == 1
    lineage = {name: [step["verb"] for step in steps] for name, steps in pair[0]["lineage"].items()}
    assert lineage == {"source": ["responses", "first"], "target": ["responses"]}


def test_what_is_hashed_meanwhile_is_recorded_as_any_other_input(x, monkeypatch):
    other = (x * 2).assign_attrs(provenance="none of ours")
    monkeypatch.setattr(module, "_WORTH_A_THREAD", x.nbytes)
    begun = hashed_meanwhile({"large": x, "small": x[:1], "lazy": x.chunk()})
    assert {name: isinstance(value, Future) for name, value in begun.items()} == {"large": True, "small": False, "lazy": False}
    expected = provenance(write_step(x, "verb", inputs={"large": x, "small": x[:1], "lazy": x.chunk()})).steps[-1]
    found = provenance(write_step(x, "verb", inputs=begun)).steps[-1]
    assert (found["inputs"], found["lineage"]) == (expected["inputs"], expected["lineage"])
    with pytest.raises(SchemaError, match="the array has the attr provenance 'none of ours'"):
        write_step(x, "verb", inputs=hashed_meanwhile({"x": other}))


def test_an_altered_input_is_recorded_as_it_was_read(x):
    step = provenance(write_step(x, "verb", inputs={"x": x * 2})).steps[-1]
    assert step["inputs"]["x"] == fingerprint(x * 2) != fingerprint(x)


def test_the_input_is_not_modified(x):
    before = dict(x.attrs)
    out = write_step(x, "verb")
    out.attrs["more"] = 1
    assert x.attrs == before
    assert out.values is x.values or np.shares_memory(out.values, x.values)


params = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), params, max_size=4))
@settings(max_examples=30)
def test_plain_parameters_come_back_as_they_were(given_params):
    out = write_step(xr.DataArray(np.ones(2), dims="a"), "verb", params=given_params)
    assert provenance(out).steps[-1]["params"] == given_params
    json.loads(out.attrs["provenance"])


def test_parameters_that_json_cannot_hold_keep_a_readable_form(x):
    given_params = {"model": np.add, "small": np.arange(3), "large": np.zeros((100, 2)), "pair": (1, 2), "table": {1: np.int8(2)}}
    held = provenance(write_step(x, "verb", params=given_params)).steps[-1]["params"]
    assert held["small"] == [0, 1, 2]
    assert held["large"].startswith("array(100, 2) ")
    assert held["pair"] == [1, 2]
    assert held["table"] == {"1": 2}
    assert "add" in held["model"]


def test_lazy_values_are_checked_only_when_asked():
    dask_array = pytest.importorskip("dask.array")
    x = ba.responses(np.ones((2, 2)), stimulus_id=["a", "b"], neuroid_id=[0, 1], modality="ann", system="net")
    lazy = x.copy(data=dask_array.from_array(x.values))
    assert is_lazy(lazy)
    assert not is_lazy(x)
    assert provenance(lazy).altered is None
    assert provenance(lazy, verify=True).altered is False
    assert provenance(x, verify=False).altered is None
    assert provenance(write_step(lazy, "verb")).fingerprint is None


def test_a_dataset_has_one_fingerprint_of_all_its_variables(x):
    data = xr.Dataset({"score": x.isel(presentation=0, drop=True), "ceiling": x.isel(presentation=1, drop=True)})
    written = write_step(data, "evaluate", inputs={"source": x, "target": x})
    assert provenance(written).altered is False
    written["score"] = written["score"] + 1
    assert provenance(written).altered is True


def test_no_provenance_is_no_error():
    found = provenance(xr.DataArray([1.0]))
    assert found.steps == ()
    assert found.altered is None
    assert "no recorded step" in str(found)


def test_provenance_that_is_none_of_ours_is_named():
    with pytest.raises(SchemaError, match=r"provenance 'from the lab'. Expected .*: drop it with"):
        provenance(xr.DataArray([1.0], attrs={"provenance": "from the lab"}))


def test_it_reads_as_a_numbered_list_with_its_state(x):
    text = str(provenance(write_step(x, "evaluate", params={"cv": 5}, inputs={"x": x}) * 2))
    assert text.splitlines()[1] == "2. evaluate(cv=5)"
    assert text.endswith("values altered since the last step")
