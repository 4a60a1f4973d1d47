"""Results part by part: what is kept, what is continued, and what is refused."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.adapters.store import parts as module
from brainalign.adapters.store.parts import ResultParts, asked_before
from brainalign.core.errors import StoreError

ASKED = {"seed": 1, "model": "x" * 32}


def part(value):
    return xr.Dataset({"score": ("neuroid", np.full(3, value))}, attrs={"metric": "pearson"})


def test_parts_outlive_their_maker_and_become_a_result(tmp_path):
    store = tmp_path / "study.zarr"
    assert asked_before(store, "evaluate") is None
    with ResultParts(store, "evaluate", ASKED, resume=True) as parts:  # and is left before its end
        parts.write("0", part(1.0))
    assert asked_before(store, "evaluate") == ASKED
    assert list(ba.open_study(store)["results"]) == []
    with ResultParts(store, "evaluate", ASKED, resume=True) as parts:
        assert parts.done == {"0"}
        parts.write("1", part(2.0))
        whole = parts.finish(xr.concat([parts.read("0"), parts.read("1")], "neuroid", combine_attrs="override"))
    assert whole.score.values.tolist() == [1.0] * 3 + [2.0] * 3
    assert ba.open_study(store)["results/evaluate"].to_dataset().identical(whole)
    assert [entry.name for entry in (store / "results").iterdir() if entry.name.startswith(".")] == []
    assert [entry.name for entry in (store / "results" / "evaluate").iterdir() if entry.name.startswith(".")] == []
    with ResultParts(store, "evaluate", ASKED, resume=True) as parts:
        assert parts.result.identical(whole)


def test_small_variables_of_a_result_are_in_memory_and_large_ones_stay_lazy(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SMALL", 24)
    wide = part(1.0).assign(draws=(("bootstrap", "neuroid"), np.ones((2, 3))))
    for _ in range(2):  # when it is made, and when it is there already
        with ResultParts(tmp_path / "s.zarr", "evaluate", ASKED, resume=True) as parts:
            found = parts.result if parts.result is not None else parts.finish(wide)
        assert float(found.score.median()) == 1.0  # over all dims, which dask refuses
        assert found.score.chunks is None
        assert found.draws.chunks is not None
        assert found.attrs == wide.attrs


def test_where_nothing_was_done_nothing_stays(tmp_path):
    store = tmp_path / "study.zarr"
    with pytest.raises(ZeroDivisionError), ResultParts(store, "evaluate", ASKED, resume=True):
        raise ZeroDivisionError
    assert not store.exists()


def test_others_and_a_second_writer_are_refused(tmp_path):
    store = tmp_path / "study.zarr"
    with ResultParts(store, "evaluate", ASKED, resume=True) as parts:
        parts.write("0", part(1.0))
        with pytest.raises(StoreError, match="is being written by process"), ResultParts(store, "evaluate", ASKED, resume=True):
            pass
    beginnings = r"holds the beginnings of results named 'evaluate' that were asked for with another `seed` \(1 there, 2 here\), `model`\. "
    with pytest.raises(StoreError, match=beginnings), ResultParts(store, "evaluate", {"seed": 2, "model": "y" * 32}, resume=True):
        pass
    with pytest.raises(StoreError, match="Expected a free place"), ResultParts(store, "evaluate", ASKED, resume=False):
        pass
    assert asked_before(store, "evaluate") == ASKED
