"""Attributions in a study: the same numbers, kept tile by tile, gone on with where they stopped."""

import numpy as np
import pytest
import torch
import xarray as xr

import brainalign as ba
from brainalign.core.errors import StoreError
from brainalign.neurons.attribution import tiles as attribution_tiles

MEMORY = {"max_memory": 20_000}


@pytest.fixture
def case():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 9))
    values = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    table = ba.stimuli.table(values, stimulus_id=[f"s{i:02d}" for i in range(20)], kind="array")
    return ba.TorchResponder(net, layers="2", system="net"), table


@pytest.mark.parametrize("options", [{}, {"method": "expected-gradients"}, {"wrt": "1", "method": "conductance"}])
def test_tiles_are_what_is_found_at_once(case, tmp_path, options):
    responder, table = case
    whole = ba.attribute(responder, table, random_state=0, **options)
    stored = ba.attribute(responder, table, random_state=0, store=tmp_path / "s.zarr", **MEMORY, **options)
    loaded = stored.load()
    np.testing.assert_allclose(loaded.values, whole.values, atol=1e-6)
    assert loaded.attrs["completeness_error"] == pytest.approx(whole.attrs["completeness_error"], rel=0.2, abs=1e-6)
    assert sorted(loaded.coords) == sorted(whole.coords)
    assert set(loaded.attrs) == set(whole.attrs)
    again = ba.open_study(tmp_path / "s.zarr")["results/attribute"].load()
    np.testing.assert_array_equal(again.attribution.values, loaded.values)
    np.testing.assert_array_equal(again["response"].values, loaded.response.values)
    assert again.attribution.attrs == loaded.attrs


def test_an_interrupted_call_goes_on_where_it_stopped(case, tmp_path, monkeypatch):
    responder, table = case
    tile, done = attribution_tiles.Job.tile, []

    def interrupted(job, rows, columns):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((rows.tolist(), columns))
        return tile(job, rows, columns)

    monkeypatch.setattr(attribution_tiles.Job, "tile", interrupted)
    options = {"method": "expected-gradients", "store": tmp_path / "s.zarr", **MEMORY}  # the seed is drawn once
    with pytest.raises(KeyboardInterrupt):
        ba.attribute(responder, table, **options)
    first = list(done)
    done.clear()
    monkeypatch.setattr(attribution_tiles.Job, "tile", lambda job, *where: done.append(where[0].tolist()) or tile(job, *where))
    stored = ba.attribute(responder, table, **options)
    assert first[1][0] not in done
    assert first[2][0] not in done
    done.clear()
    assert ba.attribute(responder, table, **options).shape == stored.shape
    assert not done  # it is there
    with pytest.raises(StoreError, match=r"another `n_steps` \(16 there, 8 here\)"):
        ba.attribute(responder, table, n_steps=8, **options)
    with pytest.raises(StoreError, match="resume=True"):
        ba.attribute(responder, table, resume=False, **options)


def test_another_input_as_baseline_is_another_call(case, tmp_path):
    responder, table = case
    options = {"store": tmp_path / "s.zarr", "neuroid": 0, "random_state": 0}
    ba.attribute(responder, table, baseline=np.zeros(6, dtype="float32"), **options)
    with pytest.raises(StoreError, match="another `baseline_values`"):
        ba.attribute(responder, table, baseline=np.ones(6, dtype="float32"), **options)


def test_groups_along_another_dim_are_another_call(tmp_path):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1))
    table = ba.stimuli.table(np.ones((2, 1, 4, 4), dtype="float32"), stimulus_id=["a", "b"], kind="array")
    responder, store, halves = ba.TorchResponder(net, layers="1", system="net"), tmp_path / "s.zarr", np.arange(4) // 2
    ba.attribute(responder, table, groups=xr.DataArray(halves, dims="y"), store=store)
    with pytest.raises(StoreError, match="another `groups`"):
        ba.attribute(responder, table, groups=xr.DataArray(halves, dims="x"), store=store)
